/* Steps on few rows as decoding queues them, norm, fold, product, residual, one after another on
 * the GPU, where they may become one launch, against ref: same results, also of what stands in
 * between, in chains of all kinds, with operands that lie in each other's memory. */
/* SPDX-License-Identifier: MIT */
#include "backend/backend.h"
#include "testing.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 25 };

/* One device with its operands, in a pool that both lay out alike. */
typedef struct {
    st_stream *q;
    st_arena mem;
    st_tensor x, gain, shift, normed, mean, rstd, folded, w, bias, y, add;
} chain_side;

typedef struct {
    st_dtype t;
    int64_t rows, width, n, factor, groups;
    bool norm, fold, residual, gelu, wide, onto; /* onto: the sum goes to x's memory */
} chain_shape;

static void chain_fill(chain_side *s, st_tensor t, uint64_t seed, float std)
{
    int64_t n = st_numel(t);
    float *f = test_malloc((size_t)n * sizeof *f);
    void *as = test_malloc(st_bytes(t));
    st_normal_fill(f, n, 0, std, seed, 0);
    st_convert(as, t.dtype, f, ST_F32, n);
    st_upload(s->q, t, as);
    test_free(f);
    test_free(as);
}

static void chain_lay(chain_side *s, const chain_shape *c)
{
    int64_t inner = c->fold ? c->width / c->factor : c->width, k = inner / c->groups;
    st_dtype out = c->wide ? ST_F32 : c->t;
    s->mem.used = 0;
    s->x = st_take2(&s->mem, c->t, c->rows, c->width);
    s->gain = st_take1(&s->mem, c->t, c->width);
    s->shift = st_take1(&s->mem, c->t, c->width);
    s->normed = st_take2(&s->mem, c->t, c->rows, c->width);
    s->mean = st_take1(&s->mem, ST_F32, c->rows);
    s->rstd = st_take1(&s->mem, ST_F32, c->rows);
    s->folded = st_take2(&s->mem, c->t, c->rows, inner);
    s->w = st_take2(&s->mem, c->t, c->groups * c->n, k);
    s->bias = st_take1(&s->mem, c->t, c->groups * c->n);
    s->y = st_take2(&s->mem, out, c->rows, c->groups * c->n);
    s->add = c->onto ? s->x : st_take2(&s->mem, out, c->rows, c->groups * c->n);
    st_tensor all[] = {s->x, s->gain, s->shift, s->normed, s->folded, s->w, s->bias, s->y, s->add};
    for (int i = 0; i < 9; i++) {
        if (i == 8 && c->onto) break;
        chain_fill(s, all[i], (uint64_t)i + 1, i == 5 ? 1 / sqrtf((float)k) : 1.0f);
    }
}

static void chain_run(chain_side *s, const chain_shape *c)
{
    const st_ops *op = st_stream_ops(s->q);
    int64_t inner = c->fold ? c->width / c->factor : c->width, k = inner / c->groups;
    st_tensor at = s->x;
    if (c->norm) {
        op->norm_fwd(s->q, &(st_norm_fwd_args){.rows = c->rows,
                                               .width = c->width,
                                               .x = at,
                                               .y = s->normed,
                                               .gain = s->gain,
                                               .bias = s->shift,
                                               .mean = s->mean,
                                               .rstd = s->rstd,
                                               .eps = 1e-5f});
        at = s->normed;
    }
    if (c->fold) {
        op->fold_fwd(s->q, &(st_fold_fwd_args){.rows = c->rows,
                                               .cols = c->width,
                                               .block = 32,
                                               .factor = c->factor,
                                               .supers = inner / 32,
                                               .folds = 1,
                                               .vec = 8,
                                               .r0 = 45007,
                                               .x = at,
                                               .z = s->folded});
        at = s->folded;
    }
    if (c->gelu) {
        op->gelu_linear(s->q, &(st_gelu_linear_args){.rows = c->rows,
                                                     .n = c->n,
                                                     .k = k,
                                                     .x = at,
                                                     .w = s->w,
                                                     .bias = s->bias,
                                                     .h = s->add,
                                                     .y = s->y,
                                                     .kind = ST_GELU_TANH,
                                                     .keep = 1});
        return;
    }
    op->gemm(s->q, &(st_gemm_args){.m = c->rows,
                                   .n = c->n,
                                   .k = k,
                                   .batch = c->groups,
                                   .lda = inner,
                                   .ldc = c->groups * c->n,
                                   .step_a = k,
                                   .step_c = c->n,
                                   .step_bias = c->n,
                                   .a = at,
                                   .b = s->w,
                                   .tb = 1,
                                   .c = s->y,
                                   .bias = s->bias});
    if (c->residual)
        op->residual_fwd(
            s->q, &(st_residual_fwd_args){.a = s->add, .b = s->y, .y = c->onto ? s->x : s->y});
}

