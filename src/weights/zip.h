/* zip inside: the entries of a zip archive, and writing one. Inside weights only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_WEIGHTS_ZIP_H
#define ST_WEIGHTS_ZIP_H

#include "files/files.h"
#include "weights/container.h"

typedef struct {
    const char *name;
    int64_t size, packed; /* unpacked and packed bytes */
    int64_t header;       /* of its local header, in the file */
    uint32_t crc;
    uint16_t method, flags;
} st_zip_entry;

typedef struct {
    st_zip_entry *entry; /* by name */
    int64_t n;
    char *text; /* the central directory, in which the names lie */
} st_zip;

/* Reads and checks the central directory; zip64 too. */
st_status st_zip_open(st_zip *z, const st_weights *w, st_err *e);
void st_zip_close(st_zip *z);
const st_zip_entry *st_zip_find(const st_zip *z, const char *name); /* or NULL */
/* Where the bytes of an entry begin in the file: it must be stored, not deflated or encrypted, and
 * lie in the file whole. */
st_status st_zip_place(const st_weights *w, const st_zip_entry *entry, int64_t *at, st_err *e);

/* An archive in the making: entries, each whole, then its directory. */
typedef struct {
    st_outfile *out;
    FILE *directory; /* into `text` */
    char *text;
    size_t bytes;
    int64_t at, n;
} st_zip_out;

st_status st_zip_begin(st_zip_out *z, st_outfile *out, st_err *e);
/* Stores data[0..n) under `name`, so that it begins at a multiple of 64. */
st_status st_zip_add(st_zip_out *z, const char *name, const void *data, size_t n, st_err *e);
st_status st_zip_end(st_zip_out *z, st_err *e);
void st_zip_drop(st_zip_out *z); /* after end or on a zeroed one: nothing */

#endif
