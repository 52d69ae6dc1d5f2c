/* Decomposition of a small model: what must be exact is, what is copied is, names and globs mean
 * what they say, a tied head comes apart only by its name. */
/* SPDX-License-Identifier: MIT */
#include "fit/fit.h"
#include "model/toy.h"
#include <math.h>

/* `maps`: of its config. */
static toy tiny_open(const char *maps)
{
    char more[512];
    snprintf(more, sizeof more, ",\"strut\":{\"format\":1,\"maps\":{%s}}", maps);
    toy t = toy_new(12, 48, more);
    assert_int_equal(st_fresh_weights(t.m, 5, t.flat, NULL), ST_OK);
    return t;
}

static toy tiny_decompose(const toy *from, st_decompose_opts o, json_t **rows)
{
    st_err e = {0};
    toy to = {0};
    assert_ok(st_decompose_weights(from->m, from->flat, &o, &to.m, &to.flat, rows, &e), &e);
    return to;
}

#define MAPS(...)                                                                                  \
    .maps = (const char *const[]){__VA_ARGS__},                                                    \
    .nmaps = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)
#define SKIP(...)                                                                                  \
    .skip = (const char *const[]){__VA_ARGS__},                                                    \
    .nskip = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static double tiny_number(const json_t *rows, const char *name, const char *key)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) != 0) continue;
        return json_number_value(json_object_get(row, key));
    }
    fail_msg("no row %s", name);
    return 0.0;
}

/* Full rank loses nothing; everything else is copied bit for bit; expanding gives W back. */
static void decompose_exact(void **state)
{
    (void)state;
    toy a = tiny_open("");
    json_t *rows = NULL, *back = NULL;
    toy b = tiny_decompose(
        &a, (st_decompose_opts){MAPS("h.*.attn.*=lowrank:rank=12", "h.1.mlp.c_fc=lowrank:rank=12")},
        &rows);
    assert_int_equal(json_array_size(rows), 5);
    assert_true(tiny_number(rows, "h.1.mlp.c_fc", "error") < 1e-5);
    assert_true(tiny_number(rows, "h.0.attn.c_attn", "energy") > 1.0 - 1e-9);
    static const char *const same[] = {"wte.weight",          "wpe.weight",
                                       "h.0.ln_1.weight",     "h.1.attn.c_attn.bias",
                                       "h.0.mlp.c_fc.weight", "h.1.mlp.c_proj.weight"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        int64_t n, m;
        const float *x = toy_find(&a, same[i], &n), *y = toy_find(&b, same[i], &m);
        assert_non_null(x);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, (size_t)n * sizeof *x);
    }
    assert_null(toy_find(&b, "h.1.mlp.c_fc.weight", NULL));
    toy c = tiny_decompose(&b, (st_decompose_opts){MAPS("*=dense")}, &back);
    assert_int_equal(json_array_size(back), 5); /* the dense ones stay untouched */
    int64_t n;
    const float *w = toy_find(&a, "h.1.mlp.c_fc.weight", &n);
    const float *v = toy_find(&c, "h.1.mlp.c_fc.weight", NULL);
    for (int64_t i = 0; i < n; i++)
        assert_true(fabsf(w[i] - v[i]) < 1e-6f);
    json_decref(rows);
    json_decref(back);
    toy_close(&a);
    toy_close(&b);
    toy_close(&c);
}

/* Energy and error of a truncation are those of the singular values, found here by brute force:
 * W of rank 1 plus a small second part. */
