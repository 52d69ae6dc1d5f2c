/* A low-rank part beside any other: W = S + L; or mixed, as in the "sparse + low-rank" layer of
 * HazyResearch fly, by a gate per token, or evenly, as that is without its gate:
 *   y = (1 - g) S x + g L x,   g = sigmoid(w_g x + b_g), or ("mean") 1/2
 * The mean is computed from x/2, which is exact. L is part 0 (lowrank, wherever it was written), S
 * part 1.
 *
 * Projection alternates the nearest S to W - L and the nearest L to W - S, with momentum; it ends
 * near a point where neither part alone can do better, not necessarily at the best pair; weighted
 * by inputs, each part is. With a gate, w_g = b_g = 0 makes g = 1/2 everywhere; with it and in a
 * mean both parts are doubled. */
/* Long: a matrix type is one file. */
/* SPDX-License-Identifier: MIT */
#include "map/weighted.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GATE };
enum { SUM_PLAIN, SUM_GATED, SUM_MEAN }; /* its values */
/* Sweeps of a projection: as many as keep in*out*min(in, out), an SVD's work, under SUM_WORK in
 * all, but some. Randomised SVDs (and exact ones for the last sweep) where the work is over
 * SUM_EXACT: they are several times faster at the ranks in use, and sweeps mend what they miss. */
#define SUM_WORK  6e8
#define SUM_EXACT 4e6
enum { SUM_SWEEPS = 400, SUM_SWEEPS_LEAST = 8 };

static bool sum_gated(const st_spec *s)
{
    return s->knob[GATE] == SUM_GATED;
}

static st_spec sum_part(const st_spec *s, int i)
{
    st_spec p = {.type = s->part[i].type, .in = s->in, .out = s->out};
    memcpy(p.knob, s->part[i].knob, sizeof p.knob);
    return p;
}

static st_status sum_check(st_spec *s, st_err *e)
{
    if (s->part[0].type != &st_map_lowrank && s->part[1].type == &st_map_lowrank) {
        st_spec swap = *s;
        s->part[0] = swap.part[1];
        s->part[1] = swap.part[0];
    }
    if (s->part[0].type != &st_map_lowrank || s->part[1].type == &st_map_lowrank) {
        ST_FAIL(e, ST_EARG, "sum of %s and %s: exactly one part must be lowrank",
                s->part[0].type->name, s->part[1].type->name);
    }
    ST_TRY(map_range(s, GATE, SUM_PLAIN, SUM_MEAN, "neither, a gate or the mean", e));
    for (int i = 0; i < ST_PARTS; i++) {
        st_spec p = sum_part(s, i);
        ST_TRY(st_spec_check(&p, e));
        memcpy(s->part[i].knob, p.knob, sizeof p.knob);
    }
    return ST_OK;
}

static int sum_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    /* Var W = (Var S + Var L) / 4 where g is, or starts at, 1/2, else Var S + Var L */
    float each = s->knob[GATE] ? std * sqrtf(2.0f) : std / sqrtf(2.0f);
    int n = 0;
    for (int i = 0; i < ST_PARTS; i++) {
        st_spec p = sum_part(s, i);
        int count = p.type->params(&p, each, out + n);
        for (int j = n; j < n + count; j++) {
            char name[sizeof out[j].name];
            snprintf(name, sizeof name, "%s", out[j].name);
            snprintf(out[j].name, sizeof name, "%.12s.%.10s", p.type->name, name);
        }
        n += count;
    }
    if (sum_gated(s)) {
        out[n++] = map_param("gate.weight", 1, s->in, 0, 0.0f);
        out[n] = map_param("gate.bias", 1, 0, 0, 0.0f);
        out[n++].flags = 0;
    }
    return n;
}

/* Where the parts' parameters begin in the sum's list; [ST_PARTS] is the gate's place. */
static void sum_first(const st_spec *s, int first[ST_PARTS + 1])
{
    st_param_shape unused[ST_PARAMS];
    first[0] = 0;
    for (int i = 0; i < ST_PARTS; i++) {
        st_spec p = sum_part(s, i);
        first[i + 1] = first[i] + p.type->params(&p, 1.0f, unused);
    }
}

static st_theta sum_theta(const st_spec *s, const st_theta *t, int i)
{
    int first[ST_PARTS + 1];
    sum_first(s, first);
    st_theta part = {0};
    for (int j = first[i]; j < first[i + 1]; j++)
        part.p[j - first[i]] = t->p[j];
    return part;
}

