/* A tokenizer of characters from nanoGPT's meta.pkl: the dict "stoi" says the id of each. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

enum { PICKLE_MOST = 1 << 26, PICKLE_CHARS = 0x110000 };

/* Character id of "stoi" into at[id]. */
static st_status pickle_place(const st_pickle *p, const st_py_cell *c, const st_py **at, int64_t n,
                              const char *path, st_err *e)
{
    const st_py *key = st_py_at(p, c->key), *id = st_py_at(p, c->value);
    if (key->kind != ST_PY_STR || id->kind != ST_PY_INT || id->i < 0 || id->i >= n || at[id->i]) {
        ST_FAIL(e, ST_EFORMAT, "%s: stoi has no ids 0 to %lld of characters, each once", path,
                (long long)n - 1);
    }
    at[id->i] = key;
    return ST_OK;
}

static st_status pickle_make(const st_pickle *p, const st_py *stoi, const st_py **at,
                             const char *path, st_bpe **out, st_err *e)
{
    size_t bytes = 0;
    st_bpe *b;
    for (uint32_t c = stoi->a; c; c = p->cell[c].next) {
        ST_TRY(pickle_place(p, &p->cell[c], at, stoi->i, path, e));
        bytes += st_py_at(p, p->cell[c].key)->b;
    }
    ST_TRY(st_bpe_make(&b, stoi->i, bytes, 0, e));
    for (int64_t id = 0; id < b->n; id++) {
        memcpy(b->bytes + b->start[id], p->text + at[id]->a, at[id]->b);
        b->start[id + 1] = b->start[id] + at[id]->b;
    }
    st_status s = st_bpe_link_chars(b, path, e);
    if (s)
        st_bpe_close(b);
    else
        *out = b;
    return s;
}

st_status st_bpe_open_pickle(st_bpe **out, const char *path, st_err *e)
{
    st_pickle p = {0};
    const st_py **at = NULL;
    char *text;
    size_t n;
    *out = NULL;
    ST_TRY(st_read_file(path, PICKLE_MOST, &text, &n, e));
    st_status s = st_pickle_load(&p, text, n, path, "the pickle", e);
    const st_py *stoi = s ? NULL : st_py_get(&p, st_py_at(&p, p.root), "stoi");
    bool fine = stoi && stoi->kind == ST_PY_DICT && stoi->i > 0 && stoi->i <= PICKLE_CHARS;
    if (!s && !fine) {
        s = ST_ERR(e, ST_EFORMAT,
                   "%s: no dict \"stoi\" of characters, as nanoGPT's meta.pkl has it", path);
    }
    if (!s && !(at = st_calloc(stoi->i, sizeof *at))) s = ST_NOMEM(e, path);
    if (!s) s = pickle_make(&p, stoi, at, path, out, e);
    free(at);
    st_pickle_free(&p);
    free(text);
    return s;
}
