/* What operations cost: a dry stream computes nothing and adds up multiply-adds, bytes, launches.
 * Bytes are each operand once, as it is read or written; what is updated counts twice. */
/* SPDX-License-Identifier: MIT */
#include "backend/stream.h"

/* Bytes of `n` elements like those of `t`, 0 if it is absent. */
static int64_t dry_size(st_tensor t, int64_t n)
{
    return t.data ? (int64_t)st_dtype_bytes(t.dtype, n) : 0;
}

static int64_t dry_all(st_tensor t)
{
    return dry_size(t, st_numel(t));
}

static void dry_add(st_stream *q, int64_t macs, int64_t bytes)
{
    q->cost.macs += macs;
    q->cost.bytes += bytes;
    q->cost.launches++;
}

static void dry_gemm(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    int64_t bytes = dry_size(g->a, g->m * g->k * (l.step_a ? l.batch : 1));
    bytes += dry_size(g->b, g->k * g->n * (l.step_b ? l.batch : 1));
    bytes += dry_size(g->c, g->m * g->n * l.batch * (g->beta != 0 ? 2 : 1));
    bytes += dry_size(g->bias, g->n * st_or(g->bias_rows, 1) * (g->step_bias ? l.batch : 1));
    dry_add(q, l.batch * g->m * g->n * g->k, bytes);
}

static void dry_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    int64_t n = a->rows * a->width, bytes = dry_size(a->x, n) + dry_size(a->y, n);
    bytes += dry_size(a->gain, a->width) + dry_size(a->bias, a->width);
    dry_add(q, 0, bytes + dry_size(a->mean, a->rows) + dry_size(a->rstd, a->rows));
}

static void dry_norm_bwd(st_stream *q, const st_norm_bwd_args *a)
{
    int64_t n = a->rows * a->width;
    int64_t bytes = dry_size(a->x, n) + dry_size(a->dy, n) + dry_size(a->gain, a->width);
    bytes += dry_size(a->dx, n * (a->accumulate ? 2 : 1));
    bytes += dry_size(a->mean, a->rows) + dry_size(a->rstd, a->rows);
    dry_add(q, 0, bytes + dry_size(a->dgain, 2 * a->width) + dry_size(a->dbias, 2 * a->width));
}

static int64_t dry_heads(const st_heads *h)
{
    int64_t len = h->batch * h->heads * h->head_dim;
    int64_t kv = h->batch * st_or(h->kv_heads, h->heads) * h->head_dim;
    return dry_size(h->q.x, len * h->q_len) + dry_size(h->o.x, len * h->q_len) +
           dry_size(h->k.x, kv * h->kv_len) + dry_size(h->v.x, kv * h->kv_len);
}

/* Multiply-adds of one product over all visible (query, key) pairs of all heads. */
static int64_t dry_attend_pairs(const st_attend_fwd_args *a)
{
    int64_t pairs = 0;
    for (int64_t t = 0; t < a->h.q_len; t++)
        pairs += st_attend_keys(a, t) - st_attend_first(a, t);
    return a->h.batch * a->h.heads * pairs * a->h.head_dim;
}

static void dry_attend_fwd(st_stream *q, const st_attend_fwd_args *a)
{
    int64_t lse = dry_size(a->lse, a->h.batch * a->h.heads * a->h.q_len);
    dry_add(q, 2 * dry_attend_pairs(a), dry_heads(&a->h) + lse);
}

static void dry_attend_bwd(st_stream *q, const st_attend_bwd_args *a)
{
    int64_t per = a->h.batch * a->h.heads, len = per * a->h.head_dim;
    int64_t rows = dry_size(a->h.q.x, len) + dry_size(a->h.o.x, len) + dry_size(a->go, len);
    int64_t kv = a->h.batch * st_or(a->h.kv_heads, a->h.heads) * a->h.head_dim;
    int64_t keys = dry_size(a->h.k.x, kv) + dry_size(a->h.v.x, kv) + dry_size(a->gk, kv);
    rows += dry_size(a->gq, len) + dry_size(a->lse, per);
    keys += dry_size(a->gv, kv);
    dry_add(q, 5 * dry_attend_pairs(a), rows * a->h.q_len + keys * a->h.kv_len);
}

