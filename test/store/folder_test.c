/* Model folders: Hugging Face's fixtures in and out, structured models, wrappers' prefixes, shards,
 * and every way the weights can disagree with config.json. */
/* Long: tables of folders and what is said of each. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "rig/tensors.h"
#include "store/store.h"
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const fixture = "test/fixtures/gpt2_tanh";
static const char *folder_new(const char *source)
{
    const char *dir = st_test_dir();
    st_err e;
    assert_ok(
        st_copy_file(st_test_path(source, "config.json"), st_test_path(dir, "config.json"), &e),
        &e);
    return dir;
}

/* Reads a folder that must fail so. */
static void refused(const char *dir, st_status code, const char *says)
{
    st_model *m;
    float *flat;
    st_bpe *b;
    st_err e;
    assert_st(st_folder_read(dir, &m, &flat, &b, &e), code, &e);
    assert_says(&e, says);
    assert_true(!m && !flat && !b);
    st_loaded l;
    assert_st(st_loaded_open(&l, dir, "ref", ST_F32, &e), code, &e);
    assert_says(&e, says);
    assert_null(l.model);
}

/* The weights of a folder, which must be readable. */
static float *weights(const char *dir, int64_t *n)
{
    st_model *m;
    float *flat;
    st_err e;
    assert_ok(st_folder_read(dir, &m, &flat, NULL, &e), &e);
    *n = st_model_elements(m);
    st_model_close(m);
    return flat;
}

static void same_weights(const char *a, const char *b)
{
    int64_t n, k;
    float *x = weights(a, &n), *y = weights(b, &k);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    free(x);
    free(y);
}

/* ---- tests ----------------------------------------------------------------------------------- */

struct find {
    const char *name;
    const st_param *p;
};

static void find_param(void *ctx, const st_param *p)
{
    struct find *f = ctx;
    if (strcmp(p->name, f->name) == 0) f->p = p;
}

static void test_read(void **state)
{
    (void)state;
    st_model *m;
    float *flat;
    st_bpe *b;
    st_err e;
    assert_ok(st_folder_read(fixture, &m, &flat, &b, &e), &e);
    assert_null(b);
    tensors *t = tensors_read(fixture);
    struct find fc = {.name = "h.1.mlp.c_fc.weight"}, ln = {.name = "h.0.ln_2.bias"};
    st_model_params(m, find_param, &fc);
    st_model_params(m, find_param, &ln);
    int64_t i = tensors_find(t, "transformer.h.1.mlp.c_fc.weight"), in = 24, out = 96;
    assert_int_equal(t->item[i].dim[0], in);
    for (int64_t r = 0; r < out; r++) {
        for (int64_t c = 0; c < in; c++) {
            assert_true(flat[fc.p->offset + r * in + c] == t->data[i][c * out + r]);
        }
    }
    i = tensors_find(t, "transformer.h.0.ln_2.bias");
    assert_memory_equal(flat + ln.p->offset, t->data[i], 24 * sizeof(float));
    tensors_free(t);
    free(flat);
    st_model_close(m);
}

/* What we write from a Hugging Face model has its names, shapes and numbers: no more, no less. */
static void test_save_is_hf(void **state)
{
    (void)state;
    static const char *const all[] = {"test/fixtures/gpt2_tanh", "test/fixtures/gpt2_erf",
                                      "test/fixtures/gpt2_untied"};
    for (int k = 0; k < 3; k++) {
        const char *dir = st_test_dir(), *out = st_test_path(dir, "m");
        st_model *m;
        float *flat;
        st_err e;
        assert_ok(st_folder_read(all[k], &m, &flat, NULL, &e), &e);
        assert_ok(st_folder_save(out, false, m, flat, ST_F32, NULL, &e), &e);
        assert_st(st_folder_save(out, false, m, flat, ST_F32, NULL, &e), ST_EARG, &e);
        assert_ok(st_folder_save(out, true, m, flat, ST_F32, NULL, &e), &e);
        assert_int_equal(st_test_entries(dir), 1);
        assert_int_equal(st_test_entries(out), 3);
        tensors *want = tensors_read(all[k]), *got = tensors_read(out);
        assert_int_equal(got->n, want->n);
        for (int64_t i = 0; i < want->n; i++) {
            int64_t j = tensors_find(got, want->name[i]);
            assert_int_equal(got->item[j].ndim, want->item[i].ndim);
            assert_memory_equal(got->item[j].dim, want->item[i].dim, sizeof want->item[i].dim);
            assert_memory_equal(got->data[j], want->data[i],
                                (size_t)item_numel(&want->item[i]) * sizeof(float));
        }
        json_t *g, *c;
        assert_ok(st_json_load(&g, st_test_path(out, "generation_config.json"), 4096, &e), &e);
        assert_int_equal(json_integer_value(json_object_get(g, "eos_token_id")), 96);
        assert_ok(st_json_load(&c, st_test_path(out, "config.json"), 4096, &e), &e);
        assert_string_equal(json_string_value(json_object_get(c, "torch_dtype")), "float32");
        assert_null(json_object_get(c, "strut"));
        json_decref(g);
        json_decref(c);
        tensors_free(want);
        tensors_free(got);
        free(flat);
        st_model_close(m);
        st_test_remove(dir);
    }
}

