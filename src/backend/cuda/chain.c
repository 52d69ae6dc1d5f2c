/* What a stream has been asked for and has not launched yet: of steps on few rows, a layer norm, a
 * fold and a product, so that they become one launch, with the residual that is added to the
 * product (few.h). Every other operation, copy or wait launches what is left over first, so that
 * nobody can tell but by the clock. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/chain.h"
#include "backend/cuda/pair.h"

static chain_span chain_of(const void *p, int64_t n, st_dtype t)
{
    const char *from = p;
    return (chain_span){from, from ? from + n * (int64_t)st_dtype_size(t) : from};
}

static bool chain_meet(chain_span a, chain_span b)
{
    return a.from < b.to && b.from < a.to;
}

/* ---- launches ------------------------------------------------------------------------------- */

static void chain_wrote(st_cuda_chain *c, chain_span s)
{
    if (s.from && c->n < CHAIN_SPANS) c->wrote[c->n++] = s;
}

/* Whether what launches that may not have ended write leaves `s` alone; room for another's. */
static bool chain_constant(const st_cuda_chain *c, chain_span s)
{
    for (int i = 0; i < c->n; i++) {
        if (chain_meet(c->wrote[i], s)) return false;
    }
    return c->n + 8 < CHAIN_SPANS;
}

static int64_t chain_width(const st_fold_fwd_args *f)
{
    return f->folds * f->supers * f->block;
}

/* All numbers between the first and the last of y. */
static chain_span chain_output(const st_few_args *f, const void *y)
{
    int64_t n = (f->groups - 1) * f->step_y + (f->rows - 1) * f->ldy + f->n;
    return chain_of(y, n, f->wide ? ST_F32 : f->dtype);
}

void st_cuda_chain_go(st_stream *q, st_few_args *f, const char *product_tag)
{
    const st_cuda *cuda = st_cuda_of(q);
    st_cuda_chain *c = cuda->chain;
    chain_span w = chain_of(f->w, (f->groups - 1) * f->step_w + f->n * f->ldw, f->dtype);
    chain_span bias = chain_of(f->bias, (f->groups - 1) * f->step_bias + f->n, f->dtype);
    const char *tag = q->tag;
    f->early = chain_constant(c, w) && chain_constant(c, bias);
    if (!f->early) c->n = 0; /* it waits for all of them */
    q->tag = product_tag;
    st_cuda_ok(q, st_few(f, cuda->arch, cuda->sms, cuda->stream), f->gelu ? "gelu_linear" : "gemm");
    q->tag = tag;
    chain_wrote(c, chain_output(f, f->y));
    if (f->add) chain_wrote(c, chain_output(f, f->sum));
    if (f->h) chain_wrote(c, chain_output(f, f->h));
    if (f->norm.width) chain_wrote(c, chain_of(f->norm.y.data, f->rows * f->norm.width, f->dtype));
    if (f->fold.block)
        chain_wrote(c, chain_of(f->fold.z.data, f->rows * chain_width(&f->fold), f->dtype));
}

void st_cuda_chain_attend(st_stream *q, const st_attend_next_args *a)
{
    st_cuda_chain *c = chain_at(q);
    const st_cuda *cuda = st_cuda_of(q);
    st_dtype t = a->h.q.x.dtype;
    int64_t n = a->h.heads * a->h.head_dim, last = a->h.batch - 1;
    chain_span k = chain_of(a->h.k.x.data, last * a->h.k.step + a->h.kv_len * a->h.k.stride, t);
    chain_span v = chain_of(a->h.v.x.data, last * a->h.v.step + a->h.kv_len * a->h.v.stride, t);
    bool early = chain_constant(c, k) && chain_constant(c, v);
    if (!early) c->n = 0;
    st_cuda_ok(q, st_next(a, early, cuda->arch, cuda->sms, cuda->stream), "attend_next");
    chain_wrote(c, chain_of(a->h.o.x.data, last * a->h.o.step + n, t));
    chain_wrote(c, k);
    chain_wrote(c, v);
}

