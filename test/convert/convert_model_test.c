/* Converting: checkpoints of other programs compute their logits here, every format gives back what
 * it was given, and what cannot be held is refused with the reason. */
/* Long: every format goes there and back through the same few helpers. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include "eval/generate.h"
#include "files/files.h"
#include "testing.h"
#include "weights/weights.h"
#include <math.h>

static const char *const krony = "test/fixtures/krony";

/* ---- other programs' numbers ----------------------------------------------------------------- */

enum { ROWS = 3, LEN = 13 };

static float *tensor(const st_weights *w, const char *name, int64_t *n)
{
    const st_stored *t = st_weights_find(w, name);
    st_err e;
    assert_non_null(t);
    *n = 1;
    for (int i = 0; i < t->ndim; i++)
        *n *= t->dim[i];
    float *x = calloc((size_t)*n, sizeof *x);
    assert_ok(st_stored_read(t, st_view1(x, ST_F32, *n), &e), &e);
    return x;
}

/* Logits of a model at `path` against NAME of expect.safetensors, and the loss of them. */
static void check_logits(const char *path, const char *gelu, const char *name)
{
    const char *dir = st_test_dir(), *file = st_test_path(dir, "logits");
    char key[64];
    st_weights *w, *got;
    st_loaded l;
    st_err e;
    int32_t ids[ROWS * LEN], targets[ROWS * LEN];
    int64_t n, k;
    st_read_how how = {.heads = 3, .gelu = gelu};
    assert_ok(st_weights_open(&w, st_test_path(krony, "expect.safetensors"), &e), &e);
    assert_ok(st_stored_read(st_weights_find(w, "ids"), st_view1(ids, ST_I32, ROWS * LEN), &e), &e);
    assert_ok(
        st_stored_read(st_weights_find(w, "targets"), st_view1(targets, ST_I32, ROWS * LEN), &e),
        &e);
    snprintf(key, sizeof key, "%s.%s", name, gelu);
    float *want = tensor(w, key, &n);
    strcat(key, ".loss");
    float *loss = tensor(w, key, &k);
    int64_t vocab = n / (ROWS * LEN);
    assert_ok(st_loaded_open_as(&l, path, &how, "cpu", ST_F32, &e), &e);
    assert_int_equal(st_model_lm(l.model).vocab, vocab);
    double sum = 0, off = 0;
    for (int r = 0; r < ROWS; r++) {
        assert_ok(generate_logits(l.model, l.stream, ST_F32, ids + r * LEN, LEN, file, &e), &e);
        assert_ok(st_weights_open(&got, file, &e), &e);
        float *x = tensor(got, "logits", &k);
        assert_int_equal(k, LEN * vocab);
        for (int64_t i = 0; i < k; i++)
            off = fmax(off, fabs((double)x[i] - (double)want[r * k + i]));
        for (int64_t i = 0; i < LEN; i++) {
            double all = 0;
            for (int64_t v = 0; v < vocab; v++)
                all += exp((double)x[i * vocab + v]);
            sum += log(all) - (double)x[i * vocab + targets[r * LEN + i]];
        }
        free(x);
        st_weights_close(got);
    }
    if (off > 1e-5) fail_msg("%s: logits differ by %g", path, off);
    assert_true(fabs(sum / (ROWS * LEN) - (double)loss[0]) < 1e-5);
    st_loaded_close(&l);
    st_weights_close(w);
    free(want);
    free(loss);
    st_test_remove(dir);
}

static void test_others(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"krony.pt", "krony"}, {"krony_old.pt", "krony_old"}, {"ckpt.pt", "ckpt"}, {"hf", "krony"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_logits(st_test_path(krony, cases[i][0]), "tanh", cases[i][1]);
        check_logits(st_test_path(krony, cases[i][0]), "erf", cases[i][1]);
    }
}

/* ---- there and back -------------------------------------------------------------------------- */

typedef struct {
    st_model *m;
    float *flat;
} model;

