/* Statistics of what matrices are fed: C = E[x^T x] over the tokens of a text. The text goes
 * through the model one layer at a time, its residual stream kept between layers, so that only the
 * covariances of one layer exist at once and each layer is computed once more at most for each of
 * its matrices; where the model is replaced bit by bit, piece by piece of the text beside the model
 * as it was, for what the same token feeds a matrix in both. Sums are float32: over 10^5 tokens
 * they are off by 10^-5 of the diagonal at worst, the ridge of a weighted projection is 10^-2 of
 * it. */
/* Long: one pass over one state; only its order would stand elsewhere. */
/* SPDX-License-Identifier: MIT */
#include "fit/calibrate.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CALIBRATE_ROWS = 2048, /* tokens at a time */
    CALIBRATE_TILE = 512   /* columns of C at a time, of which only those below are computed */
};

/* ---- the model ------------------------------------------------------------------------------- */

typedef struct {
    const st_model *from, *to;
    const float *from_flat;
    float *to_flat;
    st_status status;
    st_err *e;
} calibrate_copy;

static void calibrate_param(void *ctx, const st_param *p)
{
    calibrate_copy *c = ctx;
    st_tensor old = st_decompose_find(c->from, c->from_flat, p->name);
    if (old.data && st_numel(old) == st_numel(p->w))
        memcpy(c->to_flat + p->offset, old.data, st_bytes(old));
}

static void calibrate_matrix(void *ctx, const char *name, const st_spec *spec)
{
    calibrate_copy *c = ctx;
    if (c->status || spec->type == &st_map_dense) return;
    st_theta old = st_decompose_theta(c->from, c->from_flat, name);
    st_theta new = st_decompose_theta(c->to, c->to_flat, name);
    c->status = st_map_expand(spec, &old, new.p[0], c->e);
}

/* The same model with dense matrices, on the device. */
static st_status calibrate_model(st_stream *q, st_calibration_side *side, const st_model *m,
                                 const float *flat, st_err *e)
{
    json_t *config = st_model_config(m);
    json_object_del(config, "strut"); /* every matrix dense */
    st_status s = st_model_open(&side->m, config, e);
    json_decref(config);
    ST_TRY(s);
    int64_t n = st_model_elements(side->m);
    calibrate_copy copy = {.from = m, .to = side->m, .from_flat = flat, .e = e};
    copy.to_flat = st_calloc(n, sizeof(float));
    if (!copy.to_flat) ST_FAIL(e, ST_ENOMEM, "out of memory: %lld weights", (long long)n);
    st_model_params(side->m, calibrate_param, &copy);
    st_model_matrices(m, calibrate_matrix, &copy);
    s = copy.status;
    if (!s) s = st_device_arena(q, (size_t)n * sizeof(float) + ST_ALIGN, &side->weights, e);
    if (!s) {
        st_tensor all = st_take1(&side->weights, ST_F32, n);
        st_upload(q, all, copy.to_flat);
        st_model_bind(side->m, all, (st_tensor){0});
    }
    free(copy.to_flat);
    return s;
}

/* ---- the text -------------------------------------------------------------------------------- */

static st_status calibrate_memory(st_calibration *c, st_err *e)
{
    int64_t rows = c->sequences * c->len, chunk = c->batch * c->len, sides = c->was.m ? 2 : 1;
    float there = 0.0f;
    st_lm_args a = {.batch = c->batch,
                    .len = c->len,
                    .targets = st_view2(&there, ST_I32, c->batch, c->len),
                    .loss = st_view1(&there, ST_F32, chunk)};
    size_t bytes = 0;
    ST_TRY(st_model_plan(c->now.m, c->q, ST_F32, &a, false, &bytes, NULL, e));
    bytes += (size_t)((sides * rows + chunk) * c->width + rows + chunk) * sizeof(float);
    bytes += 8 * ST_ALIGN;
    ST_TRY(st_device_arena(c->q, bytes, &c->mem, e));
    c->ids = st_take2(&c->mem, ST_I32, c->sequences, c->len);
    c->now.hidden = st_take2(&c->mem, ST_F32, rows, c->width);
    if (c->was.m) c->was.hidden = st_take2(&c->mem, ST_F32, rows, c->width);
    c->chunk = st_take2(&c->mem, ST_F32, chunk, c->width);
    c->loss = st_take1(&c->mem, ST_F32, chunk);
    return ST_OK;
}

