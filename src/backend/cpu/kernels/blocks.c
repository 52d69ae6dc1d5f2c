/* Products of few rows with weights in blocks (Q8_0, Q4_0, Q4_1): as llama.cpp does, rows of A are
 * rounded to 8 bits with a scale for every 32 numbers, so that the products are sums of integers;
 * weights are streamed once, as they are stored. Packed rows (tensor/packed.c) go by groups of 16,
 * rows that belong to no group one by one. Sums depend on neither the cut nor the number of
 * threads. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/blocks.h"

enum { BLOCKS_TILE = 8, BLOCKS_AHEAD = 3072 };

/* A row of A in 8 bits: x = d q, `sum` of a block's q. */
typedef struct {
    const int8_t *q;
    const float *d;
    const int32_t *sum;
} blocks_x;

/* One batch item's product. */
typedef struct {
    blocks_x x[ST_BLOCKS_FEW];
    const uint8_t *b;
    blocks_kind kind;
    bool packed;
    int64_t m, n, k, row_bytes, step_bytes; /* of a row of B; of a block of it */
    st_tensor c, bias;
    int64_t at, ldc, bias_at, bias_rows;
    float beta;
} blocks_part;

/* ---- rows of A ------------------------------------------------------------------------------- */

/* 32 numbers to the nearest multiples of a scale that reaches the largest; NaN and infinity make
 * the scale NaN. Returns the sum of q. */
static int32_t blocks_round(const float *x, int8_t *q, float *d)
{
    float most = 0, poison = 0;
    int32_t sum = 0;
#pragma omp simd reduction(max : most) reduction(+ : poison)
    for (int i = 0; i < BLOCKS_K; i++) {
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        poison += x[i] * 0.0f;
    }
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float inverse = most > 0 && poison == 0 ? 127.0f / most : 0.0f;
    *d = most * (1.0f / 127.0f) + poison;
    if (!(inverse < 1e37f)) inverse = 0, *d = 0 + poison; /* too small to be divided by */
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < BLOCKS_K; i++) {
        float v = poison == 0 ? x[i] * inverse : 0.0f;
        int32_t r = (int32_t)(bits_of_f32(v + magic) - bits_of_f32(magic));
        q[i] = (int8_t)r;
        sum += r;
    }
    return sum;
}

static size_t blocks_space(int64_t m, int64_t k)
{
    return (size_t)m * ((size_t)k + (size_t)(k / BLOCKS_K) * 8);
}

static void blocks_rows(blocks_part *p, const st_tensor *a, int64_t at, int64_t lda, char *space)
{
    int64_t blocks = p->k / BLOCKS_K;
    float *d = (float *)(void *)space;
    int32_t *sum = (int32_t *)(void *)(d + p->m * blocks);
    int8_t *q = (int8_t *)(sum + p->m * blocks);
    for (int64_t i = 0; i < p->m; i++, d += blocks, sum += blocks, q += p->k) {
        p->x[i] = (blocks_x){q, d, sum};
        for (int64_t b = 0; b < blocks; b++) {
            float wide[BLOCKS_K];
            const float *x = block_in(a, at + i * lda + b * BLOCKS_K, BLOCKS_K, wide);
            sum[b] = blocks_round(x, q + b * BLOCKS_K, d + b);
        }
    }
}

/* ---- C --------------------------------------------------------------------------------------- */

/* C[i][j..j + n) from n <= 16 sums. */
static void blocks_store(const blocks_part *p, int64_t i, int64_t j, int64_t n, const float *sum)
{
    float add[BLOCKS_ROWS], old[BLOCKS_ROWS], new[BLOCKS_ROWS];
    int64_t at = p->at + i * p->ldc + j;
    const float *was = p->beta != 0 ? block_in(&p->c, at, n, old) : NULL;
    float *c = block_out(&p->c, at, new);
    for (int64_t y = 0; y < n; y++)
        c[y] = was ? sum[y] + p->beta * was[y] : sum[y];
    if (p->bias.data) {
        const float *bias = block_in(&p->bias, p->bias_at + i % p->bias_rows * p->n + j, n, add);
        for (int64_t y = 0; y < n; y++)
            c[y] += bias[y];
    }
    block_done(&p->c, at, n, c);
}

/* ---- groups of 16 rows of B ------------------------------------------------------------------ */

/* `groups` neighbours of them times `m` rows of A; kind, groups and m are constants of the callers.
 * Several groups are several streams from memory. */
