/* prepare: every token of every document is in one of the two files, in order, whatever the number
 * of threads; the split is the seed's; and nothing is left of a run that failed. */
/* Long: many cases over one corpus and one reader of what came out. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "files/files.h"
#include "testing.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char tok[] = "test/fixtures/text/license-400.json"; /* <|endoftext|> is 0 */
enum { EOS = 0 };

/* Runs prepare on one input; the result, or NULL after an error. */
static json_t *prep(const char *input, const char *out, const st_prepare_opts *o, st_status *s,
                    st_err *e)
{
    json_t *result = NULL;
    st_prepare_opts with = *o;
    if (!with.tokenizer) with.tokenizer = tok;
    with.replace = true;
    *s = st_prepare(&input, 1, out, &with, &result, e);
    assert_true((*s == ST_OK) == (result != NULL));
    return result;
}

static int64_t prep_int(const json_t *r, const char *key)
{
    const json_t *v = json_object_get(r, key);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

static uint16_t *prep_tokens(const char *dir, const char *name, int64_t *n)
{
    size_t bytes;
    char *path = st_path_join(dir, name);
    uint16_t *t = (uint16_t *)(void *)st_test_read(path, &bytes);
    free(path);
    assert_non_null(t);
    assert_int_equal(bytes % 2, 0);
    *n = (int64_t)bytes / 2;
    return t;
}

/* `docs` JSON lines "doc N " with some words, of very different lengths. */
static const char *prep_lines(const char *dir, int docs)
{
    const char *path = st_test_path(dir, "in.jsonl");
    FILE *f = fopen(path, "w");
    st_rng r = {.seed = 5};
    for (int i = 0; i < docs; i++) {
        fprintf(f, "{\"text\":\"doc %d", i);
        for (uint64_t k = st_rng_below(&r, i % 7 ? 20 : 200); k > 0; k--)
            fprintf(f, " %s", k % 2 ? "the Software" : "shall be\\n included");
        fprintf(f, "\"}\n");
    }
    fclose(f);
    return path;
}

/* The ids of a text that starts at in[0], as prepare should have written them. */
static void prep_expect(const st_bpe *b, const char *text, size_t n, st_ids *ids)
{
    st_err e = {0};
    ids->n = 0;
    assert_ok(st_bpe_encode(b, text, n, ids, &e), &e);
}

static void prep_every_document(void **state)
{
    (void)state;
    enum { DOCS = 3000 };
    const char *dir = st_test_dir();
    char *out = strdup(st_test_path(dir, "out"));
    const char *input = prep_lines(dir, DOCS);
    st_err e = {0};
    st_status s;
    json_t *r = prep(input, out, &(st_prepare_opts){.val_fraction = 0.1, .seed = 1}, &s, &e);
    assert_ok(s, &e);
    int64_t n[2], at[2] = {0}, docs[2] = {0};
    uint16_t *t[2] = {prep_tokens(out, "train.bin", &n[0]), prep_tokens(out, "val.bin", &n[1])};
    st_docs *d;
    st_bpe *b;
    st_ids ids = {0};
    const char *text;
    size_t len;
    assert_ok(st_bpe_open(&b, tok, &e), &e);
    assert_ok(st_docs_open(&d, &input, 1, NULL, &e), &e);
    while (st_docs_next(d, &text, &len, &e) == ST_OK && text) {
        prep_expect(b, text, len, &ids);
        int in = -1; /* no document begins another one: each says its number */
        for (int k = 0; k < 2 && in < 0; k++) {
            bool same = at[k] + ids.n < n[k] && t[k][at[k] + ids.n] == EOS;
            for (int64_t i = 0; i < ids.n && same; i++)
                same = t[k][at[k] + i] == ids.id[i];
            if (same) in = k;
        }
        assert_true(in >= 0);
        at[in] += ids.n + 1;
        docs[in]++;
    }
    assert_int_equal(at[0], n[0]);
    assert_int_equal(at[1], n[1]);
    assert_int_equal(docs[0] + docs[1], DOCS);
    assert_true(docs[1] > 230 && docs[1] < 370); /* 300 +- 16 */
    assert_int_equal(prep_int(r, "documents"), DOCS);
    assert_int_equal(prep_int(r, "train_documents"), docs[0]);
    assert_int_equal(prep_int(r, "val_documents"), docs[1]);
    assert_int_equal(prep_int(r, "tokens"), n[0] + n[1]);
    assert_int_equal(prep_int(r, "train_tokens"), n[0]);
    assert_int_equal(prep_int(r, "val_tokens"), n[1]);
    st_docs_close(d);
    st_bpe_close(b);
    st_ids_free(&ids);
    free(t[0]);
    free(t[1]);
    json_decref(r);
    free(out);
    st_test_remove(dir);
}

static void prep_same_files(const char *a, const char *b, bool same)
{
    static const char *const names[] = {"train.bin", "val.bin"};
    for (int i = 0; i < 2; i++) {
        int64_t n, m;
        uint16_t *x = prep_tokens(a, names[i], &n), *y = prep_tokens(b, names[i], &m);
        assert_true((n == m && !memcmp(x, y, 2 * (size_t)n)) == same);
        free(x);
        free(y);
    }
}

static void prep_threads_and_seeds(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *input = prep_lines(dir, 30000); /* several batches */
    st_err e = {0};
    st_status s;
    char out[4][512];
    static const st_prepare_opts o[] = {{.threads = 1, .val_fraction = 0.01, .seed = 1},
                                        {.threads = 7, .val_fraction = 0.01, .seed = 1},
                                        {.threads = 2, .val_fraction = 0.01, .seed = 2}};
    for (int i = 0; i < 3; i++) {
        snprintf(out[i], sizeof out[i], "%s/out%d", dir, i);
        json_decref(prep(input, out[i], &o[i], &s, &e));
        assert_ok(s, &e);
    }
    prep_same_files(out[0], out[1], true);
    prep_same_files(out[0], out[2], false);
    st_test_remove(dir);
}

/* A document of several pieces gives the tokens of one. */
static void prep_long_document(void **state)
{
    (void)state;
    enum { N = 5 << 20 };
    const char *dir = st_test_dir();
    char *out = strdup(st_test_path(dir, "out")), *text = malloc(N);
    const char *path = st_test_path(dir, "long.txt");
    st_err e = {0};
    st_status s;
    st_bpe *b;
    st_ids ids = {0};
    st_rng rng = {.seed = 9};
    for (int i = 0; i < N; i++)
        text[i] = "etaoin  shrdlu\n'.0\xc3\xa9"[st_rng_below(&rng, 20)];
    st_test_write(path, text, N);
    st_prepare_opts o = {.split = ST_SPLIT_TOKENS, .val_fraction = 0.25, .threads = 3};
    json_t *r = prep(path, out, &o, &s, &e);
    assert_ok(s, &e);
    int64_t n[2];
    uint16_t *t[2] = {prep_tokens(out, "train.bin", &n[0]), prep_tokens(out, "val.bin", &n[1])};
    assert_ok(st_bpe_open(&b, tok, &e), &e);
    prep_expect(b, text, N, &ids);
    assert_int_equal(n[0] + n[1], ids.n + 1);
    assert_int_equal(n[1], (ids.n + 1 + 2) / 4);
    for (int64_t i = 0; i < ids.n; i++)
        assert_int_equal(i < n[0] ? t[0][i] : t[1][i - n[0]], ids.id[i]);
    assert_int_equal(t[1][n[1] - 1], EOS);
    assert_int_equal(prep_int(r, "bytes"), N);
    json_decref(r);
    st_bpe_close(b);
    st_ids_free(&ids);
    free(t[0]);
    free(t[1]);
    free(text);
    free(out);
    st_test_remove(dir);
}

/* train and val tokens of a text of JSON lines under given options. */
static void prep_split_of(const char *lines, st_prepare_opts o, int64_t train, int64_t val,
                          const char *how)
{
    const char *dir = st_test_dir(), *path = st_test_path(dir, "a.jsonl");
    char *out = strdup(st_test_path(dir, "out"));
    st_err e = {0};
    st_status s;
    int64_t n;
    st_test_write(path, lines, strlen(lines));
    json_t *r = prep(path, out, &o, &s, &e);
    assert_ok(s, &e);
    assert_int_equal(prep_int(r, "train_tokens"), train);
    assert_int_equal(prep_int(r, "val_tokens"), val);
    assert_string_equal(json_string_value(json_object_get(r, "split")), how);
    free(prep_tokens(out, "train.bin", &n));
    assert_int_equal(n, train);
    uint16_t *t = prep_tokens(out, "val.bin", &n);
    assert_int_equal(n, val);
    assert_int_equal(t[n - 1], EOS);
    free(t);
    json_decref(r);
    free(out);
    st_test_remove(dir);
}

/* Neither file is ever empty. */
static void prep_small_splits(void **state)
{
    (void)state;
    static const char one[] = "{\"text\":\"q\"}\n", two[] = "{\"text\":\"q\"}\n{\"text\":\"qx\"}\n";
    static const char three[] = "{\"text\":\"q\"}\n{\"text\":\"qx\"}\n{\"text\":\"qxz\"}\n";
    prep_split_of(one, (st_prepare_opts){0}, 1, 1, "tokens");
    prep_split_of(one, (st_prepare_opts){.val_fraction = 0.999}, 1, 1, "tokens");
    prep_split_of(two, (st_prepare_opts){0}, 2, 3, "documents");
    prep_split_of(two, (st_prepare_opts){.val_fraction = 0.999}, 2, 3, "documents");
    prep_split_of(two, (st_prepare_opts){.val_fraction = 1e-9}, 2, 3, "documents");
    prep_split_of(three, (st_prepare_opts){.val_fraction = 1e-9}, 5, 4, "documents");
    prep_split_of(three, (st_prepare_opts){.val_fraction = 0.999}, 2, 7, "documents");
    prep_split_of(three, (st_prepare_opts){.split = ST_SPLIT_TOKENS, .val_fraction = 0.5}, 4, 5,
                  "tokens");
}

/* Not told how much, prepare keeps ten contexts for validation, or a tenth, in whole documents. */
static void prep_default_share(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char *out = strdup(st_test_path(dir, "out"));
    st_err e = {0};
    st_status s;
    json_t *r = prep(prep_lines(dir, 5000), out, &(st_prepare_opts){0}, &s, &e);
    assert_ok(s, &e);
    int64_t n, begin = 0;
    assert_true(prep_int(r, "tokens") > 200000);
    assert_true(prep_int(r, "val_tokens") >= 10241 && prep_int(r, "val_tokens") < 12000);
    uint16_t *t = prep_tokens(out, "val.bin", &n);
    for (int64_t i = 0; i < n; i++)
        begin += t[i] == EOS;
    assert_int_equal(begin, prep_int(r, "val_documents"));
    free(t);
    t = prep_tokens(out, "train.bin", &n);
    assert_int_equal(t[n - 1], EOS);
    free(t);
    json_decref(r);
    r = prep(prep_lines(dir, 100), out, &(st_prepare_opts){0}, &s, &e);
    assert_ok(s, &e);
    assert_true(prep_int(r, "val_tokens") >= prep_int(r, "tokens") / 10);
    assert_true(prep_int(r, "val_tokens") < prep_int(r, "tokens") / 4);
    json_decref(r);
    free(out);
    st_test_remove(dir);
}

/* What is written beside the shards: the tokenizer, and how they were made. */
static void prep_folder(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char *out = strdup(st_test_path(dir, "out"));
    st_err e = {0};
    st_status s;
    st_bpe *a, *b;
    json_t *meta;
    json_decref(prep(prep_lines(dir, 50), out, &(st_prepare_opts){.seed = 11}, &s, &e));
    assert_ok(s, &e);
    assert_int_equal(st_test_entries(out), 8);
    assert_ok(st_bpe_open(&a, tok, &e), &e);
    assert_ok(st_bpe_open(&b, out, &e), &e);
    assert_true(st_bpe_hash(a) == st_bpe_hash(b));
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)st_bpe_hash(a));
    assert_ok(st_json_load(&meta, st_test_path(out, "meta.json"), 1 << 20, &e), &e);
    assert_string_equal(json_string_value(json_object_get(meta, "tokenizer_hash")), hash);
    assert_int_equal(prep_int(meta, "vocab_size"), 400);
    assert_int_equal(prep_int(meta, "eos_token_id"), EOS);
    assert_int_equal(prep_int(meta, "seed"), 11);
    assert_int_equal(json_array_size(json_object_get(meta, "inputs")), 1);
    json_decref(meta);
    st_bpe_close(a);
    st_bpe_close(b);
    free(out);
    st_test_remove(dir);
}

