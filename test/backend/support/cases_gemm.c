/* Parity cases of products. Shapes reach every route: one row, few rows, thin inner and outer
 * sizes, blocks side by side (block-diagonal, Monarch), stacks, and what goes to the library. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>

/* Sizes named because a route begins or ends there, or because a model uses them. */
static const struct {
    int m, n, k;
} named[] = {
    {1, 1, 1},        {1, 768, 64},   {1, 65, 768},   {2, 257, 129},   {4, 96, 768},
    {5, 33, 1021},    {7, 512, 31},   {8, 100, 100},  {16, 129, 47},   {64, 1, 300},
    {300, 1, 64},     {129, 4, 192},  {200, 16, 65},  {192, 48, 4},    {255, 64, 16},
    {3, 5, 1025},     {16, 16, 2048}, {4, 768, 1024}, {768, 3, 513},   {1, 3072, 5},
    {33, 17, 0},      {1, 9, 0},      {97, 101, 103}, {128, 128, 128}, {257, 192, 64},
    {24, 32, 1000},   {1000, 24, 32}, {1000, 8, 8},   {1, 1, 5000},    {15, 1025, 9},
    {130, 140, 2000}, {12, 100, 200}, {300, 4, 96},   {500, 530, 300}, {1000, 4, 1},
    {1000, 1, 4},     {777, 3, 6},    {2048, 9, 16},  {1, 4, 9000},    {4, 1, 9001},
    {3, 3, 777},      {16, 16, 130},  {65, 16, 1},    {3, 61, 3071},   {1, 48, 3000},
    {6, 24, 4099},    {2, 64, 2100},  {1, 77, 768},   {1032, 2, 4},    {2, 2, 4096},
    {2048, 4, 4},     {4, 4, 2048},   {600, 1, 2},
};
enum { NAMED = sizeof named / sizeof *named, CUT = 160, VARIANTS = 176, GROUPED = 8, BLOCKS = 144 };

/* Sizes of which a GPU cuts off what is no multiple of 8, where rows begin at such. */
static const struct {
    int m, n, k;
} cuts[] = {{40, 1021, 64}, {1021, 48, 33}, {24, 40, 1021},
            {519, 523, 16}, {9, 521, 523},  {515, 8, 517}};

/* Blocks side by side in rows (how block-diagonal maps call), or one behind the other. */
static void gemm_batch(parity_case *c, st_gemm_args *g)
{
    g->batch = 1 + parity_pick(c, 10, 6);
    if (g->m * g->n * g->k > 300000) g->batch = 2;
    int how = (int)parity_pick(c, 11, 4);
    if (how == 0) return;
    int64_t width = g->ta ? g->m : g->k;
    c->gaps = true;
    if (how == 1) { /* A and C side by side */
        g->lda = g->batch * width;
        g->step_a = width;
        g->ldc = g->batch * g->n;
        g->step_c = g->n;
    } else if (how == 2) {
        g->step_b = -1;
        g->ldb = (g->tb ? g->k : g->n) + parity_pick(c, 12, 5);
    } else {
        g->lda = width + 3;
        g->ldb = (g->tb ? g->k : g->n) + 1;
        g->ldc = g->n + 5;
        g->step_c = g->ldc * g->m + 7;
    }
}

static int64_t gemm_extent(int64_t rows, int64_t cols, int64_t ld, int64_t step, int64_t batch)
{
    if (ld == 0) ld = cols;
    if (step == 0) step = rows * ld;
    if (step < 0) step = 0;
    return rows && cols ? (batch - 1) * step + (rows - 1) * ld + cols : 1;
}

/* One bias for all rows, one that repeats by rows, one per batch item. */
static void gemm_bias(parity_case *c, st_gemm_args *g, int64_t batch)
{
    int how = (int)parity_pick(c, 13, 4);
    if (how & 1) g->bias_rows = 1 + parity_pick(c, 14, 9);
    int64_t n = g->n * (g->bias_rows ? g->bias_rows : 1);
    if (how & 2) g->step_bias = n + parity_pick(c, 15, 3);
    if (g->step_bias > n) c->gaps = true;
    parity_in(c, &g->bias, c->dtype, (batch - 1) * g->step_bias + n, 1);
}

