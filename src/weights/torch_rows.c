/* From the values of a PyTorch pickle to named tensors: which dict of it is the model, and whether
 * each tensor fits its storage. */
/* SPDX-License-Identifier: MIT */
#include "weights/torch.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    TORCH_NESTED = 4,         /* {"checkpoint": {"model": ...}}: levels looked through */
    TORCH_EXPANDED = 1 << 20, /* elements of an expanded view beyond those of its storage */
    TORCH_TENSORS = 1 << 20,
    TORCH_UNREAD = 1 << 12, /* objects among them that are remembered */
    TORCH_NAMES = 1 << 28   /* bytes of all names */
};

/* Where training programs put the weights, in the order of looking: nanoGPT and timm; PyTorch's
 * examples and T2T-ViT; its moving average; wrappers. */
static const char *const torch_dicts[] = {"model", "state_dict", "state_dict_ema", "module"};

/* ---- one tensor ------------------------------------------------------------------------------ */

static st_status torch_unfit(const st_stored *t, const char *why, st_err *e)
{
    ST_FAIL(e, ST_EFORMAT, "%s: tensor %.100s: its %s; the file is damaged or made to harm",
            t->file->path, t->name, why);
}

/* Sizes and strides, the elements they make and the last one that they reach. */
static st_status torch_shape(const st_torch_file *f, const st_py *tensor, st_stored *out,
                             int64_t *elements, int64_t *last, st_err *e)
{
    const st_pickle *p = f->p;
    const st_py *sizes = st_py_at(p, p->cell[tensor->b].key);
    const st_py *strides = st_py_at(p, p->cell[tensor->b].value);
    if (sizes->i > 8) return torch_unfit(out, "dimensions are more than 8", e);
    out->ndim = (int)sizes->i;
    *elements = 1;
    *last = tensor->i;
    uint32_t a = sizes->a, b = strides->a;
    for (int i = 0; i < out->ndim; i++, a = p->cell[a].next, b = p->cell[b].next) {
        const st_py *size = st_py_at(p, p->cell[a].value), *step = st_py_at(p, p->cell[b].value);
        if (size->kind != ST_PY_INT || step->kind != ST_PY_INT || size->i < 0 || step->i < 0) {
            return torch_unfit(out, "shape is not of whole numbers from 0 on", e);
        }
        out->dim[i] = size->i;
        out->stride[i] = step->i;
        int64_t far;
        if (__builtin_mul_overflow(*elements, size->i, elements) ||
            __builtin_mul_overflow(size->i ? size->i - 1 : 0, step->i, &far) ||
            __builtin_add_overflow(*last, far, last)) {
            return torch_unfit(out, "shape has more than 2^63 elements", e);
        }
    }
    return ST_OK;
}

st_status st_torch_tensor(const st_torch_file *f, const st_py *tensor, st_stored *out, st_err *e)
{
    const st_py *storage = st_py_at(f->p, tensor->a);
    int64_t elements = 0, last = 0, held, bytes, at;
    int size = st_py_dtypes[tensor->dtype].size;
    *out = (st_stored){.name = out->name, .dtype = st_py_dtypes[tensor->dtype].name, .file = f->w};
    ST_TRY(torch_shape(f, tensor, out, &elements, &last, e));
    if (__builtin_mul_overflow(storage->i, (int64_t)st_py_dtypes[storage->dtype].size, &bytes)) {
        return torch_unfit(out, "storage has more than 2^63 bytes", e);
    }
    held = bytes / size;
    if (tensor->i < 0 || tensor->i > held || (elements && last >= held)) {
        return torch_unfit(out, "elements lie beyond its storage", e);
    }
    if (elements > held && elements - held > TORCH_EXPANDED) {
        return torch_unfit(out, "shape is far larger than its storage", e);
    }
    ST_TRY(f->place(f->ctx, f->p->text + storage->a, storage->b, bytes, &at, e));
    out->offset = at + tensor->i * size;
    out->bytes = (size_t)(elements * size);
    return ST_OK;
}

/* ---- which dict ------------------------------------------------------------------------------ */

static int64_t torch_tensors(const st_pickle *p, const st_py *dict)
{
    int64_t n = 0;
    if (dict->kind != ST_PY_DICT && dict->kind != ST_PY_RECORD) return 0;
    for (uint32_t c = dict->i ? dict->a : 0; c; c = p->cell[c].next)
        n += st_py_at(p, p->cell[c].value)->kind == ST_PY_TENSOR;
    return n;
}

