/* The inside of the parquet reader: which bytes hold the column (parquet_meta.c), the pages in them
 * (parquet_page.c), the values in a page (parquet_values.c). Inside text only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_PARQUET_H
#define ST_TEXT_PARQUET_H

#include "base/base.h"

/* Decompressed pages and dictionaries are not larger than this. Writers aim at 1 MiB, but look only
 * now and then whether they have passed it, and a page holds at least one value. */
enum { ST_PARQUET_PAGE = 512 << 20 };
/* Values of a page: writers stop at 2^26 at the latest. */
enum { ST_PARQUET_VALUES = 1 << 27 };

/* ---- parquet_meta.c -------------------------------------------------------------------------- */

/* The column's bytes of one row group. */
typedef struct {
    int64_t start, bytes, values;
    int codec;
} st_parquet_chunk;

typedef struct {
    int64_t size; /* of the file */
    st_parquet_chunk *chunk;
    int64_t chunks, bytes; /* bytes: of all of them */
    int levels;            /* optional levels of the column: a value is there at this level */
} st_parquet_meta;
/* Reads the footer and finds the column; all ranges are then inside the file. Free `chunk`. */
st_status st_parquet_meta_read(st_parquet_meta *m, int fd, const char *path, const char *column,
                               st_err *e);
/* All of [at, at + n); ST_EFORMAT where the file ends before. */
st_status st_parquet_pread(int fd, void *data, size_t n, int64_t at, const char *path, st_err *e);
const char *st_parquet_codec(int codec); /* its name, for messages */

/* ---- parquet_page.c -------------------------------------------------------------------------- */

typedef enum { ST_PAGE_DATA, ST_PAGE_INDEX, ST_PAGE_DICTIONARY, ST_PAGE_DATA2 } st_page_kind;

typedef struct {
    st_page_kind kind;
    int64_t packed, plain; /* bytes in the file, decompressed */
    int64_t values;
    int encoding;
    int64_t levels; /* of ST_PAGE_DATA2: bytes of definition levels, before the values */
    bool compressed, has_crc;
    uint32_t crc;
} st_page;
typedef struct {
    uint8_t *data;
    size_t n, cap;
} st_block;

/* The header at `at` of a chunk that ends at `end`; *body: where the page's bytes begin. */
st_status st_page_header(st_page *p, int fd, int64_t at, int64_t end, int64_t *body, st_block *tmp,
                         const char *path, st_err *e);
/* The page's bytes, decompressed, in `out`. */
st_status st_page_read(const st_page *p, int codec, int fd, int64_t body, st_block *tmp,
                       st_block *out, const char *path, st_err *e);
/* Room for n bytes, the old ones not kept. */
st_status st_block_room(st_block *b, size_t n, const char *path, st_err *e);

/* ---- parquet_values.c ------------------------------------------------------------------------ */

/* Small numbers of `width` bits, in runs of equal ones and packed groups of eight. */
typedef struct {
    const uint8_t *p, *end;
    int width;
    uint64_t left; /* of the run */
    uint64_t bit;  /* of the next packed one, from p */
    uint32_t value;
    bool packed;
} st_hybrid;

/* 64-bit numbers as differences, in blocks of miniblocks of one width each. */
typedef struct {
    const uint8_t *p, *end;
    uint64_t left, per_mini, minis;
    uint64_t value, least;        /* the next one; the block's smallest difference */
    const uint8_t *width;         /* of the miniblocks that are left, */
    uint64_t more;                /* so many, after the one that is read: */
    uint64_t in_mini, bit, bytes; /* numbers left, the next one's place, its size */
    int bits;                     /* of a number */
} st_delta;

/* A dictionary, and the values of one page. */
typedef struct {
    st_block data;
    uint32_t *start; /* count + 1 */
    int64_t count;
} st_words;
typedef struct {
    int encoding;
    int64_t left; /* values that were not handed out, null ones among them */
    int levels;
    st_hybrid level, index;
    st_delta length, prefix;
    const uint8_t *p, *end;
    const st_words *words;
    st_block value; /* of DELTA_BYTE_ARRAY: the last one */
} st_values;

/* Takes the values of a dictionary page out of `data`, whose memory it takes over. */
st_status st_words_read(st_words *w, const st_page *p, st_block *data, const char *path, st_err *e);
/* Begins a page of which `data` are the bytes; `words` NULL: there is no dictionary. */
st_status st_values_begin(st_values *v, const st_page *p, int levels, const st_block *data,
                          const st_words *words, const char *path, st_err *e);
/* The next value that is not null; *text NULL: the page is over. */
st_status st_values_next(st_values *v, const char **text, size_t *n, const char *path, st_err *e);

#endif
