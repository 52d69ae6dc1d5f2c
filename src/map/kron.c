/* Sum of Kronecker products. In the literature's orientation (in, out):
 *   W^T = sum_f s_f A_f (x) B_f,   A_f (m1, n1), B_f (m2, n2), in = m1 m2, out = n1 n2
 *   W^T[i1 m2 + i2, j1 n2 + j2] = sum_f s_f A_f[i1, j1] B_f[i2, j2]
 * so with X (m1, m2) and Y (n1, n2) a token's numbers in row-major order, Y = sum_f s_f A_f^T X
 * B_f. s_f = 1 unless scalars=1 makes them learned parameters.
 *
 * Three ways to the same numbers; the one with the fewest multiply-adds for the shape and the rows
 * is taken (kron_way):
 *   A first   Z = A^T X,  m1 n1 m2 + n1 m2 n2 per term and token
 *   B first   Z = X B,    m1 m2 n2 + m1 n1 n2
 *   whole     W^T once, in*out per term, then a dense product
 * Terms are summed by the second product: they sit side by side in its inner dimension. Where A and
 * B come from: kron_init.c. */
/* SPDX-License-Identifier: MIT */
#include "map/kron.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TERMS, M1, N1, SCALARS };
enum { A = KRON_A, B = KRON_B, S = KRON_S };

kron_size map_kron_size(const st_spec *s)
{
    kron_size z = {.f = s->knob[TERMS],
                   .m1 = s->knob[M1],
                   .n1 = s->knob[N1],
                   .scalars = s->knob[SCALARS] != 0};
    z.m2 = s->in / z.m1;
    z.n2 = s->out / z.n1;
    return z;
}

/* Fails unless knob divides side, listing what does. */
static st_status kron_divides(const st_spec *s, int knob, int64_t side, const char *of, st_err *e)
{
    int64_t v = s->knob[knob];
    if (v >= 1 && v <= side && side % v == 0) return ST_OK;
    char list[256] = "";
    size_t n = 0;
    for (int64_t d = 1; d <= side && n + 24 < sizeof list; d++) {
        if (side % d) continue;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%lld", n ? ", " : "", (long long)d);
    }
    ST_FAIL(e, ST_ESHAPE, "kron: %s=%lld must divide %s=%lld; legal: %s%s",
            s->type->knob[knob].name, (long long)v, of, (long long)side, list,
            n + 24 < sizeof list ? "" : ", ...");
}

static st_status kron_check(st_spec *s, st_err *e)
{
    ST_TRY(kron_divides(s, M1, s->in, "in", e));
    ST_TRY(kron_divides(s, N1, s->out, "out", e));
    kron_size z = map_kron_size(s);
    ST_TRY(map_range(s, TERMS, 1, map_min(z.m1 * z.n1, z.m2 * z.n2),
                     "min(m1 n1, m2 n2) terms already give any matrix", e));
    return map_range(s, SCALARS, 0, 1, "off or on", e);
}

static int kron_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    kron_size z = map_kron_size(s);
    out[A] = map_param("a", z.f, z.m1, z.n1, std / sqrtf((float)z.f));
    out[B] = map_param("b", z.f, z.m2, z.n2, 1.0f);
    out[B].flags = 0;
    if (!s->knob[SCALARS]) return 2;
    out[S] = map_param("s", z.f, 0, 0, 0.0f);
    out[S].init_mean = 1.0f;
    out[S].flags = 0;
    return 3;
}

typedef enum { KRON_A_FIRST, KRON_B_FIRST, KRON_WHOLE } kron_way;

static kron_way kron_choose(const kron_size *z, int64_t rows)
{
    double f = (double)z->f, m1 = (double)z->m1, n1 = (double)z->n1, m2 = (double)z->m2,
           n2 = (double)z->n2, n = (double)rows;
    double a = n * f * (m1 * n1 * m2 + n1 * m2 * n2), b = n * f * (m1 * m2 * n2 + m1 * n1 * n2);
    double whole = m1 * m2 * n1 * n2 * (n + f);
    if (whole < a && whole < b) return KRON_WHOLE;
    return a <= b ? KRON_A_FIRST : KRON_B_FIRST;
}

