/* T2T-ViT (Yuan et al. 2021, Tokens-to-Token ViT), as its authors' code computes it.
 *
 * Tokens to token: windows of 7 x 7 pixels, 4 apart, become tokens, which two modules and two
 * further windows of 3 x 3, 2 apart, make fewer: size/4, size/8, size/16 to a side. A module is
 *   z = v + proj(attend(q, k, v)),  [q k v] = qkv(norm1(x));  y = z + fc2(gelu(fc1(norm2(z))))
 * where v stands for x, which is wider. Its attention is softmax with scale in^(-1/2), `in` being
 * the width of x ("transformer"), or linear through random features of k, q, v in that order
 * ("performer"). Then a class token, positions, pre-norm blocks, and a head on the class token: the
 * last block is computed for that token alone. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* One window that becomes a token. */
typedef struct {
    int64_t kernel, stride, pad;
} t2t_window;

static const t2t_window t2t_windows[3] = {{7, 4, 2}, {3, 2, 1}, {3, 2, 1}};

typedef struct {
    int64_t in; /* width of its input tokens */
    st_norm norm_1, norm_2;
    st_matrix qkv, proj, fc_1, fc_2;
    st_tensor w, dw; /* performer: (features, token_dim) */
} t2t_module;

typedef struct {
    st_t2tvit_config c;
    t2t_module module[2];
    st_matrix project, head;
    st_tensor cls, dcls, pos, dpos; /* (1, 1, width), (1, tokens, width) */
    st_block *block;
    st_norm norm;
} t2t;

/* ---- the list of parameters ------------------------------------------------------------------ */

static void t2t_close(st_model *m)
{
    t2t *g = m->net;
    if (!g) return;
    free(g->block);
    free(g);
    m->net = NULL;
}

/* Where the next matrices and norms stand. */
typedef struct {
    st_builder *b;
    char prefix[48];
    float std;
} t2t_list;

static void t2t_add_matrix(t2t_list *l, st_role role, const char *name, int64_t in, int64_t out,
                           bool bias, st_matrix *x)
{
    char full[80];
    snprintf(full, sizeof full, "%s.%s", l->prefix, name);
    st_add_matrix(l->b, role, full, in, out, x);
    st_add_weights(l->b, x, l->std, 0, bias);
}

static void t2t_add_norm(t2t_list *l, st_role role, const char *name, int64_t width, st_norm *n)
{
    char full[80];
    snprintf(full, sizeof full, "%s.%s", l->prefix, name);
    st_add_norm(l->b, role, full, width, n);
}

static void t2t_add_module(t2t *g, int i, st_builder *b)
{
    const st_t2tvit_config *c = &g->c;
    t2t_module *m = &g->module[i];
    int64_t k = t2t_windows[i].kernel, d = c->token_dim;
    t2t_list l = {.b = b, .std = (float)c->init};
    const st_role role = ST_ROLE_PATCH;
    char name[64];
    m->in = (i ? d : c->channels) * k * k;
    snprintf(l.prefix, sizeof l.prefix, "tokens_to_token.attention%d", i + 1);
    if (c->performer) {
        snprintf(name, sizeof name, "%s.w", l.prefix);
        st_add_tensor(b, name, 2, (int64_t[]){c->features, d}, 1.0f, 0, &m->w, &m->dw);
        st_add_fill(b, st_fill_orthogonal);
    }
    if (!c->performer) t2t_add_norm(&l, role, "norm1", m->in, &m->norm_1);
    const char *qkv = c->performer ? "kqv" : "attn.qkv";
    t2t_add_matrix(&l, role, qkv, m->in, 3 * d, c->performer, &m->qkv);
    t2t_add_matrix(&l, role, c->performer ? "proj" : "attn.proj", d, d, true, &m->proj);
    if (c->performer) t2t_add_norm(&l, role, "norm1", m->in, &m->norm_1);
    t2t_add_norm(&l, role, "norm2", d, &m->norm_2);
    t2t_add_matrix(&l, role, c->performer ? "mlp.0" : "mlp.fc1", d, d, true, &m->fc_1);
    t2t_add_matrix(&l, role, c->performer ? "mlp.2" : "mlp.fc2", d, d, true, &m->fc_2);
}

