/* A pre-norm transformer block (Radford et al. 2019; Xiong et al. 2020) with multi-head attention
 * and a GELU MLP, forward and backward. The backward under each forward reads from its end. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>

static const st_tensor none;

void st_matrix_forward(st_stream *q, const st_matrix *w, st_tensor x, st_tensor y, st_tensor kept,
                       st_arena *tmp)
{
    st_stream_tag(q, w->name);
    if (w->tap && w->tap->fn) w->tap->fn(w->tap->ctx, q, w->name, x);
    st_linear_forward(q, &w->l, x, y, kept, tmp);
}

void st_matrix_backward(st_stream *q, const st_matrix *w, st_tensor x, st_tensor kept, st_tensor dy,
                        st_tensor dx, st_arena *tmp)
{
    st_stream_tag(q, w->name);
    st_linear_backward(q, &w->l, x, kept, dy, dx, tmp);
}

void st_matrix_backward_add(st_stream *q, const st_matrix *w, st_tensor x, st_tensor kept,
                            st_tensor dy, st_tensor dx, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    st_tensor part = st_take2(tmp, dx.dtype, dx.dim[0], dx.dim[1]);
    st_matrix_backward(q, w, x, kept, dy, part, tmp);
    st_stream_ops(q)->copy(q, &(st_copy_args){.x = part, .y = dx, .accumulate = 1});
    st_arena_rewind(tmp, mark);
}

st_tensor st_matrix_kept(const st_matrix *w, bool train, st_dtype t, int64_t rows, st_arena *tmp)
{
    int64_t n = train ? st_linear_kept(&w->l) : 0;
    return n ? st_take2(tmp, t, rows, n) : (st_tensor){0};
}

uint64_t st_drop_seed(uint64_t seed, int64_t layer, st_drop_site site)
{
    st_philox_block b = st_philox(seed, 0xd50b, (uint64_t)layer * 4 + site);
    return b.v[0] | (uint64_t)b.v[1] << 32;
}

/* Attention over packed queries, keys and values (rows, 3*width), heads side by side in each. */
static st_attend_fwd_args block_attend(const st_block *b, const st_pass *p, st_tensor qkv)
{
    int64_t row = 3 * b->width, item = p->len * row;
    return (st_attend_fwd_args){
        .h = {.batch = p->batch,
              .heads = b->heads,
              .head_dim = b->width / b->heads,
              .q_len = p->len,
              .kv_len = p->len,
              .q = {qkv, row, item},
              .k = {st_from(qkv, b->width), row, item},
              .v = {st_from(qkv, 2 * b->width), row, item}},
        .scale = b->scale,
        .drop = p->train ? b->drop_attn : 0.0f,
        .seed = st_drop_seed(p->seed, b->layer, ST_SITE_ATTN),
        .causal = b->causal,
    };
}

/* The gain itself. */
static st_tensor norm_gain(st_stream *q, const st_norm *n, st_arena *tmp)
{
    if (!n->less) return n->gain;
    st_tensor y = st_take1(tmp, n->gain.dtype, st_numel(n->gain));
    st_stream_ops(q)->fill(q, &(st_fill_args){.x = y, .value = 1.0f});
    st_stream_ops(q)->copy(q, &(st_copy_args){.x = n->gain, .y = y, .accumulate = 1});
    return y;
}

static st_norm_fwd_args norm_args(const st_norm *n, float eps, st_tensor x, st_arena *tmp)
{
    int64_t rows = x.dim[0];
    return (st_norm_fwd_args){.rows = rows,
                              .width = st_numel(n->gain),
                              .x = x,
                              .gain = n->gain,
                              .bias = n->bias,
                              .mean = n->rms ? none : st_take1(tmp, ST_F32, rows),
                              .rstd = st_take1(tmp, ST_F32, rows),
                              .eps = eps,
                              .rms = n->rms};
}

st_tensor st_norm_forward(st_stream *q, const st_norm *n, float eps, st_tensor x, st_tensor y,
                          st_tensor *mean, st_tensor *rstd, st_arena *tmp)
{
    st_norm_fwd_args a = norm_args(n, eps, x, tmp);
    a.y = y.data ? y : st_take2(tmp, x.dtype, a.rows, a.width);
    a.gain = norm_gain(q, n, tmp);
    *mean = a.mean;
    *rstd = a.rstd;
    st_stream_ops(q)->norm_fwd(q, &a);
    return a.y;
}