/* Everything that both directions need: parts, their weights and their pieces of `kept`, which is
 * laid out as [L's kept][S's kept][L x][S x][gate logits] for all rows. */
typedef struct {
    st_spec spec[ST_PARTS];
    st_theta theta[ST_PARTS];
    st_tensor kept[ST_PARTS], out[ST_PARTS], z;
} sum_work;

static int64_t sum_kept(const st_spec *s)
{
    int64_t n = 0;
    for (int i = 0; i < ST_PARTS; i++) {
        st_spec p = sum_part(s, i);
        n += p.type->kept(&p);
    }
    return n + (sum_gated(s) ? 2 * s->out + 1 : 0);
}

static sum_work sum_open(const st_map_call *c)
{
    sum_work w = {0};
    int64_t n = c->x.dim[0], at = 0;
    bool outs = sum_gated(c->spec);
    for (int i = 0; i < ST_PARTS; i++) {
        w.spec[i] = sum_part(c->spec, i);
        w.theta[i] = sum_theta(c->spec, c->theta, i);
        int64_t width = w.spec[i].type->kept(&w.spec[i]);
        if (!c->kept.data || !width) continue;
        w.kept[i] = st_view2(st_slice(c->kept, at, n * width).data, c->x.dtype, n, width);
        at += n * width;
    }
    for (int i = 0; i < ST_PARTS && outs; i++) {
        w.out[i] = c->kept.data ? st_view2(st_slice(c->kept, at, n * c->spec->out).data, c->x.dtype,
                                           n, c->spec->out)
                                : st_take2(c->tmp, c->x.dtype, n, c->spec->out);
        at += n * c->spec->out;
    }
    if (outs) w.z = c->kept.data ? st_slice(c->kept, at, n) : st_take1(c->tmp, c->x.dtype, n);
    return w;
}

/* The call as part i's own. */
static st_map_call sum_call(const st_map_call *c, const sum_work *w, int i)
{
    st_map_call own = *c;
    own.spec = &w->spec[i];
    own.theta = &w->theta[i];
    own.kept = w->kept[i];
    return own;
}

/* The parts' outputs (bias in both: it passes through the mix unchanged) and the gate's logits. */
static void sum_branches(const st_map_call *c, const sum_work *w)
{
    size_t mark = st_arena_mark(c->tmp);
    for (int i = 0; i < ST_PARTS; i++) {
        st_map_call own = sum_call(c, w, i);
        own.y = w->out[i];
        w->spec[i].type->forward(&own);
        st_arena_rewind(c->tmp, mark);
    }
    int first[ST_PARTS + 1];
    sum_first(c->spec, first);
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->x.dim[0],
                                                    .n = 1,
                                                    .k = c->spec->in,
                                                    .tb = 1,
                                                    .a = c->x,
                                                    .b = c->theta->p[first[ST_PARTS]],
                                                    .c = w->z,
                                                    .bias = c->theta->p[first[ST_PARTS] + 1]});
}

/* to = x / 2, which may be x. */
static void sum_halve(const st_map_call *c, st_tensor x, st_tensor to)
{
    size_t mark = st_arena_mark(c->tmp);
    st_tensor half = st_take1(c->tmp, ST_F32, 1);
    st_stream_ops(c->q)->fill(c->q, &(st_fill_args){.x = half, .value = 0.5f});
    st_stream_ops(c->q)->scale(c->q, &(st_scale_args){.x = x, .y = to, .s = half});
    st_arena_rewind(c->tmp, mark);
}

/* The call, of a mean with half its input. */
static st_map_call sum_begin(const st_map_call *c)
{
    st_map_call own = *c;
    if (c->spec->knob[GATE] != SUM_MEAN) return own;
    own.x = st_take2(c->tmp, c->x.dtype, c->x.dim[0], c->spec->in);
    sum_halve(c, c->x, own.x);
    return own;
}

static void sum_forward(const st_map_call *call)
{
    st_map_call begun = sum_begin(call), *c = &begun;
    sum_work w = sum_open(c);
    if (!sum_gated(c->spec)) {
        st_map_call l = sum_call(c, &w, 0), s = sum_call(c, &w, 1);
        size_t mark = st_arena_mark(c->tmp);
        s.spec->type->forward(&s);
        st_arena_rewind(c->tmp, mark);
        l.bias = (st_tensor){0};
        map_lowrank_forward(&l, 1.0f);
        return;
    }
    sum_branches(c, &w);
    st_stream_ops(c->q)->gate_fwd(c->q, &(st_gate_fwd_args){.rows = c->x.dim[0],
                                                            .width = c->spec->out,
                                                            .s = w.out[1],
                                                            .l = w.out[0],
                                                            .z = w.z,
                                                            .y = c->y});
}