/* Special tokens of a text, and the token that ends documents (test/fixtures/added/pair: 261 is
 * <|endoftext|>, 263 <|pad|>, 264 __sep__, which is not special). */
static void prep_specials(void **state)
{
    (void)state;
    static const char text[] = "ab<|endoftext|><|endoftext|>c__sep__<|pad|>d<|endoftext|>";
    static const struct {
        st_special how;
        const char *separator;
        int64_t documents;
        int n;
        int id[12];
    } rows[] = {
        {ST_SPECIAL_TOKEN, NULL, 1, 10, {97, 98, 261, 261, 99, 264, 263, 100, 261, 261}},
        {ST_SPECIAL_TOKEN, "<|pad|>", 1, 10, {97, 98, 261, 261, 99, 264, 263, 100, 261, 263}},
        {ST_SPECIAL_SPLIT, NULL, 2, 8, {97, 98, 261, 99, 264, 263, 100, 261}},
        {ST_SPECIAL_SPLIT, "__sep__", 2, 10, {97, 98, 261, 261, 99, 264, 263, 100, 261, 264}},
    };
    const char *dir = st_test_dir(), *input = st_test_path(dir, "t.txt");
    char *out = strdup(st_test_path(dir, "out"));
    st_test_write(input, text, sizeof text - 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_err e = {0};
        st_status s;
        st_prepare_opts o = {.tokenizer = "test/fixtures/added/pair",
                             .special = rows[i].how,
                             .separator = rows[i].separator};
        json_t *r = prep(input, out, &o, &s, &e);
        assert_ok(s, &e);
        assert_int_equal(prep_int(r, "documents"), rows[i].documents);
        assert_int_equal(prep_int(r, "tokens"), rows[i].n);
        assert_int_equal(prep_int(r, "eos_token_id"), i == 1 ? 263 : i == 3 ? 264 : 261);
        int64_t n[2];
        uint16_t *t[2] = {prep_tokens(out, "train.bin", &n[0]), prep_tokens(out, "val.bin", &n[1])};
        for (int k = 0; k < rows[i].n; k++)
            assert_int_equal(k < n[0] ? t[0][k] : t[1][k - n[0]], rows[i].id[k]);
        free(t[0]);
        free(t[1]);
        json_decref(r);
    }
    st_err e = {0};
    st_status s;
    st_prepare_opts none = {.tokenizer = "test/fixtures/added/pair", .separator = "<|none|>"};
    assert_null(prep(input, out, &none, &s, &e));
    assert_st(s, ST_EARG, &e);
    assert_says(&e, "has no <|none|>, which ends documents");
    free(out);
    st_test_remove(dir);
}

