/* Parity cases of norm, attention, embedding, cross entropy, bias gradient. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>

static bool layers_norm(parity_case *c, st_norm_fwd_args *a)
{
    static const int width[] = {1, 2, 7, 8, 31, 64, 65, 768, 769, 1024, 4099};
    if (c->variant >= 55) return false;
    a->rms = c->variant >= 33;
    a->width = width[c->variant % 11];
    a->rows = parity_dim(c, 1, a->width > 1000 ? 17 : 129);
    a->eps = 1e-5f;
    parity_in(c, &a->x, c->dtype, a->rows * a->width, 1.5);
    parity_in(c, &a->gain, c->dtype, a->width, 1);
    return true;
}

bool cases_norm_fwd(parity_case *c)
{
    st_norm_fwd_args *a = (void *)c->args;
    if (!layers_norm(c, a)) return false;
    /* width 1 and tiny rows of near-equal numbers: x - mean is a rounding error times 1/sqrt(eps)
     */
    double tol = 30 * PARITY_EPS * (a->width < 8 ? 40 : 1) * sqrt((double)a->width);
    if (!a->rms) parity_in(c, &a->bias, c->dtype, a->width, 1);
    parity_out(c, &a->y, c->dtype, a->rows * a->width, tol);
    if (parity_pick(c, 2, 2)) return true;
    if (!a->rms) parity_out(c, &a->mean, ST_F32, a->rows, 8 * PARITY_EPS);
    parity_out(c, &a->rstd, ST_F32, a->rows, a->width < 8 ? 0.05 : 30 * PARITY_EPS);
    return true;
}

bool cases_norm_bwd(parity_case *c)
{
    st_norm_bwd_args *a = (void *)c->args;
    if (!layers_norm(c, a)) return false;
    int64_t n = a->rows * a->width;
    double narrow =
        a->width < 8 ? 20 : 1; /* mean and rstd are not the row's own: terms are large */
    double tol = narrow * 60 * PARITY_EPS * sqrt((double)a->width);
    double sums = 30 * PARITY_EPS * (double)a->rows;
    if (!a->rms) parity_in(c, &a->mean, ST_F32, a->rows, 0.1);
    parity_in_range(c, &a->rstd, ST_F32, a->rows, 0.5, 2);
    parity_in(c, &a->dy, c->dtype, n, 1);
    a->accumulate = (int)parity_pick(c, 2, 2);
    if (a->accumulate)
        parity_update(c, &a->dx, c->dtype, n, 1, tol);
    else if (parity_pick(c, 3, 2))
        parity_inplace(c, &a->dx, &a->dy, tol);
    else
        parity_out(c, &a->dx, c->dtype, n, tol);
    if (parity_pick(c, 4, 4)) parity_update(c, &a->dgain, ST_F32, a->width, 1, 4 * sums);
    if (parity_pick(c, 5, 4) && !a->rms) parity_update(c, &a->dbias, ST_F32, a->width, 1, sums);
    return true;
}

/* Lengths that straddle the blocks of the fast kernels; slices of a packed tensor; caches. */
static bool layers_attend(parity_case *c, st_attend_fwd_args *a)
{
    static const int len[] = {1, 2, 5, 9, 33, 65, 97, 130, 193, 400};
    static const int dim[] = {1, 8, 16, 20, 32, 64, 80, 128, 130};
    if (c->variant >= 40) return false;
    a->h.batch = 1 + parity_pick(c, 1, 2);
    a->h.heads = 1 + parity_pick(c, 2, 3);
    a->h.kv_heads = parity_pick(c, 13, 3) ? 0 : a->h.heads;
    if (a->h.kv_heads) a->h.heads *= 2 + parity_pick(c, 14, 3);
    a->h.head_dim = dim[parity_pick(c, 3, 9)];
    a->h.q_len = len[c->variant % 10];
    if (a->h.q_len > 130) { /* more than one block of keys: small otherwise, ref is slow */
        a->h.batch = 1;
        a->h.heads = c->variant > 20 ? 2 : 1;
        a->h.kv_heads = c->variant % 3 ? 0 : 1;
        a->h.head_dim = dim[parity_pick(c, 3, 4)];
    }
    a->h.kv_len = a->h.q_len;
    a->causal = parity_pick(c, 4, 3) > 0;
    int how = (int)parity_pick(c, 5, 3);
    if (how == 1) a->q_start = parity_pick(c, 6, 90); /* the cache holds q_start keys already */
    if (how == 1 && a->h.q_len < 8) a->q_start *= 7;
    if (how == 1) a->h.kv_len = a->q_start + a->h.q_len;
    if (how == 2 && !a->causal) a->h.kv_len = parity_dim(c, 7, 130);
    a->scale = 1.0f / sqrtf((float)a->h.head_dim);
    a->drop = parity_pick(c, 8, 2) ? 0.2f : 0;
    a->seed = 1234567890123;
    return true;
}