/* ---- what waits ----------------------------------------------------------------------------- */

static void chain_launch(st_stream *q)
{
    st_cuda_chain *c = chain_at(q);
    c->product = false;
    if (c->step)
        st_cuda_chain_step(q, &(st_relay_step){.few = c->few, .tag = c->product_tag});
    else
        st_cuda_chain_go(q, &c->few, c->product_tag);
}

static void chain_flush_before(st_stream *q)
{
    st_cuda_chain *c = chain_at(q);
    const char *tag = q->tag;
    bool norm = c->norm, fold = c->fold;
    c->norm = c->fold = false;
    if (norm || fold) {
        st_cuda_chain_emit(q);
        c->n = 0;
    }
    q->tag = c->norm_tag;
    if (norm) st_cuda_norm_fwd(q, &c->norm_args);
    q->tag = c->fold_tag;
    if (fold) st_cuda_fold_fwd(q, &c->fold_args);
    q->tag = tag;
}

/* What no operation after it can join. */
static void chain_begin(st_stream *q)
{
    st_cuda_pair_flush(q);
    if (chain_at(q)->product) chain_launch(q);
}

void st_cuda_chain_flush(st_stream *q)
{
    st_cuda_chain *c = chain_at(q);
    if (!c) return;
    chain_begin(q);
    chain_flush_before(q);
    st_cuda_chain_emit(q);
    c->n = 0; /* what comes waits for all of it */
}

/* ---- what may wait -------------------------------------------------------------------------- */

static void chain_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    st_cuda_chain *c = chain_at(q);
    chain_begin(q);
    chain_flush_before(q);
    c->norm_args = *a;
    c->norm_tag = q->tag;
    c->norm = !a->rms && a->rows >= 1 && a->rows <= ST_FEW_ROWS && a->width % 8 == 0;
    if (c->norm) return;
    st_cuda_chain_flush(q);
    st_cuda_norm_fwd(q, a);
}

static void chain_fold_fwd(st_stream *q, const st_fold_fwd_args *a)
{
    st_cuda_chain *c = chain_at(q);
    chain_begin(q);
    bool after = c->norm && !c->fold && a->x.data == c->norm_args.y.data &&
                 a->rows == c->norm_args.rows && a->cols == c->norm_args.width;
    if (!after) chain_flush_before(q);
    c->fold_args = *a;
    c->fold_tag = q->tag;
    c->fold = a->rows >= 1 && a->rows <= ST_FEW_ROWS;
    if (c->fold) return;
    st_cuda_chain_flush(q);
    st_cuda_fold_fwd(q, a);
}

/* What waits before the product, if it makes the product's first operand, which is `width` wide. */
static bool chain_before(const st_cuda_chain *c, st_few_args *f, int64_t width)
{
    const void *made = c->fold ? c->fold_args.z.data : c->norm_args.y.data;
    int64_t rows = c->fold ? c->fold_args.rows : c->norm_args.rows;
    int64_t wide = c->fold ? chain_width(&c->fold_args) : c->norm_args.width;
    if ((!c->norm && !c->fold) || made != f->x || rows != f->rows || wide < width) return false;
    if (f->rows > 1 && f->ldx != wide) return false;
    if (c->fold) f->fold = c->fold_args;
    if (c->norm) f->norm = c->norm_args;
    f->x = c->norm ? c->norm_args.x.data : c->fold_args.x.data;
    f->ldx = c->norm ? c->norm_args.width : c->fold_args.cols;
    return true;
}

