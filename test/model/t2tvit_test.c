/* T2T-ViT against the authors' code (test/fixtures/t2t, tools/fixtures_t2t.py): logits of every
 * published size, parameter counts, structured matrices, refusals. */
/* SPDX-License-Identifier: MIT */
#include "fit/fit.h"
#include "model/t2t.h"

static const struct {
    const char *name;
    int64_t parameters;
    bool large; /* at 384 pixels, too */
} full[] = {
    {"t2t-vit-7", 4310222, true},      {"t2t-vit-10", 5889230, false},
    {"t2t-vit-12", 6941902, false},    {"t2t-vit-14", 21545550, false},
    {"t2t-vit-19", 39177422, false},   {"t2t-vit-24", 64105934, false},
    {"t2t-vit-t-7", 4305742, true},    {"t2t-vit-t-14", 21541070, false},
    {"t2t-vit-t-19", 39172942, false}, {"t2t-vit-t-24", 64101454, false},
};
enum { FULL = sizeof full / sizeof *full };

static void agrees(const stored *s, const char *key, const float *got, int64_t n, double tol)
{
    char name[64];
    int64_t count;
    snprintf(name, sizeof name, "%s.logits", key);
    const float *want = stored_find(s, name, &count);
    assert_int_equal(count, n);
    for (int64_t i = 0; i < n; i++) {
        if (fabs((double)got[i] - (double)want[i]) <= tol) continue;
        fail_msg("%s: logit %lld is %.7g, expected %.7g", key, (long long)i, (double)got[i],
                 (double)want[i]);
    }
}

static void tiny_logits(const stored *s, int i, const char *device, st_dtype t, double tol)
{
    t2t_rig r;
    json_t *config = t2t_json(t2t_tiny(i)->config);
    t2t_open(&r, config, device, t);
    float *y = t2t_logits(&r, t2t_tiny(i)->batch, NULL);
    agrees(s, t2t_tiny(i)->name, y, t2t_tiny(i)->batch * r.v.classes, tol);
    test_free(y);
    t2t_close(&r);
    json_decref(config);
}

static void test_small(void **state)
{
    (void)state;
    stored s = stored_open("test/fixtures/t2t/expect.safetensors");
    for (int i = 0; i < T2T_TINY; i++) {
        tiny_logits(&s, i, "cpu", ST_F32, 1e-5);
        tiny_logits(&s, i, "cpu", ST_BF16, 0.1);
        /* plain loops: attention over 3136 tokens takes them seconds */
        if (strstr(t2t_tiny(i)->name, "-224") == NULL) tiny_logits(&s, i, "ref", ST_F32, 1e-5);
    }
    stored_close(&s);
}

static void full_logits(const stored *s, int i, int64_t size)
{
    t2t_rig r;
    st_err e = {0};
    char key[64];
    json_t *config = NULL;
    assert_ok(st_fresh_config(&config, full[i].name, &e), &e);
    if (size != 224) json_object_set_new(config, "img_size", json_integer(size));
    t2t_open(&r, config, "cpu", ST_F32);
    if (size == 224) assert_int_equal(st_model_counts(r.m).parameters, full[i].parameters);
    float *y = t2t_logits(&r, 1, NULL);
    snprintf(key, sizeof key, "%s%s", full[i].name, size == 224 ? "" : "-384");
    agrees(s, key, y, r.v.classes, 1e-4);
    test_free(y);
    t2t_close(&r);
    json_decref(config);
}

static void test_published(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    print_message("the small models stand for the published ones under sanitizers\n");
    skip();
#endif
    stored s = stored_open("test/fixtures/t2t/expect.safetensors");
    for (int i = 0; i < FULL; i++) {
        full_logits(&s, i, 224);
        if (full[i].large) full_logits(&s, i, 384);
    }
    stored_close(&s);
}

static void count_tap(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    (void)q, (void)matrix, (void)x;
    ++*(int64_t *)ctx;
}

