/* Orders of rows by hashes (formulas: ref/lsh.c). Products with LANES directions at a time, summed
 * as ref does, whose products of two float32 are exact in double precision: every instruction set
 * finds the same hashes. Threads share stretches of rows; then, hashes as integers in hand, they
 * share the sorts, by 11 bits at a time. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/attention.h"

enum { LSH_ROWS = 256, LSH_GROUP = 4, LSH_DIGIT = 11, LSH_DIGITS = 1 << LSH_DIGIT };

typedef float lsh_floats __attribute__((vector_size(2 * LANES))); /* half a vec */
typedef double lsh_doubles __attribute__((vector_size(4 * LANES)));

/* One thread's. */
typedef struct {
    float *panel, *rows, *zeros; /* (head_dim, LANES), (LSH_GROUP, head_dim), (head_dim) */
} lsh_space;

_Static_assert((LANES + LSH_GROUP + 1) * ST_LSH_DIM * sizeof(float) <= ST_CPU_SCRATCH,
               "rows and directions fit the scratch");

static lsh_space lsh_space_of(const st_stream *q, int part, int64_t dim)
{
    float *at = (float *)(void *)st_cpu_scratch(q, part);
    lsh_space s = {at, at + LANES * dim, at + (LANES + LSH_GROUP) * dim};
    memset(s.zeros, 0, (size_t)dim * sizeof *s.zeros);
    return s;
}

/* One head's rows. */
typedef struct {
    gemm_view x;
    int64_t len, dim;
} lsh_rows;

/* Rows r .. r + LSH_GROUP - 1 in float32; those from len on are zeros. */
static void lsh_group(const lsh_rows *x, lsh_space s, int64_t r, const float *row[LSH_GROUP])
{
    for (int i = 0; i < LSH_GROUP; i++) {
        row[i] = s.zeros;
        if (r + i >= x->len) continue;
        row[i] =
            floats_in(gemm_at(x->x, r + i, 0).data, x->x.dtype, 0, x->dim, s.rows + i * x->dim);
    }
}

static void lsh_squares(const float *const row[LSH_GROUP], int64_t dim, double to[LSH_GROUP])
{
    for (int i = 0; i < LSH_GROUP; i++)
        to[i] = 0;
    for (int64_t c = 0; c < dim; c++) {
#pragma GCC unroll 4
        for (int i = 0; i < LSH_GROUP; i++)
            to[i] += (double)row[i][c] * (double)row[i][c];
    }
}

/* The largest |x|^2. */
static double lsh_most(const st_stream *q, const lsh_rows *x)
{
    double most = 0;
    int parts = st_parts(q, x->len * x->dim);
#pragma omp parallel for num_threads(parts) reduction(max : most)
    for (int64_t r = 0; r < x->len; r += LSH_GROUP) {
        const float *row[LSH_GROUP];
        double square[LSH_GROUP];
        lsh_group(x, lsh_space_of(q, omp_get_thread_num(), x->dim), r, row);
        lsh_squares(row, x->dim, square);
        for (int i = 0; i < LSH_GROUP; i++)
            most = square[i] > most ? square[i] : most;
    }
    return most;
}

/* panel (dim, LANES): n directions, `stride` apart; zeros behind them. */
static void lsh_pack(float *panel, const float *w, int64_t stride, int64_t n, int64_t dim)
{
    for (int64_t c = 0; c < dim; c++) {
        for (int64_t f = 0; f < LANES; f++)
            panel[c * LANES + f] = f < n ? w[f * stride + c] : 0.0f;
    }
}

