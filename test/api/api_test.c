/* The public library, by strut.h: what it computes against Hugging Face's numbers and against the
 * program's own parts, what it refuses, and two threads with a model each. */
/* SPDX-License-Identifier: MIT */
#include "api/strut.h"
#include "testing.h"
#include "weights/weights.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

static const char folder[] = "test/fixtures/gpt2_tanh";

/* A tensor of what Hugging Face's model gave, of 4-byte numbers. */
static void *expect(const char *name, st_dtype t)
{
    st_err e = {0};
    st_weights *w = NULL;
    int64_t n = 1;
    assert_ok(st_weights_open(&w, "test/fixtures/gpt2_tanh/expect.safetensors", &e), &e);
    const st_stored *s = st_weights_find(w, name);
    assert_non_null(s);
    for (int d = 0; d < s->ndim; d++)
        n *= s->dim[d];
    void *x = calloc((size_t)n, 4);
    assert_ok(st_stored_read(s, st_view1(x, t, n), &e), &e);
    st_weights_close(w);
    return x;
}

static void test_model(void **state)
{
    (void)state;
    strut_error error = {0};
    strut_model *m = NULL;
    strut_model_info info = STRUT_MODEL_INFO;
    assert_int_equal(strut_model_open(&m, folder, NULL, &error), STRUT_OK);
    assert_int_equal(strut_model_describe(m, &info, &error), STRUT_OK);
    assert_int_equal(info.vocab, 97);
    assert_int_equal(info.context, 16);
    assert_int_equal(info.layers, 2);
    assert_int_equal(info.heads, 3);
    assert_int_equal(info.eos, 96);
    assert_false(info.has_tokenizer);
    int32_t *ids = expect("ids", ST_I32);
    float *want = expect("logits", ST_F32), got[13 * 97];
    assert_int_equal(strut_logits(m, ids, 13, got, &error), STRUT_OK);
    for (int i = 0; i < 13 * 97; i++)
        assert_true(fabsf(got[i] - want[i]) < 3e-5f);
    free(ids);
    free(want);
    strut_model_close(m);
}

/* The likeliest tokens, each by itself, as logits have them. */
static void test_generate(void **state)
{
    (void)state;
    strut_error error = {0};
    strut_model *m = NULL;
    int32_t ids[16] = {5, 17}, *made = NULL;
    size_t n = 2, count = 0;
    strut_generate_options o = STRUT_GENERATE_OPTIONS;
    o.tokens = 6;
    o.ignore_eos = 1;
    assert_int_equal(strut_model_open(&m, folder, NULL, &error), STRUT_OK);
    assert_int_equal(strut_generate(m, ids, n, &o, &made, &count, &error), STRUT_OK);
    assert_int_equal(count, 6);
    for (size_t i = 0; i < count; i++) {
        float logits[16 * 97], *last = logits + (n - 1) * 97;
        int best = 0;
        assert_int_equal(strut_logits(m, ids, n, logits, &error), STRUT_OK);
        for (int j = 1; j < 97; j++)
            best = last[j] > last[best] ? j : best;
        assert_int_equal(made[i], best);
        ids[n++] = made[i];
    }
    strut_free(made);
    strut_model_close(m);
}

static void refused(int code, int want, const strut_error *error, const char *part)
{
    assert_int_equal(code, want);
    assert_int_equal(error->code, want);
    if (!strstr(error->message, part)) fail_msg("\"%s\" lacks \"%s\"", error->message, part);
}

static void test_refused(void **state)
{
    (void)state;
    strut_error e;
    strut_model *m = NULL;
    int32_t bad[17] = {3, 97}, *ids = NULL;
    size_t n = 0;
    float logits[17 * 97];
    strut_open_options o = STRUT_OPEN_OPTIONS;
    refused(strut_model_open(&m, "no/such", NULL, &e), STRUT_ERROR_IO, &e, "no/such");
    assert_null(m);
    o.dtype = "float17";
    refused(strut_model_open(&m, folder, &o, &e), STRUT_ERROR_ARGUMENT, &e, "float17");
    o.size = 0;
    refused(strut_model_open(&m, folder, &o, &e), STRUT_ERROR_ARGUMENT, &e, "size is 0");
    assert_int_equal(strut_model_open(&m, folder, NULL, NULL), STRUT_OK);
    refused(strut_logits(m, bad, 2, logits, &e), STRUT_ERROR_ARGUMENT, &e, "number 1 is 97");
    refused(strut_logits(m, bad, 0, logits, &e), STRUT_ERROR_ARGUMENT, &e, "0 ids");
    refused(strut_logits(m, bad, 17, logits, &e), STRUT_ERROR_ARGUMENT, &e, "1 to 16");
    refused(strut_encode(m, "a", 1, &ids, &n, &e), STRUT_ERROR_ARGUMENT, &e, "no tokenizer");
    assert_null(ids);
    assert_int_equal(strut_logits(m, bad, 1, logits, &e), STRUT_OK);
    assert_string_equal(e.message, "");
    strut_model_close(m);
    strut_model_close(NULL);
}