/* Fails with `code`, and leaves `dir` with the entries it had. */
static void prep_fails(const char *dir, const char *input, st_prepare_opts o, st_status code,
                       const char *says)
{
    char *out = strdup(st_test_path(dir, "out"));
    st_err e = {0};
    st_status s;
    int before = st_test_entries(dir);
    assert_null(prep(input, out, &o, &s, &e));
    assert_st(s, code, &e);
    assert_says(&e, says);
    assert_int_equal(st_test_entries(dir), before);
    free(out);
}

/* A tokenizer of `extra` more ids than the small one, with or without <|endoftext|>. */
static void prep_tokenizer(const char *path, int extra, bool eos)
{
    st_err e = {0};
    json_t *root;
    assert_ok(st_json_load(&root, tok, 1 << 24, &e), &e);
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    char name[32];
    for (int i = 0; i < extra; i++) {
        snprintf(name, sizeof name, "extra%d", i);
        json_object_set_new(vocab, name, json_integer(400 + i));
    }
    if (!eos) {
        json_object_del(vocab, "<|endoftext|>");
        json_object_set_new(vocab, "<|end|>", json_integer(0));
        json_object_set_new(root, "added_tokens", json_array());
    }
    char *text = json_dumps(root, 0);
    st_test_write(path, text, strlen(text));
    free(text);
    json_decref(root);
}

