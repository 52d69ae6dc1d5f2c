/* Composed configs: what Hydra itself makes of a tree and its command lines
 * (test/fixtures/compose, tools/fixtures_compose.py), what is ours beyond it, hostile input. */
/* SPDX-License-Identifier: MIT */
#include "config/config.h"
#include "testing.h"
#include <math.h>

static const char tree[] = "test/fixtures/compose/tree";

static st_status compose(st_node **out, const char *name, const char *const *word, int n, st_err *e)
{
    st_configs *c;
    const char *dir = tree;
    assert_ok(st_configs_open(&c, &dir, 1, false, e), e);
    st_status s =
        st_compose(out, NULL, c, &(st_compose_how){.name = name, .override = word, .n = n}, e);
    st_configs_close(c);
    return s;
}

/* Equal as Python has them; {"float": "inf"} stands for what JSON lacks. */
static bool alike(const json_t *ours, const json_t *theirs)
{
    const json_t *odd = json_object_get(theirs, "float");
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string(odd) && json_object_size(theirs) == 1)
        return json_is_string(ours) &&
               strcmp(json_string_value(ours) + (json_string_value(ours)[0] == '.'),
                      json_string_value(odd)) == 0;
    if (json_typeof(ours) != json_typeof(theirs)) return false;
    if (json_is_array(ours)) {
        if (json_array_size(ours) != json_array_size(theirs)) return false;
        json_array_foreach(ours, i, item) if (!alike(item, json_array_get(theirs, i))) return false;
        return true;
    }
    if (json_is_object(ours)) {
        if (json_object_size(ours) != json_object_size(theirs)) return false;
        json_object_foreach((json_t *)(uintptr_t)ours, key, item)
        {
            const json_t *other = json_object_get(theirs, key);
            if (!other || !alike(item, other)) return false;
        }
        return true;
    }
    return json_equal(ours, theirs);
}

/* Accepted here although Hydra refuses it. */
static bool is_ours(const char *word)
{
    return strcmp(word, "db=null") == 0 ||                /* no option of a group that has one */
           strcmp(word, "lr={a:1,b:{c:d e},'e':f}") == 0; /* a key in quotes, as YAML has them */
}

static void one_case(const json_t *c)
{
    const json_t *words = json_object_get(c, "words"), *want = json_object_get(c, "tree");
    const char *word[8], *name = json_string_value(json_array_get(words, 0));
    char line[512] = "";
    int n = 0;
    st_node *root = NULL;
    st_err e = {0};
    for (size_t i = 1; i < json_array_size(words); i++) {
        word[n++] = json_string_value(json_array_get(words, i));
        snprintf(line + strlen(line), sizeof line - strlen(line), " %.60s", word[n - 1]);
    }
    st_status s = compose(&root, name, word, n, &e);
    if (!want) {
        if (!s && !(n == 1 && is_ours(word[0]))) fail_msg("accepted: %s%s", name, line);
        if (s && !e.msg[0]) fail_msg("refused without a word: %s%s", name, line);
        st_node_free(root);
        return;
    }
    if (s) fail_msg("%s%s: refused: %s", name, line, e.msg);
    json_t *ours = st_node_json(root);
    if (!alike(ours, want)) {
        char *a = json_dumps(ours, JSON_COMPACT), *b = json_dumps(want, JSON_COMPACT);
        fail_msg("%s%s:\nours  %s\nhydra %s", name, line, a, b);
    }
    char *yaml = st_node_yaml(root);
    st_node *again;
    assert_ok(st_yaml_parse(&again, yaml, strlen(yaml), "again", &e), &e);
    json_t *read = st_node_json(again);
    if (!json_equal(read, ours)) fail_msg("%s%s: another tree after\n%s", name, line, yaml);
    json_decref(read);
    json_decref(ours);
    st_node_free(again);
    st_node_free(root);
    free(yaml);
}

