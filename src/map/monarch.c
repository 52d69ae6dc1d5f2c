/* Monarch: two block-diagonal factors with a fixed permutation between (Dao et al. 2022), in the
 * layout of HazyResearch fly. b blocks, p = ceil(in/b), s = ceil(out/b), q inner rows per block
 * (fly: min(p, s); here a knob); l1 (b, q, p), l2 (b, s, q):
 *   t[i q + c] = sum_j l1[i, c, j] x[i p + j]
 *   y[o b + l] = sum_r l2[l, o, r] t[r b + l]
 * Inputs beyond `in` count as zero, outputs beyond `out` are dropped.
 *
 * Block (l, i) of W (rows = l mod b, columns of input block i) is the product of the l2 columns and
 * l1 rows that meet in the t's with t/q = i and t mod b = l. These sets are disjoint, so the
 * nearest W consists of the nearest matrix of that rank to each block: b*b small SVDs. Weighted by
 * inputs, the blocks of one l take turns: monarch_weighted.c. */
/* SPDX-License-Identifier: MIT */
#include "map/monarch.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS, INNER };

static monarch_size monarch_sizes(const st_spec *s)
{
    monarch_size z = {.b = s->knob[BLOCKS]};
    z.p = map_ceil(s->in, z.b);
    z.s = map_ceil(s->out, z.b);
    z.q = s->knob[INNER] ? s->knob[INNER] : map_min(z.p, z.s);
    z.classes = z.b;
    return z;
}

static st_status monarch_check(st_spec *s, st_err *e)
{
    ST_TRY(map_range(s, BLOCKS, 1, map_min(s->in, s->out), "the smaller side", e));
    monarch_size z = monarch_sizes(s);
    int64_t most = z.b * map_min(z.p, z.s);
    ST_TRY(map_range(s, INNER, 0, most, "0: min(in, out)/blocks; above, ranks are full", e));
    if (s->knob[INNER] == map_min(z.p, z.s)) s->knob[INNER] = 0;
    return ST_OK;
}

static int monarch_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    monarch_size z = monarch_sizes(s);
    /* an entry of W sums q/b products (on average, where b does not divide q) */
    float each = sqrtf(std / sqrtf((float)z.q / (float)z.b));
    out[0] = map_factor("l1", z.b, z.q, z.p, each);
    out[1] = map_factor("l2", z.b, z.s, z.q, each);
    if (s->in % z.b) out[0].flags = ST_MAP_DECAY; /* the last block's rows are cut */
    return 2;
}

static int64_t monarch_kept(const st_spec *s)
{
    monarch_size z = monarch_sizes(s);
    return z.b * z.q;
}

/* From (rows, i, j) to (rows, j, i); the input itself where that changes nothing. */
static st_tensor monarch_swap(st_stream *q, st_tensor x, int64_t rows, int64_t p, int64_t n,
                              st_tensor into, st_arena *tmp)
{
    if (!into.data && (p == 1 || n == 1)) return x;
    st_tensor y = into.data ? into : st_take2(tmp, x.dtype, rows, p * n);
    st_stream_ops(q)->permute(q, &(st_permute_args){.rows = rows, .p = p, .q = n, .x = x, .y = y});
    return y;
}

/* t in the order of the second stage: (rows, l, r). */
static st_tensor monarch_inner(const st_map_call *c)
{
    monarch_size z = monarch_sizes(c->spec);
    int64_t n = c->x.dim[0];
    st_tensor inner = st_take2(c->tmp, c->x.dtype, n, z.b * z.q);
    map_blocks(c->q, &(map_blocks_args){.g = {.m = n,
                                              .n = z.q,
                                              .k = z.p,
                                              .lda = c->spec->in,
                                              .ldc = z.b * z.q,
                                              .step_a = z.p,
                                              .step_b = z.q * z.p,
                                              .step_c = z.q,
                                              .ldb = z.p,
                                              .tb = 1,
                                              .a = c->x,
                                              .b = c->theta->p[0],
                                              .c = inner},
                                        .count = z.b,
                                        .k_total = c->spec->in});
    return monarch_swap(c->q, inner, n, z.q, z.b, c->kept, c->tmp);
}

