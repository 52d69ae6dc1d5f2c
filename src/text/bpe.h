/* The inside of the tokenizer, shared by pretoken.c and bpe*.c. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_BPE_H
#define ST_TEXT_BPE_H

#include "text/text.h"

enum {
    ST_BPE_SPECIAL = 1, /* an added token: never made by merges from text */
    ST_BPE_RAW = 2,     /* its name is not written in the byte alphabet: bytes are its UTF-8 */
    ST_BPE_ADDED = 4,   /* an added token that is not special: always found in text */
    ST_BPE_LITERAL = 8, /* of either: not "normalized" */
    ST_BPE_LEFT = 16,   /* takes the white space before it along (lstrip), */
    ST_BPE_RIGHT = 32,  /* and that after it (rstrip) */
    ST_BPE_WORD = 64    /* only between characters that are of no word (single_word) */
};
/* What tokens begin, end and pad a text, and stand for what is unknown. */
enum { ST_BPE_BOS, ST_BPE_EOS, ST_BPE_PAD, ST_BPE_UNK, ST_BPE_ROLES };
/* A word (a run that the pre-tokeniser does not split) longer than this is refused, so that the
 * memory for its merges (up to 20 bytes a byte) stays bounded. */
enum { ST_BPE_WORD_MAX = 32 << 20 };

typedef struct {
    int32_t left, right, id;
} st_bpe_merge;
typedef struct st_bpe_word st_bpe_word;
typedef struct {
    uint32_t code;
    int32_t id;
} st_bpe_letter;

struct st_bpe {
    int64_t n;
    size_t *start; /* n + 1 offsets into bytes */
    char *bytes;
    uint8_t *flags;
    int64_t n_merges;
    st_bpe_merge *merge; /* in order of rank */
    uint64_t *pair;      /* open-addressed: (left << 32 | right) + 1, 0 = empty */
    int32_t *rank;       /* beside `pair` */
    uint64_t pair_mask;
    int32_t byte_id[256];
    int32_t role[ST_BPE_ROLES]; /* ids, -1: not said */
    int32_t eos;                /* <|endoftext|>, or -1 */
    int32_t *added;             /* ids of added tokens by their first byte, the longest first, */
    int32_t n_added, plain;     /* so many, of which so many are not special; and where those of */
    int32_t first[256];         /* a byte begin, from 1 on */
    bool chars;            /* of single characters: no merges, byte_id is of ASCII characters, */
    st_bpe_letter *letter; /* and the n tokens are here by their codes */
    _Atomic(st_bpe_word *) *cache; /* words already encoded; filled without locks, never emptied */
};

/* Where the word of GPT-2's pattern that starts at text[i], i < n, ends. */
size_t st_pretoken_end(const char *text, size_t n, size_t i);
/* Is the word text[i..end) white space? */
bool st_pretoken_blank(const char *text, size_t end, size_t i);

/* Is the character at text[i] a letter, number or mark of a word (\\w)? */
bool st_pretoken_word(const char *text, size_t n, size_t i);

/* Text in which no added tokens are looked for. */
st_status st_bpe_encode_plain(const st_bpe *b, const char *text, size_t n, st_ids *out, st_err *e);

/* bpe_added.c: makes `added` and `first` from the flags. */
st_status st_bpe_link_added(st_bpe *b, st_err *e);
typedef struct {
    int32_t id;
    size_t at, end;
} st_bpe_match;
/* The next added token in s[from..n) of a pass: 0 literal ones, 1 the others. */
bool st_bpe_match_next(const st_bpe *b, const char *s, size_t n, size_t from, int pass,
                       bool special, st_bpe_match *m);

/* bpe_beside.c: the files beside a vocabulary; tokens that `added` lacks are appended to it. */
typedef struct {
    json_t *config, *map, *added, *model;
} st_bpe_beside;
st_status st_bpe_beside_open(st_bpe_beside *x, const char *dir, json_t *added, st_err *e);
void st_bpe_beside_roles(const st_bpe_beside *x, st_bpe *b);
void st_bpe_beside_close(st_bpe_beside *x);

/* Room for n tokens of `bytes` bytes in all and `merges` merges, zeroed. */
st_status st_bpe_make(st_bpe **out, int64_t n, size_t bytes, int64_t merges, st_err *e);
/* Builds what encoding needs from start, bytes, flags and merge. `what` names the tokenizer in
 * errors: a byte without a token, a merge that is listed twice. */
st_status st_bpe_link(st_bpe *b, const char *what, st_err *e);

/* The same for tokens that are characters. */
st_status st_bpe_link_chars(st_bpe *b, const char *what, st_err *e);
/* Appends ids to id[*count], which has room for n. */
st_status st_bpe_encode_chars(const st_bpe *b, const char *text, size_t n, int32_t *id,
                              int64_t *count, st_err *e);
/* nanoGPT's meta.pkl: {"stoi": {CHARACTER: ID}, ...} (bpe_pickle.c). */
st_status st_bpe_open_pickle(st_bpe **out, const char *path, st_err *e);
bool st_bpe_is_chars(const json_t *root); /* a tokenizer.json */
st_status st_bpe_check_chars(const json_t *root, const char *what, st_err *e);
json_t *st_bpe_chars_json(json_t *vocab); /* tokenizer.json; takes over vocab */

/* Refuses a tokenizer.json that is not GPT-2's byte-level BPE, naming what differs. */
st_status st_bpe_check_json(const json_t *root, const char *what, st_err *e);

/* GPT-2's byte alphabet: a printable character for each byte, and back (-1: not in it). */
int32_t st_bpe_char(uint8_t byte);
int32_t st_bpe_byte(int32_t codepoint);
/* The text of a token's name in the byte alphabet, at most 2n bytes, no NUL; returns its length. */
size_t st_bpe_spell(const char *bytes, size_t n, char *out);
/* Back: at most n bytes into `out`; false if a character is not in the alphabet. */
bool st_bpe_unspell(const char *name, size_t n, char *out, size_t *out_n);

#endif