/* Many rows with groups side by side, each with weights of its own: one launch on a GPU. */
static bool gemm_groups(parity_case *c, st_gemm_args *g)
{
    g->m = 1024 + parity_pick(c, 1, 200), g->batch = 2 + parity_pick(c, 2, 3);
    g->n = 8 * (1 + parity_pick(c, 3, 12)), g->k = 8 * (1 + parity_pick(c, 4, 12));
    g->tb = 1;
    g->lda = g->batch * g->k, g->step_a = g->k, g->ldc = g->batch * g->n, g->step_c = g->n;
    double tol = PARITY_EPS * (6 * (double)g->k + 8);
    parity_in(c, &g->a, c->dtype, g->m * g->lda, 1);
    parity_in(c, &g->b, c->dtype, g->batch * g->n * g->k, 1);
    parity_out(c, &g->c, c->dtype, g->m * g->ldc, tol);
    if (c->variant % 2 == 0) return true;
    g->step_bias = g->n;
    parity_in(c, &g->bias, c->dtype, g->batch * g->n, 1);
    return true;
}

/* B of a block format: rows one behind the other, or with room between; A and C side by side. */
static bool gemm_blocks(parity_case *c, st_gemm_args *g)
{
    static const int m[] = {1, 1, 2, 3, 5, 7, 8, 15, 17, 33, 40}, k[] = {32, 64, 96, 768, 3072};
    static const int n[] = {1, 3, 4, 9, 15, 16, 17, 31, 33, 50, 65, 127, 130};
    int at = c->variant - VARIANTS - GROUPED;
    int how = (int)parity_pick(c, 1, at % 6 < 3 ? 4 : 3);
    if (c->gpu || at >= BLOCKS) return false;
    g->m = m[parity_pick(c, 2, 11)], g->n = n[parity_pick(c, 3, 13)],
    g->k = k[parity_pick(c, 4, 5)];
    g->tb = 1;
    int64_t batch = g->batch = how ? 1 + parity_pick(c, 5, 4) : 1;
    c->gaps = how != 0;
    if (how == 1) {
        g->lda = batch * g->k, g->step_a = g->k;
        g->ldc = batch * g->n, g->step_c = g->n;
    } else if (how == 2) {
        g->step_b = -1, g->ldb = g->k + 32 * parity_pick(c, 6, 3);
    } else if (how == 3) {
        g->lda = g->ldb = g->k + 32, g->step_b = g->ldb * g->n + 64;
        g->ldc = g->n + 5, g->step_c = g->ldc * g->m + 7;
    }
    int64_t na = gemm_extent(g->m, g->k, g->lda, g->step_a, batch);
    int64_t nb = gemm_extent(g->n, g->k, g->ldb, g->step_b, batch);
    int64_t nc = gemm_extent(g->m, g->n, g->ldc, g->step_c, batch);
    st_dtype out = parity_pick(c, 7, 3) ? c->dtype : ST_F32;
    double tol = PARITY_EPS * (6 * (double)g->k + 8);
    /* many rows: weights may be rounded to bfloat16, each product by 2^-9 of it at most */
    if (g->m > 16 && c->dtype == ST_BF16) tol += 0x1p-9 * 5 * sqrt((double)g->k);
    g->beta = (float[]){0, 1, 0.5f}[parity_pick(c, 8, 3)];
    parity_in_grid(c, &g->a, c->dtype, na);
    int64_t ld = g->ldb ? g->ldb : g->k, rows = how == 2 ? g->n : nb / ld / batch;
    if (how == 2) nb = g->n * ld;
    parity_in_blocks(c, &g->b, (st_dtype)(ST_Q8_0 + at % 6), nb, rows, ld);
    if (g->beta != 0)
        parity_update(c, &g->c, out, nc, 1, tol);
    else
        parity_out(c, &g->c, out, nc, tol);
    if (parity_pick(c, 9, 2)) gemm_bias(c, g, batch);
    return true;
}

static int64_t gemm_eights(int64_t n)
{
    return (n + 7) / 8 * 8;
}