/* Gradients through the logits: dx += dz w_g, dw_g += dz^T x, db_g += sum dz. */
static void sum_gate_backward(const st_map_call *c, st_tensor dz)
{
    const st_ops *op = st_stream_ops(c->q);
    int first[ST_PARTS + 1];
    sum_first(c->spec, first);
    int gate = first[ST_PARTS];
    int64_t n = c->x.dim[0];
    if (c->dx.data) {
        op->gemm(c->q, &(st_gemm_args){.m = n,
                                       .n = c->spec->in,
                                       .k = 1,
                                       .a = dz,
                                       .b = c->theta->p[gate],
                                       .c = c->dx,
                                       .beta = 1.0f});
    }
    if (!c->dtheta || !c->dtheta->p[gate].data) return;
    op->gemm(c->q, &(st_gemm_args){.m = 1,
                                   .n = c->spec->in,
                                   .k = n,
                                   .ta = 1,
                                   .a = dz,
                                   .b = c->x,
                                   .c = c->dtheta->p[gate],
                                   .beta = 1.0f});
    op->bias_grad(c->q, &(st_bias_grad_args){
                            .rows = n, .width = 1, .dy = dz, .dbias = c->dtheta->p[gate + 1]});
}

static void sum_backward(const st_map_call *call)
{
    st_map_call begun = sum_begin(call), *c = &begun;
    sum_work w = sum_open(c);
    st_tensor d[ST_PARTS] = {c->dy, c->dy}, dz = {0};
    int64_t n = c->x.dim[0];
    if (sum_gated(c->spec)) {
        st_map_call again = *c;
        again.bias = (st_tensor){0};
        if (!c->kept.data) sum_branches(&again, &w);
        for (int i = 0; i < ST_PARTS; i++)
            d[i] = st_take2(c->tmp, c->x.dtype, n, c->spec->out);
        dz = st_take1(c->tmp, c->x.dtype, n);
        st_stream_ops(c->q)->gate_bwd(c->q, &(st_gate_bwd_args){.rows = n,
                                                                .width = c->spec->out,
                                                                .s = w.out[1],
                                                                .l = w.out[0],
                                                                .z = w.z,
                                                                .dy = c->dy,
                                                                .ds = d[1],
                                                                .dl = d[0],
                                                                .dz = dz});
    }
    st_theta dpart[ST_PARTS] = {{{{0}}}};
    for (int i = 0; i < ST_PARTS && c->dtheta; i++)
        dpart[i] = sum_theta(c->spec, c->dtheta, i);
    st_map_call part[ST_PARTS];
    for (int i = 0; i < ST_PARTS; i++) {
        part[i] = sum_call(c, &w, i);
        part[i].dy = d[i];
        part[i].dtheta = &dpart[i];
    }
    size_t mark = st_arena_mark(c->tmp);
    w.spec[1].type->backward(&part[1]);
    st_arena_rewind(c->tmp, mark);
    map_lowrank_backward(&part[0], 1.0f);
    if (sum_gated(c->spec)) sum_gate_backward(c, dz);
    if (c->spec->knob[GATE] == SUM_MEAN && c->dx.data) sum_halve(c, c->dx, c->dx);
}

/* w = scale_l L + scale_s S. */
static st_status sum_mix(const st_spec *s, const st_theta *t, st_tensor w, float scale_l,
                         float scale_s, st_err *e)
{
    int64_t n = s->in * s->out;
    st_tensor other = st_view2(st_calloc(n, sizeof(float)), ST_F32, s->out, s->in);
    if (!other.data) ST_FAIL(e, ST_ENOMEM, "sum: no memory for %lld numbers", (long long)n);
    st_spec l = sum_part(s, 0), x = sum_part(s, 1);
    st_theta tl = sum_theta(s, t, 0), tx = sum_theta(s, t, 1);
    st_status status = st_map_expand(&l, &tl, w, e);
    if (!status) status = st_map_expand(&x, &tx, other, e);
    float *a = w.data, *b = other.data;
    for (int64_t i = 0; i < n && !status; i++)
        a[i] = scale_l * a[i] + scale_s * b[i];
    free(other.data);
    return status;
}

