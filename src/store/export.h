/* A model's parameters as another format has them: a part of the door store.h. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_STORE_EXPORT_H
#define ST_STORE_EXPORT_H

#include "model/model.h"
#include "text/text.h"
#include "weights/weights.h"

/* How a format names and turns tensors. */
typedef struct {
    /* ST_EXPORT_NAME bytes; `prefix` is what the model's have before them (st_model_prefix) */
    void (*name)(const st_param *p, const char *prefix, char *name);
    bool linear;  /* dense block matrices as (out, in), not (in, out) */
    bool head;    /* a tied head is stored once more, as lm_head.weight */
    bool vectors; /* tensors of one dimension, and wpe, stay float32 */
    bool mlp;     /* dense MLP matrices as (out, in), whatever the others are */
    bool pairs;   /* pairs of a head's queries and keys side by side (a GGUF's "llama") */
    bool blocks;  /* parameters of a block format as such; else as floats */
    bool gains;   /* gains as they are, where the model has them less 1 */
    bool layouts; /* beside a butterfly's tiles which ones they are, as LAYOUT of the same prefix */
} st_export_style;

enum { ST_EXPORT_NAME = 128 };

/* Hugging Face: transformer.h.0.mlp.c_fc.weight (in, out); strut's own names for factors. */
extern const st_export_style st_export_hf;
/* A folder of ours: the same, with blocks, which are of (out, in). */
extern const st_export_style st_export_strut;
/* nanoGPT: the same names, (out, in), lm_head.weight twice. */
extern const st_export_style st_export_nanogpt;
/* Krony-PT: nanoGPT's, with h.0.mlp.c_fc_0, c_fc_1, c_fc_bias, scalers_fc. */
extern const st_export_style st_export_krony;
/* HazyResearch fly: mlp.fc1 and fc2 as (out, in), factors under its layers' names, layouts. */
extern const st_export_style st_export_fly;
/* llm.c: nanoGPT's, the tied head once; GGUF: the same with float32 vectors. */
extern const st_export_style st_export_llmc, st_export_gguf;
/* GGUF's "llama": GGUF's, by pairs. */
extern const st_export_style st_export_gguf_llama;

/* Rows (rows, cols) of heads of `head` rows: rotary positions turn row i of a head with row i +
 * head / 2 (apart), or 2i with 2i + 1 (together). */
void st_pairs_apart(float *to, const float *from, int64_t rows, int64_t cols, int64_t head);
void st_pairs_together(float *to, const float *from, int64_t rows, int64_t cols, int64_t head);

typedef struct st_export_row {
    const float *w; /* as the model has it, (rows, cols) if `turn` */
    int64_t rows, cols;
    bool turn;
    int64_t head;    /* its heads have so many rows, which are stored by pairs; 0: as they are */
    bool gain;       /* plus 1 */
    int32_t *layout; /* owned; then there is no w */
} st_export_row;

/* What is stored, in order: items for a writer, whose fill function is st_export_fill. */
typedef struct {
    st_store_item *item;
    st_export_row *row;
    int64_t *same; /* the item that has the same numbers, or -1 */
    char *names;
    int64_t n, first;    /* item i of the writer is row first + i */
    bool stop;           /* at Ctrl-C */
    const char *what;    /* in reports of progress; NULL: none */
    int64_t done, total; /* bytes, for them */
} st_export;

/* A T2T-ViT's tensors keep their authors' names whatever the style says.
 * `flat` is a host F32 block in the model's layout and is used until closed. */
st_status st_export_open(st_export *x, const st_model *m, const float *flat, st_dtype dtype,
                         const st_export_style *style, st_err *e);
void st_export_close(st_export *x);
st_store_fill st_export_fill;
/* Bytes of items [first, first + n). */
int64_t st_export_bytes(const st_export *x, int64_t first, int64_t n);

/* ---- folders (folder_save.c) ----------------------------------------------------------------- */

typedef struct {
    st_dtype dtype;
    const st_bpe *tokenizer; /* or NULL */
    int64_t shard_bytes;     /* weights in files of at most that much; 0: one file */
    bool code;               /* with modeling_strut.py, for transformers */
    bool stop;               /* at Ctrl-C */
    const char *what;        /* in reports of progress; NULL: none */
} st_folder_how;

/* A model folder's files into `dir`, which is there. */
st_status st_folder_put(const char *dir, const st_model *m, const float *flat,
                        const st_folder_how *how, st_err *e);

/* The text of modeling_strut.py (made by CMake from the file of that name). */
extern const char st_modeling_strut[];
/* ST_EUNSUPPORTED naming the first matrix of `m` whose type has no class in it. */
st_status st_modeling_fits(const st_model *m, st_err *e);

#endif
