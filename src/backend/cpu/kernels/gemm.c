/* Products of any shape, layout and dtype: C = beta C + op(A) op(B) + bias.
 *
 * Blocks of op(B) (PACK_K x PACK_N) and op(A) (PACK_M x PACK_K) are copied into panels of cells
 * (gemm_float.h: widened; gemm_pairs.h: bf16), TILE_ROWS rows or TILE_COLS columns wide, which a
 * register tile walks (Goto & van de Geijn 2008). Every thread computes its own part of C alone;
 * when C is small and k long, threads take parts of k instead and the sums are added in order.
 * Products of few rows do not pack: rows.c. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/gemm_blocks.h"
#include "backend/cpu/kernels/rows.h"

enum { SUMS_M = 480 / TILE_ROWS * TILE_ROWS }; /* rows of the block of sums kept for a bf16 C */

/* One thread's panels, carved from its scratch. */
typedef struct {
    gemm_cell *a, *b, *rows; /* rows: of weights in blocks, to be packed */
    float *sums;
} gemm_space;

enum {
    SPACE_A = (PACK_M * PACK_K + PACK_SPILL) * sizeof(gemm_cell),
    SPACE_B = (PACK_N * PACK_K + PACK_SPILL) * sizeof(gemm_cell),
    SPACE_SUMS = SUMS_M * PACK_N * sizeof(float),
    SPACE_ROWS = UNBLOCK_ROWS * sizeof(gemm_cell),
};

_Static_assert(PACK_M % TILE_ROWS == 0 && PACK_N % TILE_COLS == 0, "whole panels");
_Static_assert(SPACE_A % ST_ALIGN == 0 && SPACE_B % ST_ALIGN == 0, "aligned panels");
_Static_assert(SPACE_A + SPACE_B + SPACE_SUMS + SPACE_ROWS <= ST_CPU_SCRATCH,
               "panels fit the scratch");

static gemm_space gemm_space_of(const st_stream *q, int part)
{
    void *base = st_cpu_scratch(q, part);
    return (gemm_space){.a = base,
                        .b = (void *)((char *)base + SPACE_A),
                        .sums = (void *)((char *)base + SPACE_A + SPACE_B),
                        .rows = (void *)((char *)base + SPACE_A + SPACE_B + SPACE_SUMS)};
}

/* ---- one thread's part of C ------------------------------------------------------------------ */

/* The part of a product that a thread computes. */
typedef struct {
    gemm_view a, b; /* op(A) (m, k), op(B) (k, n) */
    gemm_stored w;  /* B, where it is in blocks */
    int64_t m, n, k;
    st_tensor c, bias; /* c: element (i, j) is i*ldc + j from `at` on */
    int64_t at, ldc;
    int64_t row, bias_at, bias_rows, bias_ld; /* bias of row i: see gemm_bias */
    float beta;
} gemm_part;

/* Where the bias of row i of a part starts: it repeats after bias_rows rows of all of C. */
static inline int64_t gemm_bias(const gemm_part *p, int64_t i)
{
    return p->bias_at + (p->row + i) % p->bias_rows * p->bias_ld;
}

/* sums (m, n) over all of k, in rows of `to.ldc`; n columns of k, or PACK_K, fit the space for B.
 */
static void gemm_sums(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n,
                      gemm_space space, gemm_sink to)
{
    gemm_enter();
    for (int64_t x = 0; x < st_or(p->k, 1); x += PACK_K) { /* once even if the sum is empty */
        int64_t k = at_most(p->k - x, PACK_K);
        if (p->w.data)
            gemm_take_blocks(space.b, &p->w, j0, x, n, k, space.rows);
        else
            gemm_pack_b(space.b, gemm_transposed(gemm_at(p->b, x, j0)), n, k);
        for (int64_t i = 0; i < m; i += PACK_M) {
            int64_t rows = at_most(m - i, PACK_M);
            gemm_pack_a(space.a, gemm_at(p->a, i0 + i, x), rows, k);
            gemm_block(rows, n, k, space.a, space.b, gemm_sink_at(to, i, 0));
        }
        to.beta = 1;
        to.bias = NULL;
    }
    gemm_leave();
}

/* C = beta C + bias, for a block of C whose rows differ in bias. */
static void gemm_begin(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++) {
        float wide[PACK_N], *c = (float *)p->c.data + p->at + (i0 + i) * p->ldc + j0;
        const float *bias = block_in(&p->bias, gemm_bias(p, i0 + i) + j0, n, wide);
        if (p->beta != 0) {
            for (int64_t j = 0; j < n; j++)
                c[j] = p->beta * c[j] + bias[j];
        } else {
            memcpy(c, bias, (size_t)n * sizeof *c);
        }
    }
}

