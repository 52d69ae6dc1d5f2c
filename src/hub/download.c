/* Downloads of the Hub: requests that are tried again, files that are gone on with and verified.
 * A partial file bears its content's checksum in its name, so what it is part of cannot change
 * under it; Range needs no If-Range, and the checksum over all of it has the last word. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "hub/inner.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { DOWNLOAD_WAIT_MOST = 120, DOWNLOAD_BUFFER = 1 << 16 };

/* ---- requests -------------------------------------------------------------------------------- */

/* Waits, but not for a user who has had enough. */
static st_status download_wait(double seconds, st_err *e)
{
    double end = st_now() + seconds;
    while (st_now() < end) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return ST_OK;
}

static bool download_passes(int status)
{
    return status == 0 || status == 408 || status == 429 || status >= 500;
}

/* What an answer that is no success means, and what to do. */
static st_status download_refused(const st_http_answer *a, const char *what, bool token, st_err *e)
{
    const char *has =
        token ? "the token that was sent gives no access to it" : "set HF_TOKEN if it is private";
    switch (a->status) {
    case 401:
        ST_FAIL(e, ST_EIO, "%s: %s answers 401: it does not exist, or %s", what, a->host, has);
    case 403:
        ST_FAIL(
            e, ST_EIO,
            "%s: %s answers 403: access is not granted; accept the conditions on its page there "
            "and set HF_TOKEN",
            what, a->host);
    case 404:
        ST_FAIL(e, ST_EIO, "%s: %s answers 404: there is no such repository, revision or file%s%s",
                what, a->host, *a->error ? ": " : "", a->error);
    case 429:
        ST_FAIL(e, ST_EIO, "%s: %s answers 429: too many requests; try again later%s", what,
                a->host, token ? "" : " or set HF_TOKEN");
    default: ST_FAIL(e, ST_EIO, "%s: %s answers %d", what, a->host, a->status);
    }
}

/* Seconds before the next try: 0.5, 1, 2, 4, ... */
static double download_backoff(int try)
{
    return try < 8 ? 0.5 * (double)(1 << try) : DOWNLOAD_WAIT_MOST;
}

/* The same, or what the server asks for. */
static double download_pause(const st_http_answer *a, int try)
{
    double wait = a->retry_after > 0 ? (double)a->retry_after : download_backoff(try);
    return wait < DOWNLOAD_WAIT_MOST ? wait : DOWNLOAD_WAIT_MOST;
}

st_status st_hub_request(st_hub_transfer *t, st_http_request *r, st_http_answer *a,
                         const char *what, st_err *e)
{
    r->token = t->token;
    r->stall = t->stall;
    for (int try = 0;; try++) {
        st_err why = {0};
        st_status s = st_http(r, a, &why);
        bool answered = !s && a->status >= 200 && a->status < 300;
        if (!s && r->head && a->status >= 300 && a->status < 400) return ST_OK;
        if (answered) return ST_OK;
        if (!s) s = download_refused(a, what, t->token != NULL, &why);
        bool again = s == ST_EIO && download_passes(a->status) && try + 1 < t->tries;
        if (!again) {
            if (e) *e = why;
            return s;
        }
        double wait = download_pause(a, try);
        st_log(ST_LOG_WARN, "%s; trying again in %.3g s", why.msg, wait);
        ST_TRY(download_wait(wait, e));
    }
}

/* ---- one file -------------------------------------------------------------------------------- */

typedef struct {
    st_hub_transfer *t;
    const st_hub_file *f;
    const char *part;
    int fd;
    int64_t have; /* bytes of the part */
} download;

static st_status download_failed(const download *d, const char *what, int why, st_err *e)
{
    ST_FAIL(e, ST_EIO, "%s: %s: %s%s", d->f->name, what, strerror(why),
            why == ENOSPC || why == EDQUOT
                ? "; make room and run again, what is there already is kept"
                : "");
}