/* The keys of a dict for a message. */
static void torch_keys(const st_pickle *p, const st_py *dict, char out[160])
{
    size_t n = 0;
    out[0] = '\0';
    if (dict->kind != ST_PY_DICT) return;
    for (uint32_t c = dict->i ? dict->a : 0; c && n < 100; c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].key);
        int len = key->b < 40 ? (int)key->b : 40;
        if (key->kind != ST_PY_STR) continue;
        n += (size_t)snprintf(out + n, 160 - n, "%s%.*s", n ? ", " : "", len, p->text + key->a);
    }
    for (char *c = out; *c; c++)
        *c = *c < ' ' || *c == 127 ? '?' : *c;
}

/* The first key of a dict that has tensors under it, as advice; else nothing. */
static void torch_hint(const st_pickle *p, const st_py *dict, char out[80])
{
    out[0] = '\0';
    for (uint32_t c = dict->i ? dict->a : 0; c && !out[0]; c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].key);
        bool plain = key->kind == ST_PY_STR && key->b > 0 && key->b < 40;
        for (uint32_t i = 0; plain && i < key->b; i++)
            plain = p->text[key->a + i] > ' ' && p->text[key->a + i] < 127;
        if (plain && torch_tensors(p, st_py_at(p, p->cell[c].value)))
            snprintf(out, 80, "; --dict %.*s takes those there", (int)key->b, p->text + key->a);
    }
}

/* The first object of a program under one of a dict's keys, as an explanation; else nothing. */
static void torch_inert(const st_pickle *p, const st_py *dict, char out[240])
{
    char maker[ST_PY_MAKER];
    out[0] = '\0';
    for (uint32_t c = dict->i ? dict->a : 0; c && !out[0]; c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].key);
        if (key->kind != ST_PY_STR || !st_py_maker(p, st_py_at(p, p->cell[c].value), maker))
            continue;
        snprintf(out, 240, "; its %.*s was made by %s, which is not read",
                 key->b < 40 ? (int)key->b : 40, p->text + key->a, maker);
        for (char *t = out; *t; t++)
            *t = *t < ' ' || *t == 127 ? '?' : *t;
    }
}

/* The dict under the path that the user chose. */
static st_status torch_chosen(const st_torch_file *f, const st_py **dict, const char **key,
                              st_err *e)
{
    const char *path = f->w->dict;
    char *copy = strdup(path), *save = NULL;
    if (!copy) return ST_NOMEM(e, f->w->path);
    const st_py *at = *dict;
    for (char *part = strtok_r(copy, ".", &save); at && part; part = strtok_r(NULL, ".", &save))
        at = st_py_get(f->p, at, part);
    free(copy);
    if (at && torch_tensors(f->p, at)) {
        *dict = at;
        *key = path;
        return ST_OK;
    }
    char keys[160];
    torch_keys(f->p, *dict, keys);
    ST_FAIL(e, ST_EARG, "%s: no tensors under %.80s; it has: %s", f->w->path, path, keys);
}

/* The dict that holds the model; *key: the one it is under, at the top. */
static st_status torch_model(const st_torch_file *f, const st_py **dict, const char **key,
                             st_err *e)
{
    const st_pickle *p = f->p;
    const st_py *root = st_py_at(p, p->root), *at = root;
    char keys[ST_PY_MAKER], hint[80], inert[240];
    *dict = root;
    *key = NULL;
    if (st_py_maker(p, root, keys)) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: holds an object of %s, which is not read: load it in Python where you trust "
                "the file, and save model.state_dict()",
                f->w->path, keys);
    }
    if (root->kind != ST_PY_DICT && root->kind != ST_PY_RECORD) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: holds %s, expected a dict of named tensors: save "
                "model.state_dict()",
                f->w->path, root->kind == ST_PY_TENSOR ? "one tensor" : "no dict");
    }
    if (f->w->dict) return torch_chosen(f, dict, key, e);
    for (int level = 0; level < TORCH_NESTED; level++) {
        const st_py *next = NULL;
        for (size_t i = 0; i < sizeof torch_dicts / sizeof *torch_dicts && !next; i++) {
            const st_py *in = st_py_get(p, at, torch_dicts[i]);
            if (!in || (in->kind != ST_PY_DICT && in->kind != ST_PY_RECORD)) continue;
            next = in;
            if (at == root) *key = torch_dicts[i];
        }
        if (!next) break;
        at = next;
        if (torch_tensors(p, at)) *dict = at;
    }
    if (*dict == root) *key = NULL;
    if (torch_tensors(p, *dict)) return ST_OK;
    torch_keys(p, root, keys);
    torch_hint(p, root, hint);
    torch_inert(p, root, inert);
    ST_FAIL(e, ST_EFORMAT,
            "%s: no tensors under model, state_dict, state_dict_ema, module or at its top, which "
            "has: %s%s",
            f->w->path, *keys ? keys : "nothing", *hint ? hint : inert);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* A name that can be a C string and JSON. */
