/* GPT-2 (Radford et al. 2019), as Hugging Face's GPT2LMHeadModel computes it:
 *   x = drop(wte[ids] + wpe[pos]); blocks; logits = head(ln_f(x)), head = wte unless untied.
 * wte may be structured; then rows are looked up and logits made without forming it.
 * The head runs over few rows at a time: no (tokens, vocab) buffer exists, and in training its
 * forward, the loss and its backward follow each other per chunk. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    st_gpt2_config c;
    st_matrix wte;
    st_tensor wpe, dwpe;
    st_block *block;
    st_norm ln_f;
    st_matrix head;      /* dense and without numbers where it is wte */
    st_matrix top;       /* what logits are made by: wte or head, called lm_head */
    st_block_acts *acts; /* by layer, during one st_model_grad */
} gpt2;

static void gpt2_close(st_model *m)
{
    gpt2 *g = m->net;
    if (!g) return;
    free(g->block);
    free(g->acts);
    free(g);
    m->net = NULL;
}

static void gpt2_add_block(gpt2 *g, int64_t i, st_builder *b)
{
    const st_gpt2_config *c = &g->c;
    st_block *k = &g->block[i];
    /* Residual branches start smaller, so that their sum over the depth has the embedding's size.
     */
    float std = (float)c->init, resid = std / sqrtf(2.0f * (float)c->layers);
    float scale = c->scale ? 1.0f / sqrtf((float)(c->width / c->heads)) : 1.0f;
    *k = (st_block){.width = c->width,
                    .inner = c->inner,
                    .heads = c->heads,
                    .layer = i,
                    .eps = (float)c->eps,
                    .scale = c->scale_by_layer ? scale / (float)(i + 1) : scale,
                    .drop_attn = (float)c->drop_attn,
                    .drop_resid = (float)c->drop_resid,
                    .gelu = c->gelu,
                    .causal = 1};
    char name[64];
    snprintf(name, sizeof name, "h.%d.ln_1", (int)i);
    st_add_norm(b, name, c->width, &k->ln_1);
    snprintf(name, sizeof name, "h.%d.attn.c_attn", (int)i);
    st_add_matrix(b, name, c->width, 3 * c->width, &k->attn_in);
    st_add_weights(b, &k->attn_in, std, ST_P_FLIP, true);
    snprintf(name, sizeof name, "h.%d.attn.c_proj", (int)i);
    st_add_matrix(b, name, c->width, c->width, &k->attn_out);
    st_add_weights(b, &k->attn_out, resid, ST_P_FLIP, true);
    snprintf(name, sizeof name, "h.%d.ln_2", (int)i);
    st_add_norm(b, name, c->width, &k->ln_2);
    snprintf(name, sizeof name, "h.%d.mlp.c_fc", (int)i);
    st_add_matrix(b, name, c->width, c->inner, &k->mlp_in);
    st_add_weights(b, &k->mlp_in, std, ST_P_FLIP, true);
    snprintf(name, sizeof name, "h.%d.mlp.c_proj", (int)i);
    st_add_matrix(b, name, c->inner, c->width, &k->mlp_out);
    st_add_weights(b, &k->mlp_out, resid, ST_P_FLIP, true);
}

static st_status gpt2_open(st_model *m, const json_t *config, st_err *e)
{
    st_builder b;
    st_gpt2_config c;
    ST_TRY(st_gpt2_config_read(&c, config, e));
    gpt2 *g = m->net = st_calloc(1, sizeof *g);
    if (!g) ST_FAIL(e, ST_ENOMEM, "model: out of memory");
    g->c = c;
    g->block = st_calloc(c.layers, sizeof *g->block);
    g->acts = st_calloc(c.layers, sizeof *g->acts);
    if (!g->block || !g->acts) ST_FAIL(e, ST_ENOMEM, "model: out of memory");
    ST_TRY(st_builder_open(&b, m, config, e));
    /* Embeddings decay as in nanoGPT; a job that follows another recipe skips ST_P_EMBED. */
    unsigned embed = ST_P_EMBED | ST_P_DECAY;
    b.exact = true;
    st_add_matrix(&b, "wte", c.width, c.vocab, &g->wte);
    st_add_rows(&b, &g->wte);
    st_add_weights(&b, &g->wte, (float)c.init, embed, false);
    b.exact = false;
    st_add_tensor(&b, "wpe.weight", 2, (int64_t[]){c.context, c.width}, (float)c.init, embed,
                  &g->wpe, &g->dwpe);
    for (int64_t i = 0; i < c.layers; i++)
        gpt2_add_block(g, i, &b);
    st_add_norm(&b, "ln_f", c.width, &g->ln_f);
    b.exact = c.tied;
    st_add_matrix(&b, "lm_head", c.width, c.vocab, &g->head);
    g->c.tied = c.tied && g->head.l.spec.type == &st_map_dense;
    if (!g->c.tied) st_add_weights(&b, &g->head, (float)c.init, 0, false);
    return st_builder_close(&b);
}

