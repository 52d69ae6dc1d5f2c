/* Weights of the same function: a language model's norms folded into the matrices after them, its
 * hidden units and its residual channels in another order.
 *   W (gamma x + beta) + b = (W diag(gamma)) x + (b + W beta)
 *   W_proj P^T gelu(P W_fc x + P b) = W_proj gelu(W_fc x + b)
 *   norms, attention and MLPs do not know the order of the channels of the residual stream
 * Exact but for rounding; the permutations move numbers and round nothing, except that sums over
 * channels then run in another order. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of p in flat. */
static st_tensor symmetry_view(const st_param *p, float *flat)
{
    return st_view(flat + p->offset, ST_F32, p->w.ndim, p->w.dim);
}

/* The weights (or the bias) of that role in a block, from entry *i on, which moves past them; one
 * without data if there are no more. */
static st_tensor symmetry_next(const st_model *m, float *flat, st_role role, int64_t layer,
                               bool bias, int64_t *i)
{
    while (*i < m->entries) {
        const st_param *p = &m->entry[(*i)++].p;
        bool is = (p->flags & ST_P_BIAS) != 0;
        if (p->role == role && p->layer == layer && is == bias) return symmetry_view(p, flat);
    }
    return (st_tensor){0};
}

/* Fails unless the matrix is dense. */
static st_status symmetry_dense(const st_slot *s, const char *what, st_err *e)
{
    if (s->spec->type == &st_map_dense) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: %s is %s already, expected a dense matrix", what, s->name,
            s->spec->type->name);
}

/* ---- folding --------------------------------------------------------------------------------- */

/* A norm's gain (stored less `less`) and shift (absent: 0) into a matrix after it and its bias. */
static void symmetry_fold(st_tensor gain, float less, st_tensor shift, st_tensor w, st_tensor bias)
{
    int64_t in = w.dim[1];
    const float *g = gain.data, *s = shift.data;
    float *to = w.data, *b = bias.data;
    assert(!s || b);
    for (int64_t o = 0; o < w.dim[0]; o++) {
        double sum = 0.0;
        for (int64_t i = 0; i < in; i++) {
            if (s) sum += (double)to[o * in + i] * (double)s[i];
            to[o * in + i] *= g[i] + less;
        }
        if (s) b[o] = (float)((double)b[o] + sum);
    }
}

/* What the gains of m's blocks are stored less. */
static float symmetry_less(const st_model *m)
{
    for (int64_t i = 0; i < m->entries; i++)
        if (m->entry[i].p.flags & ST_P_LESS) return 1.0f;
    return 0.0f;
}

/* The norm of role `from` into all matrices of role `into`. */
static void symmetry_fold_norm(const st_model *m, float *flat, int64_t layer, st_role from,
                               st_role into)
{
    float less = symmetry_less(m);
    int64_t g = 0, s = 0, w = 0, b = 0;
    st_tensor gain = symmetry_next(m, flat, from, layer, false, &g);
    st_tensor shift = symmetry_next(m, flat, from, layer, true, &s);
    for (;;) {
        st_tensor to = symmetry_next(m, flat, into, layer, false, &w);
        if (!to.data) return;
        symmetry_fold(gain, less, shift, to, symmetry_next(m, flat, into, layer, true, &b));
    }
}

static void symmetry_reset(st_tensor t, float x)
{
    float *to = t.data;
    for (int64_t i = 0; to && i < st_numel(t); i++)
        to[i] = x;
}

st_status st_model_fold_norms(const st_model *m, float *flat, st_err *e)
{
    /* What reads each norm of a block. */
    static const st_role row[][2] = {{ST_ROLE_NORM_ATTENTION, ST_ROLE_QKV},
                                     {ST_ROLE_NORM_MLP, ST_ROLE_MLP_IN},
                                     {ST_ROLE_NORM_MLP, ST_ROLE_MLP_GATE}};
    enum { ROWS = sizeof row / sizeof *row };
    for (int64_t i = 0; i < m->matrices; i++) {
        const st_slot *s = &m->matrix[i];
        for (int k = 0; k < ROWS; k++)
            if (s->role == row[k][1]) ST_TRY(symmetry_dense(s, "folding layer norms", e));
    }
    for (int64_t i = 0; i < st_model_lm(m).layers; i++) {
        for (int k = 0; k < ROWS; k++)
            symmetry_fold_norm(m, flat, i, row[k][0], row[k][1]);
        for (int k = 0; k < ROWS; k++) {
            int64_t g = 0, s = 0;
            symmetry_reset(symmetry_next(m, flat, row[k][0], i, false, &g), 1 - symmetry_less(m));
            symmetry_reset(symmetry_next(m, flat, row[k][0], i, true, &s), 0.0f);
        }
    }
    return ST_OK;
}

