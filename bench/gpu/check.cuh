/* Every fused kernel against plain loops in double precision, on awkward shapes. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_GPU_CHECK_CUH
#define ST_BENCH_GPU_CHECK_CUH

#include "../../src/backend/cuda/fused.h"
#include "common.cuh"
#include <cmath>
#include <cstring>

/* p[r][g n + o], the products with bias; bias_at: where the bias of (g, o) is, o + g n or 4 o + g
 */
__global__ void plain_product(st_fused_args a, double *p)
{
    int64_t cols = a.groups * a.n, i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.rows * cols) return;
    int64_t r = i / cols, g = i % cols / a.n, o = i % a.n;
    const bf16 *x = (const bf16 *)a.x + r * a.ldx + g * a.k;
    const bf16 *w = (const bf16 *)a.w + (g * a.n + o) * a.ldw;
    double sum = 0;
    for (int64_t k = 0; k < a.k; k++) {
        double v = 0;
        if (a.in_gather) {
            for (int c = 0; c < 4; c++)
                v += (double)a.scale[c] * (double)(float)x[4 * k + c];
            v = (double)(float)(bf16)(float)v;
        } else if (a.in_factor) { /* SS1: folded on the way, rounded as z is */
            for (int l = 0; l < a.in_factor; l++) {
                int64_t j = k % 32, s = (int64_t)a.in_hash * (l + 1) * 8 % 32;
                v += (double)(float)x[(k / 32 * a.in_factor + l) * 32 + (j + s) % 32];
            }
            v = (double)(float)(bf16)(float)v;
        } else {
            v = (double)(float)x[k];
        }
        sum += v * (double)(float)w[k];
    }
    int64_t at = a.out == ST_OUT_INTERLEAVE ? 4 * o + g : g * a.n + o;
    if (a.bias && a.out != ST_OUT_EXPAND && a.out != ST_OUT_GATHER)
        sum += (double)(float)((const bf16 *)a.bias)[at];
    p[i] = sum;
}

static __host__ __device__ inline double plain_gelu(int kind, double x)
{
    if (kind == 1) return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    if (kind == 2) return 0.5 * x * (1 + erf(x * 0.7071067811865476));
    return x;
}
static __host__ __device__ inline double plain_slope(int kind, double x)
{
    if (kind == 1) {
        double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
        return 0.5 * (1 + t) +
               0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
    }
    return 0.5 * (1 + erf(x * 0.7071067811865476)) + x * exp(-x * x / 2) * 0.3989422804014327;
}

/* Which rows of many are compared. */
static bool sampled(int64_t rows, int64_t r)
{
    return r < 200 || r >= rows - 200 || r % 61 == 0;
}

/* y as the contract of `out` says, from the products; NaN in rows that are not compared. */
static std::vector<double> plain_out(const st_fused_args &a, const std::vector<double> &p,
                                     const std::vector<float> &scale,
                                     const std::vector<float> &bias)
{
    int64_t cols = a.groups * a.n, wide = a.out == ST_OUT_EXPAND ? 4 * cols : cols;
    if (a.out == ST_OUT_FOLD) wide = cols / a.out_factor;
    std::vector<double> y((size_t)(a.rows * wide), 0.0);
    for (int64_t r = 0; r < a.rows; r++) {
        if (!sampled(a.rows, r)) {
            for (int64_t c = 0; c < wide; c++)
                y[(size_t)(r * wide + c)] = NAN;
            continue;
        }
        for (int64_t c = 0; c < cols; c++) {
            int64_t g = c / a.n, o = c % a.n;
            double raw = p[(size_t)(r * cols + c)], v = plain_gelu(a.gelu, raw);
            double *row = &y[(size_t)(r * wide)];
            switch (a.out) {
            case ST_OUT_PLAIN: row[c] = v; break;
            case ST_OUT_DEAL: row[o / (a.n / 4) * a.n + g * (a.n / 4) + o % (a.n / 4)] = v; break;
            case ST_OUT_INTERLEAVE: row[4 * o + g] = v; break;
            case ST_OUT_EXPAND:
                for (int i = 0; i < 4; i++)
                    row[4 * c + i] = v * scale[i] + (a.bias ? bias[(size_t)(4 * c + i)] : 0.0f);
                break;
            case ST_OUT_GATHER:
                for (int i = 0; i < 4; i++) {
                    double b = a.bias ? bias[(size_t)(4 * c + i)] : 0.0f;
                    row[c] += scale[4 + i] * plain_gelu(a.gelu, raw * scale[i] + b);
                }
                break;
            case ST_OUT_FOLD: {
                int64_t super = c / 32 / a.out_factor, l = c / 32 % a.out_factor;
                int64_t s = (int64_t)a.out_hash * (l + 1) * 8 % 32;
                row[super * 32 + (c % 32 - s + 32) % 32] += v;
            }
            }
        }
    }
    return y;
}