/* sums += bias, for a block in rows of PACK_N. */
static void gemm_add_bias(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n,
                          float *sums)
{
    for (int64_t i = 0; i < m; i++) {
        float wide[PACK_N], *sum = sums + i * PACK_N;
        const float *bias = block_in(&p->bias, gemm_bias(p, i0 + i) + j0, n, wide);
        for (int64_t j = 0; j < n; j++)
            sum[j] += bias[j];
    }
}

/* C = beta C + sums, for a block of sums (with the bias in them) in rows of PACK_N. */
static void gemm_round(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n,
                       const float *sums)
{
    float old[PACK_N], new[PACK_N];
    for (int64_t i = 0; i < m; i++) {
        int64_t at = p->at + (i0 + i) * p->ldc + j0;
        const float *sum = sums + i * PACK_N;
        const float *was = p->beta != 0 ? block_in(&p->c, at, n, old) : NULL;
        float *c = block_out(&p->c, at, new);
        for (int64_t j = 0; j < n; j++)
            c[j] = was ? sum[j] + p->beta * was[j] : sum[j];
        block_done(&p->c, at, n, new);
    }
}

/* A part whose sums go straight to a bf16 C: every panel of B is packed once, and A once for as
 * many columns as fit where PACK_N columns of PACK_K would. */
static void gemm_direct(const gemm_part *p, gemm_space space)
{
    enum { WIDE = 4 };
    int64_t times = at_most(PACK_K / gemm_depth(st_or(p->k, 1)), WIDE), step = PACK_N * times;
    for (int64_t j = 0; j < p->n; j += step) {
        float bias[WIDE * PACK_N];
        int64_t n = at_most(p->n - j, step);
        const float *add = p->bias.data ? block_in(&p->bias, p->bias_at + j, n, bias) : NULL;
        uint16_t *c = (uint16_t *)p->c.data + p->at + j;
        gemm_sums(p, 0, j, p->m, n, space, (gemm_sink){NULL, p->ldc, add, p->beta, c});
    }
}

static void gemm_compute(const gemm_part *p, gemm_space space)
{
    bool by_row = p->bias.data && p->bias_rows > 1; /* else all rows' bias is the same */
    if (p->c.dtype != ST_F32 && p->k <= PACK_K && !by_row) {
        gemm_direct(p, space);
        return;
    }
    for (int64_t j = 0; j < p->n; j += PACK_N) {
        float bias[PACK_N];
        int64_t n = at_most(p->n - j, PACK_N);
        const float *add = NULL;
        if (p->bias.data && !by_row) add = block_in(&p->bias, p->bias_at + j, n, bias);
        for (int64_t i = 0; i < p->m; i += SUMS_M) {
            int64_t m = at_most(p->m - i, SUMS_M);
            if (p->c.dtype == ST_F32) {
                float *c = (float *)p->c.data + p->at + i * p->ldc + j;
                if (by_row) gemm_begin(p, i, j, m, n);
                gemm_sink to = {c, p->ldc, add, by_row ? 1 : p->beta, NULL};
                gemm_sums(p, i, j, m, n, space, to);
            } else {
                gemm_sums(p, i, j, m, n, space, (gemm_sink){space.sums, PACK_N, add, 0, NULL});
                if (by_row) gemm_add_bias(p, i, j, m, n, space.sums);
                gemm_round(p, i, j, m, n, space.sums);
            }
        }
    }
}

/* ---- sharing among threads ------------------------------------------------------------------- */

static gemm_part gemm_part_of(const st_gemm_args *g, const st_gemm_layout *l, int64_t batch)
{
    gemm_part p = {.m = g->m, .n = g->n, .k = g->k, .c = g->c, .bias = g->bias, .beta = g->beta};
    p.a = (gemm_view){g->a.data, g->a.dtype, g->ta ? 1 : l->lda, g->ta ? l->lda : 1};
    p.b = (gemm_view){g->b.data, g->b.dtype, g->tb ? 1 : l->ldb, g->tb ? l->ldb : 1};
    p.a.data = (const char *)p.a.data + st_dtype_bytes(g->a.dtype, batch * l->step_a);
    p.b.data = (const char *)p.b.data + st_dtype_bytes(g->b.dtype, batch * l->step_b);
    if (st_dtype_blocks(g->b.dtype)) {
        p.w = (gemm_stored){p.b.data, g->b.dtype, g->n, l->ldb, 0};
        p.b = (gemm_view){NULL, ST_F32, 0, 0};
    }
    p.at = batch * l->step_c;
    p.ldc = l->ldc;
    p.bias_at = batch * g->step_bias;
    p.bias_rows = st_or(g->bias_rows, 1);
    p.bias_ld = g->n;
    return p;
}