static void dry_attend_next(st_stream *q, const st_attend_next_args *a)
{
    int64_t row = a->h.batch * a->h.heads * a->h.head_dim;
    int64_t few = a->h.batch * st_or(a->h.kv_heads, a->h.heads) * a->h.head_dim;
    int64_t bytes = dry_heads(&a->h) + 2 * dry_size(a->k.x, few) + 2 * dry_size(a->v.x, few);
    dry_add(q, 2 * row * a->h.kv_len, bytes);
}

static void dry_favor(st_stream *q, const st_favor_args *a)
{
    int64_t len = a->h.batch * a->h.heads * a->h.head_dim, rows = a->h.q_len + a->h.kv_len;
    /* features of a row, and its share of the sums or its output */
    int64_t macs = len * rows * (st_favor_rows(a) + a->features);
    if (a->window) {
        st_attend_fwd_args near = st_favor_near(a);
        macs += 2 * dry_attend_pairs(&near);
    }
    dry_add(q, macs, dry_heads(&a->h) + dry_size(a->w, st_favor_rows(a) * a->h.head_dim));
}

static void dry_lsh_order(st_stream *q, const st_lsh_order_args *a)
{
    int64_t per = a->h.batch * a->h.heads, len = per * a->h.head_dim;
    int64_t rows = a->hashes * (a->buckets ? a->buckets / 2 : 1);
    int64_t bytes = dry_size(a->h.q.x, len * a->h.q_len) + dry_size(a->h.k.x, len * a->h.kv_len);
    bytes += dry_size(a->w, rows * (a->h.head_dim + (a->buckets ? 0 : 2)));
    bytes += dry_size(a->order, per * a->hashes * a->total);
    dry_add(q, len * a->h.q_len * rows, bytes);
}

static void dry_lsh_attend(st_stream *q, const st_lsh_attend_args *a)
{
    int64_t per = a->h.batch * a->h.heads, len = per * a->h.head_dim;
    int64_t all = per * a->hashes * a->clusters;
    int64_t bytes = dry_heads(&a->h) + dry_size(a->q_order, all * a->q_cluster) +
                    dry_size(a->k_order, all * a->k_cluster);
    dry_add(q, 2 * len * a->hashes * a->h.q_len * st_lsh_keys(a), bytes);
}

static void dry_directions(st_stream *q, const st_directions_args *a)
{
    dry_add(q, 0, dry_size(a->w, a->rows * a->cols));
}

static void dry_gelu_fwd(st_stream *q, const st_gelu_fwd_args *a)
{
    dry_add(q, 0, dry_all(a->x) + dry_all(a->y));
}

static void dry_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a)
{
    dry_add(q, 0, dry_all(a->x) + dry_all(a->dy) + dry_all(a->dx));
}

static void dry_glu_fwd(st_stream *q, const st_glu_fwd_args *a)
{
    dry_add(q, 0, dry_all(a->g) + dry_all(a->u) + dry_all(a->y));
}

static void dry_glu_bwd(st_stream *q, const st_glu_bwd_args *a)
{
    dry_add(q, 0, dry_all(a->g) + dry_all(a->u) + dry_all(a->dy) + dry_all(a->dg) + dry_all(a->du));
}

static void dry_rotary(st_stream *q, const st_rotary_args *a)
{
    int64_t n = a->rows * a->heads * a->head_dim;
    dry_add(q, 0, dry_size(a->x, n) + dry_size(a->y, n) + dry_size(a->at, 1));
}

static void dry_residual_fwd(st_stream *q, const st_residual_fwd_args *a)
{
    dry_add(q, 0, dry_all(a->a) + dry_all(a->b) + dry_all(a->y));
}

static void dry_residual_bwd(st_stream *q, const st_residual_bwd_args *a)
{
    dry_add(q, 0, dry_all(a->dy) + dry_all(a->db));
}

