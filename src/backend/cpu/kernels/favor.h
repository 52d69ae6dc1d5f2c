/* Attention through positive features (formulas: ref/favor.c) in blocks of rows, whose logits and
 * sums are products of packed panels (attention.h). Of each (batch item, head), threads take
 * stretches of the keys, with running maxima; their sums are joined in order, then threads take
 * stretches of the queries. Where queries have keys of their own: favor_near.h. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FAVOR_H
#define ST_FAVOR_H

#include "backend/cpu/kernels/attention.h"

/* Of a stretch of keys, as s and c in ref/favor.c; top is -inf where there are none. */
typedef struct {
    float *top, *total, *sum; /* (features), (features), (features, head_dim) */
} favor_sums;

typedef struct {
    attend_space blocks;
    favor_sums sums;
    float *logit, *key, *part; /* (ATTEND_Q, features) */
    float *row_top, *row_total;
} favor_space;

static favor_sums favor_sums_at(const st_favor_args *a, float *at)
{
    return (favor_sums){at, at + a->features, at + 2 * a->features};
}

static favor_space favor_space_of(const st_stream *q, const st_favor_args *a, int part)
{
    favor_space s = {.blocks = attend_space_of(q, part)};
    s.row_top = s.blocks.dot + ATTEND_Q;
    s.row_total = s.row_top + ATTEND_Q;
    s.logit = s.row_total + ATTEND_Q;
    s.key = s.logit + ATTEND_Q * a->features;
    s.part = s.key + ATTEND_Q * a->features;
    s.sums = favor_sums_at(a, s.part + ATTEND_Q * a->features);
    return s;
}

static bool favor_fits(const st_favor_args *a)
{
    size_t blocks =
        2 * ATTEND_Q * ATTEND_KEYS + 2 * ATTEND_PANEL + 2 * ATTEND_KEYS * ATTEND_DIM + 5 * ATTEND_Q;
    size_t room = ST_CPU_SCRATCH / sizeof(float) - blocks;
    return (size_t)a->features <= room / (size_t)(3 * ATTEND_Q + 2 + a->h.head_dim);
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* |x|^2 / 2 of row i, scaled. */
static float favor_half(const st_favor_args *a, gemm_view x, int64_t i)
{
    float half = 0;
    for (int64_t c = 0; c < a->h.head_dim; c += BLOCK) {
        float buf[BLOCK];
        int64_t m = at_most(a->h.head_dim - c, BLOCK);
        gemm_view row = gemm_at(x, i, c);
        const float *v = floats_in(row.data, row.dtype, 0, m, buf);
#pragma omp simd reduction(+ : half)
        for (int64_t j = 0; j < m; j++)
            half += v[j] * v[j];
    }
    return half * 0.5f * a->scale;
}

/* Products of n <= ATTEND_Q rows with w (with x itself for ELU), in rows of `features`; COSH fills
 * the first half. */
static void favor_dots(const st_favor_args *a, favor_space s, gemm_view x, int64_t n, float *to)
{
    gemm_view w = {a->w.data, a->w.dtype, a->h.head_dim, 1};
    int64_t rows = st_favor_rows(a);
    for (int64_t f = 0; f < rows; f += ATTEND_KEYS) {
        attend_product(s.blocks, x, gemm_transposed(gemm_at(w, f, 0)), n,
                       at_most(rows - f, ATTEND_KEYS), a->h.head_dim, to + f, a->features, 0);
    }
    for (int64_t i = 0; i < n && a->map == ST_FAVOR_ELU; i++) {
        for (int64_t c = 0; c < a->h.head_dim; c++)
            to[i * a->features + c] = gemm_get(gemm_at(x, i, c), 0);
    }
}

/* Products become logits. by: shift of all rows; NULL: each row's own maximum. What no float32
 * holds becomes the lowest number. */
static void favor_logits(const st_favor_args *a, favor_space s, gemm_view x, int64_t n,
                         const float *by, float *to)
{
    int64_t m = a->features, rows = st_favor_rows(a);
    float root = sqrtf(a->scale), fourth = 1.0f / sqrtf(sqrtf((float)a->h.head_dim));
    favor_dots(a, s, x, n, to);
    for (int64_t i = 0; i < n; i++) {
        float *l = to + i * m, most = -INFINITY, half;
        if (a->map == ST_FAVOR_ELU || a->map == ST_FAVOR_RELU) {
            bool elu = a->map == ST_FAVOR_ELU;
            float times = elu ? 1.0f : fourth, plus = elu ? 1.0f : 1e-3f;
#pragma omp simd
            for (int64_t f = 0; f < m; f++) {
                float v = l[f], high = fast_log((v > 0 ? v * times : 0) + plus);
                l[f] = elu && v <= 0 ? v : high;
            }
            continue;
        }
        for (int64_t f = rows; f < m; f++)
            l[f] = -l[f - rows];
        for (int64_t f = 0; f < m && a->shifted && !by; f++)
            most = l[f] * root > most ? l[f] * root : most;
        half = favor_half(a, x, i) + (a->shifted ? by ? *by : most : 0);
#pragma omp simd
        for (int64_t f = 0; f < m; f++) {
            float v = l[f] * root - half;
            l[f] = v < -1e38f ? -1e38f : v;
        }
        if (!(a->lift > 0)) continue;
#pragma omp simd
        for (int64_t f = 0; f < m; f++)
            l[f] = fast_log((l[f] < -87.0f ? 0 : fast_exp(l[f])) + a->lift);
    }
}

/* The largest product with w, scaled, of all keys. */
static float favor_key_shift(const st_favor_args *a, favor_space s, gemm_view k)
{
    float most = -INFINITY;
    int64_t rows = st_favor_rows(a);
    for (int64_t j = 0; j < a->h.kv_len && a->shifted; j += ATTEND_Q) {
        int64_t n = at_most(a->h.kv_len - j, ATTEND_Q);
        favor_dots(a, s, gemm_at(k, j, 0), n, s.key);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t f = 0; f < rows; f++) {
                float x = s.key[i * a->features + f];
                x = a->map == ST_FAVOR_COSH ? fabsf(x) : x;
                most = x > most ? x : most;
            }
        }
    }
    return most * sqrtf(a->scale);
}