static void test_hydra(void **state)
{
    (void)state;
    json_t *all;
    st_err e;
    size_t i;
    const json_t *c;
    assert_ok(st_json_load(&all, "test/fixtures/compose/cases.json", 1 << 20, &e), &e);
    const json_t *cases = json_object_get(all, "cases");
    assert_true(json_array_size(cases) > 150);
    json_array_foreach(cases, i, c) one_case(c);
    json_decref(all);
}

/* ---- what is ours ---------------------------------------------------------------------------- */

/* plain.yaml with "+v=VALUE": the text of v. */
static void value_is(const char *value, const char *want)
{
    char line[512];
    const char *word = line;
    st_node *root;
    st_err e;
    snprintf(line, sizeof line, "+v=%s", value);
    assert_ok(compose(&root, "plain", &word, 1, &e), &e);
    assert_string_equal(st_node_get(root, "v")->text, want);
    st_node_free(root);
}

static void test_specs(void **state)
{
    (void)state;
    value_is("monarch:blocks=4", "monarch:blocks=4");
    value_is("kron:m1=2,n1=3,terms=4", "kron:m1=2,n1=3,terms=4");
    value_is("kron:m1=2, n1=3", "kron:m1=2, n1=3");
    value_is("butterfly:size=16,block=32+lowrank:rank=8+gate",
             "butterfly:size=16,block=32+lowrank:rank=8+gate");
    value_is("${div:${mul:4,768},${mul:5,8}}", "76");
    value_is("${div_up:7,2}", "4");
    value_is("${div:-7,2}", "-4");
    value_is("${add:1,2,3}", "6");
    value_is("${sub:1,2.5}", "-1.5");
    value_is("${mul:0.1,3}", "0.30000000000000004");
    value_is("x${add:1,1e-7}", "x1.0000001");
    value_is("${.b.c}", "x"); /* one dot: the level of the key itself, here the top */
}

static const struct {
    const char *word, *says[3];
} refused[] = {
    {"a=${eval:1+1}", {"eval runs code", "${mul:A,B}"}},
    {"a=${eval:__import__('os')}", {"eval runs code"}},
    {"a=${mull:1,2}", {"did you mean mul?"}},
    {"a=${oc.env:STRUT_NO_SUCH_VAR}", {"STRUT_NO_SUCH_VAR", "set it"}},
    {"a=${mul:9223372036854775807,2}", {"too large"}},
    {"a=${div_up:1,0}", {"above 0"}},
    {"a=${bb}", {"there is no bb; did you mean b?"}},
    {"a=${b", {"not closed"}},
    {"a=${.b.d}", {"there is no d"}},
    {"a=${..b}", {"more dots"}}, /* the first that is one too many, at the top */
    {"a=${...b}", {"more dots"}},
    {"+n={c: '${...b}'}", {"more dots"}}, /* and one level down */
    {"+n=['${...b}']", {"more dots"}},
    {"a=${oc.select:..b,7}", {"more dots"}},
    {"a=x${b}", {"a section inside a text"}},
    {"a=???", {"left open"}},
    {"b.cc=1", {"did you mean c?", "write + before it"}},
    {"+db=../plain", {"not the name of a config"}},
    {"+db=/etc/passwd", {"not the name of a config"}},
    {"+db=mysq1",
     {"no config db/mysq1; did you mean mysql?", "both, mysql, mysql_extra/, postgres"}},
    {"+db=..", {"not the name of a config"}},
    {"+db=mysql_extra/slow", {"no config db/mysql_extra/slow", "fast"}},
    {"a=1,2", {"several values", "-m", "[A,B]"}},
    {"a=it's", {"quotes"}},
    {"a=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", {"32 levels"}},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        st_node *root;
        st_err e = {0};
        if (!compose(&root, "plain", &refused[i].word, 1, &e))
            fail_msg("accepted: %s", refused[i].word);
        for (int k = 0; k < 3 && refused[i].says[k]; k++)
            if (!strstr(e.msg, refused[i].says[k]))
                fail_msg("%s\nsays:    %s\nwithout: %s", refused[i].word, e.msg,
                         refused[i].says[k]);
    }
}

/* ---- sweeps ---------------------------------------------------------------------------------- */