static model model_read(const char *path, const st_read_how *how)
{
    model x;
    st_err e;
    assert_ok(st_folder_read_as(path, how, &x.m, &x.flat, NULL, &e), &e);
    return x;
}

static void model_free(model *x)
{
    free(x->flat);
    st_model_close(x->m);
}

/* The same matrices and numbers; dropout and such, which not every format keeps, apart. */
static void same_model(const char *path, const model *want)
{
    static const char *const keys[] = {
        "n_embd",     "n_layer",     "n_head", "n_inner",
        "vocab_size", "n_positions", "strut",  "tie_word_embeddings"};
    model got = model_read(path, &(st_read_how){.heads = 3});
    json_t *a = st_model_config(got.m), *b = st_model_config(want->m);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *x = json_object_get(a, keys[i]), *y = json_object_get(b, keys[i]);
        if (x || y) assert_true(json_equal(x, y));
    }
    json_decref(a);
    json_decref(b);
    assert_int_equal(st_model_elements(got.m), st_model_elements(want->m));
    assert_memory_equal(got.flat, want->flat,
                        (size_t)st_model_elements(want->m) * sizeof *got.flat);
    model_free(&got);
}

static const char *const dense_formats[] = {"strut",   "hf",          "dense", "hf-code", "pt",
                                            "nanogpt", "safetensors", "llmc",  "gguf"};
static const char *const any_formats[] = {"strut", "hf-code", "pt", "safetensors"};
static const char *const krony_formats[] = {"strut", "hf-code", "pt", "safetensors", "krony"};

static void convert(const char *in, const char *out, const char *to, const char *dtype)
{
    json_t *r;
    st_err e;
    st_convert_opts o = {.to = to, .dtype = dtype, .how = {.heads = 3}};
    assert_ok(st_convert_model(in, out, &o, &r, &e), &e);
    assert_string_equal(json_string_value(json_object_get(r, "to")), to);
    assert_int_equal(json_array_size(json_object_get(r, "densified")), 0);
    json_decref(r);
}

/* IN through every pair of formats. */
static void every_pair(const char *in, const char *const *formats, int n, const char *dtype)
{
    const char *dir = st_test_dir();
    model want = model_read(in, &(st_read_how){.heads = 3});
    for (int i = 0; i < n; i++) {
        const char *a = st_test_path(dir, formats[i]);
        convert(in, a, formats[i], dtype);
        same_model(a, &want);
        for (int j = 0; j < n; j++) {
            char name[64];
            snprintf(name, sizeof name, "%s-%s", formats[i], formats[j]);
            convert(a, st_test_path(dir, name), formats[j], NULL);
            same_model(st_test_path(dir, name), &want);
        }
    }
    assert_int_equal(st_test_entries(dir), n + n * n);
    model_free(&want);
    st_test_remove(dir);
}

/* DIR/NAME: the tanh fixture with these maps and random weights, biases too. */
static const char *make(const char *dir, const char *name, const char *const *maps, int nmaps,
                        st_dtype dtype)
{
    const char *path = st_test_path(dir, name);
    json_t *config, *mapped;
    st_model *plain, *m;
    st_err e;
    assert_ok(st_json_load(&config, "test/fixtures/gpt2_tanh/config.json", 65536, &e), &e);
    assert_ok(st_model_open(&plain, config, &e), &e);
    assert_ok(st_model_remap(plain, maps, nmaps, NULL, 0, &mapped, &e), &e);
    assert_ok(st_model_open(&m, mapped, &e), &e);
    int64_t n = st_model_elements(m);
    float *flat = calloc((size_t)n, sizeof *flat);
    st_normal_fill(flat, n, 0.1f, 0.5f, 5, 5);
    assert_ok(st_folder_save(path, false, m, flat, dtype, NULL, &e), &e);
    free(flat);
    json_decref(config);
    json_decref(mapped);
    st_model_close(plain);
    st_model_close(m);
    return path;
}

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

