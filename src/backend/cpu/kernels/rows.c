/* Products of few rows (decoding) or few columns (gates): the large operand is streamed once, as it
 * is stored, so that what counts is its bytes. Stored (n, k): dot products, several of its rows at
 * a time for the memory's sake. Stored (k, n): sums of its rows, a stretch of columns at a time.
 * Few columns are few rows of the transposed product. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/rows.h"

enum {
    ROWS_MAX = 12,
    ROWS_GROUP = 6,
    ROWS_STREAMS = 4,
    ROWS_CHUNK = 16,
    ROWS_COLS = 256,
    ROWS_DOWN = 4,
    ROWS_SPLIT = 64
};

static inline float rows_get(const void *b, st_dtype t, int64_t i)
{
    return t == ST_F32 ? ((const float *)b)[i] : st_bf16_to_f32(((const uint16_t *)b)[i]);
}

static void rows_store(const rows_part *p, int64_t i, int64_t j, float sum)
{
    int64_t at = p->at + i * p->row + j * p->col;
    if (p->bias.data) {
        int64_t row = p->flip ? j : i, col = p->flip ? i : j;
        int64_t skip = p->bias_rows > 1 ? row % p->bias_rows * p->bias_ld : 0;
        sum += scalar_in(&p->bias, p->bias_at + skip + col);
    }
    if (p->beta != 0) sum += p->beta * scalar_in(&p->c, at);
    if (p->c.dtype == ST_F32)
        ((float *)p->c.data)[at] = sum;
    else
        ((uint16_t *)p->c.data)[at] = st_f32_to_bf16(sum);
}

/* All bits of the last n lanes. */
static inline vec_u32 rows_last(int n)
{
    vec_u32 v;
    for (int i = 0; i < LANES; i++)
        v[i] = i >= LANES - n ? UINT32_MAX : 0;
    return v;
}

/* C[i0..i0 + m)[j..j + streams) for compile-time m and streams, dtype of B; the rows after these
 * are on their way meanwhile. */
__attribute__((always_inline)) static inline void rows_dots(const rows_part *p, int64_t i0,
                                                            int64_t j, const int m,
                                                            const int streams, const st_dtype t)
{
    vec sum[ROWS_GROUP][ROWS_STREAMS];
    int64_t k = p->k, x = 0, b0 = j * p->ldb, size = (int64_t)st_dtype_size(t);
    const float *a = p->a + i0 * k;
#pragma GCC unroll 16
    for (int i = 0; i < m; i++) {
#pragma GCC unroll 16
        for (int s = 0; s < streams; s++)
            sum[i][s] = (vec){0};
    }
    for (; x + LANES <= k; x += LANES) {
#pragma GCC unroll 16
        for (int s = 0; s < streams; s++) {
            int64_t at = b0 + s * p->ldb + x;
            __builtin_prefetch((const char *)p->b + (at + streams * p->ldb) * size);
            vec b = vec_read(p->b, t, at);
#pragma GCC unroll 16
            for (int i = 0; i < m; i++)
                sum[i][s] += vec_load(a + i * k + x) * b;
        }
    }
    if (x < k && k >= LANES) { /* the last vector, less what was counted */
        vec_u32 left = rows_last((int)(k - x));
#pragma GCC unroll 16
        for (int s = 0; s < streams; s++) {
            vec b = (vec)((vec_u32)vec_read(p->b, t, b0 + s * p->ldb + k - LANES) & left);
#pragma GCC unroll 16
            for (int i = 0; i < m; i++)
                sum[i][s] += (vec)((vec_u32)vec_load(a + i * k + k - LANES) & left) * b;
        }
        x = k;
    }
#pragma GCC unroll 16
    for (int i = 0; i < m; i++) {
#pragma GCC unroll 16
        for (int s = 0; s < streams; s++) {
            float total = vec_sum(sum[i][s]);
            for (int64_t y = x; y < k; y++)
                total += a[i * k + y] * rows_get(p->b, t, b0 + s * p->ldb + y);
            rows_store(p, i0 + i, j + s, total);
        }
    }
}

/* `m` rows of C over a stretch of columns; m * streams sums fit the registers. */
__attribute__((always_inline)) static inline void
rows_dots_span(const rows_part *p, int64_t i0, st_span c, const int m, const st_dtype t)
{
    const int streams = m <= 3 ? ROWS_STREAMS : 2;
    int64_t j = c.lo;
    for (; j + streams <= c.hi; j += streams)
        rows_dots(p, i0, j, m, streams, t);
    for (; j < c.hi; j++)
        rows_dots(p, i0, j, m, 1, t);
}

