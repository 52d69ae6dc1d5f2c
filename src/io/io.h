/* io: bytes <-> host tensors, tokens and trees. Every reader validates everything before anything
 * is used; every writer leaves a whole file or none. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_IO_H
#define ST_IO_H

#include "tensor/tensor.h"
#include <stdio.h>

/* ---- files that appear whole or not at all (file.c) ----------------------------------------- */

/* A temporary file beside `path`, renamed over it by commit (after fsync), removed by discard and
 * by a failed commit; one that a killed process left is removed when `path` is next written. */
typedef struct {
    FILE *f;
    char *path, *temp;
} st_outfile;
st_status st_outfile_open(st_outfile *o, const char *path, st_err *e);
st_status st_outfile_write(st_outfile *o, const void *data, size_t n, st_err *e);
st_status st_outfile_commit(st_outfile *o, st_err *e); /* write errors show here at the latest */
void st_outfile_discard(st_outfile *o); /* after commit or on a zeroed one: nothing */

/* The same for a folder: files are written into `temp`; commit puts it in place of `path`, which,
 * if it existed, is exchanged atomically and then removed. Folders above `path` are made. Without
 * `replace`, an existing non-empty `path` is ST_EARG at open; with it, the working folder and
 * folders that hold folders are. */
typedef struct {
    char *path, *temp;
    int lock; /* of `temp`, for as long as this process lives */
    bool replace;
} st_outdir;
st_status st_outdir_open(st_outdir *o, const char *path, bool replace, st_err *e);
st_status st_outdir_commit(st_outdir *o, st_err *e);
void st_outdir_discard(st_outdir *o);

/* "DIR/NAME" in new memory; NULL when out of memory. */
char *st_path_join(const char *dir, const char *name);
bool st_path_exists(const char *path);
bool st_path_is_dir(const char *path);
bool st_path_is_file(const char *path);              /* a plain file: reading it cannot wait */
st_status st_make_dirs(const char *path, st_err *e); /* mkdir -p */
/* Whole file into new memory (NUL added, not counted), at most `max` bytes. */
st_status st_read_file(const char *path, size_t max, char **out, size_t *n, st_err *e);
st_status st_write_file(const char *path, const void *data, size_t n, st_err *e); /* atomic */
st_status st_write_json(const char *path, const json_t *j, st_err *e); /* indented, atomic */
st_status st_copy_file(const char *from, const char *to, st_err *e);   /* atomic */

/* ---- named tensors in files (weights.c) ----------------------------------------------------- */

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
/* Reads a stored F64/F32/F16/BF16 tensor into `dst` (host F32/F16/BF16, same element count; else
 * ST_ESHAPE), or I32/U16/U8 into the same. Thread-safe. */
st_status st_stored_read(const st_stored *s, st_tensor dst, st_err *e);

/* Writing: names and shapes first, then each tensor's bytes through `fill`, which may be called in
 * any order of the list, once per tensor, with F32/BF16/F16/I32/U8... host memory to be filled. */
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

/* A dense GPT-2 as GGUF version 3 (gguf_write.c), for llama.cpp and its like; items F32, F16 or
 * BF16, named and laid out as for llm.c, lm_head.weight only if it is not tied. llama.cpp wants
 * tensors of one dimension and wpe.weight as F32. */
typedef struct {
    const char *name; /* of the model, or NULL */
    int64_t context, width, inner, layers, heads;
    double epsilon; /* of its layer norms */
    const struct st_bpe
        *tokenizer; /* or NULL: the file has none, and llama.cpp cannot use it alone */
} st_gguf_about;
st_status st_gguf_write(const char *path, const st_gguf_about *about, const st_store_item *items,
                        int64_t n, st_store_fill *fill, void *ctx, st_err *e);

/* ---- GPT-2's byte-level BPE (bpe.c, bpe_train.c) -------------------------------------------- */

typedef struct st_bpe st_bpe;
typedef struct {
    int32_t *id;
    int64_t n, cap;
} st_ids;
void st_ids_free(st_ids *ids);

