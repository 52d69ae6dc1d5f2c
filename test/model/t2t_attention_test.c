/* T2T-ViT whose token modules attend approximately, against the authors' network with fly's modules
 * in it (test/fixtures/t2t/attention.safetensors, tools/fixtures_t2t_attention.py), whose random
 * numbers are injected. */
/* SPDX-License-Identifier: MIT */
#include "model/t2t.h"
#include "store/store.h"

/* One row of the fixture: "MODEL@SIZE WAY WAY.logits". */
typedef struct {
    char model[32], way[2][ST_SPEC_TEXT];
    int size;
    const float *logits;
    int64_t n;
} row;

static bool row_read(const stored *s, const char *key, row *x)
{
    if (!t2t_ends(key, ".logits")) return false;
    assert_true(strlen(key) < ST_SPEC_TEXT);
    assert_int_equal(sscanf(key, "%31[^@]@%d %s %[^.]", x->model, &x->size, x->way[0], x->way[1]),
                     4);
    x->logits = stored_find(s, key, &x->n);
    return true;
}

static bool row_is_tiny(const row *x)
{
    return strncmp(x->model, "tiny", 4) == 0;
}

static void row_open(const row *x, const char *device, st_dtype t, t2t_rig *r)
{
    st_err e = {0};
    json_t *config = NULL;
    for (int i = 0; i < T2T_TINY; i++)
        if (strcmp(t2t_tiny(i)->name, x->model) == 0) config = t2t_json(t2t_tiny(i)->config);
    if (!config) assert_ok(st_fresh_config(&config, x->model, &e), &e);
    json_object_set_new(config, "img_size", json_integer(x->size));
    t2t_open(r, config, device, t);
    json_decref(config);
}

/* ---- ways to attend -------------------------------------------------------------------------- */

static int64_t knob(const st_attention *m, const char *name)
{
    for (int i = 0; i < ST_KNOBS && m->type->knob[i].name; i++)
        if (strcmp(m->type->knob[i].name, name) == 0) return m->knob[i];
    fail_msg("%s has no knob %s", m->type->name, name);
    return 0;
}

/* The way called `name` when its knobs are left to the shape, and its text when they are filled. */
static st_attention preset(const char *name, st_attention_shape shape, char text[ST_SPEC_TEXT])
{
    st_err e = {0};
    st_attention m, filled;
    assert_ok(st_attention_parse(&m, name, &e), &e);
    filled = m;
    assert_ok(st_attention_check(&filled, &shape, &e), &e);
    st_attention_print(&filled, text);
    return m;
}

static st_attention_shape shape_of(const t2t_rig *r, int i)
{
    return (st_attention_shape){
        .head_dim = r->v.token_dim, .q_len = r->v.tokens[i], .kv_len = r->v.tokens[i]};
}

/* The row's way of module i, left to the shape where that gives the same, with fly's numbers: the
 * fixture's or, for Linformer's large matrices, those of the script's mixing(). Free *x. */
