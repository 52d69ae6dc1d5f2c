/* nanoGPT's train.bin and val.bin: documents in the order of a permutation of all of them, which is
 * known only when they are counted. Their tokens are spooled, then written in that order: as many
 * documents as fit a window are looked up in ascending order, so that a disk is read in one
 * direction, put in their places in memory, and written in one piece. */
/* SPDX-License-Identifier: MIT */
#include "data/prepare.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHUFFLE_TOKENS = 1 << 27, SHUFFLE_DOCUMENTS = 1 << 20, SHUFFLE_LOOK = 1 << 12 };

/* A document of the window, and its place there. */
typedef struct {
    uint32_t document;
    uint32_t at;
} shuffle_item;

typedef struct {
    st_shuffle *s;
    char *token; /* of the spool's width */
    shuffle_item *item;
    int64_t cap, items; /* room, in tokens and documents */
    st_progress report;
} shuffle_window;

st_status st_shuffle_open(st_shuffle *s, const char *dir, int width, st_err *e)
{
    *s = (st_shuffle){0};
    ST_TRY(st_bin_open(&s->spool, dir, ".spool", width, e));
    char *path = st_path_join(dir, ".spool");
    int failed = path ? unlink(path) : 0; /* it is gone when the process is */
    free(path);
    return failed ? st_bin_failed(&s->spool, e) : ST_OK;
}

void st_shuffle_drop(st_shuffle *s)
{
    st_bin_drop(&s->spool);
    free(s->end);
    *s = (st_shuffle){0};
}

st_status st_shuffle_put(st_shuffle *s, const int32_t *id, int64_t n, bool more, st_err *e)
{
    ST_TRY(st_bin_put(&s->spool, id, n, e));
    if (more) return ST_OK;
    if (s->documents == s->cap) {
        int64_t cap = s->cap + s->cap / 2 + 1024;
        int64_t *end = realloc(s->end, (size_t)cap * sizeof *end);
        if (!end) ST_FAIL(e, ST_ENOMEM, "out of memory for the places of documents");
        s->end = end;
        s->cap = cap;
    }
    s->end[s->documents++] = s->spool.tokens;
    return ST_OK;
}

static int64_t shuffle_begin(const st_shuffle *s, int64_t i)
{
    return i ? s->end[i - 1] : 0;
}

static int shuffle_compare(const void *a, const void *b)
{
    const shuffle_item *x = a, *y = b;
    return x->document < y->document ? -1 : x->document > y->document;
}

static st_status shuffle_read(const st_bin *spool, char *to, int64_t at, int64_t n, st_err *e)
{
    char *p = to;
    for (size_t left = (size_t)(spool->width * n); left;) {
        ssize_t got = pread(fileno(spool->f), p, left, spool->head + spool->width * at + (p - to));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) ST_FAIL(e, ST_EIO, "the spooled tokens cannot be read: %s", strerror(errno));
        p += got;
        left -= (size_t)got;
    }
    return ST_OK;
}

/* Writes the documents order[0..n), n of them all in the window. */
static st_status shuffle_flush(shuffle_window *w, const uint32_t *order, int64_t n, st_bin *to,
                               st_err *e)
{
    int64_t used = 0;
    for (int64_t i = 0; i < n; i++) {
        w->item[i] = (shuffle_item){order[i], (uint32_t)used};
        used += w->s->end[order[i]] - shuffle_begin(w->s, order[i]);
    }
    qsort(w->item, (size_t)n, sizeof *w->item, shuffle_compare);
    for (int64_t i = 0; i < n; i++) {
        int64_t begin = shuffle_begin(w->s, w->item[i].document),
                len = w->s->end[w->item[i].document] - begin;
        char *place = w->token + (int64_t)w->item[i].at * to->width;
        ST_TRY(shuffle_read(&w->s->spool, place, begin, len, e));
        w->report.done += len;
        if (i % SHUFFLE_LOOK) continue;
        st_report(&w->report);
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    }
    errno = 0;
    if (fwrite(w->token, (size_t)to->width, (size_t)used, to->f) != (size_t)used)
        return st_bin_failed(to, e);
    to->tokens += used;
    to->documents += n;
    return ST_OK;
}

static st_status shuffle_part(shuffle_window *w, const uint32_t *order, int64_t n, st_bin *to,
                              st_err *e)
{
    for (int64_t i = 0, k; i < n; i += k) {
        int64_t used = 0;
        for (k = 0; i + k < n && k < w->items; k++) {
            int64_t len = w->s->end[order[i + k]] - shuffle_begin(w->s, order[i + k]);
            if (used + len > w->cap) break;
            used += len;
        }
        if (k) {
            ST_TRY(shuffle_flush(w, order + i, k, to, e));
            continue;
        }
        k = 1; /* one that is larger than the window */
        int64_t begin = shuffle_begin(w->s, order[i]);
        ST_TRY(st_bin_copy(to, &w->s->spool, begin, w->s->end[order[i]] - begin, e));
        to->documents++;
        w->report.done += w->s->end[order[i]] - begin;
    }
    return ST_OK;
}

st_status st_shuffle_write(st_shuffle *s, double fraction, uint64_t seed, st_bin *train,
                           st_bin *val, st_err *e)
{
    int64_t n = s->documents, tests = (int64_t)ceil(fraction * (double)n);
    if (n < 2 || tests >= n) {
        ST_FAIL(e, ST_EARG,
                "%lld document%s, of which %lld would be for validation; nanoGPT's split needs one "
                "for training too: choose another --split",
                (long long)n, n == 1 ? "" : "s", (long long)tests);
    }
    if (n > UINT32_MAX) ST_FAIL(e, ST_EUNSUPPORTED, "%lld documents, at most 2^32", (long long)n);
    int64_t most = s->window ? s->window : SHUFFLE_TOKENS;
    shuffle_window w = {.s = s,
                        .cap = s->spool.tokens < most ? s->spool.tokens : most,
                        .items = n < SHUFFLE_DOCUMENTS ? n : SHUFFLE_DOCUMENTS,
                        .report = {.what = "shuffle", .total = s->spool.tokens, .unit = "tokens"}};
    uint32_t *order = st_calloc(n, sizeof *order);
    w.token = st_calloc(w.cap, (size_t)s->spool.width);
    w.item = st_calloc(w.items, sizeof *w.item);
    st_status status = ST_OK;
    errno = 0;
    if (!order || !w.token || !w.item) {
        status = ST_ERR(e, ST_ENOMEM, "out of memory to shuffle %lld documents", (long long)n);
    } else if (fflush(s->spool.f)) {
        status = st_bin_failed(&s->spool, e);
    } else {
        st_numpy_permutation(seed, order, n);
        status = shuffle_part(&w, order, tests, val, e);
        if (!status) status = shuffle_part(&w, order + tests, n - tests, train, e);
    }
    w.report.last = true;
    if (!status) st_report(&w.report);
    free(order);
    free(w.token);
    free(w.item);
    return status;
}
