/* Llama (Touvron et al. 2023) and what is shaped like it: Mistral, Qwen2, Qwen3 and Gemma 3, as
 * Hugging Face's LlamaForCausalLM and the others of these names compute them:
 *   x = embed_tokens[ids]; blocks; logits = lm_head(norm(x)), lm_head = embed_tokens where tied
 *   x2 = x + o_proj(attend(rotary(q), rotary(k), v)),  q, k, v = q_proj(n), k_proj(n), v_proj(n),
 *        n = input_layernorm(x)
 *   y = x2 + down_proj(act(gate_proj(m)) up_proj(m)),  m = post_attention_layernorm(x2)
 * with norms that keep the mean (RMSNorm), heads of queries that share keys and values, and a
 * window of attention in some blocks. Qwen3 and Gemma 3 normalise each head of q and k before their
 * rotation. Gemma 3 (Gemma Team 2025) begins with sqrt(width) embed_tokens[ids], normalises what
 * o_proj and down_proj gave before it is added, turns by other frequencies in blocks with a window,
 * and stores gains less 1. The backward under each forward reads from its end. */
/* SPDX-License-Identifier: MIT */
#include "model/llama.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const st_tensor none;

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

static void llama_add_norm(st_builder *b, const st_llama_config *c, st_role role, const char *name,
                           int64_t width, st_norm *n)
{
    char full[64];
    n->less = c->gemma;
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
    llama_add_norm(b, c, ST_ROLE_NORM_ATTENTION, "input_layernorm", w, &k->norm_1);
    llama_add_matrix(b, ST_ROLE_QKV, "self_attn.q_proj", w, rows, std, c->qkv_bias, &k->q);
    llama_add_matrix(b, ST_ROLE_QKV, "self_attn.k_proj", w, few, std, c->qkv_bias, &k->k);
    llama_add_matrix(b, ST_ROLE_QKV, "self_attn.v_proj", w, few, std, c->qkv_bias, &k->v);
    if (c->qk_norm) {
        llama_add_norm(b, c, ST_ROLE_OTHER, "self_attn.q_norm", c->head_dim, &k->norm_q);
        llama_add_norm(b, c, ST_ROLE_OTHER, "self_attn.k_norm", c->head_dim, &k->norm_k);
    }
    llama_add_matrix(b, ST_ROLE_ATTENTION_OUT, "self_attn.o_proj", rows, w, std, c->out_bias,
                     &k->o);
    const char *after = "post_attention_layernorm"; /* Gemma's is after attention */
    if (c->gemma) llama_add_norm(b, c, ST_ROLE_NORM_OUT, after, w, &k->norm_o);
    llama_add_norm(b, c, ST_ROLE_NORM_MLP, c->gemma ? "pre_feedforward_layernorm" : after, w,
                   &k->norm_2);
    llama_add_matrix(b, ST_ROLE_MLP_GATE, "mlp.gate_proj", w, c->inner, std, c->mlp_bias, &k->gate);
    llama_add_matrix(b, ST_ROLE_MLP_IN, "mlp.up_proj", w, c->inner, std, c->mlp_bias, &k->up);
    llama_add_matrix(b, ST_ROLE_MLP_OUT, "mlp.down_proj", c->inner, w, std, c->mlp_bias, &k->down);
    if (c->gemma)
        llama_add_norm(b, c, ST_ROLE_NORM_OUT, "post_feedforward_layernorm", w, &k->norm_down);
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
    st_rope_freqs(&c.local, c.head_dim, 0, g->local);
    g->lm = (st_lm){.shape = llama_shape(&c), .eps = (float)c.eps};
    g->lm.in_place = c.rope.kind != ST_ROPE_DYNAMIC; /* whose frequencies change as it goes on */
    g->lm.norm.rms = true;
    g->lm.norm.less = c.gemma;
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

/* Embeddings, or their gradients, by sqrt(width), which transformers rounds to their dtype. */
static void llama_scale(const llama *g, st_stream *q, st_tensor x, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    if (!g->c.gemma) return;
    st_tensor s = st_take1(tmp, x.dtype, 1);
    float by = sqrtf((float)g->c.width);
    st_stream_ops(q)->fill(q, &(st_fill_args){.x = s, .value = by});
    st_stream_ops(q)->scale(q, &(st_scale_args){.x = x, .y = x, .s = s});
    st_arena_rewind(tmp, mark);
}

static void llama_embed(const void *net, st_stream *q, const st_pass *p, st_tensor ids, st_tensor x,
                        st_arena *tmp)
{
    const llama *g = net;
    st_stream_tag(q, g->lm.table.name);
    st_embed_fwd_args rows = llama_rows(g, p, ids);
    rows.y = x;
    st_linear_rows(q, &g->lm.table.l, &rows, tmp);
    llama_scale(g, q, x, tmp);
}

static void llama_embed_back(const void *net, st_stream *q, const st_pass *p, st_tensor ids,
                             st_tensor d, st_arena *tmp)
{
    const llama *g = net;
    st_stream_tag(q, g->lm.table.name);
    st_embed_bwd_args rows = llama_rows(g, p, ids);
    rows.dy = d;
    llama_scale(g, q, d, tmp);
    st_linear_rows_backward(q, &g->lm.table.l, &rows, tmp);
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
    st_llama_attention(g, q, b, p, x, k, tmp);

    k->norm_2 = st_norm_forward(q, &b->norm_2, g->lm.eps, k->x2, none, &mean, &k->rstd_2, tmp);
    k->raw_down = b->norm_down.gain.data ? st_take2(tmp, x.dtype, x.dim[0], x.dim[1]) : y;
    st_mlp_forward(q, &mlp, p->train, k->norm_2, none, k->raw_down, &k->mlp, tmp);
    st_llama_after(g, q, &b->norm_down, k->raw_down, y, &k->rstd_down, tmp);
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
    dy = st_llama_after_back(q, &b->norm_down, k->raw_down, k->rstd_down, dy, tmp);
    st_mlp_backward(q, &mlp, &k->mlp, dy, dn, NULL, tmp);
    st_norm_backward(q, &b->norm_2, k->x2, none, k->rstd_2, dn, d, true, tmp);
    st_arena_rewind(tmp, mark);

    st_llama_attention_back(g, q, b, p, k, d, tmp);
}

static const st_lm_family llama_family = {.acts = sizeof(llama_acts),
                                          .embed = llama_embed,
                                          .embed_back = llama_embed_back,
                                          .block = llama_forward,
                                          .block_back = llama_backward};

const st_model_type st_model_llama = {
    .name = "llama",
    .also = {"mistral", "qwen2", "qwen3", "gemma3_text"},
    .code = true,
    .prefix = "model.",
    .open = llama_open,
    .close = llama_close,
    .config = llama_config,
    .globs = {"layers.*.mlp.*", "layers.*.self_attn.*"},
    .lm = &llama_family,
};
