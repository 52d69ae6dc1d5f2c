/* Choosing tokens, whole characters, and text that continues as the model without a cache would. */
/* SPDX-License-Identifier: MIT */
#include "eval/eval.h"
#include "eval/generate.h"
#include "rig/tiny.h"
#include <math.h>

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

/* ---- choosing -------------------------------------------------------------------------------- */

enum { CHOICES = 6, DRAWS = 40000 };

static const float logits6[CHOICES] = {1.0f, 3.0f, -2.0f, 2.5f, 3.0f, 0.0f};

static void pick_greedy(void **state)
{
    (void)state;
    st_rng r = {.seed = 1};
    generate_sampler s = {.temperature = 0.0};
    assert_int_equal(generate_pick(&s, logits6, CHOICES, &r), 1); /* the lower of two equals */
    assert_int_equal(generate_pick(&s, logits6, 1, &r), 0);
    assert_int_equal((int)r.pos, 0); /* no random number is used */
    float bad[] = {0.0f, nanf(""), 1.0f}, none[] = {-HUGE_VALF, -HUGE_VALF};
    assert_int_equal(generate_pick(&s, bad, 3, &r), -1);
    assert_int_equal(generate_pick(&s, none, 2, &r), -1);
}

/* Frequencies of many draws against the probabilities that `want` says, all else never drawn. */
static void pick_compare(const float *logits, double temperature, int64_t k, double p,
                         const double want[CHOICES])
{
    struct generate_choice room[CHOICES];
    generate_sampler s = {temperature, p, k, room};
    st_rng r = {.seed = 11, .stream = 5};
    int64_t seen[CHOICES] = {0};
    for (int i = 0; i < DRAWS; i++)
        seen[generate_pick(&s, logits, CHOICES, &r)]++;
    double sum = 0.0;
    for (int i = 0; i < CHOICES; i++)
        sum += want[i];
    for (int i = 0; i < CHOICES; i++) {
        double share = want[i] / sum, sigma = sqrt(share * (1.0 - share) / DRAWS);
        assert_near((double)seen[i] / DRAWS, share, 5.0 * sigma + 1e-12);
    }
}

static void pick_distribution(void **state)
{
    (void)state;
    double want[CHOICES];
    for (int i = 0; i < CHOICES; i++)
        want[i] = exp((double)logits6[i] / 0.7);
    pick_compare(logits6, 0.7, 0, 1.0, want);
    pick_compare(logits6, 0.7, CHOICES + 10, 1.0, want);
    for (int i = 0; i < CHOICES; i++)
        want[i] = exp((double)logits6[i]);
    pick_compare(logits6, 1.0, 0, 1.0, want);
    /* The four likeliest are 1, 4, 3, 0. */
    want[2] = want[5] = 0.0;
    pick_compare(logits6, 1.0, 4, 1.0, want);
    want[0] = 0.0;
    pick_compare(logits6, 1.0, 3, 1.0, want);
    /* Probabilities 0.358 (twice), 0.217, 0.048, 0.018, 0.002: half takes 1 and 4, 0.73 takes 3. */
    pick_compare(logits6, 1.0, 0, 0.73, want);
    want[3] = 0.0;
    pick_compare(logits6, 1.0, 0, 0.5, want);
    want[4] = 0.0;
    pick_compare(logits6, 1.0, 0, 0.1, want);
    pick_compare(logits6, 1.0, 0, 0.0, want);
    pick_compare(logits6, 1.0, 1, 1.0, want);
    /* Rising: the last are the likeliest. */
    const float rising[CHOICES] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
    for (int i = 0; i < CHOICES; i++)
        want[i] = i < 4 ? 0.0 : exp((double)i);
    pick_compare(rising, 1.0, 2, 1.0, want);
}

/* ---- characters ------------------------------------------------------------------------------ */

static void text_compare(const char *bytes, size_t n, const char *want)
{
    for (size_t step = 1; step <= n; step++) {
        generate_text t = {0};
        for (size_t i = 0; i < n; i += step) {
            assert_true(generate_text_push(&t, bytes + i, i + step < n ? step : n - i));
        }
        assert_true(generate_text_end(&t));
        assert_int_equal(t.n, strlen(want));
        assert_memory_equal(t.text, want, t.n);
        free(t.text);
    }
}

/* Expected texts are those of Python's bytes.decode("utf-8", "replace"). */
static void text_characters(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *want;
    } row[] = {
        {"plain", "plain"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xe2\x82\xac\xf0\x9f\x98\x80", "\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd"},
        {"\xe2\x82z", "\xef\xbf\xbdz"},
        {"\xf0\x9f\x98z", "\xef\xbf\xbdz"},
        {"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\x80z", "\xef\xbf\xbdz"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xc3\xc3\xbc", "\xef\xbf\xbd\xc3\xbc"},
        {"\xf1\x80\x80\xe1\x80\xc2", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        text_compare(row[i].bytes, strlen(row[i].bytes), row[i].want);
    }
}

/* ---- the model ------------------------------------------------------------------------------- */

enum { VOCAB = 41, CONTEXT = 12 };

static int open_tiny(void **state)
{
    (void)state;
    tiny_open(json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:i}", "model_type", "gpt2",
                        "vocab_size", VOCAB, "n_positions", CONTEXT, "n_embd", 16, "n_layer", 2,
                        "n_head", 2, "initializer_range", 0.6, "eos_token_id", 40),
              19);
    return 0;
}