__attribute__((always_inline)) static inline void blocks_tile(const blocks_part *p, int64_t i0,
                                                              int64_t j, const blocks_kind kind,
                                                              const int groups, const int m)
{
    blocks_row sum[2][BLOCKS_TILE];
    const int64_t bytes = blocks_bytes(kind);
    const uint8_t *group = p->b + j * p->row_bytes;
#pragma GCC unroll 2
    for (int g = 0; g < groups; g++) {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            memset(&sum[g][i], 0, sizeof sum[g][i]);
    }
    for (int64_t b = 0; b < p->k / BLOCKS_K; b++) {
#pragma GCC unroll 2
        for (int g = 0; g < groups; g++) {
            const uint8_t *at = group + g * BLOCKS_ROWS * p->row_bytes + b * bytes;
            for (int64_t line = 0; line < bytes; line += 64)
                __builtin_prefetch(at + BLOCKS_AHEAD + line);
            blocks_cells cells;
            blocks_take(&cells, at + blocks_head(kind), kind);
            blocks_row d = blocks_halves(at), least = d;
            if (kind == BLOCKS_Q4_1) least = blocks_halves(at + 32);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                const blocks_x *x = &p->x[i0 + i];
                int32_t less = kind == BLOCKS_Q8_0 ? BLOCKS_OFFSET : kind == BLOCKS_Q4_0 ? 8 : 0;
                blocks_row dot = blocks_dots(&cells, x->q + b * BLOCKS_K, -less * x->sum[b], kind);
                float dx = x->d[b];
#pragma GCC unroll 4
                for (int v = 0; v < BLOCKS_VECS; v++) {
                    sum[g][i].v[v] += dot.v[v] * (d.v[v] * dx);
                    if (kind == BLOCKS_Q4_1) sum[g][i].v[v] += least.v[v] * (dx * (float)x->sum[b]);
                }
            }
        }
    }
#pragma GCC unroll 2
    for (int g = 0; g < groups; g++) {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            float out[BLOCKS_ROWS];
            memcpy(out, &sum[g][i], sizeof out);
            blocks_store(p, i0 + i, j + g * BLOCKS_ROWS, BLOCKS_ROWS, out);
        }
    }
}

/* One function for each: a compiler takes far longer for one that holds them all. */
#define BLOCKS_CASE(name, kind, groups, m)                                                         \
    __attribute__((noinline)) static void name(const blocks_part *p, int64_t i0, int64_t j)        \
    {                                                                                              \
        blocks_tile(p, i0, j, kind, groups, m);                                                    \
    }
BLOCKS_CASE(blocks_q8_0_pair, BLOCKS_Q8_0, 2, 1)
BLOCKS_CASE(blocks_q8_0_1, BLOCKS_Q8_0, 1, 1)
BLOCKS_CASE(blocks_q8_0_2, BLOCKS_Q8_0, 1, 2)
BLOCKS_CASE(blocks_q8_0_4, BLOCKS_Q8_0, 1, 4)
BLOCKS_CASE(blocks_q8_0_8, BLOCKS_Q8_0, 1, 8)
BLOCKS_CASE(blocks_q4_0_pair, BLOCKS_Q4_0, 2, 1)
BLOCKS_CASE(blocks_q4_0_1, BLOCKS_Q4_0, 1, 1)
BLOCKS_CASE(blocks_q4_0_2, BLOCKS_Q4_0, 1, 2)
BLOCKS_CASE(blocks_q4_0_4, BLOCKS_Q4_0, 1, 4)
BLOCKS_CASE(blocks_q4_0_8, BLOCKS_Q4_0, 1, 8)
BLOCKS_CASE(blocks_q4_1_pair, BLOCKS_Q4_1, 2, 1)
BLOCKS_CASE(blocks_q4_1_1, BLOCKS_Q4_1, 1, 1)
BLOCKS_CASE(blocks_q4_1_2, BLOCKS_Q4_1, 1, 2)
BLOCKS_CASE(blocks_q4_1_4, BLOCKS_Q4_1, 1, 4)
BLOCKS_CASE(blocks_q4_1_8, BLOCKS_Q4_1, 1, 8)
#undef BLOCKS_CASE

/* Groups [c.lo, c.hi), all rows of A. */
static void blocks_groups(const blocks_part *p, st_span c)
{
    typedef void of_kind(const blocks_part *, int64_t, int64_t);
    static of_kind *const pair[] = {blocks_q8_0_pair, blocks_q4_0_pair, blocks_q4_1_pair};
    static of_kind *const tile[][4] = {
        {blocks_q8_0_1, blocks_q8_0_2, blocks_q8_0_4, blocks_q8_0_8},
        {blocks_q4_0_1, blocks_q4_0_2, blocks_q4_0_4, blocks_q4_0_8},
        {blocks_q4_1_1, blocks_q4_1_2, blocks_q4_1_4, blocks_q4_1_8}};
    for (int64_t g = c.lo; g < c.hi; g++) {
        int64_t j = g * BLOCKS_ROWS;
        if (p->m == 1 && g + 1 < c.hi) {
            pair[p->kind](p, 0, j);
            g++;
            continue;
        }
        for (int64_t i = 0; i < p->m;) {
            int64_t left = p->m - i;
            int size = left >= 8 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
            tile[p->kind][size](p, i, j);
            i += (int64_t)1 << size;
        }
    }
}