/* All tokens of a shard. */
static int32_t *prep_shard(const char *path, int64_t *n)
{
    st_shard shard;
    st_err e;
    assert_ok(st_shard_open(&shard, path, &e), &e);
    int32_t *id = calloc((size_t)shard.n, sizeof *id);
    assert_non_null(id);
    st_shard_read(&shard, 0, shard.n, id);
    *n = shard.n;
    st_shard_close(&shard);
    return id;
}

/* More than 65,536 ids: .npy files of 32 bits, with the same tokens in the same places. */
static void prep_wide(void **state)
{
    (void)state;
    static const st_split splits[] = {ST_SPLIT_DOCUMENTS, ST_SPLIT_TOKENS, ST_SPLIT_NANOGPT};
    const char *dir = st_test_dir(), *input = prep_lines(dir, 2000);
    const char *path = st_test_path(dir, "t.json");
    for (int i = 0; i < 6; i++) {
        char out[512];
        st_err e = {0};
        st_status s;
        snprintf(out, sizeof out, "%s/out%d", dir, i);
        prep_tokenizer(path, 65536 + i % 2 - 400, true);
        json_decref(
            prep(input, out,
                 &(st_prepare_opts){.tokenizer = path, .split = splits[i / 2], .val_fraction = 0.1},
                 &s, &e));
        assert_ok(s, &e);
        for (int side = 0; side < 2 && i % 2; side++) {
            char narrow[600], wide[600];
            int64_t n, m;
            snprintf(narrow, sizeof narrow, "%s/out%d/%s", dir, i - 1,
                     side ? "val.bin" : "train.bin");
            snprintf(wide, sizeof wide, "%s/%s", out, side ? "val.npy" : "train.npy");
            int32_t *a = prep_shard(narrow, &n), *b = prep_shard(wide, &m);
            assert_int_equal(n, m);
            assert_memory_equal(a, b, (size_t)n * sizeof *a);
            free(a);
            free(b);
        }
    }
    st_test_remove(dir);
}