static int64_t layers_rows(parity_case *c, const st_attend_fwd_args *a, int which, int64_t len,
                           st_strided *t)
{
    int64_t heads = which && a->h.kv_heads ? a->h.kv_heads : a->h.heads;
    int64_t width = heads * a->h.head_dim;
    if (parity_pick(c, 9, 2) == 0) return a->h.batch * len * width;
    c->gaps = true; /* rows of three packed tensors, and a cache longer than what is used */
    t->stride = 3 * width;
    t->step = which ? (len + 4) * t->stride : len * t->stride;
    return (a->h.batch - 1) * t->step + (len - 1) * t->stride + width;
}

static void layers_attend_in(parity_case *c, st_attend_fwd_args *a, int64_t n[4])
{
    n[0] = layers_rows(c, a, 0, a->h.q_len, &a->h.q);
    n[1] = layers_rows(c, a, 1, a->h.kv_len, &a->h.k);
    n[2] = layers_rows(c, a, 2, a->h.kv_len, &a->h.v);
    n[3] = a->h.batch * a->h.q_len * a->h.heads * a->h.head_dim;
    parity_in(c, &a->h.q.x, c->dtype, n[0], 1);
    parity_in(c, &a->h.k.x, c->dtype, n[1], 1);
    parity_in(c, &a->h.v.x, c->dtype, n[2], 1);
}

/* Every query sees every key and nothing is kept: what networks for pictures infer with. */
static bool layers_attend_plain(parity_case *c, st_attend_fwd_args *a)
{
    static const int len[] = {8, 15, 31, 57, 130, 197, 225, 231};
    int at = c->variant - 40;
    if (at >= 16) return false;
    a->h.batch = 1 + parity_pick(c, 1, 2);
    a->h.heads = 1 + parity_pick(c, 2, 3);
    a->h.head_dim = 32 * (1 + parity_pick(c, 3, 4));
    a->h.q_len = len[at % 8];
    a->h.kv_len = at < 8 ? len[at] : len[parity_pick(c, 4, 8)];
    bool steep = at % 3 == 0 && c->dtype == ST_BF16; /* a few keys have all the weight */
    a->scale = steep ? 1.0f : 1.0f / sqrtf((float)a->h.head_dim);
    return true;
}

bool cases_attend_fwd(parity_case *c)
{
    st_attend_fwd_args *a = (void *)c->args;
    bool plain = c->variant >= 40;
    if (!(plain ? layers_attend_plain(c, a) : layers_attend(c, a))) return false;
    int64_t n[4];
    a->window = plain || parity_pick(c, 11, 3) ? 0 : parity_dim(c, 12, 300);
    layers_attend_in(c, a, n);
    /* without lse bf16 weights may be rounded: each by 2^-9 of itself at most, and they sum to 1 */
    bool lse = !plain && parity_pick(c, 10, 3) > 0;
    double rounding = c->dtype == ST_BF16 && (!lse || c->gpu) ? 0x1p-7 : 0;
    parity_out(c, &a->h.o.x, c->dtype, n[3], 100 * PARITY_EPS + rounding);
    if (lse) {
        parity_out(c, &a->lse, ST_F32, a->h.batch * a->h.heads * a->h.q_len, 60 * PARITY_EPS);
    }
    return true;
}

