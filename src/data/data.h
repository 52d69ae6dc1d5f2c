/* data: text to shards of tokens, data sets by name, tokenizers from text, rows of evaluation sets.
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DATA_H
#define ST_DATA_H

#include "text/text.h"

/* ---- tokenizer and prepare (tokenizer.c, prepare.c) ------------------------------------------ */

typedef struct {
    int64_t vocab;     /* ids, <|endoftext|> among them */
    int64_t min_count; /* pairs that are rarer are not merged; 0: 2 */
    const char *field; /* of JSON, column of tables; NULL: "text" */
    bool strict;       /* a row without a text is an error */
    bool replace;      /* OUT may exist and is replaced */
} st_tokenizer_opts;
/* Learns a byte-level BPE from text (see st_docs) and writes its files into the folder `out`.
 * Result: out, vocab_size, merges, documents, bytes, tokenizer_hash, seconds. */
st_status st_tokenizer(const char *const *inputs, int n, const char *out,
                       const st_tokenizer_opts *o, json_t **result, st_err *e);

typedef enum {
    ST_SPLIT_DOCUMENTS, /* drawn documents are val.bin, the order stays */
    ST_SPLIT_TOKENS,    /* the end of the text is */
    ST_SPLIT_NANOGPT /* Hugging Face's train_test_split with numpy's permutation: both shuffled */
} st_split;
typedef enum {
    ST_SPECIAL_TEXT,  /* special tokens in a text are ordinary text, and counted in a remark */
    ST_SPECIAL_TOKEN, /* they are tokens */
    ST_SPECIAL_SPLIT  /* they are, and the separator ends a document */
} st_special;
typedef struct {
    const char *tokenizer; /* folder or file */
    const char *separator; /* the token behind each document; NULL: what ends texts by its files */
    st_special special;
    const char *field;   /* of JSON, column of tables; NULL: "text" */
    bool strict;         /* a row without a text is an error */
    double val_fraction; /* in (0, 1); 0: 0.0005 as nanoGPT, but (not with its split) 10,241 tokens
                          * at least, or a tenth if there are fewer */
    uint64_t seed;       /* of the split */
    st_split split;
    bool openwebtext; /* documents are taken as Hugging Face's loader of OpenWebText does */
    int threads;      /* 0: OMP_NUM_THREADS or all */
    bool replace;     /* OUT may exist and is replaced */
} st_prepare_opts;
/* Text (see st_docs) -> OUT/train.bin, OUT/val.bin (uint16, <|endoftext|> after each document),
 * OUT/meta.json and the tokenizer's files. The same bytes whatever the number of threads. With
 * ST_SPLIT_DOCUMENTS a document goes to val.bin by a number drawn for (seed, its place), but the
 * first never does; if too few do, the last ones are moved there; of a single document, its end is.
 * ST_SPLIT_NANOGPT needs 12 bytes of memory a document and the tokens once more on disk meanwhile;
 * empty documents count in it, as in nanoGPT. Result: out, documents, train_documents,
 * val_documents, tokens, train_tokens, val_tokens, bytes, vocab_size, tokenizer_hash, split
 * ("documents", "tokens" or "nanogpt"), val_fraction, seed, field, inputs, files, seconds. */
st_status st_prepare(const char *const *inputs, int n, const char *out, const st_prepare_opts *o,
                     json_t **result, st_err *e);

/* Data sets by name (recipe.c): what others make of OpenWebText, WikiText, ..., with their splits.
 */
typedef struct st_recipe_opts {
    st_prepare_opts prepare; /* tokenizer NULL: st_gpt2_tokenizer */
    const char *form;        /* NULL: the recipe's first */
    bool detokenize;         /* rows of fly's forms: st_detokenize (data.h) */
} st_recipe_opts;
enum { ST_TAKES_SPLIT = 1, ST_TAKES_FIELD = 2, ST_TAKES_TOKENIZER = 4 };
typedef struct st_recipe {
    const char *name, *summary;
    const char *source; /* where people get the text */
    const char *forms;  /* "a|b", NULL: there is one */
    int takes;          /* ST_TAKES_*; SPLIT: how, its fraction and seed */
    bool chars;         /* the tokenizer is one of characters, made from the text */
    st_status (*run)(const struct st_recipe *r, const char *const *inputs, int n, const char *out,
                     const st_recipe_opts *o, json_t **result, st_err *e);
} st_recipe;
extern const st_recipe st_recipes[]; /* ends with a NULL name */
const st_recipe *st_recipe_find(const char *name);
/* The recipe that was perhaps meant by a word that is no file. */
const char *st_recipe_near(const char *word);
/* Result: as of st_prepare, with recipe; of wikitext and lambada form, and tokens and documents of
 * train, val and test as far as they are there. */
st_status st_recipe_run(const char *name, const char *const *inputs, int n, const char *out,
                        const st_recipe_opts *o, json_t **result, st_err *e);
/* Where GPT-2's tokenizer is: $STRUT_DATA, $STRUT_DATA/gpt2, ./data/gpt2, ./gpt2, ./data, the Hub's
 * cache. New memory; ST_EARG, saying how to get it. */
st_status st_gpt2_tokenizer(char **path, st_err *e);

/* ---- words as Python's str and re see them (detokenize.c) ------------------------------------ */

/* Bytes of the white-space character at `s` (before `end`), or 0: what \s and str.isspace accept
 * in Python 3, UTF-8. */
int st_space_at(const char *s, const char *end);
/* Takes white space off both ends. */
void st_space_trim(const char **s, const char **end);
/* len(re.split(r"\s+", text)): runs of white space, plus one. */
int64_t st_space_words(const char *text, size_t n);
/* len(text.strip().split(" ")): the tokens of a text that is tokenised by single spaces. */
int64_t st_space_tokens(const char *text, size_t n);

/* The WikiText detokeniser of Megatron-LM's zero-shot evaluation, which lm-eval's wikitext task and
 * the fly code base share: 20 substitutions, one after the other, each over the whole text. New
 * memory; ST_ENOMEM. */
st_status st_detokenize(const char *text, size_t n, char **out, size_t *nout, st_err *e);

/* ---- rows (rows.c) --------------------------------------------------------------------------- */

typedef enum {
    ST_FORM_TEXT,     /* one row: the text as it is */
    ST_FORM_WIKITEXT, /* a row a line, its newline with it; a blank line is an empty row */
    ST_FORM_LINES     /* a row a line, without its newline; no blank ones */
} st_form;

typedef struct {
    char *text; /* all of it, `bytes` bytes */
    size_t bytes;
    struct {
        size_t begin, end; /* in `text` */
    } * row;
    int64_t rows;
    st_form form;
    char *path;          /* where it was read */
    const char *flavour; /* "raw", "v1" of WikiText, else NULL */
} st_eval_rows;
/* Reads a file; of JSON lines and parquet a row is a document, whatever the form. */
st_status st_eval_rows_open(st_eval_rows *out, const char *path, st_form form, st_err *e);
void st_eval_rows_close(st_eval_rows *r);

#endif
