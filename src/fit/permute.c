/* Orders of hidden units and residual channels in which structured matrices fit better. Both orders
 * are free: the model is the same function (model/symmetry.c).
 *
 * Grouping: units sorted by importance, the first n1 of them in slot 0 of each group of n2 that
 * share a column of the large factor, the next in slot 1, ... (kron: unit j n2 + slot). Large and
 * small units do not share a slot, so B can tell them apart; what pruning drops is the small ones.
 *
 * Search, the alternation that TQCompressor describes (Abronin et al. 2024), in our words: W' <-
 * the nearest matrices in the present order; order <- the assignment of units to places that brings
 * W nearest to W', max sum_p <w_order(p), w'_p>. Neither step can lose; it ends where the gain is
 * small. It starts from the best of three: the given order; the grouped one; and that with each
 * group's first unit joined by those that are most like it. */
/* SPDX-License-Identifier: MIT */
#include "fit/permute.h"
#include "linalg/linalg.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PERMUTE_TURNS = 8 };
/* A turn that gains less than this share of the energy is the last. */
#define PERMUTE_TOLERANCE 1e-3
/* Small enough that a group's first unit is worth more in its place than as another's partner. */
#define PERMUTE_PARTNER 0.1f

/* ---- orders ---------------------------------------------------------------------------------- */

typedef struct {
    double importance;
    int64_t unit;
} permute_rank;

/* Descending; equal ones stay in their order. */
static int permute_compare(const void *a, const void *b)
{
    const permute_rank *x = a, *y = b;
    if (x->importance > y->importance || x->importance < y->importance)
        return x->importance > y->importance ? -1 : 1;
    return x->unit < y->unit ? -1 : 1;
}

st_status st_units_group(const double *importance, int64_t n, int64_t group, int64_t *order,
                         st_err *e)
{
    permute_rank *rank = st_calloc(n, sizeof *rank);
    if (!rank) return ST_NOMEM(e, "grouping");
    for (int64_t i = 0; i < n; i++)
        rank[i] = (permute_rank){importance[i], i};
    qsort(rank, (size_t)n, sizeof *rank, permute_compare);
    int64_t each = n / group;
    for (int64_t r = 0; r < n; r++)
        order[r % each * group + r / each] = rank[r].unit;
    free(rank);
    return ST_OK;
}

void st_units_norms(const st_units_side *s, double *norm)
{
    for (int64_t o = 0; o < s->to.out; o++) {
        for (int64_t i = 0; i < s->to.in; i++) {
            double x = (double)s->w[o * s->to.in + i];
            norm[s->of_out ? o : i] += x * x;
        }
    }
}

/* ---- one matrix under an order --------------------------------------------------------------- */

/* v (out, in) = the nearest matrix to w. */
static st_status permute_nearest(const st_spec *s, float *w, float *v, bool randomized,
                                 uint64_t seed, st_err *e)
{
    st_param_shape shape[ST_PARAMS];
    st_theta t = {0};
    int n = s->type->params(s, 1.0f, shape);
    st_status status = ST_OK;
    for (int i = 0; i < n && !status; i++) {
        t.p[i] = st_view(NULL, ST_F32, shape[i].ndim, shape[i].dim);
        t.p[i].data = st_calloc(st_numel(t.p[i]), sizeof(float));
        if (!t.p[i].data) status = ST_NOMEM(e, NULL);
    }
    st_project_opts how = {.randomized = randomized, .seed = seed};
    if (!status) status = s->type->project(s, st_view2(w, ST_F32, s->out, s->in), &t, &how, e);
    if (!status) status = st_map_expand(s, &t, st_view2(v, ST_F32, s->out, s->in), e);
    for (int i = 0; i < n; i++)
        free(t.p[i].data);
    return status;
}

/* to: w with rows (of_out) or columns in this order. */
static void permute_copy(const st_units_side *s, const int64_t *order, float *to)
{
    int64_t in = s->to.in;
    for (int64_t o = 0; o < s->to.out; o++) {
        if (s->of_out) {
            memcpy(to + o * in, s->w + order[o] * in, (size_t)in * sizeof *to);
            continue;
        }
        for (int64_t i = 0; i < in; i++)
            to[o * in + i] = s->w[o * in + order[i]];
    }
}

typedef struct {
    const st_units_args *a;
    const int64_t *order;
    float *gain;        /* (n, n), added to; NULL: not wanted */
    double total, lost; /* added to */
    pthread_mutex_t lock;
} permute_turn;

static st_status permute_side(void *ctx, int64_t k, st_err *e)
{
    permute_turn *t = ctx;
    const st_units_side *s = &t->a->side[k];
    int64_t n = s->to.in * s->to.out;
    float *w = malloc((size_t)n * sizeof *w), *v = malloc((size_t)n * sizeof *v);
    double total = 0.0, lost = 0.0;
    st_status status = ST_OK;
    if (!w || !v) status = ST_NOMEM(e, NULL);
    if (!status) {
        permute_copy(s, t->order, w);
        status = permute_nearest(&s->to, w, v, t->a->randomized, t->a->seed, e);
    }
    for (int64_t i = 0; i < n && !status; i++) {
        double x = (double)w[i], d = x - (double)v[i];
        total += x * x;
        lost += d * d;
    }
    if (!status) {
        pthread_mutex_lock(&t->lock);
        t->total += total;
        t->lost += lost;
        if (t->gain) st_assign_gain(s->w, v, s->to.out, s->to.in, s->of_out, t->gain);
        pthread_mutex_unlock(&t->lock);
    }
    free(w);
    free(v);
    return status;
}

