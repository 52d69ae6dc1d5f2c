/* Files of token ids, mapped: nanoGPT's, llm.c's and numpy's. shard_stream.c makes one stream of
 * them. */
/* SPDX-License-Identifier: MIT */
#include "text/shard.h"
#include "files/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LLMC_WORDS = 256, LLMC_HEADER = 4 * LLMC_WORDS };
static const char npy_magic[] = "\x93NUMPY";

/* ---- llm.c ----------------------------------------------------------------------------------- */

/* Does the file begin with a header of 256 int32, all but three of them 0? These three: magic and
 * version say how wide ids are, the third how many there are. */
static bool shard_is_llmc(const st_shard_part *s, int *width, int32_t *count)
{
    int32_t head[LLMC_WORDS], used = 0;
    if (s->bytes < LLMC_HEADER) return false;
    memcpy(head, s->map, sizeof head);
    for (int i = 3; i < LLMC_WORDS; i++)
        used |= head[i];
    bool gpt2 = head[0] == 20240520 && head[1] == 1, llama = head[0] == 20240801 && head[1] == 7;
    *width = gpt2 ? 2 : 4;
    *count = head[2];
    return (gpt2 || llama) && !used;
}

static st_status shard_llmc(st_shard_part *s, int width, int32_t count, const char *path, st_err *e)
{
    s->format = "llm.c";
    s->width = width;
    s->n = count;
    s->data = (const char *)s->map + LLMC_HEADER;
    if (count > 0 && (uint64_t)count * (uint64_t)width == s->bytes - LLMC_HEADER) return ST_OK;
    ST_FAIL(
        e, ST_EFORMAT,
        "%s: llm.c's header says %d tokens of %d bytes, but %zu bytes follow; was it cut short?",
        path, count, width, s->bytes - LLMC_HEADER);
}

/* ---- npy ------------------------------------------------------------------------------------- */

/* What stands behind 'key': in the header, a Python dict; NULL: nothing. */
static const char *npy_find(const char *head, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *p = strstr(head, quoted);
    if (!p) return NULL;
    p += strlen(quoted);
    return p + strspn(p, " ");
}

/* Width and count from the dict's text: 1-D arrays of '<u2', '<i4' or '<u4'. */
static st_status npy_parse(st_shard_part *s, const char *head, const char *path, st_err *e)
{
    static const struct {
        char type[6];
        int width;
    } types[] = {{"'<u2'", 2}, {"'<i4'", 4}, {"'<u4'", 4}, {"'<i8'", 8}, {"'<u8'", 8}};
    const char *descr = npy_find(head, "descr"), *shape = npy_find(head, "shape");
    if (!descr || !shape || *shape != '(') {
        ST_FAIL(e, ST_EFORMAT, "%s: an .npy header without descr or shape", path);
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strncmp(descr, types[i].type, 5)) s->width = types[i].width;
    if (!s->width) {
        ST_FAIL(
            e, ST_EUNSUPPORTED,
            "%s: an .npy file of %.*s; token ids must be uint16 or whole numbers of 32 or 64 bits, "
            "little-endian",
            path, (int)strcspn(descr, ","), descr);
    }
    char *end;
    errno = 0;
    long long n = strtoll(shape + 1, &end, 10);
    if (errno || end == shape + 1 || n < 1 || strncmp(end, ",)", 2) != 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: an .npy array of shape %.*s, expected one row of tokens, (N,)",
                path, (int)strcspn(shape, ")") + 1, shape);
    }
    s->n = n;
    return ST_OK;
}

static st_status shard_npy(st_shard_part *s, const char *path, st_err *e)
{
    enum { HEAD_MOST = 4096 };
    const uint8_t *p = s->map;
    char head[HEAD_MOST + 1];
    s->format = "npy";
    bool old = s->bytes >= 10 && p[6] == 1;
    if (s->bytes < 12 || p[6] < 1 || p[6] > 3)
        ST_FAIL(e, ST_EFORMAT, "%s: an .npy file of no known version", path);
    size_t at = old ? 10 : 12,
           n = old ? p[8] | (size_t)p[9] << 8
                   : p[8] | (size_t)p[9] << 8 | (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (n > HEAD_MOST || n > s->bytes - at)
        ST_FAIL(e, ST_EFORMAT, "%s: an .npy header of %zu bytes", path, n);
    memcpy(head, p + at, n);
    head[n] = '\0';
    ST_TRY(npy_parse(s, head, path, e));
    size_t left = s->bytes - at - n;
    s->data = p + at + n;
    if ((uint64_t)s->n <= left && (size_t)s->n * (size_t)s->width == left) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s: its header says %lld tokens of %d bytes, but %zu bytes follow",
            path, (long long)s->n, s->width, left);
}