/* The last block for the class token alone gives what it gives when every row is computed: a tap
 * wants every matrix whole, and so does a structured one. */
static void test_last_block(void **state)
{
    (void)state;
    t2t_rig r;
    json_t *config = t2t_json(t2t_tiny(4)->config);
    t2t_open(&r, config, "cpu", ST_F32);
    int64_t n = 2 * r.v.classes, taps = 0;
    float *short_way = t2t_logits(&r, 2, NULL);
    st_model_tap(r.m, count_tap, &taps);
    float *whole = t2t_logits(&r, 2, NULL);
    assert_int_equal(taps, 2 * 4 + 1 + 3 * 4 + 1);
    assert_close("logits", short_way, whole, n, 1e-5);
    test_free(short_way);
    test_free(whole);
    t2t_close(&r);
    json_decref(config);
}

/* Every matrix structured: both backends agree, and an expansion back to dense computes the same.
 */
static void test_structured(void **state)
{
    (void)state;
    st_err e = {0};
    for (int i = 0; i < 2; i++) {
        t2t_rig r, plain;
        json_t *config = t2t_json(t2t_tiny(i)->config);
        json_object_set_new(config, "strut",
                            t2t_json("{'format': 1, 'maps': {'*': 'lowrank:rank=3'}}"));
        t2t_open(&r, config, "cpu", ST_F32);
        t2t_open(&plain, config, "ref", ST_F32);
        json_t *again = st_model_config(r.m), *strut = json_object_get(again, "strut");
        assert_int_equal(json_object_size(json_object_get(strut, "maps")), 2 * 4 + 1 + 2 * 4 + 1);
        json_decref(again);
        float *y = t2t_logits(&r, 2, NULL), *other = t2t_logits(&plain, 2, NULL);
        assert_close("logits", y, other, 2 * r.v.classes, 1e-5);
        test_free(other);

        static const char *const maps[] = {"*=dense"};
        st_decompose_opts o = {.maps = maps, .nmaps = 1};
        st_model *dense = NULL;
        float *flat = NULL;
        json_t *rows = NULL;
        float *w = test_malloc(st_bytes(r.flat));
        st_download(r.q, w, r.flat);
        assert_ok(st_decompose_weights(r.m, w, &o, &dense, &flat, &rows, &e), &e);
        test_free(w);
        st_model_bind(dense, st_view1(flat, ST_F32, st_model_elements(dense)), (st_tensor){0});
        st_model_close(plain.m);
        plain.m = dense;
        other = t2t_logits(&plain, 2, NULL);
        assert_close("logits", y, other, 2 * r.v.classes, 1e-4);
        test_free(other);
        test_free(y);
        free(flat);
        json_decref(rows);
        json_decref(config);
        t2t_close(&plain);
        t2t_close(&r);
    }
}

/* A head whose type makes bfloat16 logits of bfloat16 rows: they are widened. */
static void test_narrow_head(void **state)
{
    (void)state;
    t2t_rig wide, narrow;
    json_t *config = t2t_json(t2t_tiny(0)->config);
    json_object_set_new(config, "strut",
                        t2t_json("{'format': 1, 'maps': {'head': 'monarch:blocks=2'}}"));
    t2t_open(&wide, config, "cpu", ST_F32);
    t2t_open(&narrow, config, "cpu", ST_BF16);
    float *want = t2t_logits(&wide, 3, NULL), *got = t2t_logits(&narrow, 3, NULL);
    assert_close("logits", got, want, 3 * wide.v.classes, 0.05);
    for (int64_t k = 0; k < 3 * wide.v.classes; k++)
        assert_true(got[k] == st_bf16_to_f32(st_f32_to_bf16(got[k])));
    test_free(want);
    test_free(got);
    t2t_close(&narrow);
    t2t_close(&wide);
    json_decref(config);
}

static void enlarge(void *ctx, const st_param *p)
{
    if (!p->matrix || !(t2t_ends(p->matrix, "qkv") || t2t_ends(p->matrix, "kqv"))) return;
    t2t_put(ctx, p, 300);
}