static void decompose_energy(void **state)
{
    (void)state;
    toy a = tiny_open("");
    int64_t n;
    float *w = toy_find(&a, "h.0.attn.c_proj.weight", &n);
    assert_int_equal(n, 144);
    /* 3 e1 f1^T + 1 e2 f2^T in axes of their own: singular values 3 and 1. */
    memset(w, 0, (size_t)n * sizeof *w);
    w[0 * 12 + 5] = 3.0f;
    w[7 * 12 + 2] = 1.0f;
    json_t *rows = NULL;
    toy b = tiny_decompose(
        &a, (st_decompose_opts){MAPS("h.0.attn.c_proj=lowrank:rank=1"), .randomized = true}, &rows);
    assert_true(fabs(tiny_number(rows, "h.0.attn.c_proj", "energy") - 0.9) < 1e-6);
    assert_true(fabs(tiny_number(rows, "h.0.attn.c_proj", "error") - sqrt(0.1)) < 1e-6);
    json_decref(rows);
    toy_close(&a);
    toy_close(&b);
}

static void decompose_globs(void **state)
{
    (void)state;
    toy a = tiny_open("");
    json_t *rows = NULL;
    toy b = tiny_decompose(
        &a,
        (st_decompose_opts){MAPS("*=lowrank:rank=2", "h.*.mlp.c_fc=blockdiag:blocks=2"),
                            SKIP("h.1.*")},
        &rows);
    assert_int_equal(json_array_size(rows), 4); /* of layer 0; the tied head is not "*" */
    assert_true(st_model_lm(b.m).tied);
    assert_non_null(toy_find(&b, "h.0.attn.c_attn.u", NULL));
    assert_null(toy_find(&b, "h.0.mlp.c_fc.u", NULL)); /* the later map won */
    assert_non_null(toy_find(&b, "h.1.mlp.c_fc.weight", NULL));
    json_decref(rows);
    toy_close(&b);
    b = tiny_decompose(&a, (st_decompose_opts){MAPS("lm_head=lowrank:rank=12")}, &rows);
    assert_false(st_model_lm(b.m).tied);
    assert_true(tiny_number(rows, "lm_head", "error") < 1e-5);
    int64_t n;
    const float *x = toy_find(&a, "wte.weight", &n), *y = toy_find(&b, "wte.weight", NULL);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    json_decref(rows);
    toy_close(&a);
    toy_close(&b);
}

/* A structured matrix is expanded, then projected: to its own type it is itself again. */
static void decompose_structured(void **state)
{
    (void)state;
    toy a = tiny_open("\"h.*.mlp.*\": \"monarch:blocks=2\"");
    json_t *rows = NULL;
    toy b = tiny_decompose(&a, (st_decompose_opts){MAPS("h.0.mlp.c_fc=lowrank:rank=12")}, &rows);
    assert_int_equal(json_array_size(rows), 1);
    assert_true(tiny_number(rows, "h.0.mlp.c_fc", "error") < 1e-5);
    json_decref(rows);
    toy c = tiny_decompose(&b, (st_decompose_opts){MAPS("h.0.mlp.c_fc=monarch:blocks=2")}, &rows);
    assert_true(tiny_number(rows, "h.0.mlp.c_fc", "error") < 1e-5);
    json_decref(rows);
    toy_close(&a);
    toy_close(&b);
    toy_close(&c);
}

static void decompose_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *map, *skip, *says;
    } row[] = {
        {"h.*.mlp", NULL, "expected GLOB=SPEC"},
        {"=dense", NULL, "expected GLOB=SPEC"},
        {"h.*.mpl.*=dense", NULL, "no matrix of the model matches"},
        {"h.0.mlp.c_fx=dense", NULL, "did you mean h.0.mlp.c_fc?"},
        {"lm*=dense", NULL, "a tied lm_head is replaced by its exact name only"},
        {"*=monarc:blocks=2", NULL, "monarch"},
        {"h.*.mlp.*=kron:m1=5,n1=1", NULL, "m1=5"},
        {"*=dense", "g.*", "skip g.*: no matrix of the model matches"},
    };
    toy a = tiny_open("");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        st_err e = {0};
        toy b = {0};
        json_t *rows = NULL;
        st_decompose_opts o = {
            .maps = &row[i].map, .nmaps = 1, .skip = &row[i].skip, .nskip = row[i].skip != NULL};
        assert_true(st_decompose_weights(a.m, a.flat, &o, &b.m, &b.flat, &rows, &e) != ST_OK);
        assert_says(&e, row[i].says);
        assert_null(b.m);
        assert_null(b.flat);
        assert_null(rows);
    }
    toy_close(&a);
}