/* ---- sums over keys -------------------------------------------------------------------------- */

/* top[f] rises to the largest of column f of n logits; they become e^(logit - top[f]), whose sums
 * are added to total. */
static void favor_columns(float *restrict logit, int64_t m, int64_t n, float *restrict top,
                          float *restrict total)
{
    for (int64_t i = 0; i < n; i++) {
        const float *row = logit + i * m;
#pragma omp simd
        for (int64_t f = 0; f < m; f++)
            top[f] = row[f] > top[f] ? row[f] : top[f];
    }
    for (int64_t i = 0; i < n; i++) {
        float *row = logit + i * m;
#pragma omp simd
        for (int64_t f = 0; f < m; f++) {
            row[f] = fast_exp(row[f] - top[f]);
            total[f] += row[f];
        }
    }
}

/* Sums so far, made to fit tops that rose from `old`. */
static void favor_shrink(const st_favor_args *a, favor_sums s, const float *old)
{
    for (int64_t f = 0; f < a->features; f++) {
        float shrink = old[f] == -INFINITY ? 0 : fast_exp(old[f] - s.top[f]);
        if (shrink == 1) continue;
        s.total[f] *= shrink;
        for (int64_t c = 0; c < a->h.head_dim; c++)
            s.sum[f * a->h.head_dim + c] *= shrink;
    }
}

/* Sums over keys [lo, hi) of one head. */
static void favor_keys(const st_favor_args *a, favor_space s, favor_sums to, gemm_view k,
                       gemm_view v, st_span keys, float shift)
{
    int64_t m = a->features, d = a->h.head_dim;
    for (int64_t f = 0; f < m; f++)
        to.top[f] = -INFINITY, to.total[f] = 0;
    memset(to.sum, 0, (size_t)(m * d) * sizeof *to.sum);
    for (int64_t j = keys.lo; j < keys.hi; j += ATTEND_Q) {
        int64_t n = at_most(keys.hi - j, ATTEND_Q);
        favor_logits(a, s, gemm_at(k, j, 0), n, &shift, s.key);
        float *old = s.part, *sums = s.part + m; /* of these rows; ATTEND_Q of them are there */
        memcpy(old, to.top, (size_t)m * sizeof *old);
        memset(sums, 0, (size_t)m * sizeof *sums);
        favor_columns(s.key, m, n, to.top, sums);
        favor_shrink(a, to, old);
        for (int64_t f = 0; f < m; f++)
            to.total[f] += sums[f];
        gemm_view p = {s.key, ST_F32, m, 1};
        for (int64_t f = 0; f < m; f += ATTEND_KEYS) {
            for (int64_t c = 0; c < d; c += ATTEND_DIM) {
                attend_product(s.blocks, gemm_transposed(gemm_at(p, 0, f)), gemm_at(v, j, c),
                               at_most(m - f, ATTEND_KEYS), at_most(d - c, ATTEND_DIM), n,
                               to.sum + f * d + c, d, 1);
            }
        }
    }
}

