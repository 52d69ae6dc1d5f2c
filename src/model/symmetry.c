/* Weights of the same function: GPT-2's layer norms folded into the matrices after them, its hidden
 * units and its residual channels in another order.
 *   W (gamma x + beta) + b = (W diag(gamma)) x + (b + W beta)
 *   W_proj P^T gelu(P W_fc x + P b) = W_proj gelu(W_fc x + b)
 *   layer norm, attention and MLP do not know the order of the channels of the residual stream
 * Exact but for rounding; the permutations move numbers and round nothing, except that sums over
 * channels then run in another order. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const st_model *m;
    float *flat;
    st_err *e;
} symmetry;

/* The tensor "h.LAYER.NAME" (layer < 0: "NAME") in flat, or one without data. */
static st_tensor symmetry_find(const symmetry *y, int64_t layer, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s", name);
    if (layer >= 0) snprintf(full, sizeof full, "h.%lld.%s", (long long)layer, name);
    for (int64_t i = 0; i < y->m->entries; i++) {
        const st_param *p = &y->m->entry[i].p;
        if (strcmp(p->name, full) == 0)
            return st_view(y->flat + p->offset, ST_F32, p->w.ndim, p->w.dim);
    }
    return (st_tensor){0};
}

/* Fails unless matrix `name` of the layer is dense. */
static st_status symmetry_dense(const symmetry *y, int64_t layer, const char *name,
                                const char *what)
{
    char full[96];
    snprintf(full, sizeof full, "h.%lld.%s", (long long)layer, name);
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    for (int64_t i = 0; i < y->m->matrices; i++) {
        if (strcmp(y->m->matrix[i].name, full) != 0) continue;
        const st_spec *s = y->m->matrix[i].spec;
        if (s->type == &st_map_dense) return ST_OK;
        ST_FAIL(y->e, ST_EARG, "%s: %s is %s already, expected a dense matrix", what, full,
                s->type->name);
    }
    return ST_OK;
}

/* ---- folding --------------------------------------------------------------------------------- */

static void symmetry_fold(st_tensor gain, st_tensor shift, st_tensor w, st_tensor bias)
{
    int64_t in = w.dim[1];
    float *g = gain.data, *s = shift.data, *to = w.data, *b = bias.data;
    for (int64_t o = 0; o < w.dim[0]; o++) {
        double sum = 0.0;
        for (int64_t i = 0; i < in; i++) {
            sum += (double)to[o * in + i] * (double)s[i];
            to[o * in + i] *= g[i];
        }
        b[o] = (float)((double)b[o] + sum);
    }
    for (int64_t i = 0; i < in; i++) {
        g[i] = 1.0f;
        s[i] = 0.0f;
    }
}

st_status st_model_fold_norms(const st_model *m, float *flat, st_err *e)
{
    static const char *const row[2][4] = {
        {"ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias"},
        {"ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias"}};
    symmetry y = {m, flat, e};
    int64_t layers = st_model_lm(m).layers;
    for (int64_t i = 0; i < layers; i++) {
        ST_TRY(symmetry_dense(&y, i, "attn.c_attn", "folding layer norms"));
        ST_TRY(symmetry_dense(&y, i, "mlp.c_fc", "folding layer norms"));
    }
    for (int64_t i = 0; i < layers; i++) {
        for (int k = 0; k < 2; k++) {
            symmetry_fold(symmetry_find(&y, i, row[k][0]), symmetry_find(&y, i, row[k][1]),
                          symmetry_find(&y, i, row[k][2]), symmetry_find(&y, i, row[k][3]));
        }
    }
    return ST_OK;
}

/* ---- permuting ------------------------------------------------------------------------------- */

/* Rows p of t (or, `columns`, columns p) become what rows from[p] were. `old` has room for t. A
 * vector has its numbers in rows; absent tensors are let be. */
static void symmetry_move(st_tensor t, const int64_t *from, bool columns, float *old)
{
    if (!t.data) return;
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
    if (!seen) ST_FAIL(e, ST_ENOMEM, "permutation: out of memory");
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
    if (!old) ST_ERR(e, ST_ENOMEM, "permutation: out of memory");
    return old;
}

st_status st_model_permute_hidden(const st_model *m, int64_t layer, const int64_t *from,
                                  float *flat, st_err *e)
{
    symmetry y = {m, flat, e};
    ST_TRY(symmetry_check(from, st_model_lm(m).inner, e));
    ST_TRY(symmetry_dense(&y, layer, "mlp.c_fc", "permuting hidden units"));
    ST_TRY(symmetry_dense(&y, layer, "mlp.c_proj", "permuting hidden units"));
    float *old = symmetry_room(m, e);
    if (!old) return ST_ENOMEM;
    symmetry_move(symmetry_find(&y, layer, "mlp.c_fc.weight"), from, false, old);
    symmetry_move(symmetry_find(&y, layer, "mlp.c_fc.bias"), from, false, old);
    symmetry_move(symmetry_find(&y, layer, "mlp.c_proj.weight"), from, true, old);
    free(old);
    return ST_OK;
}

/* What has residual channels, per layer and once; columns: of a matrix's inputs. */
static const struct {
    const char *name;
    bool columns;
} symmetry_block[] = {{"ln_1.weight", false},       {"ln_1.bias", false},
                      {"attn.c_attn.weight", true}, {"attn.c_proj.weight", false},
                      {"attn.c_proj.bias", false},  {"ln_2.weight", false},
                      {"ln_2.bias", false},         {"mlp.c_fc.weight", true},
                      {"mlp.c_proj.weight", false}, {"mlp.c_proj.bias", false}},
  symmetry_once[] = {{"wte.weight", true},
                     {"wpe.weight", true},
                     {"ln_f.weight", false},
                     {"ln_f.bias", false},
                     {"lm_head.weight", true}};

enum {
    SYMMETRY_BLOCK = sizeof symmetry_block / sizeof *symmetry_block,
    SYMMETRY_ONCE = sizeof symmetry_once / sizeof *symmetry_once
};

st_status st_model_permute_residual(const st_model *m, const int64_t *from, float *flat, st_err *e)
{
    symmetry y = {m, flat, e};
    ST_TRY(symmetry_check(from, st_model_lm(m).width, e));
    for (int64_t i = 0; i < m->matrices; i++)
        ST_TRY(symmetry_dense(&y, -1, m->matrix[i].name, "permuting residual channels"));
    float *old = symmetry_room(m, e);
    if (!old) return ST_ENOMEM;
    for (int64_t i = 0; i < st_model_lm(m).layers; i++) {
        for (int k = 0; k < SYMMETRY_BLOCK; k++) {
            symmetry_move(symmetry_find(&y, i, symmetry_block[k].name), from,
                          symmetry_block[k].columns, old);
        }
    }
    for (int k = 0; k < SYMMETRY_ONCE; k++) {
        symmetry_move(symmetry_find(&y, -1, symmetry_once[k].name), from, symmetry_once[k].columns,
                      old);
    }
    free(old);
    return ST_OK;
}