/* From a folder holding tokenizer.json, vocab.json + merges.txt or encoder.json + vocab.bpe (looked
 * for in this order), or from one of these files. */
st_status st_bpe_open(st_bpe **out, const char *path, st_err *e);
/* A tokenizer of the characters of a text, in the order of their codes (nanoGPT's
 * shakespeare_char). ST_EFORMAT where the text is not UTF-8. It has no <|endoftext|>, and encoding
 * is ST_EFORMAT where a text has other characters. */
st_status st_bpe_from_text(st_bpe **out, const char *text, size_t n, st_err *e);
void st_bpe_close(st_bpe *b);
int64_t st_bpe_size(const st_bpe *b); /* ids are < this */
int64_t st_bpe_merges(const st_bpe *b);
int32_t st_bpe_eos(const st_bpe *b); /* <|endoftext|>, or -1 */
/* Appends the ids of any bytes (specials are ordinary text). Deterministic; thread-safe. */
st_status st_bpe_encode(const st_bpe *b, const char *text, size_t n, st_ids *out, st_err *e);
/* The bytes of one id (not NUL-terminated, may be part of a UTF-8 character); NULL if out of range.
 */
const char *st_bpe_bytes(const st_bpe *b, int32_t id, size_t *n);
/* 64 bits over tokens and merges: equal for tokenizers that work alike. */
uint64_t st_bpe_hash(const st_bpe *b);
/* Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json
 * as Hugging Face does into a folder; of characters without the first two. */
st_status st_bpe_save(const st_bpe *b, const char *dir, st_err *e);

/* Learns merges from counted words (Sennrich et al. 2016, as Hugging Face's BpeTrainer with
 * initial_alphabet = all bytes; ties by pair ids). Feed text, then finish. */
typedef struct st_bpe_trainer st_bpe_trainer;
st_status st_bpe_trainer_open(st_bpe_trainer **out, st_err *e);
st_status st_bpe_trainer_feed(st_bpe_trainer *t, const char *text, size_t n, st_err *e);
/* A tokenizer of exactly `vocab` ids, or fewer with a warning when the text has no more pairs; the
 * last id is <|endoftext|>. */
st_status st_bpe_trainer_finish(st_bpe_trainer *t, int64_t vocab, int64_t min_count, st_bpe **out,
                                st_err *e);
void st_bpe_trainer_close(st_bpe_trainer *t);

/* ---- parquet (parquet.c) -------------------------------------------------------------------- */

/* The strings of one column, row by row. Read are columns of strings or bytes, optional ones and
 * ones in groups ("a.b") too, in every encoding of strings, uncompressed or with snappy, gzip or
 * zstd; lists, encryption and other codecs are refused by name. A column that is not there is
 * ST_EFORMAT with the nearest name and those that are. */
typedef struct st_parquet st_parquet;
bool st_parquet_is(const char *path); /* by its name, or by its first and last bytes */
st_status st_parquet_open(st_parquet **out, const char *path, const char *column, st_err *e);
/* The next value that is not null (n may be 0), valid until the next call; *text NULL: no more. */
st_status st_parquet_next(st_parquet *p, const char **text, size_t *n, st_err *e);
void st_parquet_close(st_parquet *p);
int64_t st_parquet_done(const st_parquet *p); /* for progress: of the file's bytes */

/* ---- documents in files, folders and archives (text.c) -------------------------------------- */

/* Walks inputs in order (folders sorted by name, hidden files left out): a file of JSON lines
 * (.jsonl .ndjson .json) is one document a line, a parquet file one a row, any other one document;
 * text may be inside .gz .xz .zst .bz2 .tar .zip and nestings of them. Bytes come as they are;
 * empty documents are skipped. Streaming: no more than one document (or piece) and one buffer (of
 * parquet: a page) in memory. */
