/* Block tensor train of two cores (Qiu et al. 2024). in = m1 m2, out = n1 n2; R (m1, n1 r, m2),
 * L (n1, n2, m1 r), their middle sides in the order (a, k) and (i, k), k < r:
 *   z[i, a, k] = sum_j R[i, (a, k), j] x[i m2 + j]
 *   y[a n2 + b] = sum_(i, k) L[a, b, (i, k)] z[i, a, k]
 * With group = g the classes a take turns, g outputs each: output b = u g + v of class a stands at
 * (u n1 + a) g + v. That is the BlockdiagButterflyLinear of HazyResearch fly, m1, n1, r and g being
 * its nblocks1, nblocks2, b1 and b2, R and L its w1_bfly and w2_bfly.
 * So block (a, i) of W, (n2, m2), is L[a, :, (i, :)] R[i, (a, :), :] of rank r, and no two blocks
 * share a number: the nearest W are the nearest blocks, n1 m1 small SVDs. Weighted by inputs, the
 * blocks of one a take turns, as monarch's do (monarch_weighted.c). */
/* SPDX-License-Identifier: MIT */
#include "map/monarch.h"
#include <math.h>

enum { RANK, M1, N1, GROUP };

typedef struct {
    int64_t r, m1, m2, n1, n2, g; /* g: 0: the classes follow each other */
} btt_size;

static btt_size btt_sizes(const st_spec *s)
{
    btt_size z = {.r = s->knob[RANK], .m1 = s->knob[M1], .n1 = s->knob[N1], .g = s->knob[GROUP]};
    z.m2 = s->in / z.m1;
    z.n2 = s->out / z.n1;
    return z;
}

/* The largest divisor up to the square root: the authors' sides are as equal as can be. */
static int64_t btt_root(int64_t side)
{
    int64_t best = 1;
    for (int64_t d = 1; d * d <= side; d++) {
        if (side % d == 0) best = d;
    }
    return best;
}

static st_status btt_divides(const st_spec *s, int knob, int64_t side, const char *of, st_err *e)
{
    int64_t v = s->knob[knob];
    if (v >= 1 && v <= side && side % v == 0) return ST_OK;
    ST_FAIL(e, ST_ESHAPE, "btt: %s=%lld must divide %s=%lld (0: near its square root, %lld)",
            s->type->knob[knob].name, (long long)v, of, (long long)side, (long long)btt_root(side));
}

static st_status btt_check(st_spec *s, st_err *e)
{
    if (s->knob[M1] == 0) s->knob[M1] = btt_root(s->in);
    if (s->knob[N1] == 0) s->knob[N1] = btt_root(s->out);
    ST_TRY(btt_divides(s, M1, s->in, "in", e));
    ST_TRY(btt_divides(s, N1, s->out, "out", e));
    btt_size z = btt_sizes(s);
    if (z.g < 0 || (z.g && z.n2 % z.g)) {
        ST_FAIL(e, ST_ESHAPE, "btt: group=%lld must divide out/n1=%lld, or be 0", (long long)z.g,
                (long long)z.n2);
    }
    if (z.n1 == 1 || z.g == z.n2) s->knob[GROUP] = 0;
    /* fly's preset rank is beyond what small blocks can have */
    return map_range(s, RANK, 1, map_max(s->in, s->out), "the larger side", e);
}

static int btt_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    btt_size z = btt_sizes(s);
    float each = sqrtf(std / sqrtf((float)z.r)); /* an entry of W sums r products */
    out[0] = map_factor("r", z.m1, z.n1 * z.r, z.m2, each);
    out[1] = map_factor("l", z.n1, z.n2, z.m1 * z.r, each);
    return 2;
}

static int64_t btt_kept(const st_spec *s)
{
    btt_size z = btt_sizes(s);
    return z.n1 * z.m1 * z.r;
}

/* (rows, p, n, r) to (rows, n, p, r); the input itself where that changes nothing. */
static st_tensor btt_turn(const st_map_call *c, st_tensor x, int64_t rows, const int64_t side[3],
                          st_tensor into)
{
    if (!into.data && (side[0] == 1 || side[1] == 1)) return x;
    st_tensor y = into.data ? into : st_take2(c->tmp, x.dtype, rows, side[0] * side[1] * side[2]);
    st_stream_ops(c->q)->permute(
        c->q, &(st_permute_args){
                  .rows = rows, .p = side[0], .q = side[1], .inner = side[2], .x = x, .y = y});
    return y;
}

