/* Attention through positive features where queries have keys of their own: causal, or exact within
 * a window (formulas: ref/favor.c). Keys are summed in blocks, blocks into sums over all that lie
 * before and all that lie behind: nothing is subtracted, so nothing cancels. A tile of queries
 * takes those two sums for the keys far away, weights of single keys for the blocks that its
 * windows touch, and the exact scores in the windows. Every partial result has a log scale. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/favor.h"
#include "backend/ref/ref.h"

/* Where the sums of a (batch item, head) are: `before` entry b is of the blocks below b, `behind`
 * of the blocks from b on; b = 0 is not used. */
typedef struct {
    float *work;
    int64_t block, blocks, sides, size; /* keys in a block; floats of an entry */
} favor_plan;

static favor_plan favor_plan_of(const st_favor_args *a)
{
    favor_plan p = {.work = a->work.data, .block = st_favor_block(a), .sides = a->causal ? 1 : 2};
    p.blocks = (a->h.kv_len + p.block - 1) / p.block;
    p.size = a->features * (a->h.head_dim + 2);
    return p;
}

static favor_sums favor_entry(const st_favor_args *a, favor_plan p, int64_t pair, int side,
                              int64_t b)
{
    return favor_sums_at(a, p.work + ((pair * p.sides + side) * p.blocks + b) * p.size);
}

/* Block b's own sums, where they are read next. */
static void favor_plan_block(const st_favor_args *a, favor_plan p, favor_space s, int64_t pair,
                             int64_t b)
{
    st_attend_fwd_args near = st_favor_near(a);
    attend_head h = attend_head_of(&near, pair);
    bool before = b + 1 < p.blocks, behind = p.sides == 2 && b > 0;
    if (!before && !behind) return;
    favor_sums to = before ? favor_entry(a, p, pair, 0, b + 1) : favor_entry(a, p, pair, 1, b);
    st_span keys = {b * p.block, at_most(a->h.kv_len, (b + 1) * p.block)};
    favor_keys(a, s, to, h.k, h.v, keys, 0);
    if (before && behind) {
        memcpy(favor_entry(a, p, pair, 1, b).top, to.top, (size_t)p.size * sizeof(float));
    }
}

/* Blocks' sums become sums over all blocks on one side. */
static void favor_plan_side(const st_favor_args *a, favor_plan p, int64_t pair, int side)
{
    for (int64_t i = 2; i < p.blocks; i++) {
        int64_t b = side ? p.blocks - i : i, next = side ? b + 1 : b - 1;
        favor_join(a, favor_entry(a, p, pair, side, b), favor_entry(a, p, pair, side, next));
    }
}

/* ---- a tile of queries ----------------------------------------------------------------------- */

typedef struct {
    const st_favor_args *a;
    const attend_head *h;
    favor_space s;
    int64_t t0, m, c0, width; /* queries, and columns of a head */
} favor_tile;

/* Sum i becomes one with log scale `top`, if that is larger than its own; what a term of log scale
 * `top` is to be multiplied with is returned. */
static float favor_rescale(const favor_tile *t, int64_t i, float top)
{
    float *mine = &t->s.row_top[i], *sum = t->s.blocks.sum[1] + i * ATTEND_DIM;
    if (top <= *mine) return top - *mine < -87.0f ? 0 : fast_exp(top - *mine);
    float shrink = *mine - top < -87.0f ? 0 : fast_exp(*mine - top);
    for (int64_t c = 0; c < t->width; c++)
        sum[c] *= shrink;
    t->s.row_total[i] *= shrink;
    *mine = top;
    return 1;
}

/* The keys of all blocks outside [from, to). */
static void favor_tile_far(const favor_tile *t, favor_plan p, int64_t pair, int64_t from,
                           int64_t to)
{
    favor_space s = t->s;
    int64_t m = t->a->features, d = t->a->h.head_dim;
    bool before = from > 0, behind = p.sides == 2 && to < p.blocks;
    if (!before && !behind) return;
    favor_sums all = favor_entry(t->a, p, pair, before ? 0 : 1, before ? from : to);
    if (before && behind) {
        memcpy(s.sums.top, all.top, (size_t)p.size * sizeof(float));
        all = s.sums;
        favor_join(t->a, all, favor_entry(t->a, p, pair, 1, to));
    }
    for (int64_t i = 0; i < t->m; i++) {
        float *row = s.part + i * m;
        s.row_top[i] = favor_weights(m, s.logit + i * m, all.top, row);
        s.row_total[i] = favor_total(m, row, all.total);
    }
    attend_product(s.blocks, (gemm_view){s.part, ST_F32, m, 1},
                   (gemm_view){all.sum + t->c0, ST_F32, d, 1}, t->m, t->width, m, s.blocks.sum[1],
                   ATTEND_DIM, 0);
}

/* Keys of [0, n) from j0 on that query i sees through features: [0, lo) and [hi, end). */
typedef struct {
    int64_t lo, hi, end;
} favor_seen;