static json_t *gpt2_config(const st_model *m)
{
    const gpt2 *g = m->net;
    return st_gpt2_config_json(&g->c);
}

static void gpt2_bound(st_model *m)
{
    gpt2 *g = m->net;
    g->top = g->head;
    if (g->c.tied) g->top.l = g->wte.l;
}

static st_lm_shape gpt2_lm(const st_model *m)
{
    const st_gpt2_config *c = &((const gpt2 *)m->net)->c;
    return (st_lm_shape){.vocab = c->vocab,
                         .context = c->context,
                         .width = c->width,
                         .layers = c->layers,
                         .heads = c->heads,
                         .inner = c->inner,
                         .bos = c->bos,
                         .eos = c->eos,
                         .tied = c->tied,
                         .drop_embed = (float)c->drop_embed,
                         .drop_attn = (float)c->drop_attn,
                         .drop_resid = (float)c->drop_resid,
                         .gelu = c->gelu};
}

/* What a teacher's inference leaves for its student. */
typedef struct {
    const gpt2 *g;    /* NULL: no teacher */
    st_tensor normed; /* (rows, its width) what its head reads */
    st_tensor last;   /* its last block's output; that of block i is g->acts[i + 1].x */
} gpt2_taught;

/* ---- the head -------------------------------------------------------------------------------- */

/* Rows of logits that exist at a time, of `rows`: a power of two, at most 128 MiB of float32. Each
 * chunk reads the whole head three times, so that fewer rows cost time (GPT-2 124M: 256 rows 8 %
 * slower in the head's products than 512) and more only memory. It never falls as `rows` grow, so
 * that a plan for many rows holds for fewer. */
static int64_t gpt2_chunk(const gpt2 *g, int64_t rows)
{
    int64_t limit = 16;
    while (limit < 1024 && 2 * limit * g->c.vocab <= (int64_t)1 << 25)
        limit *= 2;
    return rows < limit ? rows : limit;
}

/* Where the type allows, logits are summed and stored in float32 whatever the weights are: GPT-2's
 * lie near -100, where bfloat16 has steps of 0.5. */
static bool gpt2_wide(const gpt2 *g)
{
    return g->top.l.spec.type->rows != NULL;
}

static st_tensor gpt2_take_logits(const gpt2 *g, int64_t rows, st_dtype t, st_arena *tmp)
{
    return st_take2(tmp, gpt2_wide(g) ? ST_F32 : t, rows, g->c.vocab);
}

static st_tensor gpt2_norm(const gpt2 *g, st_stream *q, st_tensor x, st_tensor y, st_tensor *mean,
                           st_tensor *rstd, st_arena *tmp)
{
    if (!y.data) y = st_take2(tmp, x.dtype, x.dim[0], g->c.width);
    *mean = st_take1(tmp, ST_F32, x.dim[0]);
    *rstd = st_take1(tmp, ST_F32, x.dim[0]);
    st_stream_ops(q)->norm_fwd(q, &(st_norm_fwd_args){.rows = x.dim[0],
                                                      .width = g->c.width,
                                                      .x = x,
                                                      .y = y,
                                                      .gain = g->ln_f.gain,
                                                      .bias = g->ln_f.bias,
                                                      .mean = *mean,
                                                      .rstd = *rstd,
                                                      .eps = (float)g->c.eps});
    return y;
}