static void test_pairs_dense(void **state)
{
    (void)state;
    every_pair("test/fixtures/gpt2_tanh", dense_formats, COUNT(dense_formats), NULL);
    every_pair("test/fixtures/gpt2_untied", any_formats, COUNT(any_formats), NULL);
    every_pair("test/fixtures/gpt2_erf", any_formats, COUNT(any_formats), NULL);
}

static void test_pairs_structured(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static const char *const mixed[] = {"h.0.mlp.*=monarch:blocks=4", "h.1.mlp.c_fc=ss1:factor=3",
                                        "h.1.attn.*=lowrank:rank=3+blockdiag:blocks=4+gate",
                                        "lm_head=lowrank:rank=5"},
                             *const one[] = {"h.*.mlp.c_fc=kron:terms=2,m1=12,n1=32,scalars=1",
                                             "h.*.mlp.c_proj=kron:terms=2,m1=32,n1=12,scalars=1"};
    every_pair(make(dir, "mixed", mixed, COUNT(mixed), ST_F32), any_formats, COUNT(any_formats),
               NULL);
    every_pair(make(dir, "krony", one, COUNT(one), ST_F32), krony_formats, COUNT(krony_formats),
               NULL);
    st_test_remove(dir);
}

/* Half-precision numbers stay what they are where the dtype is not changed. */
static void test_pairs_half(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static const char *const six[] = {"strut", "hf", "pt", "nanogpt", "safetensors"};
    every_pair(make(dir, "f16", NULL, 0, ST_F16), six, COUNT(six), NULL);
    every_pair(make(dir, "bf16", NULL, 0, ST_BF16), six, COUNT(six), NULL);
    every_pair(st_test_path(dir, "bf16"), six, COUNT(six), "f32");
    st_test_remove(dir);
}

/* Every tensor of `want`, a file of another program, is in `got` under its name without `prefix`,
 * with its shape and numbers. */
static void same_tensors(const char *got, const char *want, const char *prefix)
{
    st_weights *a, *b;
    st_err e;
    assert_ok(st_weights_open(&a, got, &e), &e);
    assert_ok(st_weights_open(&b, want, &e), &e);
    for (int64_t i = 0; i < st_weights_count(b); i++) {
        const st_stored *y = st_weights_at(b, i);
        const st_stored *x = st_weights_find(a, y->name + strlen(prefix));
        if (!x) fail_msg("%s: no tensor %s", got, y->name + strlen(prefix));
        assert_int_equal(x->ndim, y->ndim);
        assert_memory_equal(x->dim, y->dim, (size_t)x->ndim * sizeof *x->dim);
        int64_t n, k;
        float *u = tensor(a, x->name, &n), *v = tensor(b, y->name, &k);
        assert_memory_equal(u, v, (size_t)n * sizeof *u);
        free(u);
        free(v);
    }
    st_weights_close(a);
    st_weights_close(b);
}

/* What other programs wrote comes back under their names, in their orientation. */
static void test_golden(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    st_weights *w;
    st_err e;
    convert(st_test_path(krony, "krony.pt"), path, "krony", NULL);
    same_tensors(path, st_test_path(krony, "krony.pt"), "module.");
    assert_ok(st_weights_open(&w, path, &e), &e);
    assert_int_equal(json_object_size(st_weights_extra(w)), 0); /* a bare state dict */
    st_weights_close(w);
    remove(path);
    convert(st_test_path(krony, "ckpt.pt"), path, "nanogpt", NULL);
    same_tensors(path, st_test_path(krony, "ckpt.pt"), "_orig_mod.");
    assert_ok(st_weights_open(&w, path, &e), &e);
    const json_t *args = json_object_get(st_weights_extra(w), "model_args");
    assert_int_equal(json_integer_value(json_object_get(args, "block_size")), 16);
    assert_int_equal(json_integer_value(json_object_get(args, "n_head")), 3);
    assert_true(json_is_true(json_object_get(args, "bias")));
    assert_int_equal(st_weights_count(w), 3 + 2 + 2 * 12);
    st_weights_close(w);
    remove(path);
    convert("test/fixtures/gpt2_tanh", path, "safetensors", NULL);
    same_tensors(path, "test/fixtures/gpt2_tanh/model.safetensors", "");
    st_test_remove(dir);
}