/* The tanh fixture's config with maps, and random weights for it. */
static float *structured(st_model **m)
{
    json_t *config,
        *maps = json_pack("{s:s, s:s, s:s}", "h.*.mlp.c_fc", "lowrank:rank=5", "h.0.attn.c_attn",
                          "blockdiag:blocks=3", "lm_head", "lowrank:rank=7");
    st_err e;
    assert_ok(st_json_load(&config, st_test_path(fixture, "config.json"), 65536, &e), &e);
    json_object_set_new(config, "strut", json_pack("{s:i, s:o}", "format", 1, "maps", maps));
    assert_ok(st_model_open(m, config, &e), &e);
    json_decref(config);
    float *flat = calloc((size_t)st_model_elements(*m), sizeof *flat);
    assert_int_equal(st_fresh_weights(*m, 7, flat, NULL), ST_OK);
    return flat;
}

static void test_structured_round_trip(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_model *m;
    float *flat = structured(&m);
    int64_t n = st_model_elements(m), k;
    st_err e;
    assert_ok(st_folder_save(st_test_path(dir, "f32"), false, m, flat, ST_F32, NULL, &e), &e);
    float *got = weights(st_test_path(dir, "f32"), &k);
    assert_int_equal(k, n);
    assert_memory_equal(got, flat, (size_t)n * sizeof *flat);
    free(got);
    tensors *t = tensors_read(st_test_path(dir, "f32"));
    int64_t i = tensors_find(t, "transformer.h.0.mlp.c_fc.u");
    assert_int_equal(t->item[i].dim[0], 96);
    assert_int_equal(t->item[i].dim[1], 5);
    tensors_find(t, "transformer.h.0.mlp.c_fc.bias");
    tensors_find(t, "lm_head.u");
    tensors_free(t);
    assert_ok(st_folder_save(st_test_path(dir, "b"), false, m, flat, ST_BF16, NULL, &e), &e);
    got = weights(st_test_path(dir, "b"), &k);
    for (int64_t j = 0; j < n; j++) {
        assert_true(got[j] == st_bf16_to_f32(st_f32_to_bf16(flat[j])));
    }
    free(got);
    st_weights *f;
    assert_ok(st_weights_open(&f, st_test_path(dir, "b/model.safetensors"), &e), &e);
    assert_string_equal(st_weights_at(f, 0)->dtype, "BF16");
    st_weights_close(f);
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

static void test_loaded(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_model *m;
    float *flat = structured(&m);
    int64_t n = st_model_elements(m);
    st_err e;
    assert_ok(st_folder_save(path, false, m, flat, ST_F32, NULL, &e), &e);
    for (int k = 0; k < 4; k++) {
        st_dtype t = k & 1 ? ST_BF16 : ST_F32;
        st_loaded l;
        assert_ok(st_loaded_open(&l, path, k & 2 ? "cpu" : "ref", t, &e), &e);
        assert_string_equal(l.path, path);
        assert_null(l.tokenizer);
        assert_int_equal(st_numel(l.flat), n);
        void *got = st_calloc(n, st_dtype_size(t)), *want = st_calloc(n, st_dtype_size(t));
        st_download(l.stream, got, l.flat);
        st_convert(want, t, flat, ST_F32, n);
        assert_memory_equal(got, want, st_bytes(l.flat));
        free(got);
        free(want);
        struct find fc = {.name = "wpe.weight"};
        st_model_params(l.model, find_param, &fc);
        assert_non_null(fc.p->w.data);
        st_loaded_close(&l);
        st_loaded_close(&l);
    }
    st_loaded l;
    assert_st(st_loaded_open(&l, path, "gpu", ST_F32, &e), ST_EARG, &e);
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

/* Names as the original gpt2 file (no prefix, mask buffers) and as wrappers write them. */
static void test_prefixes(void **state)
{
    (void)state;
    static const char *const prefix[] = {"", "module.transformer.", "_orig_mod.transformer.",
                                         "transformer.", "_orig_mod.module."};
    for (size_t k = 0; k < sizeof prefix / sizeof *prefix; k++) {
        const char *dir = folder_new(fixture);
        tensors *t = tensors_read(fixture);
        for (int64_t i = 0; i < t->n; i++) {
            char bare[160];
            snprintf(bare, sizeof bare, "%s", t->name[i] + strlen("transformer."));
            snprintf(t->name[i], sizeof t->name[i], "%s%.100s", prefix[k], bare);
        }
        char name[160];
        snprintf(name, sizeof name, "%sh.0.attn.bias", prefix[k]);
        tensors_add(t, name, ST_U8, 4, (int64_t[]){1, 1, 16, 16});
        snprintf(name, sizeof name, "%sh.1.attn.masked_bias", prefix[k]);
        tensors_add(t, name, ST_F32, 0, NULL);
        int64_t wte = k == 3 ? tensors_find(t, "transformer.wte.weight") : -1;
        if (wte >= 0) {
            int64_t i = tensors_add(t, "lm_head.weight", ST_F32, 2, t->item[wte].dim);
            memcpy(t->data[i], t->data[wte], (size_t)item_numel(&t->item[wte]) * sizeof(float));
        }
        tensors_write(t, 0, t->n, dir, "model.safetensors");
        same_weights(dir, fixture);
        tensors_free(t);
        st_test_remove(dir);
    }
}

static void test_disagreements(void **state)
{
    (void)state;
    enum { NONE, NAN_, INF, RENAME, DROP, EXTRA, TWICE, HEAD, HEAD_SHAPE, TURN, FLAT, INT, KINDS };
    static const struct {
        st_status code;
        const char *says;
    } want[KINDS] = {
        [NAN_] = {ST_EFORMAT, "transformer.h.0.attn.c_attn.weight: element 5 is nan"},
        [INF] = {ST_EFORMAT, "transformer.h.0.attn.c_attn.weight: element 0 is -inf"},
        [RENAME] = {ST_EFORMAT, "no tensor h.1.ln_1.weight, which config.json asks for; the "
                                "nearest there is h.1.ln1.weight"},
        [DROP] = {ST_EFORMAT, "no tensor h.1.mlp.c_proj.weight, of the map dense, which"},
        [EXTRA] = {ST_EFORMAT, "unexpected tensor transformer.h.2.ln_1.weight"},
        [TWICE] = {ST_EFORMAT, "transformer.wpe.weight and wpe.weight are the same"},
        [HEAD] = {ST_EFORMAT, "lm_head.weight differs from wte.weight"},
        [HEAD_SHAPE] = {ST_EFORMAT, "lm_head.weight differs from wte.weight"},
        [TURN] = {ST_ESHAPE, "shape [96, 24], expected [24, 96] by config.json; it is transposed"},
        [FLAT] = {ST_ESHAPE, "transformer.wpe.weight has shape [384], expected [16, 24]"},
        [INT] = {ST_EFORMAT, "transformer.ln_f.bias is stored as I32"},
    };
    for (int k = NAN_; k < KINDS; k++) {
        const char *dir = folder_new(fixture);
        tensors *t = tensors_read(fixture);
        int64_t attn = tensors_find(t, "transformer.h.0.attn.c_attn.weight"), i;
        int64_t wte = tensors_find(t, "transformer.wte.weight");
        switch (k) {
        case NAN_: t->data[attn][5] = NAN; break;
        case INF: t->data[attn][0] = -INFINITY; break;
        case RENAME:
            strcpy(t->name[tensors_find(t, "transformer.h.1.ln_1.weight")],
                   "transformer.h.1.ln1.weight");
            break;
        case DROP:
            i = tensors_find(t, "transformer.h.1.mlp.c_proj.weight");
            strcpy(t->name[i], "transformer.h.1.attn.bias"); /* ignored */
            break;
        case EXTRA:
            tensors_add(t, "transformer.h.2.ln_1.weight", ST_F32, 1, (int64_t[]){24});
            break;
        case TWICE: tensors_add(t, "wpe.weight", ST_F32, 2, (int64_t[]){16, 24}); break;
        case HEAD:
            i = tensors_add(t, "lm_head.weight", ST_F32, 2, (int64_t[]){97, 24});
            memcpy(t->data[i], t->data[wte], 97 * 24 * sizeof(float));
            t->data[i][97 * 24 - 1] += 1;
            break;
        case HEAD_SHAPE: tensors_add(t, "lm_head.weight", ST_F32, 2, (int64_t[]){128, 24}); break;
        case TURN:
            i = tensors_find(t, "transformer.h.0.mlp.c_fc.weight");
            t->item[i].dim[0] = 96;
            t->item[i].dim[1] = 24;
            break;
        case FLAT:
            i = tensors_find(t, "transformer.wpe.weight");
            t->item[i].ndim = 1;
            t->item[i].dim[0] = 384;
            break;
        case INT: t->item[tensors_find(t, "transformer.ln_f.bias")].dtype = ST_I32; break;
        default: break;
        }
        tensors_write(t, 0, t->n, dir, "model.safetensors");
        refused(dir, want[k].code, want[k].says);
        tensors_free(t);
        st_test_remove(dir);
    }
}

static void write_text(const char *dir, const char *name, const char *text)
{
    st_test_write(st_test_path(dir, name), text, strlen(text));
}

/* An index that puts the first `cut` tensors into one file and the others into another. */
static void write_index(const tensors *t, int64_t cut, const char *dir)
{
    json_t *map = json_object();
    for (int64_t i = 0; i < t->n; i++) {
        json_object_set_new(map, t->name[i],
                            json_string(i < cut ? "a.safetensors" : "b.safetensors"));
    }
    json_t *index = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 1, "weight_map", map);
    assert_int_equal(json_dump_file(index, st_test_path(dir, "model.safetensors.index.json"), 0),
                     0);
    json_decref(index);
}

static void test_shards(void **state)
{
    (void)state;
    const char *dir = folder_new(fixture), *index = "model.safetensors.index.json";
    tensors *t = tensors_read(fixture);
    int64_t cut = t->n / 3;
    tensors_write(t, 0, cut, dir, "a.safetensors");
    tensors_write(t, cut, t->n, dir, "b.safetensors");
    write_index(t, cut, dir);
    same_weights(dir, fixture);
    write_index(t, cut - 1, dir);
    refused(dir, ST_EFORMAT, "where the index says it is");
    write_text(dir, index, "{\"weight_map\": {\"a\": \"../b.safetensors\"}}");
    refused(dir, ST_EFORMAT, "expected one of the same folder");
    write_text(dir, index, "{\"weight_map\": {\"a\": \"\"}}");
    refused(dir, ST_EFORMAT, "expected one of the same folder");
    write_text(dir, index, "{\"weight_map\": {\"a\": \"none.safetensors\"}}");
    refused(dir, ST_EIO, "none.safetensors");
    write_text(dir, index, "{\"weight_map\": {\"a\": 1}}");
    refused(dir, ST_EFORMAT, "is no file name");
    write_text(dir, index, "{\"weight_map\": {}}");
    refused(dir, ST_EFORMAT, "no weight_map");
    write_text(dir, index, "[]");
    refused(dir, ST_EFORMAT, "no weight_map");
    tensors_free(t);
    st_test_remove(dir);
}

static void test_no_folder(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *bare = folder_new(fixture);
    refused(st_test_path(dir, "none"), ST_EIO, "no such file or folder");
    refused(st_test_path(bare, "config.json"), ST_EARG, "is a JSON file, expected a model");
    refused(dir, ST_EIO, "config.json");
    refused(bare, ST_EIO, "no model.safetensors");
    write_text(bare, "tf_model.h5", "HDF");
    refused(bare, ST_EIO, "only tf_model.h5, which is not read");
    write_text(bare, "model.safetensors", "");
    refused(bare, ST_EFORMAT, "has 0 bytes");
    write_text(bare, "config.json", "[]");
    refused(bare, ST_EFORMAT, "config.json");
    st_test_remove(dir);
    st_test_remove(bare);
}

/* config.json cut at every byte, and with every byte replaced: an error or a model, no crash. */
static void test_config_damage(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "config.json");
    st_err e;
    size_t n;
    assert_ok(st_copy_file(st_test_path(fixture, "model.safetensors"),
                           st_test_path(dir, "model.safetensors"), &e),
              &e);
    char *text = st_test_read(st_test_path(fixture, "config.json"), &n);
    while (n && strchr(" \n", text[n - 1]))
        n--;
    for (size_t cut = 0; cut < n; cut++) {
        st_test_write(path, text, cut);
        refused(dir, ST_EFORMAT, "config.json");
    }
    static const char put[] = "09-}\"x\xff";
    for (size_t at = 0; at < n; at++) {
        for (size_t c = 0; c < sizeof put - 1; c++) {
            char was = text[at];
            st_model *m;
            float *flat;
            text[at] = put[c];
            st_test_write(path, text, n);
            text[at] = was;
            if (st_folder_read(dir, &m, &flat, NULL, &e)) continue;
            st_model_close(m);
            free(flat);
        }
    }
    free(text);
    st_test_remove(dir);
}