/* Logits and/or losses of rows x (after ln_f). */
static void gpt2_head_forward(const gpt2 *g, st_stream *q, const st_lm_args *a, st_tensor x,
                              st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t chunk = gpt2_chunk(g, x.dim[0]), vocab = g->c.vocab;
    for (int64_t r = 0; r < x.dim[0]; r += chunk) {
        size_t mark = st_arena_mark(tmp);
        int64_t n = x.dim[0] - r < chunk ? x.dim[0] - r : chunk;
        st_tensor out = {0}, y;
        if (a->logits.data) {
            out = st_slice(a->logits, r * vocab, n * vocab);
            out = st_view2(out.data, out.dtype, n, vocab);
        }
        y = out;
        if (!out.data || !gpt2_wide(g)) {
            y = gpt2_take_logits(g, n, x.dtype, tmp);
        }
        st_matrix_forward(q, &g->top, st_rows(x, r, n), y, (st_tensor){0}, tmp);
        if (out.data && out.data != y.data) op->copy(q, &(st_copy_args){.x = y, .y = out});
        if (a->targets.data) {
            op->xent(q, &(st_xent_args){.rows = n,
                                        .width = vocab,
                                        .logits = y,
                                        .targets = st_slice(a->targets, r, n),
                                        .loss = st_slice(a->loss, r, n)});
        }
        st_arena_rewind(tmp, mark);
    }
}

/* dy and the losses of a chunk of n rows from r on, of its logits y and the teacher's. */
static void gpt2_chunk_grad(st_stream *q, const st_lm_args *a, const gpt2_taught *taught, int64_t r,
                            int64_t n, st_tensor y, st_tensor dy, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    st_tensor targets = st_slice(a->targets, r, n), loss = a->loss;
    if (loss.data) loss = st_slice(loss, r, n);
    if (!taught->g || a->teach->kl_scale == 0.0f) {
        op->xent(q, &(st_xent_args){.rows = n,
                                    .width = y.dim[1],
                                    .logits = y,
                                    .targets = targets,
                                    .loss = loss,
                                    .dlogits = dy,
                                    .scale = a->grad_scale});
        return;
    }
    st_tensor from = taught->normed, t = gpt2_take_logits(taught->g, n, from.dtype, tmp);
    st_matrix_forward(q, &taught->g->top, st_rows(from, r, n), t, (st_tensor){0}, tmp);
    op->distill(q, &(st_distill_args){.rows = n,
                                      .width = y.dim[1],
                                      .logits = y,
                                      .teacher = t,
                                      .targets = targets,
                                      .loss = loss,
                                      .kl = st_slice(a->teach->kl, r, n),
                                      .dlogits = dy,
                                      .scale = a->grad_scale,
                                      .kl_scale = a->teach->kl_scale,
                                      .temperature = a->teach->temperature});
}

/* Losses of rows x (after ln_f); dx and the head's gradients by them. */
static void gpt2_head_grad(const gpt2 *g, st_stream *q, const st_lm_args *a,
                           const gpt2_taught *taught, st_tensor x, st_tensor dx, st_arena *tmp)
{
    int64_t chunk = gpt2_chunk(g, x.dim[0]), vocab = g->c.vocab, kept = st_linear_kept(&g->top.l);
    for (int64_t r = 0; r < x.dim[0]; r += chunk) {
        size_t mark = st_arena_mark(tmp);
        int64_t n = x.dim[0] - r < chunk ? x.dim[0] - r : chunk;
        st_tensor keep = kept ? st_take2(tmp, x.dtype, n, kept) : (st_tensor){0};
        st_tensor y = gpt2_take_logits(g, n, x.dtype, tmp);
        st_tensor dy = y.dtype == x.dtype ? y : st_take2(tmp, x.dtype, n, vocab);
        st_matrix_forward(q, &g->top, st_rows(x, r, n), y, keep, tmp);
        gpt2_chunk_grad(q, a, taught, r, n, y, dy, tmp);
        st_matrix_backward(q, &g->top, st_rows(x, r, n), keep, dy, st_rows(dx, r, n), tmp);
        st_arena_rewind(tmp, mark);
    }
}

/* ---- the network ----------------------------------------------------------------------------- */

static st_embed_fwd_args gpt2_embed(const gpt2 *g, const st_lm_args *a)
{
    return (st_embed_fwd_args){.rows = a->batch * a->len,
                               .width = g->c.width,
                               .len = a->len,
                               .start = a->kv ? a->kv->used : 0,
                               .ids = a->ids,
                               .position = g->wpe};
}

