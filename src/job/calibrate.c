/* Statistics of what matrices are fed: C = E[x^T x] over the tokens of a text. The text goes
 * through the model one layer at a time, its residual stream kept between layers, so that only the
 * covariances of one layer exist at once and each layer is computed once more at most for each of
 * its matrices. Sums are float32: over 10^5 tokens they are off by 10^-5 of the diagonal at worst,
 * the ridge of a weighted projection is 10^-2 of it. */
/* SPDX-License-Identifier: MIT */
#include "job/calibrate.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CALIBRATE_ROWS = 2048, /* tokens at a time */
    CALIBRATE_TILE = 512   /* columns of C at a time, of which only those below are computed */
};

/* ---- the model ------------------------------------------------------------------------------ */

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
static st_status calibrate_model(st_calibration *c, const st_model *m, const float *flat, st_err *e)
{
    const char *const dense[] = {"*=dense", "wte=dense"};
    json_t *config = NULL;
    st_status s = st_model_remap(m, dense, 2, NULL, 0, &config, e);
    if (!s) s = st_model_open(&c->m, config, e);
    json_decref(config);
    ST_TRY(s);
    int64_t n = st_model_elements(c->m);
    calibrate_copy copy = {.from = m, .to = c->m, .from_flat = flat, .e = e};
    copy.to_flat = st_calloc(n, sizeof(float));
    if (!copy.to_flat) ST_FAIL(e, ST_ENOMEM, "out of memory: %lld weights", (long long)n);
    st_model_params(c->m, calibrate_param, &copy);
    st_model_matrices(m, calibrate_matrix, &copy);
    s = copy.status;
    if (!s) s = st_device_arena(c->q, (size_t)n * sizeof(float) + ST_ALIGN, &c->weights, e);
    if (!s) {
        c->flat = st_take1(&c->weights, ST_F32, n);
        st_upload(c->q, c->flat, copy.to_flat);
        st_model_bind(c->m, c->flat, (st_tensor){0});
    }
    free(copy.to_flat);
    return s;
}

/* ---- the text ------------------------------------------------------------------------------- */

static st_status calibrate_memory(st_calibration *c, st_err *e)
{
    int64_t rows = c->sequences * c->len, chunk = c->batch * c->len;
    float there = 0.0f;
    st_lm_args a = {.batch = c->batch,
                    .len = c->len,
                    .targets = st_view2(&there, ST_I32, c->batch, c->len),
                    .loss = st_view1(&there, ST_F32, chunk)};
    size_t bytes = 0;
    ST_TRY(st_model_plan(c->m, c->q, ST_F32, &a, false, &bytes, NULL, e));
    bytes += (size_t)((rows + chunk) * c->width + rows + chunk) * sizeof(float) + 8 * ST_ALIGN;
    ST_TRY(st_device_arena(c->q, bytes, &c->mem, e));
    c->ids = st_take2(&c->mem, ST_I32, c->sequences, c->len);
    c->hidden = st_take2(&c->mem, ST_F32, rows, c->width);
    c->chunk = st_take2(&c->mem, ST_F32, chunk, c->width);
    c->loss = st_take1(&c->mem, ST_F32, chunk);
    return ST_OK;
}

st_status st_calibration_open(st_calibration *c, const st_model *m, const float *flat,
                              const int32_t *ids, int64_t n, st_err *e)
{
    st_lm_shape lm = st_model_lm(m);
    *c = (st_calibration){.layers = lm.layers, .width = lm.width, .vocab = lm.vocab};
    if (n < 1) ST_FAIL(e, ST_EARG, "the calibration text is empty");
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < lm.vocab) continue;
        ST_FAIL(e, ST_EFORMAT, "calibration: token %lld is id %ld, the model's vocabulary has %lld",
                (long long)i, (long)ids[i], (long long)lm.vocab);
    }
    c->len = n < lm.context ? n : lm.context;
    c->sequences = n / c->len;
    c->batch = CALIBRATE_ROWS / c->len > 1 ? CALIBRATE_ROWS / c->len : 1;
    if (c->batch > c->sequences) c->batch = c->sequences;
    ST_TRY(st_stream_open(&c->q, "cpu", 0, e));
    ST_TRY(calibrate_model(c, m, flat, e));
    ST_TRY(calibrate_memory(c, e));
    st_upload(c->q, c->ids, ids);
    return ST_OK;
}

