/* convert: what its formats share. Inside convert only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONVERT_INNER_H
#define ST_CONVERT_INNER_H

#include "store/store.h"

/* A model in host memory on its way from one format to another. */
typedef struct {
    const char *in, *out;
    st_model *model;
    float *flat;
    st_bpe *tokenizer; /* or NULL */
    st_dtype dtype;    /* of what is written */
    int64_t shard_bytes;
    json_t *config; /* st_model_config's */
    json_t *dense;  /* names of the matrices that were expanded */
    json_t *notes;  /* remarks for the user */
    st_err *e;
} st_conversion;

typedef struct {
    const char *name;
    bool folder; /* OUT is a folder */
    bool dense;  /* structured matrices are expanded */
    bool table;  /* of them the embedding, where the others stay */
    bool words;  /* the tokenizer has a place */
    bool images; /* holds T2T-ViT */
    bool gpt2;   /* holds GPT-2 alone */
    bool blocks; /* holds matrices in blocks of 8 and 4 bits */
    /* ST_EUNSUPPORTED, with the reason, where the format cannot hold the model; may be NULL */
    st_status (*fits)(st_conversion *c);
    /* Writes into the folder `path`, or the file. */
    st_status (*write)(st_conversion *c, const char *path);
} st_convert_format;

extern const st_convert_format st_convert_table[]; /* ends with name NULL */

/* fits.c */
st_status st_fits_nanogpt(st_conversion *c);
st_status st_fits_krony(st_conversion *c);
st_status st_fits_llmc(st_conversion *c);
st_status st_fits_gguf(st_conversion *c);
st_status st_fits_gguf_llama(st_conversion *c); /* gguf.c */
st_status st_fits_hf(st_conversion *c);
st_status st_fits_code(st_conversion *c);

/* gguf.c */
st_status st_formats_gguf(st_conversion *c, const char *path);

/* fly.c; the second turns c->flat into what the names of st_export_fly mean */
st_status st_fits_fly(st_conversion *c);
st_status st_fly_numbers(st_conversion *c);

/* Writes DIR/README.md; `code`: of hf-code. */
st_status st_convert_card(const st_conversion *c, const char *dir, bool code);

void st_convert_note(st_conversion *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
