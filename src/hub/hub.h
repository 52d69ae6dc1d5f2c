/* hub: HTTP, digests, the Hub of models and its cache. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_HUB_H
#define ST_HUB_H

#include "base/base.h"

/* ---- HTTP (http.c over libcurl) and digests (digest.c over libcrypto) ------------------------ */

typedef struct {
    const char *url;   /* http:// or https:// */
    const char *token; /* bearer token, sent to the URL's own host only; may be NULL */
    bool head;         /* headers only, redirects not followed */
    int64_t from;      /* the bytes from here on (Range); 0: all */
    int64_t stall;     /* seconds without a byte after which it fails; 0: 30 */
    /* The body, as it comes. An error ends the transfer. Not called for answers other than 2xx. */
    st_status (*take)(void *ctx, const char *data, size_t n, st_err *e);
    /* Before the first byte of the body, which begins at byte `from` of the file; may be NULL. */
    st_status (*begin)(void *ctx, int64_t from, st_err *e);
    void *ctx;
} st_http_request;
typedef struct {
    int status;                              /* 200, 404, ...; 0: no answer */
    int64_t length;                          /* of the whole file, -1: not said */
    int64_t retry_after;                     /* seconds; 0: not said */
    char etag[160], commit[160], error[160]; /* ETag, X-Repo-Commit, X-Error-Code; of the first
                                       answer that has them, X-Linked-Etag before ETag */
    char host[128];                          /* that answered last */
} st_http_answer;
/* One GET or HEAD; up to 10 redirects, never from https to http. ST_OK for every answer, whatever
 * its status; ST_EIO: none came, or not all of it (answer->status is then 0 or that of the part),
 * ST_EINTR after Ctrl-C. */
st_status st_http(const st_http_request *r, st_http_answer *answer, st_err *e);
/* `text` with all but letters, digits and -._~ (and '/', if `slash`) as %XX; new memory or NULL. */
char *st_url_escape(const char *text, bool slash);

typedef struct st_digest st_digest;
st_status st_digest_open(st_digest **out, const char *name, st_err *e); /* "sha256", "sha1" */
st_status st_digest_add(st_digest *d, const void *data, size_t n, st_err *e);
/* In hexadecimal, NUL-terminated; `hex` has 65 bytes. Closes. */
st_status st_digest_end(st_digest *d, char *hex, st_err *e);
void st_digest_close(st_digest *d);

/* ---- the Hub (fetch.c, cache.c) -------------------------------------------------------------- */

typedef struct {
    const char *revision;     /* NULL: "main" */
    bool dataset;             /* else a model */
    const char *const *files; /* names or globs; none: what strut reads of a model, all of a data
                                 set */
    int nfiles;
    const char *to; /* a folder for plain files; NULL: the Hub's cache */
    int64_t tries;  /* of a request that fails in a way that passes; 0: 5 */
} st_fetch_opts;
/* Downloads files of "NAME" or "ORG/NAME" (with "@REVISION" or o->revision) from $HF_ENDPOINT into
 * the cache that huggingface_hub reads ($HF_HUB_CACHE, $HF_HOME/hub), or into a folder. Files that
 * are there are not fetched again, part of one is gone on with; sizes and checksums are verified.
 * HF_HUB_OFFLINE=1: only what is in the cache. Result: repo, revision, commit, folder, files
 * [{name, path, bytes, fetched}], bytes, fetched (bytes), seconds. */
st_status st_fetch(const char *repo, const st_fetch_opts *o, json_t **result, st_err *e);
/* Where the cache has a file of a repository; new memory, or NULL. */
char *st_hub_find(const char *repo, bool dataset, const char *revision, const char *file);

#endif
