/* files: bytes on disk: files and folders that appear whole or not at all, walking, unpacking,
 * tables, event files, pickles. Every writer leaves a whole file or none. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FILES_H
#define ST_FILES_H

#include "base/base.h"
#include "files/pickle.h"
#include <stdio.h>

/* ---- files that appear whole or not at all (file.c) ------------------------------------------ */

/* A temporary file beside `path`, renamed over it by commit (after fsync), removed by discard and
 * by a failed commit; one that a killed process left is removed when `path` is next written. */
typedef struct {
    FILE *f;
    char *path, *temp;
} st_outfile;
st_status st_outfile_open(st_outfile *o, const char *path, st_err *e);
st_status st_outfile_write(st_outfile *o, const void *data, size_t n, st_err *e);
st_status st_outfile_flush(st_outfile *o, st_err *e);  /* onto the disk: no room shows here */
st_status st_outfile_commit(st_outfile *o, st_err *e); /* write errors show here at the latest */
void st_outfile_discard(st_outfile *o); /* after commit or on a zeroed one: nothing */

/* The same for a folder: files are written into `temp`; commit puts it in place of `path`, which,
 * if it existed, is exchanged atomically and then removed. Folders above `path` are made. `over`:
 * what the files of an older result may be called, patterns of fnmatch up to a NULL. Without it an
 * existing non-empty `path` is ST_EARG at open; with it, the working folder, folders that hold
 * folders and those that hold other files are. It must live until commit. */
typedef struct {
    char *path, *temp;
    int lock; /* of `temp`, for as long as this process lives */
    const char *const *over;
} st_outdir;
st_status st_outdir_open(st_outdir *o, const char *path, const char *const *over, st_err *e);
st_status st_outdir_commit(st_outdir *o, st_err *e);
void st_outdir_discard(st_outdir *o);

/* What a result is not written over (output.c). ST_EARG if `out` exists and is, holds or lies in
 * one of the files and folders that are read (NULLs and names of nothing are passed over). */
st_status st_output_apart(const char *out, const char *const *reads, int n, st_err *e);
/* ST_EARG if the file `out` exists, unless `replace` is said and ours(out) finds that it is `kind`
 * ("a page of strut report"). */
st_status st_output_file(const char *out, bool replace, const char *kind,
                         bool (*ours)(const char *path), st_err *e);

/* Removes (or puts back) what writers that were killed have left in a folder. */
void st_sweep_folder(const char *folder);

/* "DIR/NAME" in new memory; NULL when out of memory. */
char *st_path_join(const char *dir, const char *name);
bool st_path_exists(const char *path);
bool st_path_is_dir(const char *path);
bool st_path_is_file(const char *path);              /* a plain file: reading it cannot wait */
st_status st_make_dirs(const char *path, st_err *e); /* mkdir -p */
/* Whole file into new memory (NUL added, not counted), at most `max` bytes. */
st_status st_read_file(const char *path, size_t max, char **out, size_t *n, st_err *e);
st_status st_write_file(const char *path, const void *data, size_t n, st_err *e); /* atomic */
st_status st_write_json(const char *path, const json_t *j, st_err *e); /* indented, atomic */
st_status st_file_crc32(const char *path, uint32_t *crc, st_err *e);   /* of a plain file, zlib's */
st_status st_copy_file(const char *from, const char *to, st_err *e);   /* atomic */

/* ---- mapped.c: files in memory --------------------------------------------------------------- */

/* `bytes` (more than 0) of an open file, for reading. Close wants the same `bytes`; NULL is fine.
 */
st_status st_mapped_open(void **out, int fd, size_t bytes, const char *path, st_err *e);
void st_mapped_close(void *at, size_t bytes);
/* The end of the path of the file that an address lies in, or NULL. A signal handler may call it.
 */
const char *st_mapped_name(const void *address);

/* ---- walk.c: files in order ------------------------------------------------------------------ */

/* The files of the given paths; folders are entered, their entries sorted by name (bytes). Hidden
 * entries, devices and a folder that contains itself by a link are left out; links to nothing are
 * not, opening them says why. No more than the names of the folders on the way are in memory. */