/* The bias in the order (l, o), zero where outputs are dropped. */
static st_tensor monarch_bias(const st_map_call *c)
{
    monarch_size z = monarch_sizes(c->spec);
    if (!c->bias.data) return c->bias;
    st_tensor wide = c->bias;
    if (c->spec->out != z.b * z.s) {
        wide = st_take1(c->tmp, c->bias.dtype, z.b * z.s);
        st_stream_ops(c->q)->copy(
            c->q, &(st_copy_args){.cols = c->spec->out, .pad = z.b * z.s, .x = c->bias, .y = wide});
    }
    return monarch_swap(c->q, wide, 1, z.s, z.b, (st_tensor){0}, c->tmp);
}

static void monarch_forward(const st_map_call *c)
{
    monarch_size z = monarch_sizes(c->spec);
    int64_t n = c->x.dim[0], wide = z.b * z.s;
    st_tensor inner = monarch_inner(c), shuffled = monarch_bias(c);
    bool direct = c->spec->out == wide && z.b == 1;
    st_tensor h = direct ? c->y : st_take2(c->tmp, c->x.dtype, n, wide);
    map_blocks(c->q, &(map_blocks_args){.g = {.m = n,
                                              .n = z.s,
                                              .k = z.q,
                                              .lda = z.b * z.q,
                                              .ldb = z.q,
                                              .ldc = wide,
                                              .step_a = z.q,
                                              .step_b = z.s * z.q,
                                              .step_c = z.s,
                                              .tb = 1,
                                              .a = inner,
                                              .b = c->theta->p[1],
                                              .c = h,
                                              .bias = shuffled},
                                        .count = z.b});
    if (direct) return;
    if (c->spec->out == wide) {
        monarch_swap(c->q, h, n, z.b, z.s, c->y, c->tmp);
        return;
    }
    h = monarch_swap(c->q, h, n, z.b, z.s, (st_tensor){0}, c->tmp);
    st_stream_ops(c->q)->copy(
        c->q, &(st_copy_args){.rows = n, .cols = c->spec->out, .ldx = wide, .x = h, .y = c->y});
}

/* dy in the order (rows, l, o), zero where outputs are dropped. */
static st_tensor monarch_outer_grad(const st_map_call *c)
{
    monarch_size z = monarch_sizes(c->spec);
    int64_t n = c->dy.dim[0], wide = z.b * z.s;
    st_tensor g = c->dy;
    if (c->spec->out != wide) {
        g = st_take2(c->tmp, c->dy.dtype, n, wide);
        st_stream_ops(c->q)->copy(
            c->q,
            &(st_copy_args){.rows = n, .cols = c->spec->out, .pad = wide, .x = c->dy, .y = g});
    }
    return monarch_swap(c->q, g, n, z.s, z.b, (st_tensor){0}, c->tmp);
}

/* Gradients of the first stage from dt (rows, i, c). */
static void monarch_first_backward(const st_map_call *c, st_tensor inner)
{
    monarch_size z = monarch_sizes(c->spec);
    if (c->dtheta && c->dtheta->p[0].data) {
        map_blocks(c->q, &(map_blocks_args){.g = {.m = z.q,
                                                  .n = z.p,
                                                  .k = c->x.dim[0],
                                                  .lda = z.b * z.q,
                                                  .ldb = c->spec->in,
                                                  .ldc = z.p,
                                                  .step_a = z.q,
                                                  .step_b = z.p,
                                                  .step_c = z.q * z.p,
                                                  .ta = 1,
                                                  .a = inner,
                                                  .b = c->x,
                                                  .c = c->dtheta->p[0],
                                                  .beta = 1.0f},
                                            .count = z.b,
                                            .n_total = c->spec->in});
    }
    if (!c->dx.data) return;
    map_blocks(c->q, &(map_blocks_args){.g = {.m = c->x.dim[0],
                                              .n = z.p,
                                              .k = z.q,
                                              .lda = z.b * z.q,
                                              .ldb = z.p,
                                              .ldc = c->spec->in,
                                              .step_a = z.q,
                                              .step_b = z.q * z.p,
                                              .step_c = z.p,
                                              .a = inner,
                                              .b = c->theta->p[0],
                                              .c = c->dx},
                                        .count = z.b,
                                        .n_total = c->spec->in});
}

