/* Checkpoints of fly and of the released SS1 (tools/fixtures_fly.py; tools/fixtures_originals.py
 * with the original classes): the imported model computes what the layers do; what cannot be known
 * is asked for, what is not ours is refused. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include "fit/fit.h"
#include "rig/said.h"
#include <math.h>
#include <stdio.h>

#define DIR_FLY "test/fixtures/fly/"
static const char fly_ss1[] = "version=3,seed=1111,block_k=8,block_n=16,vec=4";
static const char own_ss1[] = "seed=1111,factor=4";
static const char old_ss1[] = "version=1,seed=42,block_k=16,block_n=32,vec=4";
enum { TOKENS = 8, VOCAB = 12 };

/* Largest difference of the logits from those of the file's formulas, relative to their size. */
static double fly_error(const char *file, const st_read_how *how, const char *device)
{
    st_err e = {0};
    st_loaded l;
    json_t *root = NULL;
    char path[128];
    snprintf(path, sizeof path, DIR_FLY "%s", file);
    assert_ok(st_json_load(&root, DIR_FLY "expect.json", 1 << 20, &e), &e);
    assert_ok(st_loaded_open_as(&l, path, how, device, ST_F32, &e), &e);
    const json_t *want = json_object_get(root, file), *ids = json_object_get(want, "ids");
    const json_t *logits = json_object_get(want, "logits");
    int32_t id[TOKENS];
    for (size_t i = 0; i < TOKENS; i++)
        id[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    float *got = st_calloc((int64_t)TOKENS * VOCAB, sizeof *got);
    st_arena tmp;
    assert_ok(st_arena_open(&tmp, 1 << 22, &e), &e);
    st_lm_args a = {.batch = 1,
                    .len = TOKENS,
                    .ids = st_view2(id, ST_I32, 1, TOKENS),
                    .logits = st_view2(got, ST_F32, TOKENS, VOCAB)};
    st_model_forward(l.model, l.stream, &a, &tmp);
    assert_ok(st_stream_sync(l.stream, &e), &e);
    double off = 0, size = 0;
    assert_int_equal(json_array_size(logits), TOKENS * VOCAB);
    for (size_t i = 0; i < (size_t)TOKENS * VOCAB; i++) {
        double v = json_number_value(json_array_get(logits, i));
        off = fmax(off, fabs(v - (double)got[i]));
        size = fmax(size, fabs(v));
    }
    st_arena_close(&tmp);
    free(got);
    json_decref(root);
    st_loaded_close(&l);
    print_message("         %s: %.3g of %.3g\n", file, off, size);
    return off / size;
}

static void test_fly_computes_the_same(void **state)
{
    (void)state;
    st_read_how how = {.heads = 4, .ss1 = fly_ss1};
    assert_true(fly_error("fly.ckpt", &how, "ref") < 1e-5);
    assert_true(strstr(said, "fly's names") != NULL);
    assert_true(fly_error("fly.ckpt", &how, "cpu") < 1e-5);
    how.ss1 = "version=3,seed=1025,block_k=8,block_n=16,vec=4"; /* another layer's constants */
    assert_true(fly_error("fly.ckpt", &how, "ref") > 1e-3);
    how.ss1 = fly_ss1;
    how.gelu = "tanh";
    double tanh = fly_error("fly.ckpt", &how, "ref");
    assert_true(tanh > 1e-5 && tanh < 1e-1);
}

/* Inputs that do not divide; block 0 by the options, block 1 by what is stored. */
static void test_ss1_computes_the_same(void **state)
{
    (void)state;
    st_read_how how = {.heads = 4, .ss1 = old_ss1};
    assert_true(fly_error("ss1.pt", &how, "ref") < 1e-5);
    assert_true(strstr(said, "padded with zeros") != NULL);
    st_read_how numbers = {.heads = 4,
                           .ss1 = "block_k=16,block_n=32,vec=4,r0=71937,r1=71689,"
                                  "r2=4955,r3=25439"};
    assert_true(fly_error("ss1.pt", &numbers, "ref") < 1e-5);
}

/* Spec of a matrix of the file. */
static void spec_is(const char *file, const st_read_how *how, const char *matrix, const char *want)
{
    st_err e = {0};
    st_model *m;
    char path[128], text[ST_SPEC_TEXT];
    snprintf(path, sizeof path, DIR_FLY "%s", file);
    assert_ok(st_folder_look(path, how, &m, NULL, &e), &e);
    st_spec_print(st_model_slot(m, matrix)->spec, text);
    assert_string_equal(text, want);
    st_model_close(m);
}

/* The original classes: what fly calls BlockdiagButterflyLinear, its older low rank, its mean
 * without a gate, SS1 with factor x block above the inputs, a structured head with a bias. */
static void test_originals_compute_the_same(void **state)
{
    (void)state;
    st_read_how how = {.heads = 4, .ss1 = own_ss1};
    assert_true(fly_error("originals.ckpt", &how, "ref") < 1e-5);
    assert_true(strstr(said, "1 is taken, which is their preset") != NULL);
    assert_true(strstr(said, "model.lm_head.weight is left out") != NULL);
    assert_true(fly_error("originals.ckpt", &how, "cpu") < 1e-5);
    spec_is("originals.ckpt", &how, "h.0.mlp.c_fc", "btt:rank=3,m1=4,n1=2,group=1");
    spec_is("originals.ckpt", &how, "h.1.mlp.c_proj", "btt:rank=6,m1=8,n1=4,group=1");
    spec_is("originals.ckpt", &how, "h.2.mlp.c_fc", "lowrank:rank=3");
    spec_is("originals.ckpt", &how, "h.3.mlp.c_fc", "lowrank:rank=3+blockdiag:blocks=4+mean");
    spec_is("originals.ckpt", &how, "h.5.mlp.c_proj",
            "lowrank:rank=3+btt:rank=2,m1=2,n1=4,group=1+mean");
    spec_is("originals.ckpt", &how, "lm_head", "monarch:blocks=4");
    said[0] = '\0';
    how.b2 = 2;
    assert_true(fly_error("b2.ckpt", &how, "ref") < 1e-5);
    assert_null(strstr(said, "preset"));
    how.b2 = 1;
    assert_true(fly_error("b2.ckpt", &how, "ref") > 1e-3);
    how.b2 = 0;
    assert_true(fly_error("b2.ckpt", &how, "ref") > 1e-3);
    spec_is("b2.ckpt", &how, "lm_head", "lowrank:rank=4");
}

static void refused(const char *file, const st_read_how *how, st_status code, const char *says)
{
    st_err e = {0};
    st_loaded l;
    char path[128];
    snprintf(path, sizeof path, DIR_FLY "%s", file);
    assert_st(st_loaded_open_as(&l, path, how, "ref", ST_F32, &e), code, &e);
    assert_says(&e, says);
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *ss1;
        st_status code;
        const char *says;
    } rows[] = {
        {"fly.ckpt", NULL, ST_ESHAPE, "no factor"}, /* blocks of 32 */
        {"fly.ckpt", "version=4", ST_EARG, "expected 1"},
        {"fly.ckpt", "sed=4", ST_EARG, "did you mean \"seed\""},
        {"fly.ckpt", "seed", ST_EARG, "whole number"},
        {"fly.ckpt", "seed=-1", ST_EARG, "whole number"},
        {"fly.ckpt", "r0=4", ST_EARG, "all of r0"},
        {"fly.ckpt", "block_k=8,vec=3", ST_EARG, "must divide"},
        {"fly.ckpt", "block_k=0", ST_EARG, "from 1 on"},
        {"fly.ckpt", "block_k=16,vec=4,factor=4", ST_EUNSUPPORTED, "leaves inputs out"},
        {"originals.ckpt", NULL, ST_ESHAPE, "more than one factor"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_read_how how = {.heads = 4, .ss1 = rows[i].ss1};
        refused(rows[i].file, &how, rows[i].code, rows[i].says);
    }
}

/* What was read is written, and read again, as a model of our own. */
static void test_saved_as_ours(void **state)
{
    (void)state;
    st_err e = {0};
    st_model *m, *again;
    float *flat, *same;
    const char *dir = st_test_dir(), *out = st_test_path(dir, "m");
    st_read_how how = {.heads = 4, .ss1 = fly_ss1};
    assert_ok(st_folder_read_as(DIR_FLY "fly.ckpt", &how, &m, &flat, NULL, &e), &e);
    assert_ok(st_folder_save(out, false, m, flat, ST_F32, NULL, &e), &e);
    assert_ok(st_folder_read(out, &again, &same, NULL, &e), &e);
    assert_int_equal(st_model_elements(m), st_model_elements(again));
    assert_memory_equal(flat, same, (size_t)st_model_elements(m) * sizeof *flat);
    free(flat);
    free(same);
    st_model_close(m);
    st_model_close(again);
    st_test_remove(dir);
}

/* `file` as ours in `ours`, from there under fly's names in `theirs`, and back: the same numbers.
 */
static void there_and_back(const char *file, const st_read_how *how, const char *ours,
                           const char *theirs)
{
    st_err e = {0};
    st_model *m, *again;
    float *flat, *same;
    json_t *result = NULL;
    st_convert_opts o = {.to = "strut", .how = *how, .replace = true};
    assert_ok(st_convert_model(file, ours, &o, &result, &e), &e);
    json_decref(result);
    o = (st_convert_opts){.to = "fly", .replace = true};
    assert_ok(st_convert_model(ours, theirs, &o, &result, &e), &e);
    json_decref(result);
    assert_ok(st_folder_read(ours, &m, &flat, NULL, &e), &e);
    assert_ok(st_folder_read_as(theirs, how, &again, &same, NULL, &e), &e);
    json_t *a = st_model_config(m), *b = st_model_config(again);
    assert_true(json_equal(json_object_get(a, "strut"), json_object_get(b, "strut")));
    assert_int_equal(st_model_elements(m), st_model_elements(again));
    assert_memory_equal(flat, same, (size_t)st_model_elements(m) * sizeof *flat);
    assert_int_equal(st_model_lm(m).head_bias, st_model_lm(again).head_bias);
    json_decref(a);
    json_decref(b);
    free(flat);
    free(same);
    st_model_close(m);
    st_model_close(again);
}

/* What fly has no layer for is refused, and so is what has no place for the bias of a head. */
static void test_to_fly_and_back(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *result = NULL;
    const char *dir = st_test_dir(), *ours = st_test_path(dir, "m"),
               *theirs = st_test_path(dir, "f");
    st_read_how how = {.heads = 4, .ss1 = own_ss1, .b2 = 1};
    there_and_back(DIR_FLY "originals.ckpt", &how, ours, theirs);
    st_convert_opts o = {.to = "hf"};
    assert_st(st_convert_model(ours, st_test_path(dir, "x"), &o, &result, &e), ST_EUNSUPPORTED, &e);
    assert_says(&e, "its head has a bias");
    how.b2 = 2;
    there_and_back(DIR_FLY "b2.ckpt", &how, ours, theirs);
    how = (st_read_how){.heads = 4, .ss1 = fly_ss1};
    there_and_back(DIR_FLY "fly.ckpt", &how, ours, theirs);
    o = (st_convert_opts){.to = "fly"};
    static const char *const map = "h.0.mlp.c_fc=kron:m1=4,n1=4";
    st_decompose_opts d = {.maps = &map, .nmaps = 1, .dtype = ST_F32};
    assert_ok(st_decompose(ours, st_test_path(dir, "k"), &d, &result, &e), &e);
    json_decref(result);
    assert_st(st_convert_model(st_test_path(dir, "k"), st_test_path(dir, "x"), &o, &result, &e),
              ST_EUNSUPPORTED, &e);
    assert_says(&e, "no layer for kron");
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fly_computes_the_same, said_open),
        cmocka_unit_test_setup(test_ss1_computes_the_same, said_open),
        cmocka_unit_test_setup(test_originals_compute_the_same, said_open),
        cmocka_unit_test_setup(test_what_does_not_fit_is_refused, said_open),
        cmocka_unit_test_setup(test_saved_as_ours, said_open),
        cmocka_unit_test_setup(test_to_fly_and_back, said_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