typedef struct st_walk st_walk;
st_status st_walk_open(st_walk **out, const char *const *paths, int n, st_err *e);
/* Next file, valid until the next call; NULL at the end. */
st_status st_walk_next(st_walk *w, const char **path, st_err *e);
bool st_walk_named(const st_walk *w); /* was the last one given itself, not found in a folder? */
void st_walk_close(st_walk *w);

/* ---- unpack.c: the streams inside a file ----------------------------------------------------- */

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
/* Is `name` one of an archive of another kind, or of what is a zip archive only inside (.docx,
 * .pt)? Those are handed out as they are. */
bool st_unpack_closed(const char *name);
/* Does `name` end in `suffix`, in any case of ASCII letters? */
bool st_name_ends(const char *name, const char *suffix);

/* ---- TensorBoard's event files (events.c) ---------------------------------------------------- */

/* A new DIR/events.out.tfevents.TIME.HOST.PID.0, by name the last of the folder's. Readers drop
 * what earlier files have of the steps from `purge` on (-1: nothing). One writer in a process. */
typedef struct st_events st_events;
st_status st_events_open(st_events **out, const char *dir, int64_t purge, st_err *e);
/* Begins the values of a step; scalars are then written together by end. Nothing is allocated. */
void st_events_step(st_events *v, int64_t step);
st_status st_events_scalar(st_events *v, const char *tag, double x, st_err *e);
/* Markdown, at most 48 KiB of it; a record of its own. */
st_status st_events_text(st_events *v, const char *tag, const char *text, st_err *e);
st_status st_events_end(st_events *v, st_err *e); /* ST_EIO when the disk is full */
void st_events_close(st_events *v);
uint32_t st_events_mask(const void *data, size_t n); /* the masked CRC-32C of its records */

/* ---- tables (csv.c over libcsv) -------------------------------------------------------------- */

/* A CSV file whose first line names the columns: a list of objects {COLUMN: text} in file order, at
 * most `most` of them. Rows with other than as many fields as there are names, bytes that are not
 * UTF-8 and open quotes are ST_EFORMAT with the row's number. */
st_status st_csv_load(json_t **rows, const char *path, size_t max_bytes, int64_t most, st_err *e);

/* ---- the head of a GGUF file (gguf_head.c) --------------------------------------------------- */

enum { ST_GGUF_VERSION = 3 };
/* Types of values. */
enum {
    ST_GGUF_U8,
    ST_GGUF_I8,
    ST_GGUF_U16,
    ST_GGUF_I16,
    ST_GGUF_U32,
    ST_GGUF_I32,
    ST_GGUF_FLOAT,
    ST_GGUF_BOOL,
    ST_GGUF_STRING,
    ST_GGUF_ARRAY,
    ST_GGUF_U64,
    ST_GGUF_I64,
    ST_GGUF_DOUBLE,
    ST_GGUF_TYPES
};
/* A GGUF file (ggml's docs/gguf.md, versions 2 and 3) read up to its entries of tensors, which the
 * caller reads on from there. Its keys as a JSON object: numbers, texts and short lists; with
 * `lists` also texts and lists of any length, those of the tokenizer. Keys and texts that are no
 * UTF-8 are left out. */
typedef struct st_gguf st_gguf;
bool st_gguf_is(const char *path); /* by its first bytes */
st_status st_gguf_open(st_gguf **out, const char *path, bool lists, st_err *e);
void st_gguf_close(st_gguf *g);
const json_t *st_gguf_keys(const st_gguf *g);
uint64_t st_gguf_tensors(const st_gguf *g); /* how many entries follow */
int64_t st_gguf_at(const st_gguf *g);       /* the byte that is read next */
const char *st_gguf_path(const st_gguf *g);
/* The next number of `bytes` bytes, and the next text: up to room - 1 bytes of it into `out`; of a
 * longer one nothing, *n is its length. */
st_status st_gguf_number(st_gguf *g, int bytes, uint64_t *out, st_err *e);
st_status st_gguf_text(st_gguf *g, char *out, size_t room, size_t *n, st_err *e);
/* ST_EFORMAT: the head is damaged here, because `why`. */
st_status st_gguf_bad(const st_gguf *g, const char *why, st_err *e);

#endif