/* ---- what changes ---------------------------------------------------------------------------- */

/* Structured to dense: the same function. */
static void test_dense(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "hf");
    json_t *r;
    st_err e;
    st_convert_opts o = {.to = "hf", .how = {.heads = 3}};
    assert_ok(st_convert_model(st_test_path(krony, "krony.pt"), path, &o, &r, &e), &e);
    assert_int_equal(json_array_size(json_object_get(r, "densified")), 4);
    assert_string_equal(json_string_value(json_object_get(r, "from")), "krony");
    assert_true(json_array_size(json_object_get(r, "notes")) == 1); /* the GELU */
    json_decref(r);
    check_logits(path, "tanh", "krony");
    model hf = model_read(st_test_path(krony, "hf"), NULL), got = model_read(path, NULL);
    int64_t n = st_model_elements(hf.m);
    assert_int_equal(n, st_model_elements(got.m));
    for (int64_t i = 0; i < n; i++)
        assert_true(fabsf(hf.flat[i] - got.flat[i]) < 1e-6f);
    model_free(&hf);
    model_free(&got);
    o.how.gelu = "erf";
    o.replace = true;
    assert_ok(st_convert_model(st_test_path(krony, "ckpt.pt"), path, &o, &r, &e), &e);
    json_decref(r);
    json_t *config;
    assert_ok(st_json_load(&config, st_test_path(path, "config.json"), 65536, &e), &e);
    assert_string_equal(json_string_value(json_object_get(config, "activation_function")), "gelu");
    assert_int_equal(json_integer_value(json_object_get(config, "vocab_size")), 104);
    json_decref(config);
    check_logits(path, "erf", "ckpt");
    st_test_remove(dir);
}

