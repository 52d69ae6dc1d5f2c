/* Perplexity against the plain reading of each protocol: one window at a time, its logits turned
 * into probabilities here. */
/* SPDX-License-Identifier: MIT */
#include "eval/eval.h"
#include "rig/tiny.h"
#include <math.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

enum { VOCAB = 37, CONTEXT = 16, TEXT = 71 };

static int32_t text[TEXT];

static int open_tiny(void **state)
{
    (void)state;
    tiny_open(json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:f}", "model_type", "gpt2", "vocab_size",
                        VOCAB, "n_positions", CONTEXT, "n_embd", 8, "n_layer", 2, "n_head", 2,
                        "initializer_range", 0.5),
              7);
    st_rng r = {.seed = 3};
    for (int i = 0; i < TEXT; i++)
        text[i] = (int32_t)st_rng_below(&r, VOCAB);
    return 0;
}

/* NLL of token `t` when the model reads from `begin` on. */
static double tiny_nll(int64_t begin, int64_t t)
{
    float z[VOCAB];
    double sum = 0.0;
    tiny_logits(text + begin, t - begin, z);
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)z[i]);
    return log(sum) - (double)z[text[t]];
}

typedef struct {
    double nll;
    int64_t scored, windows;
} tiny_answer;

/* The definitions, read slowly. */
static tiny_answer tiny_reference(int64_t n, int64_t context, int64_t stride, bool window_mean)
{
    double sum = 0.0, means = 0.0;
    tiny_answer r = {0};
    bool scored[TEXT] = {false};
    for (int64_t begin = 0; begin < n; begin += stride) {
        int64_t end = begin + context < n ? begin + context : n, count = 0;
        double s = 0.0;
        for (int64_t t = begin + 1; t < end; t++) {
            if (scored[t]) continue;
            scored[t] = true;
            s += tiny_nll(begin, t);
            count++;
        }
        if (count) {
            sum += s;
            means += s / (double)count;
            r.scored += count;
            r.windows++;
        }
        if (end == n) break;
    }
    r.nll = window_mean ? means / (double)r.windows : sum / (double)r.scored;
    return r;
}

static void tiny_compare(const st_perplexity_opts *o, int64_t n)
{
    st_err e = {0};
    json_t *r = NULL;
    assert_ok(st_perplexity_ids(tiny.m, tiny.q, text, TEXT, o, &r, &e), &e);
    int64_t context = o->context ? o->context : CONTEXT;
    tiny_answer want = tiny_reference(n, context, o->stride ? o->stride : context,
                                      o->protocol && strcmp(o->protocol, "krony") == 0);
    assert_near(json_number_value(json_object_get(r, "nll")), want.nll, 1e-5);
    assert_near(json_number_value(json_object_get(r, "perplexity")), exp(want.nll), 1e-3);
    assert_int_equal(json_integer_value(json_object_get(r, "tokens")), n);
    assert_int_equal(json_integer_value(json_object_get(r, "scored")), want.scored);
    assert_int_equal(json_integer_value(json_object_get(r, "windows")), want.windows);
    assert_string_equal(json_string_value(json_object_get(r, "protocol")),
                        o->protocol ? o->protocol : "hf");
    json_decref(r);
}

/* 71 tokens: four windows of 16 and a short one of 7; 65: a last window with nothing to score. */
static void perplexity_protocols(void **state)
{
    (void)state;
    tiny_compare(&(st_perplexity_opts){.protocol = NULL}, TEXT);
    tiny_compare(&(st_perplexity_opts){.protocol = "hf", .limit = 65}, 65);
    tiny_compare(&(st_perplexity_opts){.protocol = "krony"}, TEXT);
    tiny_compare(&(st_perplexity_opts){.protocol = "krony", .limit = 65}, 65);
    tiny_compare(&(st_perplexity_opts){.protocol = "krony", .context = 9, .limit = 70}, 70);
}

static void perplexity_stride(void **state)
{
    (void)state;
    const int64_t strides[] = {1, 5, 8, 15, 16};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
        tiny_compare(&(st_perplexity_opts){.stride = strides[i]}, TEXT);
        tiny_compare(&(st_perplexity_opts){.context = 16, .stride = strides[i], .limit = 33}, 33);
    }
    tiny_compare(&(st_perplexity_opts){.context = 2, .stride = 1}, TEXT);
    tiny_compare(&(st_perplexity_opts){.limit = 2}, 2);
}

static void perplexity_batch(void **state)
{
    (void)state;
    for (int64_t batch = 1; batch < 8; batch++) {
        tiny_compare(&(st_perplexity_opts){.context = 8, .batch = batch}, TEXT);
        tiny_compare(&(st_perplexity_opts){.context = 8, .stride = 3, .batch = batch}, TEXT);
    }
}

