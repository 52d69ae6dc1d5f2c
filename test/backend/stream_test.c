/* Streams: opening, failures that wait for sync, dry runs, device memory, NaN. */
/* SPDX-License-Identifier: MIT */
#include "backend/backend.h"
#include "tensor/tensor.h"
#include "testing.h"
#include <math.h>

static void unknown_devices_are_refused(void **state)
{
    (void)state;
    st_stream *q;
    st_err e;
    assert_st(st_stream_open(&q, "gpu", 0, &e), ST_EARG, &e);
    assert_says(&e, "'gpu' is not one of auto, cuda, cpu, ref");
    assert_st(st_stream_open(&q, "cpu:1", 0, &e), ST_EARG, &e); /* there is one */
    assert_st(st_stream_open(&q, "cuda:-1", 0, &e), ST_EARG, &e);
    assert_st(st_device_check("cuda:one", &e), ST_EARG, &e);
    assert_ok(st_device_check("cuda:1", &e), &e);
    assert_st(st_stream_open(&q, "cpu", -1, &e), ST_EARG, &e);
    assert_null(q);
    st_stream_close(NULL);
}

static void failures_wait_for_sync(void **state)
{
    const char *device = *state;
    st_stream *q;
    st_err e;
    float table[4] = {1, 2, 3, 4}, y[4] = {0};
    int32_t ids[2] = {0, 2};
    assert_ok(st_stream_open(&q, device, 1, &e), &e);
    const st_ops *op = st_stream_ops(q);
    st_stream_tag(q, "wte");
    st_embed_fwd_args a = {.rows = 2,
                           .width = 2,
                           .len = 2,
                           .ids = st_view1(ids, ST_I32, 2),
                           .table = st_view1(table, ST_F32, 4),
                           .y = st_view1(y, ST_F32, 4)};
    op->embed_fwd(q, &a);
    op->fill(q, &(st_fill_args){.x = a.y, .value = 9}); /* skipped */
    assert_true(y[0] == 0);
    assert_st(st_stream_sync(q, &e), ST_EARG, &e);
    assert_says(&e, "wte: embed: a token id");
    assert_ok(st_stream_sync(q, &e), &e); /* told once */
    op->fill(q, &(st_fill_args){.x = a.y, .value = 9});
    assert_true(y[0] == 9);
    ids[1] = -1; /* as bad as too large */
    op->embed_fwd(q, &a);
    assert_st(st_stream_sync(q, &e), ST_EARG, &e);
    int32_t target = 4;
    op->xent(q, &(st_xent_args){
                    .rows = 1, .width = 4, .logits = a.y, .targets = st_view1(&target, ST_I32, 1)});
    assert_st(st_stream_sync(q, &e), ST_EARG, &e);
    st_stream_close(q);
}

static void dry_runs_cost_and_touch_nothing(void **state)
{
    (void)state;
    st_stream *q, *dry;
    st_arena arena = {0};
    st_err e;
    assert_ok(st_stream_open(&q, "cpu", 2, &e), &e);
    assert_ok(st_stream_dry(&dry, q, &e), &e);
    assert_ok(st_device_arena(dry, 0, &arena, &e), &e);
    st_tensor a = st_take2(&arena, ST_BF16, 5, 7), b = st_take2(&arena, ST_BF16, 3, 7);
    st_tensor c = st_take2(&arena, ST_F32, 5, 3);
    st_stream_ops(dry)->gemm(
        dry, &(st_gemm_args){.m = 5, .n = 3, .k = 7, .tb = 1, .a = a, .b = b, .c = c, .beta = 1});
    st_cost cost = st_stream_cost(dry);
    assert_int_equal(cost.macs, 5 * 3 * 7);
    assert_int_equal(cost.bytes, 2 * (35 + 21) + 4 * 15 * 2);
    assert_int_equal(cost.launches, 1);
    /* causal, 4 queries after 2 cached keys see 3 + 4 + 5 + 6 keys, twice, in each of 3 heads */
    st_attend_fwd_args t = {.h = {.batch = 1,
                                  .heads = 3,
                                  .head_dim = 8,
                                  .q_len = 4,
                                  .kv_len = 6,
                                  .q = {.x = a},
                                  .k = {.x = a},
                                  .v = {.x = a},
                                  .o = {.x = a}},
                            .q_start = 2,
                            .causal = 1};
    st_stream_ops(dry)->attend_fwd(dry, &t);
    assert_int_equal(st_stream_cost(dry).macs - cost.macs, 2 * 3 * 18 * 8);
    assert_string_equal(st_stream_device(dry), "cpu");
    st_device_arena_close(dry, &arena);
    st_stream_close(dry);
    st_stream_close(q);
}

static void memory_goes_there_and_back(void **state)
{
    st_stream *q;
    st_arena arena = {0};
    st_err e;
    assert_ok(st_stream_open(&q, *state, 1, &e), &e);
    assert_ok(st_device_arena(q, 1 << 12, &arena, &e), &e);
    const float x[] = {1, 2, 3};
    float y[3] = {0};
    st_tensor t = st_take1(&arena, ST_F32, 3);
    st_upload(q, t, x);
    st_download(q, y, t);
    assert_memory_equal(x, y, sizeof x);
    st_device_arena_close(q, &arena);
    st_stream_close(q);
}

/* NaN must come out of what it goes into, or a broken run would train on. */
static void nan_is_passed_on(void **state)
{
    st_stream *q;
    st_err e;
    assert_ok(st_stream_open(&q, *state, 1, &e), &e);
    const st_ops *op = st_stream_ops(q);
    float x[40], loss[1], sum[1] = {0};
    int32_t target = 3;
    for (int kind = 0; kind < 2; kind++) {
        for (int i = 0; i < 40; i++)
            x[i] = i == 17 ? NAN : 1;
        st_tensor t = st_view1(x, ST_F32, 40);
        op->gelu_fwd(q, &(st_gelu_fwd_args){.x = t, .y = t, .kind = (st_gelu_kind)kind});
        assert_true(isnan(x[17]) && !isnan(x[16]));
        op->xent(q, &(st_xent_args){.rows = 1,
                                    .width = 40,
                                    .logits = t,
                                    .loss = st_view1(loss, ST_F32, 1),
                                    .targets = st_view1(&target, ST_I32, 1)});
        assert_true(isnan(loss[0]));
    }
    op->sumsq(q, &(st_sumsq_args){.x = st_view1(x, ST_F32, 40), .out = st_view1(sum, ST_F32, 1)});
    assert_true(isnan(sum[0]));
    st_stream_close(q);
}

static char ref[] = "ref", cpu[] = "cpu";

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_devices_are_refused),
        cmocka_unit_test_prestate(failures_wait_for_sync, ref),
        cmocka_unit_test_prestate(failures_wait_for_sync, cpu),
        cmocka_unit_test(dry_runs_cost_and_touch_nothing),
        cmocka_unit_test_prestate(memory_goes_there_and_back, ref),
        cmocka_unit_test_prestate(memory_goes_there_and_back, cpu),
        cmocka_unit_test_prestate(nan_is_passed_on, ref),
        cmocka_unit_test_prestate(nan_is_passed_on, cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
