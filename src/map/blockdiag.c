/* Block-diagonal: W = diag(W_0, ..., W_{b-1}), block i maps inputs [i p, (i+1) p) to outputs
 * [i s, (i+1) s), p = ceil(in/b), s = ceil(out/b). Where b does not divide, inputs are padded with
 * zeros and outputs cut, so the last blocks have idle weights. Projection: copying the blocks;
 * weighted by inputs, the regression of each block's outputs on its own inputs, exact too. */
/* SPDX-License-Identifier: MIT */
#include "map/weighted.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS };

static st_status blockdiag_check(st_spec *s, st_err *e)
{
    return map_range(s, BLOCKS, 1, map_min(s->in, s->out), "the smaller side", e);
}

static int blockdiag_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    int64_t b = s->knob[BLOCKS];
    /* entries of W are zero outside the blocks: E[W^2] = std^2 needs sqrt(b) more in them */
    float each = std * sqrtf((float)b);
    out[0] = map_factor("blocks", b, map_ceil(s->out, b), map_ceil(s->in, b), each);
    if (s->out % b) out[0].flags &= ~(unsigned)ST_MAP_WHOLE;
    if (s->in % b) out[0].flags = ST_MAP_DECAY; /* the last block's rows are cut */
    return 1;
}

static int64_t blockdiag_kept(const st_spec *s)
{
    (void)s;
    return 0;
}

static void blockdiag_forward(const st_map_call *c)
{
    int64_t b = c->spec->knob[BLOCKS], p = map_ceil(c->spec->in, b), n = map_ceil(c->spec->out, b);
    map_blocks(c->q, &(map_blocks_args){.g = {.m = c->x.dim[0],
                                              .n = n,
                                              .k = p,
                                              .lda = c->spec->in,
                                              .ldb = p,
                                              .ldc = c->spec->out,
                                              .step_a = p,
                                              .step_b = n * p,
                                              .step_c = n,
                                              .tb = 1,
                                              .a = c->x,
                                              .b = c->theta->p[0],
                                              .c = c->y,
                                              .bias = c->bias},
                                        .count = b,
                                        .n_total = c->spec->out,
                                        .k_total = c->spec->in});
}

static void blockdiag_backward(const st_map_call *c)
{
    int64_t b = c->spec->knob[BLOCKS], p = map_ceil(c->spec->in, b), n = map_ceil(c->spec->out, b);
    if (c->dtheta && c->dtheta->p[0].data) {
        map_blocks(c->q, &(map_blocks_args){.g = {.m = n,
                                                  .n = p,
                                                  .k = c->x.dim[0],
                                                  .lda = c->spec->out,
                                                  .ldb = c->spec->in,
                                                  .ldc = p,
                                                  .step_a = n,
                                                  .step_b = p,
                                                  .step_c = n * p,
                                                  .ta = 1,
                                                  .a = c->dy,
                                                  .b = c->x,
                                                  .c = c->dtheta->p[0],
                                                  .beta = 1.0f},
                                            .count = b,
                                            .m_total = c->spec->out,
                                            .n_total = c->spec->in});
    }
    if (!c->dx.data) return;
    map_blocks(c->q, &(map_blocks_args){.g = {.m = c->x.dim[0],
                                              .n = p,
                                              .k = n,
                                              .lda = c->spec->out,
                                              .ldb = p,
                                              .ldc = c->spec->in,
                                              .step_a = n,
                                              .step_b = n * p,
                                              .step_c = p,
                                              .a = c->dy,
                                              .b = c->theta->p[0],
                                              .c = c->dx},
                                        .count = b,
                                        .n_total = c->spec->in,
                                        .k_total = c->spec->out});
}

static st_status blockdiag_project_weighted(const st_spec *s, st_tensor w, const st_theta *t,
                                            const st_project_opts *how, st_err *e)
{
    int64_t b = s->knob[BLOCKS], p = map_ceil(s->in, b), n = map_ceil(s->out, b);
    float *to = t->p[0].data;
    map_cov k = {0};
    int64_t *bucket = st_calloc(s->in, sizeof *bucket);
    st_status status = ST_OK;
    if (!bucket) status = ST_NOMEM(e, "blockdiag");
    if (!status) status = map_cov_open(&k, how, s->in, e);
    for (int64_t i = 0; i < b && i * n < s->out && i * p < s->in && !status; i++) {
        for (int64_t j = 0; j < s->in; j++)
            bucket[j] = j / p == i ? j % p : -1;
        status = map_regress(&(map_regress_args){.k = &k,
                                                 .w = w.data,
                                                 .bucket = bucket,
                                                 .first = i * n,
                                                 .rows = map_min(n, s->out - i * n),
                                                 .width = p,
                                                 .theta = to + i * n * p},
                             e);
    }
    map_cov_close(&k);
    free(bucket);
    return status;
}

static st_status blockdiag_project(const st_spec *s, st_tensor w, const st_theta *t,
                                   const st_project_opts *how, st_err *e)
{
    int64_t b = s->knob[BLOCKS], p = map_ceil(s->in, b), n = map_ceil(s->out, b);
    float *to = t->p[0].data;
    const float *from = w.data;
    memset(to, 0, st_bytes(t->p[0]));
    if (how && how->in_cov) return blockdiag_project_weighted(s, w, t, how, e);
    for (int64_t o = 0; o < s->out; o++) {
        int64_t first = o / n * p, cols = map_min(p, s->in - first);
        if (cols > 0) memcpy(to + o * p, from + o * s->in + first, (size_t)cols * sizeof *to);
    }
    return ST_OK;
}

/* fly's layer cuts the blocks out of a dense init of `in` inputs and scales them by sqrt(blocks).
 */
static void blockdiag_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t,
                            st_tensor bias)
{
    double p = (double)map_ceil(s->in, s->knob[BLOCKS]);
    map_fresh_weight(how, "blocks", t->p[0], 1.0 / sqrt(p));
    map_fresh_uniform(how, "bias", bias, 1.0 / sqrt((double)s->out));
}

static st_status blockdiag_fit(st_spec *s, int64_t params, st_err *e)
{
    st_spec best = *s;
    best.knob[BLOCKS] = 1;
    for (int64_t b = 2; b <= map_min(s->in, s->out); b++) {
        s->knob[BLOCKS] = b;
        if (map_misfit(s, params) < map_misfit(&best, params)) best = *s;
    }
    *s = best;
    if (map_misfit(s, params) > MAP_FIT_TOLERANCE) return map_unfit(s, params, s, e);
    return ST_OK;
}

const st_map_type st_map_blockdiag = {
    .name = "blockdiag",
    .summary = "independent blocks on the diagonal",
    .equation = "y[i s + o] = sum_j B[i, o, j] x[i p + j], p = ceil(in/b), s = ceil(out/b)",
    .source = "Dao et al. 2022 (Monarch), HazyResearch fly",
    .knob = {{"blocks", "number of blocks b, 1..min(in, out)", 4, ST_KNOB_SHOWN}},
    .check = blockdiag_check,
    .params = blockdiag_params,
    .kept = blockdiag_kept,
    .forward = blockdiag_forward,
    .backward = blockdiag_backward,
    .project = blockdiag_project,
    .fresh = blockdiag_fresh,
    .fit = blockdiag_fit,
};