/* A tokenizer of test/fixtures/tokens without added tokens that reach over white space, with which
 * nothing is cut. */
static void prep_kind(const char *kind, const char *path)
{
    char file[128];
    st_err e;
    json_t *root, *token;
    size_t i;
    snprintf(file, sizeof file, "test/fixtures/tokens/%s.json", kind);
    assert_ok(st_json_load(&root, file, 1 << 24, &e), &e);
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
    {
        if (strchr(json_string_value(json_object_get(token, "content")), ' '))
            json_object_set_new(token, "content", json_string("two_words"));
        json_object_set_new(token, "lstrip", json_false());
        json_object_set_new(token, "rstrip", json_false());
        json_object_set_new(token, "single_word", json_false());
    }
    assert_ok(st_write_json(path, root, &e), &e);
    json_decref(root);
}

/* A long document in pieces is what it is as a whole, for families of patterns that join more than
 * GPT-2's: punctuation with newlines, marks with letters, digits in threes. */
static void prep_long(void **state)
{
    (void)state;
    static const char *const kinds[] = {"llama3", "qwen2", "o200k", "deepseek",
                                        "smollm", "bloom", "llama2"};
    enum { BYTES = 3 << 20 };
    static const char odd[][24] = {".\n",  ",\n", ");\n",      ".\n",          ",\n",   ");\n",
                                   "(bar", "123", "e\xCC\x81", "\xE4\xBD\xA0", "end\n", "\t"};
    const char *dir = st_test_dir(), *input = st_test_path(dir, "long.txt");
    char *text = malloc(BYTES + 64);
    size_t n = 0;
    st_rng r = {.seed = 9};
    assert_non_null(text);
    while (n < BYTES) {
        const char *part = odd[st_rng_below(&r, sizeof odd / sizeof *odd)];
        memcpy(text + n, part, strlen(part));
        n += strlen(part);
    }
    st_test_write(input, text, n);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char out[512], file[600];
        const char *tokenizer = st_test_path(dir, "kind.json");
        st_bpe *b;
        st_ids ids = {0};
        st_err e = {0};
        st_status s;
        int64_t train = 0, val = 0;
        prep_kind(kinds[k], tokenizer);
        snprintf(out, sizeof out, "%s/%s", dir, kinds[k]);
        st_prepare_opts o = {.tokenizer = tokenizer, .separator = "</s>", .split = ST_SPLIT_TOKENS};
        json_decref(prep(input, out, &o, &s, &e));
        assert_ok(s, &e);
        assert_ok(st_bpe_open(&b, tokenizer, &e), &e);
        assert_ok(st_bpe_encode(b, text, n, &ids, &e), &e);
        for (int side = 0; side < 2; side++) {
            int64_t *count = side ? &val : &train, from = side ? train : 0;
            snprintf(file, sizeof file, "%s/%s", out, side ? "val.bin" : "train.bin");
            int32_t *id = prep_shard(file, count);
            int64_t both = ids.n - from < *count ? ids.n - from : *count;
            assert_memory_equal(id, ids.id + from, (size_t)both * sizeof *id);
            free(id);
        }
        assert_int_equal(train + val, ids.n + 1); /* and what ends it */
        st_ids_free(&ids);
        st_bpe_close(b);
    }
    free(text);
    st_test_remove(dir);
}