/* Energy kept under `order`; `gain` (may be NULL) is set. */
static st_status permute_measure(const st_units_args *a, const int64_t *order, float *gain,
                                 double *energy, st_err *e)
{
    permute_turn t = {.a = a, .order = order, .gain = gain};
    st_status s = ST_OK;
    if (gain) memset(gain, 0, (size_t)(a->n * a->n) * sizeof *gain);
    pthread_mutex_init(&t.lock, NULL);
    if (a->spread) {
        s = st_spread(
            &(st_spread_args){.n = a->sides, .work = permute_side, .ctx = &t, .quiet = true}, e);
    }
    for (int64_t k = 0; k < a->sides && !a->spread && !s; k++) {
        s = permute_side(&t, k, e);
        if (!s && st_interrupted()) s = ST_ERR(e, ST_EINTR, "interrupted; nothing was written");
    }
    pthread_mutex_destroy(&t.lock);
    *energy = t.total > 0.0 ? 1.0 - t.lost / t.total : 1.0;
    return s;
}

/* ---- the search ------------------------------------------------------------------------------ */

/* v: where unit p of `order` is tied to neighbours, what slot 0 of its group has, slots after it at
 * PERMUTE_PARTNER of its size. */
static void permute_leaders(const st_units_side *s, const int64_t *order, float *v)
{
    int64_t in = s->to.in, tied = st_spec_tied(&s->to, s->of_out);
    for (int64_t o = 0; o < s->to.out; o++) {
        for (int64_t i = 0; i < in; i++) {
            int64_t p = s->of_out ? o : i, lead = order[p - p % tied];
            float x = s->w[s->of_out ? lead * in + i : o * in + lead];
            v[o * in + i] = p % tied ? PERMUTE_PARTNER * x : x;
        }
    }
}

/* order: each group's first unit of the grouped order where it is, the others where they are most
 * like it. (The nearest matrices are a poor guide at first: in most orders every unit is nearest to
 * the place that it has.) */
static st_status permute_partners(const st_units_args *a, int64_t *order, float *gain, st_err *e)
{
    memset(gain, 0, (size_t)(a->n * a->n) * sizeof *gain);
    for (int64_t k = 0; k < a->sides; k++) {
        const st_units_side *s = &a->side[k];
        if (st_spec_tied(&s->to, s->of_out) == 1) continue;
        float *v = malloc((size_t)(s->to.in * s->to.out) * sizeof *v);
        if (!v) return ST_NOMEM(e, NULL);
        permute_leaders(s, a->grouped, v);
        st_assign_gain(s->w, v, s->to.out, s->to.in, s->of_out, gain);
        free(v);
    }
    return st_assign(gain, a->n, order, e);
}

/* The best of the orders to start from; `gain` is then its. */
static st_status permute_start(const st_units_args *a, int64_t *order, int64_t *next, float *gain,
                               st_units_found *out, st_err *e)
{
    double energy;
    ST_TRY(permute_measure(a, order, NULL, &out->before, e));
    ST_TRY(permute_measure(a, a->grouped, NULL, &energy, e));
    out->after = out->before;
    if (energy > out->after) {
        memcpy(order, a->grouped, (size_t)a->n * sizeof *order);
        out->after = energy;
    }
    ST_TRY(permute_partners(a, next, gain, e));
    ST_TRY(permute_measure(a, next, gain, &energy, e));
    if (energy <= out->after) return permute_measure(a, order, gain, &energy, e);
    memcpy(order, next, (size_t)a->n * sizeof *order);
    out->after = energy;
    return ST_OK;
}

static st_status permute_turns(const st_units_args *a, int64_t *order, int64_t *next, float *gain,
                               st_units_found *out, st_err *e)
{
    ST_TRY(permute_start(a, order, next, gain, out, e));
    while (out->turns < PERMUTE_TURNS) {
        double energy;
        ST_TRY(st_assign(gain, a->n, next, e));
        ST_TRY(permute_measure(a, next, gain, &energy, e));
        if (energy <= out->after) break; /* rounding */
        bool last = energy < out->after * (1.0 + PERMUTE_TOLERANCE);
        memcpy(order, next, (size_t)a->n * sizeof *order);
        out->after = energy;
        out->turns++;
        if (last) break;
    }
    return ST_OK;
}

st_status st_units_search(const st_units_args *a, int64_t *order, st_units_found *out, st_err *e)
{
    float *gain = st_calloc(a->n * a->n, sizeof *gain);
    int64_t *next = st_calloc(a->n, sizeof *next);
    *out = (st_units_found){0};
    st_status s = ST_OK;
    if (!gain || !next) s = ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < a->n; i++)
        order[i] = i;
    if (!s) s = permute_turns(a, order, next, gain, out, e);
    free(gain);
    free(next);
    return s;
}
