/* PyTorch's archives (torch/serialization.py): a pickle that names storages, and their bytes.
 *
 *   zip      NAME/data.pkl, and each storage K as an entry NAME/data/K; since PyTorch 1.6
 *   legacy   pickles of a magic number, the protocol 1001, facts about the system, the object and
 *            the keys of its storages in order; then for each its elements (int64) and its bytes */
/* SPDX-License-Identifier: MIT */
#include "weights/torch.h"
#include "weights/zip.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define TORCH_MAGIC "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

enum {
    TORCH_PICKLE = 1 << 26, /* bytes of a pickle; ones with all moments have some 100 kB */
    TORCH_STORAGES = 1 << 20
};

/* What rows of either form keep. */
static void torch_close(st_weights *w)
{
    free(w->own);
}

/* ---- zip ------------------------------------------------------------------------------------- */

struct torch_zip {
    st_weights *w;
    st_zip zip;
    const char *pickle; /* name of the pickle's entry */
    size_t folder;      /* bytes of "NAME/" before "data.pkl" */
};

static bool torch_zip_probe(const st_weights_look *l)
{
    return memcmp(l->head, "PK\3\4", 4) == 0 || memcmp(l->head, "PK\5\6", 4) == 0;
}

/* Entry "NAME/" `rest`, NULL if there is none. */
static const st_zip_entry *torch_zip_find(const struct torch_zip *z, const char *rest)
{
    char *name;
    if (asprintf(&name, "%.*s%s", (int)z->folder, z->pickle, rest) < 0) return NULL;
    const st_zip_entry *t = st_zip_find(&z->zip, name);
    free(name);
    return t;
}

static st_status torch_zip_place(void *ctx, const char *key, size_t n, int64_t bytes, int64_t *at,
                                 st_err *e)
{
    const struct torch_zip *z = ctx;
    char name[128] = "";
    snprintf(name, sizeof name, "data/%.*s", n < 100 ? (int)n : 100, key);
    const st_zip_entry *t = torch_zip_find(z, name);
    if (!t) {
        ST_FAIL(e, ST_EFORMAT, "%s: no entry %.120s, which its pickle names; get the file again",
                z->w->path, name);
    }
    if (t->size != bytes) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: entry %.100s has %lld bytes, but its pickle says %lld; get the file again",
                z->w->path, t->name, (long long)t->size, (long long)bytes);
    }
    ST_TRY(st_zip_place(z->w, t, at, e));
    st_weights_sum *sum = &z->w->sum[t - z->zip.entry];
    sum->at = *at;
    sum->bytes = t->size;
    sum->crc = t->crc;
    return ST_OK;
}

/* Finds NAME/data.pkl, and what kind of archive it is. */
static st_status torch_zip_kind(struct torch_zip *z, st_err *e)
{
    static const char data[] = "data.pkl";
    for (int64_t i = 0; i < z->zip.n && !z->pickle; i++) {
        const char *name = z->zip.entry[i].name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash + 1, data)) continue;
        z->pickle = name;
        z->folder = (size_t)(slash + 1 - name);
    }
    if (!z->pickle) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: is a zip archive without NAME/data.pkl, expected one that torch.save made%s",
                z->w->path, z->zip.n ? "; if the weights are in it, unpack it first" : "");
    }
    if (torch_zip_find(z, "constants.pkl")) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: is a TorchScript archive, which holds a program; save model.state_dict() with "
                "torch.save",
                z->w->path);
    }
    return ST_OK;
}

/* A whole entry in new memory. */
static st_status torch_zip_read(const struct torch_zip *z, const st_zip_entry *t, size_t most,
                                char **out, st_err *e)
{
    int64_t at;
    *out = NULL;
    ST_TRY(st_zip_place(z->w, t, &at, e));
    if ((uint64_t)t->size > most) {
        ST_FAIL(e, ST_EFORMAT, "%s: entry %.100s has %lld bytes, expected at most %zu", z->w->path,
                t->name, (long long)t->size, most);
    }
    *out = malloc((size_t)t->size + 1);
    if (!*out) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for %.100s", z->w->path, t->name);
    ST_TRY(st_weights_pread(z->w, *out, (size_t)t->size, at, e));
    if (t->crc && crc32_z(0, (const unsigned char *)*out, (size_t)t->size) != t->crc) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: entry %.100s has another checksum than it should; get the file "
                "again",
                z->w->path, t->name);
    }
    return ST_OK;
}

static st_status torch_zip_order(const struct torch_zip *z, st_err *e)
{
    const st_zip_entry *t = torch_zip_find(z, "byteorder");
    char *order = NULL;
    if (!t) return ST_OK; /* before PyTorch 2.1: little-endian */
    st_status s = torch_zip_read(z, t, 16, &order, e);
    if (!s && (t->size != 6 || memcmp(order, "little", 6))) {
        s = ST_ERR(e, ST_EUNSUPPORTED,
                   "%s: its tensors are big-endian; load it and save it again on a little-endian "
                   "machine",
                   z->w->path);
    }
    free(order);
    return s;
}

