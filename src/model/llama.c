/* Llama (Touvron et al. 2023) and what is shaped like it: Mistral, Qwen2, Qwen3, as Hugging Face's
 * LlamaForCausalLM and the others of these names compute them:
 *   x = embed_tokens[ids]; blocks; logits = lm_head(norm(x)), lm_head = embed_tokens where tied
 *   x2 = x + o_proj(attend(rotary(q), rotary(k), v)),  q, k, v = q_proj(n), k_proj(n), v_proj(n),
 *        n = input_layernorm(x); Qwen3 normalises each head of q and k before their rotation
 *   y = x2 + down_proj(act(gate_proj(m)) up_proj(m)),  m = post_attention_layernorm(x2)
 * with norms that keep the mean (RMSNorm), heads of queries that share keys and values, and a
 * window of attention in some blocks. The backward under each forward reads from its end. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const st_tensor none;

typedef struct {
    int64_t layer, window;
    st_norm norm_1, norm_2, norm_q, norm_k; /* those of q and k are absent where there are none */
    st_matrix q, k, v, o, gate, up, down;
} llama_block;

typedef struct {
    st_lm lm;
    st_llama_config c;
    json_t *ends; /* eos_token_id where it is a list, else NULL */
    llama_block *block;
    float freq[ST_ROTARY];
} llama;

/* What a block's forward leaves; views into the arena. */
typedef struct {
    st_seen seen;
    st_tensor norm_1, q, k, v, att, x2, norm_2; /* (rows, ...); q and k as they are attended to */
    st_tensor raw_q, raw_k;                     /* before their norms, where there are such */
    st_tensor rstd_1, rstd_2, rstd_q, rstd_k, lse; /* F32 */
    st_tensor keep_q, keep_k, keep_v, keep_o;      /* kept by the maps */
    st_mlp_acts mlp;
} llama_acts;

/* ---- the list of parameters ------------------------------------------------------------------ */

static void llama_close(st_model *m)
{
    llama *g = m->net;
    if (!g) return;
    st_lm_close(&g->lm);
    json_decref(g->ends);
    free(g->block);
    free(g);
    m->net = NULL;
}

static void llama_add_matrix(st_builder *b, st_role role, const char *name, int64_t in, int64_t out,
                             float std, bool bias, st_matrix *x)
{
    char full[64];
    snprintf(full, sizeof full, "layers.%d.%s", (int)b->layer, name);
    st_add_matrix(b, role, full, in, out, x);
    st_add_weights(b, x, std, 0, bias);
}

static void llama_add_norm(st_builder *b, st_role role, const char *name, int64_t width, st_norm *n)
{
    char full[64];
    snprintf(full, sizeof full, "layers.%d.%s", (int)b->layer, name);
    n->rms = true;
    st_add_norm(b, role, full, width, n);
}

static void llama_add_block(const st_llama_config *c, llama_block *k, st_builder *b)
{
    int64_t w = c->width, rows = c->heads * c->head_dim, few = c->kv_heads * c->head_dim;
    float std = (float)c->init;
    k->layer = b->layer;
    k->window = c->slides[b->layer] && c->window < c->context ? c->window : 0;
    llama_add_norm(b, ST_ROLE_NORM_ATTENTION, "input_layernorm", w, &k->norm_1);
    llama_add_matrix(b, ST_ROLE_QKV, "self_attn.q_proj", w, rows, std, c->qkv_bias, &k->q);
    llama_add_matrix(b, ST_ROLE_QKV, "self_attn.k_proj", w, few, std, c->qkv_bias, &k->k);
    llama_add_matrix(b, ST_ROLE_QKV, "self_attn.v_proj", w, few, std, c->qkv_bias, &k->v);
    if (c->qk_norm) {
        llama_add_norm(b, ST_ROLE_OTHER, "self_attn.q_norm", c->head_dim, &k->norm_q);
        llama_add_norm(b, ST_ROLE_OTHER, "self_attn.k_norm", c->head_dim, &k->norm_k);
    }
    llama_add_matrix(b, ST_ROLE_ATTENTION_OUT, "self_attn.o_proj", rows, w, std, c->out_bias,
                     &k->o);
    llama_add_norm(b, ST_ROLE_NORM_MLP, "post_attention_layernorm", w, &k->norm_2);
    llama_add_matrix(b, ST_ROLE_MLP_GATE, "mlp.gate_proj", w, c->inner, std, c->mlp_bias, &k->gate);
    llama_add_matrix(b, ST_ROLE_MLP_IN, "mlp.up_proj", w, c->inner, std, c->mlp_bias, &k->up);
    llama_add_matrix(b, ST_ROLE_MLP_OUT, "mlp.down_proj", c->inner, w, std, c->mlp_bias, &k->down);
}

