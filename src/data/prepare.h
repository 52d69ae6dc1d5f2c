/* prepare: the parts of preparing text that its kinds (prepare.c) and the recipes share. Inside
 * data only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DATA_PREPARE_H
#define ST_DATA_PREPARE_H

#include "data/data.h"
#include "files/files.h"
#include "text/text.h"

/* ---- bin.c: a file of tokens, as it grows ---------------------------------------------------- */

typedef struct {
    const char *name; /* "train.bin" */
    FILE *f;
    int64_t tokens, documents;
    int width;    /* bytes of a token: 2, or 4 with numpy's header before them */
    int64_t head; /* bytes of that */
} st_bin;
/* 16 bits for a tokenizer of at most 65,536 ids, else 32. */
int st_bin_width(const st_bpe *b);
st_status st_bin_open(st_bin *b, const char *dir, const char *name, int width, st_err *e);
st_status st_bin_put(st_bin *b, const int32_t *id, int64_t n, st_err *e);
/* Goes to token `at`; false where that fails. */
bool st_bin_seek(const st_bin *b, int64_t at);
/* Token j of a block that was read from it. */
int32_t st_bin_token(const st_bin *b, const void *block, size_t j);
/* `n` tokens of `from`, of the same width, from its token `at` on. */
st_status st_bin_copy(st_bin *b, st_bin *from, int64_t at, int64_t n, st_err *e);
st_status st_bin_close(st_bin *b, st_err *e); /* nothing if it is closed */
void st_bin_drop(st_bin *b);                  /* after close: nothing */
/* What errno says about the file, and what to do. */
st_status st_bin_failed(const st_bin *b, st_err *e);
/* Has the tokenizer few enough ids for 16 bits, and <|endoftext|> if that is `needed`? */
st_status st_bin_vocab(const st_bpe *b, const char *path, bool needed, st_err *e);
/* Writes the tokenizer and meta.json (a borrowed reference, NULL: out of memory) and puts the
 * folder in place. */
/* The folder `out` for shards made of the inputs with o->tokenizer. It is written over only where
 * --force is said, it holds nothing but what prepare writes, and nothing of it is read. */
st_status st_prepare_open(st_outdir *dir, const char *out, const st_prepare_opts *o,
                          const char *const *inputs, int n, st_err *e);
st_status st_prepare_finish(st_outdir *dir, const st_bpe *b, const json_t *meta, st_err *e);
/* out, then what meta.json says, files ("OUT/NAME" of `names`, NULL-terminated) and seconds. */
json_t *st_prepare_result(const json_t *meta, const char *out, const char *const *names,
                          double seconds);
/* What every meta.json begins with: format, dtype, vocab_size, eos_token_id, tokenizer_hash, and
 * the inputs. */
json_t *st_prepare_meta(const st_bpe *b, const char *const *inputs, int n);

/* ---- shuffle.c: documents in an order that is known only when all are there ------------------ */

/* The tokens of all documents in a file without a name, and where each ends. */
typedef struct {
    st_bin spool;
    int64_t *end; /* of document i, in tokens */
    int64_t documents, cap;
    int64_t window; /* tokens that are put in order in memory at a time; 0: 2^27 */
} st_shuffle;
st_status st_shuffle_open(st_shuffle *s, const char *dir, int width, st_err *e);
st_status st_shuffle_put(st_shuffle *s, const int32_t *id, int64_t n, bool more, st_err *e);
/* Hugging Face datasets' train_test_split(test_size=fraction, seed, shuffle=True), which nanoGPT
 * uses: the first ceil(fraction n) documents of numpy's default_rng(seed).permutation(n) go to
 * `val`, the others to `train`, both in its order. */
st_status st_shuffle_write(st_shuffle *s, double fraction, uint64_t seed, st_bin *train,
                           st_bin *val, st_err *e);
void st_shuffle_drop(st_shuffle *s);

/* ---- numpy.c --------------------------------------------------------------------------------- */

/* numpy.random.default_rng(seed).permutation(n), n < 2^32, into out[0..n). */
void st_numpy_permutation(uint64_t seed, uint32_t *out, int64_t n);

#endif