/* Between the two products: z (rows, f m2 n1) or (rows, m1 f n2), in the order the second reads.
 * Not kept where many tokens would go the whole way. */
static int64_t kron_kept(const st_spec *s)
{
    kron_size z = map_kron_size(s);
    switch (kron_choose(&z, (int64_t)1 << 40)) {
    case KRON_A_FIRST: return z.n1 * z.m2 * z.f;
    case KRON_B_FIRST: return z.n2 * z.f * z.m1;
    default: return 0;
    }
}

st_tensor map_kron_scaled(const st_map_call *c)
{
    if (!c->spec->knob[SCALARS]) return c->theta->p[B];
    kron_size z = map_kron_size(c->spec);
    int64_t each = z.m2 * z.n2;
    st_tensor b = st_take1(c->tmp, c->theta->p[B].dtype, z.f * each);
    for (int64_t f = 0; f < z.f; f++) {
        st_stream_ops(c->q)->scale(c->q,
                                   &(st_scale_args){.x = st_slice(c->theta->p[B], f * each, each),
                                                    .y = st_slice(b, f * each, each),
                                                    .s = st_slice(c->theta->p[S], f, 1)});
    }
    return b;
}

void map_kron_scaled_backward(const st_map_call *c, st_tensor db)
{
    const st_ops *op = st_stream_ops(c->q);
    kron_size z = map_kron_size(c->spec);
    int64_t each = z.m2 * z.n2;
    for (int64_t f = 0; f < z.f; f++) {
        st_tensor one = st_slice(db, f * each, each),
                  to = st_slice(c->dtheta->p[B], f * each, each);
        if (!c->spec->knob[SCALARS]) {
            op->copy(c->q, &(st_copy_args){.x = one, .y = to, .accumulate = 1});
            continue;
        }
        op->scale(c->q,
                  &(st_scale_args){
                      .x = one, .y = to, .s = st_slice(c->theta->p[S], f, 1), .accumulate = 1});
        op->dot(c->q, &(st_dot_args){.a = one,
                                     .b = st_slice(c->theta->p[B], f * each, each),
                                     .c = st_slice(c->dtheta->p[S], f, 1)});
    }
}

static kron_work kron_open(const st_map_call *c)
{
    return (kron_work){.call = c,
                       .z = map_kron_size(c->spec),
                       .rows = c->x.dim[0],
                       .a = c->theta->p[A],
                       .b = map_kron_scaled(c)};
}

static void kron_forward(const st_map_call *c)
{
    kron_work w = kron_open(c);
    switch (kron_choose(&w.z, w.rows)) {
    case KRON_A_FIRST:
        w.inner = map_kron_a_inner(&w, c->kept);
        map_kron_a_forward(&w);
        return;
    case KRON_B_FIRST:
        w.inner = map_kron_b_inner(&w, c->kept);
        map_kron_b_forward(&w);
        return;
    case KRON_WHOLE: map_kron_whole_forward(&w);
    }
}

static void kron_backward(const st_map_call *c)
{
    kron_work w = kron_open(c);
    bool train = c->dtheta && c->dtheta->p[A].data;
    w.inner = c->kept;
    if (train) {
        w.da = c->dtheta->p[A];
        w.db = st_take1(c->tmp, ST_F32, st_numel(c->theta->p[B]));
    }
    switch (kron_choose(&w.z, w.rows)) {
    case KRON_A_FIRST:
        if (train && !c->kept.data) w.inner = map_kron_a_inner(&w, c->kept);
        map_kron_a_backward(&w);
        break;
    case KRON_B_FIRST:
        if (train && !c->kept.data) w.inner = map_kron_b_inner(&w, c->kept);
        map_kron_b_backward(&w);
        break;
    case KRON_WHOLE: map_kron_whole_backward(&w);
    }
    if (train) map_kron_scaled_backward(c, w.db);
}

/* Of all m1, n1 with A the larger factor and up to 8 terms: those nearest the wanted size (in steps
 * of 2, 5 and 15 %), of these the highest attainable rank, of these the fewest multiply-adds. */