static void monarch_backward(const st_map_call *c)
{
    monarch_size z = monarch_sizes(c->spec);
    int64_t n = c->x.dim[0];
    st_tensor g = monarch_outer_grad(c);
    if (c->dtheta && c->dtheta->p[1].data) {
        st_tensor inner = c->kept.data ? c->kept : monarch_inner(c);
        map_blocks(c->q, &(map_blocks_args){.g = {.m = z.s,
                                                  .n = z.q,
                                                  .k = n,
                                                  .lda = z.b * z.s,
                                                  .ldb = z.b * z.q,
                                                  .ldc = z.q,
                                                  .step_a = z.s,
                                                  .step_b = z.q,
                                                  .step_c = z.s * z.q,
                                                  .ta = 1,
                                                  .a = g,
                                                  .b = inner,
                                                  .c = c->dtheta->p[1],
                                                  .beta = 1.0f},
                                            .count = z.b});
    }
    st_tensor dinner = st_take2(c->tmp, c->x.dtype, n, z.b * z.q);
    map_blocks(c->q, &(map_blocks_args){.g = {.m = n,
                                              .n = z.q,
                                              .k = z.s,
                                              .lda = z.b * z.s,
                                              .ldb = z.q,
                                              .ldc = z.b * z.q,
                                              .step_a = z.s,
                                              .step_b = z.s * z.q,
                                              .step_c = z.q,
                                              .a = g,
                                              .b = c->theta->p[1],
                                              .c = dinner},
                                        .count = z.b});
    dinner = monarch_swap(c->q, dinner, n, z.b, z.q, (st_tensor){0}, c->tmp);
    monarch_first_backward(c, dinner);
}

/* Block (l, i) of w as a (s, p) matrix, zero beyond w's edges. */
static void monarch_block(const st_spec *s, const monarch_size *z, const float *w, int64_t l,
                          int64_t i, float *block)
{
    for (int64_t o = 0; o < z->s; o++) {
        for (int64_t j = 0; j < z->p; j++) {
            int64_t row = map_monarch_row(z, l, o), col = i * z->p + j;
            bool there = row < s->out && col < s->in;
            block[o * z->p + j] = there ? w[row * s->in + col] : 0.0f;
        }
    }
}

void map_monarch_put(const monarch_size *z, int64_t l, int64_t i, const st_svd *d, int64_t cols,
                     const st_theta *t)
{
    float *l1 = t->p[0].data, *l2 = t->p[1].data;
    monarch_met met = map_monarch_met(z, l, i);
    for (int64_t r = 0; r < met.count; r++) {
        int64_t at = met.first + r * met.step;
        bool there = r < d->rank;
        float root = there ? sqrtf(d->s[r]) : 0.0f;
        for (int64_t o = 0; o < z->s; o++) {
            l2[(l * z->s + o) * z->q + met.column + r] =
                there ? root * d->u[o * d->rank + r] : 0.0f;
        }
        for (int64_t j = 0; j < cols; j++)
            l1[at * z->p + j] = there ? root * d->vt[r * cols + j] : 0.0f;
    }
}

static st_status monarch_project_block(const monarch_size *z, int64_t l, int64_t i,
                                       const float *block, const st_theta *t,
                                       const st_project_opts *how, st_err *e)
{
    int64_t rank = map_min(map_monarch_met(z, l, i).count, map_min(z->s, z->p));
    if (!rank) return ST_OK;
    st_svd d = {0};
    ST_TRY(map_weighted_svd(&d, block, z->s, z->p, rank, NULL, how, e));
    map_monarch_put(z, l, i, &d, z->p, t);
    st_svd_close(&d);
    return ST_OK;
}

