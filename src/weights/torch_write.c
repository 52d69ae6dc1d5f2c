/* Writing PyTorch's zip archives: a dict of tensors as torch.save writes one, with a pickle
 * (protocol 2) of nothing that weights_only=True would refuse. */
/* SPDX-License-Identifier: MIT */
#include "weights/zip.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { TORCH_DEPTH = 64 /* of the values beside the tensors */ };

/* torch has no U16 storage: that dtype only came with PyTorch 2.3. */
static const char *const torch_storages[] = {
    [ST_F32] = "FloatStorage", [ST_BF16] = "BFloat16Storage",
    [ST_F16] = "HalfStorage",  [ST_I32] = "IntStorage",
    [ST_U16] = NULL,           [ST_U8] = "ByteStorage",
};

/* ---- the pickle ------------------------------------------------------------------------------ */

static void torch_number(FILE *f, int64_t x)
{
    if (x >= 0 && x < 256) {
        fprintf(f, "K%c", (int)x);
    } else if (x == (int32_t)x) {
        fputc('J', f);
        fwrite(&(int32_t){(int32_t)x}, 1, 4, f);
    } else {
        fputs("\x8a\x08", f);
        fwrite(&x, 1, 8, f);
    }
}

static void torch_text(FILE *f, const char *text, size_t n)
{
    fputc('X', f);
    fwrite(&(uint32_t){(uint32_t)n}, 1, 4, f);
    fwrite(text, 1, n, f);
}

static void torch_real(FILE *f, double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    u = __builtin_bswap64(u);
    fputc('G', f);
    fwrite(&u, 1, 8, f);
}

/* The keys and values of an object, for SETITEMS. */
static bool torch_pairs(FILE *f, const json_t *object, int depth);

/* false: too deep. */
static bool torch_value(FILE *f, const json_t *v, int depth)
{
    bool good = depth < TORCH_DEPTH;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        fputs("}(", f);
        good = good && torch_pairs(f, v, depth);
        fputc('u', f);
        break;
    case JSON_ARRAY:
        fputs("](", f);
        for (size_t i = 0; good && i < json_array_size(v); i++)
            good = torch_value(f, json_array_get(v, i), depth + 1);
        fputc('e', f);
        break;
    case JSON_STRING: torch_text(f, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: torch_number(f, json_integer_value(v)); break;
    case JSON_REAL: torch_real(f, json_real_value(v)); break;
    case JSON_TRUE: fputc(0x88, f); break;
    case JSON_FALSE: fputc(0x89, f); break;
    case JSON_NULL: fputc('N', f); break;
    }
    return good;
}

static bool torch_pairs(FILE *f, const json_t *object, int depth)
{
    const char *key;
    json_t *value;
    bool good = true;
    /* The macro's cast drops const; nothing is changed. */
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        torch_text(f, key, strlen(key));
        good = good && torch_value(f, value, depth + 1);
    }
    return good;
}

/* _rebuild_tensor_v2(storage, 0, sizes, strides, False, OrderedDict()) of the storage `key`. */
static void torch_tensor(FILE *f, const st_store_item *it, int64_t key)
{
    char name[24];
    int64_t n = 1, step[8];
    for (int i = it->ndim - 1; i >= 0; i--) {
        step[i] = n;
        n *= it->dim[i] > 1 ? it->dim[i] : 1;
    }
    for (int i = 0; i < it->ndim; i++)
        n *= it->dim[i] ? 1 : 0;
    snprintf(name, sizeof name, "%lld", (long long)key);
    fputs("ctorch._utils\n_rebuild_tensor_v2\n((", f);
    torch_text(f, "storage", 7);
    fprintf(f, "ctorch\n%s\n", torch_storages[it->dtype]);
    torch_text(f, name, strlen(name));
    torch_text(f, "cpu", 3);
    torch_number(f, n);
    fputs("tQK", f);
    fputc(0, f);
    fputc('(', f);
    for (int i = 0; i < it->ndim; i++)
        torch_number(f, it->dim[i]);
    fputs("t(", f);
    for (int i = 0; i < it->ndim; i++)
        torch_number(f, step[i]);
    fputs("t\x89"
          "ccollections\nOrderedDict\n)RtR",
          f);
}

/* That every name is UTF-8 and there once. */
static st_status torch_names(const char *path, const st_store_item *items, int64_t n, st_err *e)
{
    json_t *seen = json_object();
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < n; i++) {
        if (json_object_get(seen, items[i].name)) {
            s = ST_ERR(e, ST_EARG, "%s: two tensors are named %.100s", path, items[i].name);
        } else if (json_object_set_new(seen, items[i].name, json_true())) {
            s = ST_ERR(e, ST_EARG, "%s: tensor %.100s: out of memory, or its name is not UTF-8",
                       path, items[i].name);
        }
    }
    json_decref(seen);
    return s;
}

