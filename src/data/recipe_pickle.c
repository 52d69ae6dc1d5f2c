/* nanoGPT's meta.pkl: Python's pickle, protocol 4, of three entries. The characters in the second
 * dict are the objects of the first, so they are memo references there. */
/* SPDX-License-Identifier: MIT */
#include "data/recipe.h"
#include <stdlib.h>
#include <string.h>

enum { PICKLE_BATCH = 1000, PICKLE_FRAME = 64 << 10 };

typedef struct {
    FILE *f;
    uint32_t memo; /* objects remembered so far */
} pickle_out;

static void pickle_memoize(pickle_out *p)
{
    fputc(0x94, p->f);
    p->memo++;
}

static void pickle_little(pickle_out *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc((int)(v >> (8 * i) & 255), p->f);
}

static void pickle_text(pickle_out *p, const char *s, size_t n)
{
    fputc(0x8c, p->f); /* SHORT_BINUNICODE */
    pickle_little(p, n, 1);
    fwrite(s, 1, n, p->f);
    pickle_memoize(p);
}

static void pickle_int(pickle_out *p, int64_t v)
{
    int bytes = v < 256 ? 1 : v < 65536 ? 2 : 4;
    fputc(bytes == 1 ? 'K' : bytes == 2 ? 'M' : 'J', p->f);
    pickle_little(p, (uint64_t)v, bytes);
}

static void pickle_recall(pickle_out *p, uint32_t memo)
{
    fputc(memo < 256 ? 'h' : 'j', p->f);
    pickle_little(p, memo, memo < 256 ? 1 : 4);
}

/* A dict of n entries, `backwards`: character -> id; the characters are in the memo from `first`
 * on.
 */
static void pickle_dict(pickle_out *p, const st_bpe *b, bool backwards, uint32_t first)
{
    int64_t n = st_bpe_size(b), i = 0, in;
    fputc('}', p->f);
    pickle_memoize(p);
    do { /* batches; after a full one there is another, if need be an empty one */
        if (n > 1) fputc('(', p->f);
        for (in = 0; i < n && in < PICKLE_BATCH; in++, i++) {
            size_t len;
            const char *bytes = st_bpe_bytes(b, (int32_t)i, &len);
            if (backwards) pickle_recall(p, first + (uint32_t)i);
            pickle_int(p, i);
            if (!backwards) pickle_text(p, bytes, len);
        }
        fputc(n > 1 ? 'u' : 's', p->f);
    } while (in == PICKLE_BATCH);
}

static void pickle_meta(pickle_out *p, const st_bpe *b)
{
    fputc('}', p->f);
    pickle_memoize(p);
    fputc('(', p->f);
    pickle_text(p, "vocab_size", 10);
    pickle_int(p, st_bpe_size(b));
    pickle_text(p, "itos", 4);
    uint32_t first = p->memo + 1; /* after the dict itself */
    pickle_dict(p, b, false, 0);
    pickle_text(p, "stoi", 4);
    pickle_dict(p, b, true, first);
    fputs("u.", p->f);
}

st_status st_pickle_chars(const st_bpe *b, const char *path, st_err *e)
{
    char *body = NULL, *all = NULL;
    size_t n = 0;
    pickle_out p = {.f = open_memstream(&body, &n)};
    if (p.f) pickle_meta(&p, b);
    bool ok = p.f && !fclose(p.f) && (all = malloc(n + 11));
    st_status s = ok ? ST_OK : ST_NOMEM(e, path);
    if (ok) {
        size_t head = 2;
        memcpy(all, "\x80\x04", 2);
        if (n < PICKLE_FRAME) { /* Python frames what is short; a long pickle needs no frames */
            all[head++] = '\x95';
            for (int i = 0; i < 8; i++)
                all[head++] = (char)(n >> (8 * i) & 255);
        }
        memcpy(all + head, body, n);
        s = st_write_file(path, all, head + n, e);
    }
    free(body);
    free(all);
    return s;
}