bool cases_attend_bwd(parity_case *c)
{
    st_attend_bwd_args *a = (void *)c->args;
    if (!layers_attend(c, a)) return false;
    int64_t n[4], group = a->h.kv_heads ? a->h.heads / a->h.kv_heads : 1;
    if (a->causal && parity_pick(c, 11, 3) == 0) a->window = parity_dim(c, 12, 300);
    layers_attend_in(c, a, n);
    double top = log((double)a->h.kv_len) + 0.5, size = sqrt((double)a->h.head_dim);
    double tol = 60 * PARITY_EPS * size * sqrt((double)a->h.q_len) * exp(3);
    if (c->gpu && c->dtype == ST_BF16) tol *= 8; /* weights and their gradients are rounded */
    tol *= (double)group;                        /* so many heads are summed up */
    parity_in(c, &a->h.o.x, c->dtype, n[3], 0.3);
    parity_in_range(c, &a->lse, ST_F32, a->h.batch * a->h.heads * a->h.q_len, top, top + 1);
    parity_in(c, &a->go, c->dtype, n[3], 1);
    parity_out(c, &a->gq, c->dtype, n[0], tol);
    parity_out(c, &a->gk, c->dtype, n[1], tol);
    parity_out(c, &a->gv, c->dtype, n[2], tol);
    return true;
}

bool cases_attend_next(parity_case *c)
{
    static const int room[] = {1, 2, 17, 64, 65, 130, 300, 515, 1024};
    static const int dim[] = {1, 8, 20, 32, 64, 80, 128, 130, 256};
    st_attend_next_args *a = (void *)c->args;
    if (c->variant >= 36) return false;
    a->h.batch = 1 + parity_pick(c, 1, 2);
    a->h.heads = 1 + parity_pick(c, 2, 3);
    a->h.kv_heads = parity_pick(c, 4, 3) ? 0 : a->h.heads;
    if (a->h.kv_heads) a->h.heads *= 2 + parity_pick(c, 5, 3);
    a->h.head_dim = dim[parity_pick(c, 3, 9)];
    a->h.q_len = 1;
    a->h.kv_len = room[c->variant % 9];
    a->window = parity_pick(c, 6, 3) ? 0 : parity_dim(c, 7, a->h.kv_len + 3);
    a->scale = 1.0f / sqrtf((float)a->h.head_dim);
    int64_t width = a->h.heads * a->h.head_dim, n = a->h.batch * width;
    int64_t few = (a->h.kv_heads ? a->h.kv_heads : a->h.heads) * a->h.head_dim;
    int64_t cache = a->h.batch * a->h.kv_len * few, m = a->h.batch * few;
    c->gaps = true; /* how many keys count depends on `at` */
    if (c->variant % 2) {
        a->h.q.step = a->k.step = a->v.step = 3 * width;
        n = (a->h.batch - 1) * 3 * width + width;
        m = (a->h.batch - 1) * 3 * width + few;
    }
    int64_t last = c->variant % 3 ? a->h.kv_len / 2 : a->h.kv_len - 1;
    parity_ids(c, &a->at, 1, last, c->variant % 3 == 1 ? a->h.kv_len : last + 1);
    parity_in(c, &a->h.q.x, c->dtype, n, 1);
    parity_in(c, &a->k.x, c->dtype, m, 1);
    parity_in(c, &a->v.x, c->dtype, m, 1);
    parity_update(c, &a->h.k.x, c->dtype, cache, 1, 0);
    parity_update(c, &a->h.v.x, c->dtype, cache, 1, 0);
    parity_out(c, &a->h.o.x, c->dtype, a->h.batch * width, 100 * PARITY_EPS);
    return true;
}

