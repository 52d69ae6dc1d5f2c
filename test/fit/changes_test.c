/* What decompose does to a model first: grouped and permuted units capture more and leave the
 * function alone, important units are in slot 0, the search reports what it then gets. */
/* SPDX-License-Identifier: MIT */
#include "fit/fit.h"
#include "model/toy.h"
#include <math.h>

enum { WIDTH = 24, INNER = 48 };

static double toy_importance(const toy *t, int64_t k)
{
    const float *fc = toy_tensor(t, "h.0.mlp.c_fc.weight");
    const float *proj = toy_tensor(t, "h.0.mlp.c_proj.weight");
    double a = 0.0, b = 0.0;
    for (int64_t i = 0; i < WIDTH; i++) {
        a += (double)fc[k * WIDTH + i] * (double)fc[k * WIDTH + i];
        b += (double)proj[i * INNER + k] * (double)proj[i * INNER + k];
    }
    return a * b;
}

/* Weights far from even: hidden units and residual channels of very different sizes. */
static toy toy_open(void)
{
    toy t = toy_new(WIDTH, INNER, ",\"initializer_range\":0.2");
    assert_int_equal(st_fresh_weights(t.m, 5, t.flat, NULL), ST_OK);
    float size[INNER], *fc = toy_tensor(&t, "h.0.mlp.c_fc.weight");
    st_normal_fill(size, INNER, 0.0f, 0.7f, 1, 1);
    for (int64_t i = 0; i < INNER * WIDTH; i++)
        fc[i] *= expf(size[i / WIDTH]) * expf(0.7f * size[i % WIDTH]);
    st_normal_fill(toy_tensor(&t, "h.0.mlp.c_fc.bias"), INNER, 0.0f, 0.5f, 1, 2);
    st_normal_fill(toy_tensor(&t, "h.0.ln_2.weight"), WIDTH, 1.0f, 0.5f, 1, 3);
    st_normal_fill(toy_tensor(&t, "h.0.ln_2.bias"), WIDTH, 0.0f, 0.5f, 1, 4);
    return t;
}

#define MAPS(...)                                                                                  \
    .maps = (const char *const[]){__VA_ARGS__},                                                    \
    .nmaps = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static toy toy_decompose(toy *from, st_decompose_opts o, json_t **rows)
{
    st_err e = {0};
    toy to = {0};
    assert_ok(st_decompose_weights(from->m, from->flat, &o, &to.m, &to.flat, rows, &e), &e);
    return to;
}

/* Share of the energy of all rows together. */
static double toy_energy(const json_t *rows)
{
    double total = 0.0, kept = 0.0;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        double norm = json_number_value(json_object_get(row, "norm"));
        total += norm * norm;
        kept += norm * norm * json_number_value(json_object_get(row, "energy"));
    }
    return kept / total;
}

/* Two terms of a kron with B (1, 2) are exact, so whatever happens first, logits stay. */
static void changes_exact(void **state)
{
    (void)state;
    static const char *const maps[] = {"h.*.mlp.c_fc=kron:m1=24,n1=24,terms=2",
                                       "h.*.mlp.c_proj=kron:m1=24,n1=24,terms=2"};
    static const char *const wide[] = {"h.*.mlp.c_fc=kron:m1=12,n1=48,terms=2",
                                       "h.*.mlp.c_proj=kron:m1=48,n1=12,terms=2",
                                       "h.*.attn.c_attn=kron:m1=12,n1=72,terms=2"};
    const st_decompose_opts row[] = {
        {.maps = maps, .nmaps = 2, .fold_norms = true},
        {.maps = maps, .nmaps = 2, .group_hidden = true},
        {.maps = maps, .nmaps = 2, .permute = ST_PERMUTE_HIDDEN},
        {.maps = wide, .nmaps = 3, .permute = ST_PERMUTE_RESIDUAL, .fold_norms = true},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        toy a = toy_open();
        json_t *rows = NULL;
        toy_run(&a);
        float before[TOY_LOGITS];
        memcpy(before, a.logits, sizeof before);
        toy b = toy_decompose(&a, row[i], &rows);
        assert_true(toy_energy(rows) > 1.0 - 1e-9);
        toy_run(&a); /* the dense model was changed, too, and is the same function */
        toy_run(&b);
        for (int k = 0; k < TOY_LOGITS; k++) {
            assert_true(fabsf(a.logits[k] - before[k]) < 2e-4f);
            assert_true(fabsf(b.logits[k] - before[k]) < 2e-4f);
        }
        json_decref(rows);
        toy_close(&a);
        toy_close(&b);
    }
}

/* Slot 0 has the important half; what pruning then keeps is that half, bit for bit. */
static void changes_grouped(void **state)
{
    (void)state;
    toy a = toy_open();
    json_t *rows = NULL;
    static const char *const prune[] = {"prune"};
    toy b = toy_decompose(&a,
                          (st_decompose_opts){MAPS("h.*.mlp.c_fc=kron:m1=24,n1=24",
                                                   "h.*.mlp.c_proj=kron:m1=24,n1=24"),
                                              .group_hidden = true, .init = prune, .ninit = 1},
                          &rows);
    double least = INFINITY, most = 0.0;
    for (int64_t k = 0; k < INNER; k += 2) {
        least = fmin(least, toy_importance(&a, k));
        most = fmax(most, toy_importance(&a, k + 1));
    }
    assert_true(least >= most && most > 0.0);
    const float *fc = toy_tensor(&a, "h.0.mlp.c_fc.weight"), *f = toy_tensor(&b, "h.0.mlp.c_fc.a");
    for (int64_t i = 0; i < WIDTH; i++) {
        for (int64_t j = 0; j < INNER / 2; j++)
            assert_true(f[i * (INNER / 2) + j] == fc[2 * j * WIDTH + i]);
    }
    json_decref(rows);
    toy_close(&a);
    toy_close(&b);
}