static void lsh_dots(const float *const row[LSH_GROUP], const float *panel, int64_t dim,
                     double to[LSH_GROUP][LANES])
{
    lsh_doubles sum[LSH_GROUP][2];
#pragma GCC unroll 4
    for (int i = 0; i < LSH_GROUP; i++)
        sum[i][0] = sum[i][1] = (lsh_doubles){0};
    for (int64_t c = 0; c < dim; c++) {
        lsh_floats low, high;
        memcpy(&low, panel + c * LANES, sizeof low);
        memcpy(&high, panel + c * LANES + LANES / 2, sizeof high);
        lsh_doubles w0 = __builtin_convertvector(low, lsh_doubles);
        lsh_doubles w1 = __builtin_convertvector(high, lsh_doubles);
#pragma GCC unroll 4
        for (int i = 0; i < LSH_GROUP; i++) {
            double x = (double)row[i][c];
            sum[i][0] += x * w0;
            sum[i][1] += x * w1;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < LSH_GROUP; i++)
        memcpy(to[i], sum[i], sizeof sum[i]);
}

/* A number whose order among uint32 is that of hashes: NaN last, -0 as 0. */
static uint32_t lsh_key(float hash)
{
    uint32_t u = bits_of_f32(hash + 0.0f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return UINT32_MAX;
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* ---- hashes of rows [lo, hi); keys: of the head, (hashes, total) ----------------------------- */

/* The best of the directions so far, and of their opposites, for each of a stretch of rows. */
typedef struct {
    double high[LSH_ROWS], low[LSH_ROWS];
    int32_t high_at[LSH_ROWS], low_at[LSH_ROWS];
} lsh_best;

static void lsh_compare(lsh_best *best, int64_t r, const double *dot, int64_t n, int64_t first)
{
    for (int64_t f = 0; f < n; f++) {
        int32_t at = (int32_t)(first + f);
        if (dot[f] > best->high[r]) best->high[r] = dot[f], best->high_at[r] = at;
        if (-dot[f] > best->low[r]) best->low[r] = -dot[f], best->low_at[r] = at;
    }
}

static void lsh_buckets(const st_lsh_order_args *a, const lsh_rows *x, lsh_space s, st_span span,
                        uint32_t *keys)
{
    lsh_best best;
    int64_t half = a->buckets / 2;
    for (int64_t h = 0; h < a->hashes; h++) {
        const float *w = (const float *)a->w.data + h * half * x->dim;
        for (int r = 0; r < LSH_ROWS; r++) {
            best.high[r] = best.low[r] = (double)-INFINITY;
            best.high_at[r] = best.low_at[r] = 0;
        }
        for (int64_t f = 0; f < half; f += LANES) {
            int64_t n = at_most(half - f, LANES);
            lsh_pack(s.panel, w + f * x->dim, x->dim, n, x->dim);
            for (int64_t r = span.lo; r < span.hi; r += LSH_GROUP) {
                const float *row[LSH_GROUP];
                double dot[LSH_GROUP][LANES];
                lsh_group(x, s, r, row);
                lsh_dots(row, s.panel, x->dim, dot);
                for (int i = 0; i < LSH_GROUP; i++)
                    lsh_compare(&best, r - span.lo + i, dot[i], n, f);
            }
        }
        for (int64_t r = 0; r < span.hi - span.lo; r++) {
            bool high = best.high[r] >= best.low[r];
            keys[h * a->total + span.lo + r] =
                (uint32_t)(high ? best.high_at[r] : half + best.low_at[r]);
        }
    }
}

/* `most`: max |x|^2 + max |y|^2. */
static void lsh_projections(const st_lsh_order_args *a, const lsh_rows *x, lsh_space s,
                            st_span span, double most, uint32_t *keys)
{
    int64_t stride = x->dim + 2, last = x->dim + (a->mirrored ? 1 : 0);
    for (int64_t h = 0; h < a->hashes; h += LANES) {
        int64_t n = at_most(a->hashes - h, LANES);
        const float *w = (const float *)a->w.data + h * stride;
        lsh_pack(s.panel, w, stride, n, x->dim);
        for (int64_t r = span.lo; r < span.hi; r += LSH_GROUP) {
            const float *row[LSH_GROUP];
            double dot[LSH_GROUP][LANES], square[LSH_GROUP];
            lsh_group(x, s, r, row);
            lsh_dots(row, s.panel, x->dim, dot);
            lsh_squares(row, x->dim, square);
            for (int64_t i = 0; i < at_most(span.hi - r, LSH_GROUP); i++) {
                double far = (double)(float)sqrt(most - square[i]);
                for (int64_t f = 0; f < n; f++) {
                    double hash = dot[i][f] + (double)w[f * stride + last] * far;
                    keys[(h + f) * a->total + r + i] = lsh_key((float)hash);
                }
            }
        }
    }
}

/* ---- sorting --------------------------------------------------------------------------------- */

/* order: 0 .. n - 1 by rising key, stable. keys, keys_2 and order_2 are overwritten. Digits that
 * are the same in all keys are skipped. */
static void lsh_sort(uint32_t *keys, uint32_t *keys_2, int32_t *order, int32_t *order_2, int64_t n)
{
    int32_t *from = order, *to = order_2;
    for (int64_t i = 0; i < n; i++)
        from[i] = (int32_t)i;
    for (int shift = 0; shift < 32; shift += LSH_DIGIT) {
        int32_t at[LSH_DIGITS] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++)
            at[keys[i] >> shift & (LSH_DIGITS - 1)]++;
        if (at[keys[0] >> shift & (LSH_DIGITS - 1)] == n) continue;
        for (int d = 0; d < LSH_DIGITS; d++) {
            int32_t count = at[d];
            at[d] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++) {
            int32_t place = at[keys[i] >> shift & (LSH_DIGITS - 1)]++;
            keys_2[place] = keys[i];
            to[place] = from[i];
        }
        uint32_t *key = keys;
        int32_t *was = from;
        keys = keys_2, keys_2 = key;
        from = to, to = was;
    }
    if (from != order) memcpy(order, from, (size_t)n * sizeof *order);
}

/* ---- the operation --------------------------------------------------------------------------- */

static lsh_rows lsh_rows_of(const st_lsh_order_args *a, int64_t pair)
{
    int64_t at = pair / a->h.heads * a->h.q.step + pair % a->h.heads * a->h.head_dim;
    return (lsh_rows){attend_view(a->h.q.x, at, a->h.q.stride), a->h.q_len, a->h.head_dim};
}

static lsh_rows lsh_others_of(const st_lsh_order_args *a, int64_t pair)
{
    int64_t at = pair / a->h.heads * a->h.k.step + pair % a->h.heads * a->h.head_dim;
    return (lsh_rows){attend_view(a->h.k.x, at, a->h.k.stride), a->h.kv_len, a->h.head_dim};
}

void KERNEL(lsh_order)(st_stream *q, const st_lsh_order_args *given)
{
    st_lsh_order_args a = st_lsh_order_resolve(given);
    int64_t pairs = a.h.batch * a.h.heads, all = a.hashes * a.total;
    int64_t stretches = (a.sorted + LSH_ROWS - 1) / LSH_ROWS;
    /* of each pair |x|^2 + |y|^2, a double; then keys, other keys and other orders */
    uint32_t *most = a.work.data, *keys = most + 2 * pairs, *keys_2 = keys + pairs * all;
    int32_t *order_2 = (int32_t *)(keys_2 + pairs * all);
    assert(a.h.head_dim <= ST_LSH_DIM && a.total <= INT32_MAX);
    for (int64_t pair = 0; pair < pairs && !a.buckets; pair++) {
        lsh_rows x = lsh_rows_of(&a, pair), y = lsh_others_of(&a, pair);
        double sum = lsh_most(q, &x) + lsh_most(q, &y);
        memcpy(most + 2 * pair, &sum, sizeof sum);
    }
    int64_t work = a.hashes * (a.buckets ? a.buckets / 2 : 1) * a.h.head_dim;
    int parts = st_parts(q, pairs * a.sorted * work / 2);
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t unit = 0; unit < pairs * stretches; unit++) {
        int64_t pair = unit / stretches, lo = unit % stretches * LSH_ROWS;
        lsh_space s = lsh_space_of(q, omp_get_thread_num(), a.h.head_dim);
        lsh_rows x = lsh_rows_of(&a, pair);
        st_span span = {lo, at_most(a.sorted, lo + LSH_ROWS)};
        double sum = 0;
        if (!a.buckets) memcpy(&sum, most + 2 * pair, sizeof sum);
        if (a.buckets)
            lsh_buckets(&a, &x, s, span, keys + pair * all);
        else
            lsh_projections(&a, &x, s, span, sum, keys + pair * all);
    }
    parts = st_parts(q, pairs * all * 8);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t unit = 0; unit < pairs * a.hashes; unit++) {
        int64_t at = unit * a.total;
        int32_t *order = (int32_t *)a.order.data + at;
        lsh_sort(keys + at, keys_2 + at, order, order_2 + at, a.sorted);
        for (int64_t r = a.sorted; r < a.total; r++)
            order[r] = (int32_t)r;
    }
}