static st_lm_shape llama_shape(const st_llama_config *c)
{
    return (st_lm_shape){.vocab = c->vocab,
                         .context = c->context,
                         .width = c->width,
                         .layers = c->layers,
                         .heads = c->heads,
                         .kv_heads = c->kv_heads,
                         .head_dim = c->head_dim,
                         .inner = c->inner,
                         .bos = c->bos,
                         .eos = c->eos,
                         .tied = c->tied,
                         .drop_attn = (float)c->drop_attn};
}

static st_status llama_open(st_model *m, const json_t *config, st_err *e)
{
    st_builder b;
    st_llama_config c;
    ST_TRY(st_llama_config_read(&c, config, e));
    llama *g = m->net = st_calloc(1, sizeof *g);
    if (!g) return ST_NOMEM(e, "model");
    const json_t *eos = json_object_get(config, "eos_token_id");
    if (json_is_array(eos)) g->ends = json_deep_copy(eos);
    g->c = c;
    st_rope_freqs(&c.rope, c.head_dim, 0, g->freq);
    g->lm = (st_lm){.shape = llama_shape(&c), .eps = (float)c.eps};
    g->lm.in_place = c.rope.kind != ST_ROPE_DYNAMIC; /* whose frequencies change as it goes on */
    g->lm.norm.rms = true;
    g->block = st_calloc(c.layers, sizeof *g->block);
    if (!g->block) return ST_NOMEM(e, "model");
    ST_TRY(st_lm_open(m, &g->lm, e));
    ST_TRY(st_builder_open(&b, m, config, e));
    st_lm_add_table(&b, &g->lm, "embed_tokens", (float)c.init, ST_P_EMBED | ST_P_DECAY);
    for (b.layer = 0; b.layer < c.layers; b.layer++)
        llama_add_block(&c, &g->block[b.layer], &b);
    b.layer = -1;
    st_lm_add_head(&b, &g->lm, "norm", "lm_head", (float)c.init);
    g->c.tied = g->lm.shape.tied;
    return st_builder_close(&b);
}

static json_t *llama_config(const st_model *m)
{
    const llama *g = m->net;
    json_t *config = st_llama_config_json(&g->c);
    if (config && g->ends) json_object_set(config, "eos_token_id", g->ends);
    return config;
}

/* ---- the embedding --------------------------------------------------------------------------- */

static st_embed_fwd_args llama_rows(const llama *g, const st_pass *p, st_tensor ids)
{
    int64_t rows = p->batch * p->len;
    return (st_embed_fwd_args){.rows = rows, .width = g->c.width, .len = p->len, .ids = ids};
}

static void llama_embed(const void *net, st_stream *q, const st_pass *p, st_tensor ids, st_tensor x,
                        st_arena *tmp)
{
    const llama *g = net;
    st_stream_tag(q, g->lm.table.name);
    st_embed_fwd_args rows = llama_rows(g, p, ids);
    rows.y = x;
    st_linear_rows(q, &g->lm.table.l, &rows, tmp);
}