/* The whole pickle into new memory. */
static st_status torch_pickle(const char *path, const st_store_item *items, int64_t n,
                              const st_torch_how *how, char **text, size_t *size, st_err *e)
{
    bool good = true;
    FILE *f = open_memstream(text, size);
    if (!f) return ST_NOMEM(e, path);
    fputs("\x80\x02", f);
    if (how->key) {
        fputs("}(", f);
        torch_text(f, how->key, strlen(how->key));
    }
    fputs("ccollections\nOrderedDict\n)R(", f);
    for (int64_t i = 0; i < n; i++) {
        char *name;
        if (asprintf(&name, "%s%s", how->prefix ? how->prefix : "", items[i].name) < 0) {
            good = false;
            break;
        }
        torch_text(f, name, strlen(name));
        free(name);
        torch_tensor(f, &items[i], how->same && how->same[i] >= 0 ? how->same[i] : i);
    }
    fputc('u', f);
    bool deep = how->key && how->extra && !torch_pairs(f, how->extra, 0);
    fputs(how->key ? "u." : ".", f);
    good = !ferror(f) && good;
    good = !fclose(f) && good;
    if (!good) return ST_NOMEM(e, path);
    if (deep) {
        ST_FAIL(e, ST_EARG, "%s: values more than %d levels deep beside the tensors", path,
                TORCH_DEPTH);
    }
    return ST_OK;
}

/* ---- the archive ----------------------------------------------------------------------------- */

/* Bytes of item i, whether it can be written, and that what it shares a storage with is like it. */
static st_status torch_item(const char *path, const st_store_item *items, int64_t i,
                            const st_torch_how *how, size_t *bytes, st_err *e)
{
    const st_store_item *it = &items[i];
    int64_t from = how->same ? how->same[i] : -1;
    if (!torch_storages[it->dtype]) {
        ST_FAIL(e, ST_EARG, "%s: tensor %.100s is %s, which older PyTorch cannot read", path,
                it->name, st_dtype_name(it->dtype));
    }
    int64_t n = (int64_t)st_dtype_size(it->dtype);
    for (int d = 0; d < it->ndim; d++) {
        if (it->dim[d] < 0 || __builtin_mul_overflow(n, it->dim[d], &n)) {
            ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s: dimension %d is %lld", path, it->name, d,
                    (long long)it->dim[d]);
        }
    }
    *bytes = (size_t)n;
    if (from < 0) return ST_OK;
    size_t other = 0;
    if (from < i && how->same[from] < 0) ST_TRY(torch_item(path, items, from, how, &other, e));
    if (from >= i || how->same[from] >= 0 || items[from].dtype != it->dtype || other != *bytes) {
        ST_FAIL(e, ST_EARG, "%s: tensor %.100s cannot share the storage of item %lld", path,
                it->name, (long long)from);
    }
    return ST_OK;
}

static st_status torch_storages_write(st_zip_out *z, const st_store_item *items, int64_t n,
                                      const st_torch_how *how, st_store_fill *fill, void *ctx,
                                      st_err *e)
{
    size_t most = 1, bytes = 0;
    const char *path = z->out->path;
    for (int64_t i = 0; i < n; i++) {
        ST_TRY(torch_item(path, items, i, how, &bytes, e));
        most = bytes > most ? bytes : most;
    }
    void *data = malloc(most);
    if (!data) ST_FAIL(e, ST_ENOMEM, "%s: out of memory: %zu bytes for one tensor", path, most);
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < n; i++) {
        char name[48];
        if (how->same && how->same[i] >= 0) continue;
        snprintf(name, sizeof name, "archive/data/%lld", (long long)i);
        s = torch_item(path, items, i, how, &bytes, e);
        if (!s) s = fill(ctx, i, data, bytes, e);
        if (!s) s = st_zip_add(z, name, data, bytes, e);
    }
    free(data);
    return s;
}

st_status st_torch_write(const char *path, const st_store_item *items, int64_t n,
                         const st_torch_how *how, st_store_fill *fill, void *ctx, st_err *e)
{
    static const st_torch_how plain = {0};
    st_outfile o = {0};
    st_zip_out z = {0};
    char *text = NULL;
    size_t size = 0;
    if (!how) how = &plain;
    assert(!how->extra || how->key);
    st_status s = torch_names(path, items, n, e);
    if (!s) s = st_outfile_open(&o, path, e);
    for (int64_t i = 0; !s && i < n; i++) {
        size_t bytes;
        s = torch_item(path, items, i, how, &bytes, e);
    }
    if (!s) s = torch_pickle(path, items, n, how, &text, &size, e);
    if (!s) s = st_zip_begin(&z, &o, e);
    if (!s) s = st_zip_add(&z, "archive/data.pkl", text, size, e);
    if (!s) s = st_zip_add(&z, "archive/byteorder", "little", 6, e);
    if (!s) s = torch_storages_write(&z, items, n, how, fill, ctx, e);
    if (!s) s = st_zip_add(&z, "archive/version", "3\n", 2, e);
    if (!s) s = st_zip_end(&z, e);
    if (!s) s = st_outfile_commit(&o, e);
    st_zip_drop(&z);
    st_outfile_discard(&o);
    free(text);
    return s;
}