static favor_seen favor_sees(const favor_tile *t, int64_t i, int64_t j0, int64_t n)
{
    const st_attend_fwd_args *near = t->h->a;
    int64_t end = near->h.kv_len - j0;
    if (near->causal) end = at_most(end, near->q_start + t->t0 + i + 1 - j0);
    favor_seen x = {.end = at_most(end < 0 ? 0 : end, n)};
    x.lo = x.hi = x.end;
    if (!near->window) return x;
    x.lo = at_most(attend_hidden(near, t->t0 + i, j0, n), x.end);
    x.hi = at_most(attend_seen(near, t->t0 + i, j0, n), x.end);
    return x;
}

/* Weights of one row whose products vanished: w[j] = sum_m e^(query_m + key_jm - top), where top,
 * returned, makes the largest product 1. Keys' logits are made again. */
static float favor_row_again(const favor_tile *t, int64_t i, int64_t j0, int64_t n, favor_seen x,
                             float *w)
{
    float top = -INFINITY, zero = 0;
    int64_t m = t->a->features;
    const float *query = t->s.logit + i * m;
    favor_logits(t->a, t->s, gemm_at(t->h->k, j0, 0), n, &zero, t->s.key);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t j = 0; j < x.end; j++) {
            const float *key = t->s.key + j * m;
            float sum = 0, most = top;
            if (j >= x.lo && j < x.hi) continue;
#pragma omp simd reduction(max : most)
            for (int64_t f = 0; f < m; f++)
                most = query[f] + key[f] > most ? query[f] + key[f] : most;
            top = most;
            if (!pass) continue;
#pragma omp simd reduction(+ : sum)
            for (int64_t f = 0; f < m; f++) {
                float e = query[f] + key[f] - top;
                sum += e < -87.0f ? 0 : fast_exp(e);
            }
            w[j] = sum;
        }
    }
    return top;
}

/* The weights of row i for n keys from j0 on, 0 where it does not see them through features, scaled
 * to its sum, to which they are added. */
static void favor_tile_row(const favor_tile *t, int64_t i, int64_t j0, int64_t n, float top)
{
    float *w = t->s.blocks.dp + i * ATTEND_KEYS, most = 0, total = 0;
    favor_seen x = favor_sees(t, i, j0, n);
    for (int64_t j = x.lo; j < x.hi; j++)
        w[j] = 0;
    for (int64_t j = x.end; j < n; j++)
        w[j] = 0;
    if (x.lo + x.end - x.hi == 0) return;
#pragma omp simd reduction(max : most)
    for (int64_t j = 0; j < x.end; j++)
        most = w[j] > most ? w[j] : most;
    if (most < 1e-25f) top = favor_row_again(t, i, j0, n, x, w);
    float scale = favor_rescale(t, i, top);
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < x.end; j++) {
        w[j] *= scale;
        total += w[j];
    }
    t->s.row_total[i] += total;
}

/* Keys [j0, j0 + n) one by one. */
static void favor_tile_keys(const favor_tile *t, int64_t j0, int64_t n)
{
    favor_space s = t->s;
    int64_t m = t->a->features;
    float zero = 0, row_top[ATTEND_Q], *top = s.sums.top;
    favor_logits(t->a, s, gemm_at(t->h->k, j0, 0), n, &zero, s.key);
    for (int64_t f = 0; f < m; f++)
        top[f] = -INFINITY, s.sums.total[f] = 0;
    favor_columns(s.key, m, n, top, s.sums.total);
    for (int64_t i = 0; i < t->m; i++)
        row_top[i] = favor_weights(m, s.logit + i * m, top, s.part + i * m);
    attend_product(s.blocks, (gemm_view){s.part, ST_F32, m, 1},
                   gemm_transposed((gemm_view){s.key, ST_F32, m, 1}), t->m, n, m, s.blocks.dp,
                   ATTEND_KEYS, 0);
    for (int64_t i = 0; i < t->m; i++)
        favor_tile_row(t, i, j0, n, row_top[i]);
    attend_product(s.blocks, gemm_cells(s.blocks.dp, t->m, n, ATTEND_KEYS),
                   gemm_at(t->h->v, j0, t->c0), t->m, t->width, n, s.blocks.sum[1], ATTEND_DIM, 1);
}

/* The window's sums and those of features become one. */
static void favor_tile_end(const favor_tile *t)
{
    const st_favor_args *a = t->a;
    favor_space s = t->s;
    float divisor = logf((float)st_favor_divisor(a));
    for (int64_t i = 0; i < t->m; i++) {
        float near = s.blocks.total[i] > 0 ? s.blocks.top[i] + logf(s.blocks.total[i]) : -INFINITY;
        float top = s.row_top[i] - divisor, far = -INFINITY, buf[ATTEND_DIM];
        if (s.row_total[i] > 0) far = top + logf(s.row_total[i]);
        float most = near > far ? near : far, exact = 0, rest = 0;
        if (near > -INFINITY) exact = expf(s.blocks.top[i] - most);
        if (far > -INFINITY) rest = expf(top - most);
        float total = exact * s.blocks.total[i] + rest * s.row_total[i];
        if (a->eps > 0) total += a->eps * expf(-most);
        int64_t at = t->h->o_at + (t->t0 + i) * a->h.o.stride + t->c0;
        float *o = block_out(&a->h.o.x, at, buf), share = 1.0f / total;
        const float *x = s.blocks.sum[0] + i * ATTEND_DIM, *y = s.blocks.sum[1] + i * ATTEND_DIM;
        for (int64_t c = 0; c < t->width; c++)
            o[c] = (exact * x[c] + rest * y[c]) * share;
        block_done(&a->h.o.x, at, t->width, o);
    }
}

