/* text inside: what a tokenizer.json does with text before and after the merges. Inside text only.
 *
 * A text goes through normalizers (text to text), then through pre-tokenizers (text to pieces),
 * whose pieces are merged each for itself; what comes out is told back by a decoder, and a template
 * says which tokens stand before and after a text. Each is a row of Hugging Face's tokenizers, read
 * from its JSON object and refused by name where it is not known. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_FLOW_H
#define ST_TEXT_FLOW_H

#include "text/regex.h"

/* ---- normalizers (flow_normal.c) ------------------------------------------------------------- */

typedef enum {
    ST_NORMAL_NFC,
    ST_NORMAL_NFD,
    ST_NORMAL_NFKC,
    ST_NORMAL_NFKD,
    ST_NORMAL_LOWER,
    ST_NORMAL_STRIP,
    ST_NORMAL_ACCENTS,
    ST_NORMAL_PREPEND,
    ST_NORMAL_REPLACE
} st_normal_kind;
typedef struct {
    st_normal_kind kind;
    const char *from, *to; /* of the JSON object */
    size_t from_n, to_n;
    st_regex *regex; /* or NULL: `from` as it stands */
    bool left, right;
} st_normal;

/* ---- pre-tokenizers (flow_split.c) ----------------------------------------------------------- */

typedef enum {
    ST_SPLIT_GPT2, /* its pattern, by hand (pretoken.c) */
    ST_SPLIT_REGEX,
    ST_SPLIT_TEXT,
    ST_SPLIT_DIGITS,
    ST_SPLIT_PUNCT,
    ST_SPLIT_SPACE,
    ST_SPLIT_METASPACE,
    ST_SPLIT_BYTES
} st_split_kind;
typedef enum {
    ST_APART, /* each match a piece ("Isolated") */
    ST_GONE,
    ST_TOGETHER, /* matches in a row are one ("Contiguous") */
    ST_TO_PREVIOUS,
    ST_TO_NEXT
} st_split_way;
typedef enum { ST_PREFIX_NEVER, ST_PREFIX_FIRST, ST_PREFIX_ALWAYS } st_prefix;
typedef struct {
    st_split_kind kind;
    st_split_way way;
    bool invert; /* what the pattern does not match counts as match */
    st_regex *regex;
    const char *text; /* of the JSON object: what matches, or Metaspace's character */
    size_t n;
    st_prefix prefix; /* of Metaspace and ByteLevel */
    bool split;       /* Metaspace: into words; ByteLevel: by GPT-2's pattern */
} st_split;

/* A text in pieces: of the buffer, in its order, none empty. */
typedef struct {
    st_buffer text;
    struct st_piece {
        size_t at, end;
    } * piece;
    int64_t n, cap;
    bool start;   /* does the first piece begin where the whole text does? */
    bool spelled; /* in the byte alphabet */
} st_pieces;

/* ---- all of it (flow.c) ---------------------------------------------------------------------- */

typedef struct {
    json_t
        *json; /* {"normalizer", "pre_tokenizer", "post_processor", "decoder"} as they were read */
    st_normal *normal;
    st_split *split;
    int normals, splits;
    bool bytes; /* tokens are bytes (ByteLevel), else characters */
    bool gpt2;  /* no more than GPT-2's pattern, so that bpe_encode.c needs no pieces */
    /* How tokens are told back (flow_decode.c). */
    struct st_told {
        const char *from, *to; /* of the JSON object */
        size_t from_n, to_n;
    } replace[4];
    int replaces;
    bool byte_names; /* <0x0A> is a byte */
    int strip;       /* spaces that a text loses at its beginning */
    /* What the template puts before and after a text: names of tokens, in new memory. */
    json_t *before, *after;
} st_flow;

/* Reads the four parts of a tokenizer.json. */
st_status st_flow_open(st_flow **out, const json_t *root, const char *what, st_err *e);
void st_flow_close(st_flow *f);

/* Normalizes s[0..n) into `out`. */
st_status st_flow_normal(const st_flow *f, const char *s, size_t n, st_buffer *out, st_err *e);
/* Cuts it into pieces; `start`: it begins where the whole text does. */
st_status st_flow_pieces(const st_flow *f, const char *s, size_t n, bool start, st_pieces *out,
                         st_err *e);
void st_pieces_free(st_pieces *p);
/* How a token of that name is told, appended to `out`; false: out of memory. */
bool st_flow_tell(const st_flow *f, const char *name, size_t n, st_buffer *out);

/* One part, or a Sequence of them under `list`, a step at a time (flow.c). */
typedef st_status st_flow_part(st_flow *f, const json_t *part, const char *where, st_err *e);
st_status st_flow_walk(st_flow *f, const json_t *part, const char *list, const char *where,
                       st_flow_part *visit, st_err *e);
const char *st_flow_type(const json_t *part); /* "none" where there is none */
st_status st_flow_refuse(const json_t *part, const char *key, const char *where, st_err *e);
st_flow_part st_flow_read_normal, st_flow_read_split, st_flow_read_decoder, st_flow_read_template;
/* {"String": ...} or {"Regex": ...} under "pattern" */
st_status st_flow_pattern(const json_t *part, const char *where, const char **text, size_t *n,
                          st_regex **regex, st_err *e);
st_status st_normal_run(const st_normal *k, const char *s, size_t n, st_buffer *out, st_err *e);
st_status st_split_run(const st_split *k, st_pieces *p, bool last, st_err *e);
void st_normal_close(st_normal *k);
void st_split_close(st_split *k);

/* Is this the text of GPT-2's pattern? */
bool st_flow_is_gpt2(const char *pattern, size_t n);

#endif