/* One function for each: a compiler takes far longer for one that holds them all. */
#define ROWS_CASE(name, of, m)                                                                     \
    __attribute__((noinline)) static void name(const rows_part *p, int64_t i0, st_span c)          \
    {                                                                                              \
        rows_dots_span(p, i0, c, m, of);                                                           \
    }
ROWS_CASE(rows_1_f32, ST_F32, 1)
ROWS_CASE(rows_2_f32, ST_F32, 2)
ROWS_CASE(rows_3_f32, ST_F32, 3)
ROWS_CASE(rows_4_f32, ST_F32, 4)
ROWS_CASE(rows_5_f32, ST_F32, 5)
ROWS_CASE(rows_6_f32, ST_F32, 6)
ROWS_CASE(rows_1_bf16, ST_BF16, 1)
ROWS_CASE(rows_2_bf16, ST_BF16, 2)
ROWS_CASE(rows_3_bf16, ST_BF16, 3)
ROWS_CASE(rows_4_bf16, ST_BF16, 4)
ROWS_CASE(rows_5_bf16, ST_BF16, 5)
ROWS_CASE(rows_6_bf16, ST_BF16, 6)
#undef ROWS_CASE

static void rows_group(const rows_part *p, int64_t i0, st_span c)
{
    static void (*const of[2][ROWS_GROUP])(const rows_part *, int64_t, st_span) = {
        {rows_1_f32, rows_2_f32, rows_3_f32, rows_4_f32, rows_5_f32, rows_6_f32},
        {rows_1_bf16, rows_2_bf16, rows_3_bf16, rows_4_bf16, rows_5_bf16, rows_6_bf16}};
    of[p->dtype != ST_F32][at_most(p->m - i0, ROWS_GROUP) - 1](p, i0, c);
}

void rows_across(const rows_part *p, st_span c)
{
    for (int64_t j = c.lo; j < c.hi; j += ROWS_CHUNK) {
        st_span chunk = {j, at_most(c.hi, j + ROWS_CHUNK)};
        for (int64_t i = 0; i < p->m; i += ROWS_GROUP)
            rows_group(p, i, chunk);
    }
}

/* sum (m, ROWS_COLS + LANES) of B's columns [j, j + n) over its rows `x`, four at a time, for
 * compile-time m and dtype of B. Where n is no multiple, one more vector ends with the last column:
 * of its sums, behind the others, the last ones count. */
__attribute__((always_inline)) static inline void
rows_sums(const rows_part *p, st_span c, st_span x, float *sum, const int m, const st_dtype t)
{
    int64_t n = c.hi - c.lo, whole = n / LANES, vecs = (n + LANES - 1) / LANES;
    for (int64_t k = x.lo; k < x.hi; k += ROWS_DOWN) {
        int64_t have = at_most(x.hi - k, ROWS_DOWN);
        const float *a = p->a + k;
        for (int64_t v = 0; v < vecs; v++) {
            int64_t at = k * p->ldb + (v < whole ? c.lo + v * LANES : c.hi - LANES);
            vec b[ROWS_DOWN];
            if (have == ROWS_DOWN) {
#pragma GCC unroll 4
                for (int y = 0; y < ROWS_DOWN; y++)
                    b[y] = vec_read(p->b, t, at + y * p->ldb);
#pragma GCC unroll 8
                for (int i = 0; i < m; i++) {
                    float *to = sum + i * (ROWS_COLS + LANES) + v * LANES;
                    vec s = vec_load(to);
#pragma GCC unroll 4
                    for (int y = 0; y < ROWS_DOWN; y++)
                        s += a[i * p->k + y] * b[y];
                    vec_store(to, s);
                }
                continue;
            }
            for (int64_t y = 0; y < have; y++) {
                b[0] = vec_read(p->b, t, at + y * p->ldb);
                for (int i = 0; i < m; i++) {
                    float *to = sum + i * (ROWS_COLS + LANES) + v * LANES;
                    vec_store(to, vec_load(to) + a[i * p->k + y] * b[0]);
                }
            }
        }
    }
    for (int i = 0; i < m && whole < vecs; i++) {
        float *to = sum + i * (ROWS_COLS + LANES) + whole * LANES;
        memmove(to, to + vecs * LANES - n, (size_t)(n - whole * LANES) * sizeof *to);
    }
}

