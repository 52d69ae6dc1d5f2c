/* text: tokenizers, documents, parquet and shards of tokens. Every reader validates everything
 * before anything is used. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_H
#define ST_TEXT_H

#include "base/base.h"

/* ---- byte pair encoding (bpe*.c, flow*.c) ---------------------------------------------------- */

typedef struct st_bpe st_bpe;
typedef struct {
    int32_t *id;
    int64_t n, cap;
} st_ids;
void st_ids_free(st_ids *ids);
st_status st_ids_push(st_ids *ids, int32_t id, st_err *e);

/* From a folder holding tokenizer.json, vocab.json + merges.txt, encoder.json + vocab.bpe or
 * nanoGPT's meta.pkl of characters (looked for in this order), or from one of these files, with
 * what stands beside it about added tokens; or from a GGUF file. */
st_status st_bpe_open(st_bpe **out, const char *path, st_err *e);
/* A tokenizer of the characters of a text, in the order of their codes (nanoGPT's
 * shakespeare_char). ST_EFORMAT where the text is not UTF-8. It has no <|endoftext|>, and encoding
 * is ST_EFORMAT where a text has other characters. */
st_status st_bpe_from_text(st_bpe **out, const char *text, size_t n, st_err *e);
bool st_bpe_there(const char *dir);   /* has a folder one of these files? */
bool st_bpe_inside(const char *path); /* is it a GGUF file with a tokenizer? */
void st_bpe_close(st_bpe *b);
int64_t st_bpe_size(const st_bpe *b); /* ids are < this */
int64_t st_bpe_merges(const st_bpe *b);
bool st_bpe_special(const st_bpe *b, int32_t id); /* an added token; false if out of range */
/* The two ids that merge `rank`, 0 <= rank < st_bpe_merges, puts together. */
void st_bpe_merge_at(const st_bpe *b, int64_t rank, int32_t *left, int32_t *right);
/* The name of a token as files have it, NUL-terminated, in new memory; NULL when out of memory. */
char *st_bpe_name(const st_bpe *b, int32_t id, size_t *n);
bool st_bpe_added(const st_bpe *b, int32_t id); /* an added token that is not special */
/* What ends a text, as its files say, else <|endoftext|>; what begins one, else the same; what
 * fills one up. -1: there is none. */
int32_t st_bpe_eos(const st_bpe *b);
int32_t st_bpe_bos(const st_bpe *b);
int32_t st_bpe_pad(const st_bpe *b);
/* The token of these bytes, -1: there is none. */
int32_t st_bpe_find(const st_bpe *b, const char *bytes, size_t n);
/* Leaves only ids below n, if the others are added tokens; else ST_EFORMAT. */
st_status st_bpe_cut(st_bpe *b, int64_t n, st_err *e);
/* May texts be encoded in pieces of st_docs? Not if added tokens reach over what cuts them, and not
 * if nothing is known of how it cuts text. */
bool st_bpe_pieces(const st_bpe *b);
/* Are its words GPT-2's? If not, pieces may end behind letters and digits alone (st_docs_opts). */
bool st_bpe_words(const st_bpe *b);
/* Appends the ids of any bytes; added tokens in them are found, special ones only if `special`,
 * else they are ordinary text. Deterministic; thread-safe. */
st_status st_bpe_encode_with(const st_bpe *b, const char *text, size_t n, bool special, st_ids *out,
                             st_err *e);
st_status st_bpe_encode(const st_bpe *b, const char *text, size_t n, st_ids *out, st_err *e);
/* How many special tokens a text holds, and the first of them. */
int64_t st_bpe_specials(const st_bpe *b, const char *text, size_t n, int32_t *first);
/* The bytes of one id as a text has them (not NUL-terminated, may be part of a UTF-8 character);
 * NULL if out of range. */
const char *st_bpe_bytes(const st_bpe *b, int32_t id, size_t *n);
/* How many spaces a text that begins with tokens loses (SentencePiece's way), one a token at most.
 */
int st_bpe_strip(const st_bpe *b);
/* What its template puts before and after a text; owned by `b`. */
const st_ids *st_bpe_before(const st_bpe *b);
const st_ids *st_bpe_after(const st_bpe *b);
const char *st_bpe_chat(const st_bpe *b); /* its chat template (Jinja), or NULL */
/* The same as keys of a GGUF file ("tokenizer.ggml.tokens" ...), a new object: numbers, texts,
 * lists of them; ids up to `vocab` that the tokenizer lacks are unused. ST_EUNSUPPORTED where GGUF
 * has no form for it. *keys may be set then, too. */
st_status st_bpe_gguf_keys(const st_bpe *b, int64_t vocab, json_t **keys, st_err *e);
/* 64 bits over tokens and merges: equal for tokenizers that work alike. */
uint64_t st_bpe_hash(const st_bpe *b);
/* Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json
 * as Hugging Face does into a folder; of characters without the first two. */
/* What files of tokenizers are called, for lists of what a result may be written over. */
#define ST_BPE_FILES                                                                               \
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",     \
        "vocab.json", "merges.txt", "encoder.json", "vocab.bpe"
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