/* The jobs of words, each "word word;". */
static void sweep_is(const char *const *word, int n, const char *want)
{
    st_sweep s;
    st_err e;
    char text[2000] = "";
    assert_ok(st_sweep_open(&s, word, n, &e), &e);
    for (int64_t i = 0; i < s.jobs; i++)
        for (int k = 0; k < n; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", s.job[i][k],
                     k + 1 < n ? " " : ";");
    assert_string_equal(text, want);
    st_sweep_close(&s);
}

static void test_sweeps(void **state)
{
    (void)state;
    static const struct {
        const char *word[3];
        int n;
        const char *want;
    } row[] = {
        {{"a=1"}, 1, "a=1;"},
        {{"a=1,2", "b=x", "c=y,z"}, 3, "a=1 b=x c=y;a=1 b=x c=z;a=2 b=x c=y;a=2 b=x c=z;"},
        {{"m=ss1:factor=2,ss1:factor=4,ss1:factor=8"},
         1,
         "m=ss1:factor=2;m=ss1:factor=4;m=ss1:factor=8;"},
        {{"m=ss1:factor=4,folds=2,ss1:factor=8,folds=1,dense"},
         1,
         "m=ss1:factor=4,folds=2;m=ss1:factor=8,folds=1;m=dense;"},
        {{"m='ss1:factor=4,folds=2','a,b'"}, 1, "m='ss1:factor=4,folds=2';m='a,b';"},
        {{"m=choice('ss1:factor=4,folds=2', ss1:factor=8)"},
         1,
         "m='ss1:factor=4,folds=2';m=ss1:factor=8;"},
        {{"l=[1,2],[3]"}, 1, "l=[1,2];l=[3];"},
        {{"l=[1,2]"}, 1, "l=[1,2];"},
        {{"d={h.*: kron:m1=2,n1=3},{h.*: dense}"}, 1, "d={h.*: kron:m1=2,n1=3};d={h.*: dense};"},
        {{"r=range(3)"}, 1, "r=0;r=1;r=2;"},
        {{"r=range(1,4)"}, 1, "r=1;r=2;r=3;"},
        {{"r=range(0,1,0.25)"}, 1, "r=0.0;r=0.25;r=0.5;r=0.75;"},
        {{"r=range(5,1,-2)"}, 1, "r=5;r=3;"},
        {{"r=range(start=1,stop=9,step=4)"}, 1, "r=1;r=5;"},
        {{"e=wt103/gpt2, wt103/gpt2-ssl"}, 1, "e=wt103/gpt2;e=wt103/gpt2-ssl;"},
        {{"+a=1,2"}, 1, "+a=1;+a=2;"},
        {{"t=a\\,b,c"}, 1, "t=a\\,b;t=c;"},
    };
    static const char *const wrong[] = {
        "r=range(0)", "r=range(1,2,0)",   "r=range(a)",      "r=range(1,2",    "c=choice(1,2",
        "c=choice()", "c=choice(1)x",     "f=shuffle(1)",    "r=range(0,1e9)", "r=range(inf)",
        "m=1,",       "r=range(1,2,3,4)", "r=range(0,20000)"};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        sweep_is(row[i].word, row[i].n, row[i].want);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        st_sweep s;
        st_err e;
        if (!st_sweep_open(&s, &wrong[i], 1, &e)) fail_msg("accepted: %s", wrong[i]);
    }
    const char *many[] = {"a=range(200)", "b=range(200)"};
    st_sweep s;
    st_err e;
    assert_int_equal(st_sweep_open(&s, many, 2, &e), ST_EARG);
}

/* ---- hostile files --------------------------------------------------------------------------- */

static const char *dir;

static int set_up(void **state)
{
    (void)state;
    dir = st_test_dir();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    st_test_remove(dir);
    return 0;
}

static void put(const char *name, const char *text)
{
    st_test_write(st_test_path(dir, name), text, strlen(text));
}