static st_attention way_of(const stored *s, const row *at, const t2t_rig *r, int i, float **x)
{
    st_err e = {0};
    st_attention m, left;
    char text[ST_SPEC_TEXT], name[2 * ST_SPEC_TEXT];
    int64_t n, tokens = r->v.tokens[i];
    assert_ok(st_attention_parse(&m, at->way[i], &e), &e);
    left = preset(m.type->name, shape_of(r, i), text);
    if (strcmp(text, at->way[i]) == 0) m = left;
    snprintf(name, sizeof name, "%s@%lldx%lld", at->way[i], (long long)tokens,
             (long long)r->v.token_dim);
    *x = NULL;
    if (json_object_get(s->head, name)) {
        const float *from = stored_find(s, name, &n);
        *x = test_malloc((size_t)n * sizeof **x);
        memcpy(*x, from, (size_t)n * sizeof **x);
    } else if (strcmp(m.type->name, "linformer") == 0) {
        int64_t k = knob(&m, "k");
        n = tokens * k * (2 - knob(&m, "share"));
        *x = test_malloc((size_t)n * sizeof **x);
        for (int64_t j = 0; j < n; j++)
            (*x)[j] = (float)(sqrt(3.0 / (double)k) * t2t_uniform(st_hash_name(name), j));
    } else {
        assert_null(st_attention_seed(&m)); /* else it draws, and the fixture has no numbers */
    }
    if (*x) m.projection = st_view1(*x, ST_F32, n);
    return m;
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* The largest difference of a way's logits, printed in the end. */
typedef struct {
    double worst[16];
    int rows;
} report;

static void report_print(const report *p, const char *what)
{
    print_message("%s, off by at most:", what);
    for (int k = 0; st_attention_types[k]; k++)
        print_message(" %s %.2g", st_attention_types[k]->name, p->worst[k]);
    print_message("\n");
}

static void row_check(const stored *s, const row *x, t2t_rig *r, double tol, report *p)
{
    float *drawn[2];
    st_vision_args a = {0};
    int64_t batch = x->n / r->v.classes;
    for (int i = 0; i < 2; i++)
        a.attention[i] = way_of(s, x, r, i, &drawn[i]);
    float *y = t2t_logits(r, batch, &a);
    double worst = 0;
    for (int64_t j = 0; j < x->n; j++) {
        double off = fabs((double)y[j] - (double)x->logits[j]);
        worst = off <= worst ? worst : off; /* NaN counts as worst */
    }
    if (!(worst <= tol)) {
        fail_msg("%s@%d %s %s: off by %.3g, at most %.3g", x->model, x->size, x->way[0], x->way[1],
                 worst, tol);
    }
    for (int i = 0; i < 2; i++) {
        for (int k = 0; st_attention_types[k]; k++)
            if (st_attention_types[k] == a.attention[i].type)
                p->worst[k] = fmax(p->worst[k], worst);
        test_free(drawn[i]);
    }
    p->rows++;
    test_free(y);
}

typedef bool row_test(const row *x);

/* Every row that `wanted` accepts, a model opened once for its rows. */
static void rows_check(const char *what, row_test *wanted, const char *device, st_dtype t,
                       double tol)
{
    stored s = stored_open("test/fixtures/t2t/attention.safetensors");
    t2t_rig r = {0};
    row x, last = {0};
    report p = {0};
    const char *key;
    json_t *value;
    json_object_foreach(s.head, key, value)
    {
        if (!row_read(&s, key, &x) || !wanted(&x)) continue;
        if (strcmp(x.model, last.model) != 0 || x.size != last.size) {
            if (last.size) t2t_close(&r);
            row_open(&x, device, t, &r);
            last = x;
        }
        row_check(&s, &x, &r, tol, &p);
    }
    assert_true(p.rows > 0);
    t2t_close(&r);
    stored_close(&s);
    report_print(&p, what);
}

static bool wants_brief(const row *x)
{
    return row_is_tiny(x) && x->size < 224; /* 3136 tokens take plain loops seconds */
}

/* bfloat16 takes tokens across the ends of clusters. */
static bool row_is_smooth(const row *x)
{
    bool hashes = false;
    for (int i = 0; i < 2; i++)
        hashes |= strncmp(x->way[i], "smyrf", 5) == 0 || strncmp(x->way[i], "reformer", 8) == 0;
    return !hashes;
}

static bool wants_brief_smooth(const row *x)
{
    return wants_brief(x) && row_is_smooth(x);
}

static void test_small(void **state)
{
    (void)state;
    rows_check("small, cpu", row_is_tiny, "cpu", ST_F32, 5e-5);
    rows_check("small, ref", wants_brief, "ref", ST_F32, 1e-5);
    rows_check("small, bf16", wants_brief_smooth, "cpu", ST_BF16, 0.1);
}

static bool wants_published(const row *x)
{
#ifdef __SANITIZE_ADDRESS__
    if (strcmp(x->model, "t2t-vit-t-7") != 0 || x->size > 224) return false;
#endif
    return !row_is_tiny(x);
}

static bool wants_t_7(const row *x)
{
    return row_is_smooth(x) && strcmp(x->model, "t2t-vit-t-7") == 0 && x->size == 224;
}

static void test_published(void **state)
{
    (void)state;
    rows_check("published, cpu", wants_published, "cpu", ST_F32, 1e-4);
    rows_check("t-7, bf16", wants_t_7, "cpu", ST_BF16, 0.1);
}

/* Every way there is has a row for every published size, with knobs that are fly's and what strut
 * fills in for 3136 and 784 tokens. */
static void test_presets(void **state)
{
    (void)state;
    static const char *const sizes[] = {"t2t-vit-t-7", "t2t-vit-t-14", "t2t-vit-t-19",
                                        "t2t-vit-t-24"};
    stored s = stored_open("test/fixtures/t2t/attention.safetensors");
    for (int k = 0; st_attention_types[k]; k++) {
        char text[2][ST_SPEC_TEXT], key[3 * ST_SPEC_TEXT];
        for (int i = 0; i < 2; i++) {
            int64_t tokens = i ? 784 : 3136;
            st_attention_shape shape = {.head_dim = 64, .q_len = tokens, .kv_len = tokens};
            preset(st_attention_types[k]->name, shape, text[i]);
        }
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            int64_t n;
            snprintf(key, sizeof key, "%s@224 %s %s.logits", sizes[j], text[0], text[1]);
            stored_find(&s, key, &n);
            assert_int_equal(n, 1000);
        }
    }
    stored_close(&s);
}