/* The rows that are asked for, copied together; neighbours in one piece. */
static st_tensor gpt2_pick(st_stream *q, const st_lm_args *a, st_tensor x, st_arena *tmp)
{
    int64_t width = x.dim[1];
    st_tensor y = st_take2(tmp, x.dtype, a->picks, width);
    for (int64_t i = 0, n; i < a->picks; i += n) {
        for (n = 1; i + n < a->picks && a->pick[i + n] == a->pick[i] + n;)
            n++;
        st_tensor from = st_slice(x, a->pick[i] * width, n * width);
        st_tensor to = st_slice(y, i * width, n * width);
        st_stream_ops(q)->copy(q, &(st_copy_args){.rows = n, .cols = width, .x = from, .y = to});
    }
    return y;
}

static void gpt2_forward(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    const gpt2 *g = m->net;
    const st_ops *op = st_stream_ops(q);
    size_t mark = st_arena_mark(tmp);
    int64_t rows = a->batch * a->len, width = g->c.width;
    st_pass pass = {.batch = a->batch, .len = a->len, .kv = a->kv, .attention = a->attention};
    int64_t end = a->blocks ? a->first + a->blocks : g->c.layers;
    assert((a->kv ? a->kv->used : 0) + a->len <= g->c.context);
    assert(!a->last_only || (!a->targets.data && !a->pick));
    assert(end <= g->c.layers && (a->hidden.data || (!a->first && !a->blocks)));

    st_tensor mean, rstd, x = a->hidden;
    if (!x.data) x = st_take2(tmp, g->wpe.dtype, rows, width);
    if (!a->first) {
        st_stream_tag(q, "wte");
        st_embed_fwd_args embed = gpt2_embed(g, a);
        embed.y = x;
        st_linear_rows(q, &g->wte.l, &embed, tmp);
    }
    for (int64_t i = a->first; i < end; i++) {
        st_block_acts acts = {0};
        size_t layer = st_arena_mark(tmp);
        st_block_forward(q, &g->block[i], &pass, x, x, &acts, tmp);
        st_arena_rewind(tmp, layer);
    }
    if (a->kv) a->kv->used += a->len;
    if (a->last_only && a->len > 1) {
        st_tensor from = st_slice(x, (a->len - 1) * width, (rows - a->len + 1) * width);
        x = st_take2(tmp, x.dtype, a->batch, width);
        op->copy(q, &(st_copy_args){
                        .rows = a->batch, .cols = width, .ldx = a->len * width, .x = from, .y = x});
    }
    if (a->pick) x = gpt2_pick(q, a, x, tmp);
    if (!a->blocks && (a->logits.data || a->targets.data)) {
        st_stream_tag(q, "ln_f");
        x = gpt2_norm(g, q, x, (st_tensor){0}, &mean, &rstd, tmp);
        gpt2_head_forward(g, q, a, x, tmp);
    }
    st_stream_tag(q, NULL);
    st_arena_rewind(tmp, mark);
}

/* Before the forward of block i for `rows` tokens: whether what its MLP adds is kept. */
static void gpt2_keep(const gpt2 *g, const st_teach *teach, int64_t i, int64_t rows, st_arena *tmp)
{
    bool mlp = teach && teach->mlp && teach->hidden_scale != 0.0f;
    g->acts[i] = (st_block_acts){0};
    if (mlp) g->acts[i].mlp = st_take2(tmp, g->wpe.dtype, rows, g->c.width);
}