/* Queries and keys whose scores and exponents no float32 exponential holds: logits are numbers. */
static void test_large(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        t2t_rig r;
        json_t *config = t2t_json(t2t_tiny(i % 2)->config);
        t2t_open(&r, config, "cpu", i < 2 ? ST_F32 : ST_BF16);
        st_model_params(r.m, enlarge, &r);
        float *y = t2t_logits(&r, 2, NULL);
        for (int64_t k = 0; k < 2 * r.v.classes; k++)
            assert_true(isfinite(y[k]));
        test_free(y);
        t2t_close(&r);
        json_decref(config);
    }
}

static void refused(const char *text, st_status code, const char *says)
{
    st_model *m = NULL;
    st_err e = {0};
    json_t *config = t2t_json(text);
    assert_st(st_model_open(&m, config, &e), code, &e);
    assert_says(&e, says);
    assert_null(m);
    json_decref(config);
}

#define SHAPE "'embed_dim': 16, 'depth': 1, 'num_heads': 2, 'mlp_dim': 8"

static void test_config(void **state)
{
    (void)state;
    refused("{'model_type': 't2t_vit', " SHAPE "}", ST_EFORMAT, "tokens_type is ''");
    refused("{'model_type': 't2t_vit', 'tokens_type': 'transformers', " SHAPE "}", ST_EUNSUPPORTED,
            "did you mean transformer?");
    refused("{'model_type': 't2t_vit', 'tokens_type': 'performer', 'embed_dim': 16, 'depth': 1, "
            "'num_heads': 2}",
            ST_EFORMAT, "no key mlp_dim");
    refused("{'model_type': 't2t_vit', 'tokens_type': 'performer', 'img_sise': 32, " SHAPE "}",
            ST_EFORMAT, "did you mean img_size");
    refused("{'model_type': 't2t_vit', 'tokens_type': 'performer', 'img_size': 100, " SHAPE "}",
            ST_EFORMAT, "a multiple of 16");
    refused("{'model_type': 't2t_vit', 'tokens_type': 'performer', 'embed_dim': 16, 'depth': 1, "
            "'num_heads': 3, 'mlp_dim': 8}",
            ST_EFORMAT, "a divisor of embed_dim = 16");
    refused(
        "{'model_type': 't2t_vit', 'tokens_type': 'transformer', 'performer_features': 4, " SHAPE
        "}",
        ST_EFORMAT, "but tokens_type is transformer");
    refused("{'model_type': 'vit', " SHAPE "}", ST_EUNSUPPORTED, "gemma3_text or t2t_vit");
}

/* Calls of the other kind are refused before they run. */
static void test_kinds(void **state)
{
    (void)state;
    st_err e = {0};
    st_model *m = NULL;
    st_stream *q = NULL;
    size_t bytes;
    json_t *config = t2t_json(t2t_tiny(0)->config), *gpt2 = NULL;
    assert_ok(st_model_open(&m, config, &e), &e);
    assert_ok(st_stream_open(&q, "ref", 0, &e), &e);
    assert_true(st_model_is_vision(m));
    st_lm_args a = {.batch = 1, .len = 1};
    assert_st(st_model_plan(m, q, ST_F32, &a, false, &bytes, NULL, &e), ST_EARG, &e);
    assert_says(&e, "reads no tokens");
    assert_int_equal(st_model_lm(m).vocab, 0);
    assert_st(st_need_language(m, "here", "perplexity", &e), ST_EARG, &e);
    st_vision_args v = {.batch = 1 << 30};
    assert_st(st_model_vision_plan(m, q, ST_F32, &v, &bytes, NULL, &e), ST_EARG, &e);
    assert_says(&e, "32 x 32 pixels");
    st_model_close(m);
    assert_ok(st_fresh_config(&gpt2, "gpt2", &e), &e);
    assert_ok(st_model_open(&m, gpt2, &e), &e);
    v.batch = 1;
    assert_st(st_model_vision_plan(m, q, ST_F32, &v, &bytes, NULL, &e), ST_EARG, &e);
    assert_says(&e, "reads no images");
    assert_int_equal(st_model_vision_shape(m).size, 0);
    st_model_close(m);
    st_stream_close(q);
    json_decref(config);
    json_decref(gpt2);
}