/* The server begins at `from`: what the part has beyond that goes. */
static st_status download_begin(void *ctx, int64_t from, st_err *e)
{
    download *d = ctx;
    if (from > d->have) {
        ST_FAIL(e, ST_EIO, "%s: the server begins at byte %lld, asked for %lld", d->f->name,
                (long long)from, (long long)d->have);
    }
    if (from < d->have) {
        d->t->done -= d->have - from;
        d->have = from;
        if (ftruncate(d->fd, from)) return download_failed(d, "cannot be written", errno, e);
    }
    if (lseek(d->fd, from, SEEK_SET) < 0) return download_failed(d, "cannot be written", errno, e);
    return ST_OK;
}

static st_status download_take(void *ctx, const char *data, size_t n, st_err *e)
{
    download *d = ctx;
    if (d->f->size >= 0 && (int64_t)n > d->f->size - d->have) {
        ST_FAIL(e, ST_EFORMAT, "%s: the server sends more than the %lld bytes it announced",
                d->f->name, (long long)d->f->size);
    }
    for (size_t at = 0; at < n;) {
        ssize_t done = write(d->fd, data + at, n - at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return download_failed(d, "cannot be written", errno, e);
        at += (size_t)done;
        d->have += done;
        d->t->done += done;
        d->t->fetched += done;
    }
    st_report(&(st_progress){.what = "fetch",
                             .done = d->t->done,
                             .total = d->t->total,
                             .unit = "bytes",
                             .detail = d->f->name});
    return ST_OK;
}

/* The checksum that the etag is: sha256 of the content, or git's sha1 of "blob SIZE\0" + content.
 */
static st_status download_digest(int fd, const st_hub_file *f, int64_t size, char *hex, st_err *e)
{
    st_digest *d = NULL;
    bool git = strlen(f->etag) == 40;
    char buffer[DOWNLOAD_BUFFER];
    ssize_t got = 0;
    int64_t at = 0;
    ST_TRY(st_digest_open(&d, git ? "sha1" : "sha256", e));
    int n = snprintf(buffer, sizeof buffer, "blob %lld", (long long)size);
    st_status s = git ? st_digest_add(d, buffer, (size_t)n + 1, e) : ST_OK;
    while (!s && (got = pread(fd, buffer, sizeof buffer, at)) > 0) {
        if (st_interrupted()) s = ST_ERR(e, ST_EINTR, "interrupted");
        if (!s) s = st_digest_add(d, buffer, (size_t)got, e);
        at += got;
    }
    if (!s && got < 0) s = ST_ERR(e, ST_EIO, "%s: %s", f->name, strerror(errno));
    if (!s) return st_digest_end(d, hex, e);
    st_digest_close(d);
    return s;
}

static bool download_has_sum(const st_hub_file *f)
{
    return st_hub_is_hex(f->etag, 40) || st_hub_is_hex(f->etag, 64);
}

/* Size and checksum of an open file; ST_EFORMAT says which is wrong. */
static st_status download_check(int fd, const st_hub_file *f, st_err *e)
{
    struct stat st;
    char hex[65] = "";
    if (fstat(fd, &st)) ST_FAIL(e, ST_EIO, "%s: %s", f->name, strerror(errno));
    if (f->size >= 0 && st.st_size != f->size) {
        ST_FAIL(e, ST_EFORMAT, "%s: has %lld bytes, expected %lld", f->name, (long long)st.st_size,
                (long long)f->size);
    }
    if (!download_has_sum(f)) return ST_OK;
    ST_TRY(download_digest(fd, f, st.st_size, hex, e));
    if (strcmp(hex, f->etag) == 0) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s: the checksum of what came is %.16s..., expected %.16s...", f->name,
            hex, f->etag);
}

bool st_hub_same(const char *path, const st_hub_file *f)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool same = (f->size >= 0 || download_has_sum(f)) && download_check(fd, f, NULL) == ST_OK;
    close(fd);
    return same;
}

/* The part, for this process alone. Where another one is at it, its end is waited for: *done if it
 * has put `path` in place then, and nothing is open. */