/* The same for columns that are fewer than a vector, and all that there are. */
static void rows_sums_narrow(const rows_part *p, st_span c, st_span x, float *sum)
{
    for (int64_t k = x.lo; k < x.hi; k++) {
        for (int64_t i = 0; i < p->m; i++) {
            for (int64_t j = c.lo; j < c.hi; j++)
                sum[i * (ROWS_COLS + LANES) + j - c.lo] +=
                    p->a[i * p->k + k] * rows_get(p->b, p->dtype, k * p->ldb + j);
        }
    }
}

__attribute__((always_inline)) static inline void
rows_sums_of(const rows_part *p, st_span c, st_span x, float *sum, const st_dtype t)
{
    switch (p->m) {
    case 1: rows_sums(p, c, x, sum, 1, t); break;
    case 2: rows_sums(p, c, x, sum, 2, t); break;
    case 3: rows_sums(p, c, x, sum, 3, t); break;
    case 4: rows_sums(p, c, x, sum, 4, t); break;
    case 5: rows_sums(p, c, x, sum, 5, t); break;
    default: rows_sums(p, c, x, sum, 6, t); break;
    }
}

void rows_down(const rows_part *p, st_span c, st_span x, float *to)
{
    for (int64_t j = c.lo; j < c.hi; j += ROWS_COLS) {
        float sum[ROWS_GROUP * (ROWS_COLS + LANES)];
        memset(sum, 0, (size_t)p->m * (ROWS_COLS + LANES) * sizeof *sum);
        st_span cols = {j, at_most(c.hi, j + ROWS_COLS)};
        if (cols.hi < LANES)
            rows_sums_narrow(p, cols, x, sum);
        else if (p->dtype == ST_F32)
            rows_sums_of(p, cols, x, sum, ST_F32);
        else
            rows_sums_of(p, cols, x, sum, ST_BF16);
        for (int64_t i = 0; i < p->m; i++) {
            for (int64_t y = j; y < cols.hi; y++) {
                float total = sum[i * (ROWS_COLS + LANES) + y - j];
                if (to)
                    to[i * (c.hi - c.lo) + y - c.lo] = total;
                else
                    rows_store(p, i, y, total);
            }
        }
    }
}

const float *rows_gather(const st_tensor *a, int64_t at, int64_t row, int64_t col, int64_t m,
                         int64_t k, float *to)
{
    if (col == 1 && (row == k || m == 1) && a->dtype == ST_F32) return (const float *)a->data + at;
    for (int64_t i = 0; i < m; i++) {
        if (col == 1) {
            const float *from = block_in(a, at + i * row, k, to + i * k);
            if (a->dtype == ST_F32) memcpy(to + i * k, from, (size_t)k * sizeof *to);
            continue;
        }
        for (int64_t x = 0; x < k; x++)
            to[i * k + x] = scalar_in(a, at + i * row + x * col);
    }
    return to;
}

/* The product as one of few rows: the operands' roles, by whether it had to be transposed. */
typedef struct {
    int64_t m, n, k;
    st_tensor a, b;
    int64_t a_row, a_col, a_step, b_step, step_bias;
    bool across; /* B is stored (n, k) */
    rows_part part;
} rows_job;

static rows_job rows_job_of(const st_gemm_args *g, const st_gemm_layout *l, bool flip)
{
    rows_job w = {.k = g->k, .part = {.c = g->c, .bias = g->bias, .beta = g->beta, .k = g->k}};
    int64_t a_row = g->ta ? 1 : l->lda, a_col = g->ta ? l->lda : 1;
    int64_t b_row = g->tb ? l->ldb : 1, b_col = g->tb ? 1 : l->ldb;
    w.m = w.part.m = flip ? g->n : g->m;
    w.n = flip ? g->m : g->n;
    w.a = flip ? g->b : g->a;
    w.b = flip ? g->a : g->b;
    w.a_row = flip ? b_row : a_row;
    w.a_col = flip ? b_col : a_col;
    w.a_step = flip ? l->step_b : l->step_a;
    w.b_step = flip ? l->step_a : l->step_b;
    w.part.ldb = flip ? l->lda : l->ldb;
    w.across = flip ? !g->ta : g->tb;
    w.part.dtype = w.b.dtype;
    w.part.row = flip ? 1 : l->ldc;
    w.part.col = flip ? l->ldc : 1;
    w.part.flip = flip;
    w.part.bias_rows = g->bias_rows;
    w.part.bias_ld = g->n;
    w.step_bias = g->step_bias;
    return w;
}

