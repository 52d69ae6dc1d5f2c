/* Any bytes as text, JSON lines or anything packed: documents or an error, in bounded memory, and
 * pieces that make up the documents. The first byte chooses the file's name. */
/* SPDX-License-Identifier: MIT */
#include "text/text.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FUZZ_DOC = 1 << 20, FUZZ_ALL = 8 << 20 };

/* Hash and length of all documents, each ended by a byte of its own; stops after FUZZ_ALL bytes. */
static st_status fuzz_read(const char *path, int64_t piece, uint64_t *hash, size_t *all)
{
    st_docs_opts o = {.max_doc_bytes = FUZZ_DOC, .piece_bytes = piece};
    st_docs *d;
    st_err e;
    const char *text;
    size_t n;
    *hash = 1;
    *all = 0;
    st_status s = st_docs_open(&d, &path, 1, &o, &e);
    if (s) return s;
    while (*all < FUZZ_ALL && !(s = st_docs_next(d, &text, &n, &e)) && text) {
        if (n == 0 || n > 2 * FUZZ_DOC) abort();
        for (size_t i = 0; i < n; i++)
            *hash = (*hash ^ (uint8_t)text[i]) * 0x100000001B3u;
        if (!st_docs_more(d)) *hash = (*hash ^ 256) * 0x100000001B3u;
        *all += n;
    }
    if (st_docs_done(d) < 0) abort();
    st_docs_close(d);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = {"x",    "x.jsonl", "x.tar",     "x.zip",  "x.txt",
                                        "x.gz", "x.xz",    "x.tar.zst", "x.json", "x.csv"};
    static char dir[64];
    char path[96];
    uint64_t whole, pieces;
    size_t whole_n, pieces_n;
    if (n < 1) return 0;
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/strut-fuzz-XXXXXX");
        if (!mkdtemp(dir)) abort();
    }
    snprintf(path, sizeof path, "%s/%s", dir, names[data[0] % 10]);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data + 1, 1, n - 1, f) != n - 1 || fclose(f)) abort();
    st_status a = fuzz_read(path, 0, &whole, &whole_n);
    st_status b = fuzz_read(path, 50, &pieces, &pieces_n);
    if (a == ST_OK && b == ST_OK && whole_n < FUZZ_ALL && (whole != pieces || whole_n != pieces_n))
        abort();
    unlink(path);
    return 0;
}