static void t2t_add_block(t2t *g, int64_t i, st_builder *b)
{
    const st_t2tvit_config *c = &g->c;
    st_block *k = &g->block[i];
    int64_t w = c->width;
    float head = (float)(w / c->heads);
    t2t_list l = {.b = b, .std = (float)c->init};
    *k = (st_block){.width = w,
                    .inner = c->inner,
                    .heads = c->heads,
                    .layer = i,
                    .eps = (float)c->eps,
                    .scale = c->qk_scale > 0 ? (float)c->qk_scale : 1.0f / sqrtf(head),
                    .gelu = ST_GELU_ERF};
    snprintf(l.prefix, sizeof l.prefix, "blocks.%d", (int)i);
    b->layer = i;
    t2t_add_norm(&l, ST_ROLE_NORM_ATTENTION, "norm1", w, &k->ln_1);
    t2t_add_matrix(&l, ST_ROLE_QKV, "attn.qkv", w, 3 * w, c->qkv_bias, &k->attn_in);
    t2t_add_matrix(&l, ST_ROLE_ATTENTION_OUT, "attn.proj", w, w, true, &k->attn_out);
    t2t_add_norm(&l, ST_ROLE_NORM_MLP, "norm2", w, &k->ln_2);
    t2t_add_matrix(&l, ST_ROLE_MLP_IN, "mlp.fc1", w, c->inner, true, &k->mlp_in);
    t2t_add_matrix(&l, ST_ROLE_MLP_OUT, "mlp.fc2", c->inner, w, true, &k->mlp_out);
    b->layer = -1;
}

/* Tokens after stage i: the first two modules', and the patches that blocks see. */
static int64_t t2t_len(const t2t *g, int i)
{
    int64_t side = g->c.size / ((int64_t)4 << i);
    return side * side;
}

static st_status t2t_open(st_model *m, const json_t *config, st_err *e)
{
    st_builder b;
    st_t2tvit_config c;
    ST_TRY(st_t2tvit_config_read(&c, config, e));
    t2t *g = m->net = st_calloc(1, sizeof *g);
    if (!g) return ST_NOMEM(e, "model");
    g->c = c;
    g->block = st_calloc(c.layers, sizeof *g->block);
    if (!g->block) return ST_NOMEM(e, "model");
    ST_TRY(st_builder_open(&b, m, config, e));
    st_add_tensor(&b, "cls_token", 3, (int64_t[]){1, 1, c.width}, (float)c.init, ST_P_EMBED,
                  &g->cls, &g->dcls);
    st_add_tensor(&b, "pos_embed", 3, (int64_t[]){1, t2t_len(g, 2) + 1, c.width}, 0.0f, ST_P_EMBED,
                  &g->pos, &g->dpos);
    st_add_role(&b, ST_ROLE_POSITION);
    st_add_fill(&b, st_fill_sinusoid);
    for (int i = 0; i < 2; i++)
        t2t_add_module(g, i, &b);
    st_add_matrix(&b, ST_ROLE_PATCH, "tokens_to_token.project", c.token_dim * 9, c.width,
                  &g->project);
    st_add_weights(&b, &g->project, (float)c.init, 0, true);
    for (int64_t i = 0; i < c.layers; i++)
        t2t_add_block(g, i, &b);
    st_add_norm(&b, ST_ROLE_NORM_HEAD, "norm", c.width, &g->norm);
    st_add_matrix(&b, ST_ROLE_HEAD, "head", c.width, c.classes, &g->head);
    st_add_weights(&b, &g->head, (float)c.init, 0, true);
    return st_builder_close(&b);
}

static json_t *t2t_config(const st_model *m)
{
    return st_t2tvit_config_json(&((const t2t *)m->net)->c);
}

static st_vision_shape t2t_vision(const st_model *m)
{
    const st_t2tvit_config *c = &((const t2t *)m->net)->c;
    return (st_vision_shape){.size = c->size,
                             .channels = c->channels,
                             .classes = c->classes,
                             .width = c->width,
                             .layers = c->layers,
                             .heads = c->heads,
                             .inner = c->inner,
                             .token_dim = c->token_dim,
                             .tokens = {t2t_len((const t2t *)m->net, 0),
                                        t2t_len((const t2t *)m->net, 1),
                                        t2t_len((const t2t *)m->net, 2) + 1},
                             .performer = c->performer};
}

/* ---- tokens to token ------------------------------------------------------------------------- */

static st_tensor t2t_from(st_tensor t, int64_t offset)
{
    return st_slice(t, offset, st_numel(t) - offset);
}

/* Windows of stage i of n images as rows, normalised where a module follows. */
static st_tensor t2t_unfold(const t2t *g, st_stream *q, int i, int64_t n, st_tensor x, st_dtype t,
                            st_arena *tmp)
{
    const t2t_window *w = &t2t_windows[i];
    int64_t side = g->c.size >> (i ? i + 1 : 0), channels = i ? g->c.token_dim : g->c.channels;
    st_tensor y = st_take2(tmp, t, n * t2t_len(g, i), channels * w->kernel * w->kernel);
    st_unfold_args a = {.batch = n,
                        .channels = channels,
                        .height = side,
                        .width = side,
                        .kernel = w->kernel,
                        .stride = w->stride,
                        .pad = w->pad,
                        .x = x,
                        .y = y,
                        .eps = (float)g->c.eps,
                        .planes = i == 0};
    if (i < 2) {
        a.gain = g->module[i].norm_1.gain;
        a.bias = g->module[i].norm_1.bias;
    }
    st_stream_ops(q)->unfold(q, &a);
    return y;
}

