/* hub: names, places and the cache of the Hugging Face Hub. Inside hub only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_HUB_INNER_H
#define ST_HUB_INNER_H

#include "hub/hub.h"

/* A repository at a revision. */
typedef struct {
    char *id, *revision; /* "org/name" or "name"; a branch, tag or commit */
    bool dataset;
    char *folder; /* CACHE/models--org--name */
} st_hub_repo;

/* "ORG/NAME[@REVISION]"; names that the Hub does not allow are refused, so that they can stand in
 * paths and URLs. */
st_status st_hub_open(st_hub_repo *out, const char *name, bool dataset, const char *revision,
                      st_err *e);
void st_hub_close(st_hub_repo *r);
/* $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
 * ~/.cache/huggingface/hub; new memory. */
char *st_hub_cache(void);
bool st_hub_offline(void); /* HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE */
/* $HF_TOKEN, $HUGGING_FACE_HUB_TOKEN, or the token file; new memory, NULL: none. */
char *st_hub_token(void);
/* The commit that a revision was last seen at (refs/REVISION, or itself if it is one); new memory,
 * NULL: not in the cache. */
char *st_hub_commit(const st_hub_repo *r);
/* Is it a relative path below its folder: no "..", no empty parts, no control characters? */
bool st_hub_is_path(const char *file);
bool st_hub_is_hex(const char *s, size_t n); /* n hexadecimal digits and nothing else */

/* One file of a repository. */
typedef struct {
    const char *name;
    char etag[96]; /* name of its blob: sha256 (LFS) or git's sha1 */
    int64_t size;  /* -1: not known */
} st_hub_file;
/* Makes CACHE/.../snapshots/COMMIT/NAME a relative link to the blob. */
st_status st_hub_link(const st_hub_repo *r, const char *commit, const st_hub_file *f, st_err *e);
/* Writes refs/REVISION, unless the revision is the commit. */
st_status st_hub_ref(const st_hub_repo *r, const char *commit, st_err *e);

/* ---- download.c: one file -------------------------------------------------------------------- */

typedef struct {
    const char *token;
    int64_t stall;       /* seconds without a byte */
    int tries;           /* of a request */
    int64_t done, total; /* bytes of all files, for progress */
    int64_t fetched;     /* bytes that came over the network */
} st_hub_transfer;
/* A GET or HEAD that is tried again after failures that pass (no connection, 408, 429, 5xx). Any
 * other answer than 2xx is an error that says what to do. `what` names it in messages. */
st_status st_hub_request(st_hub_transfer *t, st_http_request *r, st_http_answer *a,
                         const char *what, st_err *e);
/* Brings a file to `path`, by way of `part`, which is gone on with if it is there. Size and, where
 * the etag is a checksum, content are verified before `path` appears. */
st_status st_hub_download(st_hub_transfer *t, const char *url, const st_hub_file *f,
                          const char *path, const char *part, st_err *e);
/* Whether `path` is that file: size, and checksum if it has one. */
bool st_hub_same(const char *path, const st_hub_file *f);

#endif
