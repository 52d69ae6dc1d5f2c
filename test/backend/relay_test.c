/* A run of steps on one row that is recorded, as decoding records its own, gives what ref gives
 * when it is played: products with what stands before and behind them, attention at positions that
 * one block and several share the keys of, rows that do not share out evenly among blocks. Played
 * again and again, as results of one time must not be taken for those of the next. */
/* SPDX-License-Identifier: MIT */
#include "backend/backend.h"
#include "testing.h"
#include <math.h>
#include <string.h>

enum { ROOM = 1 << 25, KEYS = 1700 };

typedef struct {
    int64_t width, heads, shared, dim, inner, window;
    bool fold;
} relay_shape;

/* One device with the operands of a block and a head, in a pool that both lay out alike. */
typedef struct {
    st_stream *q;
    st_arena mem;
    st_tensor x, gain, shift, normed, mean, rstd, folded, qkv, att, x2, fc, y, logits, k, v, at;
    st_tensor w[5], bias[5];
} relay_side;

static void relay_fill(relay_side *s, st_tensor t, uint64_t seed, float std)
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

static void relay_lay(relay_side *s, const relay_shape *c)
{
    int64_t few = c->shared * c->dim, row = c->heads * c->dim,
            in = c->fold ? c->width / 4 : c->width;
    int64_t outs[] = {row + 2 * few, c->width, c->inner, c->width, 101};
    int64_t ins[] = {in, row, c->width, c->inner, c->width};
    st_arena *mem = &s->mem;
    mem->used = 0;
    st_tensor *rows[] = {&s->x,   &s->gain, &s->shift, &s->normed, &s->folded, &s->qkv,
                         &s->att, &s->x2,   &s->fc,    &s->y,      &s->k,      &s->v};
    int64_t size[] = {c->width, c->width, c->width, c->width, in,         row + 2 * few,
                      row,      c->width, c->inner, c->width, KEYS * few, KEYS * few};
    for (int i = 0; i < 12; i++) {
        *rows[i] = st_take1(mem, ST_BF16, size[i]);
        relay_fill(s, *rows[i], (uint64_t)i + 1, 1.0f);
    }
    for (int i = 0; i < 5; i++) {
        s->w[i] = st_take2(mem, ST_BF16, outs[i], ins[i]);
        s->bias[i] = st_take1(mem, ST_BF16, outs[i]);
        relay_fill(s, s->w[i], (uint64_t)i + 20, 1 / sqrtf((float)ins[i]));
        relay_fill(s, s->bias[i], (uint64_t)i + 30, 0.5f);
    }
    s->mean = st_take1(mem, ST_F32, 1), s->rstd = st_take1(mem, ST_F32, 1);
    s->logits = st_take1(mem, ST_F32, 101), s->at = st_take1(mem, ST_I32, 1);
}

static void relay_norm(relay_side *s, st_tensor x, st_tensor y)
{
    st_norm_fwd_args a = {.rows = 1, .width = st_numel(s->gain), .x = x, .y = y, .eps = 1e-5f};
    a.gain = s->gain, a.bias = s->shift, a.mean = s->mean, a.rstd = s->rstd;
    st_stream_ops(s->q)->norm_fwd(s->q, &a);
}

static void relay_gemm(relay_side *s, int i, st_tensor x, st_tensor y)
{
    st_gemm_args g = {.m = 1, .n = s->w[i].dim[0], .k = s->w[i].dim[1], .tb = 1, .a = x, .c = y};
    g.b = s->w[i], g.bias = s->bias[i];
    st_stream_ops(s->q)->gemm(s->q, &g);
}

/* What GPT-2's block and head queue for a token. */
static void relay_run(relay_side *s, const relay_shape *c)
{
    const st_ops *op = st_stream_ops(s->q);
    int64_t few = c->shared * c->dim, row = c->heads * c->dim;
    relay_norm(s, s->x, s->normed);
    if (c->fold)
        op->fold_fwd(s->q, &(st_fold_fwd_args){.rows = 1,
                                               .cols = c->width,
                                               .block = 32,
                                               .factor = 4,
                                               .supers = c->width / 128,
                                               .folds = 1,
                                               .vec = 8,
                                               .r0 = 45007,
                                               .x = s->normed,
                                               .z = s->folded});
    relay_gemm(s, 0, c->fold ? s->folded : s->normed, s->qkv);
    st_attend_next_args a = {.scale = 1 / sqrtf((float)c->dim), .window = c->window, .at = s->at};
    a.h = (st_heads){.batch = 1,
                     .heads = c->heads,
                     .kv_heads = c->shared,
                     .head_dim = c->dim,
                     .q_len = 1,
                     .kv_len = KEYS};
    a.h.q.x = s->qkv, a.h.k.x = s->k, a.h.v.x = s->v, a.h.o.x = s->att;
    a.k.x = st_slice(s->qkv, row, few), a.v.x = st_slice(s->qkv, row + few, few);
    op->attend_next(s->q, &a);
    relay_gemm(s, 1, s->att, s->x2);
    op->residual_fwd(s->q, &(st_residual_fwd_args){.a = s->x, .b = s->x2, .y = s->x2});
    relay_norm(s, s->x2, s->normed);
    op->gelu_linear(s->q, &(st_gelu_linear_args){.rows = 1,
                                                 .n = c->inner,
                                                 .k = c->width,
                                                 .x = s->normed,
                                                 .w = s->w[2],
                                                 .bias = s->bias[2],
                                                 .h = s->fc,
                                                 .y = s->fc,
                                                 .kind = ST_GELU_TANH});
    relay_gemm(s, 3, s->fc, s->y);
    op->residual_fwd(s->q, &(st_residual_fwd_args){.a = s->x2, .b = s->y, .y = s->y});
    relay_norm(s, s->y, s->normed);
    relay_gemm(s, 4, s->normed, s->logits);
}