typedef struct {
    int band;
    double rank, macs;
} kron_score;

static kron_score kron_rate(const st_spec *s, int64_t params)
{
    kron_size z = map_kron_size(s);
    double off = map_misfit(s, params);
    double term = (double)(map_min(z.m1, z.n1) * map_min(z.m2, z.n2));
    double full = (double)map_min(s->in, s->out), f = (double)z.f;
    double a = f * (double)(z.m1 * z.n1 * z.m2 + z.n1 * z.m2 * z.n2);
    double b = f * (double)(z.m1 * z.m2 * z.n2 + z.m1 * z.n1 * z.n2);
    return (kron_score){.band = off <= 0.02                ? 0
                                : off <= 0.05              ? 1
                                : off <= MAP_FIT_TOLERANCE ? 2
                                                           : 3,
                        .rank = fmin(full, f * term),
                        .macs = fmin(a, b)};
}

static bool kron_better(const kron_score *a, const kron_score *b)
{
    if (a->band != b->band) return a->band < b->band;
    if (a->rank > b->rank || a->rank < b->rank) return a->rank > b->rank;
    return a->macs < b->macs;
}

static st_status kron_fit(st_spec *s, int64_t params, st_err *e)
{
    st_spec best = *s, nearest = *s;
    kron_score top = {.band = 4};
    for (int64_t m1 = 1; m1 <= s->in; m1++) {
        for (int64_t n1 = 1; n1 <= s->out && s->in % m1 == 0; n1++) {
            for (int64_t f = 1; f <= 8 && s->out % n1 == 0; f++) {
                s->knob[TERMS] = f;
                s->knob[M1] = m1;
                s->knob[N1] = n1;
                if (m1 * n1 * m1 * n1 < s->in * s->out || kron_check(s, NULL)) break;
                if (top.band == 4 || map_misfit(s, params) < map_misfit(&nearest, params)) {
                    nearest = *s;
                }
                kron_score now = kron_rate(s, params);
                if (!kron_better(&now, &top)) continue;
                top = now;
                best = *s;
            }
        }
    }
    *s = best;
    if (top.band > 2) return map_unfit(s, params, &nearest, e);
    return ST_OK;
}

static int64_t kron_tied(const st_spec *s, bool out)
{
    kron_size z = map_kron_size(s);
    return out ? z.n2 : z.m2;
}

const st_map_type st_map_kron = {
    .name = "kron",
    .summary = "sum of Kronecker products of a large and a small matrix",
    .equation = "Y = sum_f s_f A_f^T X B_f, X (m1, in/m1), Y (n1, out/n1), A (m1, n1)",
    .source = "Van Loan & Pitsianis 1993; Ben Ayad et al. 2024 (Krony-PT, arXiv 2412.12351)",
    .knob = {{"terms", "number of products, 1..min(m1 n1, m2 n2)", 1, ST_KNOB_SHOWN},
             {"m1", "rows of A, a divisor of in", ST_REQUIRED, ST_KNOB_SHOWN},
             {"n1", "columns of A, a divisor of out", ST_REQUIRED, ST_KNOB_SHOWN},
             {"scalars", "1: a learned factor per term", 0, ST_KNOB_HIDDEN}},
    .check = kron_check,
    .params = kron_params,
    .kept = kron_kept,
    .forward = kron_forward,
    .backward = kron_backward,
    .rows = map_kron_rows,
    .rows_backward = map_kron_rows_backward,
    .rows_check = map_kron_rows_check,
    .project = map_kron_project,
    .expand = map_kron_expand,
    .scale = map_kron_scale,
    .tied = kron_tied,
    .init = {{.name = "prune",
              .help = "A is a slice of W: every other row or column, B says where it goes",
              .knob = {{"keep", "which entry of B, row by row, is 1", "even|odd", 0, 0, 1e6},
                       {"second", "the other entries of B", NULL, 0, -1e6, 1e6}},
              .fill = map_kron_prune}},
    .fit = kron_fit,
};
