/* Writing safetensors files in the reference implementation's layout: header padded with spaces so
 * that the data begins at a multiple of 8, tensors by dtype (widest first), then name. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "weights/weights.h"
#include <stdlib.h>
#include <string.h>

/* By the rank of the reference's dtype list. */
static const struct {
    const char *name;
    int rank;
} stored_dtypes[] = {
    [ST_F32] = {"F32", 5}, [ST_I32] = {"I32", 4}, [ST_BF16] = {"BF16", 3},
    [ST_F16] = {"F16", 2}, [ST_U16] = {"U16", 1}, [ST_U8] = {"U8", 0},
    [ST_Q8_0] = {"U8", 0}, [ST_Q4_0] = {"U8", 0}, [ST_Q4_1] = {"U8", 0},
};

typedef struct {
    const st_store_item *item;
    int64_t index;
    size_t bytes;
} store_row;

static int store_order(const void *a, const void *b)
{
    const st_store_item *x = ((const store_row *)a)->item, *y = ((const store_row *)b)->item;
    int d = stored_dtypes[y->dtype].rank - stored_dtypes[x->dtype].rank;
    return d ? d : strcmp(x->name, y->name);
}

/* A side as it is stored: rows of blocks are bytes. */
static int64_t store_dim(const st_store_item *it, int i)
{
    bool row = i == it->ndim - 1 && st_dtype_blocks(it->dtype);
    return row ? (int64_t)st_dtype_bytes(it->dtype, it->dim[i]) : it->dim[i];
}

static st_status store_bytes(const st_store_item *it, size_t *bytes, const char *path, st_err *e)
{
    const st_blocks *blocks = st_dtype_blocks(it->dtype);
    int64_t n = blocks ? 1 : (int64_t)st_dtype_size(it->dtype);
    for (int i = 0; i < it->ndim; i++) {
        int64_t d = store_dim(it, i);
        if (d < 0 || __builtin_mul_overflow(n, d, &n)) {
            ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s: dimension %d is %lld", path, it->name, i,
                    (long long)it->dim[i]);
        }
    }
    *bytes = (size_t)n;
    return ST_OK;
}

/* Adds the entry of one tensor whose bytes begin at `at`. */
static st_status store_entry(json_t *header, const store_row *r, size_t at, const char *path,
                             st_err *e)
{
    if (json_object_get(header, r->item->name)) {
        ST_FAIL(e, ST_EARG, "%s: two tensors are named %.100s", path, r->item->name);
    }
    json_t *shape = json_array();
    for (int i = 0; i < r->item->ndim; i++)
        json_array_append_new(shape, json_integer(store_dim(r->item, i)));
    json_t *entry =
        json_pack("{s:s, s:o, s:[I, I]}", "dtype", stored_dtypes[r->item->dtype].name, "shape",
                  shape, "data_offsets", (json_int_t)at, (json_int_t)(at + r->bytes));
    if (!entry || json_object_set_new(header, r->item->name, entry)) {
        ST_FAIL(e, ST_EARG, "%s: tensor %.100s: out of memory, or its name is not UTF-8", path,
                r->item->name);
    }
    return ST_OK;
}

/* The header's text, padded; *n its length. */
static st_status store_header(const store_row *row, int64_t rows, const json_t *meta,
                              const char *path, char **text, size_t *n, st_err *e)
{
    json_t *header = json_object(), *all = json_pack("{s:s}", "format", "pt");
    const char *key;
    json_t *value;
    st_status s = ST_OK;
    *text = NULL;
    /* The macro's cast drops const; nothing is changed. */
    json_object_foreach((json_t *)(uintptr_t)meta, key, value)
    {
        if (strcmp(key, "format") == 0) continue;
        if (!json_is_string(value)) {
            s = ST_ERR(e, ST_EARG, "%s: metadata %s is not a string", path, key);
        }
        json_object_set(all, key, value);
    }
    if (json_object_set_new(header, "__metadata__", all) && !s) {
        s = ST_NOMEM(e, path);
    }
    size_t at = 0;
    for (int64_t i = 0; !s && i < rows; i++) {
        s = store_entry(header, &row[i], at, path, e);
        at += row[i].bytes;
    }
    char *plain = s ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (s) return s;
    size_t used = plain ? strlen(plain) : 0;
    *n = (used + 7) / 8 * 8;
    *text = plain ? realloc(plain, *n + 1) : NULL;
    if (!*text) {
        free(plain);
        ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its header", path);
    }
    memset(*text + used, ' ', *n - used);
    return ST_OK;
}

static st_status store_data(st_outfile *o, const store_row *row, int64_t rows, st_store_fill *fill,
                            void *ctx, st_err *e)
{
    size_t most = 1;
    for (int64_t i = 0; i < rows; i++)
        most = row[i].bytes > most ? row[i].bytes : most;
    void *data = malloc(most);
    if (!data) ST_FAIL(e, ST_ENOMEM, "%s: out of memory: %zu bytes for one tensor", o->path, most);
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < rows; i++) {
        s = fill(ctx, row[i].index, data, row[i].bytes, e);
        if (!s) s = st_outfile_write(o, data, row[i].bytes, e);
    }
    free(data);
    return s;
}

st_status st_safetensors_write(const char *path, const st_store_item *items, int64_t n,
                               const json_t *meta, st_store_fill *fill, void *ctx, st_err *e)
{
    st_outfile o = {0};
    char *text = NULL;
    size_t length = 0;
    store_row *row = st_calloc(n, sizeof *row);
    if (!row) return ST_NOMEM(e, path);
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < n; i++) {
        row[i] = (store_row){.item = &items[i], .index = i};
        s = store_bytes(&items[i], &row[i].bytes, path, e);
    }
    qsort(row, (size_t)n, sizeof *row, store_order);
    if (!s) s = store_header(row, n, meta, path, &text, &length, e);
    if (!s) s = st_outfile_open(&o, path, e);
    if (!s) s = st_outfile_write(&o, &(uint64_t){length}, 8, e);
    if (!s) s = st_outfile_write(&o, text, length, e);
    if (!s) s = store_data(&o, row, n, fill, ctx, e);
    if (!s) s = st_outfile_commit(&o, e);
    st_outfile_discard(&o);
    free(text);
    free(row);
    return s;
}
