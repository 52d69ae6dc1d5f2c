/* YAML: PyYAML's trees and places (test/fixtures/io/cases.json, tools/fixtures_io.py), refusals
 * with their place, limits, overrides. */
/* SPDX-License-Identifier: MIT */
#include "config/config.h"
#include "testing.h"

/* `n` is what `want` (a node of cases.json) says, places included. */
static void same_tree(const st_node *n, const json_t *want, const char *file)
{
    char where[256];
    snprintf(where, sizeof where, "%s:%s", file, json_string_value(json_object_get(want, "at")));
    const json_t *list = json_object_get(want, "list"), *map = json_object_get(want, "map");
    if (list) {
        assert_int_equal(n->kind, ST_NODE_LIST);
        assert_int_equal(n->n, json_array_size(list));
        for (size_t i = 0; i < json_array_size(list); i++) {
            same_tree(n->item[i], json_array_get(list, i), file);
        }
    } else if (map) {
        assert_int_equal(n->kind, ST_NODE_MAP);
        assert_int_equal(n->n, json_array_size(map));
        for (size_t i = 0; i < json_array_size(map); i++) {
            const json_t *row = json_array_get(map, i);
            const char *key = json_string_value(json_array_get(row, 0));
            assert_string_equal(n->key[i], key);
            assert_ptr_equal(st_node_get(n, key), n->item[i]);
            same_tree(n->item[i], json_array_get(row, 1), file);
        }
    } else {
        assert_int_equal(n->kind, ST_NODE_SCALAR);
        assert_string_equal(n->text, json_string_value(json_object_get(want, "text")));
        assert_int_equal(n->quoted, json_is_true(json_object_get(want, "quoted")));
    }
    assert_string_equal(n->where, where);
}

static void test_reference_tree(void **state)
{
    (void)state;
    const char *file = "test/fixtures/io/cases.yaml";
    st_node *n;
    json_t *want;
    st_err e;
    assert_ok(st_json_load(&want, "test/fixtures/io/cases.json", 1 << 20, &e), &e);
    assert_ok(st_yaml_load(&n, file, &e), &e);
    same_tree(n, want, file);
    assert_null(st_node_get(n, "no such key"));
    assert_null(st_node_get(st_node_get(n, "words"), "yes"));
    st_node_free(n);
    json_decref(want);
}

static st_status parse(const char *text, st_node **n, st_err *e)
{
    return st_yaml_parse(n, text, strlen(text), "c.yaml", e);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"a: &x 1\nb: 2", "c.yaml:1:4: anchors"},
        {"a: &x [1]", "c.yaml:1:4: anchors"},
        {"a: &x {b: 1}", "c.yaml:1:4: anchors"},
        {"a: 1\nb: *x", "c.yaml:2:4: aliases"},
        {"*x : 1", "c.yaml:1:1: aliases"},
        {"&x a: 1", "c.yaml:1:1: anchors"},
        {"a:\n  - !!str 1", "c.yaml:2:5: tags"},
        {"!x {a: 1}", "c.yaml:1:1: tags"},
        {"a: !<tag:yaml.org,2002:python/object> 1", "c.yaml:1:4: tags"},
        {"a: 1\n<<: {b: 2}", "c.yaml:2:1: merge keys"},
        {"a: 1\nb: 2\n  \na: 3", "c.yaml:4:1: key a is already given at c.yaml:1:1"},
        {"a: {b: 1, c: 2, 'b': 3}", "c.yaml:1:17: key b is already given at c.yaml:1:5"},
        {"[a]: 1", "c.yaml:1:1: a key must be plain text"},
        {"? {a: 1}\n: 2", "c.yaml:1:3: a key must be plain text"},
        {": 1", "c.yaml:1:1: not valid YAML"},
        {"'': 1", "an empty key"},
        {"a: \"x\\0y\"", "c.yaml:1:4: a NUL"},
        {"a: 1\n---\nb: 2", "c.yaml:2:1: a second document"},
        {"a: [1, 2", "c.yaml:2:1: not valid YAML"},
        {"a: 1\n\tb: 2", "c.yaml:2:1: not valid YAML"},
        {"a: 'x", "not valid YAML"},
        {"a: b: c", "c.yaml:1:5: not valid YAML"},
        {"a: \"\\xq\"", "not valid YAML"},
        {"a: \x01", "byte 3"},
        {"a: \xff", "byte 3"},
        {"a: \xed\xa0\x80", "byte 3"},
        {"%YAML 9.9\n---\na: 1", "not valid YAML"},
        {"@x: 1", "not valid YAML"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        st_node *n;
        st_err e = {0};
        st_status s = parse(bad[i].text, &n, &e);
        if (s != ST_EFORMAT) print_error("case %zu: %s\n", i, bad[i].text);
        assert_st(s, ST_EFORMAT, &e);
        assert_null(n);
        assert_says(&e, bad[i].says);
    }
}