/* Ways to attend in the token modules: a window that sees all is exact, a small one is not, on one
 * module as on the other; a model with random features of its own takes none. */
static void test_attention(void **state)
{
    (void)state;
    t2t_rig r;
    st_err e = {0};
    json_t *config = t2t_json(t2t_tiny(4)->config);
    t2t_open(&r, config, "cpu", ST_F32);
    int64_t n = 2 * r.v.classes;
    float *exact = t2t_logits(&r, 2, NULL);
    st_vision_args a = {0};
    assert_ok(st_attention_parse(&a.attention[0], "local:window=1000", &e), &e);
    a.attention[1] = a.attention[0];
    float *all = t2t_logits(&r, 2, &a);
    assert_close("logits", all, exact, n, 1e-5);
    for (int i = 0; i < 2; i++) {
        st_vision_args near = {0};
        assert_ok(st_attention_parse(&near.attention[i], "local:window=5", &e), &e);
        float *y = t2t_logits(&r, 2, &near);
        double most = 0;
        for (int64_t k = 0; k < n; k++)
            most = fmax(most, fabs((double)y[k] - (double)exact[k]));
        assert_true(most > 1e-3 && most < 10);
        test_free(y);
    }
    test_free(all);
    test_free(exact);
    t2t_close(&r);
    json_decref(config);
    config = t2t_json(t2t_tiny(1)->config);
    t2t_open(&r, config, "cpu", ST_F32);
    a.batch = 1;
    assert_st(st_model_vision_plan(r.m, r.q, ST_F32, &a, NULL, NULL, &e), ST_EARG, &e);
    assert_says(&e, "random features of their own");
    t2t_close(&r);
    json_decref(config);
}

static void seek_param(void *ctx, const st_param *p)
{
    st_param *want = ctx;
    if (strcmp(p->name, want->name) == 0) *want = *p;
}

/* Fresh weights: positions are the sinusoid, random features orthogonal. */
static void test_fresh(void **state)
{
    (void)state;
    st_err e = {0};
    st_model *m = NULL;
    json_t *config = NULL;
    assert_ok(st_fresh_config(&config, "T2t_vit_14", &e), &e);
    assert_ok(st_model_open(&m, config, &e), &e);
    float *flat = test_calloc((size_t)st_model_elements(m), sizeof *flat);
    assert_ok(st_fresh_weights(m, 3, flat, &e), &e);
    st_param p = {.name = "pos_embed"}, w = {.name = "tokens_to_token.attention2.w"};
    st_model_params(m, seek_param, &p);
    st_model_params(m, seek_param, &w);
    const float *pos = flat + p.offset, *f = flat + w.offset;
    assert_true(fabs((double)pos[384] - sin(1.0)) < 1e-7);
    assert_true(fabs((double)pos[385] - cos(1.0)) < 1e-7);
    assert_true(fabs((double)pos[196 * 384 + 383] - cos(196 / pow(10000, 382.0 / 384))) < 1e-7);
    for (int i = 0; i < 32; i++) {
        for (int j = 0; j <= i; j++) {
            double dot = 0;
            for (int c = 0; c < 64; c++)
                dot += (double)f[i * 64 + c] * (double)f[j * 64 + c];
            assert_true(fabs(dot - (i == j ? 32 : 0)) < 1e-4);
        }
    }
    test_free(flat);
    st_model_close(m);
    json_decref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),       cmocka_unit_test(test_published),
        cmocka_unit_test(test_last_block),  cmocka_unit_test(test_structured),
        cmocka_unit_test(test_config),      cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_narrow_head), cmocka_unit_test(test_large),
        cmocka_unit_test(test_attention),   cmocka_unit_test(test_fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
