/* Llama-shaped models there and back: Hugging Face's folders, in one file and in shards, and GGUF
 * files give the bytes they were given; what GGUF or another program cannot hold is refused. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include "testing.h"
#include "weights/weights.h"
#include <math.h>
#include <sys/stat.h>

static const char *const models[] = {"llama_plain", "llama_long",    "mistral_window",
                                     "qwen2_mixed", "qwen3_dynamic", "gemma3_mixed"};
enum { MODELS = sizeof models / sizeof *models };

static void *bytes_of(const st_stored *t, size_t *n)
{
    int64_t count = 1;
    st_err e;
    for (int i = 0; i < t->ndim; i++)
        count *= t->dim[i];
    *n = (size_t)count * sizeof(float);
    float *x = malloc(*n);
    assert_ok(st_stored_read(t, st_view1(x, ST_F32, count), &e), &e);
    return x;
}

/* Every tensor of `want`, a file, is in `path`, a file or a folder of strut's. */
static void same_tensors(const char *want, const char *path)
{
    st_weights *a, *b;
    st_err e;
    assert_ok(st_weights_open(&a, want, &e), &e);
    assert_ok(st_weights_open(&b, path, &e), &e);
    assert_int_equal(st_weights_count(a), st_weights_count(b));
    for (int64_t i = 0; i < st_weights_count(a); i++) {
        const st_stored *x = st_weights_at(a, i), *y = st_weights_find(b, x->name);
        size_t n, m;
        if (!y) fail_msg("%s has no %s", path, x->name);
        void *u = bytes_of(x, &n), *v = bytes_of(y, &m);
        assert_int_equal(n, m);
        assert_memory_equal(u, v, n);
        free(u);
        free(v);
    }
    st_weights_close(a);
    st_weights_close(b);
}

static void convert(const char *in, const char *out, const char *to, int64_t shard)
{
    st_convert_opts o = {.to = to, .shard_bytes = shard};
    json_t *r;
    st_err e;
    assert_ok(st_convert_model(in, out, &o, &r, &e), &e);
    json_decref(r);
}

static void refused(const char *in, const char *out, const char *to, const char *says)
{
    st_convert_opts o = {.to = to};
    json_t *r;
    st_err e;
    assert_st(st_convert_model(in, out, &o, &r, &e), ST_EUNSUPPORTED, &e);
    assert_says(&e, says);
}

static const char *fixture(const char *name, const char *file)
{
    static char text[4][128];
    static int turn;
    char *to = text[turn++ % 4];
    snprintf(to, sizeof text[0], "test/fixtures/%s%s%s", name, file ? "/" : "", file ? file : "");
    return to;
}

/* A copy of the model `name` whose config.json says other things. */
static void changed(const char *dir, const char *name, const char *key, json_t *value)
{
    char path[512];
    size_t n;
    json_t *config = json_load_file(fixture(name, "config.json"), 0, NULL);
    assert_non_null(config);
    json_object_set_new(config, key, value);
    assert_int_equal(mkdir(dir, 0777), 0);
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    char *weights = st_test_read(fixture(name, "model.safetensors"), &n);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    st_test_write(path, weights, n);
    free(weights);
    json_decref(config);
}

static void test_folders(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const char *dir = st_test_dir(), *one = st_test_path(dir, "one");
        const char *shards = st_test_path(dir, "shards"), *back = st_test_path(dir, "back");
        convert(fixture(models[i], NULL), one, "hf", 0);
        same_tensors(fixture(models[i], "model.safetensors"),
                     st_test_path(one, "model.safetensors"));
        convert(one, shards, "hf", 8000);
        convert(shards, back, "hf", 0);
        same_tensors(fixture(models[i], "model.safetensors"),
                     st_test_path(back, "model.safetensors"));
        json_t *x = json_load_file(st_test_path(one, "config.json"), 0, NULL);
        json_t *y = json_load_file(st_test_path(back, "config.json"), 0, NULL);
        assert_true(x && json_equal(x, y));
        json_decref(x);
        json_decref(y);
        refused(one, st_test_path(dir, "no"), "nanogpt", "expected a GPT-2");
        refused(one, st_test_path(dir, "no"), "llmc", "expected a GPT-2");
        st_test_remove(dir);
    }
}