static float *chain_numbers(chain_side *s, st_tensor t)
{
    int64_t n = st_numel(t);
    void *as = test_malloc(st_bytes(t));
    float *f = test_malloc((size_t)n * sizeof *f);
    st_download(s->q, as, t);
    st_convert(f, ST_F32, as, t.dtype, n);
    test_free(as);
    return f;
}

static void chain_same(chain_side *a, chain_side *b, st_tensor x, st_tensor y, double tol)
{
    float *one = chain_numbers(a, x), *two = chain_numbers(b, y);
    for (int64_t i = 0; i < st_numel(x); i++) {
        double far = fabs((double)one[i] - (double)two[i]);
        if (far > tol * (1 + fabs((double)one[i])))
            fail_msg("number %ld: %g on ref, %g on cuda", (long)i, (double)one[i], (double)two[i]);
    }
    test_free(one);
    test_free(two);
}

static void chain_case(chain_side *ref, chain_side *gpu, const chain_shape *c)
{
    chain_side *side[] = {ref, gpu};
    st_err e;
    for (int i = 0; i < 2; i++) {
        chain_lay(side[i], c);
        chain_run(side[i], c);
        assert_int_equal(st_stream_sync(side[i]->q, &e), ST_OK);
    }
    double tol = c->t == ST_BF16 ? 0.03 : 2e-5;
    chain_same(ref, gpu, ref->x, gpu->x, c->onto ? tol : 0);
    if (c->norm) chain_same(ref, gpu, ref->normed, gpu->normed, c->t == ST_BF16 ? 0.01 : 1e-5);
    if (c->norm) chain_same(ref, gpu, ref->mean, gpu->mean, 1e-5);
    if (c->norm) chain_same(ref, gpu, ref->rstd, gpu->rstd, 1e-5);
    if (c->fold) chain_same(ref, gpu, ref->folded, gpu->folded, tol);
    chain_same(ref, gpu, ref->y, gpu->y, tol);
    chain_same(ref, gpu, ref->add, gpu->add, c->onto || c->gelu ? tol : 0);
}

static void chains(void **state)
{
    chain_side ref = {0}, gpu = {0};
    st_err e;
    (void)state;
    if (st_stream_open(&gpu.q, "cuda", 0, NULL)) skip();
    assert_int_equal(st_stream_open(&ref.q, "ref", 0, &e), ST_OK);
    assert_int_equal(st_device_arena(ref.q, ROOM, &ref.mem, &e), ST_OK);
    assert_int_equal(st_device_arena(gpu.q, ROOM, &gpu.mem, &e), ST_OK);
    static const int64_t width[] = {256, 768, 1024, 96}, n[] = {7, 768, 96, 130};
    for (int i = 0; i < 192; i++) {
        chain_shape c = {.t = i % 2 ? ST_BF16 : ST_F32,
                         .rows = 1 + i / 2 % 5,
                         .width = width[i % 4],
                         .n = n[i / 4 % 4],
                         .factor = 4,
                         .groups = 1};
        c.norm = i / 3 % 2, c.fold = i % 3 == 0 && c.width % 128 == 0, c.residual = i / 2 % 2;
        c.wide = i % 16 == 3;
        if (i % 5 == 0) c.groups = 2, c.residual = false;
        if (i % 7 == 0) c.gelu = true, c.groups = 1, c.wide = false;
        c.onto = c.residual && !c.gelu && !c.wide && c.n == c.width && c.groups == 1;
        chain_case(&ref, &gpu, &c);
    }
    st_device_arena_close(ref.q, &ref.mem);
    st_device_arena_close(gpu.q, &gpu.mem);
    st_stream_close(ref.q);
    st_stream_close(gpu.q);
}

/* ---- two operations on many rows ------------------------------------------------------------- */

typedef struct {
    st_tensor x, dy, dx, mean, rstd, gain, sums[3], w, bias, c, add;
} pair_side;