/* o (rows, token_dim) from packed rows of n images with `len` tokens each. */
static void t2t_attend(const t2t *g, st_stream *q, int i, int64_t n, const st_attention *way,
                       st_tensor packed, st_tensor o, st_arena *tmp)
{
    const t2t_module *m = &g->module[i];
    int64_t d = g->c.token_dim, row = 3 * d, len = t2t_len(g, i);
    st_attend_fwd_args at = {.h = {.batch = n,
                                   .heads = 1,
                                   .head_dim = d,
                                   .q_len = len,
                                   .kv_len = len,
                                   .q = {packed, row, len * row},
                                   .k = {t2t_from(packed, d), row, len * row},
                                   .v = {t2t_from(packed, 2 * d), row, len * row},
                                   .o = {.x = o}},
                             .scale = 1.0f / sqrtf((float)m->in),
                             .seed = (uint64_t)i};
    if (g->c.performer) { /* its packed rows begin with the key */
        st_favor_args f = {.h = at.h, .features = g->c.features, .w = m->w, .eps = 1e-8f};
        f.h.q = at.h.k;
        f.h.k = at.h.q;
        st_stream_ops(q)->favor(q, &f);
        return;
    }
    st_attention_forward(q, way, &at, tmp);
}

/* y (rows, token_dim) = module i of x (rows, in), which is normalised. */
static void t2t_module_forward(const t2t *g, st_stream *q, int i, int64_t n,
                               const st_attention *way, st_tensor x, st_tensor y, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    const t2t_module *m = &g->module[i];
    int64_t d = g->c.token_dim, rows = x.dim[0];
    st_tensor none = {0}, packed = st_take2(tmp, x.dtype, rows, 3 * d);
    st_tensor a = st_take2(tmp, x.dtype, rows, d);

    st_matrix_forward(q, &m->qkv, x, packed, none, tmp);
    t2t_attend(g, q, i, n, way, packed, a, tmp);
    st_matrix_forward(q, &m->proj, a, y, none, tmp);
    op->copy(q, &(st_copy_args){.rows = rows,
                                .cols = d,
                                .ldx = 3 * d,
                                .x = t2t_from(packed, 2 * d),
                                .y = y,
                                .accumulate = 1});
    op->norm_fwd(q, &(st_norm_fwd_args){.rows = rows,
                                        .width = d,
                                        .x = y,
                                        .y = a,
                                        .gain = m->norm_2.gain,
                                        .bias = m->norm_2.bias,
                                        .eps = (float)g->c.eps});
    st_mlp mlp = {.in = &m->fc_1, .out = &m->fc_2, .gelu = ST_GELU_ERF};
    st_mlp_acts acts = {0};
    st_mlp_forward(q, &mlp, false, a, none, a, &acts, tmp);
    op->residual_fwd(q, &(st_residual_fwd_args){.a = a, .b = y, .y = y});
}

/* The patches of n images: y (n * patches, width). */
static void t2t_patches(const t2t *g, st_stream *q, int64_t n, const st_attention way[2],
                        st_tensor pixels, st_tensor y, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    st_tensor z[2];
    for (int i = 0; i < 2; i++)
        z[i] = st_take2(tmp, y.dtype, n * t2t_len(g, i), g->c.token_dim);
    for (int i = 0; i < 3; i++) {
        size_t stage = st_arena_mark(tmp);
        st_stream_tag(q, "tokens_to_token");
        st_tensor x = t2t_unfold(g, q, i, n, i ? z[i - 1] : pixels, y.dtype, tmp);
        if (i < 2)
            t2t_module_forward(g, q, i, n, &way[i], x, z[i], tmp);
        else
            st_matrix_forward(q, &g->project, x, y, (st_tensor){0}, tmp);
        st_arena_rewind(tmp, stage);
    }
    st_arena_rewind(tmp, mark);
}

/* Images whose windows exist at a time: enough rows for all that works, few enough for the caches.
 * It never falls as the batch grows, so that a plan for many holds for fewer. */
static int64_t t2t_chunk(const t2t *g, const st_stream *q, int64_t batch)
{
    enum { ROWS = 1 << 12 }; /* of each of them */
    int64_t n = ROWS * st_stream_units(q) / t2t_len(g, 0);
    n = n < 1 ? 1 : n;
    return n < batch ? n : batch;
}