enum { NORM_FEW = 4 }; /* rows */

/* Where matrix w begins with a fold, which the norm before it can make: *kept (absent: taken from
 * tmp) is set. False: nothing was done. */
static bool norm_folded(st_stream *q, const st_norm *n, float eps, st_tensor x, const st_matrix *w,
                        st_tensor *kept, st_tensor *mean, st_tensor *rstd, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    int64_t width = st_linear_kept(&w->l);
    bool few = x.dim[0] <= NORM_FEW; /* decoding, whose steps devices join further */
    if (n->rms || few || (w->tap && w->tap->fn) || width == 0) return false;
    st_norm_fwd_args a = norm_args(n, eps, x, tmp);
    st_tensor z = kept->data ? *kept : st_take2(tmp, x.dtype, a.rows, width);
    if (!st_linear_norm(q, &w->l, &a, z)) {
        st_arena_rewind(tmp, mark);
        return false;
    }
    *kept = z;
    *mean = a.mean;
    *rstd = a.rstd;
    return true;
}

static st_norm_bwd_args norm_back_args(const st_norm *n, st_tensor x, st_tensor mean,
                                       st_tensor rstd, st_tensor dx, bool add)
{
    return (st_norm_bwd_args){.rows = x.dim[0],
                              .width = st_numel(n->gain),
                              .x = x,
                              .gain = n->gain,
                              .mean = mean,
                              .rstd = rstd,
                              .dx = dx,
                              .dgain = n->dgain,
                              .dbias = n->dbias,
                              .accumulate = add,
                              .rms = n->rms};
}

void st_norm_backward(st_stream *q, const st_norm *n, st_tensor x, st_tensor mean, st_tensor rstd,
                      st_tensor dy, st_tensor dx, bool add, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    st_norm_bwd_args a = norm_back_args(n, x, mean, rstd, dx, add);
    a.dy = dy;
    a.gain = norm_gain(q, n, tmp);
    st_stream_ops(q)->norm_bwd(q, &a);
    st_arena_rewind(tmp, mark);
}

/* y += a, y dropped out first. */
static void block_residual(st_stream *q, const st_block *b, const st_pass *p, st_drop_site site,
                           st_tensor a, st_tensor y)
{
    st_stream_ops(q)->residual_fwd(
        q, &(st_residual_fwd_args){.a = a,
                                   .b = y,
                                   .y = y,
                                   .drop = p->train ? b->drop_resid : 0.0f,
                                   .seed = st_drop_seed(p->seed, b->layer, site)});
}

/* Gradient of the dropped branch: d itself where nothing was dropped. */
static st_tensor block_residual_back(st_stream *q, const st_block *b, const st_pass *p,
                                     st_drop_site site, st_tensor d, st_arena *tmp)
{
    if (b->drop_resid == 0.0f) return d;
    st_tensor db = st_take2(tmp, d.dtype, d.dim[0], d.dim[1]);
    st_stream_ops(q)->residual_bwd(
        q, &(st_residual_bwd_args){.dy = d,
                                   .db = db,
                                   .drop = b->drop_resid,
                                   .seed = st_drop_seed(p->seed, b->layer, site)});
    return db;
}

st_tensor st_match_back(st_stream *q, const st_match_args *match, st_tensor d, st_tensor dy,
                        st_arena *tmp)
{
    st_match_args m = *match;
    if (dy.data == d.data) {
        dy = st_take2(tmp, d.dtype, d.dim[0], d.dim[1]);
        st_stream_ops(q)->copy(q, &(st_copy_args){.x = d, .y = dy});
    }
    m.dx = dy;
    st_stream_ops(q)->match(q, &m);
    return dy;
}