static void relay_same(relay_side *a, relay_side *b, st_tensor x, st_tensor y, double tol)
{
    int64_t n = st_numel(x);
    float *one = test_malloc((size_t)n * sizeof *one), *two = test_malloc((size_t)n * sizeof *two);
    void *as = test_malloc(st_bytes(x));
    st_download(a->q, as, x);
    st_convert(one, ST_F32, as, x.dtype, n);
    st_download(b->q, as, y);
    st_convert(two, ST_F32, as, y.dtype, n);
    for (int64_t i = 0; i < n; i++) {
        double far = fabs((double)one[i] - (double)two[i]);
        if (!(far <= tol * (1 + fabs((double)one[i]))))
            fail_msg("number %ld: %g on ref, %g on cuda", (long)i, (double)one[i], (double)two[i]);
    }
    test_free(one);
    test_free(two);
    test_free(as);
}

static void relay_case(relay_side *ref, relay_side *gpu, const relay_shape *c)
{
    static const int32_t at[] = {0, 3, 70, 191, 192, 400, 1023, KEYS - 1};
    st_err e;
    relay_lay(ref, c);
    relay_lay(gpu, c);
    st_upload(gpu->q, gpu->at, at);
    assert_true(st_stream_record(gpu->q));
    relay_run(gpu, c);
    st_recording *recording = st_stream_recorded(gpu->q);
    assert_non_null(recording);
    for (int i = 0; i < 8; i++) {
        relay_fill(ref, ref->x, (uint64_t)i + 50, 1.0f);
        relay_fill(gpu, gpu->x, (uint64_t)i + 50, 1.0f);
        st_upload(ref->q, ref->at, at + i);
        st_upload(gpu->q, gpu->at, at + i);
        relay_run(ref, c);
        st_stream_play(gpu->q, recording);
        assert_int_equal(st_stream_sync(gpu->q, &e), ST_OK);
        st_tensor *one[] = {&ref->qkv, &ref->att, &ref->x2,     &ref->fc,    &ref->y,
                            &ref->k,   &ref->v,   &ref->logits, &ref->normed};
        st_tensor *two[] = {&gpu->qkv, &gpu->att, &gpu->x2,     &gpu->fc,    &gpu->y,
                            &gpu->k,   &gpu->v,   &gpu->logits, &gpu->normed};
        for (int j = 0; j < 9; j++)
            relay_same(ref, gpu, *one[j], *two[j], 0.06);
    }
    st_recording_close(gpu->q, recording);
}

static void runs(void **state)
{
    static const relay_shape shape[] = {
        {768, 12, 12, 64, 3072, 0, false},  {768, 12, 12, 64, 3072, 0, true},
        {256, 4, 2, 64, 520, 0, true},      {96, 3, 3, 24, 200, 0, false},
        {640, 5, 1, 128, 1000, 300, false}, {1600, 25, 25, 64, 6400, 0, false},
        {264, 2, 2, 256, 88, 0, false},
    };
    relay_side ref = {0}, gpu = {0};
    st_err e;
    (void)state;
    if (st_stream_open(&gpu.q, "cuda", 0, NULL)) skip();
    assert_int_equal(st_stream_open(&ref.q, "ref", 0, &e), ST_OK);
    assert_int_equal(st_device_arena(ref.q, 3 * (size_t)ROOM, &ref.mem, &e), ST_OK);
    assert_int_equal(st_device_arena(gpu.q, 3 * (size_t)ROOM, &gpu.mem, &e), ST_OK);
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        relay_case(&ref, &gpu, &shape[i]);
    st_device_arena_close(ref.q, &ref.mem);
    st_device_arena_close(gpu.q, &gpu.mem);
    st_stream_close(ref.q);
    st_stream_close(gpu.q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
