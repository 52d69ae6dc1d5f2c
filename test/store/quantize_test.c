/* Models whose matrices are in blocks of 8 and 4 bits: which are, folders of them, and that what is
 * computed with the blocks is what their numbers give as floats. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "testing.h"
#include <math.h>

enum { VOCAB = 50, LEN = 9, LOGITS = LEN * VOCAB };

static st_model *open_model(const char *strut)
{
    char text[1024];
    json_t *config = NULL;
    st_model *m = NULL;
    st_err e = {0};
    snprintf(text, sizeof text,
             "{\"model_type\":\"gpt2\",\"vocab_size\":%d,\"n_positions\":16,\"n_embd\":64,"
             "\"n_layer\":2,\"n_head\":2,\"n_inner\":96,\"strut\":{\"format\":1%s}}",
             VOCAB, strut);
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    return m;
}

static const char maps[] = ",\"maps\":{\"h.1.mlp.c_fc\":\"lowrank:rank=32\","
                           "\"h.1.mlp.c_proj\":\"kron:m1=12,n1=16\"}";

static float *fresh(const st_model *m)
{
    st_err e = {0};
    float *flat = st_calloc(st_model_elements(m), sizeof *flat);
    assert_non_null(flat);
    assert_ok(st_fresh_weights(m, 3, flat, &e), &e);
    return flat;
}

static void quantize(st_model *m, const char *a, const char *b)
{
    st_err e = {0};
    assert_ok(st_model_quantize(m, (const char *const[]){a, b}, b ? 2 : 1, NULL, &e), &e);
}

/* Logits of a bound model. */
static void logits(st_model *m, st_stream *q, st_dtype t, float *out)
{
    static const int32_t some[LEN] = {3, 1, 4, 1, 5, 9, 2, 6, 49};
    st_err e = {0};
    st_arena mem = {0}, tmp = {0};
    st_lm_args a = {.batch = 1, .len = LEN};
    size_t bytes;
    assert_ok(st_device_arena(q, 1 << 16, &mem, &e), &e);
    a.ids = st_take2(&mem, ST_I32, 1, LEN);
    a.logits = st_take2(&mem, ST_F32, LEN, VOCAB);
    st_upload(q, a.ids, some);
    assert_ok(st_model_plan(m, q, t, &a, false, &bytes, NULL, &e), &e);
    assert_ok(st_device_arena(q, bytes, &tmp, &e), &e);
    st_model_forward(m, q, &a, &tmp);
    st_download(q, out, a.logits);
    assert_ok(st_stream_sync(q, &e), &e);
    assert_int_equal(tmp.peak, bytes);
    st_device_arena_close(q, &tmp);
    st_device_arena_close(q, &mem);
}

struct rounded {
    const float *was;
    float *now;
    int blocks;
};

/* What a file in that format gives back. */
static void round_param(void *ctx, const st_param *p)
{
    struct rounded *r = ctx;
    int64_t n = st_numel(p->w);
    uint8_t *blocks = test_malloc((size_t)n * 4);
    if (p->format != ST_F32) {
        st_convert(blocks, p->format, r->was + p->offset, ST_F32, n);
        st_convert(r->now + p->offset, ST_F32, blocks, p->format, n);
        r->blocks++;
    }
    test_free(blocks);
}

static void test_folders(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int blocks; /* parameters */
    } cases[] = {{"q8", NULL, 9},
                 {"q4", "none:wte", 8},
                 {"q4_1", "q8:h.*.attn.*", 9},
                 {"q4:h.1.mlp.c_fc", NULL, 2}};
    const char *dir = st_test_dir();
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const char *path = st_test_path(dir, "m"), *again = st_test_path(dir, "n");
        st_err e = {0};
        st_loaded l;
        st_whole w;
        float want[LOGITS], got[LOGITS];
        st_model *m = open_model(maps), *floats;
        float *flat = fresh(m), *back;
        int64_t n = st_model_elements(m);
        quantize(m, cases[k].a, cases[k].b);
        assert_ok(st_folder_save(path, true, m, flat, ST_F32, NULL, &e), &e);
        struct rounded r = {.was = flat, .now = test_malloc((size_t)n * sizeof *flat)};
        memcpy(r.now, flat, (size_t)n * sizeof *flat);
        st_model_params(m, round_param, &r);
        assert_int_equal(r.blocks, cases[k].blocks);
        assert_ok(st_whole_open(&w, path, NULL, &e), &e);
        assert_true(st_model_quantized(w.model));
        assert_memory_equal(w.flat, r.now, (size_t)n * sizeof *flat);
        assert_ok(st_folder_save(again, true, w.model, w.flat, ST_F32, NULL, &e), &e);
        assert_same_files(st_test_path(path, "model.safetensors"),
                          st_test_path(again, "model.safetensors"));
        assert_same_files(st_test_path(path, "config.json"), st_test_path(again, "config.json"));
        assert_ok(st_folder_read(path, &floats, &back, NULL, &e), &e);
        assert_false(st_model_quantized(floats));
        assert_ok(st_loaded_open(&l, path, "ref", ST_F32, &e), &e);
        assert_int_equal(st_bytes(l.flat), st_model_mixed(l.model, ST_F32));
        assert_true(st_bytes(l.flat) < (size_t)n * sizeof *flat);
        logits(l.model, l.stream, ST_F32, got);
        st_model_bind(floats, st_view1(back, ST_F32, n), (st_tensor){0});
        logits(floats, l.stream, ST_F32, want);
        for (int i = 0; i < LOGITS; i++)
            assert_true(fabsf(got[i] - want[i]) <= 1e-6f * (1 + fabsf(want[i])));
        st_loaded_close(&l);
        assert_ok(st_loaded_open(&l, path, "guard", ST_BF16, &e), &e);
        logits(l.model, l.stream, ST_BF16, got);
        st_loaded_close(&l);
        assert_ok(st_loaded_open(&l, path, "cpu", ST_F32, &e), &e); /* packed, inputs rounded */
        logits(l.model, l.stream, ST_F32, got);
        double off = 0, size = 0;
        for (int i = 0; i < LOGITS; i++) {
            off += pow((double)got[i] - (double)want[i], 2);
            size += pow((double)want[i], 2);
        }
        assert_true(sqrt(off / size) < 0.03);
        st_loaded_close(&l);
        st_whole_close(&w);
        st_model_close(floats);
        st_model_close(m);
        test_free(r.now);
        free(back);
        free(flat);
    }
    st_test_remove(dir);
}