template <class T> static std::vector<float> fetch(const T *from, int64_t n)
{
    std::vector<T> raw((size_t)n);
    std::vector<float> out((size_t)n);
    MUST(cudaMemcpy(raw.data(), from, (size_t)n * sizeof(T), cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < n; i++)
        out[(size_t)i] = (float)raw[(size_t)i];
    return out;
}

static int failures, passes;

/* ||y - want|| / ||want|| within the limit, no element off by more than 16 limits of the largest.
 */
static void judge(const char *what, const std::vector<float> &y, const std::vector<double> &want,
                  double limit)
{
    double off = 0, size = 0, worst = 0, most = 0;
    for (size_t i = 0; i < want.size(); i++) {
        if (std::isnan(want[i])) continue;
        double d = y[i] - want[i];
        off += d * d;
        size += want[i] * want[i];
        worst = std::max(worst, std::isnan(d) ? 1e30 : fabs(d));
        most = std::max(most, fabs(want[i]));
    }
    double norm = sqrt(off / size);
    bool good = norm < limit && worst < 16 * limit * most;
    good ? passes++ : failures++;
    if (!good) printf("FAIL %-60s norm %.2e worst %.2e of %.2e\n", what, norm, worst, most);
}

/* Runs the product and judges y (`wide` columns) and h; what lies beyond must stay poisoned. */
static void compare_product(const st_fused_args &a, int (*run)(const st_fused_args *, cudaStream_t),
                            const char *what, int64_t wide, const std::vector<double> &want,
                            const std::vector<double> &ps)
{
    int code = run(&a, 0);
    if (code == ST_FUSED_NOT) {
        printf("FAIL %s: not supported\n", what);
        failures++;
        return;
    }
    MUST(code);
    MUST(cudaDeviceSynchronize());
    std::vector<float> padded = fetch((const bf16 *)a.y, a.rows * a.ldy);
    std::vector<float> got((size_t)(a.rows * wide));
    int64_t spoilt = 0;
    for (int64_t r = 0; r < a.rows; r++) {
        for (int64_t c = 0; c < a.ldy; c++) {
            float v = padded[(size_t)(r * a.ldy + c)];
            if (c < wide) got[(size_t)(r * wide + c)] = v;
            if (c >= wide && !std::isnan(v)) spoilt++;
        }
    }
    judge(what, got, want, 5e-3);
    if (spoilt) {
        failures++;
        printf("FAIL %s wrote beyond its columns\n", what);
    }
    if (a.h) judge("  h of it", fetch((const bf16 *)a.h, a.rows * a.groups * a.n), ps, 5e-3);
}

/* A second call over the same counts, which must be at zero again. */
static void check_again(const st_fused_args &a, const char *what, int64_t wide,
                        const std::vector<double> &want, const std::vector<double> &ps)
{
    MUST(cudaMemset(a.y, 0xff, (size_t)(a.rows * a.ldy) * 2));
    MUST(cudaMemset(a.z, 0xff, (size_t)(a.rows * a.k) * 2));
    compare_product(a, st_fused_product, what, wide, want, ps);
    for (float left : fetch(a.done, a.rows / 64 + 5)) {
        if (left == 0.0f) continue;
        printf("FAIL %s leaves counts\n", what);
        failures++;
        return;
    }
}

/* One product; shape as given, pointers made here. */
static void check_product(st_fused_args a, const char *name, bool with_bias, bool with_h)
{
    heap room;
    int64_t in = a.groups * a.k * std::max(a.in_factor, 1), cols = a.groups * a.n;
    int64_t wide = a.out == ST_OUT_EXPAND ? 4 * cols
                   : a.out == ST_OUT_FOLD ? cols / a.out_factor
                                          : cols;
    a.ldx = in + (a.in_factor ? 0 : 8);
    a.ldw = a.k;
    a.ldy = wide + 16;
    a.x = room.random<bf16>(a.rows * a.ldx, 1.0f);
    a.w = room.random<bf16>(cols * a.k, 1.0f / sqrtf((float)a.k));
    a.scale = room.random<float>(8, 1.0f);
    bool four = a.out == ST_OUT_EXPAND || a.out == ST_OUT_GATHER;
    int64_t biases = four ? 4 * cols : cols;
    a.bias = with_bias ? room.random<bf16>(biases, 1.0f) : NULL;
    a.h = with_h ? room.get<bf16>(a.rows * cols) : NULL;
    bf16 *y = room.get<bf16>(a.rows * a.ldy);
    a.y = y;
    a.z = a.in_factor ? room.get<bf16>(a.rows * a.k) : NULL;
    a.done = a.in_factor ? room.zeros<int>(a.rows / 64 + 5) : NULL;
    double *p = room.get<double>(a.rows * cols);
    char what[200];
    snprintf(what, sizeof what,
             "%s rows %d groups %d n %d k %d gelu %d factor %d/%d way %d bias %d h %d", name,
             (int)a.rows, (int)a.groups, (int)a.n, (int)a.k, a.gelu, a.in_factor, a.out_factor,
             a.way, with_bias, with_h);
    plain_product<<<(unsigned)((a.rows * cols + 255) / 256), 256>>>(a, p);
    MUST(cudaDeviceSynchronize());
    std::vector<double> ps((size_t)(a.rows * cols));
    MUST(cudaMemcpy(ps.data(), p, ps.size() * 8, cudaMemcpyDeviceToHost));
    std::vector<float> bias =
        with_bias ? fetch((const bf16 *)a.bias, biases) : std::vector<float>();
    std::vector<double> want = plain_out(a, ps, fetch(a.scale, 8), bias);
    compare_product(a, st_fused_product, what, wide, want, ps);
    if (a.in_factor && a.way == 1) check_again(a, what, wide, want, ps);
    if (a.way) return;
    snprintf(what + strlen(what), sizeof what - strlen(what), ", mma.sync");
    MUST(cudaMemset(a.y, 0xff, (size_t)(a.rows * a.ldy) * 2));
    if (a.h) MUST(cudaMemset(a.h, 0xff, (size_t)(a.rows * cols) * 2));
    compare_product(a, st_fused_product_mma, what, wide, want, ps);
}

static void check_fold(int64_t rows, int64_t width, int factor)
{
    heap room;
    int64_t in = width * factor;
    bf16 *x = room.random<bf16>(rows * in, 1.0f), *z = room.get<bf16>(rows * width);
    bf16 *dz = room.random<bf16>(rows * width, 1.0f), *h = room.random<bf16>(rows * in, 3.0f);
    bf16 *gain = room.random<bf16>(in, 1.0f), *bias = room.random<bf16>(in, 1.0f);
    bf16 *dx = room.get<bf16>(rows * in), *nz = room.get<bf16>(rows * width);
    float *dbias = room.get<float>(in), *mean = room.get<float>(rows);
    float *work = room.get<float>(st_fused_unfold_work(rows, in)), *rstd = room.get<float>(rows);
    char what[100];
    std::vector<float> xs = fetch(x, rows * in), gs = fetch(dz, rows * width);
    std::vector<float> hs = fetch(h, rows * in), ga = fetch(gain, in), bi = fetch(bias, in);
    std::vector<double> wz((size_t)(rows * width)), wn(wz.size()), wx((size_t)(rows * in));
    std::vector<double> sums((size_t)in, 1.0);
    for (int64_t r = 0; r < rows; r++) {
        double m = 0, v = 0;
        for (int64_t c = 0; c < in; c++)
            m += xs[(size_t)(r * in + c)] / (double)in;
        for (int64_t c = 0; c < in; c++)
            v += pow(xs[(size_t)(r * in + c)] - m, 2) / (double)in;
        for (int64_t c = 0; c < in; c++) {
            int64_t super = c / 32 / factor, l = c / 32 % factor, s = 3 * (l + 1) * 8 % 32;
            size_t at = (size_t)(r * width + super * 32 + (c % 32 - s + 32) % 32);
            size_t from = (size_t)(r * in + c);
            wz[at] += xs[from];
            wn[at] += (xs[from] - m) / sqrt(v + 1e-5) * ga[(size_t)c] + bi[(size_t)c];
            wx[from] = gs[at] * plain_slope(1, hs[from]);
            sums[(size_t)c] += wx[from];
        }
    }
    snprintf(what, sizeof what, "fold rows %d width %d factor %d", (int)rows, (int)width, factor);
    st_fold_call f = {rows, width, in, x, z, factor, 3};
    MUST(st_fused_fold(&f, 0));
    judge(what, fetch(z, rows * width), wz, 5e-3);
    st_norm_fold_call n = {rows, in, x, gain, bias, nz, mean, rstd, 1e-5f, factor, 3};
    MUST(st_fused_norm_fold(&n, 0));
    judge("  after a norm", fetch(nz, rows * width), wn, 5e-3);
    std::vector<float> one((size_t)in, 1.0f);
    MUST(cudaMemcpy(dbias, one.data(), (size_t)in * 4, cudaMemcpyHostToDevice));
    st_unfold_call u = {rows, width, dz, h, dx, dbias, work, factor, 3, 1};
    MUST(st_fused_unfold(&u, 0));
    judge("  unfolded with GELU's slope", fetch(dx, rows * in), wx, 5e-3);
    judge("  its sums", fetch(dbias, in), sums, 1e-3);
    u.h = NULL;
    MUST(cudaMemset(dx, 0xff, (size_t)(rows * in) * 2));
    MUST(st_fused_unfold(&u, 0));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < in; c++) {
            int64_t super = c / 32 / factor, l = c / 32 % factor, s = 3 * (l + 1) * 8 % 32;
            wx[(size_t)(r * in + c)] =
                gs[(size_t)(r * width + super * 32 + (c % 32 - s + 32) % 32)];
        }
    }
    judge("  unfolded", fetch(dx, rows * in), wx, 1e-6);
}