typedef struct st_docs st_docs;
typedef struct {
    const char *field;     /* of JSON lines, column of parquet files; NULL = "text" */
    int64_t max_doc_bytes; /* longer documents are ST_EFORMAT, naming the file; 0 = 256 MiB */
    int64_t piece_bytes;   /* longer documents come in pieces of about this size, each ending where
                            * a word of GPT-2's pattern does; 0 = whole documents only. The limit
                            * above is then for a JSON line and for a run without a word's end. */
    bool rows;  /* a text file has a document a line, given without its end (\n or \r\n) */
    bool empty; /* empty documents are documents too */
    /* NULL: all files; else those of whose name ("a.tar: b.txt") it is true are read, before they
     * are looked into. */
    bool (*wanted)(void *ctx, const char *name);
    void *ctx;
} st_docs_opts;
st_status st_docs_open(st_docs **out, const char *const *paths, int n, const st_docs_opts *o,
                       st_err *e);
/* Next document or piece; *text is valid until the next call; *text = NULL at the end. */
st_status st_docs_next(st_docs *d, const char **text, size_t *n, st_err *e);
bool st_docs_more(const st_docs *d); /* the document goes on in the next call */
/* What the last document came from ("a.tar: b.txt"), valid until the next call; NULL at the end. */
const char *st_docs_name(const st_docs *d);
void st_docs_close(st_docs *d);
/* Where in s[0..n) a text may be cut, so that its words are the words of the whole text whatever
 * follows: as late as can be told, 0 if nowhere. */
size_t st_text_cut(const char *s, size_t n);
/* For progress: input bytes consumed and in all (compressed size on disk). */
int64_t st_docs_done(const st_docs *d);
int64_t st_docs_total(const st_docs *d);

/* ---- HTTP (http.c over libcurl) and digests (digest.c over libcrypto) ----------------------- */

typedef struct {
    const char *url;   /* http:// or https:// */
    const char *token; /* bearer token, sent to the URL's own host only; may be NULL */
    bool head;         /* headers only, redirects not followed */
    int64_t from;      /* the bytes from here on (Range); 0: all */
    int64_t stall;     /* seconds without a byte after which it fails; 0: 30 */
    /* The body, as it comes. An error ends the transfer. Not called for answers other than 2xx. */
    st_status (*take)(void *ctx, const char *data, size_t n, st_err *e);
    /* Before the first byte of the body, which begins at byte `from` of the file; may be NULL. */
    st_status (*begin)(void *ctx, int64_t from, st_err *e);
    void *ctx;
} st_http_request;
typedef struct {
    int status;                              /* 200, 404, ...; 0: no answer */
    int64_t length;                          /* of the whole file, -1: not said */
    int64_t retry_after;                     /* seconds; 0: not said */
    char etag[160], commit[160], error[160]; /* ETag, X-Repo-Commit, X-Error-Code; of the first
                                       answer that has them, X-Linked-Etag before ETag */
    char host[128];                          /* that answered last */
} st_http_answer;
/* One GET or HEAD; up to 10 redirects, never from https to http. ST_OK for every answer, whatever
 * its status; ST_EIO: none came, or not all of it (answer->status is then 0 or that of the part),
 * ST_EINTR after Ctrl-C. */
st_status st_http(const st_http_request *r, st_http_answer *answer, st_err *e);
/* `text` with all but letters, digits and -._~ (and '/', if `slash`) as %XX; new memory or NULL. */
char *st_url_escape(const char *text, bool slash);

typedef struct st_digest st_digest;
st_status st_digest_open(st_digest **out, const char *name, st_err *e); /* "sha256", "sha1" */
st_status st_digest_add(st_digest *d, const void *data, size_t n, st_err *e);
/* In hexadecimal, NUL-terminated; `hex` has 65 bytes. Closes. */
st_status st_digest_end(st_digest *d, char *hex, st_err *e);
void st_digest_close(st_digest *d);

/* ---- pictures (image*.c over libjpeg-turbo and libpng, resize.c) ----------------------------- */

