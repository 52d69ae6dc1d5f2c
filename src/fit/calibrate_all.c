/* A decomposition that looks at text: each matrix becomes the one of its type whose outputs err
 * least on it (map.h, in_cov). Plain: the statistics are those of the model as it was. Sequential:
 * matrix after matrix, each fed by those already replaced and fitted to the outputs that the model
 * as it was has there, so that later ones make up for earlier ones (map.h, in_cross). An
 * embedding's rows count by sqrt(occurrences + 1). */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "fit/calibrate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CALIBRATE_TEXT = 1 << 16 }; /* bytes of a piece of text */

/* ---- reading --------------------------------------------------------------------------------- */

static st_status calibrate_shard(const char *path, int64_t limit, int64_t run, st_ids *ids,
                                 st_err *e)
{
    st_shard shard = {0};
    ST_TRY(st_shard_open(&shard, path, e));
    int64_t n = shard.n < limit ? shard.n : limit, runs = n / run > 1 ? n / run : 1;
    if (runs > 1) n = runs * run;
    ids->id = st_calloc(n, sizeof *ids->id);
    for (int64_t k = 0; k < runs && ids->id; k++) {
        int64_t start = runs > 1 ? (shard.n - run) / (runs - 1) * k : 0, take = n / runs;
        st_shard_read(&shard, start, take, ids->id + ids->n);
        ids->n += take;
    }
    st_shard_close(&shard);
    if (!ids->id) return ST_NOMEM(e, path);
    return ST_OK;
}

static st_status calibrate_end(st_ids *ids, int32_t eos, st_err *e)
{
    if (ids->n == ids->cap) {
        int64_t cap = ids->cap + 1024;
        int32_t *id = realloc(ids->id, (size_t)cap * sizeof *id);
        if (!id) return ST_NOMEM(e, NULL);
        ids->id = id;
        ids->cap = cap;
    }
    ids->id[ids->n++] = eos;
    return ST_OK;
}

static st_status calibrate_documents(const char *path, const char *field, const st_bpe *tokenizer,
                                     int64_t limit, st_ids *ids, st_err *e)
{
    st_docs_opts o = {.field = field, .piece_bytes = CALIBRATE_TEXT};
    st_docs *d = NULL;
    int32_t eos = st_bpe_eos(tokenizer);
    size_t size;
    st_status s = st_docs_open(&d, &path, 1, &o, e);
    while (!s && ids->n < limit) {
        const char *text;
        s = st_docs_next(d, &text, &size, e);
        if (s || !text) break;
        s = st_bpe_encode(tokenizer, text, size, ids, e);
        if (!s && eos >= 0 && !st_docs_more(d)) s = calibrate_end(ids, eos, e);
        if (!s && st_interrupted()) s = ST_ERR(e, ST_EINTR, "interrupted; nothing was written");
    }
    if (ids->n > limit) ids->n = limit;
    st_docs_close(d);
    if (!s && !ids->n) s = ST_ERR(e, ST_EARG, "%s: no text in it", path);
    return s;
}