static st_tensor btt_swap(const st_map_call *c, st_tensor x, int64_t p, int64_t n, st_tensor into)
{
    return btt_turn(c, x, c->x.dim[0], (int64_t[]){p, n, c->spec->knob[RANK]}, into);
}

/* Outputs as they stand in y (groups of classes that take turns) to class after class. */
static st_tensor btt_classes(const st_map_call *c, st_tensor y, int64_t rows)
{
    btt_size z = btt_sizes(c->spec);
    if (!y.data || !z.g) return y;
    return btt_turn(c, y, rows, (int64_t[]){z.n2 / z.g, z.n1, z.g}, (st_tensor){0});
}

/* z in the order of the second core, (rows, a, i, k). */
static st_tensor btt_inner(const st_map_call *c)
{
    btt_size z = btt_sizes(c->spec);
    int64_t n = c->x.dim[0], each = z.n1 * z.r;
    st_tensor inner = st_take2(c->tmp, c->x.dtype, n, z.m1 * each);
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = n,
                                                    .n = each,
                                                    .k = z.m2,
                                                    .batch = z.m1,
                                                    .tb = 1,
                                                    .lda = c->spec->in,
                                                    .step_a = z.m2,
                                                    .ldc = z.m1 * each,
                                                    .step_c = each,
                                                    .a = c->x,
                                                    .b = c->theta->p[0],
                                                    .c = inner});
    return btt_swap(c, inner, z.m1, z.n1, c->kept);
}

static void btt_forward(const st_map_call *c)
{
    btt_size z = btt_sizes(c->spec);
    int64_t each = z.m1 * z.r;
    st_tensor inner = btt_inner(c), y = c->y, bias = btt_classes(c, c->bias, 1);
    if (z.g) y = st_take2(c->tmp, c->y.dtype, c->x.dim[0], c->spec->out);
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->x.dim[0],
                                                    .n = z.n2,
                                                    .k = each,
                                                    .batch = z.n1,
                                                    .tb = 1,
                                                    .lda = z.n1 * each,
                                                    .step_a = each,
                                                    .ldc = c->spec->out,
                                                    .step_c = z.n2,
                                                    .step_bias = z.n2,
                                                    .a = inner,
                                                    .b = c->theta->p[1],
                                                    .c = y,
                                                    .bias = bias});
    if (z.g) btt_turn(c, y, c->x.dim[0], (int64_t[]){z.n1, z.n2 / z.g, z.g}, c->y);
}

/* Gradients of the first core and the input from dz (rows, i, a, k). */
static void btt_first_backward(const st_map_call *c, st_tensor dz)
{
    const st_ops *op = st_stream_ops(c->q);
    btt_size z = btt_sizes(c->spec);
    int64_t n = c->x.dim[0], in = c->spec->in, each = z.n1 * z.r;
    st_gemm_args g = {.batch = z.m1, .lda = z.m1 * each, .step_a = each, .a = dz};
    if (c->dtheta && c->dtheta->p[0].data) {
        st_gemm_args w = g;
        w.m = each, w.n = z.m2, w.k = n;
        w.ta = 1;
        w.b = c->x, w.ldb = in, w.step_b = z.m2;
        w.c = c->dtheta->p[0], w.beta = 1.0f;
        op->gemm(c->q, &w);
    }
    if (!c->dx.data) return;
    g.m = n, g.n = z.m2, g.k = each;
    g.b = c->theta->p[0];
    g.c = c->dx, g.ldc = in, g.step_c = z.m2;
    op->gemm(c->q, &g);
}

static void btt_backward(const st_map_call *c)
{
    const st_ops *op = st_stream_ops(c->q);
    btt_size z = btt_sizes(c->spec);
    int64_t n = c->x.dim[0], out = c->spec->out, each = z.m1 * z.r;
    st_gemm_args g = {.batch = z.n1, .lda = out, .step_a = z.n2, .a = btt_classes(c, c->dy, n)};
    if (c->dtheta && c->dtheta->p[1].data) {
        st_gemm_args w = g;
        w.m = z.n2, w.n = each, w.k = n;
        w.ta = 1;
        w.b = c->kept.data ? c->kept : btt_inner(c), w.ldb = z.n1 * each, w.step_b = each;
        w.c = c->dtheta->p[1], w.beta = 1.0f;
        op->gemm(c->q, &w);
    }
    st_tensor dz = st_take2(c->tmp, c->x.dtype, n, z.n1 * each);
    g.m = n, g.n = each, g.k = z.n2;
    g.b = c->theta->p[1];
    g.c = dz, g.ldc = z.n1 * each, g.step_c = each;
    op->gemm(c->q, &g);
    btt_first_backward(c, btt_swap(c, dz, z.n1, z.m1, (st_tensor){0}));
}