/* The spec that a model's matrix has. */
typedef struct {
    const char *name;
    st_spec spec;
} tiny_spec;

static void tiny_spec_of(void *ctx, const char *name, const st_spec *spec)
{
    tiny_spec *t = ctx;
    if (strcmp(name, t->name) == 0) t->spec = *spec;
}

static const char *tiny_type(const toy *t, const char *name)
{
    tiny_spec s = {.name = name};
    st_model_matrices(t->m, tiny_spec_of, &s);
    return s.spec.type->name;
}

/* The embedding: by its exact name only, the head stays tied to it, comes apart by its own name,
 * and both are what the embedding was. */
static void decompose_embedding(void **state)
{
    (void)state;
    toy a = tiny_open("");
    json_t *rows = NULL, *facts = NULL;
    st_err e = {0};
    int64_t n;
    const float *table = toy_find(&a, "wte.weight", &n);
    toy all = tiny_decompose(&a, (st_decompose_opts){MAPS("*=lowrank:rank=4")}, &rows);
    assert_string_equal(tiny_type(&all, "wte"), "dense");
    assert_int_equal(json_array_size(rows), 8);
    json_decref(rows);
    toy b = tiny_decompose(&a, (st_decompose_opts){MAPS("wte=kron:terms=2,m1=6,n1=30")}, &rows);
    assert_true(tiny_number(rows, "wte", "error") < 1e-5); /* 2 terms are all there are */
    json_decref(rows);
    assert_true(st_model_lm(b.m).tied);
    assert_string_equal(tiny_type(&b, "lm_head"), "dense");
    assert_null(toy_find(&b, "lm_head.weight", NULL));
    assert_ok(st_model_facts(b.m, "ref", &facts, &e), &e);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(facts, "maps"), "lm_head")),
        "kron:terms=2,m1=6,n1=30");
    /* X B_f for 6 x 2 inputs, then 12 -> 30; the head once, the look-up free */
    int64_t blocks = 2 * 12 * (36 + 12 + 48 + 48), head = 2 * 12 + 12 * 30;
    assert_int_equal(json_integer_value(json_object_get(facts, "weight_macs_per_token")),
                     blocks + head);
    json_decref(facts);
    toy c = tiny_decompose(&b, (st_decompose_opts){MAPS("lm_head=lowrank:rank=12")}, &rows);
    assert_true(tiny_number(rows, "lm_head", "error") < 1e-5);
    json_decref(rows);
    assert_false(st_model_lm(c.m).tied);
    assert_string_equal(tiny_type(&c, "wte"), "kron");
    toy d = tiny_decompose(&c, (st_decompose_opts){MAPS("wte=dense", "lm_head=dense")}, &rows);
    json_decref(rows);
    const float *wte = toy_find(&d, "wte.weight", NULL),
                *top = toy_find(&d, "lm_head.weight", NULL);
    for (int64_t i = 0; i < n; i++) {
        assert_true(fabsf(wte[i] - table[i]) < 1e-6f);
        assert_true(fabsf(top[i] - table[i]) < 1e-6f);
    }
    st_decompose_opts o = {MAPS("wte=monarch:blocks=2")};
    toy none = {0};
    assert_st(st_decompose_weights(a.m, a.flat, &o, &none.m, &none.flat, &rows, &e),
              ST_EUNSUPPORTED, &e);
    assert_says(&e, "row look-up");
    toy_close(&a);
    toy_close(&all);
    toy_close(&b);
    toy_close(&c);
    toy_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decompose_exact),     cmocka_unit_test(decompose_energy),
        cmocka_unit_test(decompose_globs),     cmocka_unit_test(decompose_structured),
        cmocka_unit_test(decompose_embedding), cmocka_unit_test(decompose_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