/* x = the positions of each of n images, the class token added to the first. */
static void t2t_positions(const t2t *g, st_stream *q, int64_t n, st_tensor x)
{
    const st_ops *op = st_stream_ops(q);
    int64_t item = st_numel(x) / n;
    op->copy(q, &(st_copy_args){.x = st_slice(g->pos, 0, item), .y = st_slice(x, 0, item)});
    op->copy(q, &(st_copy_args){.x = st_slice(g->cls, 0, g->c.width),
                                .y = st_slice(x, 0, g->c.width),
                                .accumulate = 1});
    for (int64_t done = 1, more; done < n; done += more) { /* twice as many at a time */
        more = done < n - done ? done : n - done;
        op->copy(q, &(st_copy_args){.x = st_slice(x, 0, more * item),
                                    .y = st_slice(x, done * item, more * item)});
    }
}

/* x (batch * tokens, width) = the class token and the patches, with their positions. */
static void t2t_tokens(const t2t *g, st_stream *q, const st_vision_args *a, st_tensor x,
                       st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t width = g->c.width, patches = t2t_len(g, 2), item = (patches + 1) * width;
    int64_t chunk = t2t_chunk(g, q, a->batch), image = g->c.channels * g->c.size * g->c.size;
    st_tensor y = st_take2(tmp, x.dtype, chunk * patches, width);
    for (int64_t i = 0; i < a->batch; i += chunk) {
        int64_t n = a->batch - i < chunk ? a->batch - i : chunk;
        st_tensor part = st_rows(y, 0, n * patches);
        t2t_patches(g, q, n, a->attention, st_slice(a->pixels, i * image, n * image), part, tmp);
        t2t_positions(g, q, n, st_slice(x, i * item, n * item));
        op->copy(q, &(st_copy_args){.rows = n,
                                    .cols = patches * width,
                                    .ldy = item,
                                    .x = part,
                                    .y = st_slice(x, i * item + width, n * item - width),
                                    .accumulate = 1});
    }
}

/* ---- the network ----------------------------------------------------------------------------- */

static void t2t_head(const t2t *g, st_stream *q, st_tensor x, st_tensor logits, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t n = x.dim[0];
    st_tensor y = st_take2(tmp, x.dtype, n, g->c.width);
    st_stream_tag(q, "norm");
    op->norm_fwd(q, &(st_norm_fwd_args){.rows = n,
                                        .width = g->c.width,
                                        .x = x,
                                        .y = y,
                                        .gain = g->norm.gain,
                                        .bias = g->norm.bias,
                                        .eps = (float)g->c.eps});
    /* as GPT-2's head: summed and stored in float32 where the type allows */
    bool wide = g->head.l.spec.type->rows != NULL || x.dtype == ST_F32;
    st_tensor out = st_view2(logits.data, ST_F32, n, g->c.classes);
    if (!wide) out = st_take2(tmp, x.dtype, n, g->c.classes);
    st_matrix_forward(q, &g->head, y, out, (st_tensor){0}, tmp);
    if (!wide) op->copy(q, &(st_copy_args){.x = out, .y = logits});
}

static void t2t_forward(st_model *m, st_stream *q, const st_vision_args *a, st_arena *tmp)
{
    const t2t *g = m->net;
    size_t mark = st_arena_mark(tmp);
    int64_t len = t2t_len(g, 2) + 1, width = g->c.width;
    st_pass pass = {.batch = a->batch, .len = len};
    st_tensor x = st_take2(tmp, g->pos.dtype, a->batch * len, width);
    st_tensor y = st_take2(tmp, x.dtype, a->batch, width);
    size_t inner = st_arena_mark(tmp);
    t2t_tokens(g, q, a, x, tmp);
    st_arena_rewind(tmp, inner);
    for (int64_t i = 0; i < g->c.layers; i++) {
        st_block_acts acts = {0};
        if (i + 1 < g->c.layers)
            st_block_forward(q, &g->block[i], &pass, x, x, &acts, tmp);
        else
            st_block_first(q, &g->block[i], &pass, x, y, tmp);
        st_arena_rewind(tmp, inner);
    }
    t2t_head(g, q, y, a->logits, tmp);
    st_stream_tag(q, NULL);
    st_arena_rewind(tmp, mark);
}

const st_model_type st_model_t2tvit = {
    .name = "t2t_vit",
    .prefix = "",
    .open = t2t_open,
    .close = t2t_close,
    .config = t2t_config,
    .globs = {"blocks.*.mlp.*", "blocks.*.attn.*"},
    .vision = t2t_vision,
    .classify = t2t_forward,
};