typedef struct {
    int64_t width, height;
    uint8_t *rgb; /* (height, width, 3) */
} st_image;
typedef struct {
    int64_t max_pixels; /* of a picture; 0: 89,478,485, where Pillow begins to warn */
    bool exif;          /* turn it as its EXIF orientation says; Pillow and torchvision do not */
} st_image_how;
bool st_image_is(const void *data, size_t n); /* JPEG or PNG, by its first bytes? */
/* The pixels of a JPEG or PNG, told by its content, equal to those of Pillow's convert("RGB"):
 * palettes, grey, 16 bits, CMYK become RGB, alpha is dropped. Whatever ends early, is corrupt where
 * that can be told or has too many pixels is ST_EFORMAT. `how` may be NULL. Thread-safe. */
st_status st_image_decode(st_image *out, const void *data, size_t n, const char *name,
                          const st_image_how *how, st_err *e);
void st_image_free(st_image *i);

typedef enum { ST_BICUBIC, ST_BILINEAR } st_filter;
/* Pillow's Image.resize, the same bytes; *out is new. */
st_status st_image_resize(st_image *out, const st_image *in, int64_t width, int64_t height,
                          st_filter kind, st_err *e);
/* How a picture becomes a network's input: its short side floor(size / crop) pixels, the middle
 * size x size of it (zeros where it is smaller), (byte / 255 - mean) / std. */
typedef struct {
    int64_t size;
    st_filter filter;
    double crop;
    float mean[3], std[3]; /* of red, green, blue */
} st_image_fit;
st_status st_image_check_fit(const st_image_fit *f, st_err *e);
/* planes: (3, size, size), as torchvision's Resize, CenterCrop, ToTensor and Normalize make it. */
st_status st_image_planes(const st_image *in, const st_image_fit *f, float *planes, st_err *e);

/* ---- picture files in folders and archives (gallery.c, loader.c) ---------------------------- */

/* Walks inputs in order, as st_docs does. Of folders and archives (.tar .zip and .gz .xz .zst .bz2,
 * in any nesting) the files with a picture's suffix count (.jpg .jpeg .png, and those of formats
 * that strut knows but cannot read); a file that is named itself always does. */
typedef struct st_gallery st_gallery;
typedef struct {
    char *name; /* "DIR/a.jpg", "a.tar: b/c.jpg"; NULL: no more */
    bool packed;
    uint8_t *data; /* of packed ones, if asked for; others are files to be read */
    size_t n;
} st_picture;
st_status st_gallery_open(st_gallery **out, const char *const *paths, int n, st_err *e);
/* The next one, which is the caller's. An archive that cannot be read further is an error. */
st_status st_gallery_next(st_gallery *g, st_picture *p, bool bytes, st_err *e);
void st_gallery_close(st_gallery *g);
void st_picture_free(st_picture *p);
/* The folder a picture is in, without those around it: of "n01/x.jpg", "a.tar: n01/x.jpg",
 * "n01.tar: x.jpg" and "a.tar: n01.tar: x.jpg" this is n01. Its first byte, *n bytes. */
const char *st_picture_folder(const st_picture *p, size_t *n);

/* Pictures decoded and made planes by threads beside the caller, in the gallery's order. No more
 * than `slots` (0: 2 a thread) are decoded and waiting, whatever the input. */
typedef struct st_loader st_loader;
typedef struct {
    st_image_fit fit;
    st_image_how how;
    int threads;         /* 1 or more */
    int64_t slots;       /* decoded ahead */
    int64_t skip, limit; /* leave out so many at the start; stop after so many (0: never) */
} st_loader_opts;
st_status st_loader_open(st_loader **out, const char *const *paths, int n, const st_loader_opts *o,
                         st_err *e);
/* The next picture, whose name is the caller's (st_picture_free), and its planes (3, size, size). A
 * picture that cannot be read leaves its reason in *bad (code not ST_OK) and zeros in planes.
 * picture->name NULL: no more. ST_EINTR after Ctrl-C. One thread at a time. */