static void dry_embed_fwd(st_stream *q, const st_embed_fwd_args *a)
{
    int64_t n = a->rows * a->width;
    dry_add(q, 0,
            dry_all(a->ids) + dry_size(a->table, n) + dry_size(a->position, n) +
                dry_size(a->y, a->table.data ? n : 2 * n));
}

static void dry_embed_bwd(st_stream *q, const st_embed_bwd_args *a)
{
    int64_t n = a->rows * a->width;
    dry_add(q, 0,
            dry_all(a->ids) + dry_size(a->dy, n) + dry_size(a->dtable, 2 * n) +
                dry_size(a->dposition, 2 * n));
}

static void dry_unfold(st_stream *q, const st_unfold_args *a)
{
    st_unfold_shape s = st_unfold_resolve(a);
    dry_add(q, 0,
            dry_size(a->x, a->batch * a->channels * a->height * a->width) +
                dry_size(a->y, a->batch * s.rows * s.cols * s.window) +
                dry_size(a->gain, s.window) + dry_size(a->bias, s.window));
}

static void dry_xent(st_stream *q, const st_xent_args *a)
{
    int64_t n = a->rows * a->width;
    dry_add(q, 0,
            dry_size(a->logits, n) + dry_size(a->dlogits, n) + dry_all(a->targets) +
                dry_size(a->loss, a->rows));
}

static void dry_distill(st_stream *q, const st_distill_args *a)
{
    int64_t n = a->rows * a->width;
    dry_add(q, 0,
            dry_size(a->logits, n) + dry_size(a->teacher, n) + dry_size(a->dlogits, n) +
                dry_all(a->targets) + dry_size(a->loss, a->rows) + dry_size(a->kl, a->rows));
}

static void dry_match(st_stream *q, const st_match_args *a)
{
    int64_t n = a->rows * a->width;
    dry_add(q, 0,
            dry_size(a->x, n) + dry_size(a->t, n) + dry_size(a->dx, 2 * n) +
                dry_size(a->loss, 2 * a->rows));
}

static void dry_bias_grad(st_stream *q, const st_bias_grad_args *a)
{
    dry_add(q, 0, dry_size(a->dy, a->rows * a->width) + dry_size(a->dbias, 2 * a->width));
}

static void dry_permute(st_stream *q, const st_permute_args *a)
{
    int64_t n = a->rows * a->p * a->q * st_or(a->inner, 1);
    dry_add(q, 0, dry_size(a->x, n) + dry_size(a->y, n * (a->accumulate ? 2 : 1)));
}

static void dry_copy(st_stream *q, const st_copy_args *given)
{
    st_copy_args a = st_copy_resolve(given);
    int64_t write = a.rows * a.pad * (a.accumulate ? 2 : 1);
    dry_add(q, 0, dry_size(a.x, a.rows * a.cols) + dry_size(a.y, write));
}

static void dry_fill(st_stream *q, const st_fill_args *a)
{
    dry_add(q, 0, dry_all(a->x));
}

static void dry_scale(st_stream *q, const st_scale_args *a)
{
    dry_add(q, 0, dry_all(a->x) + dry_all(a->y) * (a->accumulate ? 2 : 1) + dry_all(a->s));
}

static void dry_dot(st_stream *q, const st_dot_args *a)
{
    dry_add(q, 0, dry_all(a->a) + dry_all(a->b) + 2 * dry_all(a->c));
}

static void dry_gate_fwd(st_stream *q, const st_gate_fwd_args *a)
{
    dry_add(q, 0, dry_all(a->s) + dry_all(a->l) + dry_all(a->z) + dry_all(a->y));
}

static void dry_gate_bwd(st_stream *q, const st_gate_bwd_args *a)
{
    dry_add(q, 0,
            dry_all(a->s) + dry_all(a->l) + dry_all(a->z) + dry_all(a->dy) + dry_all(a->ds) +
                dry_all(a->dl) + dry_all(a->dz));
}

static void dry_tiles(st_stream *q, const st_tiles_args *a)
{
    int64_t w = a->tile_rows * a->wide * a->block * a->block;
    dry_add(q, a->rows * w,
            dry_size(a->tiles, w) + dry_size(a->x, a->rows * a->cols) + dry_all(a->bias) +
                dry_size(a->y, a->rows * a->outs));
}

