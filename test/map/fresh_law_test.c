/* Initial weights by other programs' laws: distribution and size of every factor. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "shapes.h"

enum { BIAS = -1 };

/* bound > 0: U(-bound, bound); std > 0: N(0, std^2); both 0: zeros. */
static const struct {
    const char *spec;
    st_fresh_law law;
    float over;
    int param;
    double bound, std;
} rows[] = {
    {"monarch:blocks=4", ST_FRESH_FLY, 0.0f, 0, 0.14434, 0},    /* 1/sqrt(48) */
    {"monarch:blocks=4", ST_FRESH_FLY, 0.0f, 1, 0.17678, 0},    /* 1/sqrt(32) */
    {"monarch:blocks=4", ST_FRESH_FLY, 0.0f, BIAS, 0.08839, 0}, /* 1/sqrt(128) */
    {"monarch:blocks=4", ST_FRESH_FORK, 0.005f, 0, 0.14434, 0},
    {"blockdiag:blocks=4", ST_FRESH_FLY, 0.0f, 0, 0.14434, 0},
    {"blockdiag:blocks=4", ST_FRESH_FLY, 0.005f, 0, 0, 0.005},
    {"blockdiag:blocks=4", ST_FRESH_FLY, 0.005f, BIAS, 0.08839, 0},
    {"lowrank:rank=16", ST_FRESH_FLY, 0.0f, 0, 0.25, 0},
    {"lowrank:rank=16", ST_FRESH_FLY, 0.0f, 1, 0.07217, 0}, /* 1/sqrt(192) */
    {"lowrank:rank=16", ST_FRESH_FLY, 0.0f, BIAS, 0.07217, 0},
    {"lowrank:rank=16", ST_FRESH_FORK, 0.0f, 0, 0, 0.03},
    {"lowrank:rank=16", ST_FRESH_FORK, 0.005f, 1, 0, 0.005},
    {"lowrank:rank=16", ST_FRESH_FORK, 0.0f, BIAS, 0, 0},
    {"ss1:factor=4", ST_FRESH_FLY, 0.0f, 0, 0.18464, 0}, /* sqrt(6/(128 + 48)) */
    {"ss1:factor=4", ST_FRESH_FORK, 0.0f, 0, 0.07217, 0},
    {"ss1:factor=4", ST_FRESH_FORK, 0.005f, 0, 0, 0.005},
    {"ss1:factor=4", ST_FRESH_FLY, 0.0f, BIAS, 0, 0},
    {"lowrank:rank=16+blockdiag:blocks=4+gate", ST_FRESH_FORK, 0.0f, 0, 0.25, 0},
    {"lowrank:rank=16+blockdiag:blocks=4+gate", ST_FRESH_FORK, 0.0f, 2, 0.14434, 0},
    {"lowrank:rank=16+blockdiag:blocks=4+gate", ST_FRESH_FORK, 0.0f, 3, 0, 0.03},
    {"lowrank:rank=16+blockdiag:blocks=4+gate", ST_FRESH_FORK, 0.0f, 4, 0, 0},
    {"lowrank:rank=16+blockdiag:blocks=4+gate", ST_FRESH_FORK, 0.0f, BIAS, 0.08839, 0},
    {"butterfly:size=4,factors=1", ST_FRESH_FLY, 0.0f, 0, 0.10206, 0}, /* 1/sqrt(96) */
    {"butterfly:size=4,factors=1", ST_FRESH_FLY, 0.005f, 0, 0, 0.005},
    {"butterfly:size=4,factors=1", ST_FRESH_FLY, 0.0f, BIAS, 0.07217, 0}, /* 1/sqrt(192) */
    {"btt:rank=4", ST_FRESH_FLY, 0.0f, 0, 0, 0.25},                       /* 1/sqrt(16), 16 to 32 */
    {"btt:rank=4", ST_FRESH_FORK, 0.005f, 1, 0, 0.08333}, /* sqrt(16/48/48), 48 to 16 */
    {"btt:rank=4", ST_FRESH_FLY, 0.0f, BIAS, 0, 0},
    {"btt:rank=4,m1=4,n1=4,group=1", ST_FRESH_FLY, 0.0f, 0, 0.03608, 0},    /* 1/sqrt(16 48) */
    {"btt:rank=4,m1=4,n1=4,group=1", ST_FRESH_FLY, 0.0f, 1, 0.04419, 0},    /* 1/sqrt(32 16) */
    {"btt:rank=4,m1=4,n1=4,group=1", ST_FRESH_FLY, 0.0f, BIAS, 0.03608, 0}, /* as the first */
    {"dense", ST_FRESH_FLY, 0.0f, 0, 0, 0.02},
    {"dense", ST_FRESH_FLY, 0.0f, BIAS, 0, 0},
};