static st_status compose_in(const char *name, st_err *e)
{
    st_configs *c;
    st_node *root = NULL;
    assert_ok(st_configs_open(&c, &dir, 1, false, e), e);
    st_status s = st_compose(&root, NULL, c, &(st_compose_how){.name = name}, e);
    st_node_free(root);
    st_configs_close(c);
    return s;
}

static void refuses(const char *text, const char *says)
{
    st_err e = {0};
    put("h.yaml", text);
    if (!compose_in("h", &e)) fail_msg("accepted: %.200s", text);
    if (!strstr(e.msg, says)) fail_msg("%.200s\nsays:    %s\nwithout: %s", text, e.msg, says);
}

static void test_hostile(void **state)
{
    (void)state;
    st_err e = {0};
    put("a.yaml", "defaults: [b]\n");
    put("b.yaml", "defaults: [a]\n");
    assert_int_equal(compose_in("a", &e), ST_EARG);
    assert_non_null(strstr(e.msg, "a -> b -> a"));
    refuses("defaults: [h]\n", "circle");
    refuses("defaults: {a: b}\n", "must be a list");
    refuses("defaults: [[a]]\n", "not an entry");
    refuses("defaults: [{a: b, c: d}]\n", "not an entry");
    refuses("defaults: [{a: {b: c}}]\n", "not an entry");
    refuses("defaults: [../x]\n", "h.yaml:1:12: ../x: not the name");
    refuses("defaults: [/../x]\n", "not the name");
    refuses("defaults: [{g: ../../etc/passwd}]\n", "not the name");
    refuses("defaults: [{g: '/etc/passwd'}]\n", "not the name");
    refuses("defaults: ['${x}/../..']\n", "no group");
    refuses("defaults: [{hydra/launcher: x}]\n", "remove the line");
    refuses("defaults: [{override hydra/job_logging: colorlog}]\n", "remove the line");
    refuses("defaults: [_self_@x]\n", "not an entry");
    refuses("defaults: [a@b:c]\n", "colon");
    refuses("# @package\na: 1\n", "expected # @package NAME");
    refuses("- 1\n", "expected keys and values");
    refuses("\x7f"
            "ELF\x02\x01\x01",
            "h.yaml");
    refuses("a: &x 1\n", "anchors");
    refuses("a: ${b}\nb: ${a}\n", "lead back");
    refuses("a: {b: {c: '${a}'}}\n", "lead back");
    refuses("a: ???\n", "left open");
    st_test_write(st_test_path(dir, "nul.yaml"), "a: 1\0b", 6);
    assert_int_equal(compose_in("nul", &e), ST_EFORMAT);
}

/* Doubling texts and trees, deep references, many files. */
static void test_bombs(void **state)
{
    (void)state;
    char text[20000] = "a0: xxxxxxxxxxxxxxxx\n";
    for (int i = 1; i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "a%d: ${a%d}${a%d}\n", i, i - 1,
                 i - 1);
    refuses(text, "65536 bytes");
    snprintf(text, sizeof text, "a0: {x: 1, y: 2}\n");
    for (int i = 1; i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "a%d: {x: '${a%d}', y: '${a%d}'}\n", i, i - 1, i - 1);
    refuses(text, "without end");
    text[0] = '\0';
    for (int i = 0; i < 200; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "a%d: ${a%d}\n", i, i + 1);
    strcat(text, "a200: 1\n");
    refuses(text, "lead back");
    snprintf(text, sizeof text, "a: ");
    for (int i = 0; i < 300; i++)
        strcat(text, "${oc.env:");
    refuses(text, "h.yaml");
    text[0] = '\0';
    for (int i = 0; i < 1500; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "k%d: 1\n", i);
    put("many.yaml", text);
    snprintf(text, sizeof text, "defaults:\n");
    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "- many@p%d\n", i);
    refuses(text, "many.yaml: with it there are more than 20000");
    snprintf(text, sizeof text, "defaults:\n");
    for (int i = 0; i < 1100; i++)
        strcat(text, "- a\n");
    refuses(text, "more than 1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hydra),   cmocka_unit_test(test_specs),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_sweeps),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_bombs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
