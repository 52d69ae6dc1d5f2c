/* Any bytes as tokenizer.json, or as merges.txt to a given vocabulary: a tokenizer that gives back
 * every byte of a text (one of characters: every character of its own), or an error. */
/* SPDX-License-Identifier: MIT */
#include "text/text.h"
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
    snprintf(fuzz_dir, sizeof fuzz_dir, "/tmp/strut-fuzz-XXXXXX");
    if (!mkdtemp(fuzz_dir)) abort();
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

static void fuzz_use(const char *path)
{
    static const char text[] = "the aaaaaaa's  the\t\xff\xc3\xa9 12!thethe";
    st_bpe *b;
    st_err e;
    st_ids ids = {0};
    size_t at = 0;
    if (st_bpe_open(&b, path, &e)) return;
    for (int pass = 0; pass < 2; pass++) {
        ids.n = 0;
        at = 0;
        if (st_bpe_encode(b, text, sizeof text, &ids, &e)) {
            if (e.code != ST_EFORMAT || st_bpe_merges(b)) abort();
            fuzz_chars(b, &ids);
            break;
        }
        for (int64_t i = 0; i < ids.n; i++) {
            size_t n;
            const char *bytes = st_bpe_bytes(b, ids.id[i], &n);
            if (!bytes || at + n > sizeof text || memcmp(bytes, text + at, n)) abort();
            at += n;
        }
        if (at != sizeof text) abort();
    }
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