/* Depth, length and number of keys, in bounded time. */
static void test_limits(void **state)
{
    (void)state;
    st_node *n;
    st_err e;
    char deep[200];
    for (int level = 63; level <= 65; level++) {
        memset(deep, '[', (size_t)level);
        memset(deep + level, ']', (size_t)level);
        deep[2 * level] = '\0';
        assert_st(parse(deep, &n, &e), level > 64 ? ST_EFORMAT : ST_OK, &e);
        st_node_free(n);
    }
    assert_says(&e, "c.yaml:1:65: more than 64 levels");
    const size_t size = 1 << 20;
    char *text = malloc(size + 2);
    static const char *const unit[] = {"[", "{", "- ", "? ", "a: ", "\"", "|\n", "[[]],", "{},"};
    for (size_t u = 0; u < sizeof unit / sizeof *unit; u++) {
        size_t step = strlen(unit[u]);
        for (size_t at = 0; at + step <= size; at += step)
            memcpy(text + at, unit[u], step);
        assert_st(st_yaml_parse(&n, text, size / step * step, "c.yaml", &e), ST_EFORMAT, &e);
        assert_null(n);
    }
    memset(text, '#', size + 1);
    assert_st(st_yaml_parse(&n, text, size + 1, "c.yaml", &e), ST_EFORMAT, &e);
    assert_says(&e, "at most 1048576");
    assert_ok(st_yaml_parse(&n, text, size, "c.yaml", &e), &e);
    assert_int_equal(n->kind, ST_NODE_MAP);
    assert_int_equal(n->n, 0);
    st_node_free(n);
    size_t used = 0;
    int64_t keys = 0;
    while (used + 20 < size) {
        used += (size_t)sprintf(text + used, "k%lld: 1\n", (long long)keys++);
    }
    double start = st_now();
    assert_ok(st_yaml_parse(&n, text, used, "c.yaml", &e), &e);
    assert_int_equal(n->n, keys);
    assert_true(st_now() - start < 20);
    st_node_free(n);
    free(text);
}

static void test_empty(void **state)
{
    (void)state;
    static const char *const none[] = {"", "\n", "# only this\n", "---\n...\n", "\xef\xbb\xbf"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        st_node *n;
        st_err e;
        assert_ok(parse(none[i], &n, &e), &e);
        assert_true(n->kind == ST_NODE_MAP ? n->n == 0 : !*n->text && !n->quoted);
        assert_ok(st_node_set(n, "a", "1", "command line", &e), &e);
        assert_string_equal(st_node_get(n, "a")->text, "1");
        st_node_free(n);
    }
    st_node *n;
    st_err e;
    assert_ok(parse("\xef\xbb\xbf"
                    "a: 1",
                    &n, &e),
              &e);
    assert_string_equal(st_node_get(n, "a")->text, "1");
    st_node_free(n);
    st_node_free(NULL);
    assert_st(st_yaml_load(&n, "test/fixtures/io", &e), ST_EIO, &e);
    assert_st(st_yaml_load(&n, "test/no/such", &e), ST_EIO, &e);
    assert_null(n);
}

