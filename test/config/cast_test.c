/* Casts on a command line mean what Hydra's mean (tools/fixtures_casts.py); a key that is left open
 * is named; --cfg job refuses keys that are none. */
/* SPDX-License-Identifier: MIT */
#include "config/config.h"
#include "config/override.h"
#include "testing.h"

static void casts(void **state)
{
    (void)state;
    json_t *rows;
    const char *word;
    json_t *want;
    st_err e;
    assert_ok(st_json_load(&rows, "test/fixtures/compose/casts.json", 1 << 20, &e), &e);
    assert_true(json_object_size(rows) > 60);
    json_object_foreach(rows, word, want)
    {
        override o = {0};
        st_status s = override_parse(&o, word, &e);
        bool refused = json_object_get(want, "error") != NULL;
        if ((s != ST_OK) != refused) fail_msg("%s: %s", word, s ? e.msg : "was not refused");
        if (!s) {
            json_t *got = st_node_json(o.value[0].node);
            char *text = json_dumps(got, JSON_ENCODE_ANY | JSON_COMPACT),
                 *as = json_dumps(want, JSON_ENCODE_ANY | JSON_COMPACT);
            if (strcmp(text, as) != 0) fail_msg("%s: %s, expected %s", word, text, as);
            free(text);
            free(as);
            json_decref(got);
        }
        override_free(&o);
    }
    json_decref(rows);
}

static void left_open(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "c.yaml");
    static const char text[] = "data: x\ntrain:\n  groups:\n    wte.weight:\n      lr: ???\n";
    st_settings set;
    st_err e;
    st_test_write(path, text, sizeof text - 1);
    assert_st(st_settings_load(&set, path, NULL, 0, &e), ST_EARG, &e);
    assert_says(&e, "train.groups.wte.weight.lr is left open");
    st_test_remove(dir);
}

static void job_keys(void **state)
{
    (void)state;
    static const char *const good[] = {"train.steps=3", "+__mine=1"}, *const bad[] = {
                                                                          "trian.steps=3"};
    st_err e;
    st_config_how how = {.override = good, .n = 2};
    char *text = st_config_text(&how, false, &e);
    assert_non_null(text);
    assert_non_null(strstr(text, "steps: 3"));
    free(text);
    how = (st_config_how){.override = bad, .n = 1};
    assert_null(st_config_text(&how, false, &e));
    assert_says(&e, "unknown key trian.steps; did you mean train.steps?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(casts), cmocka_unit_test(left_open),
                                       cmocka_unit_test(job_keys)};
    return cmocka_run_group_tests_name("casts", tests, NULL, NULL);
}