bool cases_gemm(parity_case *c)
{
    st_gemm_args *g = (void *)c->args;
    if (c->variant >= VARIANTS + GROUPED) return gemm_blocks(c, g);
    if (c->variant >= VARIANTS) return gemm_groups(c, g);
    int layout = (int)parity_pick(c, 0, 4);
    if (c->variant >= CUT) {
        int at = (c->variant - CUT) % (int)(sizeof cuts / sizeof *cuts);
        g->m = cuts[at].m, g->n = cuts[at].n, g->k = cuts[at].k;
    } else if (c->variant < NAMED) {
        g->m = named[c->variant].m, g->n = named[c->variant].n, g->k = named[c->variant].k;
    } else {
        g->m = parity_dim(c, 1, 257), g->n = parity_dim(c, 2, 257), g->k = parity_dim(c, 3, 257);
        while (g->m * g->n * g->k > 2000000)
            g->m = g->m / 2 + 1, g->n = g->n / 2 + 1;
    }
    g->ta = layout & 1, g->tb = layout >> 1;
    if (c->variant >= CUT) {
        g->lda = gemm_eights(g->ta ? g->m : g->k);
        g->ldb = gemm_eights(g->tb ? g->k : g->n);
        g->ldc = gemm_eights(g->n);
        c->gaps = true;
    } else if (parity_pick(c, 4, 2)) {
        gemm_batch(c, g);
    }
    g->beta = (float[]){0, 1, 0.5f}[parity_pick(c, 5, 3)];
    int64_t batch = g->batch ? g->batch : 1;
    int64_t na = gemm_extent(g->ta ? g->k : g->m, g->ta ? g->m : g->k, g->lda, g->step_a, batch);
    int64_t nb = gemm_extent(g->tb ? g->n : g->k, g->tb ? g->k : g->n, g->ldb, g->step_b, batch);
    int64_t nc = gemm_extent(g->m, g->n, g->ldc, g->step_c, batch);
    st_dtype out = parity_pick(c, 6, 3) ? c->dtype : ST_F32;
    /* k additions, each rounding a partial sum of about sqrt(k); some elements are 4 sigma out */
    double tol = PARITY_EPS * (6 * (double)g->k + 8);
    if (g->k == 0) c->gaps = true;
    /* a product, of up to 5 sqrt(k), that was rounded before the rest */
    if (c->gpu && out == ST_BF16) tol += 0x1p-9 * 5 * sqrt((double)g->k);
    parity_in(c, &g->a, c->dtype, na, 1);
    parity_in(c, &g->b, c->dtype, nb, 1);
    if (g->beta != 0)
        parity_update(c, &g->c, out, nc, 1, tol);
    else
        parity_out(c, &g->c, out, nc, tol);
    if (parity_pick(c, 7, 2))
        gemm_bias(c, g, batch);
    else
        g->bias_rows = parity_pick(c, 16, 4); /* means nothing without a bias */
    return true;
}

/* One to three runs of tiles, the last of which may reach beyond the columns. */
bool cases_tiles(parity_case *c)
{
    static const int64_t first[3] = {0, 3, 7}, count[3] = {2, 3, 1};
    static const int64_t side[] = {1, 2, 3, 8, 15, 16, 32, 33, 64};
    st_tiles_args *a = (void *)c->args;
    if (c->variant >= 36) return false;
    a->block = side[c->variant % 9];
    a->rows = 1 + parity_pick(c, 1, 5);
    a->tile_rows = 1 + parity_pick(c, 2, 4);
    a->runs = 1 + parity_pick(c, 3, 3);
    a->first = first;
    a->count = count;
    a->wide = 0;
    for (int64_t u = 0; u < a->runs; u++)
        a->wide += count[u];
    a->cols = (first[a->runs - 1] + count[a->runs - 1]) * a->block - parity_pick(c, 4, a->block);
    a->outs = a->tile_rows * a->block - parity_pick(c, 5, a->block);
    a->ldy = a->outs + parity_pick(c, 6, 2) * 5;
    c->gaps = a->ldy != a->outs;
    parity_in(c, &a->x, c->dtype, a->rows * a->cols, 1);
    parity_in(c, &a->tiles, c->dtype, a->tile_rows * a->wide * a->block * a->block, 1);
    if (parity_pick(c, 7, 2)) parity_in(c, &a->bias, c->dtype, a->outs, 1);
    double n = (double)(a->wide * a->block);
    parity_out(c, &a->y, c->dtype, (a->rows - 1) * a->ldy + a->outs,
               PARITY_EPS * (8 + 16 * sqrt(n)));
    return true;
}