static void perplexity_refusals(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *r = NULL;
    struct {
        st_perplexity_opts o;
        int64_t n;
        const char *says;
    } row[] = {
        {{.protocol = "krnoy"}, TEXT, "did you mean krony?"},
        {{.context = 17}, TEXT, "context: 17 is not between 2 and the model's 16"},
        {{.context = 8, .stride = 9}, TEXT, "stride: 9 is not between 1 and the context of 8"},
        {{.context = 0}, 1, "the text has 1 token; at least 2"},
        {{.context = 0}, 0, "the text has 0 tokens; at least 2"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        assert_st(st_perplexity_ids(tiny.m, tiny.q, text, row[i].n, &row[i].o, &r, &e), ST_EARG,
                  &e);
        assert_says(&e, row[i].says);
        assert_null(r);
    }
    int32_t bad[] = {0, 1, VOCAB, 2};
    assert_st(st_perplexity_ids(tiny.m, tiny.q, bad, 4, &(st_perplexity_opts){0}, &r, &e),
              ST_EFORMAT, &e);
    assert_says(&e, "token 2 is id 37, the model's vocabulary has 37");
    bad[2] = -1;
    assert_st(st_perplexity_ids(tiny.m, tiny.q, bad, 4, &(st_perplexity_opts){0}, &r, &e),
              ST_EFORMAT, &e);
}

static void perplexity_broken_weights(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *r = NULL;
    st_tensor w = st_view1(tiny.weights.base + 5 * sizeof(float), ST_F32, 1);
    float old, bad = nanf("");
    st_download(tiny.q, &old, w);
    st_upload(tiny.q, w, &bad);
    int32_t ids[] = {0, 0, 0};
    assert_st(st_perplexity_ids(tiny.m, tiny.q, ids, 3, &(st_perplexity_opts){0}, &r, &e),
              ST_EFORMAT, &e);
    assert_says(&e, "not a finite number");
    st_upload(tiny.q, w, &old);
}

/* A last window whose logits once took more memory than those of a full one, for which the memory
 * was planned: the head's chunks must not grow when rows get fewer. */
static void perplexity_short_window(void **state)
{
    (void)state;
    enum { WIDE = 50257, LONG = 1024, SHORT = 654 };
    st_err e = {0};
    st_model *m = NULL;
    st_arena weights = {0};
    json_t *r = NULL,
           *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "model_type", "gpt2", "vocab_size",
                               WIDE, "n_positions", LONG, "n_embd", 4, "n_layer", 1, "n_head", 1);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    tiny_bind(m, 7, &weights);
    int32_t *ids = calloc(LONG + SHORT, sizeof *ids);
    assert_non_null(ids);
    st_perplexity_opts o = {.batch = 1};
    assert_ok(st_perplexity_ids(m, tiny.q, ids, LONG + SHORT, &o, &r, &e), &e);
    assert_int_equal(json_integer_value(json_object_get(r, "windows")), 2);
    json_decref(r);
    free(ids);
    st_device_arena_close(tiny.q, &weights);
    st_model_close(m);
}

/* ---- ways to attend -------------------------------------------------------------------------- */

static double attended(const char *how)
{
    st_err e = {0};
    json_t *r = NULL;
    st_perplexity_opts o = {.attention = how};
    assert_ok(st_perplexity_ids(tiny.m, tiny.q, text, TEXT, &o, &r, &e), &e);
    double nll = json_number_value(json_object_get(r, "nll"));
    json_decref(r);
    return nll;
}

static void perplexity_attention(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *r = NULL;
    double full = attended(NULL);
    assert_true(attended("full") == full);
    assert_near(attended("local:window=16"), full, 1e-6);
    assert_near(attended("sblocal:window=16,features=2"), full, 1e-6);
    assert_true(fabs(attended("performer:features=64") - full) < 1.0);
    assert_true(fabs(attended("local:window=2") - full) > 1e-4);
    st_perplexity_opts o = {.attention = "linformer"};
    assert_st(st_perplexity_ids(tiny.m, tiny.q, text, TEXT, &o, &r, &e), ST_EUNSUPPORTED, &e);
    assert_says(&e, "no causal form");
    o.attention = "locl";
    assert_st(st_perplexity_ids(tiny.m, tiny.q, text, TEXT, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "did you mean \"local\"?");
}

/* The prompt is read through a window; each token after it sees all that is in the cache. */
static void attention_of_prompts_only(void **state)
{
    (void)state;
    st_err e = {0};
    st_attention near;
    float logits[4][VOCAB];
    assert_ok(st_model_attention(tiny.m, "local:window=1", &near, &e), &e);
    for (int i = 0; i < 4; i++) {
        size_t mark = st_arena_mark(&tiny.scratch);
        st_kv kv = {0};
        st_kv_take(&kv, tiny.m, ST_F32, 1, CONTEXT, &tiny.scratch);
        st_tensor ids = tiny_ids(text, CONTEXT), out = st_take2(&tiny.scratch, ST_F32, 1, VOCAB);
        const st_attention *first = i < 2 ? NULL : &near, *then = i % 2 ? &near : NULL;
        st_lm_args a = {.batch = 1, .len = 9, .ids = ids, .logits = out, .last_only = 1, .kv = &kv};
        a.attention = first;
        st_model_forward(tiny.m, tiny.q, &a, &tiny.scratch);
        a.len = 1;
        a.attention = then;
        st_model_forward(tiny.m, tiny.q, &a, &tiny.scratch);
        st_download(tiny.q, logits[i], out);
        st_arena_rewind(&tiny.scratch, mark);
    }
    assert_memory_equal(logits[0], logits[1], sizeof *logits);
    assert_memory_equal(logits[2], logits[3], sizeof *logits);
    assert_memory_not_equal(logits[0], logits[2], sizeof *logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perplexity_protocols),      cmocka_unit_test(perplexity_stride),
        cmocka_unit_test(perplexity_batch),          cmocka_unit_test(perplexity_refusals),
        cmocka_unit_test(perplexity_broken_weights), cmocka_unit_test(perplexity_short_window),
        cmocka_unit_test(perplexity_attention),      cmocka_unit_test(attention_of_prompts_only),
    };
    return cmocka_run_group_tests(tests, open_tiny, tiny_close);
}