st_status st_loader_next(st_loader *l, st_picture *picture, float *planes, st_err *bad, st_err *e);
void st_loader_close(st_loader *l); /* also before the end */

/* ---- token shards (shard.c) ----------------------------------------------------------------- */

/* A file of token ids, mapped: nanoGPT's (bare little-endian uint16), llm.c's (256 int32 before
 * them: magic, version, count; uint16, or uint32 of Llama 3) or numpy's .npy (uint16, int32 or
 * uint32; one row), told by its first bytes. Empty files and odd sizes are ST_EFORMAT. */
typedef struct {
    const void *data; /* the first id */
    int width;        /* bytes of an id: 2 or 4 */
    int64_t n;
    const char *format; /* "nanoGPT", "llm.c", "npy" */
    void *map;
    size_t bytes;
} st_shard;
st_status st_shard_open(st_shard *out, const char *path, st_err *e);
void st_shard_close(st_shard *s);
/* ids[k] = id number at + k of the shard; those over INT32_MAX are negative, and refused by
 * st_shard_check. */
void st_shard_read(const st_shard *s, int64_t at, int64_t n, int32_t *ids);
/* ST_EFORMAT naming the position of the first token that is not in [0, vocab). */
st_status st_shard_check(const st_shard *s, int64_t vocab, const char *path, st_err *e);
bool st_shard_is(const char *path); /* is it named so: .bin, .npy */
/* The shard of a prepared folder: DIR/train.bin or train.npy, DIR/val.bin, val.npy or
 * validation.npy; if none is there, the first. New memory, NULL when out of memory. */
char *st_shard_path(const char *dir, bool val);

/* ---- TensorBoard's event files (events.c) ---------------------------------------------------- */

/* A new DIR/events.out.tfevents.TIME.HOST.PID.0, by name the last of the folder's. Readers drop
 * what earlier files have of the steps from `purge` on (-1: nothing). One writer in a process. */
typedef struct st_events st_events;
st_status st_events_open(st_events **out, const char *dir, int64_t purge, st_err *e);
/* Begins the values of a step; scalars are then written together by end. Nothing is allocated. */
void st_events_step(st_events *v, int64_t step);
st_status st_events_scalar(st_events *v, const char *tag, double x, st_err *e);
/* Markdown, at most 48 KiB of it; a record of its own. */
st_status st_events_text(st_events *v, const char *tag, const char *text, st_err *e);
st_status st_events_end(st_events *v, st_err *e); /* ST_EIO when the disk is full */
void st_events_close(st_events *v);
uint32_t st_events_mask(const void *data, size_t n); /* the masked CRC-32C of its records */

/* ---- YAML (yaml.c over libyaml) ------------------------------------------------------------- */

typedef enum { ST_NODE_SCALAR, ST_NODE_LIST, ST_NODE_MAP } st_node_kind;
/* A tree with the place of every value. Scalars keep their text; `quoted` ones are always strings.
 * Lists hold items in `item`; maps hold keys (strings, unique) in `key` beside them. */
typedef struct st_node {
    st_node_kind kind;
    char *text;
    bool quoted;
    bool done; /* it was an interpolation; its text is not one any more */
    bool word; /* plain text of a command line: a string, even where YAML reads more into it */
    int64_t n;
    char **key;
    struct st_node **item;
    char **key_where; /* the place of each key of a map */
    char *where;      /* "FILE:LINE:COLUMN", or "command line" */
} st_node;
/* One document; aliases and anchors, tags, merge keys, duplicate keys, more than 64 levels or 1 MiB
 * are refused, with the place. No document at all (an empty file) is an empty map. */
st_status st_yaml_load(st_node **out, const char *path, st_err *e);
st_status st_yaml_parse(st_node **out, const char *text, size_t n, const char *name, st_err *e);
void st_node_free(st_node *n);
const st_node *st_node_get(const st_node *map, const char *key); /* or NULL */
/* Sets a dotted path ("train.lr") to the value written as YAML ("6e-4", "[a, b]", "{h.*: dense}"),
 * making maps on the way. A path through a list or a value that is not null is ST_EARG; nothing is
 * changed then. */