static void test_every_factor_has_its_law(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lab l = lab_open("ref", rows[i].spec, 192, 128, 1);
        st_fresh_opts how = {.law = rows[i].law,
                             .std = 0.02f,
                             .range = 0.03f,
                             .over = rows[i].over,
                             .seed = 5,
                             .name = "h.0.mlp.c_fc"};
        st_map_fresh(&l.s, &how, &l.t, l.bias);
        st_tensor t = rows[i].param == BIAS ? l.bias : l.t.p[rows[i].param];
        double most = 0, sum = 0, mean = 0, n = (double)st_numel(t);
        for (int64_t j = 0; j < st_numel(t); j++) {
            double v = (double)lab_f(t)[j];
            most = fmax(most, fabs(v));
            sum += v * v / n;
            mean += v / n;
        }
        double std = rows[i].bound > 0 ? rows[i].bound / sqrt(3.0) : rows[i].std;
        double noise = std * 4.0 / sqrt(n);
        bool right = fabs(sqrt(sum) - std) <= noise && fabs(mean) <= noise;
        if (rows[i].bound > 0)
            right = right && most <= rows[i].bound * 1.0001 && most > rows[i].bound * 0.9;
        else if (std > 0 && n > 1000)
            right = right && most > 2.0 * std; /* a uniform one ends at sqrt(3) std */
        if (!right) {
            fail_msg("%s law %d parameter %d: deviation %.5f, mean %.5f, largest %.5f",
                     rows[i].spec, (int)rows[i].law, rows[i].param, sqrt(sum), mean, most);
        }
        lab_close(&l);
    }
}

/* The law "dense" is what params says, whatever else the type knows. */
static void test_dense_is_params(void **state)
{
    (void)state;
    lab l = lab_open("ref", "monarch:blocks=4", 192, 128, 1);
    st_fresh_opts how = {.std = 0.02f, .range = 0.03f, .seed = 5, .name = "m"};
    st_map_fresh(&l.s, &how, &l.t, l.bias);
    st_param_shape p[ST_PARAMS];
    l.s.type->params(&l.s, 0.02f, p);
    float first[4];
    st_normal_fill(first, 4, p[1].init_mean, p[1].init_std, 5, st_hash_name("m.l2"));
    assert_memory_equal(first, l.t.p[1].data, sizeof first);
    assert_true(fabsf(lab_f(l.bias)[7]) <= 0.0f);
    lab_close(&l);
}

/* Every type under every law: all its numbers are set, finite, the same for a seed and others for
 * another (unless they are constants). */
static void test_every_type_is_filled(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * SHAPES; i++) {
        const map_shape *s = &shapes[i / 3];
        lab l = lab_open("ref", s->spec, s->in, s->out, 1);
        st_theta t[3] = {l.t, lab_theta(&l, 300), lab_theta(&l, 400)};
        st_tensor bias[3] = {l.bias, st_take1(&l.a, ST_F32, s->out),
                             st_take1(&l.a, ST_F32, s->out)};
        st_fresh_opts how = {
            .law = (st_fresh_law)(i % 3), .std = 0.02f, .range = 0.03f, .name = "m"};
        bool other = false;
        for (int k = 0; k < 3; k++) {
            how.seed = 5 + (uint64_t)(k == 2);
            for (int p = 0; p < l.params; p++)
                memset(t[k].p[p].data, 0xff, st_bytes(t[k].p[p]));
            memset(bias[k].data, 0, st_bytes(bias[k]));
            st_map_fresh(&l.s, &how, &t[k], bias[k]);
        }
        assert_memory_equal(bias[0].data, bias[1].data, st_bytes(bias[0]));
        for (int p = 0; p < l.params; p++) {
            size_t n = st_bytes(t[0].p[p]);
            for (int64_t j = 0; j < st_numel(t[0].p[p]); j++)
                assert_true(isfinite(lab_f(t[0].p[p])[j]));
            assert_memory_equal(t[0].p[p].data, t[1].p[p].data, n);
            other |= memcmp(t[0].p[p].data, t[2].p[p].data, n) != 0;
        }
        assert_true(other);
        lab_close(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_factor_has_its_law),
        cmocka_unit_test(test_dense_is_params),
        cmocka_unit_test(test_every_type_is_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
