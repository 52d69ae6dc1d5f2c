/* Ways to attend: texts and checks, and each against its matrix of weights, written out in double
 * precision, on ref and cpu. */
/* SPDX-License-Identifier: MIT */
#include "attend_rig.h"

static const char *const devices[] = {"ref", "cpu"};
enum { DEVICES = 2 };

static void texts_come_back(void **state)
{
    (void)state;
    st_err e;
    st_attention m;
    char text[ST_SPEC_TEXT];
    for (int i = 0; st_attention_types[i]; i++) {
        const st_attention_type *t = st_attention_types[i];
        assert_ok(st_attention_parse(&m, t->name, &e), &e);
        assert_ptr_equal(m.type, t);
        st_attention_print(&m, text);
        st_attention again;
        assert_ok(st_attention_parse(&again, text, &e), &e);
        assert_memory_equal(&m.knob, &again.knob, sizeof m.knob);
        assert_true(t->summary && t->equation && t->source);
    }
    assert_ok(st_attention_parse(&m, "local:window=98", &e), &e);
    assert_int_equal(m.knob[0], 98);
    st_attention_print(&m, text);
    assert_string_equal(text, "local:window=98");
    st_attention_print(&(st_attention){0}, text);
    assert_string_equal(text, "full");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    st_err e;
    st_attention m;
    assert_st(st_attention_parse(&m, "locla", &e), ST_EARG, &e);
    assert_says(&e, "did you mean \"local\"?");
    assert_st(st_attention_parse(&m, "local:widnow=3", &e), ST_EARG, &e);
    assert_says(&e, "did you mean \"window\"?");
    assert_st(st_attention_parse(&m, "local:window=x", &e), ST_EARG, &e);
    assert_says(&e, "whole number");
    assert_st(st_attention_parse(&m, "", &e), ST_EARG, &e);
    st_attention_shape s = {.head_dim = 4, .q_len = 9, .kv_len = 9};
    assert_ok(st_attention_parse(&m, "local:window=-1", &e), &e);
    assert_st(st_attention_check(&m, &s, &e), ST_ESHAPE, &e);
    assert_says(&e, "window=-1");
}

/* The published experiments' numbers for T2T-ViT are what the knobs choose for its lengths. */
static void presets_follow_the_length(void **state)
{
    (void)state;
    st_err e;
    st_attention m;
    st_attention_shape s = {.head_dim = 64};
    static const struct {
        const char *name;
        int64_t first[2], second[2];
    } want[] = {{"local", {98}, {24}},
                {"performer", {49}, {12}},
                {"sblocal", {49, 24}, {12, 6}},
                {"smyrf", {2, 49}, {2, 12}},
                {"reformer", {2, 49}, {2, 12}}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        for (int stage = 0; stage < 2; stage++) {
            const int64_t *knob = stage ? want[i].second : want[i].first;
            s.q_len = s.kv_len = stage ? 784 : 3136;
            assert_ok(st_attention_parse(&m, want[i].name, &e), &e);
            assert_ok(st_attention_check(&m, &s, &e), &e);
            assert_int_equal(m.knob[0], knob[0]);
            if (knob[1]) assert_int_equal(m.knob[1], knob[1]);
        }
    }
}

/* ctx: the window, 0 for all. */
static double weight_local(const attend_rig *r, void *ctx, int64_t i, int64_t h, int64_t t,
                           int64_t j)
{
    int64_t w = *(const int64_t *)ctx;
    int64_t lo = r->causal ? t - w + 1 : t - w / 2, hi = t + (w + 1) / 2;
    if (w && (j < lo || (!r->causal && j >= hi))) return (double)-INFINITY;
    return (double)r->scale * rig_dot(r, i, h, t, j);
}

static void local_is_a_masked_softmax(void **state)
{
    (void)state;
    static const struct {
        int64_t n, window;
        float std;
    } c[] = {{1, 1, 1},   {1, 7, 1},    {5, 1, 1},    {40, 2, 1},    {97, 24, 1},
             {130, 9, 1}, {200, 98, 1}, {61, 500, 1}, {150, 32, 30}, {64, 0, 1}};
    for (size_t x = 0; x < sizeof c / sizeof *c; x++) {
        for (int way = 0; way < 2 * DEVICES; way++) {
            attend_rig r = rig_open(2, 2, 8, c[x].n, c[x].n, c[x].std, 7);
            char text[64] = "full";
            int64_t window = c[x].window;
            r.causal = way / DEVICES;
            if (window) snprintf(text, sizeof text, "local:window=%d", (int)window);
            rig_run(&r, text, devices[way % DEVICES]);
            assert_true(rig_error(&r, weight_local, &window) < (c[x].std > 1 ? 2e-3 : 2e-6));
            rig_close(&r);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(presets_follow_the_length),
        cmocka_unit_test(local_is_a_masked_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