static st_status sum_expand(const st_spec *s, const st_theta *t, st_tensor w, st_err *e)
{
    if (s->knob[GATE] == SUM_PLAIN) return sum_mix(s, t, w, 1.0f, 1.0f, e);
    if (s->knob[GATE] == SUM_MEAN) return sum_mix(s, t, w, 0.5f, 0.5f, e);
    int first[ST_PARTS + 1];
    sum_first(s, first);
    float b = ((const float *)t->p[first[ST_PARTS] + 1].data)[0], g = 1.0f / (1.0f + expf(-b));
    return sum_mix(s, t, w, g, 1.0f - g, e);
}

/* Sets part i to the nearest to `target` and `value` to the matrix it then is. */
static st_status sum_nearest(const st_spec *s, const st_theta *t, int i, float *target,
                             float *value, const st_project_opts *how, st_err *e)
{
    st_spec own = sum_part(s, i);
    st_theta theta = sum_theta(s, t, i);
    ST_TRY(own.type->project(&own, st_view2(target, ST_F32, s->out, s->in), &theta, how, e));
    return st_map_expand(&own, &theta, st_view2(value, ST_F32, s->out, s->in), e);
}

/* One sweep: S to W - L (with a step of `push` beyond L's last move), L to W - S. *error: what is
 * left. */
typedef struct {
    const float *w;
    float *l, *last, *x, *target; /* L, L one sweep ago, S, scratch */
    int64_t n;
} sum_sweep_work;

static st_status sum_sweep(const st_spec *s, const st_theta *t, sum_sweep_work *k, float push,
                           const st_project_opts *how, double *error, st_err *e)
{
    for (int64_t i = 0; i < k->n; i++) {
        k->target[i] = k->w[i] - (k->l[i] + push * (k->l[i] - k->last[i]));
    }
    memcpy(k->last, k->l, (size_t)k->n * sizeof *k->l);
    ST_TRY(sum_nearest(s, t, 1, k->target, k->x, how, e));
    for (int64_t i = 0; i < k->n; i++)
        k->target[i] = k->w[i] - k->x[i];
    ST_TRY(sum_nearest(s, t, 0, k->target, k->l, how, e));
    *error = 0;
    for (int64_t i = 0; i < k->n; i++) {
        double d = (double)k->target[i] - (double)k->l[i];
        *error += d * d;
    }
    return ST_OK;
}

/* Plain alternation crawls where the parts overlap; momentum (Nesterov's, begun again whenever the
 * error grows) takes a fraction of the sweeps. The last sweep is plain, which cannot lose. */
static st_status sum_sweeps(const st_spec *s, const st_theta *t, sum_sweep_work *k,
                            const st_project_opts *last_how, st_err *e)
{
    st_project_opts quick = {.randomized = true,
                             .seed = last_how ? last_how->seed : 0,
                             .in_cov = last_how ? last_how->in_cov : NULL,
                             .prepared = last_how ? last_how->prepared : NULL,
                             .part = true};
    const st_project_opts *how = last_how;
    double side = (double)map_min(s->in, s->out), last = INFINITY, now = 0;
    int most = (int)fmax(SUM_SWEEPS_LEAST, fmin(SUM_SWEEPS, SUM_WORK / (side * (double)k->n)));
    if (side * (double)k->n > SUM_EXACT) how = &quick;
    double tolerance = how == &quick ? 1e-4 : 1e-5;
    int since = 0, still = 0;
    /* L first: S first would leave it blocks of zeros to fit, a saddle that sweeps do not leave */
    memcpy(k->target, k->w, (size_t)k->n * sizeof *k->target);
    ST_TRY(sum_nearest(s, t, 0, k->target, k->l, how, e));
    memcpy(k->last, k->l, (size_t)k->n * sizeof *k->l);
    for (int i = 0; i + 1 < most && still < 3; i++, since++) {
        ST_TRY(sum_sweep(s, t, k, (float)since / (float)(since + 3), how, &now, e));
        if (now > last) since = -1;
        still = fabs(last - now) <= tolerance * now ? still + 1 : 0;
        last = now;
    }
    return sum_sweep(s, t, k, 0.0f, last_how, &now, e);
}

static void sum_scale(const st_spec *s, const st_theta *t, float by)
{
    for (int i = 0; i < ST_PARTS; i++) {
        st_spec own = sum_part(s, i);
        st_theta theta = sum_theta(s, t, i);
        map_scale(&own, &theta, by);
    }
}