/* ---- chats (chat.c) -------------------------------------------------------------------------- */

/* How a question is put to a model tuned to answer: ChatML, Llama 2, Llama 3, Mistral, Gemma, Phi-3
 * or Zephyr, by the tokenizer's chat template (which is recognised, not run), else by its tokens.
 * ST_EUNSUPPORTED, saying so, where it is none of them. */
typedef struct st_chat st_chat;
st_status st_chat_open(st_chat **out, const st_bpe *b, st_err *e);
void st_chat_close(st_chat *c);
const char *st_chat_name(const st_chat *c);
const char *st_chat_system(const st_chat *c);    /* the system's text if none is given, or NULL */
bool st_chat_stop(const st_chat *c, int32_t id); /* does this token end an answer? */
/* A question up to where its answer begins, as text, appended to `out`; `system` may be NULL. */
st_status st_chat_text(const st_chat *c, const st_bpe *b, const char *system, const char *user,
                       st_buffer *out, st_err *e);
/* The same as ids. Special tokens in the texts are tokens, as transformers takes them. */
st_status st_chat_ids(const st_chat *c, const st_bpe *b, const char *system, const char *user,
                      st_ids *out, st_err *e);

/* ---- parquet (parquet.c) --------------------------------------------------------------------- */

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
int64_t st_parquet_done(const st_parquet *p);  /* for progress: of the file's bytes */
int64_t st_parquet_nulls(const st_parquet *p); /* values left out so far */

/* ---- documents in files, folders and archives (docs.c) --------------------------------------- */

/* Walks inputs in order (folders sorted by name; hidden files, cards, licences and code in them
 * left out): a file of JSON (.jsonl .ndjson .json) is one document a value or element of arrays,
 * a table (.csv .tsv, parquet) one a row, any other file one document; text may be inside .gz .xz
 * .zst .bz2 .tar .zip and nestings of them. Bytes come as they are, but for marks of the encoding
 * and UTF-16; empty documents are skipped. What was left out is one remark at the end. Streaming:
 * no more than one document (or piece) and one buffer (of parquet: a page) in memory. */
typedef struct st_docs st_docs;
typedef struct {
    const char *field;     /* of JSON ("a.b": in an object), column of tables; NULL = "text" */
    int64_t max_doc_bytes; /* longer documents are ST_EFORMAT, naming the file; 0 = 256 MiB */
    int64_t piece_bytes;   /* longer documents come in pieces of about this size, each ending where
                            * a word of GPT-2's pattern does; 0 = whole documents only. The limit
                            * above is then for a JSON line and for a run without a word's end. */
    bool letters; /* pieces end only between a letter or digit of ASCII and a space or newline,
                   * which no pattern in use joins, and in no other place */
    bool strict;  /* a row without a text is an error; else it is counted and left out */
    bool rows;    /* a text file has a document a line, given without its end (\n or \r\n) */
    bool empty;   /* empty documents are documents too */
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

/* ---- token shards (shard_stream.c) ----------------------------------------------------------- */

/* A file of token ids, mapped: nanoGPT's (bare little-endian uint16), llm.c's (256 int32 before
 * them: magic, version, count; uint16, or uint32 of Llama 3) or numpy's .npy (uint16, int32 or
 * uint32; one row), told by its first bytes. Empty files and odd sizes are ST_EFORMAT. */
typedef struct {
    const void *data;   /* the first id */
    int width;          /* bytes of an id: 2 or 4 */
    int64_t n, from;    /* ids, and the number of the first in the stream */
    const char *format; /* "nanoGPT", "llm.c", "npy" */
    char *path;
    void *map;
    size_t bytes;
} st_shard_part;
/* Such files as one stream, in the order of their names. */
typedef struct {
    int64_t n;
    size_t bytes;
    const char *format; /* of the first */
    st_shard_part *part;
    int64_t parts;
} st_shard;
/* `path`: a file, a folder (all shards in it), a pattern (edu/x_train_*.bin), or several paths with
 * newlines between. */
st_status st_shard_open(st_shard *out, const char *path, st_err *e);
void st_shard_close(st_shard *s);
/* ids[k] = id number at + k of the stream; those over INT32_MAX are negative, and refused by
 * st_shard_check. */
void st_shard_read(const st_shard *s, int64_t at, int64_t n, int32_t *ids);
/* ST_EFORMAT naming file and position of the first token that is not in [0, vocab). */
st_status st_shard_check(const st_shard *s, int64_t vocab, st_err *e);
bool st_shard_is(const char *path);        /* is it named so: .bin, .npy */
bool st_shard_folder_is(const char *path); /* has this folder files named so? */
/* The shards of a prepared folder: DIR/train.bin or train.npy, DIR/val.bin, val.npy or
 * validation.npy; else those whose names say val, or neither val nor test; if none is there, the
 * first. New memory, NULL when out of memory. */
char *st_shard_path(const char *dir, bool val);
bool st_shard_there(const char *path); /* is what that returned on disk? */

#endif
