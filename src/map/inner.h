/* What the files of this room share; other rooms use map.h. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_INNER_H
#define ST_MAP_INNER_H

#include "map/map.h"

#define ST_MAP_TYPE(name) extern const st_map_type st_map_##name;
#include "map/types.def"
#undef ST_MAP_TYPE

/* A size-matched spec may be this far from the wanted number of weights. */
#define MAP_FIT_TOLERANCE 0.15

static inline int64_t map_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline int64_t map_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t map_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
/* Everything from element `offset` on. */
static inline st_tensor map_from(st_tensor t, int64_t offset)
{
    return st_slice(t, offset, st_numel(t) - offset);
}

/* Names a parameter and its shape; unused dims are 0. */
st_param_shape map_param(const char *name, int64_t d0, int64_t d1, int64_t d2, float std);
/* The same of a factor whose last side forward sums over: it may be of a block format, also
 * packed. */
st_param_shape map_factor(const char *name, int64_t d0, int64_t d1, int64_t d2, float std);
/* Is theta's parameter i of a block format? Operations that fuse products do not take those. */
static inline bool map_in_blocks(const st_map_call *c, int i)
{
    return st_dtype_blocks(c->theta->p[i].dtype) != NULL;
}
/* ST_ESHAPE saying that nothing comes within the tolerance of `params`, and what comes nearest. */
st_status map_unfit(const st_spec *s, int64_t params, const st_spec *nearest, st_err *e);
/* |weights(s) - params| / params. */
double map_misfit(const st_spec *s, int64_t params);
/* Fails unless lo <= knob[i] <= hi; `why` explains hi. */
st_status map_range(const st_spec *s, int knob, int64_t lo, int64_t hi, const char *why, st_err *e);

/* W *= by, as the type does it (st_map_type.scale). */
void map_scale(const st_spec *s, const st_theta *t, float by);

/* Numbers of st_map_type.fresh: U(-bound, bound) and N(0, std^2) of the stream of `param`, nothing
 * where t is absent; a bound that the model may go over (how->over); what a model gives the layers
 * it knows, its range or what it goes over that with. A torch layer's own init of a matrix with f
 * inputs, Kaiming-uniform with a = sqrt(5), is U(-1/sqrt(f), 1/sqrt(f)). */
void map_fresh_uniform(const st_fresh_opts *how, const char *param, st_tensor t, double bound);
void map_fresh_normal(const st_fresh_opts *how, const char *param, st_tensor t, float std);
void map_fresh_weight(const st_fresh_opts *how, const char *param, st_tensor t, double bound);
void map_fresh_linear(const st_fresh_opts *how, const char *param, st_tensor t);

/* What every rows and rows_backward ends or begins with: y += position; its gradient. */
void map_rows_position(st_stream *q, const st_embed_fwd_args *a);
void map_rows_position_backward(st_stream *q, const st_embed_bwd_args *a);

/* `count` products side by side: block i is g with A, B, C moved on by i steps and m, n, k clipped
 * to what is left of m_total, n_total, k_total (0: not clipped) after i whole blocks. Runs of whole
 * blocks go out as one batch. g.bias (n_total) is cut with the n blocks. Blocks with no rows or
 * columns left are skipped; one with nothing to sum over sets C to beta*C + bias. */
typedef struct {
    st_gemm_args g;
    int64_t count, m_total, n_total, k_total;
} map_blocks_args;
void map_blocks(st_stream *q, const map_blocks_args *b);

/* lowrank's forward and backward with y (dx) scaled by beta before it is added to: the low-rank
 * part of a sum costs no pass of its own. */
void map_lowrank_forward(const st_map_call *c, float beta);
void map_lowrank_backward(const st_map_call *c, float beta);

#endif