static void test_tokenizer(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_model *m;
    st_bpe_trainer *trainer;
    st_bpe *b;
    float *flat;
    st_err e;
    assert_ok(st_bpe_trainer_open(&trainer, &e), &e);
    assert_ok(st_bpe_trainer_feed(trainer, "a b", 3, &e), &e);
    assert_ok(st_bpe_trainer_finish(trainer, 257, 1, &b, &e), &e);
    st_bpe_trainer_close(trainer);
    assert_ok(st_folder_read(fixture, &m, &flat, NULL, &e), &e);
    assert_ok(st_folder_save(path, false, m, flat, ST_F32, b, &e), &e);
    st_whole w; /* of another model: left out, and an error only where it is asked for */
    assert_ok(st_whole_open(&w, path, NULL, &e), &e);
    assert_null(w.tokenizer);
    st_whole_close(&w);
    assert_st(st_whole_open(&w, path, &(st_read_how){.tokenizer = path}, &e), ST_EFORMAT, &e);
    assert_says(&e, "the tokenizer has 257 tokens, but vocab_size in config.json is 97");
    free(flat);
    st_model_close(m);
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "model_type", "gpt2", "vocab_size",
                               300, "n_positions", 4, "n_embd", 4, "n_layer", 1, "n_head", 1);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    flat = calloc((size_t)st_model_elements(m), sizeof *flat);
    assert_ok(st_folder_save(path, true, m, flat, ST_F32, b, &e), &e);
    st_bpe_close(b);
    st_loaded l;
    assert_ok(st_loaded_open(&l, path, "ref", ST_F32, &e), &e);
    assert_int_equal(st_bpe_size(l.tokenizer), 257);
    st_loaded_close(&l);
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