/* x2 = x + drop(attn_out(attend(attn_in(ln_1(x))))) */
static void block_attention(st_stream *q, const st_block *b, const st_pass *p, st_tensor x,
                            st_block_acts *k, st_arena *tmp)
{
    st_dtype t = x.dtype;
    int64_t n = x.dim[0];

    k->qkv = st_take2(tmp, t, n, 3 * b->width);
    k->attn_in = st_matrix_kept(&b->attn_in, p->train, t, n, tmp);
    if (norm_folded(q, &b->ln_1, b->eps, x, &b->attn_in, &k->attn_in, &k->mean_1, &k->rstd_1,
                    tmp)) {
        st_stream_tag(q, b->attn_in.name);
        st_linear_folded_forward(q, &b->attn_in.l, k->attn_in, k->qkv, tmp);
    } else {
        k->ln_1 = st_norm_forward(q, &b->ln_1, b->eps, x, none, &k->mean_1, &k->rstd_1, tmp);
        st_matrix_forward(q, &b->attn_in, k->ln_1, k->qkv, k->attn_in, tmp);
    }

    k->att = st_take2(tmp, t, n, b->width);
    k->lse = p->train ? st_take1(tmp, ST_F32, n * b->heads) : none;
    st_attend_fwd_args at = block_attend(b, p, k->qkv);
    at.h.o.x = k->att;
    at.lse = k->lse;
    st_pass_attend(q, p, b->layer, &at, tmp);

    k->x2 = st_take2(tmp, t, n, b->width);
    k->attn_out = st_matrix_kept(&b->attn_out, p->train, t, n, tmp);
    st_matrix_forward(q, &b->attn_out, k->att, k->x2, k->attn_out, tmp);
    block_residual(q, b, p, ST_SITE_ATTN_OUT, x, k->x2);
}

static void block_attention_back(st_stream *q, const st_block *b, const st_pass *p,
                                 const st_block_acts *k, st_tensor d, st_arena *tmp)
{
    int64_t n = d.dim[0];
    size_t mark = st_arena_mark(tmp);
    st_tensor datt = st_take2(tmp, d.dtype, n, b->width);
    st_tensor dqkv = st_take2(tmp, d.dtype, n, 3 * b->width);

    st_tensor dy = block_residual_back(q, b, p, ST_SITE_ATTN_OUT, d, tmp);
    st_matrix_backward(q, &b->attn_out, k->att, k->attn_out, dy, datt, tmp);

    st_attend_bwd_args at = block_attend(b, p, k->qkv);
    at.h.o.x = k->att;
    at.lse = k->lse;
    at.go = datt;
    at.gq = dqkv;
    at.gk = st_from(dqkv, b->width);
    at.gv = st_from(dqkv, 2 * b->width);
    st_stream_ops(q)->attend_bwd(q, &at);

    st_norm_bwd_args norm = norm_back_args(&b->ln_1, k->seen.x, k->mean_1, k->rstd_1, d, true);
    if (k->ln_1.data) {
        norm.dy = datt; /* dead by now, of the right shape */
        st_matrix_backward(q, &b->attn_in, k->ln_1, k->attn_in, dqkv, norm.dy, tmp);
        st_stream_ops(q)->norm_bwd(q, &norm);
    } else {
        st_stream_tag(q, b->attn_in.name);
        st_linear_norm_backward(q, &b->attn_in.l, &norm, k->attn_in, dqkv, tmp);
    }
    st_arena_rewind(tmp, mark);
}

/* y = x2 + drop(mlp_out(gelu(mlp_in(ln_2(x2))))) */
static void block_mlp(st_stream *q, const st_block *b, const st_pass *p, st_tensor y,
                      st_block_acts *k, st_arena *tmp)
{
    st_mlp mlp = {.in = &b->mlp_in, .out = &b->mlp_out, .gelu = b->gelu};
    st_tensor z = st_matrix_kept(&b->mlp_in, p->train, y.dtype, y.dim[0], tmp);
    if (!norm_folded(q, &b->ln_2, b->eps, k->x2, &b->mlp_in, &z, &k->mean_2, &k->rstd_2, tmp))
        k->ln_2 = st_norm_forward(q, &b->ln_2, b->eps, k->x2, none, &k->mean_2, &k->rstd_2, tmp);
    st_mlp_forward(q, &mlp, p->train, k->ln_2, z, y, &k->inner, tmp);
    if (k->seen.mlp.data) st_stream_ops(q)->copy(q, &(st_copy_args){.x = y, .y = k->seen.mlp});
    block_residual(q, b, p, ST_SITE_MLP_OUT, k->x2, y);
}