static void prep_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *input = prep_lines(dir, 2000);
    const char *path = st_test_path(dir, "t.json"), *empty = st_test_path(dir, "empty.txt");
    prep_tokenizer(path, 65536 - 400, true);
    st_test_write(empty, "", 0);
    st_err e = {0};
    st_status s;
    char *out = strdup(st_test_path(dir, "out"));
    json_decref(prep(input, out, &(st_prepare_opts){.tokenizer = path}, &s, &e));
    assert_ok(s, &e); /* 65536 ids just fit */
    st_test_remove(out);
    free(out);
    prep_tokenizer(path, 0, false);
    prep_fails(dir, input, (st_prepare_opts){.tokenizer = path}, ST_EARG, "<|endoftext|>");
    prep_fails(dir, input, (st_prepare_opts){.tokenizer = "nowhere"}, ST_EIO, "nowhere");
    prep_fails(dir, input, (st_prepare_opts){.field = "body"}, ST_EFORMAT, "no \"body\"");
    prep_fails(dir, input, (st_prepare_opts){.val_fraction = 1}, ST_EARG, "val_fraction is 1");
    prep_fails(dir, input, (st_prepare_opts){.val_fraction = -1}, ST_EARG, "val_fraction is -1");
    prep_fails(dir, empty, (st_prepare_opts){0}, ST_EARG, "no text");
    prep_fails(dir, st_test_path(dir, "none"), (st_prepare_opts){0}, ST_EIO, "none");
    FILE *f = fopen(input, "a"); /* the last of 2000 lines is bad */
    fputs("{\"text\": ", f);
    fclose(f);
    prep_fails(dir, input, (st_prepare_opts){.strict = true}, ST_EFORMAT, "in.jsonl:2001: ");
    f = fopen(input, "w"); /* no white space for 33 MiB: refused in the reader or in a worker */
    fputs("{\"text\":\"", f);
    for (int i = 0; i < 33 << 20; i++)
        fputc('x', f);
    fputs("\"}\n", f);
    fclose(f);
    prep_fails(dir, input, (st_prepare_opts){0}, ST_EFORMAT, "in.jsonl:1: a run without");
    st_test_remove(dir);
}

/* An existing folder stays as it is unless it may be replaced. */
static void prep_keeps_folder(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *input = prep_lines(dir, 20);
    char *out = strdup(st_test_path(dir, "out"));
    st_err e = {0};
    json_t *r;
    st_prepare_opts o = {.tokenizer = tok};
    assert_ok(st_make_dirs(out, &e), &e);
    st_test_write(st_test_path(out, "train.bin"), "mine", 4);
    assert_st(st_prepare(&input, 1, out, &o, &r, &e), ST_EARG, &e);
    assert_null(r);
    size_t n;
    char *text = st_test_read(st_test_path(out, "train.bin"), &n);
    assert_string_equal(text, "mine");
    free(text);
    o.replace = true;
    assert_ok(st_prepare(&input, 1, out, &o, &r, &e), &e);
    assert_int_equal(st_test_entries(out), 8);
    json_decref(r);
    free(out);
    st_test_remove(dir);
}

