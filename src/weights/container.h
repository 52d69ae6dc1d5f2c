/* weights inside: what the readers of the containers fill in. Inside weights only.
 *
 * A new container is a file with a probe and an open function, and a row in weights.c. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_WEIGHTS_CONTAINER_H
#define ST_WEIGHTS_CONTAINER_H

#include "weights/weights.h"

enum { ST_WEIGHTS_HEAD = 512 }; /* a tar's magic is at byte 257 */

/* The first bytes of a file (zeros after its end) and its length. */
typedef struct {
    unsigned char head[ST_WEIGHTS_HEAD];
    int64_t size;
} st_weights_look;

typedef struct {
    const char *name;
    bool (*probe)(const st_weights_look *look);
    /* Fills row and n (with malloc), extra and own; the rows need no `file`. Names are checked
     * against each other by the caller. A half-filled `w` is closed as any. */
    st_status (*open)(st_weights *w, st_err *e);
    const char *(*meta)(const st_weights *w, const char *key); /* may be NULL */
    void (*close)(st_weights *w);                              /* frees `own`; may be NULL */
} st_container;

/* A stretch of a file whose CRC-32 is known. */
typedef struct {
    int64_t at, bytes;
    uint32_t crc;       /* 0: not known */
    _Atomic bool right; /* it was compared */
} st_weights_sum;

struct st_weights {
    const st_container *form;
    int fd;
    char *path;
    const char *dict; /* what the user asked for, or NULL; only during open */
    int64_t size;
    st_stored *row;
    int64_t n;
    st_stored **by_name;
    json_t *extra, *unread;
    st_weights_sum *sum; /* by place, apart from each other (sums.c) */
    int64_t sums;
    void *own;
};

extern const st_container st_container_safetensors, st_container_torch, st_container_torch_legacy,
    st_container_llmc, st_container_gguf;

/* Reads exactly n bytes at `at`; ST_EIO if the file ends before. */
st_status st_weights_pread(const st_weights *w, void *to, size_t n, int64_t at, st_err *e);
/* Sets the strides of a dense tensor in C order. */
void st_stored_pack(st_stored *s);

/* Puts w->sum in order, without those that say nothing. */
void st_sums_sort(st_weights *w);
/* Compares the stretch that `s` lies in, if its checksum is known and was not compared before;
 * `whole`: the bytes of `s` as they are in the file, if they are there already, or NULL.
 * ST_EFORMAT. */
st_status st_sums_check(const st_stored *s, const void *whole, st_err *e);

#endif
