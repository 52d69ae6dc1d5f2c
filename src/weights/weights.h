/* weights: files of named tensors. Every reader validates everything before anything is used; every
 * writer leaves a whole file or none. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_WEIGHTS_H
#define ST_WEIGHTS_H

#include "tensor/tensor.h"
#include "text/text.h"

/* ---- named tensors in files (weights.c) ------------------------------------------------------ */

/* A file of named tensors, told by its content, never by its name: safetensors, PyTorch's archives
 * (zip and legacy; nothing in them is executed), llm.c's models, GGUF. */
typedef struct st_weights st_weights;
typedef struct {
    const char *name;
    const char *dtype;         /* as safetensors calls it: "F32", "BF16", "I64" ... */
    int64_t dim[8], stride[8]; /* strides in elements, 0 or more */
    int ndim;
    size_t bytes;   /* of its elements, each counted once */
    int64_t offset; /* of its first element in the file */
    const st_weights *file;
} st_stored;

/* Checks all that can be known without reading the tensors: headers, bounds, duplicate names,
 * dtypes, shapes against byte ranges with overflow checks, lengths. The file stays open. */
st_status st_weights_open(st_weights **out, const char *path, st_err *e);
/* The same; where a file has several sets of tensors, the one under the key `dict` ("a.b": under
 * a, then b). NULL: doc/FORMATS has the order in which they are looked for. */
st_status st_weights_open_dict(st_weights **out, const char *path, const char *dict, st_err *e);
void st_weights_close(st_weights *w);
bool st_weights_there(const char *path); /* is this a file that st_weights_open opens? */
/* "safetensors", "torch", "torch-legacy", "llm.c" or "gguf". */
const char *st_weights_form(const st_weights *w);
int64_t st_weights_count(const st_weights *w);
int64_t st_weights_size(const st_weights *w);                            /* of the file, in bytes */
const st_stored *st_weights_at(const st_weights *w, int64_t i);          /* in the file's order */
const st_stored *st_weights_find(const st_weights *w, const char *name); /* or NULL */
const char *st_weights_meta(const st_weights *w, const char *key); /* safetensors' texts, or NULL */
/* What the file says beside its tensors (PyTorch: "model_args", "iter_num" ...), an object of `w`,
 * or NULL. */
const json_t *st_weights_extra(const st_weights *w);
/* Entries among the tensors that are objects of programs, which are not read: {NAME: what made it},
 * or NULL. */
const json_t *st_weights_unread(const st_weights *w);
/* Elements; 0 where a dimension is, whatever the others are. */
int64_t st_stored_elements(const st_stored *s);
/* Tensors are read without comparing them with the checksums that some files have of them. */
void st_weights_unchecked(st_weights *w);
/* Reads a stored F64/F32/F16/BF16 tensor into `dst` (host F32/F16/BF16, same element count; else
 * ST_ESHAPE), or I32/U16/U8 into the same. A tensor that differs
 * from the file's checksum of it is ST_EFORMAT. Thread-safe. */
st_status st_stored_read(const st_stored *s, st_tensor dst, st_err *e);

/* The same of rows of blocks, as a GGUF file has them or as bytes (U8): `dst` is host F32/F16/BF16,
 * or of that format, in which case the bytes stay as they are. */
st_status st_stored_blocks(const st_stored *s, st_dtype format, st_tensor dst, st_err *e);

/* Writing: names and shapes first, then each tensor's bytes through `fill`, which may be called in
 * any order of the list, once per tensor, with F32/BF16/F16/I32/U8... host memory to be filled.
 * Block formats go to GGUF and, as U8 whose last dim is the bytes of a row, to safetensors. */
typedef struct {
    const char *name;
    st_dtype dtype;
    int64_t dim[8];
    int ndim;
} st_store_item;
typedef st_status st_store_fill(void *ctx, int64_t item, void *data, size_t bytes, st_err *e);
/* `meta`: JSON object of strings or NULL; {"format": "pt"} is always added. Atomic. */
st_status st_safetensors_write(const char *path, const st_store_item *items, int64_t n,
                               const json_t *meta, st_store_fill *fill, void *ctx, st_err *e);

/* The same items as a PyTorch archive (torch_write.c): an OrderedDict of tensors, or a dict that
 * has it under `key`. Every torch.load reads it, with weights_only too. */
typedef struct {
    const char *key;     /* "model", or NULL: the file is the OrderedDict itself */
    const json_t *extra; /* the other keys of the dict, an object or NULL; needs `key` */
    const char *prefix;  /* before every name, or NULL */
    const int64_t *same; /* of each item the earlier one whose storage it shares, or -1; or NULL */
} st_torch_how;
st_status st_torch_write(const char *path, const st_store_item *items, int64_t n,
                         const st_torch_how *how, st_store_fill *fill, void *ctx, st_err *e);

/* A dense GPT-2 with a tied head as llm.c's model file (llmc.c), F32 or BF16 as the items are:
 * named as nanoGPT names them ("transformer." may be left out), block matrices as (out, in), and
 * complete; else ST_EARG. The vocabulary is padded to a multiple of 128 with zeros. */
typedef struct {
    int64_t context, vocab, layers, heads, width;
} st_llmc_shape;
st_status st_llmc_write(const char *path, const st_llmc_shape *shape, const st_store_item *items,
                        int64_t n, st_store_fill *fill, void *ctx, st_err *e);

/* Blocks of the largest Gemma 3, of which alone llama.cpp divides scores by sqrt(width / heads). */
enum { ST_GGUF_GEMMA3_27B = 62 };

/* A dense model as GGUF version 3 (gguf_write.c), for llama.cpp and its like; items F32, F16, BF16
 * or of a block format, named and laid out as for llm.c, lm_head.weight only if it is not tied.
 * llama.cpp wants tensors of one dimension and wpe.weight as F32. */
typedef struct {
    const char *name; /* of the model, or NULL */
    const char *arch; /* "llama"; NULL: "gpt2" */
    int64_t context, width, inner, layers, heads;
    double epsilon;     /* of its layer norms (GPT-2's; others have it in `more`) */
    const json_t *more; /* further keys, after "ARCH.", or NULL: texts, numbers, lists */
    const struct st_bpe
        *tokenizer; /* or NULL: the file has none, and llama.cpp cannot use it alone */
} st_gguf_about;
st_status st_gguf_write(const char *path, const st_gguf_about *about, const st_store_item *items,
                        int64_t n, st_store_fill *fill, void *ctx, st_err *e);

#endif