static st_status torch_zip_open(st_weights *w, st_err *e)
{
    struct torch_zip z = {.w = w};
    char *text = NULL, *names = NULL;
    st_pickle p = {0};
    st_status s = st_zip_open(&z.zip, w, e);
    if (!s) s = torch_zip_kind(&z, e);
    if (!s) s = torch_zip_order(&z, e);
    const st_zip_entry *t = s ? NULL : st_zip_find(&z.zip, z.pickle);
    if (!s) s = torch_zip_read(&z, t, TORCH_PICKLE, &text, e);
    if (!s) s = st_pickle_load(&p, text, (size_t)t->size, w->path, "data.pkl", e);
    if (!s && p.size != (size_t)t->size) {
        s = ST_ERR(e, ST_EFORMAT,
                   "%s: data.pkl goes on after its end; the file is damaged or made to harm",
                   w->path);
    }
    st_torch_file f = {.w = w, .p = &p, .what = "data.pkl", .place = torch_zip_place, .ctx = &z};
    w->sums = z.zip.n;
    if (!s && !(w->sum = st_calloc(w->sums, sizeof *w->sum))) s = ST_NOMEM(e, w->path);
    if (!s) s = st_torch_rows(&f, &names, e);
    if (!s) st_sums_sort(w);
    w->own = names;
    st_pickle_free(&p);
    free(text);
    st_zip_close(&z.zip);
    return s;
}

const st_container st_container_torch = {
    .name = "torch",
    .probe = torch_zip_probe,
    .open = torch_zip_open,
    .close = torch_close,
};

/* ---- legacy ---------------------------------------------------------------------------------- */

/* The place of each storage, by key. */
struct torch_place {
    const char *key;
    size_t n;
    int64_t at, bytes;
};

struct torch_legacy {
    st_weights *w;
    char *text;
    size_t size, used; /* of the file's first bytes */
    st_pickle object, keys;
    struct torch_place *place;
    int64_t places;
};

static bool torch_legacy_probe(const st_weights_look *l)
{
    /* PROTO, from protocol 4 on FRAME, then the magic number as LONG1. */
    return l->head[0] == 0x80 && l->head[1] >= 2 && l->head[1] <= 5 &&
           memmem(l->head, 32, "\x8a\x0a" TORCH_MAGIC, 12);
}

static st_status torch_next(struct torch_legacy *l, st_pickle *p, const char *what, st_err *e)
{
    ST_TRY(st_pickle_load(p, l->text + l->used, l->size - l->used, l->w->path, what, e));
    l->used += p->size;
    return ST_OK;
}

/* Magic number, protocol and system: the three pickles before the object. */
static st_status torch_legacy_head(struct torch_legacy *l, st_err *e)
{
    static const char *const what[] = {"the magic number", "the protocol", "the system's pickle"};
    for (int i = 0; i < 3; i++) {
        st_pickle p;
        st_status s = torch_next(l, &p, what[i], e);
        const st_py *root = s ? NULL : st_py_at(&p, p.root);
        const st_py *little = s ? NULL : st_py_get(&p, root, "little_endian");
        if (!s && i == 1 && (root->kind != ST_PY_INT || root->i != 1001)) {
            s = ST_ERR(e, ST_EUNSUPPORTED,
                       "%s: is of another protocol than 1001, PyTorch's only one", l->w->path);
        }
        if (!s && i == 2 && (!little || !little->i)) {
            s = ST_ERR(e, ST_EUNSUPPORTED,
                       "%s: its tensors are big-endian; load it and save it again on a "
                       "little-endian machine",
                       l->w->path);
        }
        st_pickle_free(&p);
        ST_TRY(s);
    }
    return ST_OK;
}

static int torch_by_key(const void *a, const void *b)
{
    const struct torch_place *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return memcmp(x->key, y->key, x->n);
}

/* Bytes an element of each key, from the object's storages. */
static void torch_legacy_sizes(struct torch_legacy *l)
{
    const st_pickle *p = &l->object;
    for (uint32_t i = 0; i < p->objects; i++) {
        const st_py *o = st_py_at(p, i);
        if (o->kind != ST_PY_STORAGE) continue;
        struct torch_place key = {.key = p->text + o->a, .n = o->b};
        struct torch_place *at =
            l->places ? bsearch(&key, l->place, (size_t)l->places, sizeof key, torch_by_key) : NULL;
        if (at && !at->bytes) at->bytes = st_py_dtypes[o->dtype].size;
    }
}

static int torch_by_order(const void *a, const void *b)
{
    int64_t x = ((const struct torch_place *)a)->at, y = ((const struct torch_place *)b)->at;
    return (x > y) - (x < y);
}