static void favor_tile_run(const favor_tile *t, favor_plan p, int64_t pair)
{
    const st_attend_fwd_args *near = t->h->a;
    favor_space s = t->s;
    int64_t end = t->t0 + t->m - 1, hi = st_attend_keys(near, end);
    int64_t lo = near->window ? st_attend_first(near, t->t0) : st_attend_keys(near, t->t0);
    int64_t from = at_most(lo / p.block, p.blocks - 1), to = (hi + p.block - 1) / p.block;
    int64_t last = near->causal ? hi : at_most(to * p.block, near->h.kv_len);
    float zero = 0;
    for (int64_t i = 0; i < t->m; i++) {
        s.blocks.top[i] = s.row_top[i] = -INFINITY;
        s.blocks.total[i] = s.row_total[i] = 0;
    }
    memset(s.blocks.sum[0], 0, (size_t)(t->m * ATTEND_DIM) * sizeof(float));
    memset(s.blocks.sum[1], 0, (size_t)(t->m * ATTEND_DIM) * sizeof(float));
    favor_logits(t->a, s, gemm_at(t->h->q, t->t0, 0), t->m, &zero, s.logit);
    favor_tile_far(t, p, pair, from, to);
    for (int64_t j = from * p.block; j < last; j += ATTEND_Q)
        favor_tile_keys(t, j, at_most(last - j, ATTEND_Q));
    for (int64_t j = lo; j < hi && near->window; j += ATTEND_KEYS) {
        int64_t n = at_most(hi - j, ATTEND_KEYS);
        attend_fwd_weights(t->h, s.blocks, t->t0, t->m, j, n, t->width);
        attend_product(s.blocks, gemm_cells(s.blocks.p, t->m, n, ATTEND_KEYS),
                       gemm_at(t->h->v, j, t->c0), t->m, t->width, n, s.blocks.sum[0], ATTEND_DIM,
                       1);
    }
    favor_tile_end(t);
}

/* All heads, queries having keys of their own. */
static void favor_near(st_stream *stream, const st_favor_args *a)
{
    favor_plan p = favor_plan_of(a);
    st_attend_fwd_args near = st_favor_near(a);
    int64_t pairs = a->h.batch * a->h.heads, tiles = (a->h.q_len + p.block - 1) / p.block;
    int parts =
        st_parts(stream, pairs * (a->h.q_len + a->h.kv_len) * a->features * a->h.head_dim / 4);
    assert(st_numel(a->work) >= st_favor_work(a));
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t unit = 0; unit < pairs * p.blocks; unit++) {
        favor_space s = favor_space_of(stream, a, omp_get_thread_num());
        favor_plan_block(a, p, s, unit / p.blocks, unit % p.blocks);
    }
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t unit = 0; unit < pairs * p.sides; unit++)
        favor_plan_side(a, p, unit / p.sides, (int)(unit % p.sides));
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t unit = 0; unit < pairs * tiles; unit++) {
        attend_head h = attend_head_of(&near, unit / tiles);
        favor_tile t = {.a = a, .h = &h, .s = favor_space_of(stream, a, omp_get_thread_num())};
        t.t0 = unit % tiles * p.block;
        t.m = at_most(a->h.q_len - t.t0, p.block);
        for (; t.c0 < a->h.head_dim; t.c0 += ATTEND_DIM) {
            t.width = at_most(a->h.head_dim - t.c0, ATTEND_DIM);
            favor_tile_run(&t, p, unit / tiles);
        }
    }
}

/* Few numbers, and the same on every device: as ref. */
void KERNEL(directions)(st_stream *stream, const st_directions_args *a)
{
    st_ref_directions(stream, a);
}

void KERNEL(favor)(st_stream *stream, const st_favor_args *given)
{
    st_favor_args a = st_favor_resolve(given);
    st_attend_fwd_args near = st_favor_near(&a);
    if (!favor_fits(&a)) {
        st_stream_latch(stream, ST_EUNSUPPORTED, "favor", "too many features for a head this wide");
        return;
    }
    if (st_favor_block(&a)) {
        favor_near(stream, &a);
        return;
    }
    for (int64_t pair = 0; pair < a.h.batch * a.h.heads; pair++) {
        attend_head h = attend_head_of(&near, pair);
        favor_head(stream, &a, &h);
    }
}