static void block_mlp_back(st_stream *q, const st_block *b, const st_pass *p,
                           const st_block_acts *k, st_tensor d, st_arena *tmp)
{
    st_mlp mlp = {.in = &b->mlp_in, .out = &b->mlp_out, .gelu = b->gelu};
    size_t mark = st_arena_mark(tmp);
    st_norm_bwd_args norm = norm_back_args(&b->ln_2, k->x2, k->mean_2, k->rstd_2, d, true);
    if (k->ln_2.data) norm.dy = st_take2(tmp, d.dtype, d.dim[0], b->width);
    st_tensor dy = block_residual_back(q, b, p, ST_SITE_MLP_OUT, d, tmp);
    if (k->seen.match.rows) dy = st_match_back(q, &k->seen.match, d, dy, tmp);
    st_mlp_backward(q, &mlp, &k->inner, dy, norm.dy, &norm, tmp);
    if (k->ln_2.data) st_stream_ops(q)->norm_bwd(q, &norm);
    st_arena_rewind(tmp, mark);
}

void st_block_forward(st_stream *q, const st_block *b, const st_pass *p, st_tensor x, st_tensor y,
                      st_block_acts *k, st_arena *tmp)
{
    k->seen.x = x;
    block_attention(q, b, p, x, k, tmp);
    block_mlp(q, b, p, y, k, tmp);
}

void st_block_backward(st_stream *q, const st_block *b, const st_pass *p, const st_block_acts *k,
                       st_tensor d, st_arena *tmp)
{
    block_mlp_back(q, b, p, k, d, tmp);
    block_attention_back(q, b, p, k, d, tmp);
}

/* ---- for one token alone --------------------------------------------------------------------- */

/* The first row of each batch item. */
static st_tensor block_first_rows(st_stream *q, const st_pass *p, st_tensor x, st_arena *tmp)
{
    st_tensor y = st_take2(tmp, x.dtype, p->batch, x.dim[1]);
    st_stream_ops(q)->copy(
        q, &(st_copy_args){
               .rows = p->batch, .cols = x.dim[1], .ldx = p->len * x.dim[1], .x = x, .y = y});
    return y;
}

void st_block_first(st_stream *q, const st_block *b, const st_pass *p, st_tensor x, st_tensor y,
                    st_arena *tmp)
{
    st_block_acts k = {0};
    st_matrix query = b->attn_in, keys = b->attn_in; /* the outputs [q], and [k v] */
    int64_t n = x.dim[0], w = b->width;
    assert(!p->train && !p->kv && !b->causal);

    k.ln_1 = st_norm_forward(q, &b->ln_1, b->eps, x, none, &k.mean_1, &k.rstd_1, tmp);
    bool whole = b->attn_in.tap->fn || !st_linear_part(&b->attn_in.l, 0, w, &query.l) ||
                 !st_linear_part(&b->attn_in.l, w, 2 * w, &keys.l);
    int64_t row = whole ? 3 * w : 2 * w;
    k.qkv = st_take2(tmp, x.dtype, n, row);
    st_matrix_forward(q, whole ? &b->attn_in : &keys, k.ln_1, k.qkv, none, tmp);
    st_tensor first = k.qkv;
    if (!whole) {
        first = st_take2(tmp, x.dtype, p->batch, w);
        st_matrix_forward(q, &query, block_first_rows(q, p, k.ln_1, tmp), first, none, tmp);
    }

    k.att = st_take2(tmp, x.dtype, p->batch, w);
    st_attend_fwd_args at = block_attend(b, p, k.qkv);
    at.h.q = (st_strided){first, row, whole ? p->len * row : w};
    at.h.q_len = 1;
    at.h.k = (st_strided){st_from(k.qkv, row - 2 * w), row, p->len * row};
    at.h.v = (st_strided){st_from(k.qkv, row - w), row, p->len * row};
    at.h.o.x = k.att;
    st_stream_ops(q)->attend_fwd(q, &at);

    x = block_first_rows(q, p, x, tmp);
    k.x2 = st_take2(tmp, x.dtype, p->batch, w);
    st_matrix_forward(q, &b->attn_out, k.att, k.x2, none, tmp);
    block_residual(q, b, p, ST_SITE_ATTN_OUT, x, k.x2);
    block_mlp(q, b, p, y, &k, tmp);
}