st_status st_node_set(st_node *root, const char *path, const char *value, const char *where,
                      st_err *e);

/* What a plain scalar means, by OmegaConf's reading of YAML 1.1. */
typedef enum {
    ST_SCALAR_NULL,
    ST_SCALAR_FLAG,
    ST_SCALAR_INT,
    ST_SCALAR_NUM,
    ST_SCALAR_TEXT
} st_scalar_kind;
typedef struct {
    st_scalar_kind kind;
    bool flag;
    int64_t i;
    double x; /* of ST_SCALAR_INT too */
} st_scalar;
st_scalar st_node_scalar(const st_node *n);
json_t *st_node_json(const st_node *n); /* new reference; infinities are strings */
char *st_node_yaml(const st_node *n);   /* new memory, NULL when out of memory */

/* ---- configs composed from many files (configs.c, defaults.c, override.c, compose.c) -------- */

/* A search path: folders, the first that has a file wins, then (`builtin`) the tree configs/ that
 * the program was built with. doc/FORMATS has the grammar: Hydra's, without running anything. */
typedef struct st_configs st_configs;
st_status st_configs_open(st_configs **out, const char *const *dir, int dirs, bool builtin,
                          st_err *e);
void st_configs_close(st_configs *c);
/* The options of a group ("experiment/wt103"), sorted, NULL-terminated; "": of the root. NULL when
 * out of memory. */
char **st_configs_options(const st_configs *c, const char *group);
void st_configs_options_free(char **name);
/* The group that a mistyped "mpl" or "model/mlp" was probably meant to be, in `out`; or NULL. */
const char *st_configs_near_group(const st_configs *c, const char *name, char *out, size_t cap);

/* A section whose own value is short for one of its keys (`data=DIR` for data.dir), or (`key` NULL)
 * a plain key: words of a command line mean it even where a folder makes a group of that name
 * (`out=out` beside a run), unless the group has such an option. */
typedef struct {
    const char *section, *key;
} st_short;
typedef struct {
    const char *name; /* the primary config, by its name in the search path, */
    const char *file; /* or a file anywhere, whose folder then comes first in the search path */
    const char *const *override; /* words of a command line */
    int n;
    bool open; /* keys need not be there to be set: whoever reads the tree knows them */
    bool raw;  /* interpolations are left as they are */
    const st_short *shorts; /* ended by a NULL section; may be NULL */
} st_compose_how;
/* One tree whose nodes know the file they are from. `info` (may be NULL) gets {"search_path":
 * [folder ...], "defaults": [{config, package, file, parent} ...]}, a new reference. ST_EARG and
 * ST_EFORMAT name the place and the nearest that there is. A sweep is ST_EARG. */
st_status st_compose(st_node **out, json_t **info, st_configs *c, const st_compose_how *how,
                     st_err *e);

/* Splits sweeps: jobs in order, the last override changes fastest; each has every word once, a
 * swept one with one of its values. At most 10,000 jobs. */
typedef struct {
    char ***job; /* of each job its words, NULL-terminated */
    int64_t jobs;
    bool *swept; /* of each word */
    int words;
} st_sweep;
st_status st_sweep_open(st_sweep *s, const char *const *word, int n, st_err *e);
void st_sweep_close(st_sweep *s);

/* ---- tables (csv.c over libcsv) ------------------------------------------------------------- */

/* A CSV file whose first line names the columns: a list of objects {COLUMN: text} in file order, at
 * most `most` of them. Rows with other than as many fields as there are names, bytes that are not
 * UTF-8 and open quotes are ST_EFORMAT with the row's number. */
st_status st_csv_load(json_t **rows, const char *path, size_t max_bytes, int64_t most, st_err *e);

#endif