/* In a process of its own: prepare, interrupted or with no more than `limit` bytes a file. */
static void prep_child(bool interrupt, rlim_t limit, st_status code, const char *says)
{
    const char *dir = st_test_dir(), *input = prep_lines(dir, 30000);
    char *out = strdup(st_test_path(dir, "out"));
    pid_t pid = fork();
    if (pid == 0) {
        st_err e = {0};
        st_status s;
        if (interrupt) st_interrupt();
        signal(SIGXFSZ, SIG_IGN);
        if (limit) setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
        prep(input, out, &(st_prepare_opts){.threads = 2}, &s, &e);
        _exit(s == code && strstr(e.msg, says) ? 42 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_int_equal(st_test_entries(dir), 1); /* the input */
    free(out);
    st_test_remove(dir);
}

static void prep_interrupted(void **state)
{
    (void)state;
    prep_child(true, 0, ST_EINTR, "interrupted");
}

static void prep_full_disk(void **state)
{
    (void)state;
    prep_child(false, 100000, ST_EIO, "train.bin: cannot be written");
    prep_child(false, 4096, ST_EIO, "cannot be written");
}

/* LAMBADA in OpenAI's form: 430,230 GPT-2 tokens, and one for the end of each of 5,153 documents.
 */
static void prep_lambada(void **state)
{
    (void)state;
    const char *input = st_test_data("lambada_test.jsonl"), *vocab = st_test_data("encoder.json");
    if (!input || !vocab || !st_test_data("vocab.bpe")) skip();
    const char *dir = st_test_dir();
    char *out = strdup(st_test_path(dir, "out"));
    st_err e = {0};
    st_status s;
    json_t *r = prep(input, out, &(st_prepare_opts){.tokenizer = vocab, .threads = 2}, &s, &e);
    assert_ok(s, &e);
    assert_int_equal(prep_int(r, "documents"), 5153);
    assert_int_equal(prep_int(r, "tokens"), 430230 + 5153);
    json_decref(r);
    free(out);
    st_test_remove(dir);
}

static void prep_learns(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *input = prep_lines(dir, 500);
    char *out = strdup(st_test_path(dir, "tok"));
    st_err e = {0};
    json_t *r;
    st_bpe *b;
    st_tokenizer_opts o = {.vocab = 280};
    assert_ok(st_tokenizer(&input, 1, out, &o, &r, &e), &e);
    assert_int_equal(prep_int(r, "vocab_size"), 280);
    assert_int_equal(prep_int(r, "documents"), 500);
    assert_int_equal(prep_int(r, "merges"), 23);
    json_decref(r);
    assert_int_equal(st_test_entries(out), 5);
    assert_ok(st_bpe_open(&b, out, &e), &e);
    assert_int_equal(st_bpe_eos(b), 279);
    st_bpe_close(b);
    assert_st(st_tokenizer(&input, 1, out, &o, &r, &e), ST_EARG, &e);
    o.replace = true;
    o.vocab = 100;
    assert_st(st_tokenizer(&input, 1, out, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "a vocabulary of 100");
    const char *empty = st_test_path(dir, "empty.txt");
    st_test_write(empty, "", 0);
    o.vocab = 300;
    assert_st(st_tokenizer(&empty, 1, out, &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "no text");
    assert_int_equal(st_test_entries(out), 5);
    assert_int_equal(st_test_entries(dir), 3);
    free(out);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prep_every_document), cmocka_unit_test(prep_threads_and_seeds),
        cmocka_unit_test(prep_long_document),  cmocka_unit_test(prep_small_splits),
        cmocka_unit_test(prep_default_share),  cmocka_unit_test(prep_folder),
        cmocka_unit_test(prep_specials),       cmocka_unit_test(prep_wide),
        cmocka_unit_test(prep_long),           cmocka_unit_test(prep_refuses),
        cmocka_unit_test(prep_keeps_folder),   cmocka_unit_test(prep_interrupted),
        cmocka_unit_test(prep_full_disk),      cmocka_unit_test(prep_learns),
        cmocka_unit_test(prep_lambada),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