st_status st_calibrate_read(const char *path, const char *field, const st_bpe *tokenizer,
                            int64_t limit, int64_t run, st_ids *ids, st_err *e)
{
    if (st_shard_is(path) || (strpbrk(path, "*?[") && !st_path_exists(path)))
        return calibrate_shard(path, limit, run, ids, e);
    char *train = st_shard_path(path, false);
    if (!train) return ST_NOMEM(e, path);
    bool prepared = st_shard_there(train);
    st_status s = prepared ? calibrate_shard(train, limit, run, ids, e) : ST_OK;
    free(train);
    if (prepared || s) return s;
    if (!tokenizer) {
        ST_FAIL(e, ST_EARG,
                "%s: the model has no tokenizer (vocab.json and merges.txt) to read a text with; "
                "put one beside it or give a shard of tokens (.bin)",
                path);
    }
    return calibrate_documents(path, field, tokenizer, limit, ids, e);
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* c (in, in) about the means of its rows and columns. */
static void calibrate_about(float *c, const float *a, const float *b, int64_t in)
{
    for (int64_t i = 0; i < in * in; i++)
        c[i] -= a[i / in] * b[i % in];
}

/* Statistics about the means, for a bias that takes what is lost of the mean. */
static void calibrate_centre(const st_calibration_want *w)
{
    if (!w->mean) return;
    calibrate_about(w->cov, w->mean, w->mean, w->in);
    if (!w->cross) return;
    calibrate_about(w->cross, w->was_mean, w->mean, w->in);
    calibrate_about(w->was_cov, w->was_mean, w->was_mean, w->in);
}

/* Memory for what item x is to be told, in one block at w->cov. */
static st_status calibrate_want(const st_decompose_run *r, st_decompose_item *x,
                                st_calibration_want *w, st_err *e)
{
    int64_t in = x->to.in, size = in * in, sides = r->o->sequential ? 2 : 1;
    float *at = st_calloc((r->o->sequential ? 3 : 1) * size + sides * in, sizeof *at);
    if (!at) {
        ST_FAIL(e, ST_ENOMEM, "%s: no memory for the covariance of %lld inputs", x->name,
                (long long)in);
    }
    *w = (st_calibration_want){.name = x->name, .in = in, .cov = at};
    if (sides == 2) {
        w->cross = at += size;
        w->was_cov = at += size;
    }
    at += size;
    if (r->o->fit_bias && st_decompose_bias(r->to, r->to_flat, x->name).data) {
        w->mean = at;
        w->was_mean = sides == 2 ? at + in : NULL;
    }
    x->in_cov = w->cov;
    x->in_mean = w->mean;
    x->in_cross = w->cross;
    x->was_cov = w->was_cov;
    x->was_mean = w->was_mean;
    return ST_OK;
}

/* Statistics for items [first, last), which one layer has, then their projection. */
static st_status calibrate_items(st_calibration *c, st_decompose_run *r, int64_t first,
                                 int64_t last, bool advance, st_err *e)
{
    int n = (int)(last - first);
    st_calibration_want *want = st_calloc(n + 1, sizeof *want);
    if (!want) return ST_NOMEM(e, NULL);
    st_status s = ST_OK;
    for (int i = 0; i < n && !s; i++) {
        c->detail = r->item[first + i].name;
        s = calibrate_want(r, &r->item[first + i], &want[i], e);
    }
    if (!s) s = st_calibration_pass(c, r->item[first].layer, want, n, advance, e);
    for (int i = 0; i < n && !s; i++)
        calibrate_centre(&want[i]);
    if (!s) s = st_decompose_range(r, first, last, e);
    for (int i = 0; i < n; i++) {
        free(want[i].cov);
        st_decompose_item *x = &r->item[first + i];
        x->in_cov = x->in_mean = x->in_cross = x->was_cov = x->was_mean = NULL;
    }
    free(want);
    return s;
}

/* The replaced matrix takes its place in the model that the text goes through. */
static st_status calibrate_replace(st_calibration *c, const st_decompose_run *r,
                                   const st_decompose_item *x, st_err *e)
{
    st_theta t = st_decompose_theta(r->to, r->to_flat, x->name);
    float *w = st_calloc(x->to.in * x->to.out, sizeof *w);
    if (!w) return ST_NOMEM(e, x->name);
    st_status s = st_map_expand(&x->to, &t, st_view2(w, ST_F32, x->to.out, x->to.in), e);
    if (!s) {
        st_calibration_put(c, x->name, w, st_decompose_bias(r->to, r->to_flat, x->name).data);
    }
    free(w);
    return s;
}

static st_status calibrate_layer(st_calibration *c, st_decompose_run *r, int64_t layer,
                                 int64_t first, int64_t last, st_err *e)
{
    if (!r->o->sequential && first < last) return calibrate_items(c, r, first, last, true, e);
    for (int64_t i = first; i < last; i++) {
        ST_TRY(calibrate_items(c, r, i, i + 1, false, e));
        ST_TRY(calibrate_replace(c, r, &r->item[i], e));
    }
    return layer < c->layers ? st_calibration_pass(c, layer, NULL, 0, true, e) : ST_OK;
}

/* Embeddings: rows by their tokens' counts. */
static st_status calibrate_embeddings(st_calibration *c, st_decompose_run *r, int64_t count,
                                      st_err *e)
{
    if (count == 0) return ST_OK;
    float *weight = st_calibration_counts(c);
    if (!weight) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < c->vocab; i++)
        weight[i] = sqrtf(weight[i] + 1.0f);
    for (int64_t i = 0; i < count; i++)
        r->item[i].out_weight = weight;
    st_status s = st_decompose_range(r, 0, count, e);
    for (int64_t i = 0; i < count; i++) {
        r->item[i].out_weight = NULL;
        if (!s && r->o->sequential) s = calibrate_replace(c, r, &r->item[i], e);
    }
    free(weight);
    return s;
}