/* Whether y may be written while x, what stands before and what is added is still read. */
static bool chain_apart(const st_few_args *f, const void *y)
{
    int64_t before = f->norm.width ? f->norm.width : f->fold.block ? f->fold.cols : f->k;
    chain_span to = chain_output(f, y), none = {0};
    chain_span x = chain_of(f->x, (f->rows - 1) * f->ldx + before, f->dtype);
    chain_span n = f->norm.width ? chain_of(f->norm.y.data, f->rows * before, f->dtype) : none;
    chain_span z =
        f->fold.block ? chain_of(f->fold.z.data, f->rows * chain_width(&f->fold), f->dtype) : none;
    return !chain_meet(to, x) && !chain_meet(to, n) && !chain_meet(to, z) && !chain_meet(x, z);
}

/* Lets the product in c->few wait. False: the kernels do not take it. */
static bool chain_product(st_stream *q, st_few_args *f)
{
    st_cuda_chain *c = chain_at(q);
    st_few_args alone = *f;
    bool before = chain_before(c, f, (f->groups - 1) * f->step_x + f->k);
    if (before && (!st_few_takes(f) || !chain_apart(f, f->y) || (f->h && !chain_apart(f, f->h)))) {
        before = false;
        *f = alone;
    }
    if (before) {
        c->norm = c->fold = false;
    } else {
        chain_flush_before(q);
        if (!st_few_takes(f)) return false;
    }
    c->few = *f;
    c->product = true;
    c->product_tag = q->tag;
    return true;
}

static void chain_gemm(st_stream *q, const st_gemm_args *g)
{
    chain_begin(q);
    st_gemm_layout l = st_gemm_resolve(g);
    if (st_dtype_blocks(g->b.dtype)) {
        st_stream_latch(q, ST_EUNSUPPORTED, "gemm", "weights of 8 or 4 bits are for the cpu today");
        return;
    }
    bool few = g->m >= 1 && g->m <= ST_FEW_ROWS && g->n > 0 && !g->ta && g->tb && g->beta == 0 &&
               st_or(g->bias_rows, 1) == 1;
    st_few_args f = {.dtype = g->a.dtype,
                     .wide = g->c.dtype == ST_F32,
                     .rows = (int)g->m,
                     .groups = (int)l.batch,
                     .n = g->n,
                     .k = g->k,
                     .x = g->a.data,
                     .ldx = l.lda,
                     .step_x = l.batch > 1 ? l.step_a : 0,
                     .w = g->b.data,
                     .ldw = l.ldb,
                     .step_w = l.batch > 1 ? l.step_b : 0,
                     .bias = g->bias.data,
                     .step_bias = l.batch > 1 ? g->step_bias : 0,
                     .y = g->c.data,
                     .ldy = l.ldc,
                     .step_y = l.batch > 1 ? l.step_c : 0};
    if (few && l.batch <= 65535 && chain_product(q, &f)) return;
    st_cuda_chain_flush(q);
    if (!st_cuda_pair_gemm(q, g)) st_cuda_gemm(q, g);
}

/* Few rows: as the two operations that it is. */
static void chain_fold_linear(st_stream *q, const st_fold_linear_args *a)
{
    if (a->fold.rows < 1 || a->fold.rows > ST_FEW_ROWS) {
        st_cuda_chain_flush(q);
        st_cuda_fold_linear(q, a);
        return;
    }
    chain_fold_fwd(q, &a->fold);
    chain_gemm(q, &(st_gemm_args){.m = a->fold.rows,
                                  .n = a->n,
                                  .k = chain_width(&a->fold),
                                  .tb = 1,
                                  .a = a->fold.z,
                                  .b = a->w,
                                  .c = a->y,
                                  .bias = a->bias});
}