static void pair_lay(chain_side *s, pair_side *p, st_dtype t, int64_t rows, int64_t width,
                     int64_t k)
{
    s->mem.used = 0;
    p->x = st_take2(&s->mem, t, rows, width);
    p->dy = st_take2(&s->mem, t, rows, width);
    p->dx = st_take2(&s->mem, t, rows, width);
    p->gain = st_take1(&s->mem, t, width);
    p->mean = st_take1(&s->mem, ST_F32, rows);
    p->rstd = st_take1(&s->mem, ST_F32, rows);
    for (int i = 0; i < 3; i++)
        p->sums[i] = st_take1(&s->mem, ST_F32, width);
    p->w = st_take2(&s->mem, t, width, k);
    p->bias = st_take1(&s->mem, t, width);
    p->c = st_take2(&s->mem, t, rows, width);
    p->add = st_take2(&s->mem, t, rows, k);
    st_tensor all[] = {p->x,       p->dy,      p->dx, p->gain, p->mean, p->rstd, p->sums[0],
                       p->sums[1], p->sums[2], p->w,  p->bias, p->c,    p->add};
    for (int i = 0; i < 13; i++)
        chain_fill(s, all[i], (uint64_t)i + 1, i == 9 ? 1 / sqrtf((float)k) : 1.0f);
}

static void pair_run(chain_side *s, const pair_side *p, bool add)
{
    const st_ops *op = st_stream_ops(s->q);
    int64_t rows = p->x.dim[0], width = p->x.dim[1];
    st_bias_grad_args sum = {.rows = rows, .width = width, .dy = p->dx, .dbias = p->sums[2]};
    st_norm_bwd_args norm = {.rows = rows,
                             .width = width,
                             .x = p->x,
                             .gain = p->gain,
                             .mean = p->mean,
                             .rstd = p->rstd,
                             .dy = p->dy,
                             .dx = p->dx,
                             .dgain = p->sums[0],
                             .dbias = p->sums[1],
                             .accumulate = add};
    op->norm_bwd(s->q, &norm);
    op->bias_grad(s->q, &sum);
    op->gelu_bwd(s->q, &(st_gelu_bwd_args){.x = p->x, .dy = p->dx, .dx = p->dx});
    op->bias_grad(s->q, &sum);
    op->gemm(s->q, &(st_gemm_args){.m = rows,
                                   .n = width,
                                   .k = p->w.dim[1],
                                   .tb = 1,
                                   .a = p->add,
                                   .b = p->w,
                                   .c = p->c,
                                   .bias = add ? p->bias : (st_tensor){0}});
    op->residual_fwd(s->q, &(st_residual_fwd_args){.a = p->dx, .b = p->c, .y = p->c});
    /* not pairs: sums of something else, and of a product that is read before */
    op->gelu_bwd(s->q, &(st_gelu_bwd_args){.x = p->x, .dy = p->dy, .dx = p->dy});
    sum.dy = p->dx;
    op->bias_grad(s->q, &sum);
}

static void pairs(void **state)
{
    chain_side ref = {0}, gpu = {0};
    pair_side a, b;
    st_err e;
    (void)state;
    if (st_stream_open(&gpu.q, "cuda", 0, NULL)) skip();
    assert_int_equal(st_stream_open(&ref.q, "ref", 0, &e), ST_OK);
    assert_int_equal(st_device_arena(ref.q, ROOM, &ref.mem, &e), ST_OK);
    assert_int_equal(st_device_arena(gpu.q, ROOM, &gpu.mem, &e), ST_OK);
    static const int64_t rows[] = {64, 131, 700}, width[] = {256, 768, 1024, 65, 1288};
    for (int i = 0; i < 30; i++) {
        st_dtype t = i % 2 ? ST_BF16 : ST_F32;
        pair_lay(&ref, &a, t, rows[i % 3], width[i % 5], 192);
        pair_lay(&gpu, &b, t, rows[i % 3], width[i % 5], 192);
        pair_run(&ref, &a, i % 4 < 2);
        pair_run(&gpu, &b, i % 4 < 2);
        assert_int_equal(st_stream_sync(gpu.q, &e), ST_OK);
        double tol = t == ST_BF16 ? 0.03 : 1e-4, sums = tol * sqrt((double)rows[i % 3]);
        chain_same(&ref, &gpu, a.dx, b.dx, tol);
        chain_same(&ref, &gpu, a.dy, b.dy, tol);
        chain_same(&ref, &gpu, a.c, b.c, tol);
        for (int j = 0; j < 3; j++)
            chain_same(&ref, &gpu, a.sums[j], b.sums[j], sums);
    }
    st_device_arena_close(ref.q, &ref.mem);
    st_device_arena_close(gpu.q, &gpu.mem);
    st_stream_close(ref.q);
    st_stream_close(gpu.q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chains), cmocka_unit_test(pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
