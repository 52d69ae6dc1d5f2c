/* Layouts by name: their totals to the unit (doc/MATH, the paper's tables), what they become in a
 * model, that maps given beside them win, mistyped names. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "testing.h"
#include "train/train.h"

/* GPT-2 124M with these maps. */
static st_model *presets_open(const char *const *maps, int n)
{
    st_err e = {0};
    json_t *config = NULL;
    st_model *plain = NULL, *m = NULL;
    assert_ok(st_fresh_config(&config, "gpt2", &e), &e);
    assert_ok(st_model_open(&plain, config, &e), &e);
    json_decref(config);
    assert_ok(st_model_remap(plain, maps, n, NULL, 0, &config, &e), &e);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    st_model_close(plain);
    return m;
}

static int64_t presets_count(const char *name, const char *const *more, int n)
{
    st_err e = {0};
    const char **maps = NULL;
    int count = 0;
    assert_ok(st_preset_join(name, more, n, &maps, &count, &e), &e);
    st_model *m = presets_open(maps, count);
    int64_t total = st_model_counts(m).parameters;
    st_model_close(m);
    free(maps);
    return total;
}

/* Without MLP weights GPT-2 has 67,816,704 parameters; a layout adds 24 F (m1 n1 + m2 n2 [+ 1]). */
static int64_t presets_krony(int64_t m1, int64_t n1, int64_t f, int64_t scalar)
{
    return 67816704 + 24 * f * (m1 * n1 + 768 / m1 * (3072 / n1) + scalar);
}

static void presets_published(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t total, m1, n1, f, scalar;
    } row[] = {
        {"krony-67m", 67893504, 32, 64, 1, 0},        {"krony-67m-min", 67890432, 24, 64, 1, 0},
        {"krony-32x128", 67928832, 32, 128, 1, 0},    {"krony-81m", 81972576, 768, 768, 1, 0},
        {"krony-81m-384", 81972576, 384, 1536, 1, 0}, {"krony-74m", 74108376, 256, 1024, 1, 0},
        {"krony-80m-2", 80400048, 256, 1024, 2, 0},   {"krony-86m-3", 86691720, 256, 1024, 3, 0},
        {"krony-92m-4", 92983392, 256, 1024, 4, 0},   {"krony-92m-4s", 92983488, 256, 1024, 4, 1},
        {"krony-86m", 86691144, 768, 1024, 1, 0},     {"krony-95m", 96128304, 384, 3072, 1, 0},
        {"krony-96m", 96128304, 768, 1536, 1, 0},     {"krony-71m-10", 71783424, 256, 64, 10, 0},
        {"krony-48x64", 67908864, 48, 64, 1, 0},      {"krony-384x768", 74894784, 384, 768, 1, 0},
        {"krony-77m", 77254032, 384, 1024, 1, 0},     {"krony-64x192", 68116224, 64, 192, 1, 0},
    };
    assert_int_equal(presets_count(NULL, NULL, 0), 124439808);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        assert_int_equal(presets_count(row[i].name, NULL, 0), row[i].total);
        assert_int_equal(presets_krony(row[i].m1, row[i].n1, row[i].f, row[i].scalar),
                         row[i].total);
    }
    /* attention's weights halved but for the 2-vectors: 12 x 2 x 2 of them */
    assert_int_equal(presets_count("krony-81m-attn", NULL, 0), 96128304 - 14155776 + 48);
    assert_int_equal(presets_count("tqcompressor-mlp", NULL, 0), 124439808 - 14155392);
    assert_int_equal(presets_count("tqcompressor", NULL, 0), 81336388);
    /* the paper's 83.91 M leave out 4 x 2 entries of B in 6 blocks, and 2 of the embedding's */
    assert_int_equal(presets_count("kngpt2", NULL, 0), 124439808 - 19298688 - 6 * 3538944 + 50);
}

/* The table says what a model then has, and no two rows have one name. */
static void presets_table(void **state)
{
    (void)state;
    for (int i = 0; st_presets[i].name; i++) {
        const st_preset *p = &st_presets[i], *found = NULL;
        if (presets_count(p->name, NULL, 0) != p->parameters) fail_msg("%s", p->name);
        assert_ok(st_preset_find(&found, p->name, NULL), NULL);
        assert_ptr_equal(found, p);
    }
    json_t *list = st_presets_json();
    json_t *maps = json_object_get(json_array_get(list, 0), "maps");
    assert_string_equal(json_string_value(json_array_get(maps, 0)),
                        "h.*.mlp.c_fc=kron:m1=32,n1=64,terms=1");
    json_decref(list);
}

static void presets_later_maps_win(void **state)
{
    (void)state;
    static const char *const more[] = {"h.0.mlp.*=dense"};
    assert_int_equal(presets_count("krony-81m", more, 1), 81972576 + 2 * (2359296 - 589828));
}

static void presets_refusals(void **state)
{
    (void)state;
    st_err e = {0};
    const st_preset *p;
    assert_st(st_preset_find(&p, "krony-81", &e), ST_EARG, &e);
    assert_says(&e, "did you mean \"krony-81m\"?");
    const char **maps = NULL;
    int n = 0;
    assert_st(st_preset_join("", NULL, 0, &maps, &n, &e), ST_EARG, &e);
    assert_null(maps);
}

/* In a configuration: the keys around it win, a wrong name is refused with its place. */
static void presets_in_config(void **state)
{
    (void)state;
    st_err e = {0};
    st_settings set;
    json_t *result = NULL;
    static const char *const wrong[] = {"model.map_preset=krony-81", "data.train=none.bin"};
    assert_ok(st_settings_load(&set, NULL, wrong, 2, &e), &e);
    assert_st(st_train_run(&(st_train_opts){.set = &set}, &result, &e), ST_EARG, &e);
    assert_says(&e, "model.map_preset: unknown preset \"krony-81\"");
    st_settings_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_published),      cmocka_unit_test(presets_table),
        cmocka_unit_test(presets_later_maps_win), cmocka_unit_test(presets_refusals),
        cmocka_unit_test(presets_in_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
