/* Attention of Llama-shaped blocks (equations: llama.c). The backward under each forward reads from
 * its end. */
/* SPDX-License-Identifier: MIT */
#include "model/llama.h"
#include <math.h>

static const st_tensor none;

/* Turns heads of x (rows, ...) in place by their positions, from `start` on, as block b does. */
static void llama_turn(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                       int64_t start, st_tensor x, bool back)
{
    float grown[ST_ROTARY];
    bool local = g->c.gemma && g->c.slides[b->layer];
    const float *freq = local ? g->local : g->freq;
    const st_rope *r = local ? &g->c.local : &g->c.rope;
    bool next = st_pass_next(p);
    int64_t end = start + p->len;
    if (r->kind == ST_ROPE_DYNAMIC && end > r->original) {
        st_rope_freqs(r, g->c.head_dim, end, grown);
        freq = grown;
    }
    st_stream_ops(q)->rotary(q, &(st_rotary_args){.rows = x.dim[0],
                                                  .heads = x.dim[1] / g->c.head_dim,
                                                  .head_dim = g->c.head_dim,
                                                  .half = g->c.head_dim / 2,
                                                  .len = p->len,
                                                  .start = start,
                                                  .freq = freq,
                                                  .x = x,
                                                  .y = x,
                                                  .at = next ? p->kv->at : none,
                                                  .scale = st_rope_scale(r),
                                                  .back = back});
}

static void llama_rotate(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                         st_tensor x, bool back)
{
    const int64_t *each = p->kv ? p->kv->each : NULL;
    for (int64_t i = 0; each && i < p->batch; i++)
        llama_turn(g, q, b, p, each[i], st_rows(x, i, 1), back);
    if (!each) llama_turn(g, q, b, p, p->kv && !st_pass_next(p) ? p->kv->used : 0, x, back);
}

/* Heads of x as rows, which is how a norm of heads sees them. */
static st_tensor llama_heads(const llama *g, st_tensor x)
{
    return st_view2(x.data, x.dtype, st_numel(x) / g->c.head_dim, g->c.head_dim);
}

/* q or k from what its matrix gave: normalised by head if there is such a norm, and turned. */
static st_tensor llama_place(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                             const st_norm *n, st_tensor x, st_tensor *rstd, st_arena *tmp)
{
    st_tensor y = x;
    if (n->gain.data) {
        y = st_take2(tmp, x.dtype, x.dim[0], x.dim[1]);
        st_tensor mean;
        st_norm_forward(q, n, g->lm.eps, llama_heads(g, x), llama_heads(g, y), &mean, rstd, tmp);
    }
    llama_rotate(g, q, b, p, y, false);
    return y;
}

/* d, the gradient of what llama_place gave, becomes that of its x. */
static void llama_place_back(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                             const st_norm *n, st_tensor x, st_tensor rstd, st_tensor d,
                             st_arena *tmp)
{
    llama_rotate(g, q, b, p, d, true);
    st_tensor heads = llama_heads(g, d);
    if (!n->gain.data) return;
    st_norm_backward(q, n, llama_heads(g, x), none, rstd, heads, heads, false, tmp);
}

st_tensor st_llama_after(const llama *g, st_stream *q, const st_norm *n, st_tensor x, st_tensor y,
                         st_tensor *rstd, st_arena *tmp)
{
    st_tensor mean;
    if (!n->gain.data) return x;
    return st_norm_forward(q, n, g->lm.eps, x, y, &mean, rstd, tmp);
}

st_tensor st_llama_after_back(st_stream *q, const st_norm *n, st_tensor x, st_tensor rstd,
                              st_tensor d, st_arena *tmp)
{
    if (!n->gain.data) return d;
    st_tensor dx = st_take2(tmp, d.dtype, d.dim[0], d.dim[1]);
    st_norm_backward(q, n, x, none, rstd, d, dx, false, tmp);
    return dx;
}