/* ---- opening --------------------------------------------------------------------------------- */

static st_status shard_map(st_shard_part *s, int fd, const char *path, st_err *e)
{
    struct stat st;
    if (fstat(fd, &st)) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) {
        ST_FAIL(e, ST_EARG, "%s: not a plain file, expected token shards", path);
    }
    if (st.st_size == 0) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: 0 bytes, expected at least one token; write it anew with strut prepare", path);
    }
    ST_TRY(st_mapped_open(&s->map, fd, (size_t)st.st_size, path, e));
    s->bytes = (size_t)st.st_size;
    return ST_OK;
}

/* Are the first ids pairs of a low half and an upper one that is nearly nothing? */
static bool shard_looks_wide(const st_shard_part *s)
{
    enum { LOOK = 2048, LEAST = 32, UPPER = 3 };
    int64_t n = s->n < LOOK ? s->n : LOOK, low = 0;
    if (s->bytes % 4 || n < LEAST) return false;
    for (int64_t i = 0; i + 1 < n; i += 2) {
        int32_t pair[2];
        st_part_read(s, i, 2, pair);
        if (pair[1] > UPPER) return false;
        low += pair[0] > UPPER;
    }
    return low > n / 4;
}

static st_status shard_format(st_shard_part *s, const char *path, st_err *e)
{
    int width;
    int32_t count;
    ST_TRY(st_lfs_refuse(path, s->map, s->bytes, e));
    if (shard_is_llmc(s, &width, &count)) return shard_llmc(s, width, count, path, e);
    if (s->bytes >= 6 && !memcmp(s->map, npy_magic, 6)) return shard_npy(s, path, e);
    if (st_name_ends(path, ".npy"))
        ST_FAIL(e, ST_EFORMAT, "%s: does not begin as an .npy file does", path);
    if (s->bytes % 2) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: %zu bytes, expected two for each token; write it anew with strut prepare",
                path, s->bytes);
    }
    s->format = "nanoGPT";
    s->width = 2;
    s->data = s->map;
    s->n = (int64_t)(s->bytes / 2);
    if (shard_looks_wide(s)) {
        st_log(
            ST_LOG_WARN,
            "%s: looks like ids of 32 bits (every second one of its 16-bit ids is 0, or nearly): "
            "they are read as 16 bits, which is what a .bin without a header has; save them as "
            "uint16, or as .npy",
            path);
    }
    return ST_OK;
}

st_status st_part_open(st_shard_part *out, const char *path, st_err *e)
{
    *out = (st_shard_part){0};
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    st_status s = shard_map(out, fd, path, e);
    close(fd);
    if (!s) s = shard_format(out, path, e);
    if (s) st_part_close(out);
    return s;
}

void st_part_close(st_shard_part *p)
{
    st_mapped_close(p->map, p->bytes);
    *p = (st_shard_part){0};
}

/* ---- ids ------------------------------------------------------------------------------------- */

void st_part_read(const st_shard_part *s, int64_t at, int64_t n, int32_t *ids)
{
    if (s->width == 4) { /* perhaps not aligned: a header may have any length */
        memcpy(ids, (const char *)s->data + 4 * at, 4 * (size_t)n);
        return;
    }
    if (s->width == 8) {
        for (int64_t i = 0; i < n; i++) {
            int64_t v;
            memcpy(&v, (const char *)s->data + 8 * (at + i), sizeof v);
            ids[i] = v < 0 || v > INT32_MAX ? -1 : (int32_t)v; /* which no vocabulary has */
        }
        return;
    }
    const char *from = (const char *)s->data + 2 * at;
    for (int64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, from + 2 * i, sizeof v);
        ids[i] = v;
    }
}
