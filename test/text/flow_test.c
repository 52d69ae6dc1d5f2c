/* Tokenizers of every kind as Hugging Face's tokenizers runs them (test/fixtures/tokens,
 * tools/fixtures_tokens.py): ids with and without special tokens, texts told back, templates; the
 * same after saving; bytes that are no text; long runs; regular expressions that never end. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"
#include <unistd.h>

#define TOKENS "test/fixtures/tokens/"

static const char *const kinds[] = {"llama3", "qwen2",   "o200k", "deepseek", "smollm",    "digits",
                                    "falcon", "prefix",  "bloom", "sets",     "behaviors", "nfkc",
                                    "nfd",    "nfkd",    "bert",  "llama2",   "mistral",   "gemma",
                                    "words",  "unfused", "next",  "previous"};
enum { KINDS = sizeof kinds / sizeof *kinds };

static json_t *flow_load(const char *name)
{
    st_err e;
    json_t *j;
    assert_ok(st_json_load(&j, name, 1 << 24, &e), &e);
    return j;
}

static bool flow_equal(const st_ids *ids, const json_t *want)
{
    bool same = (size_t)ids->n == json_array_size(want);
    for (int64_t i = 0; same && i < ids->n; i++)
        same = ids->id[i] == json_integer_value(json_array_get(want, (size_t)i));
    return same;
}

/* What ids are told back as; a text that begins so loses the space of its first token. */
static bool flow_tells(const st_bpe *b, const st_ids *ids, const json_t *told)
{
    st_buffer text = {0};
    size_t n;
    assert_true(st_buffer_put(&text, "", 0));
    for (int64_t i = 0; i < ids->n; i++) {
        const char *s = st_bpe_bytes(b, ids->id[i], &n);
        bool strip = i == 0 && st_bpe_strip(b) && n && s[0] == ' ';
        assert_true(st_buffer_put(&text, s + strip, n - strip));
    }
    bool same =
        text.n == json_string_length(told) && !memcmp(text.s, json_string_value(told), text.n);
    free(text.s);
    return same;
}

static void flow_same(const st_bpe *b, const char *kind, const json_t *texts, const json_t *want)
{
    const json_t *text;
    size_t i;
    st_err e;
    st_ids ids = {0};
    assert_true(json_array_size(texts) >= 100);
    json_array_foreach(texts, i, text)
    {
        const char *s = json_string_value(text);
        size_t n = json_string_length(text);
        const json_t *special = json_array_get(json_object_get(want, "special"), i),
                     *plain = json_array_get(json_object_get(want, "plain"), i),
                     *told = json_array_get(json_object_get(want, "told"), i);
        ids.n = 0;
        assert_ok(st_bpe_encode(b, s, n, &ids, &e), &e);
        if (!flow_equal(&ids, json_is_null(plain) ? special : plain))
            fail_msg("%s: text %zu without special tokens: \"%s\"", kind, i, s);
        ids.n = 0;
        assert_ok(st_bpe_encode_with(b, s, n, true, &ids, &e), &e);
        if (!flow_equal(&ids, special)) fail_msg("%s: text %zu: \"%s\"", kind, i, s);
        if (!json_is_false(told) && !flow_tells(b, &ids, json_is_null(told) ? text : told))
            fail_msg("%s: text %zu is told otherwise: \"%s\"", kind, i, s);
    }
    assert_true(flow_equal(st_bpe_before(b), json_object_get(want, "before")));
    assert_true(flow_equal(st_bpe_after(b), json_object_get(want, "after")));
    st_ids_free(&ids);
}

/* The tokenizer in `dir`/`file`, and what it is when it has been saved. */
static void flow_kind(const char *folder, const char *file, const char *want_file,
                      const json_t *texts)
{
    json_t *want = flow_load(st_test_path(folder, want_file));
    const char *dir = st_test_dir();
    st_bpe *b, *again;
    st_err e;
    assert_ok(st_bpe_open(&b, st_test_path(folder, file), &e), &e);
    flow_same(b, file, texts, want);
    assert_ok(st_bpe_save(b, dir, &e), &e);
    assert_ok(st_bpe_open(&again, dir, &e), &e);
    flow_same(again, file, texts, want);
    assert_true(st_bpe_hash(b) == st_bpe_hash(again));
    st_bpe_close(again);
    st_bpe_close(b);
    json_decref(want);
    st_test_remove(dir);
}

static void flow_as_hugging_face(void **state)
{
    (void)state;
    json_t *texts = flow_load(TOKENS "texts.json");
    for (int i = 0; i < KINDS; i++) {
        char file[64], want[64];
        snprintf(file, sizeof file, "%s.json", kinds[i]);
        snprintf(want, sizeof want, "%s.want.json", kinds[i]);
        flow_kind(TOKENS, file, want, texts);
    }
    json_decref(texts);
}