/* With a text, what counts is what units do: a large one that is always off moves to slot 1. */
static void changes_calibrated(void **state)
{
    (void)state;
    static const int32_t ids[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
    for (int text = 0; text < 2; text++) {
        toy a = toy_open();
        int64_t unit = 0;
        for (int64_t k = 1; k < INNER; k++)
            if (toy_importance(&a, k) > toy_importance(&a, unit)) unit = k;
        toy_tensor(&a, "h.0.mlp.c_fc.bias")[unit] = -300.0f; /* gelu of it is 0 */
        json_t *rows = NULL;
        toy b = toy_decompose(&a,
                              (st_decompose_opts){MAPS("h.*.mlp.c_fc=kron:m1=24,n1=24"),
                                                  .group_hidden = true, .ids = ids,
                                                  .nids = text ? 16 : 0},
                              &rows);
        const float *bias = toy_tensor(&a, "h.0.mlp.c_fc.bias");
        for (unit = 0; bias[unit] > -200.0f;)
            unit++;
        assert_int_equal(unit, text ? INNER - 1 : 0); /* the last of all; the first of all */
        json_decref(rows);
        toy_close(&a);
        toy_close(&b);
    }
}

/* Sizes that differ: native order < grouped <= searched; and the report is what comes out. */
static void changes_capture(void **state)
{
    (void)state;
    static const char *const hidden[] = {"h.0.mlp.c_fc=kron:m1=24,n1=12",
                                         "h.0.mlp.c_proj=kron:m1=12,n1=24"};
    static const char *const residual[] = {"h.0.mlp.c_fc=kron:m1=8,n1=48",
                                           "h.0.mlp.c_proj=kron:m1=48,n1=8"};
    double found[4];
    for (int i = 0; i < 4; i++) {
        toy a = toy_open();
        json_t *rows = NULL;
        st_decompose_opts o = {.maps = i == 3 ? residual : hidden, .nmaps = 2};
        o.group_hidden = i == 1;
        if (i >= 2) o.permute = i == 2 ? ST_PERMUTE_HIDDEN : ST_PERMUTE_RESIDUAL;
        toy b = toy_decompose(&a, o, &rows);
        found[i] = toy_energy(rows);
        json_decref(rows);
        toy_close(&a);
        toy_close(&b);
    }
    assert_true(found[1] > found[0] + 0.1);
    assert_true(found[2] >= found[1] - 1e-6 && found[2] > found[0] + 0.15);
    toy a = toy_open();
    json_t *rows = NULL;
    toy b = toy_decompose(&a, (st_decompose_opts){.maps = residual, .nmaps = 2}, &rows);
    assert_true(found[3] > toy_energy(rows) + 0.1);
    json_decref(rows);
    toy_close(&a);
    toy_close(&b);
}

/* Units of even size: sorting gains little there, pairs of like ones do. */
static void changes_search(void **state)
{
    (void)state;
    static const char *const maps[] = {"h.1.mlp.c_fc=kron:m1=24,n1=24",
                                       "h.1.mlp.c_proj=kron:m1=24,n1=24"};
    double found[3];
    for (int i = 0; i < 3; i++) {
        toy a = toy_open();
        float *proj = toy_tensor(&a, "h.1.mlp.c_proj.weight");
        for (int64_t k = 0; k < WIDTH * INNER; k++)
            proj[k] *= 2.0f; /* about c_fc's size, so that both matter */
        json_t *rows = NULL;
        st_decompose_opts o = {.maps = maps, .nmaps = 2, .group_hidden = i == 1};
        if (i == 2) o.permute = ST_PERMUTE_HIDDEN;
        toy b = toy_decompose(&a, o, &rows);
        found[i] = toy_energy(rows);
        json_decref(rows);
        toy_close(&a);
        toy_close(&b);
    }
    print_message("given %.4f, grouped %.4f, searched %.4f\n", found[0], found[1], found[2]);
    assert_true(found[2] > found[0] + 0.05 && found[2] > found[1] + 0.06);
}

static void changes_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *map;
        st_permute permute;
        const char *says;
    } row[] = {
        {"h.*.mlp.*=lowrank:rank=2", ST_PERMUTE_HIDDEN, "hidden units: none of the new"},
        {"h.*.mlp.*=lowrank:rank=2", ST_PERMUTE_RESIDUAL, "residual channels: none"},
        {"h.*.mlp.*=lowrank:rank=2", ST_PERMUTE_ALL, "hidden units: none of the new"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        toy a = toy_open();
        st_err e = {0};
        st_model *m = NULL;
        float *flat = NULL;
        json_t *rows = NULL;
        st_decompose_opts o = {.maps = &row[i].map, .nmaps = 1, .permute = row[i].permute};
        assert_st(st_decompose_weights(a.m, a.flat, &o, &m, &flat, &rows, &e), ST_EARG, &e);
        assert_says(&e, row[i].says);
        assert_null(m);
        assert_null(flat);
        toy_close(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_exact),   cmocka_unit_test(changes_grouped),
        cmocka_unit_test(changes_capture), cmocka_unit_test(changes_calibrated),
        cmocka_unit_test(changes_search),  cmocka_unit_test(changes_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