/* A caller that was built against a shorter struct than the library's. */
static void test_older(void **state)
{
    (void)state;
    strut_model *m = NULL;
    struct {
        size_t size;
        int64_t parameters, guard;
    } old = {2 * sizeof(int64_t), 0, 77};
    struct {
        size_t size;
        const char *device, *guard;
    } options = {2 * sizeof(size_t), "cpu", "no dtype"};
    assert_int_equal(strut_model_open(&m, folder, (strut_open_options *)(void *)&options, NULL),
                     STRUT_OK);
    assert_int_equal(strut_model_describe(m, (strut_model_info *)(void *)&old, NULL), STRUT_OK);
    assert_int_equal(old.size, 2 * sizeof(int64_t));
    assert_true(old.parameters > 1000);
    assert_int_equal(old.guard, 77);
    strut_model_close(m);
}

/* ---- matrices -------------------------------------------------------------------------------- */

enum { IN = 48, OUT = 36, ROWS = 641 };

/* apply is expand's matrix; project finds a W of its own kind again. */
static void matrix_holds(const char *spec)
{
    strut_error e;
    strut_matrix *m = NULL, *again = NULL;
    static float w[OUT * IN], back[OUT * IN], x[ROWS * IN], y[ROWS * OUT];
    double off = -1;
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = sinf((float)i);
    assert_int_equal(strut_matrix_open(&m, spec, IN, OUT, 3, &e), STRUT_OK);
    assert_int_equal(strut_matrix_open(&again, strut_matrix_spec(m), IN, OUT, 4, &e), STRUT_OK);
    assert_int_equal(strut_matrix_expand(m, w, &e), STRUT_OK);
    for (int rows = 1; rows <= ROWS; rows += ROWS - 1) {
        assert_int_equal(strut_matrix_apply(m, x, rows, y, &e), STRUT_OK);
        for (int i = 0; i < rows * OUT; i++) {
            double sum = 0;
            for (int k = 0; k < IN; k++)
                sum += (double)w[i % OUT * IN + k] * (double)x[i / OUT * IN + k];
            assert_true(fabs(sum - (double)y[i]) < 1e-5);
        }
    }
    assert_int_equal(strut_matrix_project(again, w, NULL, &off, &e), STRUT_OK);
    assert_int_equal(strut_matrix_expand(again, back, &e), STRUT_OK);
    double lost = 0, total = 0;
    for (int i = 0; i < OUT * IN; i++) {
        lost += pow((double)(w[i] - back[i]), 2);
        total += pow((double)w[i], 2);
    }
    assert_true(fabs(sqrt(lost / total) - off) < 1e-4);
    assert_true(off < 1e-3);
    strut_matrix_close(m);
    strut_matrix_close(again);
}

static void test_matrix(void **state)
{
    (void)state;
    int types = 0;
    while (strut_matrix_type(types))
        types++;
    assert_true(types >= 8);
    assert_null(strut_matrix_type(-1));
    static const char *const specs[] = {"dense", "lowrank:rank=6", "blockdiag:blocks=4",
                                        "monarch:blocks=4", "kron:terms=1,m1=6,n1=6"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        matrix_holds(specs[i]);
}

static void test_factors(void **state)
{
    (void)state;
    strut_matrix *m = NULL;
    strut_error e;
    const char *name;
    int ndim;
    int64_t dims[4], all = 0;
    float *numbers, w[OUT * IN], bad[OUT * IN] = {0};
    assert_int_equal(strut_matrix_open(&m, "lowrank:rank=2", IN, OUT, 0, NULL), STRUT_OK);
    for (int i = 0; strut_matrix_factor(m, i, &name, &ndim, dims, &numbers); i++) {
        int64_t n = 1;
        assert_string_equal(name, i ? "v" : "u");
        for (int d = 0; d < ndim; d++)
            n *= dims[d];
        all += n;
        for (int64_t j = 0; j < n; j++)
            numbers[j] = 1;
    }
    assert_int_equal(all, strut_matrix_parameters(m));
    assert_int_equal(strut_matrix_expand(m, w, NULL), STRUT_OK);
    for (int i = 0; i < OUT * IN; i++)
        assert_true(w[i] == 2);
    bad[77] = (float)NAN;
    refused(strut_matrix_project(m, bad, NULL, NULL, &e), STRUT_ERROR_ARGUMENT, &e, "number 77");
    strut_matrix_close(m);
    refused(strut_matrix_open(&m, "lowrank:rank=99", IN, OUT, 0, &e), STRUT_ERROR_SHAPE, &e, "36");
    assert_null(m);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *thread_logits(void *to)
{
    strut_model *m = NULL;
    int32_t ids[] = {1, 2, 3, 4, 5};
    for (int i = 0; i < 20; i++) {
        if (strut_model_open(&m, folder, NULL, NULL)) return NULL;
        int failed = strut_logits(m, ids, 5, to, NULL);
        strut_model_close(m);
        if (failed) return NULL;
    }
    return to;
}

static void test_threads(void **state)
{
    (void)state;
    static float one[5 * 97], two[5 * 97];
    pthread_t other;
    void *done = NULL;
    assert_int_equal(pthread_create(&other, NULL, thread_logits, one), 0);
    assert_ptr_equal(thread_logits(two), two);
    assert_int_equal(pthread_join(other, &done), 0);
    assert_ptr_equal(done, one);
    assert_memory_equal(one, two, sizeof one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),   cmocka_unit_test(test_generate),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_older),
        cmocka_unit_test(test_matrix),  cmocka_unit_test(test_factors),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