/* ---- rows of B that belong to no group ------------------------------------------------------- */

static inline float blocks_half(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return st_f16_to_f32(h);
}

/* The 32 numbers of a block, less its scale and least number. */
static inline void blocks_numbers(int8_t *w, const uint8_t *at, blocks_kind kind)
{
    const uint8_t *q = at + blocks_head(kind) / BLOCKS_ROWS;
    if (kind == BLOCKS_Q8_0) {
        memcpy(w, q, BLOCKS_K);
        return;
    }
    int less = kind == BLOCKS_Q4_0 ? 8 : 0;
    for (int i = 0; i < BLOCKS_K / 2; i++) {
        w[i] = (int8_t)((q[i] & 15) - less);
        w[i + BLOCKS_K / 2] = (int8_t)((q[i] >> 4) - less);
    }
}

static void blocks_single(const blocks_part *p, int64_t j)
{
    float total[ST_BLOCKS_FEW] = {0};
    const uint8_t *at = p->b + j * p->row_bytes;
    for (int64_t b = 0; b < p->k / BLOCKS_K; b++, at += p->step_bytes) {
        int8_t w[BLOCKS_K];
        blocks_numbers(w, at, p->kind);
        float d = blocks_half(at), least = p->kind == BLOCKS_Q4_1 ? blocks_half(at + 2) : 0;
        for (int64_t i = 0; i < p->m; i++) {
            const int8_t *q = p->x[i].q + b * BLOCKS_K;
            int32_t dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int y = 0; y < BLOCKS_K; y++)
                dot += w[y] * q[y];
            float dx = p->x[i].d[b];
            total[i] += (float)dot * (d * dx);
            if (p->kind == BLOCKS_Q4_1) total[i] += least * (dx * (float)p->x[i].sum[b]);
        }
    }
    for (int64_t i = 0; i < p->m; i++)
        blocks_store(p, i, j, 1, &total[i]);
}

/* ---- sharing among threads ------------------------------------------------------------------- */

static blocks_part blocks_part_of(const st_gemm_args *g, const st_gemm_layout *l, int64_t batch)
{
    blocks_part p = {.m = g->m, .n = g->n, .k = g->k, .c = g->c, .bias = g->bias, .beta = g->beta};
    st_dtype plain = st_dtype_plain(g->b.dtype);
    p.packed = plain != g->b.dtype;
    p.kind = plain == ST_Q8_0 ? BLOCKS_Q8_0 : plain == ST_Q4_0 ? BLOCKS_Q4_0 : BLOCKS_Q4_1;
    p.row_bytes = (int64_t)st_dtype_bytes(g->b.dtype, l->ldb);
    p.step_bytes = blocks_bytes(p.kind) / BLOCKS_ROWS;
    p.b = (const uint8_t *)g->b.data + st_dtype_bytes(g->b.dtype, batch * l->step_b);
    p.at = batch * l->step_c;
    p.ldc = l->ldc;
    p.bias_at = batch * g->step_bias;
    p.bias_rows = st_or(g->bias_rows, 1);
    return p;
}

/* Units [share.lo, share.hi) of all batch items: a unit is a group, or a row that is in none. */
static void blocks_share(const st_gemm_args *g, const st_gemm_layout *l, st_span share,
                         int64_t groups, int64_t units, char *space)
{
    for (int64_t unit = share.lo; unit < share.hi;) {
        int64_t batch = unit / units, first = unit % units;
        int64_t last = at_most(units, first + share.hi - unit);
        blocks_part p = blocks_part_of(g, l, batch);
        blocks_rows(&p, &g->a, batch * l->step_a, l->lda, space);
        blocks_groups(&p, (st_span){first, at_most(last, groups)});
        for (int64_t u = first > groups ? first : groups; u < last; u++)
            blocks_single(&p, groups * BLOCKS_ROWS + u - groups);
        unit += last - first;
    }
}

/* op gemm with B in blocks and at most ST_BLOCKS_FEW rows. */
void KERNEL(gemm_blocks)(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    if (g->m <= 0 || g->n <= 0) return;
    assert(blocks_space(g->m, g->k) <= ST_CPU_SCRATCH);
    bool packed = st_dtype_plain(g->b.dtype) != g->b.dtype;
    int64_t groups = packed ? g->n / BLOCKS_ROWS : 0, units = groups + g->n - groups * BLOCKS_ROWS;
    int parts = st_parts(q, l.batch * g->n * g->k * (4 + g->m) / 8);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span share = st_part(l.batch * units, 1, t, parts);
        blocks_share(g, &l, share, groups, units, st_cpu_scratch(q, t));
    }
}