/* Adds what was summed over other keys. */
static void favor_join(const st_favor_args *a, favor_sums s, favor_sums other)
{
    for (int64_t f = 0; f < a->features; f++) {
        if (other.top[f] == -INFINITY) continue;
        float most = other.top[f] > s.top[f] ? other.top[f] : s.top[f];
        float mine = s.top[f] == -INFINITY ? 0 : fast_exp(s.top[f] - most);
        float theirs = fast_exp(other.top[f] - most);
        s.top[f] = most;
        s.total[f] = s.total[f] * mine + other.total[f] * theirs;
        float *to = s.sum + f * a->h.head_dim, *from = other.sum + f * a->h.head_dim;
#pragma omp simd
        for (int64_t c = 0; c < a->h.head_dim; c++)
            to[c] = to[c] * mine + from[c] * theirs;
    }
}

/* ---- queries --------------------------------------------------------------------------------- */

/* p = e^(logit + top - their maximum), which is returned. p may be logit. */
static float favor_weights(int64_t m, const float *logit, const float *top, float *p)
{
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t f = 0; f < m; f++) {
        p[f] = logit[f] + top[f];
        most = p[f] > most ? p[f] : most;
    }
#pragma omp simd
    for (int64_t f = 0; f < m; f++)
        p[f] = p[f] - most < -87.0f ? 0 : fast_exp(p[f] - most);
    return most;
}

static float favor_total(int64_t m, const float *p, const float *total)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t f = 0; f < m; f++)
        sum += p[f] * total[f];
    return sum;
}

/* Outputs of queries [lo, hi); o0: the head's first. */
static void favor_queries(const st_favor_args *a, favor_space s, favor_sums sums, gemm_view q,
                          int64_t o0, st_span span)
{
    int64_t m = a->features;
    float eps = a->eps * (float)st_favor_divisor(a);
    gemm_view p = {s.logit, ST_F32, m, 1}, sum = {sums.sum, ST_F32, a->h.head_dim, 1};
    for (int64_t t = span.lo; t < span.hi; t += ATTEND_Q) {
        float total[ATTEND_Q], *out = s.blocks.sum[0];
        int64_t n = at_most(span.hi - t, ATTEND_Q);
        favor_logits(a, s, gemm_at(q, t, 0), n, NULL, s.logit);
        for (int64_t i = 0; i < n; i++) {
            float *row = s.logit + i * m, most = favor_weights(m, row, sums.top, row);
            total[i] = favor_total(m, row, sums.total) + (eps > 0 ? eps * expf(-most) : 0);
        }
        for (int64_t c = 0; c < a->h.head_dim; c += ATTEND_DIM) {
            int64_t width = at_most(a->h.head_dim - c, ATTEND_DIM);
            attend_product(s.blocks, p, gemm_at(sum, 0, c), n, width, m, out, ATTEND_DIM, 0);
            for (int64_t i = 0; i < n; i++) {
                float buf[ATTEND_DIM], share = 1.0f / total[i];
                int64_t at = o0 + (t + i) * a->h.o.stride + c;
                float *o = block_out(&a->h.o.x, at, buf);
                for (int64_t x = 0; x < width; x++)
                    o[x] = out[i * ATTEND_DIM + x] * share;
                block_done(&a->h.o.x, at, width, o);
            }
        }
    }
}

/* One head whose queries see all keys. */
static void favor_head(st_stream *stream, const st_favor_args *a, const attend_head *h)
{
    int64_t cost = a->features * a->h.head_dim / LANES;
    int key_parts = st_parts(stream, a->h.kv_len * cost),
        parts = st_parts(stream, a->h.q_len * cost);
    favor_space first = favor_space_of(stream, a, 0);
    float shift = favor_key_shift(a, first, h->k);
#pragma omp parallel for num_threads(key_parts) schedule(static)
    for (int t = 0; t < key_parts; t++) {
        favor_space s = favor_space_of(stream, a, t);
        favor_keys(a, s, s.sums, h->k, h->v, st_part(a->h.kv_len, ATTEND_Q, t, key_parts), shift);
    }
    for (int t = 1; t < key_parts; t++)
        favor_join(a, first.sums, favor_space_of(stream, a, t).sums);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        favor_queries(a, favor_space_of(stream, a, t), first.sums, h->q, h->o_at,
                      st_part(a->h.q_len, ATTEND_Q, t, parts));
    }
}

#endif
