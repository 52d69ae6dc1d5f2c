/* Shared by the matrix types: parameter rows, refusals, and products over blocks. */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <math.h>
#include <stdio.h>

st_param_shape map_param(const char *name, int64_t d0, int64_t d1, int64_t d2, float std)
{
    st_param_shape p = {.dim = {d0, d1, d2},
                        .init_std = std,
                        .flags = ST_MAP_DECAY,
                        .ndim = d2   ? 3
                                : d1 ? 2
                                     : 1};
    snprintf(p.name, sizeof p.name, "%s", name);
    return p;
}

st_param_shape map_factor(const char *name, int64_t d0, int64_t d1, int64_t d2, float std)
{
    st_param_shape p = map_param(name, d0, d1, d2, std);
    p.flags |= ST_MAP_BLOCKS | ST_MAP_WHOLE;
    return p;
}

double map_misfit(const st_spec *s, int64_t params)
{
    return fabs((double)st_spec_weights(s) - (double)params) / (double)params;
}

st_status map_unfit(const st_spec *s, int64_t params, const st_spec *nearest, st_err *e)
{
    char text[ST_SPEC_TEXT] = "none";
    if (nearest) st_spec_label(nearest, text);
    ST_FAIL(e, ST_ESHAPE,
            "%s: nothing for %lld -> %lld comes within %d %% of %lld weights; the nearest is %s "
            "with %lld",
            s->type->name, (long long)s->in, (long long)s->out, (int)(100 * MAP_FIT_TOLERANCE),
            (long long)params, text, nearest ? (long long)st_spec_weights(nearest) : 0LL);
}

st_status map_range(const st_spec *s, int knob, int64_t lo, int64_t hi, const char *why, st_err *e)
{
    if (s->knob[knob] >= lo && s->knob[knob] <= hi) return ST_OK;
    ST_FAIL(e, ST_ESHAPE, "%s: %s=%lld for %lld -> %lld; legal: %lld..%lld (%s)", s->type->name,
            s->type->knob[knob].name, (long long)s->knob[knob], (long long)s->in, (long long)s->out,
            (long long)lo, (long long)hi, why);
}

st_status st_spec_rows(const st_spec *s, st_err *e)
{
    if (!s->type->rows) {
        char names[128] = "";
        size_t n = 0;
        for (int i = 0; st_map_types[i] && n < sizeof names; i++) {
            if (!st_map_types[i]->rows) continue;
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "",
                                  st_map_types[i]->name);
        }
        ST_FAIL(e, ST_EUNSUPPORTED, "%s has no row look-up, which an embedding needs; these do: %s",
                s->type->name, names);
    }
    return s->type->rows_check ? s->type->rows_check(s, e) : ST_OK;
}

void map_rows_position(st_stream *q, const st_embed_fwd_args *a)
{
    if (!a->position.data) return;
    st_embed_fwd_args add = *a;
    add.table = (st_tensor){0};
    st_stream_ops(q)->embed_fwd(q, &add);
}

void map_rows_position_backward(st_stream *q, const st_embed_bwd_args *a)
{
    if (!a->dposition.data) return;
    st_embed_bwd_args add = *a;
    add.dtable = (st_tensor){0};
    st_stream_ops(q)->embed_bwd(q, &add);
}

static int64_t blocks_left(int64_t size, int64_t total, int64_t i)
{
    return total ? map_max(0, map_min(size, total - i * size)) : size;
}

void map_blocks(st_stream *q, const map_blocks_args *b)
{
    const st_ops *op = st_stream_ops(q);
    const st_gemm_args *g = &b->g;
    for (int64_t i = 0, run; i < b->count; i += run) {
        st_gemm_args part = *g;
        part.m = blocks_left(g->m, b->m_total, i);
        part.n = blocks_left(g->n, b->n_total, i);
        part.k = blocks_left(g->k, b->k_total, i);
        run = 1;
        if (part.m == 0 || part.n == 0) continue;
        bool whole = part.m == g->m && part.n == g->n && part.k == g->k;
        while (whole && i + run < b->count && blocks_left(g->m, b->m_total, i + run) == g->m &&
               blocks_left(g->n, b->n_total, i + run) == g->n &&
               blocks_left(g->k, b->k_total, i + run) == g->k) {
            run++;
        }
        part.batch = run;
        part.a = map_from(g->a, map_min(i * g->step_a, st_numel(g->a)));
        part.b = map_from(g->b, map_min(i * g->step_b, st_numel(g->b)));
        part.c = map_from(g->c, i * g->step_c);
        if (g->bias.data) {
            part.bias = map_from(g->bias, i * g->n);
            part.step_bias = g->n;
        }
        op->gemm(q, &part);
    }
}
