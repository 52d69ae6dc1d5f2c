/* What every language model does, whatever its family: x = embed(ids); blocks; logits =
 * head(norm(x)), the head being the embedding unless they are untied; the loss; a teacher; and all
 * of it backwards. Families bring embedding and blocks (st_lm_family). The head runs over few rows
 * at a time: no (tokens, vocab) buffer exists, and in training its forward, the loss and its
 * backward follow each other per chunk. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>
#include <string.h>

/* One call. */
typedef struct {
    const st_model *m;
    st_stream *q;
    const st_lm_args *a;
    st_pass pass;
    st_arena *tmp;
} lm_run;

/* What a teacher's inference leaves for its student. */
typedef struct {
    const st_model *m; /* NULL: no teacher */
    st_tensor normed;  /* (rows, its width) what its head reads */
    st_tensor last;    /* its last block's output; that of block i is what block i + 1 has read */
} lm_taught;

/* ---- parts ----------------------------------------------------------------------------------- */

static st_seen *lm_seen(const st_model *m, int64_t layer)
{
    return (st_seen *)(void *)(m->lm->acts + layer * (int64_t)m->type->lm->acts);
}

static st_tensor lm_take(const lm_run *r, const st_model *m)
{
    return st_take2(r->tmp, m->weights.dtype, r->a->batch * r->a->len, m->lm->shape.width);
}

/* ---- the head -------------------------------------------------------------------------------- */

/* Rows of logits that exist at a time, of `rows`: a power of two, at most 128 MiB of float32, or 1
 * GiB on a GPU, which wants more rows at once. Each chunk reads the whole head three times, so that
 * fewer rows cost time (GPT-2 124M: 256 rows 8 % slower in the head's products than 512) and more
 * only memory. It never falls as `rows` grow, so that a plan for many rows holds for fewer. */
static int64_t lm_chunk(const st_lm *lm, const st_stream *q, int64_t rows)
{
    int64_t limit = 16, scale = st_stream_units(q) > st_stream_threads(q) ? 8 : 1;
    while (limit < 1024 * scale && 2 * limit * lm->shape.vocab <= scale << 25)
        limit *= 2;
    return rows < limit ? rows : limit;
}

/* Where the type allows, logits are summed and stored in float32 whatever the weights are: GPT-2's
 * lie near -100, where bfloat16 has steps of 0.5. */
static bool lm_wide(const st_lm *lm)
{
    return lm->top.l.spec.type->rows != NULL;
}

/* A dense head leaves a gap behind 50257 logits: rows that begin aligned are multiplied several
 * times faster on a GPU. Not with a bias, whose gradient sums rows without gaps. */
static bool lm_gaps(const st_lm *lm)
{
    return lm->top.l.spec.type == &st_map_dense && !lm->shape.head_bias;
}

/* Numbers between rows of logits of `lm` and of another model (NULL: none). */
static int64_t lm_stride(const st_lm *lm, const st_lm *other)
{
    bool dense = lm_gaps(lm) && (!other || lm_gaps(other));
    return dense ? (lm->shape.vocab + 63) / 64 * 64 : lm->shape.vocab;
}

static st_tensor lm_take_logits(const st_lm *lm, int64_t rows, int64_t stride, st_dtype t,
                                st_arena *tmp)
{
    return st_take2(tmp, lm_wide(lm) ? ST_F32 : t, rows, stride);
}

/* Logits and/or losses of rows x (after the norm). */
static void lm_head_forward(const lm_run *r, st_tensor x)
{
    const st_lm *lm = r->m->lm;
    const st_ops *op = st_stream_ops(r->q);
    int64_t chunk = lm_chunk(lm, r->q, x.dim[0]), vocab = lm->shape.vocab;
    for (int64_t i = 0; i < x.dim[0]; i += chunk) {
        size_t mark = st_arena_mark(r->tmp);
        int64_t n = x.dim[0] - i < chunk ? x.dim[0] - i : chunk;
        st_tensor out = {0}, y;
        if (r->a->logits.data) {
            out = st_slice(r->a->logits, i * vocab, n * vocab);
            out = st_view2(out.data, out.dtype, n, vocab);
        }
        y = out;
        if (!out.data || !lm_wide(lm))
            y = lm_take_logits(lm, n, lm_stride(lm, NULL), x.dtype, r->tmp);
        st_matrix_forward(r->q, &lm->top, st_rows(x, i, n), y, (st_tensor){0}, r->tmp);
        if (out.data && out.data != y.data)
            op->copy(r->q,
                     &(st_copy_args){.rows = n, .cols = vocab, .ldx = y.dim[1], .x = y, .y = out});
        if (r->a->targets.data) {
            op->xent(r->q, &(st_xent_args){.rows = n,
                                           .width = vocab,
                                           .stride = y.dim[1],
                                           .logits = y,
                                           .targets = st_slice(r->a->targets, i, n),
                                           .loss = st_slice(r->a->loss, i, n)});
        }
        st_arena_rewind(r->tmp, mark);
    }
}