static void llama_embed_back(const void *net, st_stream *q, const st_pass *p, st_tensor ids,
                             st_tensor d, st_arena *tmp)
{
    const llama *g = net;
    st_stream_tag(q, g->lm.table.name);
    st_embed_bwd_args rows = llama_rows(g, p, ids);
    rows.dy = d;
    st_linear_rows_backward(q, &g->lm.table.l, &rows, tmp);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Turns heads of x (rows, ...) in place by their positions, from `start` on. */
static void llama_turn(const llama *g, st_stream *q, const st_pass *p, int64_t start, st_tensor x,
                       bool back)
{
    float grown[ST_ROTARY];
    const float *freq = g->freq;
    const st_rope *r = &g->c.rope;
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

static void llama_rotate(const llama *g, st_stream *q, const st_pass *p, st_tensor x, bool back)
{
    const int64_t *each = p->kv ? p->kv->each : NULL;
    for (int64_t i = 0; each && i < p->batch; i++)
        llama_turn(g, q, p, each[i], st_rows(x, i, 1), back);
    if (!each) llama_turn(g, q, p, p->kv && !st_pass_next(p) ? p->kv->used : 0, x, back);
}

/* Heads of x as rows, which is how a norm of heads sees them. */
static st_tensor llama_heads(const llama *g, st_tensor x)
{
    return st_view2(x.data, x.dtype, st_numel(x) / g->c.head_dim, g->c.head_dim);
}

/* q or k from what its matrix gave: normalised by head if there is such a norm, and turned. */
static st_tensor llama_place(const llama *g, st_stream *q, const st_pass *p, const st_norm *n,
                             st_tensor x, st_tensor *rstd, st_arena *tmp)
{
    st_tensor y = x;
    if (n->gain.data) {
        y = st_take2(tmp, x.dtype, x.dim[0], x.dim[1]);
        st_tensor mean;
        st_norm_forward(q, n, g->lm.eps, llama_heads(g, x), llama_heads(g, y), &mean, rstd, tmp);
    }
    llama_rotate(g, q, p, y, false);
    return y;
}

/* d, the gradient of what llama_place gave, becomes that of its x. */
static void llama_place_back(const llama *g, st_stream *q, const st_pass *p, const st_norm *n,
                             st_tensor x, st_tensor rstd, st_tensor d)
{
    llama_rotate(g, q, p, d, true);
    st_tensor heads = llama_heads(g, d);
    if (n->gain.data) st_norm_backward(q, n, llama_heads(g, x), none, rstd, heads, heads, false);
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
                                .scale = 1.0f / sqrtf((float)g->c.head_dim),
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

static void llama_attention(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                            st_tensor x, llama_acts *k, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t n = x.dim[0];
    st_tensor mean;
    k->norm_1 = st_norm_forward(q, &b->norm_1, g->lm.eps, x, none, &mean, &k->rstd_1, tmp);

    k->raw_q = llama_project(q, p, &b->q, k->norm_1, &k->keep_q, tmp);
    k->raw_k = llama_project(q, p, &b->k, k->norm_1, &k->keep_k, tmp);
    k->v = llama_project(q, p, &b->v, k->norm_1, &k->keep_v, tmp);
    k->q = llama_place(g, q, p, &b->norm_q, k->raw_q, &k->rstd_q, tmp);
    k->k = llama_place(g, q, p, &b->norm_k, k->raw_k, &k->rstd_k, tmp);

    k->att = st_take2(tmp, x.dtype, n, g->c.heads * g->c.head_dim);
    k->lse = p->train ? st_take1(tmp, ST_F32, n * g->c.heads) : none;
    st_attend_fwd_args at = llama_attend(g, b, p, k);
    at.h.o.x = k->att;
    at.lse = k->lse;
    st_pass_attend(q, p, b->layer, &at, tmp);

    k->x2 = llama_project(q, p, &b->o, k->att, &k->keep_o, tmp);
    op->residual_fwd(q, &(st_residual_fwd_args){.a = x, .b = k->x2, .y = k->x2});
}

static void llama_attention_back(const llama *g, st_stream *q, const llama_block *b,
                                 const st_pass *p, const llama_acts *k, st_tensor d, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    size_t mark = st_arena_mark(tmp);
    int64_t n = d.dim[0];
    st_tensor datt = st_take2(tmp, d.dtype, n, k->att.dim[1]);
    st_matrix_backward(q, &b->o, k->att, k->keep_o, d, datt, tmp);

    st_attend_bwd_args at = llama_attend(g, b, p, k);
    at.h.o.x = k->att;
    at.lse = k->lse;
    at.go = datt;
    at.gq = st_take2(tmp, d.dtype, n, k->q.dim[1]);
    at.gk = st_take2(tmp, d.dtype, n, k->k.dim[1]);
    at.gv = st_take2(tmp, d.dtype, n, k->v.dim[1]);
    op->attend_bwd(q, &at);

    llama_place_back(g, q, p, &b->norm_k, k->raw_k, k->rstd_k, at.gk);
    llama_place_back(g, q, p, &b->norm_q, k->raw_q, k->rstd_q, at.gq);
    st_tensor dn = st_take2(tmp, d.dtype, n, g->c.width);
    st_matrix_backward(q, &b->v, k->norm_1, k->keep_v, at.gv, dn, tmp);
    st_matrix_backward_add(q, &b->k, k->norm_1, k->keep_k, at.gk, dn, tmp);
    st_matrix_backward_add(q, &b->q, k->norm_1, k->keep_q, at.gq, dn, tmp);

    st_norm_backward(q, &b->norm_1, k->seen.x, none, k->rstd_1, dn, d, true);
    st_arena_rewind(tmp, mark);
}

/* ---- the blocks ------------------------------------------------------------------------------ */

static st_mlp llama_mlp(const llama *g, const llama_block *b)
{
    return (st_mlp){.in = &b->up, .gate = &b->gate, .out = &b->down, .act = g->c.act};
}

static void llama_forward(const void *net, st_stream *q, int64_t i, const st_pass *p, st_tensor x,
                          st_tensor y, void *acts, st_arena *tmp)
{
    const llama *g = net;
    const llama_block *b = &g->block[i];
    const st_ops *op = st_stream_ops(q);
    st_mlp mlp = llama_mlp(g, b);
    llama_acts *k = acts;
    st_tensor mean;
    k->seen.x = x;
    llama_attention(g, q, b, p, x, k, tmp);

    k->norm_2 = st_norm_forward(q, &b->norm_2, g->lm.eps, k->x2, none, &mean, &k->rstd_2, tmp);
    st_mlp_forward(q, &mlp, p->train, k->norm_2, none, y, &k->mlp, tmp);
    if (k->seen.mlp.data) op->copy(q, &(st_copy_args){.x = y, .y = k->seen.mlp});
    op->residual_fwd(q, &(st_residual_fwd_args){.a = k->x2, .b = y, .y = y});
}

static void llama_backward(const void *net, st_stream *q, int64_t i, const st_pass *p,
                           const void *acts, st_tensor d, st_arena *tmp)
{
    const llama *g = net;
    const llama_block *b = &g->block[i];
    const llama_acts *k = acts;
    st_mlp mlp = llama_mlp(g, b);
    size_t mark = st_arena_mark(tmp);
    st_tensor dn = st_take2(tmp, d.dtype, d.dim[0], g->c.width), dy = d;
    if (k->seen.match.rows) dy = st_match_back(q, &k->seen.match, d, dy, tmp);
    st_mlp_backward(q, &mlp, &k->mlp, dy, dn, NULL, tmp);
    st_norm_backward(q, &b->norm_2, k->x2, none, k->rstd_2, dn, d, true);
    st_arena_rewind(tmp, mark);

    llama_attention_back(g, q, b, p, k, d, tmp);
}

static const st_lm_family llama_family = {.acts = sizeof(llama_acts),
                                          .embed = llama_embed,
                                          .embed_back = llama_embed_back,
                                          .block = llama_forward,
                                          .block_back = llama_backward};

const st_model_type st_model_llama = {
    .name = "llama",
    .also = {"mistral", "qwen2", "qwen3"},
    .code = true,
    .prefix = "model.",
    .open = llama_open,
    .close = llama_close,
    .config = llama_config,
    .globs = {"layers.*.mlp.*", "layers.*.self_attn.*"},
    .lm = &llama_family,
};