/* Token modules with random features of their own take no other way, not even by name the exact
 * one. */
static void test_refused(void **state)
{
    (void)state;
    t2t_rig r;
    st_err e = {0};
    json_t *config = t2t_json(t2t_tiny(1)->config);
    t2t_open(&r, config, "cpu", ST_F32);
    for (int k = 0; st_attention_types[k]; k++) {
        for (int i = 0; i < 2; i++) {
            st_vision_args a = {.batch = 1};
            assert_ok(st_attention_parse(&a.attention[i], st_attention_types[k]->name, &e), &e);
            assert_st(st_model_vision_plan(r.m, r.q, ST_F32, &a, NULL, NULL, &e), ST_EARG, &e);
            assert_says(&e, "random features of their own");
            assert_says(&e, st_attention_types[k]->name);
        }
    }
    t2t_close(&r);
    json_decref(config);
}

/* What is drawn beforehand is what each call draws, and is no scratch any more. */
static void test_kept(void **state)
{
    static const char *const text[] = {"linformer:k=6,seed=5",
                                       "linformer:k=6,share=1",
                                       "performer:features=8",
                                       "sblocal",
                                       "smyrf",
                                       "reformer",
                                       "local"};
    (void)state;
    for (int i = 0; i < 7; i++) {
        t2t_rig r;
        st_err e = {0};
        st_arena kept = {0};
        st_vision_args drawn = {.batch = 2}, once;
        st_cost cost[2];
        size_t bytes[2];
        json_t *config = t2t_json(t2t_tiny(4)->config);
        t2t_open(&r, config, "cpu", i ? ST_F32 : ST_BF16);
        assert_ok(st_attention_parse(&drawn.attention[0], text[i], &e), &e);
        drawn.attention[1] = drawn.attention[0];
        once = drawn;
        assert_ok(st_model_vision_keep(r.m, r.q, once.attention, &kept, &e), &e);
        assert_true((kept.base != NULL) == (i < 6));
        float *want = t2t_logits(&r, 2, &drawn), *got = t2t_logits(&r, 2, &once);
        assert_memory_equal(got, want, (size_t)(2 * r.v.classes) * sizeof *got);
        for (int k = 0; k < 2; k++)
            assert_ok(st_model_vision_plan(r.m, r.q, r.flat.dtype, k ? &once : &drawn, &bytes[k],
                                           &cost[k], &e),
                      &e);
        static const int draws[] = {2, 1, 1, 1, 1, 1, 0};
        assert_true(bytes[1] <= bytes[0]);
        assert_int_equal(cost[0].launches - cost[1].launches, 2 * draws[i]); /* two modules */
        test_free(want);
        test_free(got);
        st_device_arena_close(r.q, &kept);
        t2t_close(&r);
        json_decref(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),   cmocka_unit_test(test_published),
        cmocka_unit_test(test_presets), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