/* dy and the losses of a chunk of n rows from `row` on, of its logits y and the teacher's. */
static void lm_chunk_grad(const lm_run *r, const lm_taught *taught, int64_t row, int64_t n,
                          st_tensor y, st_tensor dy)
{
    const st_ops *op = st_stream_ops(r->q);
    const st_lm_args *a = r->a;
    st_tensor targets = st_slice(a->targets, row, n), loss = a->loss;
    if (loss.data) loss = st_slice(loss, row, n);
    if (!taught->m || a->teach->kl_scale == 0.0f) {
        op->xent(r->q, &(st_xent_args){.rows = n,
                                       .width = r->m->lm->shape.vocab,
                                       .stride = y.dim[1],
                                       .logits = y,
                                       .targets = targets,
                                       .loss = loss,
                                       .dlogits = dy,
                                       .scale = a->grad_scale});
        return;
    }
    const st_lm *lm = taught->m->lm;
    st_tensor from = taught->normed, t = lm_take_logits(lm, n, y.dim[1], from.dtype, r->tmp);
    st_matrix_forward(r->q, &lm->top, st_rows(from, row, n), t, (st_tensor){0}, r->tmp);
    op->distill(r->q, &(st_distill_args){.rows = n,
                                         .width = r->m->lm->shape.vocab,
                                         .stride = y.dim[1],
                                         .logits = y,
                                         .teacher = t,
                                         .targets = targets,
                                         .loss = loss,
                                         .kl = st_slice(a->teach->kl, row, n),
                                         .dlogits = dy,
                                         .scale = a->grad_scale,
                                         .kl_scale = a->teach->kl_scale,
                                         .temperature = a->teach->temperature});
}

/* Losses of rows x (after the norm); dx and the head's gradients by them. */
static void lm_head_grad(const lm_run *r, const lm_taught *taught, st_tensor x, st_tensor dx)
{
    const st_lm *lm = r->m->lm;
    int64_t chunk = lm_chunk(lm, r->q, x.dim[0]), kept = st_linear_kept(&lm->top.l);
    int64_t stride = lm_stride(lm, taught->m ? taught->m->lm : NULL);
    for (int64_t i = 0; i < x.dim[0]; i += chunk) {
        size_t mark = st_arena_mark(r->tmp);
        int64_t n = x.dim[0] - i < chunk ? x.dim[0] - i : chunk;
        st_tensor part = st_rows(x, i, n);
        st_tensor keep = kept ? st_take2(r->tmp, x.dtype, n, kept) : (st_tensor){0};
        st_tensor y = lm_take_logits(lm, n, stride, x.dtype, r->tmp);
        st_tensor dy = y.dtype == x.dtype ? y : st_take2(r->tmp, x.dtype, n, stride);
        st_matrix_forward(r->q, &lm->top, part, y, keep, r->tmp);
        lm_chunk_grad(r, taught, i, n, y, dy);
        st_matrix_backward(r->q, &lm->top, part, keep, dy, st_rows(dx, i, n), r->tmp);
        st_arena_rewind(r->tmp, mark);
    }
}

/* ---- the blocks ------------------------------------------------------------------------------ */

/* What the loop leaves: the last output alone, over its input; every output; all that backward
 * reads. */
typedef enum { LM_LAST, LM_OUTPUTS, LM_ALL } lm_keep;

/* Blocks first .. end - 1 of m, of whose output this is. */
static st_tensor lm_blocks(const lm_run *r, const st_model *m, int64_t first, int64_t end,
                           lm_keep keep, st_tensor x)
{
    const st_lm_family *family = m->type->lm;
    const st_teach *teach = r->a->teach;
    bool mlp = teach && teach->mlp && teach->hidden_scale != 0.0f;
    for (int64_t i = first; i < end; i++) {
        st_seen *acts = lm_seen(m, i);
        st_tensor y = keep == LM_LAST ? x : lm_take(r, m);
        memset((void *)acts, 0, family->acts);
        if (mlp) acts->mlp = lm_take(r, m);
        size_t mark = st_arena_mark(r->tmp);
        family->block(m->net, r->q, i, &r->pass, x, y, acts, r->tmp);
        if (keep != LM_ALL) st_arena_rewind(r->tmp, mark);
        x = y;
    }
    return x;
}