static void refused(const char *text, const char *says)
{
    st_err e = {0};
    st_model *m = open_model(maps);
    assert_st(st_model_quantize(m, &text, 1, NULL, &e), ST_EARG, &e);
    assert_says(&e, says);
    st_model_close(m);
}

static void test_refuses(void **state)
{
    (void)state;
    st_err e = {0};
    refused("q5", "expected q8, q4, q4_1 or none");
    refused("float32", "expected q8, q4, q4_1 or none");
    refused("q4:h.7.*", "matches none of 10 matrices; the nearest name is '");
    refused("q4:h.1.mlp.c_proj", "the map kron:terms=1,m1=12,n1=16 has no rows");
    refused("q4:lm_head", "lm_head is the embedding (tied): name wte");
    st_model *m = open_model(maps);
    json_t *left = NULL;
    assert_ok(st_model_quantize(m, (const char *const[]){"q4"}, 1, &left, &e), &e);
    assert_int_equal(json_array_size(left), 1);
    assert_string_equal(json_string_value(json_array_get(left, 0)), "h.1.mlp.c_proj");
    json_decref(left);
    st_stream *q;
    st_lm_args a = {.batch = 1, .len = LEN};
    assert_ok(st_stream_open(&q, "ref", 1, &e), &e);
    assert_st(st_model_plan(m, q, ST_F32, &a, true, NULL, NULL, &e), ST_EARG, &e);
    assert_says(&e, "blocks of 8 or 4 bits, which have no gradients");
    quantize(m, "none", NULL);
    assert_false(st_model_quantized(m));
    assert_ok(st_model_plan(m, q, ST_F32, &a, true, NULL, NULL, &e), &e);
    st_stream_close(q);
    st_model_close(m);
}

/* What config.json asks for, and what the files then must have. */
static void config_refused(const char *strut, const char *says)
{
    char text[512];
    json_t *config = NULL;
    st_model *m = NULL;
    st_err e = {0};
    snprintf(text, sizeof text,
             "{\"model_type\":\"gpt2\",\"vocab_size\":9,\"n_positions\":4,\"n_embd\":%s}", strut);
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_int_not_equal(st_model_open(&m, config, &e), ST_OK);
    assert_null(m);
    assert_says(&e, says);
    json_decref(config);
}

static void test_configs(void **state)
{
    (void)state;
    config_refused("24,\"n_layer\":1,\"n_head\":1,\"strut\":{\"format\":1,\"quantize\":[]}",
                   "strut.quantize: expected an object");
    config_refused(
        "24,\"n_layer\":1,\"n_head\":1,\"strut\":{\"format\":1,\"quantize\":{\"wte\":\"Q9\"}}",
        "'wte' must be \"Q8_0\", \"Q4_0\" or \"Q4_1\"");
    config_refused(
        "24,\"n_layer\":1,\"n_head\":1,\"strut\":{\"format\":1,\"quantize\":{\"wte\":\"Q8_0\"}}",
        "wte stays floats: the map dense has no rows of whole groups of 32");
    config_refused(
        "32,\"n_layer\":1,\"n_head\":1,\"strut\":{\"format\":1,\"quantize\":{\"x\":\"Q8_0\"}}",
        "'x' matches none");
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_err e = {0};
    st_loaded l;
    st_model *m = open_model("");
    float *flat = fresh(m);
    quantize(m, "q4", NULL);
    assert_ok(st_folder_save(path, false, m, flat, ST_F32, NULL, &e), &e);
    size_t n;
    char *config = st_test_read(st_test_path(path, "config.json"), &n);
    char *at = strstr(config, "Q4_0");
    assert_non_null(at);
    memcpy(at, "Q8_0", 4);
    st_test_write(st_test_path(path, "config.json"), config, n);
    assert_st(st_loaded_open(&l, path, "ref", ST_F32, &e), ST_ESHAPE, &e);
    assert_says(&e, "has shape [");
    free(config);
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_configs),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