/* The teacher's forward. Its scratch is given back, unless all its states are wanted. */
static gpt2_taught gpt2_teacher(st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    if (!a->teach) return (gpt2_taught){0};
    gpt2_taught k = {.g = a->teach->teacher->net};
    const gpt2 *g = k.g;
    bool states = a->teach->hidden_scale != 0.0f || a->teach->embed_scale != 0.0f;
    st_dtype t = g->wpe.dtype;
    int64_t rows = a->batch * a->len, width = g->c.width;
    st_pass pass = {.batch = a->batch, .len = a->len};
    assert(a->teach->teacher->type == &st_model_gpt2 && a->len <= g->c.context);

    k.normed = st_take2(tmp, t, rows, width);
    size_t mark = st_arena_mark(tmp);
    st_tensor mean, rstd, x = st_take2(tmp, t, rows, width);
    st_stream_tag(q, "teacher");
    st_embed_fwd_args embed = gpt2_embed(g, a);
    embed.y = x;
    st_linear_rows(q, &g->wte.l, &embed, tmp);
    for (int64_t i = 0; i < g->c.layers; i++) {
        st_tensor y = states ? st_take2(tmp, t, rows, width) : x;
        gpt2_keep(g, a->teach, i, rows, tmp);
        size_t layer = st_arena_mark(tmp);
        st_block_forward(q, &g->block[i], &pass, x, y, &g->acts[i], tmp);
        st_arena_rewind(tmp, layer);
        x = y;
    }
    k.last = x;
    size_t end = st_arena_mark(tmp);
    gpt2_norm(g, q, x, k.normed, &mean, &rstd, tmp);
    st_arena_rewind(tmp, states ? end : mark);
    return k;
}

static st_match_args gpt2_match(const st_teach *teach, float scale, st_tensor x, st_tensor t,
                                st_tensor loss, st_tensor dx)
{
    return (st_match_args){.rows = x.dim[0],
                           .width = x.dim[1],
                           .x = x,
                           .t = t,
                           .loss = loss,
                           .dx = dx,
                           .scale = scale,
                           .relative = teach->relative};
}

/* The output of block i, in training; `last` that of the last one. */
static st_tensor gpt2_output(const gpt2 *g, int64_t i, st_tensor last)
{
    return i + 1 < g->c.layers ? g->acts[i + 1].x : last;
}

/* Before the backward of block i with output y: d += the gradient of its distance from the
 * teacher's; what its MLP adds is compared within that backward. */
static void gpt2_distance(const gpt2 *g, st_stream *q, const st_teach *teach,
                          const gpt2_taught *taught, int64_t i, st_tensor y, st_tensor d)
{
    const st_block_acts *from = &taught->g->acts[i];
    st_tensor t = teach->mlp ? from->mlp : gpt2_output(taught->g, i, taught->last);
    st_match_args m = gpt2_match(teach, teach->hidden_scale, teach->mlp ? g->acts[i].mlp : y, t,
                                 teach->hidden, d);
    if (teach->mlp)
        g->acts[i].match = m;
    else
        st_stream_ops(q)->match(q, &m);
}

/* d: gradient of the last block's output x on entry, of the first one's input on return. */
static void gpt2_blocks_backward(const gpt2 *g, st_stream *q, const st_lm_args *a,
                                 const st_pass *pass, const gpt2_taught *taught, st_tensor x,
                                 st_tensor d, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    const st_teach *teach = a->teach;
    bool hidden = teach && teach->hidden_scale != 0.0f, embed = teach && teach->embed_scale != 0.0f;
    if (hidden) op->fill(q, &(st_fill_args){.x = teach->hidden});
    for (int64_t i = g->c.layers - 1; i >= 0; i--) {
        if (hidden) gpt2_distance(g, q, teach, taught, i, gpt2_output(g, i, x), d);
        st_block_backward(q, &g->block[i], pass, &g->acts[i], d, tmp);
    }
    if (!embed) return;
    op->fill(q, &(st_fill_args){.x = teach->embed});
    st_match_args m =
        gpt2_match(teach, teach->embed_scale, g->acts[0].x, taught->g->acts[0].x, teach->embed, d);
    op->match(q, &m);
}

