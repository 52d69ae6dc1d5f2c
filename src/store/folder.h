/* folder: what reading a model from a path shares between its files. Inside store only.
 *
 * In order: the files (folder_files.c), their tensors under the model's names (folder_names.c), a
 * config.json or one made from the shapes (folder_config.c), every parameter with its tensor
 * (folder_match.c), the numbers (folder.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_STORE_FOLDER_H
#define ST_STORE_FOLDER_H

#include "store/store.h"
#include "weights/weights.h"

enum { ST_FOLDER_SHARDS = 512, ST_FOLDER_NOTES = 8, ST_FOLDER_LAYERS = 1 << 16 };

/* How a tensor is stored, where the model's way is not it. */
typedef enum {
    ST_ROW_PLAIN,
    ST_ROW_LINEAR, /* a dense matrix as (out, in), whatever the others are */
    ST_ROW_FLIP,   /* the transpose */
    ST_ROW_TILES,  /* a butterfly's, the same numbers in another shape */
    /* from here on st_folder_read_special reads them */
    ST_ROW_TURNED, /* (tiles block, block), each tile transposed */
    ST_ROW_PAIRS,  /* of queries or keys, whose heads have pairs side by side (folder_llama.c) */
    ST_ROW_GAIN,   /* a gain that the model has less 1 */
    ST_ROW_SS1     /* SS1's in the order of the release */
} st_row_form;

/* One tensor found, under the model's name for it. */
typedef struct {
    const char *name;
    const st_stored *stored;
    int64_t piece; /* it is entry `piece` of the parameter's first dimension, transposed; -1: all */
    bool used;
    st_row_form form;
} st_folder_row;

typedef struct {
    const char *path; /* as given */
    const st_read_how *how;
    char *dir;        /* where config.json and the tokenizer may be */
    char *file;       /* what messages call the weights */
    bool single;      /* one file was named, not a folder */
    bool guessed;     /* config was made from the shapes */
    bool krony;       /* Krony-PT's names */
    bool fly;         /* fly's names */
    bool ss1, ragged; /* has matrices of SS1's release; said what padding means */
    bool bfly;        /* has fly's BlockdiagButterflyLinear, and said what is taken for its b2 */
    bool head_bias;   /* the head, a structured layer, has a bias */
    bool linear;      /* dense block matrices are stored as (out, in), as nn.Linear does */
    bool no_bias;     /* biases that are not there are zeros (nanoGPT's bias=False) */
    json_t *config;
    json_t *index;       /* {TENSOR: FILE} of shards, or NULL */
    const json_t *extra; /* of the first file, or NULL */
    st_model *model;
    st_weights *shard[ST_FOLDER_SHARDS];
    char *shard_name[ST_FOLDER_SHARDS];
    int shards;
    st_folder_row *row; /* by name, then piece */
    int64_t rows;
    char *names;  /* those that are not in the files */
    char *made;   /* and those of structured layers */
    json_t *maps; /* {MATRIX: SPEC} of these, or NULL */
    char *note[ST_FOLDER_NOTES];
    int notes; /* remarks about what was assumed */
    st_err *e;
} st_folder;

/* Opens and checks all but the weights' values; close it in any case. `how` may be NULL. */
st_status st_folder_open(st_folder *f, const char *path, const st_read_how *how, st_err *e);
void st_folder_close(st_folder *f);
/* All numbers into `flat`, which is zeroed and has the model's elements; on the device of `stream`,
 * or (NULL) host memory. Without flat: where the model is bound (mixed), zeroed, on the device.
 */
st_status st_folder_weights(st_folder *f, st_stream *stream, st_tensor flat);
/* The tokenizer beside the weights, or NULL if there is none. */
st_status st_folder_tokenizer(const st_folder *f, st_bpe **out);
/* "strut", "hf", "nanogpt", "krony", or the container's name. */
const char *st_folder_form(const st_folder *f);
/* Of what is stored as floats: "F32", or "mixed". */
const char *st_folder_dtype(const st_folder *f);

/* "gpt2", "t2t_vit": the model_type of f->config. */
const char *st_folder_type(const st_folder *f);

/* Fails: what was given is an adapter, as `sign`, a file or a tensor, shows. */
st_status st_folder_adapter(const st_folder *f, const char *sign);
/* Finds the files of f->path and opens them; f->config, if there is a config.json. */
st_status st_folder_files(st_folder *f);
/* f->row, from the shards' names. */
st_status st_folder_list(st_folder *f);
/* Structured layers of other programs: their rows get our names, their specs go to f->maps and, if
 * there is one, f->config (folder_fly.c). */
st_status st_folder_fly(st_folder *f);
/* One SS1 matrix of `in` inputs, stored as `w`: its spec's text, by f->how->ss1 and the hash
 * constants stored beside it, or NULL (folder_ss1.c). */
st_status st_folder_ss1(st_folder *f, st_folder_row *w, const st_folder_row *numbers,
                        const char *matrix, int64_t in, char spec[ST_SPEC_TEXT]);
/* Does a row's content have to be changed, beside a transposition? Then this reads it into `w`. */
bool st_folder_special(const st_folder_row *row);
st_status st_folder_read_special(const st_folder *f, const st_param *p, const st_folder_row *row,
                                 st_tensor w);
/* f->config, where strut stored it with the weights. */
st_status st_folder_stored(st_folder *f);
/* f->config, where neither config.json nor that says it. */
st_status st_folder_guess(st_folder *f);
/* The same of a Llama-shaped model, whose GGUF file says it (folder_llama.c); and how that tensor
 * stands there. */
bool st_folder_is_llama(const st_folder *f);
st_status st_folder_guess_llama(st_folder *f);
st_row_form st_folder_llama_form(const st_folder *f, const char *name);
/* The same of a T2T-ViT, which the names show (folder_t2t.c). */
bool st_folder_is_t2t(const st_folder *f);
/* Fails: there is no --heads, or it is no divisor of the width. */
st_status st_folder_no_heads(const st_folder *f, int64_t width);
st_status st_folder_guess_t2t(st_folder *f);
/* Every parameter has its tensor and every tensor its parameter; f->linear. */
st_status st_folder_match(st_folder *f);
/* The first row of that name, others of it follow; NULL: none. */
st_folder_row *st_folder_find(const st_folder *f, const char *name);
/* Fails if the files have an object that is not read under the name of this parameter. */
st_status st_folder_unread(const st_folder *f, const char *name);
/* Is there no head beside wte, or one with the same numbers? */
st_status st_folder_head(const st_folder *f, bool *tied);
void st_folder_note(st_folder *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