static st_status download_lock(download *d, const char *path, bool *done, st_err *e)
{
    for (bool said = false;; said = true) {
        struct stat open_one, named;
        d->fd = open(d->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (d->fd < 0) return download_failed(d, "cannot be written", errno, e);
        bool ours = flock(d->fd, LOCK_EX | LOCK_NB) == 0;
        int why = errno;
        bool same = ours && fstat(d->fd, &open_one) == 0 && stat(d->part, &named) == 0 &&
                    open_one.st_ino == named.st_ino && open_one.st_dev == named.st_dev;
        if (same) *done = said && st_path_exists(path);
        if (same && !*done) return ST_OK;
        if (*done) unlink(d->part); /* empty: made by us */
        close(d->fd);
        d->fd = -1;
        if (*done) return ST_OK;
        if (!ours && why != EWOULDBLOCK) return download_failed(d, "cannot be locked", why, e);
        if (!said)
            st_log(ST_LOG_INFO, "%s: another process is fetching it, waiting for that", d->f->name);
        ST_TRY(download_wait(ours ? 0 : 0.25, e));
    }
}

/* Opens the part and takes it for this process. */
static st_status download_open(download *d, const char *path, st_err *e)
{
    struct stat st;
    bool done = false;
    ST_TRY(download_lock(d, path, &done, e));
    if (done) {
        d->have = d->f->size;
        d->t->done += d->f->size > 0 ? d->f->size : 0;
        return ST_OK;
    }
    if (fstat(d->fd, &st)) return download_failed(d, "cannot be read", errno, e);
    d->have = st.st_size;
    if (d->have > d->f->size) { /* or the size is not known: from the start then */
        d->have = 0;
        if (ftruncate(d->fd, 0)) return download_failed(d, "cannot be written", errno, e);
    }
    struct statvfs fs;
    int64_t left = d->f->size - d->have;
    if (left > 0 && fstatvfs(d->fd, &fs) == 0 && fs.f_frsize > 0 &&
        (uint64_t)left / fs.f_frsize > (uint64_t)fs.f_bavail)
        return download_failed(d, "needs more room than the disk has", ENOSPC, e);
    d->t->done += d->have;
    return ST_OK;
}

/* One request for what is missing. *broke: the connection ended before the file did. */
static st_status download_more(download *d, const char *url, bool *broke, st_err *e)
{
    st_http_answer a;
    st_http_request r = {
        .url = url, .from = d->have, .begin = download_begin, .take = download_take, .ctx = d};
    st_status s = st_hub_request(d->t, &r, &a, d->f->name, e);
    bool missing = d->f->size >= 0 && d->have < d->f->size;
    *broke = (s == ST_EIO && a.status >= 200 && a.status < 300) || (!s && missing);
    if (s || !missing) return s;
    ST_FAIL(e, ST_EIO, "%s: the server sent %lld of %lld bytes", d->f->name, (long long)d->have,
            (long long)d->f->size);
}

/* Brings the part to its full size. Connections that break are made again, at once if they brought
 * the file further than it was, else `tries` times with pauses. */
static st_status download_fill(download *d, const char *url, st_err *e)
{
    int64_t best = d->have;
    for (int fruitless = 0; d->f->size < 0 || d->have < d->f->size;) {
        bool broke = false;
        st_err why = {0};
        st_status s = download_more(d, url, &broke, &why);
        if (!s) return ST_OK;
        fruitless = d->have > best ? 0 : fruitless + 1;
        if (!broke || fruitless >= d->t->tries) {
            if (e) *e = why;
            return s;
        }
        if (d->have > best) best = d->have;
        if (fruitless) ST_TRY(download_wait(download_backoff(fruitless - 1), e));
    }
    return ST_OK;
}

st_status st_hub_download(st_hub_transfer *t, const char *url, const st_hub_file *f,
                          const char *path, const char *part, st_err *e)
{
    download d = {.t = t, .f = f, .part = part, .fd = -1};
    st_status s = download_open(&d, path, e);
    if (!s && d.fd < 0) return ST_OK; /* another process has fetched it meanwhile */
    if (!s) s = download_fill(&d, url, e);
    if (!s) s = download_check(d.fd, f, e);
    if (s == ST_EFORMAT) { /* wrong bytes are no start for another try */
        unlink(part);
        t->done -= d.have;
    }
    if (!s && fsync(d.fd)) s = download_failed(&d, "cannot be written", errno, e);
    if (!s && rename(part, path)) s = download_failed(&d, "cannot be put in place", errno, e);
    if (d.fd >= 0) close(d.fd);
    return s;
}