static rows_part rows_part_of(const rows_job *w, const st_gemm_layout *l, int64_t batch,
                              float *wide)
{
    rows_part p = w->part;
    p.a = rows_gather(&w->a, batch * w->a_step, w->a_row, w->a_col, w->m, w->k, wide);
    p.b = (const char *)w->b.data + batch * w->b_step * (int64_t)st_dtype_size(w->b.dtype);
    p.at = batch * l->step_c;
    p.bias_at = batch * w->step_bias;
    return p;
}

/* One thread's share: units are stretches of `grain` columns of a batch item. */
static void rows_share(const rows_job *w, const st_gemm_layout *l, st_span share, int64_t cuts,
                       int64_t grain, float *wide)
{
    for (int64_t unit = share.lo; unit < share.hi;) {
        int64_t first = unit % cuts, last = at_most(cuts, first + share.hi - unit);
        rows_part p = rows_part_of(w, l, unit / cuts, wide);
        st_span c = {first * grain, at_most(w->n, last * grain)};
        if (w->across)
            rows_across(&p, c);
        else
            rows_down(&p, c, (st_span){0, w->k}, NULL);
        unit += last - first;
    }
}

/* Few stretches of columns: units take some of B's rows each, then the sums are added. Cut by the
 * shape alone, so that bits do not depend on how many threads there are. */
static void rows_split(const st_stream *q, const rows_job *w, const st_gemm_layout *l, int64_t cuts,
                       int64_t pieces, int parts)
{
    float *sums = (float *)(void *)st_cpu_scratch(q, 0) + w->m * w->k; /* behind the first's A */
    int64_t units = l->batch * cuts * pieces, size = w->m * ROWS_SPLIT;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t unit = 0; unit < units; unit++) {
        float *wide = (float *)(void *)st_cpu_scratch(q, omp_get_thread_num());
        rows_part p = rows_part_of(w, l, unit / pieces / cuts, wide);
        rows_down(&p, st_part(w->n, LANES, unit / pieces % cuts, cuts),
                  st_part(w->k, ROWS_DOWN, unit % pieces, pieces), sums + unit * size);
    }
    for (int64_t unit = 0; unit < units; unit += pieces) {
        rows_part p = w->part;
        p.at = unit / pieces / cuts * l->step_c;
        p.bias_at = unit / pieces / cuts * w->step_bias;
        st_span c = st_part(w->n, LANES, unit / pieces % cuts, cuts);
        for (int64_t x = 0; x < w->m * (c.hi - c.lo); x++) {
            float sum = 0;
            for (int64_t t = unit; t < unit + pieces; t++)
                sum += sums[t * size + x];
            rows_store(&p, x / (c.hi - c.lo), c.lo + x % (c.hi - c.lo), sum);
        }
    }
}

bool rows_gemm(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l)
{
    enum { UNITS = 16, DEPTH = 64 }; /* of a split product: wanted; B's rows of each at least */
    bool flip = g->m > ROWS_MAX && g->n <= 4 && g->k >= 2 * LANES;
    if (!flip && g->m > ROWS_MAX) return false;
    rows_job w = rows_job_of(g, l, flip);
    if ((size_t)(w.m * (w.k + UNITS * ROWS_SPLIT)) * sizeof(float) > ST_CPU_SCRATCH) return false;
    if (!w.across && w.m > ROWS_GROUP) return false;
    /* What counts is B's bytes, and for more rows the products. */
    int parts = st_parts(q, l->batch * w.n * w.k * (8 + w.m) / 8);
    int64_t grain = w.across ? ROWS_STREAMS : ROWS_SPLIT, cuts = (w.n + grain - 1) / grain;
    int64_t pieces = at_most(UNITS / (l->batch * cuts), w.k / DEPTH);
    if (!w.across && pieces > 1) {
        rows_split(q, &w, l, cuts, pieces, parts);
        return true;
    }
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span share = st_part(l->batch * cuts, 1, t, parts);
        rows_share(&w, l, share, cuts, grain, (float *)(void *)st_cpu_scratch(q, t));
    }
    return true;
}