static void dry_fold_fwd(st_stream *q, const st_fold_fwd_args *a)
{
    int64_t out = a->rows * a->folds * a->supers * a->block;
    dry_add(q, 0, dry_size(a->x, a->rows * a->cols) + dry_size(a->z, out));
}

static void dry_fold_bwd(st_stream *q, const st_fold_bwd_args *a)
{
    int64_t out = a->rows * a->folds * a->supers * a->block;
    dry_add(q, 0, dry_size(a->dz, out) + dry_size(a->dx, a->rows * a->cols));
}

static void dry_norm_fold(st_stream *q, const st_norm_fold_args *a)
{
    int64_t out = a->fold.rows * a->fold.folds * a->fold.supers * a->fold.block;
    dry_add(q, 0,
            dry_all(a->norm.x) + dry_all(a->norm.gain) + dry_all(a->norm.bias) +
                dry_all(a->norm.mean) + dry_all(a->norm.rstd) + dry_size(a->fold.z, out));
}

static void dry_norm_unfold(st_stream *q, const st_norm_unfold_args *a)
{
    const st_norm_bwd_args *n = &a->norm;
    int64_t in = a->fold.rows * a->fold.folds * a->fold.supers * a->fold.block;
    dry_add(q, 0,
            dry_all(n->x) + dry_all(n->mean) + dry_all(n->rstd) + dry_all(n->gain) +
                dry_all(n->dx) * (1 + n->accumulate) + 2 * dry_all(n->dgain) +
                2 * dry_all(n->dbias) + dry_size(a->fold.dz, in));
}

static void dry_fold_linear(st_stream *q, const st_fold_linear_args *a)
{
    const st_fold_fwd_args *f = &a->fold;
    int64_t width = f->supers * f->block;
    int64_t bytes = dry_size(f->x, f->rows * f->cols) + dry_size(f->z, f->rows * width);
    bytes += dry_size(a->w, a->n * width) + dry_size(a->bias, a->n);
    dry_add(q, f->rows * a->n * width, bytes + dry_size(a->y, f->rows * a->n));
}

static void dry_gelu_linear(st_stream *q, const st_gelu_linear_args *a)
{
    const st_fold_fwd_args *f = &a->fold;
    int64_t out = f->block ? f->folds * f->supers * f->block : a->n;
    int64_t bytes = dry_size(a->x, a->rows * a->k) + dry_size(a->w, a->n * a->k);
    bytes += dry_size(a->bias, a->n) + dry_size(a->y, a->rows * out);
    if (a->keep) bytes += dry_size(a->h, a->rows * a->n);
    dry_add(q, a->rows * a->n * a->k, bytes);
}

static void dry_gelu_unfold(st_stream *q, const st_gelu_unfold_args *a)
{
    const st_fold_bwd_args *f = &a->fold;
    int64_t out = f->rows * f->folds * f->supers * f->block, in = f->rows * f->cols;
    dry_add(q, 0,
            dry_size(f->dz, out) + dry_size(a->h, in) + dry_size(f->dx, in) +
                2 * dry_all(a->dbias));
}

static void dry_sumsq(st_stream *q, const st_sumsq_args *a)
{
    dry_add(q, 0, dry_all(a->x) + 2 * dry_all(a->out));
}

static void dry_adamw(st_stream *q, const st_adamw_args *a)
{
    int64_t w = a->master.data ? dry_all(a->w) + 2 * dry_all(a->master) : 2 * dry_all(a->w);
    dry_add(q, 0, w + dry_all(a->grad) + 2 * dry_all(a->m) + 2 * dry_all(a->v));
}

static void dry_average(st_stream *q, const st_average_args *a)
{
    dry_add(q, 0, dry_all(a->x) + 2 * dry_all(a->mean));
}

const st_ops st_dry_ops = {
    .name = "dry",
#define ST_OP(op, required) .op = dry_##op,
#include "backend/ops.def"
#undef ST_OP
};