/* ---- permuting ------------------------------------------------------------------------------- */

/* Rows p of t (or, `columns`, columns p) become what rows from[p] were. `old` has room for t. A
 * vector has its numbers in rows. */
static void symmetry_move(st_tensor t, const int64_t *from, bool columns, float *old)
{
    int64_t rows = t.dim[0], cols = t.ndim == 2 ? t.dim[1] : 1;
    float *to = t.data;
    memcpy(old, to, st_bytes(t));
    for (int64_t r = 0; r < rows; r++) {
        if (!columns) {
            memcpy(to + r * cols, old + from[r] * cols, (size_t)cols * sizeof *to);
            continue;
        }
        for (int64_t c = 0; c < cols; c++)
            to[r * cols + c] = old[r * cols + from[c]];
    }
}

/* Fails unless from is a permutation of 0 .. n - 1. */
static st_status symmetry_check(const int64_t *from, int64_t n, st_err *e)
{
    bool *seen = st_calloc(n, sizeof *seen), wrong = false;
    if (!seen) return ST_NOMEM(e, "permutation");
    for (int64_t i = 0; i < n; i++) {
        if (from[i] < 0 || from[i] >= n || seen[from[i]])
            wrong = true;
        else
            seen[from[i]] = true;
    }
    free(seen);
    if (wrong) ST_FAIL(e, ST_EARG, "not a permutation of %lld numbers", (long long)n);
    return ST_OK;
}

/* Room for the largest tensor. */
static float *symmetry_room(const st_model *m, st_err *e)
{
    int64_t most = 0;
    for (int64_t i = 0; i < m->entries; i++) {
        int64_t n = st_numel(m->entry[i].p.w);
        if (n > most) most = n;
    }
    float *old = malloc((size_t)most * sizeof *old);
    if (!old) ST_NOMEM(e, "permutation");
    return old;
}

/* Moves side `side` of p: the rows of a matrix, a vector and a bias are its outputs. */
static void symmetry_param(const st_param *p, float *flat, st_side side, const int64_t *from,
                           float *old)
{
    bool bias = (p->flags & ST_P_BIAS) != 0;
    if (side == ST_SIDE_NONE || (side == ST_SIDE_IN && bias)) return;
    symmetry_move(symmetry_view(p, flat), from, side == ST_SIDE_IN, old);
}

st_status st_model_permute_hidden(const st_model *m, int64_t layer, const int64_t *from,
                                  float *flat, st_err *e)
{
    ST_TRY(symmetry_check(from, st_model_lm(m).inner, e));
    for (int64_t i = 0; i < m->matrices; i++) {
        const st_slot *s = &m->matrix[i];
        if (s->layer == layer && st_role_hidden(s->role))
            ST_TRY(symmetry_dense(s, "permuting hidden units", e));
    }
    float *old = symmetry_room(m, e);
    if (!old) return ST_ENOMEM;
    for (int64_t i = 0; i < m->entries; i++) {
        const st_param *p = &m->entry[i].p;
        if (p->layer == layer) symmetry_param(p, flat, st_role_hidden(p->role), from, old);
    }
    free(old);
    return ST_OK;
}

st_status st_model_permute_residual(const st_model *m, const int64_t *from, float *flat, st_err *e)
{
    ST_TRY(symmetry_check(from, st_model_lm(m).width, e));
    for (int64_t i = 0; i < m->matrices; i++)
        ST_TRY(symmetry_dense(&m->matrix[i], "permuting residual channels", e));
    float *old = symmetry_room(m, e);
    if (!old) return ST_ENOMEM;
    for (int64_t i = 0; i < m->entries; i++) {
        const st_param *p = &m->entry[i].p;
        symmetry_param(p, flat, st_role_residual(p->role), from, old);
    }
    free(old);
    return ST_OK;
}
