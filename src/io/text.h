/* The inside of st_docs and st_gallery: which files (walk.c), which bytes of them (unpack.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_IO_TEXT_H
#define ST_IO_TEXT_H

#include "io/io.h"

/* ---- walk.c: files in order ----------------------------------------------------------------- */

/* The files of the given paths; folders are entered, their entries sorted by name (bytes). Hidden
 * entries, devices and a folder that contains itself by a link are left out; links to nothing are
 * not, opening them says why. No more than the names of the folders on the way are in memory. */
typedef struct st_walk st_walk;
st_status st_walk_open(st_walk **out, const char *const *paths, int n, st_err *e);
/* Next file, valid until the next call; NULL at the end. */
st_status st_walk_next(st_walk *w, const char **path, st_err *e);
bool st_walk_named(const st_walk *w); /* was the last one given itself, not found in a folder? */
void st_walk_close(st_walk *w);

/* ---- unpack.c: the streams inside a file ---------------------------------------------------- */

/* A file is one stream or, if its first bytes say that it is compressed or an archive, the streams
 * that are in it, in order, down to ST_UNPACK_DEPTH levels. */
typedef struct st_unpack st_unpack;
enum { ST_UNPACK_DEPTH = 16 };
st_status st_unpack_open(st_unpack **out, const char *path, st_err *e);
/* Moves to the next stream. *name: "a.tar: b/c.txt" for messages, valid until the next call; NULL
 * at the end. */
st_status st_unpack_next(st_unpack *u, const char **name, st_err *e);
/* Up to `cap` bytes of the current stream; *got = 0 at its end. */
st_status st_unpack_read(st_unpack *u, char *data, size_t cap, size_t *got, st_err *e);
int64_t st_unpack_done(const st_unpack *u); /* bytes of the file read so far */
void st_unpack_close(st_unpack *u);
/* Does `name` end in `suffix`, in any case of ASCII letters? */
bool st_name_ends(const char *name, const char *suffix);

#endif