/* The likeliest token after `n` tokens. */
static int32_t tiny_next(const int32_t *window, int64_t n)
{
    float logits[VOCAB];
    st_rng r = {0};
    tiny_logits(window, n, logits);
    return generate_pick(&(generate_sampler){0}, logits, VOCAB, &r);
}

static json_t *tiny_generate(const st_generate_opts *o)
{
    st_err e = {0};
    json_t *r = NULL;
    assert_ok(st_generate_ids(tiny.m, tiny.q, NULL, o, &r, &e), &e);
    return r;
}

/* Prompts shorter than, as long as and longer than the context, and texts far beyond it. */
static void generate_window(void **state)
{
    (void)state;
    const int64_t prompts[] = {1, 3, CONTEXT - 1, CONTEXT, CONTEXT + 5};
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        int64_t n = prompts[i], tokens = 30;
        int32_t all[64];
        for (int64_t j = 0; j < n; j++)
            all[j] = (int32_t)((7 * j + 3) % VOCAB);
        st_generate_opts o = {.ids = all, .nids = n, .tokens = tokens, .ignore_eos = true};
        json_t *r = tiny_generate(&o);
        json_t *ids = json_object_get(r, "ids");
        assert_int_equal(json_array_size(ids), tokens);
        int64_t start = n > CONTEXT ? n - CONTEXT : 0; /* of the window */
        for (int64_t j = 0; j < tokens; j++) {
            if (n - start > CONTEXT) start = n - CONTEXT / 2;
            int32_t want = tiny_next(all + start, n - start);
            assert_int_equal(json_integer_value(json_array_get(ids, (size_t)j)), want);
            all[n++] = want;
        }
        assert_string_equal(json_string_value(json_object_get(r, "finish")), "length");
        json_decref(r);
    }
}

static void generate_seed(void **state)
{
    (void)state;
    int32_t start[] = {5};
    st_generate_opts o = {.ids = start,
                          .nids = 1,
                          .tokens = 20,
                          .temperature = 1.0,
                          .top_p = 1,
                          .ignore_eos = true,
                          .seed = 4};
    json_t *a = tiny_generate(&o), *b = tiny_generate(&o);
    o.seed = 5;
    json_t *c = tiny_generate(&o);
    assert_true(json_equal(json_object_get(a, "ids"), json_object_get(b, "ids")));
    assert_false(json_equal(json_object_get(a, "ids"), json_object_get(c, "ids")));
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static void generate_end_of_text(void **state)
{
    (void)state;
    /* Find out when 40 comes up, then see that the text ends just before it. */
    int32_t start[] = {40};
    for (uint64_t seed = 0; seed < 50; seed++) {
        st_generate_opts o = {
            .tokens = 40, .temperature = 3.0, .top_p = 1, .ignore_eos = true, .seed = seed};
        json_t *all = tiny_generate(&o), *ids = json_object_get(all, "ids");
        size_t at = 0;
        while (at < json_array_size(ids) && json_integer_value(json_array_get(ids, at)) != 40)
            at++;
        o.ignore_eos = false;
        json_t *r = tiny_generate(&o);
        assert_int_equal(json_array_size(json_object_get(r, "ids")), at);
        assert_string_equal(json_string_value(json_object_get(r, "finish")),
                            at < json_array_size(ids) ? "eos" : "length");
        /* No prompt: end-of-text starts it. */
        json_t *prompt = json_object_get(r, "prompt_ids");
        assert_int_equal(json_array_size(prompt), 1);
        assert_int_equal(json_integer_value(json_array_get(prompt, 0)), start[0]);
        json_decref(all);
        json_decref(r);
    }
}

static void generate_refusals(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *r = NULL;
    int32_t bad[] = {1, VOCAB};
    st_generate_opts o = {.ids = bad, .nids = 2, .tokens = 1};
    assert_st(st_generate_ids(tiny.m, tiny.q, NULL, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "token 1 is id 41, the model's vocabulary has 41");
    o = (st_generate_opts){.prompt = "a", .prompt_bytes = 1, .tokens = 1};
    assert_st(st_generate_ids(tiny.m, tiny.q, NULL, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "no tokenizer");
    o = (st_generate_opts){.tokens = 1, .temperature = -1.0};
    assert_st(st_generate_ids(tiny.m, tiny.q, NULL, &o, &r, &e), ST_EARG, &e);
    o = (st_generate_opts){.tokens = -1};
    assert_st(st_generate_ids(tiny.m, tiny.q, NULL, &o, &r, &e), ST_EARG, &e);
    assert_null(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pick_greedy),       cmocka_unit_test(pick_distribution),
        cmocka_unit_test(text_characters),   cmocka_unit_test(generate_window),
        cmocka_unit_test(generate_seed),     cmocka_unit_test(generate_end_of_text),
        cmocka_unit_test(generate_refusals),
    };
    return cmocka_run_group_tests(tests, open_tiny, tiny_close);
}