st_status map_monarch_project(const st_spec *s, const monarch_size *z, st_tensor w,
                              const st_theta *t, const st_project_opts *how, st_err *e)
{
    float *block = st_calloc(z->s * z->p, sizeof *block);
    if (!block)
        ST_FAIL(e, ST_ENOMEM, "%s: no memory for a %lld x %lld block", s->type->name,
                (long long)z->s, (long long)z->p);
    memset(t->p[0].data, 0, st_bytes(t->p[0]));
    memset(t->p[1].data, 0, st_bytes(t->p[1]));
    st_status status = ST_OK;
    for (int64_t at = 0; at < z->classes * z->b && !status; at++) {
        monarch_block(s, z, w.data, at / z->b, at % z->b, block);
        status = monarch_project_block(z, at / z->b, at % z->b, block, t, how, e);
    }
    free(block);
    if (status || !how || !how->in_cov) return status;
    return map_monarch_weighted(s, z, w.data, t, how, e);
}

static st_status monarch_project(const st_spec *s, st_tensor w, const st_theta *t,
                                 const st_project_opts *how, st_err *e)
{
    monarch_size z = monarch_sizes(s);
    return map_monarch_project(s, &z, w, t, how, e);
}

/* fly's layer: each factor by its last side, the bias by its outputs; its parameters are not called
 * weights, so that no model goes over them. */
static void monarch_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t,
                          st_tensor bias)
{
    monarch_size z = monarch_sizes(s);
    map_fresh_uniform(how, "l1", t->p[0], 1.0 / sqrt((double)z.p));
    map_fresh_uniform(how, "l2", t->p[1], 1.0 / sqrt((double)z.q));
    map_fresh_uniform(how, "bias", bias, 1.0 / sqrt((double)s->out));
}

/* fly's own sizes where they are near, else 4 blocks (fewer on tiny sides) of the width that fits.
 */
static st_status monarch_fit(st_spec *s, int64_t params, st_err *e)
{
    int64_t most = map_min(s->in, s->out);
    st_spec best = *s;
    best.knob[BLOCKS] = map_min(4, most);
    best.knob[INNER] = 0;
    for (int64_t b = 2; b <= map_min(most, 64); b *= 2) {
        s->knob[BLOCKS] = b;
        if (map_misfit(s, params) < map_misfit(&best, params)) best = *s;
    }
    if (map_misfit(&best, params) > 0.02) {
        *s = best;
        s->knob[BLOCKS] = map_min(4, most);
        monarch_size z = monarch_sizes(s);
        int64_t each = z.b * (z.p + z.s), q = (params + each / 2) / each;
        int64_t even = (q + z.b / 2) / z.b * z.b; /* equal ranks, aligned products */
        if (llabs(even - q) * 40 <= q) q = even;
        s->knob[INNER] = map_max(1, map_min(q, z.b * map_min(z.p, z.s)));
        if (map_misfit(s, params) < map_misfit(&best, params)) best = *s;
    }
    *s = best;
    if (map_misfit(s, params) > MAP_FIT_TOLERANCE) return map_unfit(s, params, s, e);
    return ST_OK;
}

const st_map_type st_map_monarch = {
    .name = "monarch",
    .summary = "two block-diagonal factors with a permutation between",
    .equation =
        "t[i q + c] = sum_j l1[i, c, j] x[i p + j]; y[o b + l] = sum_r l2[l, o, r] t[r b + l]",
    .source = "Dao et al. 2022 (arXiv 2204.00595), HazyResearch fly",
    .knob = {{"blocks", "blocks b of each factor, 1..min(in, out)", 4, ST_KNOB_SHOWN},
             {"inner", "rows q of a block of the first factor; 0: min(in, out)/blocks", 0,
              ST_KNOB_HIDDEN}},
    .check = monarch_check,
    .params = monarch_params,
    .kept = monarch_kept,
    .forward = monarch_forward,
    .backward = monarch_backward,
    .project = monarch_project,
    .fresh = monarch_fresh,
    .fit = monarch_fit,
    .sized = {"blocks", 2},
};
