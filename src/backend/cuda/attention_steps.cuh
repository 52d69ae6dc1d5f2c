/* The arithmetic between attention's products, on accumulators of 16 rows of one warp
 * (attention_ptx.cuh says which numbers a lane holds). Exponents are taken to base 2:
 * exp(scale s - lse) = exp2(scale2 s - lse2). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_STEPS_CUH
#define ST_ATTENTION_STEPS_CUH

#include "attention_view.cuh"

/* Rows g and g + 8 of 16 queries: their keys, largest score and sum of exponentials so far (of this
 * lane's columns alone). */
typedef struct {
    int first[2], last[2];
    float top[2], sum[2];
} attend_rows;

__device__ __forceinline__ attend_rows rows_start(const attend_view &a, int t0)
{
    attend_rows r;
    int g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        r.first[h] = first_key(a, t0 + g + 8 * h);
        r.last[h] = last_key(a, t0 + g + 8 * h);
        r.top[h] = -INFINITY;
        r.sum[h] = 0;
    }
    return r;
}

/* Scores with keys j0 and on that their queries do not see become -infinity. */
template <int NT>
__device__ __forceinline__ void hide_keys(float (&s)[NT][4], const attend_rows &r, int j0)
{
    int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int j = j0 + 8 * n + 2 * t + e % 2;
            if (j < r.first[e / 2] || j >= r.last[e / 2]) s[n][e] = -INFINITY;
        }
    }
}

/* Scores become weights exp2(scale2 (s - top)); by: what earlier sums are to be multiplied by. top
 * follows the largest score only where that exceeds it by more than 2^8 in weight, so that most
 * steps need not touch the output. False: `by` is 1 in this warp. */
template <int NT>
__device__ __forceinline__ bool soften(float scale2, float (&s)[NT][4], attend_rows &r,
                                       float (&by)[2])
{
    float base[2];
    bool grown = false;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
        for (int n = 1; n < NT; n++)
            most = fmaxf(most, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        most = fmaxf(most, warp_swap(most, 1));
        most = fmaxf(most, warp_swap(most, 2));
        by[h] = 1;
        if (most * scale2 > r.top[h] * scale2 + 8) {
            by[h] = exp2_near((r.top[h] - most) * scale2);
            r.top[h] = most;
            grown = true;
        }
        base[h] = r.top[h] == -INFINITY ? 0 : r.top[h] * scale2;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = 0;
#pragma unroll
        for (int n = 0; n < NT; n++) {
            s[n][2 * h] = exp2_near(fmaf(s[n][2 * h], scale2, -base[h]));
            s[n][2 * h + 1] = exp2_near(fmaf(s[n][2 * h + 1], scale2, -base[h]));
            sum += s[n][2 * h] + s[n][2 * h + 1];
        }
        r.sum[h] = fmaf(r.sum[h], by[h], sum);
    }
    return __any_sync(0xffffffffu, grown);
}

template <int NT> __device__ __forceinline__ void rescale(float (&c)[NT][4], const float (&by)[2])
{
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            c[n][e] *= by[e / 2];
    }
}

/* Weights that dropout does not keep become 0. */
template <int NT>
__device__ __forceinline__ void drop_weights(float (&p)[NT][4],
                                             const uint32_t (&kept)[(NT + 7) / 8])
{
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (!(kept[n / 8] >> (n % 8 * 4 + e) & 1)) p[n][e] = 0;
    }
}

/* Accumulators side by side as left operands. */
template <int NT>
__device__ __forceinline__ void pack(uint32_t (&x)[NT / 2][4], const float (&c)[NT][4])
{
#pragma unroll
    for (int k = 0; k < NT / 2; k++) {
        x[k][0] = pack_bf16(c[2 * k][0], c[2 * k][1]);
        x[k][1] = pack_bf16(c[2 * k][2], c[2 * k][3]);
        x[k][2] = pack_bf16(c[2 * k + 1][0], c[2 * k + 1][1]);
        x[k][3] = pack_bf16(c[2 * k + 1][2], c[2 * k + 1][3]);
    }
}

/* Sums over whole rows: what the output is to be multiplied by, and lse where it is wanted. */
__device__ __forceinline__ void rows_finish(const attend_view &a, attend_rows &r, int head, int t0,
                                            float (&by)[2])
{
    int lane = threadIdx.x % 32, g = lane / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = r.sum[h];
        sum += warp_swap(sum, 1);
        sum += warp_swap(sum, 2);
        by[h] = sum > 0 ? a.kept / sum : 0;
        int t = t0 + g + 8 * h;
        if (a.lse && lane % 4 == 0 && t < a.q_len)
            a.lse[(int64_t)head * a.q_len + t] =
                sum > 0 ? fmaf(r.top[h], a.scale, logf(sum)) : -INFINITY;
    }
}

/* ---- backward ------------------------------------------------------------------------------- */

/* Of two rows (or columns) of queries: lse log2(e), and D = go.o. No keys, or no query: no weights.
 */
typedef struct {
    float lse2[2], d[2];
} attend_known;

/* Scores and go.v become dropped weights (kept in s) and ds / scale (in g). EACH: of each row, else
 * of each column; `at` holds those of the columns of accumulator n in known[n]. */
template <bool DROP>
__device__ __forceinline__ void gradient(const attend_view &a, float &s, float &g, float lse2,
                                         float d, uint32_t kept)
{
    float p = exp2_near(fmaf(s, a.scale2, -lse2));
    if (DROP) g = kept ? g * a.kept : 0;
    g = p * (g - d);
    s = DROP && !kept ? 0 : p;
}

/* D of queries t0 + g, t0 + g + 8, and their lse; both to `rows` for the pass over keys. */
__device__ __forceinline__ attend_known rows_know(const attend_view &a, int head, int t0)
{
    attend_known x;
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int q = t0 + g + 8 * h;
        float d = 0, lse = INFINITY;
        if (q < a.q_len) {
            const uint16_t *o = heads_row(a, a.o, head, q), *go = heads_row(a, a.go, head, q);
            if (a.wide) {
                for (int c = 8 * t; c < a.dim; c += 32) {
                    uint4 u = *(const uint4 *)(o + c), v = *(const uint4 *)(go + c);
                    const uint32_t x[4] = {u.x, u.y, u.z, u.w}, y[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        d = fmaf(__uint_as_float(x[e] << 16), __uint_as_float(y[e] << 16), d);
                        d = fmaf(__uint_as_float(x[e] & 0xffff0000u),
                                 __uint_as_float(y[e] & 0xffff0000u), d);
                    }
                }
            } else {
                for (int c = t; c < a.dim; c += 4)
                    d = fmaf(__uint_as_float((uint32_t)o[c] << 16),
                             __uint_as_float((uint32_t)go[c] << 16), d);
            }
            lse = a.lse[(int64_t)head * a.q_len + q];
            if (lse == -INFINITY) lse = INFINITY;
        }
        d += warp_swap(d, 1);
        d += warp_swap(d, 2);
        x.lse2[h] = lse * ST_LOG2E;
        x.d[h] = d;
        if (t == 0 && q < a.padded) {
            float *to = a.rows + (int64_t)head * a.padded + q;
            to[0] = x.lse2[h];
            to[(int64_t)a.batch * a.heads * a.padded] = d;
        }
    }
    return x;
}

#endif