static void test_set(void **state)
{
    (void)state;
    st_node *n;
    st_err e;
    assert_ok(
        parse("train: {lr: 1e-3, steps: 10}\nlist: [a]\nnone:\nnul: null\ntext: 'null'\n", &n, &e),
        &e);
    assert_ok(st_node_set(n, "train.lr", "6e-4", "command line", &e), &e);
    const st_node *train = st_node_get(n, "train"), *lr = st_node_get(train, "lr");
    assert_string_equal(lr->text, "6e-4");
    assert_string_equal(lr->where, "command line");
    assert_string_equal(train->key_where[0], "command line");
    assert_string_equal(st_node_get(train, "steps")->text, "10");
    assert_string_equal(train->where, "c.yaml:1:8");

    assert_ok(st_node_set(n, "maps", "{h.*: lowrank:rank=4, lm_head: dense}", "command line", &e),
              &e);
    const st_node *maps = st_node_get(n, "maps");
    assert_int_equal(maps->n, 2);
    assert_string_equal(st_node_get(maps, "h.*")->text, "lowrank:rank=4");
    assert_string_equal(st_node_get(maps, "lm_head")->where, "command line");
    assert_ok(st_node_set(n, "x.y.z", "[1, \"two\"]", "command line", &e), &e);
    const st_node *z = st_node_get(st_node_get(st_node_get(n, "x"), "y"), "z");
    assert_int_equal(z->kind, ST_NODE_LIST);
    assert_true(z->item[1]->quoted && !z->item[0]->quoted);
    assert_ok(st_node_set(n, "none.a", "1", "command line", &e), &e);
    assert_ok(st_node_set(n, "nul.a", "1", "command line", &e), &e);
    assert_string_equal(st_node_get(st_node_get(n, "nul"), "a")->text, "1");
    assert_ok(st_node_set(n, "list", "", "command line", &e), &e);
    assert_string_equal(st_node_get(n, "list")->text, "");
    assert_ok(st_node_set(n, "train", "~", "command line", &e), &e);
    assert_null(st_node_get(st_node_get(n, "train"), "lr"));
    assert_int_equal(n->n, 7);
    st_node_free(n);
}

static void test_set_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *says;
    } bad[] = {
        {"train.lr.x", "1", "train.lr is a value (c.yaml:1:13) and has no keys"},
        {"list.0", "1", "list is a list (c.yaml:2:7) and has no keys"},
        {"text.a", "1", "text is a value (c.yaml:3:7)"},
        {"", "1", "an empty name"},
        {".", "1", "an empty name"},
        {"a..b", "1", "an empty name"},
        {"train.", "1", "an empty name"},
        {"train.lr", "[1", "train.lr=[1: command line: not valid YAML"},
        {"train.lr", "*x", "aliases"},
        {"train.lr", "a: b: c", "not valid YAML"},
        {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
         "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
         "1", "more than 64 levels"},
    };
    st_node *n;
    st_err e;
    assert_ok(parse("train: {lr: 1e-3}\nlist: [a]\ntext: 'null'\n", &n, &e), &e);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        st_status s = st_node_set(n, bad[i].path, bad[i].value, "command line", &e);
        if (!s) print_error("case %zu\n", i);
        assert_true(s == ST_EARG || s == ST_EFORMAT);
        assert_says(&e, bad[i].says);
        assert_says(&e, "command line");
    }
    assert_int_equal(n->n, 3);
    assert_int_equal(st_node_get(n, "train")->n, 1);
    assert_string_equal(st_node_get(st_node_get(n, "train"), "lr")->text, "1e-3");
    st_node_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_tree),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_set_refused),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