st_status st_calibration_open(st_calibration *c, const st_model *m, const float *flat,
                              const int32_t *ids, int64_t n, int64_t len, bool beside, st_err *e)
{
    st_lm_shape lm = st_model_lm(m);
    *c = (st_calibration){.layers = lm.layers, .width = lm.width, .vocab = lm.vocab};
    if (n < 1) ST_FAIL(e, ST_EARG, "the calibration text is empty");
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < lm.vocab) continue;
        ST_FAIL(e, ST_EFORMAT, "calibration: token %lld is id %ld, the model's vocabulary has %lld",
                (long long)i, (long)ids[i], (long long)lm.vocab);
    }
    len = len && len < lm.context ? len : lm.context;
    c->len = n < len ? n : len;
    c->sequences = n / c->len;
    c->batch = CALIBRATE_ROWS / c->len > 1 ? CALIBRATE_ROWS / c->len : 1;
    if (c->batch > c->sequences) c->batch = c->sequences;
    ST_TRY(st_stream_open(&c->q, NULL, 0, e));
    ST_TRY(calibrate_model(c->q, &c->now, m, flat, e));
    if (beside) ST_TRY(calibrate_model(c->q, &c->was, m, flat, e));
    ST_TRY(calibrate_memory(c, e));
    st_upload(c->q, c->ids, ids);
    return ST_OK;
}

void st_calibration_close(st_calibration *c)
{
    if (c->q) {
        st_device_arena_close(c->q, &c->mem);
        st_device_arena_close(c->q, &c->now.weights);
        st_device_arena_close(c->q, &c->was.weights);
    }
    st_model_close(c->now.m);
    st_model_close(c->was.m);
    st_stream_close(c->q);
    *c = (st_calibration){0};
}

float *st_calibration_counts(const st_calibration *c)
{
    int64_t n = c->sequences * c->len;
    float *counts = st_calloc(c->vocab, sizeof *counts);
    int32_t *ids = st_calloc(n, sizeof *ids);
    if (counts && ids) st_download(c->q, ids, c->ids);
    for (int64_t i = 0; i < n && counts && ids; i++)
        counts[ids[i]] += 1.0f;
    if (!ids) {
        free(counts);
        counts = NULL;
    }
    free(ids);
    return counts;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* The sums of one matrix on the device, and the rows that one piece of the text fed it in the model
 * as it was. */
typedef struct {
    st_tensor cov, mean, cross, was_cov, was_mean, rows;
    int64_t at; /* of rows: how far this piece has got */
} calibrate_sum;

typedef struct {
    const st_calibration_want *want;
    calibrate_sum *sum;
    int n;
} calibrate_sums;

/* sum += x^T x, of which the tiles on and below the diagonal, mean += x added up. */
static void calibrate_square_sum(st_stream *q, st_tensor x, int64_t in, st_tensor sum,
                                 st_tensor mean)
{
    st_stream_ops(q)->bias_grad(
        q, &(st_bias_grad_args){.rows = x.dim[0], .width = in, .dy = x, .dbias = mean});
    for (int64_t at = 0; at < in; at += CALIBRATE_TILE) {
        int64_t below = in - at, cols = below < CALIBRATE_TILE ? below : CALIBRATE_TILE;
        st_tensor from = st_slice(x, at, st_numel(x) - at);
        st_stream_ops(q)->gemm(
            q, &(st_gemm_args){.m = below,
                               .n = cols,
                               .k = x.dim[0],
                               .ta = 1,
                               .lda = in,
                               .ldb = in,
                               .ldc = in,
                               .a = from,
                               .b = from,
                               .c = st_slice(sum, at * in + at, in * in - at * in - at),
                               .beta = 1.0f});
    }
}

/* Tap of the model as it was: adds up its rows and keeps them for calibrate_add. */
static void calibrate_keep(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    const calibrate_sums *s = ctx;
    for (int i = 0; i < s->n; i++) {
        calibrate_sum *u = &s->sum[i];
        if (!u->rows.data || strcmp(s->want[i].name, matrix) != 0) continue;
        assert(u->at + x.dim[0] <= u->rows.dim[0]);
        st_tensor to = st_rows(u->rows, u->at, x.dim[0]);
        st_stream_ops(q)->copy(q, &(st_copy_args){.x = x, .y = to});
        u->at += x.dim[0];
        calibrate_square_sum(q, to, s->want[i].in, u->was_cov, u->was_mean);
    }
}

static void calibrate_add(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    const calibrate_sums *s = ctx;
    for (int i = 0; i < s->n; i++) {
        calibrate_sum *u = &s->sum[i];
        int64_t in = s->want[i].in;
        if (strcmp(s->want[i].name, matrix) != 0) continue;
        assert(st_numel(x) == x.dim[0] * in);
        calibrate_square_sum(q, x, in, u->cov, u->mean);
        if (!u->rows.data) continue;
        st_stream_ops(q)->gemm(q, &(st_gemm_args){.m = in,
                                                  .n = in,
                                                  .k = x.dim[0],
                                                  .ta = 1,
                                                  .lda = in,
                                                  .ldb = in,
                                                  .ldc = in,
                                                  .a = st_rows(u->rows, u->at, x.dim[0]),
                                                  .b = x,
                                                  .c = u->cross,
                                                  .beta = 1.0f});
        u->at += x.dim[0];
    }
}

/* A sum on the device -> its mean on the host. */
static void calibrate_take(const st_calibration *c, float *to, st_tensor sum)
{
    float scale = 1.0f / (float)(c->sequences * c->len);
    if (!to || !sum.data) return;
    st_download(c->q, to, sum);
    for (int64_t i = 0; i < st_numel(sum); i++)
        to[i] *= scale;
}

static void calibrate_mirror(float *cov, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++)
            cov[j * n + i] = cov[i * n + j];
    }
}

