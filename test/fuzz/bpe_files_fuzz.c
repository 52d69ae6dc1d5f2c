/* Any bytes as tokenizer.json, as a GGUF file, or as merges.txt to a given vocabulary: a tokenizer
 * that gives back every byte of a text (one of characters: every character of its own; one that
 * normalizes or lacks bytes: ids that are tokens), is saved and opened again alike, is written as
 * keys of a GGUF file or has no form there, and knows its chats or not; or an error. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char fuzz_dir[64], fuzz_json[96], fuzz_vocab[96], fuzz_merges[96];

static void fuzz_put(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

/* A folder, with all bytes and a few longer tokens as vocab.json. */
static void fuzz_start(void)
{
    json_t *vocab = json_object();
    static const char *const more[] = {"th",   "the",       "aa",         "aaa",
                                       "aaaa", "\xc4\xa0t", "\xc4\xa0the"};
    for (int c = 33, id = 0; id < 256; c++) {
        char name[3] = {(char)c};
        if ((c >= 127 && c <= 160) || c == 173) continue;
        if (c >= 128) {
            name[0] = (char)(0xC0 | c >> 6);
            name[1] = (char)(0x80 | (c & 63));
        }
        json_object_set_new(vocab, name, json_integer(id++));
    }
    for (int i = 0; i < 7; i++)
        json_object_set_new(vocab, more[i], json_integer(256 + i));
    char *text = json_dumps(vocab, 0);
    snprintf(fuzz_dir, sizeof fuzz_dir, "/dev/shm/strut-fuzz-XXXXXX"); /* saving waits for disks */
    if (!mkdtemp(fuzz_dir)) {
        snprintf(fuzz_dir, sizeof fuzz_dir, "/tmp/strut-fuzz-XXXXXX");
        if (!mkdtemp(fuzz_dir)) abort();
    }
    snprintf(fuzz_json, sizeof fuzz_json, "%s/tokenizer.json", fuzz_dir);
    snprintf(fuzz_vocab, sizeof fuzz_vocab, "%s/vocab.json", fuzz_dir);
    snprintf(fuzz_merges, sizeof fuzz_merges, "%s/merges.txt", fuzz_dir);
    fuzz_put(fuzz_vocab, text, strlen(text));
    free(text);
    json_decref(vocab);
}

/* One of characters: other text is refused, each of its tokens is itself. */
static void fuzz_chars(const st_bpe *b, st_ids *ids)
{
    for (int32_t id = 0; id < st_bpe_size(b) && id < 300; id++) {
        size_t n;
        const char *bytes = st_bpe_bytes(b, id, &n);
        ids->n = 0;
        if (st_bpe_encode(b, bytes, n, ids, NULL) || ids->n != 1 || ids->id[0] != id) abort();
    }
}

/* Are its ids those of the bytes of any text? */
static bool fuzz_exact(const st_bpe *b)
{
    bool exact = !b->flow;
    for (int i = 0; i < 256; i++)
        exact = exact && b->byte_id[i] >= 0;
    return exact;
}

static void fuzz_ids(const st_bpe *b, const st_ids *ids, const char *text, size_t size)
{
    size_t at = 0, n;
    for (int64_t i = 0; i < ids->n; i++) {
        const char *bytes = st_bpe_bytes(b, ids->id[i], &n);
        if (!bytes) abort();
        if (!fuzz_exact(b)) continue;
        if (at + n > size || memcmp(bytes, text + at, n)) abort();
        at += n;
    }
    if (fuzz_exact(b) && at != size) abort();
}

/* Saved and opened again it does the same. */
static void fuzz_again(const st_bpe *b, const st_ids *ids, const char *text, size_t size)
{
    st_bpe *again;
    st_ids same = {0};
    st_err e;
    json_t *keys = NULL;
    char dir[96], *path;
    snprintf(dir, sizeof dir, "%s/saved", fuzz_dir);
    if (st_bpe_save(b, dir, &e)) abort();
    if (st_bpe_open(&again, dir, &e)) abort();
    if (st_bpe_encode_with(again, text, size, true, &same, &e)) abort();
    if (same.n != ids->n || (same.n && memcmp(same.id, ids->id, (size_t)same.n * sizeof *same.id)))
        abort();
    static const char *const names[] = {
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
        "merges.txt",     "added_tokens.json"};
    for (int i = 0; i < 6; i++) {
        if (asprintf(&path, "%s/%s", dir, names[i]) < 0) abort();
        unlink(path);
        free(path);
    }
    st_bpe_gguf_keys(b, st_bpe_size(b), &keys, &e);
    json_decref(keys);
    st_ids_free(&same);
    st_bpe_close(again);
}

static void fuzz_chat(const st_bpe *b)
{
    st_chat *c;
    st_ids ids = {0};
    if (st_chat_open(&c, b, NULL)) return;
    st_chat_ids(c, b, "be brief", "hello", &ids, NULL);
    st_ids_free(&ids);
    st_chat_close(c);
}

static void fuzz_use(const char *path)
{
    static const char text[] = "the aaaaaaa's  the\t\xff\xc3\xa9 12!thethe<s>\xe2\x96\x81";
    st_bpe *b;
    st_err e;
    st_ids ids = {0};
    if (st_bpe_open(&b, path, &e)) return;
    for (int pass = 0; pass < 2; pass++) {
        ids.n = 0;
        st_status s = st_bpe_encode_with(b, text, sizeof text, pass, &ids, &e);
        if (s == ST_EUNSUPPORTED) break; /* a pattern that takes too many steps */
        if (s) {
            if (s != ST_EFORMAT || st_bpe_merges(b)) abort();
            fuzz_chars(b, &ids);
            break;
        }
        fuzz_ids(b, &ids, text, sizeof text);
        if (pass) fuzz_again(b, &ids, text, sizeof text);
    }
    fuzz_chat(b);
    st_ids_free(&ids);
    st_bpe_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!fuzz_dir[0]) fuzz_start();
    fuzz_put(fuzz_json, data, n);
    fuzz_use(fuzz_json);
    fuzz_put(fuzz_merges, data, n);
    fuzz_use(fuzz_vocab);
    unlink(fuzz_json);
    return 0;
}