static st_status sum_project(const st_spec *s, st_tensor w, const st_theta *t,
                             const st_project_opts *how, st_err *e)
{
    sum_sweep_work k = {.w = w.data, .n = s->in * s->out};
    float *all = st_calloc(4 * k.n, sizeof *all);
    if (!all) ST_FAIL(e, ST_ENOMEM, "sum: no memory for %lld numbers", (long long)(4 * k.n));
    k.l = all;
    k.last = all + k.n;
    k.x = all + 2 * k.n;
    k.target = all + 3 * k.n;
    st_project_opts own = how ? *how : (st_project_opts){0};
    own.part = true;
    map_cov cov = {0};
    st_status status = ST_OK;
    if (own.in_cov) { /* once for all sweeps */
        status = map_cov_open(&cov, &own, s->in, e);
        own.prepared = &cov;
    }
    if (!status) status = sum_sweeps(s, t, &k, &own, e);
    map_cov_close(&cov);
    free(all);
    if (status || s->knob[GATE] == SUM_PLAIN) return status;
    sum_scale(s, t, 2.0f);
    if (!sum_gated(s)) return ST_OK;
    int first[ST_PARTS + 1];
    sum_first(s, first);
    for (int i = 0; i < ST_PARTS; i++) {
        st_tensor gate = t->p[first[ST_PARTS] + i];
        memset(gate.data, 0, st_bytes(gate));
    }
    return ST_OK;
}

/* The parts as fly's layers of their kind (the fork has the same class), without biases; a gate of
 * one linear layer, which the model re-initialises; a bias of its own. */
static void sum_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t, st_tensor bias)
{
    int first[ST_PARTS + 1];
    sum_first(s, first);
    for (int i = 0; i < ST_PARTS; i++) {
        st_spec own = sum_part(s, i);
        st_theta theta = sum_theta(s, t, i);
        st_fresh_opts part = *how;
        char name[160];
        snprintf(name, sizeof name, "%.120s.%s", how->name ? how->name : "", own.type->name);
        part.name = name;
        part.law = ST_FRESH_FLY;
        st_map_fresh(&own, &part, &theta, (st_tensor){0});
    }
    if (sum_gated(s)) {
        st_tensor b = t->p[first[ST_PARTS] + 1];
        map_fresh_linear(how, "gate.weight", t->p[first[ST_PARTS]]);
        memset(b.data, 0, st_bytes(b));
    }
    map_fresh_uniform(how, "bias", bias, 1.0 / sqrt((double)s->out));
}

/* Shares of the weights that the other part is offered, best balance first; what it leaves goes to
 * the rank. */
static st_status sum_fit(st_spec *s, int64_t params, st_err *e)
{
    static const double share[] = {0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2, 0.9};
    int other = s->part[0].type == &st_map_lowrank ? 1 : 0;
    if (s->part[1 - other].type != &st_map_lowrank) return sum_check(s, e);
    int64_t gate = sum_gated(s) ? s->in + 1 : 0;
    for (size_t i = 0; i < sizeof share / sizeof *share; i++) {
        st_spec x = sum_part(s, other), l = sum_part(s, 1 - other);
        int64_t want = (int64_t)(share[i] * (double)params);
        if (want < 1 || x.type->fit(&x, want, NULL) || st_spec_check(&x, NULL)) continue;
        int64_t left = params - st_spec_weights(&x) - gate;
        if (left < 1 || l.type->fit(&l, left, NULL)) continue;
        st_spec found = *s;
        memcpy(found.part[other].knob, x.knob, sizeof x.knob);
        memcpy(found.part[1 - other].knob, l.knob, sizeof l.knob);
        if (map_misfit(&found, params) > MAP_FIT_TOLERANCE) continue;
        *s = found;
        return ST_OK;
    }
    return map_unfit(s, params, NULL, e);
}

const st_map_type st_map_sum = {
    .name = "sum",
    .summary = "lowrank + any other map, with an optional gate per token, or their mean",
    .equation =
        "y = S x + L x; gated: y = (1 - g) S x + g L x, g = sigmoid(w_g x + b_g); mean: g = 1/2",
    .source = "Chen et al. 2021 (Scatterbrain); HazyResearch fly",
    .knob = {{"gate", "written as \"+gate\" or \"+mean\" at the end", 0, ST_KNOB_HIDDEN}},
    .check = sum_check,
    .params = sum_params,
    .kept = sum_kept,
    .forward = sum_forward,
    .backward = sum_backward,
    .project = sum_project,
    .expand = sum_expand,
    .scale = sum_scale,
    .fresh = sum_fresh,
    .fit = sum_fit,
    .view = {{"gated sum", "lowrank+blockdiag+gate", ""}},
};