/* Rows [r.lo, r.hi) and columns [c.lo, c.hi) of a part. */
static gemm_part gemm_cut(gemm_part p, st_span r, st_span c)
{
    p.a = gemm_at(p.a, r.lo, 0);
    p.b = gemm_at(p.b, 0, c.lo);
    p.w.row = c.lo;
    p.at += r.lo * p.ldc + c.lo;
    p.bias_at += c.lo;
    p.row = r.lo;
    p.m = r.hi - r.lo;
    p.n = c.hi - c.lo;
    return p;
}

/* A C too small to share, a long k: each thread sums a stretch of k, then the sums are added. */
static void gemm_split_k(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l, int parts)
{
    for (int64_t batch = 0; batch < l->batch; batch++) {
        gemm_part whole = gemm_part_of(g, l, batch);
#pragma omp parallel for num_threads(parts) schedule(static)
        for (int t = 0; t < parts; t++) {
            st_span x = st_part(g->k, 16, t, parts);
            gemm_part p = whole;
            p.k = x.hi - x.lo;
            p.a = gemm_at(p.a, 0, x.lo);
            p.b = gemm_at(p.b, x.lo, 0);
            gemm_space space = gemm_space_of(q, t);
            gemm_sums(&p, 0, 0, g->m, g->n, space, (gemm_sink){space.sums, PACK_N, NULL, 0, NULL});
        }
        float *sums = gemm_space_of(q, 0).sums;
        for (int64_t i = 0; i < g->m; i++) {
            float *row = sums + i * PACK_N;
            for (int t = 1; t < parts; t++) {
                const float *more = gemm_space_of(q, t).sums + i * PACK_N;
                for (int64_t j = 0; j < g->n; j++)
                    row[j] += more[j];
            }
        }
        if (g->bias.data) gemm_add_bias(&whole, 0, 0, g->m, g->n, sums);
        gemm_round(&whole, 0, 0, g->m, g->n, sums);
    }
}

/* Ways to cut one product's rows and columns. */
typedef struct {
    int64_t rows, cols;
} gemm_grid;

/* The cut into `parts` that packs least: each part packs its rows of A and columns of B. */
static gemm_grid gemm_grid_of(int64_t m, int64_t n, int64_t parts)
{
    gemm_grid best = {parts, 1};
    int64_t least = INT64_MAX;
    for (int64_t rows = 1; rows <= parts; rows++) {
        if (parts % rows) continue;
        int64_t cols = parts / rows;
        int64_t high = ((m + TILE_ROWS - 1) / TILE_ROWS + rows - 1) / rows * TILE_ROWS;
        int64_t wide = ((n + TILE_COLS - 1) / TILE_COLS + cols - 1) / cols * TILE_COLS;
        /* multiply-adds of the largest part, and what packing costs beside them */
        int64_t cost = high * wide + 16 * (high + wide);
        if (cost < least) best = (gemm_grid){rows, cols}, least = cost;
    }
    return best;
}

/* op gemm, any case. */
void KERNEL(gemm)(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    if (g->m <= 0 || g->n <= 0) return;
    int parts = st_parts(q, l.batch * g->m * g->n * (g->k + 8) / 8);
    bool blocks = st_dtype_blocks(g->b.dtype);
    if (!blocks && (thin_gemm(g, &l, parts) || rows_gemm(q, g, &l))) return;
    int64_t tiles = ((g->m + TILE_ROWS - 1) / TILE_ROWS) * ((g->n + TILE_COLS - 1) / TILE_COLS);
    if (!blocks && parts > 1 && tiles * l.batch < 4 * parts && g->k >= 512 && g->n <= PACK_N &&
        g->m <= SUMS_M) {
        gemm_split_k(q, g, &l, parts);
        return;
    }
    int64_t cuts = l.batch % parts == 0 || l.batch > 4 * parts ? 1 : parts;
    gemm_grid grid = gemm_grid_of(g->m, g->n, cuts);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t unit = 0; unit < l.batch * cuts; unit++) {
        int64_t i = unit % cuts / grid.cols, j = unit % cuts % grid.cols;
        st_span r = st_part(g->m, TILE_ROWS, i, grid.rows);
        st_span c = st_part(g->n, TILE_COLS, j, grid.cols);
        gemm_part p = gemm_cut(gemm_part_of(g, &l, unit / cuts), r, c);
        gemm_compute(&p, gemm_space_of(q, omp_get_thread_num()));
    }
}
