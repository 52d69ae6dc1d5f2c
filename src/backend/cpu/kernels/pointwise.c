/* Element by element: GELU, residual with dropout, gate, scale, copy, fill. Bound by memory: one
 * pass each, threads on stretches of the flat range. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/drop.h"
#include "backend/cpu/kernels/gelu.h"

void KERNEL(gelu_fwd)(st_stream *q, const st_gelu_fwd_args *a)
{
    int64_t count = st_numel(a->x);
    int parts = st_parts(q, count * 4);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        float bx[BLOCK], by[BLOCK];
        int64_t n = at_most(count - i, BLOCK);
        float *y = block_out(&a->y, i, by);
        gelu_block(y, block_in(&a->x, i, n, bx), n, a->kind);
        block_done(&a->y, i, n, y);
    }
}

void KERNEL(gelu_bwd)(st_stream *q, const st_gelu_bwd_args *a)
{
    int64_t count = st_numel(a->x);
    int parts = st_parts(q, count * 4);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        float bx[BLOCK], bd[BLOCK], bo[BLOCK];
        int64_t n = at_most(count - i, BLOCK);
        float *dx = block_out(&a->dx, i, bo);
        gelu_slope_block(dx, block_in(&a->dy, i, n, bd), block_in(&a->x, i, n, bx), n, a->kind);
        block_done(&a->dx, i, n, dx);
    }
}

/* ---- residual -------------------------------------------------------------------------------- */

static void residual_block(const st_residual_fwd_args *s, const st_tensor *b, const st_tensor *y,
                           int64_t i, int64_t n)
{
    float ba[BLOCK], bb[BLOCK], by[BLOCK], mask[BLOCK];
    const float *add = s->a.data ? block_in(&s->a, i, n, ba) : NULL;
    const float *x = block_in(b, i, n, bb);
    float *out = block_out(y, i, by);
    if (s->drop > 0) {
        drop_mask(mask, s->seed, i, n, s->drop);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            mask[j] *= x[j];
        x = mask;
    }
    if (add) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            out[j] = add[j] + x[j];
    } else if (out != x) {
        memcpy(out, x, (size_t)n * sizeof *out);
    }
    block_done(y, i, n, out);
}

static void residual_all(st_stream *q, const st_residual_fwd_args *s, const st_tensor *b,
                         const st_tensor *y)
{
    int64_t count = st_numel(*y);
    int parts = st_parts(q, count * (s->drop > 0 ? 4 : 1));
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        residual_block(s, b, y, i, at_most(count - i, BLOCK));
    }
}

void KERNEL(residual_fwd)(st_stream *q, const st_residual_fwd_args *a)
{
    residual_all(q, a, &a->b, &a->y);
}

void KERNEL(residual_bwd)(st_stream *q, const st_residual_bwd_args *a)
{
    st_residual_bwd_args s = {.drop = a->drop, .seed = a->seed};
    residual_all(q, &s, &a->dy, &a->db);
}

/* ---- gate ------------------------------------------------------------------------------------ */

void KERNEL(gate_fwd)(st_stream *q, const st_gate_fwd_args *a)
{
    int parts = st_parts(q, a->rows * a->width);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float g = pointwise_sigmoid(scalar_in(&a->z, r)), bs[BLOCK], bl[BLOCK], by[BLOCK];
        for (int64_t j = 0; j < a->width; j += BLOCK) {
            int64_t n = at_most(a->width - j, BLOCK), at = r * a->width + j;
            const float *s = block_in(&a->s, at, n, bs), *l = block_in(&a->l, at, n, bl);
            float *y = block_out(&a->y, at, by);
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                y[i] = (1.0f - g) * s[i] + g * l[i];
            block_done(&a->y, at, n, y);
        }
    }
}

static float gate_bwd_block(const st_gate_bwd_args *a, int64_t at, int64_t n, float g)
{
    float bs[BLOCK], bl[BLOCK], bd[BLOCK], os[BLOCK], ol[BLOCK], sum = 0;
    const float *s = block_in(&a->s, at, n, bs), *l = block_in(&a->l, at, n, bl);
    const float *dy = block_in(&a->dy, at, n, bd);
    float *ds = block_out(&a->ds, at, os), *dl = block_out(&a->dl, at, ol);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        float d = dy[i];
        sum += d * (l[i] - s[i]);
        ds[i] = (1.0f - g) * d;
        dl[i] = g * d;
    }
    block_done(&a->ds, at, n, ds);
    block_done(&a->dl, at, n, dl);
    return sum;
}

void KERNEL(gate_bwd)(st_stream *q, const st_gate_bwd_args *a)
{
    int parts = st_parts(q, a->rows * a->width * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float g = pointwise_sigmoid(scalar_in(&a->z, r)), sum = 0;
        for (int64_t j = 0; j < a->width; j += BLOCK) {
            sum += gate_bwd_block(a, r * a->width + j, at_most(a->width - j, BLOCK), g);
        }
        float dz = g * (1.0f - g) * sum, buf[1] = {dz};
        *block_out(&a->dz, r, buf) = dz;
        block_done(&a->dz, r, 1, buf);
    }
}

/* ---- scale, copy, fill ----------------------------------------------------------------------- */

void KERNEL(scale)(st_stream *q, const st_scale_args *a)
{
    int64_t count = st_numel(a->x);
    int parts = st_parts(q, count);
    float s = scalar_in(&a->s, 0);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span p = st_part(count, BLOCK, t, parts);
        block_scaled(&a->x, p.lo, &a->y, p.lo, p.hi - p.lo, s, a->accumulate);
    }
}

/* Columns [lo, hi) of row r, and zeros after the last column. */
static void copy_row(const st_copy_args *a, int64_t r, int64_t lo, int64_t hi)
{
    size_t size = st_dtype_size(a->y.dtype);
    char *to = (char *)a->y.data + (size_t)(r * a->ldy + lo) * size;
    if (!a->accumulate && a->x.dtype == a->y.dtype) {
        const char *from = (const char *)a->x.data + (size_t)(r * a->ldx + lo) * size;
        memcpy(to, from, (size_t)(hi - lo) * size);
    } else {
        block_scaled(&a->x, r * a->ldx + lo, &a->y, r * a->ldy + lo, hi - lo, 1, a->accumulate);
    }
    if (lo < hi && hi == a->cols && a->pad > a->cols) {
        char *end = (char *)a->y.data + (size_t)(r * a->ldy + a->cols) * size;
        memset(end, 0, (size_t)(a->pad - a->cols) * size);
    }
}

void KERNEL(copy)(st_stream *q, const st_copy_args *given)
{
    st_copy_args a = st_copy_resolve(given);
    int parts = st_parts(q, a.rows * a.cols);
    int64_t cuts = a.rows >= parts ? 1 : parts; /* of a row */
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t unit = 0; unit < a.rows * cuts; unit++) {
        st_span p = st_part(a.cols, BLOCK, unit % cuts, cuts);
        copy_row(&a, unit / cuts, p.lo, p.hi);
    }
}

void KERNEL(fill)(st_stream *q, const st_fill_args *a)
{
    int64_t count = st_numel(a->x);
    int parts = st_parts(q, count);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span p = st_part(count, BLOCK, t, parts);
        float *x = a->x.data;
        uint16_t *h = a->x.data, value = st_f32_to_bf16(a->value);
        if (a->x.dtype == ST_F32) {
            for (int64_t i = p.lo; i < p.hi; i++)
                x[i] = a->value;
        } else {
            for (int64_t i = p.lo; i < p.hi; i++)
                h[i] = value;
        }
    }
}