/* A disk that fills up, and Ctrl-C, at saving: the old folder stays, nothing else. Only what is
 * part of a checkpoint is written after Ctrl-C too. */
static void test_save_fails(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_model *m;
    float *flat;
    st_err e;
    assert_ok(st_folder_read(fixture, &m, &flat, NULL, &e), &e);
    assert_ok(st_folder_save(path, false, m, flat, ST_F32, NULL, &e), &e);
    for (int k = 0; k < 3; k++) {
        pid_t child = fork();
        if (child == 0) {
            struct rlimit limit = {.rlim_cur = 20000, .rlim_max = 20000};
            signal(SIGXFSZ, SIG_IGN);
            if (k == 0) setrlimit(RLIMIT_FSIZE, &limit);
            if (k >= 1) st_interrupt();
            if (k == 2) _exit((int)st_folder_write(path, m, flat, ST_F32, NULL, &e));
            _exit((int)st_folder_save(path, true, m, flat, ST_F32, NULL, &e));
        }
        int code;
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_true(WIFEXITED(code));
        assert_int_equal(WEXITSTATUS(code), k == 0 ? ST_EIO : k == 1 ? ST_EINTR : ST_OK);
        assert_int_equal(st_test_entries(dir), 1);
        same_weights(path, fixture);
    }
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_save_is_hf),
        cmocka_unit_test(test_structured_round_trip),
        cmocka_unit_test(test_loaded),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_disagreements),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_config_damage),
        cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_save_fails),
    };
    return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
}