/* The keys in the file's order, which `at` holds at first; `bytes`: of an element. */
static st_status torch_legacy_keys(struct torch_legacy *l, st_err *e)
{
    const st_pickle *p = &l->keys;
    const st_py *list = st_py_at(p, p->root);
    if (list->kind != ST_PY_LIST || list->i > TORCH_STORAGES) {
        ST_FAIL(e, ST_EFORMAT, "%s: no list of at most %d storages; get it again", l->w->path,
                TORCH_STORAGES);
    }
    l->place = st_calloc(list->i, sizeof *l->place);
    if (!l->place) return ST_NOMEM(e, l->w->path);
    uint32_t c = list->a;
    for (int64_t i = 0; i < list->i; i++, c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].value);
        if (key->kind != ST_PY_STR) {
            ST_FAIL(e, ST_EFORMAT, "%s: a storage without a name; get it again", l->w->path);
        }
        l->place[l->places++] = (struct torch_place){.key = p->text + key->a, .n = key->b, .at = i};
    }
    if (l->places) qsort(l->place, (size_t)l->places, sizeof *l->place, torch_by_key);
    for (int64_t i = 1; i < l->places; i++) {
        if (torch_by_key(&l->place[i - 1], &l->place[i])) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: two storages of one name; get it again", l->w->path);
    }
    torch_legacy_sizes(l);
    if (l->places) qsort(l->place, (size_t)l->places, sizeof *l->place, torch_by_order);
    return ST_OK;
}

/* Follows the storages to the end of the file. */
static st_status torch_legacy_places(struct torch_legacy *l, st_err *e)
{
    int64_t at = (int64_t)l->used;
    for (int64_t i = 0; i < l->places; i++) {
        struct torch_place *t = &l->place[i];
        int64_t n, bytes;
        if (!t->bytes) {
            ST_FAIL(e, ST_EFORMAT, "%s: a storage that no tensor uses; get it again", l->w->path);
        }
        if (l->w->size - at < 8) {
            ST_FAIL(e, ST_EFORMAT,
                    "%s: truncated: it ends before storage %lld of %lld; get it "
                    "again",
                    l->w->path, (long long)i + 1, (long long)l->places);
        }
        ST_TRY(st_weights_pread(l->w, &n, 8, at, e));
        at += 8;
        if (n < 0 || __builtin_mul_overflow(n, t->bytes, &bytes) || bytes > l->w->size - at) {
            ST_FAIL(e, ST_EFORMAT,
                    "%s: truncated: storage %lld of %lld has %lld elements, but only %lld bytes "
                    "are there; get it again",
                    l->w->path, (long long)i + 1, (long long)l->places, (long long)n,
                    (long long)(l->w->size - at));
        }
        t->at = at;
        t->bytes = bytes;
        at += bytes;
    }
    if (at != l->w->size) {
        ST_FAIL(e, ST_EFORMAT, "%s: %lld bytes after its last storage, expected none", l->w->path,
                (long long)(l->w->size - at));
    }
    if (l->places) qsort(l->place, (size_t)l->places, sizeof *l->place, torch_by_key);
    return ST_OK;
}

static st_status torch_legacy_place(void *ctx, const char *key, size_t n, int64_t bytes,
                                    int64_t *at, st_err *e)
{
    const struct torch_legacy *l = ctx;
    struct torch_place want = {.key = key, .n = n};
    const struct torch_place *t =
        l->places ? bsearch(&want, l->place, (size_t)l->places, sizeof want, torch_by_key) : NULL;
    if (!t || t->bytes != bytes) {
        ST_FAIL(e, ST_EFORMAT, "%s: a tensor's storage is %s; get the file again", l->w->path,
                t ? "of another length than the pickle says" : "not in the file");
    }
    *at = t->at;
    return ST_OK;
}

static st_status torch_legacy_open(st_weights *w, st_err *e)
{
    struct torch_legacy l = {.w = w};
    char *names = NULL;
    l.size = w->size < TORCH_PICKLE ? (size_t)w->size : TORCH_PICKLE;
    l.text = malloc(l.size);
    st_status s = l.text ? st_weights_pread(w, l.text, l.size, 0, e) : ST_NOMEM(e, w->path);
    if (!s) s = torch_legacy_head(&l, e);
    if (!s) s = torch_next(&l, &l.object, "its pickle", e);
    if (!s) s = torch_next(&l, &l.keys, "the list of its storages", e);
    if (!s) s = torch_legacy_keys(&l, e);
    if (!s) s = torch_legacy_places(&l, e);
    st_torch_file f = {
        .w = w, .p = &l.object, .what = "its pickle", .place = torch_legacy_place, .ctx = &l};
    if (!s) s = st_torch_rows(&f, &names, e);
    w->own = names;
    st_pickle_free(&l.object);
    st_pickle_free(&l.keys);
    free(l.place);
    free(l.text);
    return s;
}

const st_container st_container_torch_legacy = {
    .name = "torch-legacy",
    .probe = torch_legacy_probe,
    .open = torch_legacy_open,
    .close = torch_close,
};