static void calibrate_take_all(const st_calibration *c, const st_calibration_want *w,
                               const calibrate_sum *u)
{
    calibrate_take(c, w->cov, u->cov);
    calibrate_take(c, w->mean, u->mean);
    calibrate_mirror(w->cov, w->in);
    if (!w->cross) return;
    calibrate_take(c, w->cross, u->cross);
    calibrate_take(c, w->was_cov, u->was_cov);
    calibrate_take(c, w->was_mean, u->was_mean);
    calibrate_mirror(w->was_cov, w->in);
}

static void calibrate_run(st_calibration *c, st_calibration_side *side, int64_t layer,
                          int64_t first, int64_t count, bool advance)
{
    int64_t rows = count * c->len, at = first * c->len;
    st_tensor x = st_rows(side->hidden, at, rows);
    if (!advance) {
        st_tensor copy = st_rows(c->chunk, 0, rows);
        if (layer) st_stream_ops(c->q)->copy(c->q, &(st_copy_args){.x = x, .y = copy});
        x = copy;
    }
    bool head = layer == c->layers;
    st_tensor ids = st_slice(c->ids, at, rows);
    st_lm_args a = {.batch = count,
                    .len = c->len,
                    .ids = ids,
                    .hidden = x,
                    .first = layer,
                    .blocks = head ? 0 : 1,
                    .targets = head ? ids : (st_tensor){0},
                    .loss = head ? st_slice(c->loss, 0, rows) : (st_tensor){0}};
    st_model_forward(side->m, c->q, &a, &c->mem);
}

static st_status calibrate_text(st_calibration *c, int64_t layer, const calibrate_sums *sums,
                                bool advance, st_err *e)
{
    for (int64_t i = 0; i < c->sequences; i += c->batch) {
        int64_t count = c->sequences - i < c->batch ? c->sequences - i : c->batch;
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
        for (int now = c->was.m ? 0 : 1; now < 2; now++) {
            for (int k = 0; k < sums->n; k++)
                sums->sum[k].at = 0;
            calibrate_run(c, now ? &c->now : &c->was, layer, i, count, advance);
        }
        ST_TRY(st_stream_sync(c->q, e));
        c->done += count * c->len;
        st_report(&(st_progress){.what = "calibrate",
                                 .done = c->done,
                                 .total = c->total,
                                 .unit = "tokens",
                                 .detail = c->detail});
    }
    return ST_OK;
}

static size_t calibrate_bytes(const st_calibration *c, const st_calibration_want *w)
{
    int64_t numbers = (w->in + 1) * w->in;
    if (w->cross) numbers += numbers + (w->in + c->batch * c->len) * w->in;
    return (size_t)numbers * sizeof(float) + 6 * ST_ALIGN;
}