static int calibrate_compare(const void *a, const void *b)
{
    const st_decompose_item *x = a, *y = b;
    if (x->layer != y->layer) return x->layer < y->layer ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

static st_status calibrate_layers(st_calibration *c, st_decompose_run *r, st_err *e)
{
    ST_TRY(st_calibration_order(c, r, e));
    qsort(r->item, (size_t)r->n, sizeof *r->item, calibrate_compare);
    int64_t first = 0, top = r->n ? r->item[r->n - 1].layer : -1;
    while (first < r->n && r->item[first].layer < 0)
        first++;
    int64_t passes = top + 1 + (r->o->sequential ? r->n - first : 0);
    c->total = passes * c->sequences * c->len;
    ST_TRY(calibrate_embeddings(c, r, first, e));
    for (int64_t layer = 0, last; layer <= top; layer++, first = last) {
        for (last = first; last < r->n && r->item[last].layer == layer;)
            last++;
        ST_TRY(calibrate_layer(c, r, layer, first, last, e));
    }
    return ST_OK;
}

st_status st_calibrate_all(st_decompose_run *r, st_err *e)
{
    st_calibration c = {0};
    st_status s =
        st_calibration_open(&c, r->from, r->flat, r->o->ids, r->o->nids, 0, r->o->sequential, e);
    if (!s) {
        st_log(ST_LOG_INFO, "calibration: %lld tokens in sequences of %lld, %.1f MiB kept of them",
               (long long)(c.sequences * c.len), (long long)c.len,
               (double)(st_bytes(c.now.hidden) + st_bytes(c.was.hidden)) / 1048576.0);
        s = calibrate_layers(&c, r, e);
    }
    st_calibration_close(&c);
    if (!s) st_decompose_done(r);
    return s;
}

/* ---- hidden units ---------------------------------------------------------------------------- */

typedef struct {
    const st_slot *slot; /* the layer's */
    double *sum;         /* (layers, in), made when the first is seen */
    int64_t in, layer, layers;
    float *x; /* host */
    int64_t cap;
} calibrate_units;

static void calibrate_square(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    calibrate_units *u = ctx;
    if (strcmp(matrix, u->slot->name) != 0) return;
    int64_t in = x.dim[1], size = st_numel(x);
    if (!u->sum) {
        u->in = in;
        u->sum = st_calloc(u->layers * in, sizeof *u->sum);
    }
    if (u->cap < size) {
        free(u->x);
        u->x = st_calloc(size, sizeof *u->x);
        u->cap = u->x ? size : 0;
    }
    if (!u->sum || !u->x || in != u->in || st_stream_sync(q, NULL)) {
        st_stream_latch(q, ST_ENOMEM, "calibrate", "no memory for the hidden units");
        return;
    }
    st_download(q, u->x, x);
    for (int64_t i = 0; i < size; i++)
        u->sum[u->layer * in + i % in] += (double)u->x[i] * (double)u->x[i];
}

st_status st_calibrate_squares(const st_model *m, const float *flat, const int32_t *ids, int64_t n,
                               float **out, st_err *e)
{
    st_calibration c = {0};
    *out = NULL;
    st_status s = st_calibration_open(&c, m, flat, ids, n, 0, false, e);
    calibrate_units u = {.layers = c.layers};
    c.total = c.layers * c.sequences * c.len;
    if (!s) st_model_tap(c.now.m, calibrate_square, &u);
    for (; u.layer < c.layers && !s; u.layer++) {
        u.slot = st_model_role(c.now.m, ST_ROLE_MLP_OUT, u.layer);
        c.detail = u.slot->name;
        s = st_calibration_pass(&c, u.layer, NULL, 0, true, e);
    }
    if (!s) *out = st_calloc(u.layers * u.in, sizeof **out);
    if (!s && !*out) s = ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < u.layers * u.in && !s; i++)
        (*out)[i] = (float)(u.sum[i] / (double)(c.sequences * c.len));
    st_calibration_close(&c);
    free(u.sum);
    free(u.x);
    return s;
}
