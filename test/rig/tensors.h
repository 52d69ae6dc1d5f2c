/* A copy of a folder's weights in memory that a test can rename, reshape and spoil. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_TENSORS_H
#define ST_TEST_TENSORS_H

#include "testing.h"
#include "weights/weights.h"

enum { MOST = 128 };
typedef struct {
    st_store_item item[MOST];
    char name[MOST][160];
    float *data[MOST];
    int64_t n;
} tensors;

static inline int64_t item_numel(const st_store_item *it)
{
    int64_t n = 1;
    for (int i = 0; i < it->ndim; i++)
        n *= it->dim[i];
    return n;
}

static inline tensors *tensors_read(const char *dir)
{
    tensors *t = calloc(1, sizeof *t);
    st_weights *f;
    st_err e;
    assert_ok(st_weights_open(&f, st_test_path(dir, "model.safetensors"), &e), &e);
    t->n = st_weights_count(f);
    assert_true(t->n < MOST - 8);
    for (int64_t i = 0; i < t->n; i++) {
        const st_stored *s = st_weights_at(f, i);
        st_store_item *it = &t->item[i];
        snprintf(t->name[i], sizeof t->name[i], "%s", s->name);
        *it = (st_store_item){.name = t->name[i], .dtype = ST_F32, .ndim = s->ndim};
        memcpy(it->dim, s->dim, sizeof it->dim);
        t->data[i] = calloc((size_t)item_numel(it) + 1, sizeof(float));
        assert_ok(st_stored_read(s, st_view1(t->data[i], ST_F32, item_numel(it)), &e), &e);
    }
    st_weights_close(f);
    return t;
}

static inline void tensors_free(tensors *t)
{
    for (int64_t i = 0; i < t->n; i++)
        free(t->data[i]);
    free(t);
}

static inline int64_t tensors_find(const tensors *t, const char *name)
{
    for (int64_t i = 0; i < t->n; i++) {
        if (strcmp(t->name[i], name) == 0) return i;
    }
    print_error("no tensor %s\n", name);
    fail();
    return -1;
}

static inline int64_t tensors_add(tensors *t, const char *name, st_dtype dtype, int ndim,
                                  const int64_t *dim)
{
    int64_t i = t->n++;
    snprintf(t->name[i], sizeof t->name[i], "%s", name);
    t->item[i] = (st_store_item){.name = t->name[i], .dtype = dtype, .ndim = ndim};
    for (int d = 0; d < ndim; d++)
        t->item[i].dim[d] = dim[d];
    t->data[i] = calloc((size_t)item_numel(&t->item[i]) + 1, sizeof(float));
    return i;
}

static inline st_status tensors_fill(void *ctx, int64_t i, void *data, size_t bytes, st_err *e)
{
    (void)e;
    memcpy(data, ((const tensors *)ctx)->data[i], bytes);
    return ST_OK;
}

/* Writes items first..last-1 as DIR/FILE. */
static inline void tensors_write(tensors *t, int64_t first, int64_t last, const char *dir,
                                 const char *file)
{
    st_err e;
    tensors part = *t;
    for (int64_t i = first; i < last; i++) {
        part.item[i - first] = t->item[i];
        part.data[i - first] = t->data[i];
    }
    assert_ok(st_safetensors_write(st_test_path(dir, file), part.item, last - first, NULL,
                                   tensors_fill, &part, &e),
              &e);
}

#endif
