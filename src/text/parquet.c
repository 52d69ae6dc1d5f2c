/* One string column of a parquet file, value by value
 * (https://parquet.apache.org/docs/file-format): footer, row groups, pages, values. Our own reader
 * because Debian 12 has no library for it, in C or C++ (no libarrow, libparquet or nanoarrow), and
 * Hugging Face serves its data sets as parquet.
 *
 * In memory are one page as stored, one decompressed and one dictionary, each of at most
 * ST_PARQUET_PAGE bytes, whatever the row groups are. */
/* SPDX-License-Identifier: MIT */
#include "text/parquet.h"
#include "files/files.h"
#include "text/text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct st_parquet {
    int fd;
    char *path;
    st_parquet_meta meta;
    int64_t chunk;      /* the one that is read */
    int64_t at, left;   /* its next page; its values in pages to come */
    int64_t done;       /* bytes of chunks that are through */
    int64_t nulls;      /* values left out so far */
    st_block tmp, data; /* a page as stored, and decompressed */
    st_words words;
    bool has_words;
    st_values values;
};

/* Is it a parquet file, by its first and last bytes? */
static bool parquet_is(int fd)
{
    char head[4], tail[4];
    struct stat st;
    return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size >= 12 &&
           pread(fd, head, 4, 0) == 4 && pread(fd, tail, 4, st.st_size - 4) == 4 &&
           !memcmp(head, "PAR1", 4) && !memcmp(tail, "PAR1", 4);
}

bool st_parquet_is(const char *path)
{
    struct stat st;
    if (st_name_ends(path, ".parquet")) return true;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool is = fd >= 0 && parquet_is(fd);
    if (fd >= 0) close(fd);
    return is;
}

st_status st_parquet_open(st_parquet **out, const char *path, const char *column, st_err *e)
{
    struct stat st;
    *out = NULL;
    if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: parquet can only be read from a plain file", path);
    }
    st_parquet *p = st_calloc(1, sizeof *p);
    if (!p) return ST_NOMEM(e, path);
    p->path = strdup(path);
    p->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    st_status s = ST_OK;
    if (p->fd < 0) s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
    if (!s && !p->path) s = ST_NOMEM(e, path);
    if (!s) s = st_parquet_meta_read(&p->meta, p->fd, path, column, e);
    p->chunk = -1;
    if (s)
        st_parquet_close(p);
    else
        *out = p;
    return s;
}

void st_parquet_close(st_parquet *p)
{
    if (!p) return;
    if (p->fd >= 0) close(p->fd);
    free(p->meta.chunk);
    free(p->tmp.data);
    free(p->data.data);
    free(p->words.data.data);
    free(p->words.start);
    free(p->values.value.data);
    free(p->path);
    free(p);
}

int64_t st_parquet_done(const st_parquet *p)
{
    int64_t done = p->done;
    if (p->chunk >= p->meta.chunks) return p->meta.size;
    if (p->chunk >= 0) done += p->at - p->meta.chunk[p->chunk].start;
    return p->meta.bytes ? (int64_t)((double)done / (double)p->meta.bytes * (double)p->meta.size)
                         : 0;
}

int64_t st_parquet_nulls(const st_parquet *p)
{
    return p->nulls;
}

/* Begins the next page that has values, or ends the row group. */
static st_status parquet_page(st_parquet *p, st_err *e)
{
    const st_parquet_chunk *c = &p->meta.chunk[p->chunk];
    int64_t body, end = c->start + c->bytes;
    st_page page;
    if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    if (p->at == end) {
        ST_FAIL(e, ST_EFORMAT, "%s: row group %lld has %lld values less than it says", p->path,
                (long long)p->chunk, (long long)p->left);
    }
    ST_TRY(st_page_header(&page, p->fd, p->at, end, &body, &p->tmp, p->path, e));
    p->at = body + page.packed;
    if (page.kind == ST_PAGE_INDEX) return ST_OK;
    ST_TRY(st_page_read(&page, c->codec, p->fd, body, &p->tmp, &p->data, p->path, e));
    if (page.kind == ST_PAGE_DICTIONARY) {
        if (p->has_words) ST_FAIL(e, ST_EFORMAT, "%s: two dictionaries in one row group", p->path);
        p->has_words = true;
        return st_words_read(&p->words, &page, &p->data, p->path, e);
    }
    if (page.values > p->left) {
        ST_FAIL(e, ST_EFORMAT, "%s: row group %lld has more values than it says", p->path,
                (long long)p->chunk);
    }
    p->left -= page.values;
    return st_values_begin(&p->values, &page, p->meta.levels, &p->data,
                           p->has_words ? &p->words : NULL, p->path, e);
}

st_status st_parquet_next(st_parquet *p, const char **text, size_t *n, st_err *e)
{
    *text = NULL;
    *n = 0;
    while (!*text) {
        if (p->values.left) {
            int64_t left = p->values.left;
            ST_TRY(st_values_next(&p->values, text, n, p->path, e));
            p->nulls += left - p->values.left - (*text != NULL);
        } else if (p->left) {
            ST_TRY(parquet_page(p, e));
        } else {
            if (p->chunk >= 0 && p->chunk < p->meta.chunks)
                p->done += p->meta.chunk[p->chunk].bytes;
            if (p->chunk + 1 >= p->meta.chunks) {
                p->chunk = p->meta.chunks;
                return ST_OK;
            }
            p->chunk++;
            p->at = p->meta.chunk[p->chunk].start;
            p->left = p->meta.chunk[p->chunk].values;
            p->has_words = false;
        }
    }
    return ST_OK;
}