static bool layers_embed(parity_case *c, st_embed_fwd_args *a, int64_t *vocab)
{
    if (c->variant >= 16) return false;
    a->rows = parity_dim(c, 1, 129);
    a->width = parity_dim(c, 2, 257);
    a->len = 1 + parity_pick(c, 3, a->rows);
    a->start = parity_pick(c, 4, 9);
    *vocab = parity_dim(c, 5, 97);
    if (c->variant >= 14) a->rows = 700, *vocab = c->variant == 14 ? 9 : 60; /* long runs of each */
    a->columns = c->variant % 5 == 3;
    parity_ids(c, &a->ids, a->rows, 0, *vocab);
    c->gaps = true; /* which rows of the tables are touched depends on the ids */
    return true;
}

/* A table of a block format. */
static bool layers_embed_blocks(parity_case *c, st_embed_fwd_args *a)
{
    static const int width[] = {32, 64, 96, 544, 768};
    int64_t vocab = parity_dim(c, 5, 97);
    if (c->gpu || c->variant >= 34) return false;
    a->rows = parity_dim(c, 1, 129);
    a->width = width[parity_pick(c, 2, 5)];
    a->len = 1 + parity_pick(c, 3, a->rows);
    c->gaps = true;
    parity_ids(c, &a->ids, a->rows, 0, vocab);
    st_dtype t = (st_dtype)(ST_Q8_0 + c->variant % 6);
    parity_in_blocks(c, &a->table, t, vocab * a->width, vocab, a->width);
    if (c->variant % 2) parity_in(c, &a->position, c->dtype, a->len * a->width, 1);
    parity_out(c, &a->y, c->dtype, a->rows * a->width, 0);
    return true;
}

bool cases_embed_fwd(parity_case *c)
{
    st_embed_fwd_args *a = (void *)c->args;
    int64_t vocab;
    if (c->variant >= 16) return layers_embed_blocks(c, a);
    if (!layers_embed(c, a, &vocab)) return false;
    bool table = c->variant % 7 != 4; /* or rows in y, and a position */
    int64_t more = c->variant % 4 == 2 ? 1 + parity_pick(c, 6, 30) : 0;
    if (more) parity_ids(c, &a->at, 1, more, more + 1);
    if (table) parity_in(c, &a->table, c->dtype, vocab * a->width, 1);
    if (!table || c->variant % 3) {
        parity_in(c, &a->position, c->dtype, (a->start + more + a->len) * a->width, 1);
    }
    if (table)
        parity_out(c, &a->y, c->dtype, a->rows * a->width, 0);
    else
        parity_update(c, &a->y, c->dtype, a->rows * a->width, 1, 0);
    return true;
}

bool cases_embed_bwd(parity_case *c)
{
    st_embed_bwd_args *a = (void *)c->args;
    int64_t vocab;
    if (!layers_embed(c, a, &vocab)) return false;
    double tol = 4 * PARITY_EPS * (double)a->rows;
    parity_in(c, &a->dy, c->dtype, a->rows * a->width, 1);
    if (c->variant % 4 != 1) parity_update(c, &a->dtable, ST_F32, vocab * a->width, 1, tol);
    if (c->variant % 4 != 2) {
        parity_update(c, &a->dposition, ST_F32, (a->start + a->len) * a->width, 1, tol);
    }
    return true;
}

bool cases_xent(parity_case *c)
{
    st_xent_args *a = (void *)c->args;
    if (c->variant >= 24) return false;
    a->width = c->variant == 5 ? 50257 : c->variant == 10 ? 5003 : parity_dim(c, 1, 1025);
    a->rows = a->width > 2000 ? 3 : parity_dim(c, 2, 65);
    a->scale = 0.25f;
    a->stride = c->variant % 3 == 1 ? a->width + parity_pick(c, 3, 9) : 0;
    if (a->width == 5003) a->stride = 5008; /* rows that begin aligned */
    c->gaps = a->stride > a->width;
    int64_t n = (a->rows - 1) * (a->stride ? a->stride : a->width) + a->width;
    double tol = 10 * PARITY_EPS;
    parity_in(c, &a->logits, c->dtype, n, c->variant % 3 ? 3 : 30);
    parity_ids(c, &a->targets, a->rows, c->variant % 2 ? 0 : -1, a->width);
    /* against the largest number that takes part */
    if (c->variant % 4 != 3) parity_out(c, &a->loss, ST_F32, a->rows, c->variant % 3 ? 4e-6 : 3e-5);
    if (c->variant % 4 == 0) return true;
    if (c->variant % 5 == 0)
        parity_out(c, &a->dlogits, c->variant % 10 ? c->dtype : ST_BF16, n, tol);
    else
        parity_inplace(c, &a->dlogits, &a->logits, tol);
    return true;
}

