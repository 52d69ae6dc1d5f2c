/* C = beta C + op(A) op(B) + bias. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"

/* sum_x a[a0 + x] B[j][x], B in blocks from number b0 on. */
static double gemm_dot_blocks(const st_gemm_args *g, int64_t a0, int64_t b0, int64_t ldb, int64_t j)
{
    const char *b = (const char *)g->b.data + st_dtype_bytes(g->b.dtype, b0);
    double sum = 0;
    for (int64_t x = 0; x < g->k; x += 32) {
        float w[32];
        st_blocks_read(b, g->b.dtype, g->n, ldb, j, x, 32, w);
        for (int i = 0; i < 32; i++)
            sum += (double)ref_load(&g->a, a0 + x + i) * (double)w[i];
    }
    return sum;
}

void st_ref_gemm(st_stream *q, const st_gemm_args *g)
{
    (void)q;
    st_gemm_layout l = st_gemm_resolve(g);
    int64_t period = st_or(g->bias_rows, 1);
    for (int64_t b = 0; b < l.batch; b++) {
        for (int64_t i = 0; i < g->m; i++) {
            for (int64_t j = 0; j < g->n; j++) {
                int64_t at = b * l.step_c + i * l.ldc + j;
                int64_t a0 = b * l.step_a + (g->ta ? i : i * l.lda), da = g->ta ? l.lda : 1;
                int64_t b0 = b * l.step_b + (g->tb ? j * l.ldb : j), db = g->tb ? 1 : l.ldb;
                int64_t at_bias = b * g->step_bias + i % period * g->n + j;
                double sum = g->bias.data ? (double)ref_load(&g->bias, at_bias) : 0.0;
                if (g->beta != 0) sum += (double)g->beta * (double)ref_load(&g->c, at);
                ref_vector x = {&g->a, a0, da}, y = {&g->b, b0, db};
                if (st_dtype_blocks(g->b.dtype))
                    sum += gemm_dot_blocks(g, a0, b * l.step_b, l.ldb, j);
                else
                    sum = st_ref_products(sum, x, y, g->k);
                ref_store(&g->c, at, sum);
            }
        }
    }
}

void st_ref_tiles(st_stream *q, const st_tiles_args *a)
{
    (void)q;
    for (int64_t at = 0; at < a->rows * a->outs; at++) {
        int64_t r = at / a->outs, y = at % a->outs, i = y / a->block, o = y % a->block, c = 0;
        double sum = a->bias.data ? (double)ref_load(&a->bias, y) : 0.0;
        for (int64_t u = 0; u < a->runs; u++) {
            for (int64_t t = a->first[u]; t < a->first[u] + a->count[u]; t++, c++) {
                int64_t tile = ((i * a->wide + c) * a->block + o) * a->block;
                int64_t first = t * a->block, n = a->cols - first;
                sum = st_ref_products(sum, ref_row(&a->tiles, tile),
                                      ref_row(&a->x, r * a->cols + first),
                                      n < a->block ? n : a->block);
            }
        }
        ref_store(&a->y, r * a->ldy + y, sum);
    }
}