static st_match_args lm_match(const st_teach *teach, float scale, st_tensor x, st_tensor t,
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

/* Before the backward of block i with output y: d += the gradient of its distance from the
 * teacher's; what its MLP adds is compared within that backward. */
static void lm_distance(const lm_run *r, const lm_taught *taught, int64_t i, st_tensor y,
                        st_tensor d)
{
    const st_teach *teach = r->a->teach;
    const st_model *of = taught->m;
    st_seen *acts = lm_seen(r->m, i);
    st_tensor t = i + 1 < of->lm->shape.layers ? lm_seen(of, i + 1)->x : taught->last;
    if (teach->mlp) t = lm_seen(of, i)->mlp;
    st_match_args match =
        lm_match(teach, teach->hidden_scale, teach->mlp ? acts->mlp : y, t, teach->hidden, d);
    if (teach->mlp)
        acts->match = match;
    else
        st_stream_ops(r->q)->match(r->q, &match);
}

/* lm_blocks backwards, y being what it gave: d, the gradient of y on entry, of x on return. */
static void lm_blocks_back(const lm_run *r, const lm_taught *taught, int64_t first, int64_t end,
                           st_tensor y, st_tensor d)
{
    bool hidden = r->a->teach && r->a->teach->hidden_scale != 0.0f;
    for (int64_t i = end - 1; i >= first; i--) {
        st_seen *acts = lm_seen(r->m, i);
        if (hidden) lm_distance(r, taught, i, y, d);
        r->m->type->lm->block_back(r->m->net, r->q, i, &r->pass, acts, d, r->tmp);
        y = acts->x;
    }
}

/* ---- inference ------------------------------------------------------------------------------- */

/* The rows that are asked for, copied together; neighbours in one piece. */
static st_tensor lm_pick(const lm_run *r, st_tensor x)
{
    const st_lm_args *a = r->a;
    int64_t width = x.dim[1];
    st_tensor y = st_take2(r->tmp, x.dtype, a->picks, width);
    for (int64_t i = 0, n; i < a->picks; i += n) {
        for (n = 1; i + n < a->picks && a->pick[i + n] == a->pick[i] + n;)
            n++;
        st_tensor from = st_slice(x, a->pick[i] * width, n * width);
        st_tensor to = st_slice(y, i * width, n * width);
        st_stream_ops(r->q)->copy(r->q,
                                  &(st_copy_args){.rows = n, .cols = width, .x = from, .y = to});
    }
    return y;
}

/* The last row of each sequence. */
static st_tensor lm_pick_last(const lm_run *r, st_tensor x)
{
    int64_t width = x.dim[1], len = r->a->len, batch = r->a->batch;
    st_tensor from = st_slice(x, (len - 1) * width, ((batch - 1) * len + 1) * width);
    st_tensor y = st_take2(r->tmp, x.dtype, batch, width);
    st_stream_ops(r->q)->copy(
        r->q, &(st_copy_args){.rows = batch, .cols = width, .ldx = len * width, .x = from, .y = y});
    return y;
}

void st_lm_forward(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    const st_lm *lm = m->lm;
    size_t mark = st_arena_mark(tmp);
    lm_run r = {.m = m, .q = q, .a = a, .tmp = tmp};
    r.pass = (st_pass){.batch = a->batch, .len = a->len, .kv = a->kv, .attention = a->attention};
    int64_t end = a->blocks ? a->first + a->blocks : lm->shape.layers;
    assert((a->kv ? a->kv->used : 0) + a->len <= lm->shape.context);
    assert(!a->last_only || (!a->targets.data && !a->pick));
    assert(end <= lm->shape.layers && (a->hidden.data || (!a->first && !a->blocks)));

    st_tensor mean, rstd, x = a->hidden.data ? a->hidden : lm_take(&r, m);
    if (!a->first) m->type->lm->embed(m->net, q, &r.pass, a->ids, x, tmp);
    x = lm_blocks(&r, m, a->first, end, LM_LAST, x);
    if (a->kv) a->kv->used += a->len;
    if (a->last_only && a->len > 1) x = lm_pick_last(&r, x);
    if (a->pick) x = lm_pick(&r, x);
    if (!a->blocks && (a->logits.data || a->targets.data)) {
        st_stream_tag(q, lm->norm_name);
        x = st_norm_forward(q, &lm->norm, lm->eps, x, (st_tensor){0}, &mean, &rstd, tmp);
        lm_head_forward(&r, x);
    }
    st_stream_tag(q, NULL);
    st_arena_rewind(tmp, mark);
}

/* ---- training -------------------------------------------------------------------------------- */

/* The teacher's forward. Its scratch is given back, unless all its states are wanted. */
static lm_taught lm_teacher(const lm_run *r)
{
    const st_teach *teach = r->a->teach;
    if (!teach) return (lm_taught){0};
    const st_model *m = teach->teacher;
    lm_run t = *r;
    t.pass = (st_pass){.batch = r->a->batch, .len = r->a->len};
    bool states = teach->hidden_scale != 0.0f || teach->embed_scale != 0.0f;
    assert(m->lm && r->a->len <= m->lm->shape.context);

    lm_taught k = {.m = m, .normed = lm_take(&t, m)};
    size_t mark = st_arena_mark(r->tmp);
    st_tensor mean, rstd, x = lm_take(&t, m);
    m->type->lm->embed(m->net, r->q, &t.pass, r->a->ids, x, r->tmp);
    k.last = lm_blocks(&t, m, 0, m->lm->shape.layers, states ? LM_OUTPUTS : LM_LAST, x);
    size_t end = st_arena_mark(r->tmp);
    st_norm_forward(r->q, &m->lm->norm, m->lm->eps, k.last, k.normed, &mean, &rstd, r->tmp);
    st_arena_rewind(r->tmp, states ? end : mark);
    return k;
}

/* d += the gradient of the distance of what the first block reads from what the teacher's does. */
static void lm_embed_distance(const lm_run *r, const lm_taught *taught, st_tensor d)
{
    const st_teach *teach = r->a->teach;
    st_match_args match = lm_match(teach, teach->embed_scale, lm_seen(r->m, 0)->x,
                                   lm_seen(taught->m, 0)->x, teach->embed, d);
    st_stream_ops(r->q)->match(r->q, &match);
}

static void lm_whole_grad(const lm_run *r, const lm_taught *taught)
{
    const st_model *m = r->m;
    const st_lm *lm = m->lm;
    st_tensor mean, rstd, ids = r->a->ids;

    /* forward: everything backward reads stays on `tmp` */
    st_tensor x = lm_take(r, m);
    m->type->lm->embed(m->net, r->q, &r->pass, ids, x, r->tmp);
    x = lm_blocks(r, m, 0, lm->shape.layers, LM_ALL, x);
    st_stream_tag(r->q, lm->norm_name);
    st_tensor y =
        st_norm_forward(r->q, &lm->norm, lm->eps, x, (st_tensor){0}, &mean, &rstd, r->tmp);

    /* head: forward, loss and backward, a chunk of rows at a time */
    st_tensor d = lm_take(r, m);
    lm_head_grad(r, taught, y, d);

    /* backward: d is the gradient of what the line's forward twin wrote */
    st_stream_tag(r->q, lm->norm_name);
    st_norm_backward(r->q, &lm->norm, x, mean, rstd, d, d, false, r->tmp);
    lm_blocks_back(r, taught, 0, lm->shape.layers, x, d);
    if (r->a->teach && r->a->teach->embed_scale != 0.0f) lm_embed_distance(r, taught, d);
    m->type->lm->embed_back(m->net, r->q, &r->pass, ids, d, r->tmp);
}

/* Block reconstruction: forward, distance and backward of each block, on the teacher's inputs. */
static void lm_each_grad(const lm_run *r, const lm_taught *taught)
{
    const st_ops *op = st_stream_ops(r->q);
    assert(r->a->grad_scale == 0.0f && r->a->teach->kl_scale == 0.0f);
    assert(r->a->teach->embed_scale == 0.0f);
    if (r->a->loss.data) op->fill(r->q, &(st_fill_args){.x = r->a->loss});
    for (int64_t i = 0; i < r->m->lm->shape.layers; i++) {
        size_t mark = st_arena_mark(r->tmp);
        st_tensor d = lm_take(r, r->m);
        st_tensor y = lm_blocks(r, r->m, i, i + 1, LM_ALL, lm_seen(taught->m, i)->x);
        op->fill(r->q, &(st_fill_args){.x = d});
        lm_blocks_back(r, taught, i, i + 1, y, d);
        st_arena_rewind(r->tmp, mark);
    }
}

void st_lm_grad(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    const st_teach *teach = a->teach;
    size_t mark = st_arena_mark(tmp);
    lm_run r = {.m = m, .q = q, .a = a, .tmp = tmp};
    r.pass = (st_pass){.batch = a->batch, .len = a->len, .train = true, .seed = a->seed};
    bool each = teach && teach->by_block;
    assert(m->grads.data && !a->kv && a->len <= m->lm->shape.context);
    assert(each || a->targets.data);
    if (teach && teach->hidden_scale != 0.0f) op->fill(q, &(st_fill_args){.x = teach->hidden});
    if (teach && teach->embed_scale != 0.0f) op->fill(q, &(st_fill_args){.x = teach->embed});
    lm_taught taught = lm_teacher(&r);
    if (each)
        lm_each_grad(&r, &taught);
    else
        lm_whole_grad(&r, &taught);
    st_stream_tag(q, NULL);
    st_arena_rewind(tmp, mark);
}