static void test_shards(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m"),
               *in = "test/fixtures/gpt2_tanh";
    model want = model_read(in, NULL);
    json_t *r, *index;
    st_err e;
    st_convert_opts o = {.to = "hf", .shard_bytes = 20000};
    assert_ok(st_convert_model(in, path, &o, &r, &e), &e);
    json_decref(r);
    same_model(path, &want);
    assert_false(st_path_exists(st_test_path(path, "model.safetensors")));
    assert_ok(st_json_load(&index, st_test_path(path, "model.safetensors.index.json"), 65536, &e),
              &e);
    int64_t total =
        json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size"));
    assert_int_equal(total, 4 * st_model_counts(want.m).parameters);
    int files = st_test_entries(path) - 4; /* both configs, index, README.md */
    assert_true(files >= total / 20000 && files < 12);
    /* half of it missing */
    char name[64];
    snprintf(name, sizeof name, "model-00002-of-%05d.safetensors", files);
    assert_int_equal(remove(st_test_path(path, name)), 0);
    st_model *m;
    float *flat;
    assert_st(st_folder_read(path, &m, &flat, NULL, &e), ST_EIO, &e);
    assert_says(&e, name);
    json_decref(index);
    model_free(&want);
    st_test_remove(dir);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void refused(const char *in, const char *to, const char *dtype, st_status code,
                    const char *says)
{
    const char *dir = st_test_dir();
    json_t *r = NULL;
    st_err e;
    st_convert_opts o = {.to = to, .dtype = dtype, .how = {.heads = in[0] == 't' ? 3 : 0}};
    assert_st(st_convert_model(in, st_test_path(dir, "x"), &o, &r, &e), code, &e);
    assert_says(&e, says);
    assert_null(r);
    assert_int_equal(st_test_entries(dir), 0);
    st_test_remove(dir);
}

static void test_refused(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static const char *const
        gate[] = {"h.0.mlp.c_fc=lowrank:rank=3+blockdiag:blocks=4+gate"},
        *const attn[] = {"h.*.mlp.c_fc=kron:m1=12,n1=32", "h.*.mlp.c_proj=kron:m1=32,n1=12",
                         "h.1.attn.c_attn=lowrank:rank=2"},
        *const uneven[] = {"h.0.mlp.*=kron:m1=24,n1=24", "h.1.mlp.*=kron:m1=12,n1=12"},
        *const ss1[] = {"h.*.mlp.*=ss1:factor=2"}, *const head[] = {"lm_head=lowrank:rank=3"};
    const char *gated = make(dir, "gate", gate, 1, ST_F32);
    static const char *const flat[] = {"hf", "nanogpt", "llmc", "gguf"};
    for (int i = 0; i < 4; i++)
        refused(gated, flat[i], NULL, ST_EUNSUPPORTED, "h.0.mlp.c_fc: is a gated sum");
    refused(make(dir, "head", head, 1, ST_F32), "nanogpt", NULL, ST_EUNSUPPORTED,
            "its head is not tied");
    refused(make(dir, "ss1", ss1, 1, ST_F32), "krony", NULL, ST_EUNSUPPORTED,
            "h.0.mlp.c_fc is ss1:");
    refused(make(dir, "attn", attn, 3, ST_F32), "krony", NULL, ST_EUNSUPPORTED,
            "h.1.attn.c_attn is lowrank:rank=2");
    refused(make(dir, "uneven", uneven, 2, ST_F32), "krony", NULL, ST_EUNSUPPORTED,
            "h.1.mlp.c_fc is kron:terms=1,m1=12,n1=12, expected kron:terms=1,m1=24");
    refused("test/fixtures/gpt2_tanh", "krony", NULL, ST_EUNSUPPORTED, "h.0.mlp.c_fc is dense");
    refused("test/fixtures/gpt2_untied", "nanogpt", NULL, ST_EUNSUPPORTED, "scale_attn_weights");
    refused("test/fixtures/gpt2_erf", "llmc", NULL, ST_EUNSUPPORTED, "scale_attn_by_inverse");
    refused("test/fixtures/gpt2_tanh", "llmc", "f16", ST_EUNSUPPORTED, "f32 or bf16");
    refused("test/fixtures/gpt2_tanh", "nanogtp", NULL, ST_EARG,
            "unknown format (did you mean nanogpt?)");
    refused("test/fixtures/gpt2_tanh", "hf", "int8", ST_EARG, "expected f32, f16 or bf16");
    st_test_remove(dir);
}

/* Numbers that float16 cannot hold, and files that are there. */
static void test_output(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m"),
               *pt = st_test_path(dir, "x.pt");
    model x = model_read("test/fixtures/gpt2_tanh", NULL);
    json_t *r = NULL;
    st_err e;
    x.flat[0] = 70000.0f;
    assert_ok(st_folder_save(path, false, x.m, x.flat, ST_F32, NULL, &e), &e);
    refused(path, "hf", "f16", ST_EARG, "transformer.wte.weight: 70000 does not fit into float16");
    refused(path, "pt", "f16", ST_EARG, "transformer.wte.weight: 70000 does not fit into float16");
    st_convert_opts o = {.to = "pt", .dtype = "bf16"};
    st_test_write(pt, "mine", 4);
    assert_st(st_convert_model(path, pt, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "exists; --force replaces it");
    assert_st(st_convert_model(path, path, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "is a folder");
    o.replace = true;
    assert_st(st_convert_model(path, pt, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "is there and not a file of weights");
    st_test_write(pt, "", 0);
    assert_ok(st_convert_model(path, pt, &o, &r, &e), &e);
    json_decref(r);
    assert_int_equal(st_test_entries(dir), 2);
    model_free(&x);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others),           cmocka_unit_test(test_pairs_dense),
        cmocka_unit_test(test_pairs_structured), cmocka_unit_test(test_pairs_half),
        cmocka_unit_test(test_golden),           cmocka_unit_test(test_dense),
        cmocka_unit_test(test_shards),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