/* The model `from` through a GGUF file, which has the same shape and numbers. */
static void through_gguf(const char *dir, const char *from)
{
    static const char *const keys[] = {"hidden_size",
                                       "num_key_value_heads",
                                       "head_dim",
                                       "rms_norm_eps",
                                       "rope_theta",
                                       "rope_scaling",
                                       "attention_bias",
                                       "mlp_bias",
                                       "vocab_size",
                                       "num_hidden_layers",
                                       "tie_word_embeddings",
                                       "model_type",
                                       "layer_types",
                                       "rope_local_base_freq",
                                       "query_pre_attn_scalar"};
    const char *file = st_test_path(dir, "x.gguf"), *back = st_test_path(dir, "back");
    convert(from, file, "gguf", 0);
    convert(file, back, "hf", 0);
    same_tensors(st_test_path(from, "model.safetensors"), st_test_path(back, "model.safetensors"));
    const char *ours = st_test_path(dir, "ours");
    convert(from, ours, "hf", 0);
    json_t *x = json_load_file(st_test_path(ours, "config.json"), 0, NULL);
    json_t *y = json_load_file(st_test_path(back, "config.json"), 0, NULL);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *u = json_object_get(x, keys[i]), *v = json_object_get(y, keys[i]);
        bool same = json_is_real(u) ? fabs(json_real_value(u) - json_number_value(v)) <=
                                          1e-6 * fabs(json_real_value(u))
                                    : (!u && !v) || json_equal(u, v);
        if (!same) fail_msg("%s: %s is another", from, keys[i]);
    }
    json_decref(x);
    json_decref(y);
    st_test_remove(dir);
}

static void test_gguf(void **state)
{
    (void)state;
    /* rows of queries and keys by pairs */
    through_gguf(st_test_dir(), "test/fixtures/llama_plain");
    /* the scaling of Llama 3 from its divisors, biases */
    const char *dir = st_test_dir(), *model = st_test_path(dir, "m");
    changed(model, "llama_long", "hidden_act", json_string("silu"));
    json_t *config = json_load_file(st_test_path(model, "config.json"), 0, NULL);
    json_t *rope = json_object_get(config, "rope_parameters");
    json_object_set_new(rope, "original_max_position_embeddings", json_integer(8192));
    json_object_set_new(rope, "rope_theta", json_real(1e6));
    assert_int_equal(json_dump_file(config, st_test_path(model, "config.json"), 0), 0);
    json_decref(config);
    through_gguf(dir, model);
    /* norms of heads, rows by halves */
    dir = st_test_dir(), model = st_test_path(dir, "m");
    changed(model, "qwen3_dynamic", "rope_parameters", json_pack("{s:f}", "rope_theta", 100.0));
    through_gguf(dir, model);
    /* gains stored less 1, windows and frequencies by block */
    dir = st_test_dir(), model = st_test_path(dir, "m");
    changed(model, "gemma3_mixed", "query_pre_attn_scalar", json_integer(8));
    through_gguf(dir, model);
}

/* What a GGUF file's keys say of windows: the model_type, its window and the blocks that have it.
 */
static const struct {
    const char *file, *type, *layers;
} windows[] = {
    {"test/fixtures/torch/windows/llama.gguf", "mistral", NULL},
    {"test/fixtures/torch/windows/qwen2.gguf", "qwen2", "sfs"},
    {"test/fixtures/torch/windows/gemma3.gguf", "gemma3_text", "sfs"},
};

static void test_windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        const char *dir = st_test_dir(), *out = st_test_path(dir, "hf");
        convert(windows[i].file, out, "hf", 0);
        json_t *config = json_load_file(st_test_path(out, "config.json"), 0, NULL);
        const json_t *types = json_object_get(config, "layer_types");
        const char *type = json_string_value(json_object_get(config, "model_type"));
        assert_string_equal(type, windows[i].type);
        assert_int_equal(json_integer_value(json_object_get(config, "sliding_window")), 16);
        for (size_t k = 0; windows[i].layers && windows[i].layers[k]; k++) {
            const char *is = json_string_value(json_array_get(types, k));
            assert_int_equal(is[0], windows[i].layers[k]);
        }
        json_decref(config);
        st_test_remove(dir);
    }
}

static void test_refused(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *no = st_test_path(dir, "no.gguf");
    refused("test/fixtures/llama_long", no, "gguf", "has silu, not gelu");
    refused("test/fixtures/mistral_window", no, "gguf", "no window of attention");
    refused("test/fixtures/qwen3_dynamic", no, "gguf", "no dynamic rope_scaling");
    refused("test/fixtures/gemma3_mixed", no, "gguf", "divides scores by sqrt(8)");
    assert_int_equal(st_test_entries(dir), 0);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