/* Bytes come back whole, whatever they are, if the tokenizer changes no text. */
static void flow_any_bytes(void **state)
{
    (void)state;
    static const char *const whole[] = {"llama3", "o200k", "deepseek", "smollm", "falcon", "gemma"};
    st_rng r = {.seed = 5, .stream = 7};
    st_err e;
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        char file[96];
        st_bpe *b;
        st_ids ids = {0};
        snprintf(file, sizeof file, TOKENS "%s.json", whole[k]);
        assert_ok(st_bpe_open(&b, file, &e), &e);
        for (int round = 0; round < 300; round++) {
            char s[64];
            size_t n = st_rng_below(&r, sizeof s), at = 0;
            for (size_t i = 0; i < n; i++)
                s[i] = round % 3 ? (char)st_rng_below(&r, 256) : " \xC3\xA9\n\0a1\xE2\x96"[i % 9];
            ids.n = 0;
            assert_ok(st_bpe_encode(b, s, n, &ids, &e), &e);
            for (int64_t i = 0; i < ids.n; i++) {
                size_t len;
                const char *bytes = st_bpe_bytes(b, ids.id[i], &len);
                assert_true(at + len <= n && !memcmp(bytes, s + at, len));
                at += len;
            }
            assert_int_equal(at, n);
        }
        st_ids_free(&ids);
        st_bpe_close(b);
    }
}

/* Ten times the text takes about ten times as long. */
static void flow_long_runs(void **state)
{
    (void)state;
    static const char *const runs[] = {
        "a", " ", "\n", "1", "!", "\xC3\xA9", "ab ", "a\xCC\x81\xCC\xA3", "\xE4\xBD\xA0"};
    enum { SHORT = 30000, LONG = 10 * SHORT };
    char *text = malloc(LONG);
    st_err e;
    assert_non_null(text);
    for (int i = 0; i < KINDS; i++) {
        char file[96];
        st_bpe *b;
        snprintf(file, sizeof file, TOKENS "%s.json", kinds[i]);
        assert_ok(st_bpe_open(&b, file, &e), &e);
        for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
            double took[2];
            size_t len = strlen(runs[k]);
            for (size_t n = 0; n < LONG; n++)
                text[n] = runs[k][n % len];
            for (int size = 0; size < 2; size++) {
                st_ids ids = {0};
                double start = st_now();
                assert_ok(st_bpe_encode(b, text, size ? LONG : SHORT, &ids, &e), &e);
                took[size] = st_now() - start;
                st_ids_free(&ids);
            }
            if (took[1] > 40 * took[0] + 2.0)
                fail_msg("%s: \"%s\" again and again: %g s, then %g s", kinds[i], runs[k], took[0],
                         took[1]);
        }
        st_bpe_close(b);
    }
    free(text);
}

/* A pattern that would try everything stops with a word about it. */
static void flow_endless(void **state)
{
    (void)state;
    static const char *const patterns[] = {"(a+)+$", "(?:a|a)*b", "(a*)*c", "((a?){30}){30}b"};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    char text[4000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '!';
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++) {
        json_t *root = flow_load(TOKENS "o200k.json");
        json_t *steps = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
        json_object_set_new(json_object_get(json_array_get(steps, 0), "pattern"), "Regex",
                            json_string(patterns[k]));
        char *dump = json_dumps(root, 0);
        st_test_write(path, dump, strlen(dump));
        free(dump);
        json_decref(root);
        st_bpe *b;
        st_err e;
        st_ids ids = {0};
        assert_ok(st_bpe_open(&b, path, &e), &e);
        double start = st_now();
        st_status s = st_bpe_encode(b, text, sizeof text, &ids, &e);
        if (s) assert_says(&e, "takes too many steps at byte 0");
        assert_true(!s || s == ST_EUNSUPPORTED);
        assert_true(st_now() - start < 60);
        st_ids_free(&ids);
        st_bpe_close(b);
    }
    st_test_remove(dir);
}

/* Of a folder like the fixtures': the files that are named, as check_tokenizers.py makes it. */
static char **flow_named;

static void flow_as_named(void **state)
{
    (void)state;
    json_t *texts = flow_load(st_test_path(flow_named[0], "texts.json"));
    for (int i = 1; flow_named[i]; i++) {
        char want[64];
        snprintf(want, sizeof want, "%s.want.json", flow_named[i]);
        flow_kind(flow_named[0], flow_named[i], want, texts);
    }
    json_decref(texts);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flow_as_hugging_face),
        cmocka_unit_test(flow_any_bytes),
        cmocka_unit_test(flow_long_runs),
        cmocka_unit_test(flow_endless),
    };
    const struct CMUnitTest named[] = {cmocka_unit_test(flow_as_named)};
    flow_named = argv + 1;
    if (argc > 2) return cmocka_run_group_tests_name("real tokenizers", named, NULL, NULL);
    return cmocka_run_group_tests_name("flows", tests, NULL, NULL);
}