bool cases_distill(parity_case *c)
{
    st_distill_args *a = (void *)c->args;
    if (c->variant >= 24) return false;
    a->width = c->variant == 5 ? 50257 : parity_dim(c, 1, 1025);
    a->rows = a->width > 2000 ? 3 : parity_dim(c, 2, 65);
    a->scale = c->variant % 4 == 1 ? 0 : 0.25f;
    a->kl_scale = c->variant % 4 == 2 ? 0 : 0.5f;
    a->temperature = (float[]){1, 2, 0.5f, 4}[c->variant % 4];
    a->stride = c->variant % 3 == 1 ? a->width + parity_pick(c, 3, 9) : 0;
    c->gaps = a->stride > a->width;
    int64_t n = (a->rows - 1) * (a->stride ? a->stride : a->width) + a->width;
    /* against the largest number that takes part: T kl_scale is 2 at most, kl's terms are |z| / T
     */
    double std = c->variant % 3 ? 3 : 30, tol = 40 * PARITY_EPS;
    parity_in(c, &a->logits, c->dtype, n, std);
    parity_in(c, &a->teacher, c->variant % 7 ? c->dtype : ST_F32, n, std);
    parity_ids(c, &a->targets, a->rows, c->variant % 2 ? 0 : -1, a->width);
    if (c->variant % 4 != 3) parity_out(c, &a->loss, ST_F32, a->rows, c->variant % 3 ? 4e-6 : 3e-5);
    if (c->variant % 5 != 4)
        parity_out(c, &a->kl, ST_F32, a->rows, 8e-6 * std / (double)a->temperature);
    if (c->variant % 6 == 0) return true;
    if (c->variant % 5 == 0)
        parity_out(c, &a->dlogits, c->variant % 10 ? c->dtype : ST_BF16, n, tol);
    else
        parity_inplace(c, &a->dlogits, &a->logits, tol);
    return true;
}

bool cases_match(parity_case *c)
{
    st_match_args *a = (void *)c->args;
    if (c->variant >= 24) return false;
    a->width = parity_dim(c, 1, 1025);
    a->rows = parity_dim(c, 2, 65);
    a->scale = 0.5f;
    a->relative = c->variant % 2;
    int64_t n = a->rows * a->width;
    parity_in(c, &a->x, c->dtype, n, 1);
    parity_in(c, &a->t, c->dtype, n, c->variant % 5 == 4 ? 0 : 1);
    /* relative rows of width 1 divide by a square that may be near 0 */
    double far = a->relative ? 1e-5 : 1e-6;
    if (a->relative && a->width < 8) a->relative = 0;
    if (c->variant % 4 != 3) parity_update(c, &a->loss, ST_F32, a->rows, 1, far);
    parity_update(c, &a->dx, c->dtype, n, 1, 10 * PARITY_EPS);
    return true;
}

bool cases_bias_grad(parity_case *c)
{
    st_bias_grad_args *a = (void *)c->args;
    if (c->variant >= 24) return false;
    a->rows = parity_dim(c, 1, 1025);
    a->width = parity_dim(c, 2, 1025);
    parity_in(c, &a->dy, c->dtype, a->rows * a->width, 1);
    parity_update(c, &a->dbias, ST_F32, a->width, 1, 4 * PARITY_EPS * (double)a->rows);
    return true;
}