void st_calibration_close(st_calibration *c)
{
    if (c->q) {
        st_device_arena_close(c->q, &c->mem);
        st_device_arena_close(c->q, &c->weights);
    }
    st_model_close(c->m);
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

/* ---- passes --------------------------------------------------------------------------------- */

/* The sums of one pass on the device, of matrix `name`. */
typedef struct {
    const st_calibration_want *want;
    st_tensor *sum, *total; /* x^T x, and x itself added up */
    int n;
} calibrate_sums;

/* sum += x^T x, of which the tiles on and below the diagonal. */
static void calibrate_add(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    const calibrate_sums *s = ctx;
    for (int i = 0; i < s->n; i++) {
        int64_t in = s->want[i].in;
        if (strcmp(s->want[i].name, matrix) != 0) continue;
        assert(st_numel(x) == x.dim[0] * in);
        st_stream_ops(q)->bias_grad(
            q, &(st_bias_grad_args){.rows = x.dim[0], .width = in, .dy = x, .dbias = s->total[i]});
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
                                   .c = st_slice(s->sum[i], at * in + at, in * in - at * in - at),
                                   .beta = 1.0f});
        }
    }
}

/* Sums on the device -> means on the host, both triangles. */
static void calibrate_take(const st_calibration *c, st_calibration_want *w, st_tensor sum,
                           st_tensor total)
{
    float scale = 1.0f / (float)(c->sequences * c->len);
    if (w->mean) st_download(c->q, w->mean, total);
    for (int64_t i = 0; i < w->in && w->mean; i++)
        w->mean[i] *= scale;
    st_download(c->q, w->cov, sum);
    for (int64_t i = 0; i < w->in; i++) {
        for (int64_t j = 0; j <= i; j++) {
            float v = w->cov[i * w->in + j] * scale;
            w->cov[i * w->in + j] = w->cov[j * w->in + i] = v;
        }
    }
}

static void calibrate_run(st_calibration *c, int64_t layer, int64_t first, int64_t count,
                          bool advance)
{
    int64_t rows = count * c->len, at = first * c->len;
    st_tensor x = st_rows(c->hidden, at, rows);
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
    st_model_forward(c->m, c->q, &a, &c->mem);
}

static st_status calibrate_text(st_calibration *c, int64_t layer, bool advance, st_err *e)
{
    for (int64_t i = 0; i < c->sequences; i += c->batch) {
        int64_t count = c->sequences - i < c->batch ? c->sequences - i : c->batch;
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
        calibrate_run(c, layer, i, count, advance);
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

st_status st_calibration_pass(st_calibration *c, int64_t layer, st_calibration_want *want, int n,
                              bool advance, st_err *e)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += (size_t)((want[i].in + 1) * want[i].in) * sizeof(float) + 2 * ST_ALIGN;
    st_arena mem = {0};
    st_tensor *sum = st_calloc(2 * n + 1, sizeof *sum), *total = sum + n;
    if (!sum) ST_FAIL(e, ST_ENOMEM, "out of memory");
    st_status s = bytes ? st_device_arena(c->q, bytes, &mem, e) : ST_OK;
    for (int i = 0; i < n && !s; i++) {
        sum[i] = st_take2(&mem, ST_F32, want[i].in, want[i].in);
        total[i] = st_take1(&mem, ST_F32, want[i].in);
        st_stream_ops(c->q)->fill(c->q, &(st_fill_args){.x = sum[i]});
        st_stream_ops(c->q)->fill(c->q, &(st_fill_args){.x = total[i]});
    }
    calibrate_sums sums = {.want = want, .sum = sum, .total = total, .n = n};
    if (n) st_model_tap(c->m, calibrate_add, &sums);
    if (!s) s = calibrate_text(c, layer, advance, e);
    if (n) st_model_tap(c->m, NULL, NULL);
    for (int i = 0; i < n && !s; i++)
        calibrate_take(c, &want[i], sum[i], total[i]);
    st_device_arena_close(c->q, &mem);
    free(sum);
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
    st_model_params(c->m, calibrate_found, &f);
    if (f.w.data) st_upload(c->q, f.w, w);
    if (f.bias.data && bias) st_upload(c->q, f.bias, bias);
}

/* ---- order ---------------------------------------------------------------------------------- */

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
    st_model_tap(c->m, calibrate_note, &o);
    for (o.layer = 0; o.layer <= c->layers; o.layer++)
        calibrate_run(c, o.layer, 0, 1, true);
    st_model_tap(c->m, NULL, NULL);
    c->len = len;
    return st_stream_sync(c->q, e);
}