static st_attend_fwd_args llama_attend(const llama *g, const llama_block *b, const st_pass *p,
                                       const llama_acts *k)
{
    int64_t row = g->c.heads * g->c.head_dim, few = g->c.kv_heads * g->c.head_dim;
    return (st_attend_fwd_args){.h = {.batch = p->batch,
                                      .heads = g->c.heads,
                                      .kv_heads = g->c.kv_heads,
                                      .head_dim = g->c.head_dim,
                                      .q_len = p->len,
                                      .kv_len = p->len,
                                      .q = {k->q, row, p->len * row},
                                      .k = {k->k, few, p->len * few},
                                      .v = {k->v, few, p->len * few}},
                                .scale = 1.0f / sqrtf((float)g->c.score),
                                .drop = p->train ? g->lm.shape.drop_attn : 0.0f,
                                .seed = st_drop_seed(p->seed, b->layer, ST_SITE_ATTN),
                                .window = b->window,
                                .causal = 1};
}

/* One of the matrices that read x. */
static st_tensor llama_project(st_stream *q, const st_pass *p, const st_matrix *w, st_tensor x,
                               st_tensor *keep, st_arena *tmp)
{
    st_tensor y = st_take2(tmp, x.dtype, x.dim[0], w->l.spec.out);
    *keep = st_matrix_kept(w, p->train, x.dtype, x.dim[0], tmp);
    st_matrix_forward(q, w, x, y, *keep, tmp);
    return y;
}

void st_llama_attention(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                        st_tensor x, llama_acts *k, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t n = x.dim[0];
    st_tensor mean;
    k->norm_1 = st_norm_forward(q, &b->norm_1, g->lm.eps, x, none, &mean, &k->rstd_1, tmp);

    k->raw_q = llama_project(q, p, &b->q, k->norm_1, &k->keep_q, tmp);
    k->raw_k = llama_project(q, p, &b->k, k->norm_1, &k->keep_k, tmp);
    k->v = llama_project(q, p, &b->v, k->norm_1, &k->keep_v, tmp);
    k->q = llama_place(g, q, b, p, &b->norm_q, k->raw_q, &k->rstd_q, tmp);
    k->k = llama_place(g, q, b, p, &b->norm_k, k->raw_k, &k->rstd_k, tmp);

    k->att = st_take2(tmp, x.dtype, n, g->c.heads * g->c.head_dim);
    k->lse = p->train ? st_take1(tmp, ST_F32, n * g->c.heads) : none;
    st_attend_fwd_args at = llama_attend(g, b, p, k);
    at.h.o.x = k->att;
    at.lse = k->lse;
    st_pass_attend(q, p, b->layer, &at, tmp);

    k->raw_o = llama_project(q, p, &b->o, k->att, &k->keep_o, tmp);
    k->x2 = st_llama_after(g, q, &b->norm_o, k->raw_o, none, &k->rstd_o, tmp);
    op->residual_fwd(q, &(st_residual_fwd_args){.a = x, .b = k->x2, .y = k->x2});
}

void st_llama_attention_back(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                             const llama_acts *k, st_tensor d, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    size_t mark = st_arena_mark(tmp);
    int64_t n = d.dim[0];
    st_tensor datt = st_take2(tmp, d.dtype, n, k->att.dim[1]);
    st_tensor dy = st_llama_after_back(q, &b->norm_o, k->raw_o, k->rstd_o, d, tmp);
    st_matrix_backward(q, &b->o, k->att, k->keep_o, dy, datt, tmp);

    st_attend_bwd_args at = llama_attend(g, b, p, k);
    at.h.o.x = k->att;
    at.lse = k->lse;
    at.go = datt;
    at.gq = st_take2(tmp, d.dtype, n, k->q.dim[1]);
    at.gk = st_take2(tmp, d.dtype, n, k->k.dim[1]);
    at.gv = st_take2(tmp, d.dtype, n, k->v.dim[1]);
    op->attend_bwd(q, &at);

    llama_place_back(g, q, b, p, &b->norm_k, k->raw_k, k->rstd_k, at.gk, tmp);
    llama_place_back(g, q, b, p, &b->norm_q, k->raw_q, k->rstd_q, at.gq, tmp);
    st_tensor dn = st_take2(tmp, d.dtype, n, g->c.width);
    st_matrix_backward(q, &b->v, k->norm_1, k->keep_v, at.gv, dn, tmp);
    st_matrix_backward_add(q, &b->k, k->norm_1, k->keep_k, at.gk, dn, tmp);
    st_matrix_backward_add(q, &b->q, k->norm_1, k->keep_q, at.gq, dn, tmp);

    st_norm_backward(q, &b->norm_1, k->seen.x, none, k->rstd_1, dn, d, true, tmp);
    st_arena_rewind(tmp, mark);
}