static void gpt2_whole_grad(const gpt2 *g, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    size_t mark = st_arena_mark(tmp);
    int64_t rows = a->batch * a->len, width = g->c.width;
    float drop = (float)g->c.drop_embed;
    uint64_t seed = st_drop_seed(a->seed, 0, ST_SITE_EMBED);
    st_pass pass = {.batch = a->batch, .len = a->len, .train = true, .seed = a->seed};
    st_dtype t = g->wpe.dtype;
    assert(!a->kv && a->len <= g->c.context && a->targets.data);

    gpt2_taught taught = gpt2_teacher(q, a, tmp);

    /* forward: everything backward reads stays on `tmp` */
    st_tensor mean, rstd, x = st_take2(tmp, t, rows, width);
    st_stream_tag(q, "wte");
    st_embed_fwd_args embed = gpt2_embed(g, a);
    embed.y = x;
    st_linear_rows(q, &g->wte.l, &embed, tmp);
    if (drop > 0.0f) {
        op->residual_fwd(q, &(st_residual_fwd_args){.b = x, .y = x, .drop = drop, .seed = seed});
    }
    for (int64_t i = 0; i < g->c.layers; i++) {
        st_tensor y = st_take2(tmp, t, rows, width);
        gpt2_keep(g, a->teach, i, rows, tmp);
        st_block_forward(q, &g->block[i], &pass, x, y, &g->acts[i], tmp);
        x = y;
    }
    st_stream_tag(q, "ln_f");
    st_tensor xf = gpt2_norm(g, q, x, (st_tensor){0}, &mean, &rstd, tmp);

    /* head: forward, loss and backward, a chunk of rows at a time */
    st_tensor d = st_take2(tmp, t, rows, width);
    gpt2_head_grad(g, q, a, &taught, xf, d, tmp);

    /* backward: d is the gradient of what the line's forward twin wrote */
    st_stream_tag(q, "ln_f");
    op->norm_bwd(q, &(st_norm_bwd_args){.rows = rows,
                                        .width = width,
                                        .x = x,
                                        .gain = g->ln_f.gain,
                                        .mean = mean,
                                        .rstd = rstd,
                                        .dy = d,
                                        .dx = d,
                                        .dgain = g->ln_f.dgain,
                                        .dbias = g->ln_f.dbias});
    gpt2_blocks_backward(g, q, a, &pass, &taught, x, d, tmp);
    st_stream_tag(q, "wte");
    if (drop > 0.0f) {
        op->residual_bwd(q, &(st_residual_bwd_args){.dy = d, .db = d, .drop = drop, .seed = seed});
    }
    st_embed_bwd_args back = gpt2_embed(g, a);
    back.dy = d;
    back.dposition = g->dwpe;
    st_linear_rows_backward(q, &g->wte.l, &back, tmp);
    st_stream_tag(q, NULL);
    st_arena_rewind(tmp, mark);
}

/* Block reconstruction: forward, distance and backward of each block, on the teacher's inputs. */
static void gpt2_blocks_grad(const gpt2 *g, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    const st_teach *teach = a->teach;
    st_pass pass = {.batch = a->batch, .len = a->len, .train = true, .seed = a->seed};
    size_t start = st_arena_mark(tmp);
    gpt2_taught taught = gpt2_teacher(q, a, tmp);
    assert(a->grad_scale == 0.0f && teach->kl_scale == 0.0f && teach->embed_scale == 0.0f);
    op->fill(q, &(st_fill_args){.x = teach->hidden});
    if (a->loss.data) op->fill(q, &(st_fill_args){.x = a->loss});
    for (int64_t i = 0; i < g->c.layers; i++) {
        size_t mark = st_arena_mark(tmp);
        st_tensor x = taught.g->acts[i].x, y = st_take2(tmp, x.dtype, x.dim[0], x.dim[1]);
        st_tensor d = st_take2(tmp, x.dtype, x.dim[0], x.dim[1]);
        gpt2_keep(g, teach, i, x.dim[0], tmp);
        st_block_forward(q, &g->block[i], &pass, x, y, &g->acts[i], tmp);
        op->fill(q, &(st_fill_args){.x = d});
        gpt2_distance(g, q, teach, &taught, i, y, d);
        st_block_backward(q, &g->block[i], &pass, &g->acts[i], d, tmp);
        st_arena_rewind(tmp, mark);
    }
    st_arena_rewind(tmp, start);
}

static void gpt2_grad(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    assert(m->grads.data);
    if (a->teach && a->teach->by_block)
        gpt2_blocks_grad(m->net, q, a, tmp);
    else
        gpt2_whole_grad(m->net, q, a, tmp);
    st_stream_tag(q, NULL);
}

const st_model_type st_model_gpt2 = {
    .name = "gpt2",
    .alias = "strut_gpt2",
    .open = gpt2_open,
    .close = gpt2_close,
    .config = gpt2_config,
    .bound = gpt2_bound,
    .lm = gpt2_lm,
    .forward = gpt2_forward,
    .grad = gpt2_grad,
};
