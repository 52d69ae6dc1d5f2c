/* GPT-2 (Radford et al. 2019), as Hugging Face's GPT2LMHeadModel computes it:
 *   x = drop(wte[ids] + wpe[pos]); blocks; logits = head(ln_f(x)), head = wte unless untied.
 * Here is what is GPT-2's own: its list of parameters, its embedding, and which blocks it has; the
 * rest is lm.c's. wte may be structured; then rows are looked up without forming it. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    st_lm lm;
    st_gpt2_config c;
    st_tensor wpe, dwpe;
    st_block *block;
} gpt2;

/* ---- the list of parameters ------------------------------------------------------------------ */

static void gpt2_close(st_model *m)
{
    gpt2 *g = m->net;
    if (!g) return;
    st_lm_close(&g->lm);
    free(g->block);
    free(g);
    m->net = NULL;
}

/* Matrix "h.LAYER.NAME" with a bias, which Hugging Face stores as (in, out). */
static void gpt2_add_matrix(st_builder *b, st_role role, const char *name, int64_t in, int64_t out,
                            float std, st_matrix *x)
{
    char full[64];
    snprintf(full, sizeof full, "h.%d.%s", (int)b->layer, name);
    st_add_matrix(b, role, full, in, out, x);
    st_add_weights(b, x, std, ST_P_FLIP, true);
}

static void gpt2_add_norm(st_builder *b, st_role role, const char *name, int64_t width, st_norm *n)
{
    char full[64];
    snprintf(full, sizeof full, "h.%d.%s", (int)b->layer, name);
    st_add_norm(b, role, full, width, n);
}

static void gpt2_add_block(const st_gpt2_config *c, st_block *k, st_builder *b)
{
    /* Residual branches start smaller, so that their sum over the depth has the embedding's size.
     */
    int64_t w = c->width;
    float std = (float)c->init, resid = std / sqrtf(2.0f * (float)c->layers);
    float scale = c->scale ? 1.0f / sqrtf((float)(w / c->heads)) : 1.0f;
    *k = (st_block){.width = w,
                    .inner = c->inner,
                    .heads = c->heads,
                    .layer = b->layer,
                    .eps = (float)c->eps,
                    .scale = c->scale_by_layer ? scale / (float)(b->layer + 1) : scale,
                    .drop_attn = (float)c->drop_attn,
                    .drop_resid = (float)c->drop_resid,
                    .gelu = c->gelu,
                    .causal = 1};
    gpt2_add_norm(b, ST_ROLE_NORM_ATTENTION, "ln_1", w, &k->ln_1);
    gpt2_add_matrix(b, ST_ROLE_QKV, "attn.c_attn", w, 3 * w, std, &k->attn_in);
    gpt2_add_matrix(b, ST_ROLE_ATTENTION_OUT, "attn.c_proj", w, w, resid, &k->attn_out);
    gpt2_add_norm(b, ST_ROLE_NORM_MLP, "ln_2", w, &k->ln_2);
    gpt2_add_matrix(b, ST_ROLE_MLP_IN, "mlp.c_fc", w, c->inner, std, &k->mlp_in);
    gpt2_add_matrix(b, ST_ROLE_MLP_OUT, "mlp.c_proj", c->inner, w, resid, &k->mlp_out);
}

static st_lm_shape gpt2_shape(const st_gpt2_config *c)
{
    return (st_lm_shape){.vocab = c->vocab,
                         .context = c->context,
                         .width = c->width,
                         .layers = c->layers,
                         .heads = c->heads,
                         .kv_heads = c->heads,
                         .head_dim = c->width / c->heads,
                         .inner = c->inner,
                         .bos = c->bos,
                         .eos = c->eos,
                         .tied = c->tied,
                         .head_bias = c->head_bias,
                         .drop_embed = (float)c->drop_embed,
                         .drop_attn = (float)c->drop_attn,
                         .drop_resid = (float)c->drop_resid,
                         .gelu = c->gelu};
}