static st_status btt_project(const st_spec *s, st_tensor w, const st_theta *t,
                             const st_project_opts *how, st_err *e)
{
    btt_size z = btt_sizes(s);
    monarch_size blocks = {.b = z.m1,
                           .p = z.m2,
                           .s = z.n2,
                           .q = z.m1 * z.r,
                           .classes = z.n1,
                           .rank = z.r,
                           .group = z.g ? z.g : z.n2};
    return map_monarch_project(s, &blocks, w, t, how, e);
}

/* fly's layer: torch's Kaiming-uniform of three sides, which takes all but the first for inputs,
 * and the bias by the first factor's. */
static void btt_fresh_fly(const st_spec *s, const st_fresh_opts *how, const st_theta *t,
                          st_tensor bias)
{
    btt_size z = btt_sizes(s);
    double first = 1.0 / sqrt((double)(z.n1 * z.r * z.m2));
    map_fresh_uniform(how, "r", t->p[0], first);
    map_fresh_uniform(how, "l", t->p[1], 1.0 / sqrt((double)(z.n2 * z.m1 * z.r)));
    map_fresh_uniform(how, "bias", bias, first);
}

/* The authors' own: each core as muP has a dense matrix of its sides, N(0, min(1, out/in) / in). */
static void btt_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t, st_tensor bias)
{
    btt_size z = btt_sizes(s);
    if (z.g) {
        btt_fresh_fly(s, how, t, bias);
        return;
    }
    double in[2] = {(double)z.m2, (double)(z.m1 * z.r)};
    double out[2] = {(double)(z.n1 * z.r), (double)z.n2};
    for (int i = 0; i < 2; i++) {
        double std = sqrt(fmin(1.0, out[i] / in[i]) / in[i]);
        map_fresh_normal(how, i ? "l" : "r", t->p[i], (float)std);
    }
    map_fresh_uniform(how, "bias", bias, 0.0);
}

/* The authors' sides where a rank comes within 5 %, else the sides that come nearest. */
static st_status btt_fit(st_spec *s, int64_t params, st_err *e)
{
    st_spec best = {0};
    for (int any = 0; any < 2; any++) {
        for (int64_t m1 = any ? 1 : btt_root(s->in); m1 <= s->in; m1++) {
            for (int64_t n1 = any ? 1 : btt_root(s->out); n1 <= s->out && s->in % m1 == 0; n1++) {
                int64_t each = n1 * s->in + m1 * s->out, r = (params + each / 2) / each;
                if (s->out % n1) continue;
                s->knob[M1] = m1;
                s->knob[N1] = n1;
                s->knob[RANK] = map_max(1, map_min(r, map_min(s->in / m1, s->out / n1)));
                if (!best.type || map_misfit(s, params) < map_misfit(&best, params)) best = *s;
                if (!any) break;
            }
            if (!any) break;
        }
        if (map_misfit(&best, params) <= 0.05) break;
    }
    *s = best;
    if (map_misfit(s, params) > MAP_FIT_TOLERANCE) return map_unfit(s, params, s, e);
    return ST_OK;
}

const st_map_type st_map_btt = {
    .name = "btt",
    .summary = "block tensor train of two cores: blocks of one rank",
    .equation = "z[i, a, k] = sum_j R[i, (a, k), j] x[i m2 + j]; "
                "y[a n2 + b] = sum_(i, k) L[a, b, (i, k)] z[i, a, k]",
    .source = "Qiu et al. 2024 (arXiv 2406.06248); group: HazyResearch fly",
    .knob =
        {{"rank", "r of every block; min(in/m1, out/n1) gives any matrix", ST_REQUIRED,
          ST_KNOB_SHOWN},
         {"m1", "blocks of inputs, a divisor of in; 0: near its square root", 0, ST_KNOB_STORED},
         {"n1", "blocks of outputs, a divisor of out; 0: near its square root", 0, ST_KNOB_STORED},
         {"group",
          "outputs of a block that stand together, a divisor of out/n1, the blocks taking turns "
          "as in fly's BlockdiagButterflyLinear; 0: all of them",
          0, ST_KNOB_HIDDEN}},
    .check = btt_check,
    .params = btt_params,
    .kept = btt_kept,
    .forward = btt_forward,
    .backward = btt_backward,
    .project = btt_project,
    .fresh = btt_fresh,
    .fit = btt_fit,
};