static st_tensor calibrate_zero(st_stream *q, st_tensor x)
{
    st_stream_ops(q)->fill(q, &(st_fill_args){.x = x});
    return x;
}

static void calibrate_carve(const st_calibration *c, const st_calibration_want *w, st_arena *mem,
                            calibrate_sum *u)
{
    u->cov = calibrate_zero(c->q, st_take2(mem, ST_F32, w->in, w->in));
    u->mean = calibrate_zero(c->q, st_take1(mem, ST_F32, w->in));
    if (!w->cross) return;
    u->cross = calibrate_zero(c->q, st_take2(mem, ST_F32, w->in, w->in));
    u->was_cov = calibrate_zero(c->q, st_take2(mem, ST_F32, w->in, w->in));
    u->was_mean = calibrate_zero(c->q, st_take1(mem, ST_F32, w->in));
    u->rows = st_take2(mem, ST_F32, c->batch * c->len, w->in);
}

st_status st_calibration_pass(st_calibration *c, int64_t layer, st_calibration_want *want, int n,
                              bool advance, st_err *e)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        assert(!want[i].cross || (c->was.m && want[i].was_cov));
        bytes += calibrate_bytes(c, &want[i]);
    }
    st_arena mem = {0};
    calibrate_sums sums = {.want = want, .sum = st_calloc(n + 1, sizeof *sums.sum), .n = n};
    if (!sums.sum) return ST_NOMEM(e, NULL);
    st_status s = bytes ? st_device_arena(c->q, bytes, &mem, e) : ST_OK;
    for (int i = 0; i < n && !s; i++)
        calibrate_carve(c, &want[i], &mem, &sums.sum[i]);
    if (n) st_model_tap(c->now.m, calibrate_add, &sums);
    if (n && c->was.m) st_model_tap(c->was.m, calibrate_keep, &sums);
    if (!s) s = calibrate_text(c, layer, &sums, advance, e);
    if (n) st_model_tap(c->now.m, NULL, NULL);
    if (n && c->was.m) st_model_tap(c->was.m, NULL, NULL);
    for (int i = 0; i < n && !s; i++)
        calibrate_take_all(c, &want[i], &sums.sum[i]);
    st_device_arena_close(c->q, &mem);
    free(sums.sum);
    return s;
}

typedef struct {
    const char *name;
    st_tensor w, bias;
} calibrate_find;

static void calibrate_found(void *ctx, const st_param *p)
{
    calibrate_find *f = ctx;
    if (!p->matrix || strcmp(p->matrix, f->name) != 0) return;
    *(p->flags & ST_P_BIAS ? &f->bias : &f->w) = p->w;
}

void st_calibration_put(st_calibration *c, const char *name, const float *w, const float *bias)
{
    calibrate_find f = {.name = name};
    st_model_params(c->now.m, calibrate_found, &f);
    if (f.w.data) st_upload(c->q, f.w, w);
    if (f.bias.data && bias) st_upload(c->q, f.bias, bias);
}

/* ---- order ----------------------------------------------------------------------------------- */

typedef struct {
    st_decompose_run *r;
    int64_t layer, place;
} calibrate_order;

static void calibrate_note(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    calibrate_order *o = ctx;
    (void)q, (void)x;
    for (int64_t i = 0; i < o->r->n; i++) {
        st_decompose_item *item = &o->r->item[i];
        if (strcmp(item->name, matrix) != 0) continue;
        item->layer = o->layer;
        item->place = o->place++;
    }
}

/* One token through every layer, watching whose turn it is. */
st_status st_calibration_order(st_calibration *c, st_decompose_run *r, st_err *e)
{
    calibrate_order o = {.r = r};
    int64_t len = c->len;
    for (int64_t i = 0; i < r->n; i++)
        r->item[i].layer = -1;
    c->len = 1;
    st_model_tap(c->now.m, calibrate_note, &o);
    for (o.layer = 0; o.layer <= c->layers; o.layer++)
        calibrate_run(c, &c->now, o.layer, 0, 1, true);
    st_model_tap(c->now.m, NULL, NULL);
    c->len = len;
    return st_stream_sync(c->q, e);
}