static st_status gpt2_open(st_model *m, const json_t *config, st_err *e)
{
    st_builder b;
    st_gpt2_config c;
    ST_TRY(st_gpt2_config_read(&c, config, e));
    gpt2 *g = m->net = st_calloc(1, sizeof *g);
    if (!g) return ST_NOMEM(e, "model");
    g->c = c;
    g->lm = (st_lm){.shape = gpt2_shape(&c), .eps = (float)c.eps, .in_place = true};
    g->block = st_calloc(c.layers, sizeof *g->block);
    if (!g->block) return ST_NOMEM(e, "model");
    ST_TRY(st_lm_open(m, &g->lm, e));
    ST_TRY(st_builder_open(&b, m, config, e));
    /* Embeddings decay as in nanoGPT; a job that follows another recipe skips ST_P_EMBED. */
    unsigned embed = ST_P_EMBED | ST_P_DECAY;
    st_lm_add_table(&b, &g->lm, "wte", (float)c.init, embed);
    st_add_tensor(&b, "wpe.weight", 2, (int64_t[]){c.context, c.width}, (float)c.init, embed,
                  &g->wpe, &g->dwpe);
    st_add_role(&b, ST_ROLE_POSITION);
    for (b.layer = 0; b.layer < c.layers; b.layer++)
        gpt2_add_block(&c, &g->block[b.layer], &b);
    b.layer = -1;
    st_lm_add_head(&b, &g->lm, "ln_f", "lm_head", (float)c.init);
    g->c.tied = g->lm.shape.tied;
    return st_builder_close(&b);
}

static json_t *gpt2_config(const st_model *m)
{
    return st_gpt2_config_json(&((const gpt2 *)m->net)->c);
}

/* ---- the embedding --------------------------------------------------------------------------- */

static st_embed_fwd_args gpt2_rows(const gpt2 *g, const st_pass *p, st_tensor ids)
{
    bool known = st_pass_next(p);
    return (st_embed_fwd_args){.rows = p->batch * p->len,
                               .width = g->c.width,
                               .len = p->len,
                               .start = p->kv && !known ? p->kv->used : 0,
                               .at = known ? p->kv->at : (st_tensor){0},
                               .ids = ids,
                               .position = g->wpe};
}

static void gpt2_embed(const void *net, st_stream *q, const st_pass *p, st_tensor ids, st_tensor x,
                       st_arena *tmp)
{
    const gpt2 *g = net;
    float drop = p->train ? (float)g->c.drop_embed : 0.0f;
    uint64_t seed = st_drop_seed(p->seed, 0, ST_SITE_EMBED);
    st_stream_tag(q, g->lm.table.name);
    st_embed_fwd_args rows = gpt2_rows(g, p, ids);
    const int64_t *each = p->kv ? p->kv->each : NULL;
    for (int64_t i = 0; each && i < p->batch; i++) {
        st_embed_fwd_args row = rows;
        row.rows = 1;
        row.start = each[i];
        row.ids = st_slice(ids, i, 1);
        row.y = st_rows(x, i, 1);
        st_linear_rows(q, &g->lm.table.l, &row, tmp);
    }
    rows.y = x;
    if (!each) st_linear_rows(q, &g->lm.table.l, &rows, tmp);
    if (drop > 0.0f)
        st_stream_ops(q)->residual_fwd(
            q, &(st_residual_fwd_args){.b = x, .y = x, .drop = drop, .seed = seed});
}

static void gpt2_embed_back(const void *net, st_stream *q, const st_pass *p, st_tensor ids,
                            st_tensor d, st_arena *tmp)
{
    const gpt2 *g = net;
    float drop = p->train ? (float)g->c.drop_embed : 0.0f;
    uint64_t seed = st_drop_seed(p->seed, 0, ST_SITE_EMBED);
    st_stream_tag(q, g->lm.table.name);
    if (drop > 0.0f)
        st_stream_ops(q)->residual_bwd(
            q, &(st_residual_bwd_args){.dy = d, .db = d, .drop = drop, .seed = seed});
    st_embed_bwd_args rows = gpt2_rows(g, p, ids);
    rows.dy = d;
    rows.dposition = g->dwpe;
    st_linear_rows_backward(q, &g->lm.table.l, &rows, tmp);
}

/* ---- the blocks ------------------------------------------------------------------------------ */

static void gpt2_block(const void *net, st_stream *q, int64_t i, const st_pass *p, st_tensor x,
                       st_tensor y, void *acts, st_arena *tmp)
{
    st_block_forward(q, &((const gpt2 *)net)->block[i], p, x, y, acts, tmp);
}

static void gpt2_block_back(const void *net, st_stream *q, int64_t i, const st_pass *p,
                            const void *acts, st_tensor d, st_arena *tmp)
{
    st_block_backward(q, &((const gpt2 *)net)->block[i], p, acts, d, tmp);
}

static const st_lm_family gpt2_family = {.acts = sizeof(st_block_acts),
                                         .embed = gpt2_embed,
                                         .embed_back = gpt2_embed_back,
                                         .block = gpt2_block,
                                         .block_back = gpt2_block_back};

const st_model_type st_model_gpt2 = {
    .name = "gpt2",
    .code = true,
    .prefix = "transformer.",
    .open = gpt2_open,
    .close = gpt2_close,
    .config = gpt2_config,
    .globs = {"h.*.mlp.*", "h.*.attn.*"},
    .lm = &gpt2_family,
};