static void check_gather(int64_t rows, int64_t width)
{
    heap room;
    bf16 *x = room.random<bf16>(rows * width * 4, 1.0f), *z = room.get<bf16>(rows * width);
    float *scale = room.random<float>(4, 1.0f);
    MUST(st_fused_gather4(rows, width, x, scale, z, 0));
    std::vector<float> xs = fetch(x, rows * width * 4), s = fetch(scale, 4);
    std::vector<double> want((size_t)(rows * width), 0.0);
    for (size_t i = 0; i < xs.size(); i++)
        want[i / 4] += (double)xs[i] * s[i % 4];
    judge("gather4", fetch(z, rows * width), want, 5e-3);
}

static st_fused_args shape(int64_t rows, int64_t groups, int64_t n, int64_t k, st_fused_out out)
{
    st_fused_args a = {};
    a.rows = rows;
    a.groups = groups;
    a.n = n;
    a.k = k;
    a.out = out;
    return a;
}

static void check_gelu(int64_t m, int64_t k, int gelu)
{
    st_fused_args a = shape(m, 1, 768, k, ST_OUT_PLAIN);
    a.gelu = gelu;
    for (a.way = 0; a.way <= 2; a.way++) {
        a.out = ST_OUT_PLAIN;
        check_product(a, "gelu", true, gelu == 1);
        for (int factor = 2; factor <= 8; factor *= 2) {
            a.out = ST_OUT_FOLD;
            a.out_factor = factor;
            a.out_hash = 3;
            check_product(a, "gelu, fold", true, gelu == 1);
        }
    }
}

