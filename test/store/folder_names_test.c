/* Names of tensors that others write: wrappers' prefixes, tensors that no model has a place for,
 * shards that hold more than their index says, objects in the place of tensors. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "rig/tensors.h"
#include "store/store.h"

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

static void refused(const char *path, st_status code, const char *says)
{
    st_whole w;
    st_err e;
    assert_st(st_whole_open(&w, path, NULL, &e), code, &e);
    assert_says(&e, says);
}

/* The folder reads as the fixture, and the remarks are just this one, or none. */
static void reads(const char *dir, const char *remark)
{
    st_whole a, b;
    st_err e;
    assert_ok(st_whole_open(&a, dir, NULL, &e), &e);
    assert_ok(st_whole_open(&b, fixture, NULL, &e), &e);
    int64_t n = st_model_elements(b.model);
    assert_int_equal(st_model_elements(a.model), n);
    assert_memory_equal(a.flat, b.flat, (size_t)n * sizeof *a.flat);
    assert_int_equal(json_array_size(a.notes), *remark ? 1 : 0);
    if (*remark) assert_non_null(strstr(json_string_value(json_array_get(a.notes, 0)), remark));
    st_whole_close(&a);
    st_whole_close(&b);
}

/* Any other wrapper's prefix is stripped, where it stands, and named; inner wrappers go silently.
 */
static void test_wrappers(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *says;
        bool inner;
    } rows[] = {
        {"_module.transformer.", "its names begin with _module.transformer.", false},
        {"base_model.model.transformer.", "begin with base_model.model.transformer.", false},
        {"student.", "its names begin with student.", false},
        {"_fsdp_wrapped_module.transformer.", "with _fsdp_wrapped_module.transformer.", true},
        {"transformer.", "", true},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const char *dir = folder_new(fixture);
        tensors *t = tensors_read(fixture);
        for (int64_t i = 0; i < t->n; i++) {
            char bare[160];
            snprintf(bare, sizeof bare, "%s", t->name[i] + strlen("transformer."));
            bool block = rows[k].inner && strncmp(bare, "h.1.", 4) == 0;
            snprintf(t->name[i], sizeof t->name[i], "%s%s%.100s", rows[k].prefix,
                     block ? "h.1._checkpoint_wrapped_module." : "", bare + (block ? 4 : 0));
        }
        tensors_write(t, 0, t->n, dir, "model.safetensors");
        reads(dir, rows[k].says);
        snprintf(t->name[0], sizeof t->name[0], "teacher.wpe.weight");
        tensors_write(t, 0, t->n, dir, "model.safetensors");
        if (k == 2)
            refused(dir, ST_EFORMAT, "holds more than one model, under student. and teacher.");
        tensors_free(t);
        st_test_remove(dir);
    }
}

/* Tensors that the model has no place for are left out, with one remark. */
static void test_extra(void **state)
{
    (void)state;
    static const char *const names[] = {"v_head.summary.weight",
                                        "score.weight",
                                        "transformer.h.0.attn.rotary_emb.inv_freq",
                                        "transformer.h.1.attn.rotary_emb.inv_freq",
                                        "classifier.out_proj.bias",
                                        "transformer.h.0.attn.bias"};
    const char *dir = folder_new(fixture);
    tensors *t = tensors_read(fixture);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        tensors_add(t, names[i], ST_F32, 1, (int64_t[]){3});
    tensors_write(t, 0, t->n, dir, "model.safetensors");
    reads(dir, "5 tensors are left out, for which the model has no place: "
               "classifier.out_proj.bias, h.*.attn.rotary_emb.inv_freq, score.weight, "
               "v_head.summary.weight");
    tensors_free(t);
    /* what changes the function is no such thing */
    static const char *const wrong[] = {"transformer.h.0.mlp.c_fc.lora_A.weight",
                                        "transformer.h.0.mlp.c_fc.v", "transformer.h.2.anything",
                                        "transformer.wpe.more"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        t = tensors_read(fixture);
        tensors_add(t, wrong[i], ST_F32, 1, (int64_t[]){3});
        tensors_write(t, 0, t->n, dir, "model.safetensors");
        refused(dir, ST_EFORMAT, "unexpected tensor");
        tensors_free(t);
    }
    st_test_remove(dir);
}

/* As an index names it: of what a shard holds more, nothing is taken. */
static void test_index(void **state)
{
    (void)state;
    const char *dir = folder_new(fixture);
    tensors *t = tensors_read(fixture);
    json_t *map = json_object();
    for (int64_t i = 0; i < t->n; i++)
        json_object_set_new(map, t->name[i],
                            json_string(i < 9 ? "a.safetensors" : "b.safetensors"));
    json_t *index = json_pack("{s:o}", "weight_map", map);
    assert_int_equal(json_dump_file(index, st_test_path(dir, "model.safetensors.index.json"), 0),
                     0);
    json_decref(index);
    tensors_write(t, 9, t->n, dir, "b.safetensors");
    for (int64_t i = 9; i < t->n; i++)
        t->data[i][0] += 1; /* those of the other file count */
    tensors_write(t, 0, t->n, dir, "a.safetensors");
    char says[120];
    snprintf(says, sizeof says,
             "by the index %lld tensors of a.safetensors (and perhaps others) belong to",
             (long long)t->n - 9);
    reads(dir, says);
    tensors_free(t);
    st_test_remove(dir);
}

static void test_objects(void **state)
{
    (void)state;
    refused("test/fixtures/foreign/needed/gpt2.pt", ST_EFORMAT,
            "tensor transformer.wte.weight was made by __main__.hook, which is not read");
}

static void test_adapter(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_test_write(st_test_path(dir, "adapter_config.json"), "{}", 2);
    refused(dir, ST_EUNSUPPORTED, "a PEFT adapter (adapter_config.json)");
    st_test_remove(dir);
    /* its file alone, as peft and as older scripts name what is in it */
    static const char *const name[][2] = {
        {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",
         "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"},
        {"transformer.h.1.mlp.c_fc.lora_A.default.weight",
         "transformer.h.1.mlp.c_fc.lora_B.default.weight"}};
    for (int k = 0; k < 2; k++) {
        tensors *t = tensors_read(fixture);
        dir = st_test_dir();
        for (int i = 0; i < 2; i++)
            snprintf(t->name[i], sizeof t->name[i], "%s", name[k][i]);
        tensors_write(t, 0, 2, dir, "adapter_model.safetensors");
        tensors_free(t);
        refused(st_test_path(dir, "adapter_model.safetensors"), ST_EUNSUPPORTED, ".lora_");
        st_test_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrappers), cmocka_unit_test(test_extra),
        cmocka_unit_test(test_index),    cmocka_unit_test(test_objects),
        cmocka_unit_test(test_adapter),
    };
    return cmocka_run_group_tests_name("folder names", tests, NULL, NULL);
}