static bool torch_nameable(const char *text, size_t n)
{
    utf8proc_int32_t c;
    for (size_t i = 0; i < n;) {
        utf8proc_ssize_t len =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        if (len <= 0 || c == 0) return false;
        i += (size_t)len;
    }
    return true;
}

/* Room for the rows and their names, which a pickle may take from one long text again and again. */
static st_status torch_room(const st_torch_file *f, const st_py *dict, char **names, st_err *e)
{
    const st_pickle *p = f->p;
    size_t bytes = 1;
    if (torch_tensors(p, dict) > TORCH_TENSORS) {
        ST_FAIL(e, ST_EFORMAT, "%s: more than %d tensors, which no model has", f->w->path,
                TORCH_TENSORS);
    }
    for (uint32_t c = dict->a; c; c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].key);
        if (st_py_at(p, p->cell[c].value)->kind != ST_PY_TENSOR) continue;
        bytes += key->kind == ST_PY_STR ? key->b + 1 : 0;
        if (bytes > TORCH_NAMES) ST_FAIL(e, ST_EFORMAT, "%s: over 256 MiB of names", f->w->path);
        if (key->kind != ST_PY_STR || !torch_nameable(p->text + key->a, key->b)) {
            ST_FAIL(e, ST_EFORMAT, "%s: %s has a tensor whose name is no text", f->w->path,
                    f->what);
        }
    }
    f->w->row = st_calloc(torch_tensors(p, dict), sizeof *f->w->row);
    *names = malloc(bytes);
    if (!f->w->row || !*names) return ST_NOMEM(e, f->w->path);
    return ST_OK;
}

/* Objects of programs among the tensors. */
static st_status torch_unread(const st_torch_file *f, const st_py *dict, st_err *e)
{
    const st_pickle *p = f->p;
    char maker[ST_PY_MAKER];
    f->w->unread = json_object();
    if (!f->w->unread) return ST_NOMEM(e, f->w->path);
    for (uint32_t c = dict->a; c; c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].key);
        if (key->kind != ST_PY_STR || !st_py_maker(p, st_py_at(p, p->cell[c].value), maker))
            continue;
        if (json_object_size(f->w->unread) == TORCH_UNREAD) break;
        json_object_setn_new(f->w->unread, p->text + key->a, key->b, json_string(maker));
    }
    return ST_OK;
}

st_status st_torch_rows(const st_torch_file *f, char **names, st_err *e)
{
    const st_pickle *p = f->p;
    const st_py *dict;
    const char *key;
    st_weights *w = f->w;
    ST_TRY(torch_model(f, &dict, &key, e));
    ST_TRY(torch_room(f, dict, names, e));
    char *name = *names;
    for (uint32_t c = dict->a; c; c = p->cell[c].next) {
        const st_py *k = st_py_at(p, p->cell[c].key), *t = st_py_at(p, p->cell[c].value);
        if (t->kind != ST_PY_TENSOR) continue;
        memcpy(name, p->text + k->a, k->b);
        name[k->b] = '\0';
        st_stored *row = &w->row[w->n];
        row->name = name;
        ST_TRY(st_torch_tensor(f, t, row, e));
        w->n++;
        name += k->b + 1;
    }
    w->extra = json_object();
    if (!w->extra) return ST_NOMEM(e, w->path);
    ST_TRY(torch_unread(f, dict, e));
    const st_py *root = st_py_at(p, p->root);
    return st_torch_json(f, root, key, dict == root, w->extra, e);
}
