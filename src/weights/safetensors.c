/* Reading safetensors files: u64 header length, JSON header, then the tensors' bytes without gaps.
 */
/* SPDX-License-Identifier: MIT */
#include "weights/safetensors.h"
#include "weights/container.h"
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian; conversion is not written"
#endif

/* The reference implementation's limit of the header. */
#define HEADER_MAX 100000000u

/* What the rows' names and the metadata lie in. */
typedef struct {
    char *text;
    st_header header; /* its tensors have become rows */
} safetensors_own;

static bool safetensors_probe(const st_weights_look *l)
{
    return l->head[8] == '{';
}

static int safetensors_by_offset(const void *a, const void *b)
{
    const st_stored *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty ones first */
    return strcmp(x->name, y->name);
}

static int safetensors_by_key(const void *a, const void *b)
{
    return strcmp(((const st_header_meta *)a)->key, ((const st_header_meta *)b)->key);
}

/* Reads the header's text; *n its length. */
static st_status safetensors_header(st_weights *w, safetensors_own *own, size_t *n, st_err *e)
{
    uint64_t length;
    ST_TRY(st_weights_pread(w, &length, 8, 0, e));
    if (length > HEADER_MAX) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: header of %llu bytes, at most %u are legal; it is no file of tensors that is "
                "known, or damaged: get it again",
                w->path, (unsigned long long)length, HEADER_MAX);
    }
    if ((int64_t)length > w->size - 8) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: truncated: header of %llu bytes, but only %lld are there; get "
                "the file again",
                w->path, (unsigned long long)length, (long long)w->size - 8);
    }
    own->text = malloc((size_t)length + 1);
    if (!own->text) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its header", w->path);
    *n = (size_t)length;
    return st_weights_pread(w, own->text, *n, 8, e);
}

/* The tensors' bytes must follow each other without holes, from `start` to the end of the file;
 * their offsets become those in the file. */
static st_status safetensors_ranges(st_weights *w, int64_t start, st_err *e)
{
    if (w->n) qsort(w->row, (size_t)w->n, sizeof *w->row, safetensors_by_offset);
    int64_t end = 0;
    for (int64_t i = 0; i < w->n; i++) {
        st_stored *t = &w->row[i];
        if (t->offset != end) {
            ST_FAIL(e, ST_EFORMAT,
                    "%s: tensor %.100s begins at byte %lld of the data, expected "
                    "%lld (%s); the file is damaged",
                    w->path, t->name, (long long)t->offset, (long long)end,
                    t->offset > end ? "a hole" : "an overlap");
        }
        end += (int64_t)t->bytes;
        t->offset += start;
        st_stored_pack(t);
    }
    if (end != w->size - start) {
        ST_FAIL(e, ST_EFORMAT, "%s: %lld bytes of tensors, but the header describes %lld; %s",
                w->path, (long long)(w->size - start), (long long)end,
                end > w->size - start ? "it is truncated: get it again" : "it has a foreign tail");
    }
    return ST_OK;
}

static st_status safetensors_metadata(const st_weights *w, st_header *h, st_err *e)
{
    if (h->n_meta) qsort(h->meta, (size_t)h->n_meta, sizeof *h->meta, safetensors_by_key);
    for (int64_t i = 1; i < h->n_meta; i++) {
        if (strcmp(h->meta[i - 1].key, h->meta[i].key)) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: __metadata__ has %.100s twice", w->path, h->meta[i].key);
    }
    return ST_OK;
}

static st_status safetensors_open(st_weights *w, st_err *e)
{
    safetensors_own *own = st_calloc(1, sizeof *own);
    size_t n = 0;
    w->own = own;
    if (!own) return ST_NOMEM(e, w->path);
    ST_TRY(safetensors_header(w, own, &n, e));
    ST_TRY(st_header_parse(&own->header, own->text, n, w->path, e));
    w->row = own->header.tensor;
    w->n = own->header.n;
    own->header.tensor = NULL;
    ST_TRY(safetensors_ranges(w, 8 + (int64_t)n, e));
    return safetensors_metadata(w, &own->header, e);
}

static void safetensors_close(st_weights *w)
{
    safetensors_own *own = w->own;
    if (!own) return;
    st_header_free(&own->header);
    free(own->text);
    free(own);
}

static const char *safetensors_meta(const st_weights *w, const char *key)
{
    const st_header *h = &((const safetensors_own *)w->own)->header;
    const st_header_meta k = {.key = key};
    const st_header_meta *at =
        h->n_meta ? bsearch(&k, h->meta, (size_t)h->n_meta, sizeof k, safetensors_by_key) : NULL;
    return at ? at->value : NULL;
}

const st_container st_container_safetensors = {
    .name = "safetensors",
    .probe = safetensors_probe,
    .open = safetensors_open,
    .meta = safetensors_meta,
    .close = safetensors_close,
};
