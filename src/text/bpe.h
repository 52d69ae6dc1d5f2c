/* The inside of the tokenizer, shared by pretoken.c, flow*.c and bpe*.c. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_BPE_H
#define ST_TEXT_BPE_H

#include "text/flow.h"
#include "text/text.h"

enum {
    ST_BPE_SPECIAL = 1, /* an added token: never made by merges from text */
    ST_BPE_RAW = 2,     /* its name is not written in the byte alphabet: bytes are its UTF-8 */
    ST_BPE_ADDED = 4,   /* an added token that is not special: always found in text */
    ST_BPE_LITERAL = 8, /* of either: not "normalized" */
    ST_BPE_LEFT = 16,   /* takes the white space before it along (lstrip), */
    ST_BPE_RIGHT = 32,  /* and that after it (rstrip) */
    ST_BPE_WORD = 64,   /* only between characters that are of no word (single_word) */
    ST_BPE_EXTRA = 128, /* an added token that the model's own vocabulary lacks */
    ST_BPE_BYTE = 256   /* <0x0A>: stands for a byte that no token has; its bytes are that one */
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

/* An added token as it is looked for: what normalizers make of it, unless it is literal. */
typedef struct {
    char *s;
    size_t n;
    int32_t id;
} st_bpe_pattern;

struct st_bpe {
    int64_t n;
    size_t *start; /* n + 1 offsets into bytes */
    char *bytes;
    uint16_t *flags;
    int64_t n_merges;
    st_bpe_merge *merge; /* in order of rank */
    uint64_t *pair;      /* open-addressed: (left << 32 | right) + 1, 0 = empty */
    int32_t *rank;       /* beside `pair` */
    uint64_t pair_mask;
    int32_t byte_id[256];
    int32_t role[ST_BPE_ROLES]; /* ids, -1: not said */
    int32_t eos;                /* <|endoftext|>, or -1 */
    st_bpe_pattern *added;      /* added tokens by their first byte, the longest first, */
    int32_t n_added, plain;     /* so many, of which so many are not special; and where those of */
    int32_t first[256];         /* a byte begin, from 1 on */
    int32_t *index;             /* open-addressed: id + 1 of a token by its bytes, 0 = empty */
    uint64_t index_mask;
    st_flow *flow; /* NULL: text flows as GPT-2's does */
    bool by_char;  /* what is merged first are characters, else bytes */
    int32_t unk;   /* what stands for a character without tokens, -1: nothing does, */
    bool fuse_unk; /* once for several in a row, */
    bool fallback; /* if not all its bytes have tokens: */
    int32_t byte_fallback[256];
    bool ignore_merges; /* a word that is a token is that one, whatever the merges say */
    const char *mark;   /* a character that only begins words: text is cut before it, or NULL */
    char *told;         /* how tokens are told back, told_at[n + 1] offsets; NULL: as their bytes */
    size_t *told_at;
    st_ids before, after;  /* the template */
    char *chat;            /* the chat template as it was found, or NULL */
    _Atomic bool lost;     /* has a byte without a token been named? */
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

/* Text in which no added tokens are looked for, normalized; `start`: it begins where the whole text
 * does. */
st_status st_bpe_encode_plain(const st_bpe *b, const char *text, size_t n, bool start, st_ids *out,
                              st_err *e);
/* Room for words already encoded (false: out of memory), and its end. */
bool st_bpe_remembers(st_bpe *b);
void st_bpe_forget(st_bpe *b);
/* Is it a token that merges and look-ups can make? */
bool st_bpe_in_model(const st_bpe *b, int32_t id);
/* Of the pair: its rank, or -1. */
int32_t st_bpe_rank(const st_bpe *b, int32_t left, int32_t right);
/* The token of the model's own vocabulary that has these bytes, or -1. */
int32_t st_bpe_lookup(const st_bpe *b, const char *bytes, size_t n);
/* The token of that name, an added one or another; -1: there is none. */
int32_t st_bpe_named(const st_bpe *b, const char *name, size_t n);
/* bpe_link.c: `index`, `byte_fallback`, `mark`, `told` and the template, from what has been read.
 */
st_status st_bpe_link_index(st_bpe *b, const char *what, st_err *e);
st_status st_bpe_link_flow(st_bpe *b, const char *what, st_err *e);

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

/* Refuses a model of a tokenizer.json that is no BPE, or one with parts that have no meaning here,
 * naming what differs. */
st_status st_bpe_check_model(const json_t *model, const char *what, st_err *e);
/* A tokenizer from the root of a tokenizer.json; `beside` says more about its tokens. */
st_status st_bpe_from_json(st_bpe **out, json_t *root, st_bpe_beside *beside, const char *what,
                           st_err *e);

/* GPT-2's byte alphabet: a printable character for each byte, and back (-1: not in it). */
int32_t st_bpe_char(uint8_t byte);
int32_t st_bpe_byte(int32_t codepoint);
/* The text of a token's name in the byte alphabet, at most 2n bytes, no NUL; returns its length. */
size_t st_bpe_spell(const char *bytes, size_t n, char *out);
/* Back: at most n bytes into `out`; false if a character is not in the alphabet. */
bool st_bpe_unspell(const char *name, size_t n, char *out, size_t *out_n);

#endif