static int check_all(int64_t only)
{
    for (int64_t m : {1, 65, 300, 17001}) {
        if (only && m != only) continue;
        for (int64_t n : {8, 80, 128, 192, 256, 768, 1000}) {
            if (m > 1000 && n != 192 && n != 1000) continue;
            for (int64_t k : {8, 96, 192, 200, 768})
                check_product(shape(m, 1, n, k, ST_OUT_PLAIN), "plain", true, false);
        }
        for (int way = 1; way <= 2; way++) {
            st_fused_args a = shape(m, 1, 1000, 776, ST_OUT_PLAIN);
            a.way = way;
            check_product(a, "plain", true, false);
        }
        for (int gelu = 1; gelu <= 2; gelu++) {
            for (int64_t k : {96, 768})
                check_gelu(m, k, gelu);
        }
        for (int factor = 2; factor <= 8; factor *= 2) {
            for (int64_t k : {96, 768}) {
                st_fused_args a = shape(m, 1, 768, k, ST_OUT_PLAIN);
                a.in_factor = factor;
                a.in_hash = 3;
                for (a.way = 0; a.way <= 2; a.way++)
                    check_product(a, "fold", true, false);
            }
        }
        for (int64_t k : {96, 768}) {
            st_fused_args a = shape(m, 1, 768, k, ST_OUT_PLAIN);
            a.in_factor = 4;
            a.in_gather = 1;
            for (a.way = 0; a.way <= 2; a.way++)
                check_product(a, "gather", true, false);
        }
        for (int gelu = 1; gelu <= 2; gelu++) {
            st_fused_args g = shape(m, 1, 768, 776, ST_OUT_GATHER);
            g.gelu = gelu;
            check_product(g, "expand, gelu, gather", gelu == 1, false);
        }
        check_product(shape(m, 4, 768, 192, ST_OUT_PLAIN), "block-diagonal", true, false);
        check_product(shape(m, 4, 192, 768, ST_OUT_PLAIN), "block-diagonal", true, false);
        check_product(shape(m, 4, 192, 192, ST_OUT_DEAL), "deal", false, false);
        check_product(shape(m, 4, 192, 768, ST_OUT_DEAL), "deal", false, false);
        check_product(shape(m, 4, 768, 192, ST_OUT_INTERLEAVE), "interleave", true, false);
        check_product(shape(m, 4, 200, 136, ST_OUT_INTERLEAVE), "interleave", false, false);
        check_product(shape(m, 4, 192, 192, ST_OUT_INTERLEAVE), "interleave", true, false);
        check_product(shape(m, 4, 320, 64, ST_OUT_INTERLEAVE), "interleave", true, false);
        st_fused_args e = shape(m, 1, 768, 768, ST_OUT_EXPAND);
        for (e.way = 0; e.way <= 2; e.way++)
            check_product(e, "expand", true, false);
        check_product(shape(m, 1, 200, 96, ST_OUT_EXPAND), "expand", false, false);
        for (int factor = 2; factor <= 8; factor *= 2)
            check_fold(std::min<int64_t>(m, 300), 96, factor);
        check_gather(std::min<int64_t>(m, 300), 768);
    }
    printf("checks: %d passed, %d failed\n", passes, failures);
    return failures;
}

#endif
