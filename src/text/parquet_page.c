/* Pages of a parquet column: a Thrift header, then the page, compressed. Codecs: none, snappy, gzip
 * and zstd. Claimed sizes are checked against the file and ST_PARQUET_PAGE before memory is taken,
 * decompressed ones against what was claimed. */
/* SPDX-License-Identifier: MIT */
#include "text/parquet.h"
#include "text/thrift.h"
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { PAGE_HEAD = 4096, PAGE_HEAD_MOST = 16 << 20 };
enum { NONE = 0, SNAPPY = 1, GZIP = 2, ZSTD = 6 };

st_status st_block_room(st_block *b, size_t n, const char *path, st_err *e)
{
    if (n <= b->cap) return ST_OK;
    free(b->data);
    *b = (st_block){.data = malloc(n), .cap = n};
    if (b->data) return ST_OK;
    b->cap = 0;
    ST_FAIL(e, ST_ENOMEM, "%s: out of memory for a page of %zu bytes", path, n);
}

/* ---- headers --------------------------------------------------------------------------------- */

/* DataPageHeader, DataPageHeaderV2 and DictionaryPageHeader: fields 1 (and 4 of V2) count, field 2
 * (4 of V2) is the encoding. */
static void page_part(st_page *p, st_thrift *t, int kind)
{
    bool v2 = kind == ST_PAGE_DATA2;
    int id = 0, type;
    while ((type = st_thrift_field(t, &id))) {
        if (id == 1)
            p->values = st_thrift_int(t, type, 0, ST_PARQUET_VALUES);
        else if (id == (v2 ? 4 : 2))
            p->encoding = (int)st_thrift_int(t, type, 0, INT32_MAX);
        else if (v2 && id == 5)
            p->levels = st_thrift_int(t, type, 0, INT32_MAX);
        else if (v2 && id == 6)
            st_thrift_int(t, type, 0, 0); /* levels of lists */
        else if (v2 && id == 7)
            p->compressed = st_thrift_flag(t, type);
        else if (kind == ST_PAGE_DATA && id == 3 && st_thrift_int(t, type, 0, 4) != 3)
            st_thrift_fail(t, "levels in an encoding that is no longer used");
        else if (kind != ST_PAGE_DATA || id != 3)
            st_thrift_skip(t, type);
    }
}

static void page_parse(st_page *p, st_thrift *t)
{
    static const int part[] = {5, 0, 7, 8}; /* the field that goes with each kind */
    int id = 0, type, kind = -1, seen = -1;
    *p = (st_page){.packed = -1, .plain = -1, .values = -1, .encoding = -1, .compressed = true};
    while ((type = st_thrift_field(t, &id))) {
        if (id == 1) {
            kind = (int)st_thrift_int(t, type, 0, 3);
        } else if (id == 2 || id == 3) {
            *(id == 2 ? &p->plain : &p->packed) = st_thrift_int(t, type, 0, ST_PARQUET_PAGE);
        } else if (id == 4) {
            p->crc = (uint32_t)st_thrift_int(t, type, INT32_MIN, INT32_MAX);
            p->has_crc = true;
        } else if (kind > 0 && id == part[kind] && type == ST_THRIFT_STRUCT) {
            page_part(p, t, seen = kind);
        } else if (kind == ST_PAGE_DATA && id == 5 && type == ST_THRIFT_STRUCT) {
            page_part(p, t, seen = kind);
        } else {
            st_thrift_skip(t, type);
        }
    }
    if (p->packed < 0 || p->plain < 0 || kind < 0) st_thrift_fail(t, "no size or type");
    if (kind != ST_PAGE_INDEX && (seen != kind || p->values < 0 || p->encoding < 0))
        st_thrift_fail(t, "no counts");
    p->kind = kind < 0 ? ST_PAGE_INDEX : (st_page_kind)kind;
}

/* Headers are small, but may have statistics in them: tried with more and more bytes. */
st_status st_page_header(st_page *p, int fd, int64_t at, int64_t end, int64_t *body, st_block *tmp,
                         const char *path, st_err *e)
{
    st_thrift t = {0};
    for (int64_t n = PAGE_HEAD;; n *= 8) {
        int64_t take = n < end - at ? n : end - at;
        ST_TRY(st_block_room(tmp, (size_t)take, path, e));
        ST_TRY(st_parquet_pread(fd, tmp->data, (size_t)take, at, path, e));
        t = (st_thrift){.data = tmp->data, .n = (size_t)take};
        page_parse(p, &t);
        if (!t.cut || take < n || n >= PAGE_HEAD_MOST) break;
    }
    *body = at + (int64_t)t.at;
    if (!t.bad && p->packed > end - *body) st_thrift_fail(&t, "goes on beyond its row group");
    if (!t.bad && p->levels > (p->packed < p->plain ? p->packed : p->plain))
        st_thrift_fail(&t, "levels larger than the page");
    if (!t.bad) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s: the page at byte %lld is damaged: %s", path, (long long)at, t.bad);
}

/* ---- codecs ---------------------------------------------------------------------------------- */

/* zlib's members one behind the other into exactly n bytes. */
static bool page_gunzip(const uint8_t *from, size_t have, uint8_t *to, size_t n)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)from,
                  .avail_in = (uInt)have,
                  .next_out = to,
                  .avail_out = (uInt)n}; /* both below 2^30 */
    if (inflateInit2(&z, 15 + 32) != Z_OK) return false;
    int rc;
    do {
        rc = inflate(&z, Z_FINISH);
    } while (rc == Z_STREAM_END && z.avail_in && inflateReset(&z) == Z_OK);
    inflateEnd(&z);
    return rc == Z_STREAM_END && !z.avail_out;
}

static bool page_unpack(int codec, const uint8_t *from, size_t have, uint8_t *to, size_t n)
{
    size_t got = 0;
    switch (codec) {
    case NONE:
        if (have == n) memcpy(to, from, n);
        return have == n;
    case SNAPPY:
        if (snappy_uncompressed_length((const char *)from, have, &got) != SNAPPY_OK || got != n)
            return false;
        return snappy_uncompress((const char *)from, have, (char *)to, &got) == SNAPPY_OK &&
               got == n;
    case GZIP: return page_gunzip(from, have, to, n);
    default: return ZSTD_decompress(to, n, from, have) == n;
    }
}

st_status st_page_read(const st_page *p, int codec, int fd, int64_t body, st_block *tmp,
                       st_block *out, const char *path, st_err *e)
{
    size_t packed = (size_t)p->packed, plain = (size_t)p->plain, levels = (size_t)p->levels;
    ST_TRY(st_block_room(tmp, packed + 1, path, e));
    ST_TRY(st_parquet_pread(fd, tmp->data, packed, body, path, e));
    if (p->has_crc && crc32(0, tmp->data, (uInt)packed) != p->crc) {
        ST_FAIL(e, ST_EFORMAT, "%s: the page at byte %lld has another checksum than was written",
                path, (long long)body);
    }
    ST_TRY(st_block_room(out, plain + 1, path, e));
    memcpy(out->data, tmp->data, levels); /* of version 2, never compressed */
    out->n = plain;
    bool fine = (packed == levels && plain == levels) || /* nothing but nulls */
                page_unpack(p->compressed ? codec : NONE, tmp->data + levels, packed - levels,
                            out->data + levels, plain - levels);
    if (fine) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s: the page at byte %lld is no %s data of %zu bytes", path,
            (long long)body, st_parquet_codec(p->compressed ? codec : NONE), plain - levels);
}