static void chain_gelu_linear(st_stream *q, const st_gelu_linear_args *a)
{
    chain_begin(q);
    bool folds = a->fold.block > 0, few = a->rows >= 1 && a->rows <= ST_FEW_ROWS && a->n > 0;
    st_few_args f = {.dtype = a->x.dtype,
                     .wide = a->x.dtype == ST_F32,
                     .rows = (int)a->rows,
                     .groups = 1,
                     .n = a->n,
                     .k = a->k,
                     .x = a->x.data,
                     .ldx = a->k,
                     .w = a->w.data,
                     .ldw = a->k,
                     .bias = a->bias.data,
                     .y = folds ? a->h.data : a->y.data,
                     .ldy = a->n,
                     .gelu = a->kind == ST_GELU_TANH ? 1 : 2,
                     .h = a->keep ? a->h.data : NULL};
    if (!few || (folds && a->keep) || !chain_product(q, &f)) {
        st_cuda_chain_flush(q);
        st_cuda_gelu_linear(q, a);
        return;
    }
    chain_launch(q);
    if (!folds) return;
    st_fold_fwd_args fold = a->fold;
    fold.x = a->h;
    fold.z = a->y;
    chain_fold_fwd(q, &fold);
}

/* The product that waits gets its residual, and goes. */
static void chain_residual_fwd(st_stream *q, const st_residual_fwd_args *a)
{
    st_cuda_chain *c = chain_at(q);
    st_few_args *f = &c->few;
    bool same = c->product && a->b.data == f->y && f->groups == 1 && f->ldy == f->n && !f->gelu &&
                a->a.data && a->drop == 0.0f && st_numel(a->y) == f->rows * f->n &&
                a->y.dtype == (f->wide ? ST_F32 : f->dtype);
    if (!same || !chain_apart(f, a->y.data)) {
        if (st_cuda_pair_residual(q, a)) return;
        st_cuda_chain_flush(q);
        st_cuda_residual_fwd(q, a);
        return;
    }
    f->add = a->a.data;
    f->sum = a->y.data;
    chain_launch(q);
}

void st_cuda_attend_next(st_stream *q, const st_attend_next_args *given)
{
    st_attend_next_args a = st_attend_next_resolve(given);
    chain_begin(q);
    chain_flush_before(q);
    if (chain_at(q)->step)
        st_cuda_chain_step(q, &(st_relay_step){.next = true, .attend = a, .tag = q->tag});
    else
        st_cuda_chain_attend(q, &a);
}

/* ---- many rows (pair.c) ---------------------------------------------------------------------- */

static void chain_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a)
{
    st_cuda_chain_flush(q);
    st_cuda_pair_gelu_bwd(q, a);
}

static void chain_norm_bwd(st_stream *q, const st_norm_bwd_args *a)
{
    st_cuda_chain_flush(q);
    st_cuda_pair_norm_bwd(q, a);
}

static void chain_bias_grad(st_stream *q, const st_bias_grad_args *a)
{
    if (st_cuda_pair_bias_grad(q, a)) return;
    st_cuda_chain_flush(q);
    st_cuda_bias_grad(q, a);
}

/* ---- the table ------------------------------------------------------------------------------ */

#define ST_OP(op, required)                                                                        \
    static void after_##op(st_stream *q, const st_##op##_args *a)                                  \
    {                                                                                              \
        st_cuda_chain_flush(q);                                                                    \
        st_cuda_##op(q, a);                                                                        \
    }
#include "backend/ops.def"
#undef ST_OP

st_status st_cuda_chain_open(st_stream *q, st_err *e)
{
    st_cuda_of(q)->chain = st_calloc(1, sizeof(st_cuda_chain));
    if (!st_cuda_of(q)->chain) return ST_NOMEM(e, "device cuda");
    ST_TRY(st_cuda_pair_open(q, e));
#define ST_OP(op, required) q->table.op = after_##op;
#include "backend/ops.def"
#undef ST_OP
    q->table.norm_fwd = chain_norm_fwd;
    q->table.fold_fwd = chain_fold_fwd;
    q->table.gemm = chain_gemm;
    q->table.gelu_linear = chain_gelu_linear;
    q->table.fold_linear = chain_fold_linear;
    q->table.residual_fwd = chain_residual_fwd;
    q->table.gelu_bwd = chain_gelu_bwd;
    q->table.norm_bwd = chain_norm_bwd;
    q->table.bias_grad = chain_bias_grad;
    q->table.attend_next = st_cuda_attend_next;
    return ST_OK;
}
