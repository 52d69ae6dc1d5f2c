/* The streams inside a file, over libarchive: gzip, bzip2, xz and zstd, tar and zip, in any
 * nesting. Whether something is packed is told from its first bytes, so a misnamed file is read for
 * what it is; a name that promises a kind that the bytes are not is an error. */
/* Long: one stack of streams; opening, moving on and reading each change all of it. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "files/wait.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

/* A window of zstd may have 2^31 bytes (zstd --long=31), which is then the memory that it takes. */
enum { UNPACK_HEAD = 512, UNPACK_BUFFER = 1 << 16, UNPACK_WINDOW = 31 };

/* A stream of bytes: a file (archive NULL) or a member of the archive one level up; if it is packed
 * itself, `inner` reads it. */
typedef struct {
    struct archive *from;
    char *name;
    char head[UNPACK_HEAD]; /* its first bytes, looked at before they are read */
    size_t head_n, head_at;
    struct archive *inner;
    char *buffer;       /* what `inner` or `zstd` is given */
    ZSTD_DStream *zstd; /* in place of `inner`: libarchive's has no window over 2^27 */
    ZSTD_inBuffer left; /* of the buffer */
    bool within, given; /* a frame has begun and not ended; its stream was handed out */
    st_unpack *owner;
} unpack_level;

struct st_unpack {
    int fd;
    bool regular, started;
    int64_t piped; /* bytes read from what cannot tell its position */
    unpack_level level[ST_UNPACK_DEPTH];
    int depth;    /* levels open */
    st_err below; /* an error of an outer level, met while an inner one was read */
};

bool st_name_ends(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && !strcasecmp(name + n - k, suffix);
}

/* ---- reading a level ------------------------------------------------------------------------- */

/* What libarchive has to say about the level that `a` reads. */
static st_status unpack_failed(st_unpack *u, const unpack_level *l, struct archive *a, st_err *e)
{
    if (u->below.code) {
        if (e) *e = u->below;
        return u->below.code;
    }
    const char *why = archive_error_string(a);
    ST_FAIL(e, ST_EFORMAT, "%s: cannot be unpacked: %s", l->name,
            why ? why : "corrupt or truncated");
}

static st_status unpack_level_read(st_unpack *u, unpack_level *l, char *data, size_t cap,
                                   size_t *got, st_err *e);

/* What is in the zstd frames of the level around l. */
static st_status unpack_frames(st_unpack *u, unpack_level *outer, char *data, size_t cap,
                               size_t *got, st_err *e)
{
    ZSTD_outBuffer out = {.dst = data, .size = cap};
    while (!out.pos && cap) {
        if (outer->left.pos == outer->left.size) {
            size_t n;
            ST_TRY(unpack_level_read(u, outer, outer->buffer, UNPACK_BUFFER, &n, e));
            outer->left = (ZSTD_inBuffer){.src = outer->buffer, .size = n};
            if (!n && outer->within) {
                ST_FAIL(e, ST_EFORMAT, "%s: cannot be unpacked: it ends within its data",
                        outer->name);
            }
            if (!n) break;
        }
        size_t rest = ZSTD_decompressStream(outer->zstd, &out, &outer->left);
        if (ZSTD_isError(rest)) {
            ST_FAIL(e, ST_EFORMAT, "%s: cannot be unpacked: %s", outer->name,
                    ZSTD_getErrorName(rest));
        }
        outer->within = rest != 0;
    }
    *got = out.pos;
    return ST_OK;
}

static st_status unpack_raw(st_unpack *u, unpack_level *l, char *data, size_t cap, size_t *got,
                            st_err *e)
{
    *got = 0;
    if (l > u->level && l[-1].zstd) return unpack_frames(u, l - 1, data, cap, got, e);
    if (l->from) {
        la_ssize_t n = archive_read_data(l->from, data, cap);
        if (n < 0) return unpack_failed(u, l, l->from, e);
        *got = (size_t)n;
        return ST_OK;
    }
    ssize_t n = st_wait_read(u->fd, data, cap);
    if (n < 0 && errno == EINTR) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    if (n < 0) ST_FAIL(e, ST_EIO, "%s: cannot be read: %s", l->name, strerror(errno));
    *got = (size_t)n;
    u->piped += n;
    return ST_OK;
}

/* Bytes of the level from where it stands, the looked-at ones first. */
static st_status unpack_level_read(st_unpack *u, unpack_level *l, char *data, size_t cap,
                                   size_t *got, st_err *e)
{
    size_t left = l->head_n - l->head_at;
    if (!left) return unpack_raw(u, l, data, cap, got, e);
    *got = left < cap ? left : cap;
    memcpy(data, l->head + l->head_at, *got);
    l->head_at += *got;
    return ST_OK;
}

static la_ssize_t unpack_feed(struct archive *a, void *ctx, const void **data)
{
    unpack_level *l = ctx;
    size_t got;
    *data = l->buffer;
    if (unpack_level_read(l->owner, l, l->buffer, UNPACK_BUFFER, &got, &l->owner->below)) {
        archive_set_error(a, EIO, "unreadable");
        return -1;
    }
    return (la_ssize_t)got;
}

/* ---- what a stream is ------------------------------------------------------------------------ */

static bool unpack_begins(const unpack_level *l, size_t at, const char *magic, size_t n)
{
    return l->head_n >= at + n && !memcmp(l->head + at, magic, n);
}

typedef enum { PLAIN, COMPRESSED, FRAMES, TAR, ZIP } unpack_kind;

/* What packed data looks like: the suffixes that promise it, and either of two magics at byte `at`.
 */
static const struct {
    unpack_kind kind;
    const char *suffix[3], *magic[2];
    size_t at;
} unpack_known[] = {
    {COMPRESSED, {".gz", ".tgz"}, {"\x1f\x8b"}, 0},
    {COMPRESSED,
     {".xz", ".txz"},
     {"\xfd"
      "7zXZ"},
     0},
    {FRAMES, {".zst", ".tzst", ".zstd"}, {"\x28\xb5\x2f\xfd"}, 0},
    {COMPRESSED, {".bz2", ".tbz2", ".tbz"}, {"BZh"}, 0},
    {ZIP, {".zip"}, {"PK\3\4", "PK\5\6"}, 0},
    {TAR, {".tar"}, {"ustar"}, 257},
};
enum { UNPACK_KNOWN = sizeof unpack_known / sizeof *unpack_known };

static bool unpack_is(const unpack_level *l, int k)
{
    for (int i = 0; i < 2; i++) {
        const char *magic = unpack_known[k].magic[i];
        if (!magic || !unpack_begins(l, unpack_known[k].at, magic, strlen(magic))) continue;
        /* "BZh" could begin a text; bzip2 has a level, then pi, or if empty its root, in BCD. */
        return *magic != 'B' || unpack_begins(l, 4, "1AY&SY", 6) ||
               unpack_begins(l, 4, "\x17\x72\x45\x38\x50\x90", 6);
    }
    return false;
}

bool st_unpack_closed(const char *name)
{
    static const char *const closed[] = {
        ".7z",  ".rar", ".lz4", ".lzma", ".lz",  ".z",   ".br",  ".docx", ".xlsx", ".pptx",
        ".odt", ".ods", ".odp", ".epub", ".jar", ".whl", ".npz", ".pt",   ".pth",  ".ckpt"};
    bool is = false;
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        is |= st_name_ends(name, closed[i]);
    return is;
}

/* What the level is. A name that promises what the bytes are not is an error. */
static st_status unpack_sniff(const unpack_level *l, unpack_kind *kind, st_err *e)
{
    *kind = PLAIN;
    if (st_unpack_closed(l->name)) return ST_OK;
    for (int k = 0; k < UNPACK_KNOWN && !*kind; k++)
        if (unpack_is(l, k)) *kind = unpack_known[k].kind;
    for (int k = 0; k < UNPACK_KNOWN && !*kind; k++) {
        bool named = false;
        for (int i = 0; i < 3 && unpack_known[k].suffix[i]; i++)
            named |= st_name_ends(l->name, unpack_known[k].suffix[i]);
        if (!named) continue;
        ST_TRY(st_lfs_refuse(l->name, l->head, l->head_n, e));
        if (unpack_known[k].kind == TAR && l->head_n == UNPACK_HEAD) {
            *kind = TAR; /* perhaps one older than the magic: libarchive can tell */
            break;
        }
        ST_FAIL(e, ST_EFORMAT, "%s: %s, expected %s data as its name says", l->name,
                l->head_n ? "holds something else" : "is empty", unpack_known[k].suffix[0] + 1);
    }
    if (!*kind && st_name_ends(l->name, ".parquet")) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: parquet files in archives cannot be read; unpack it and give the file or its "
                "folder",
                l->name);
    }
    return ST_OK;
}

static st_status unpack_look(st_unpack *u, unpack_level *l, st_err *e)
{
    for (size_t got = 1; got && l->head_n < UNPACK_HEAD; l->head_n += got)
        ST_TRY(unpack_raw(u, l, l->head + l->head_n, UNPACK_HEAD - l->head_n, &got, e));
    return ST_OK;
}

/* ---- levels ---------------------------------------------------------------------------------- */

static void unpack_drop(st_unpack *u)
{
    unpack_level *l = &u->level[--u->depth];
    archive_read_free(l->inner);
    ZSTD_freeDStream(l->zstd);
    free(l->buffer);
    free(l->name);
    *l = (unpack_level){0};
}

static st_status unpack_start_frames(unpack_level *l, st_err *e)
{
    l->zstd = ZSTD_createDStream();
    l->buffer = malloc(UNPACK_BUFFER);
    bool ready = l->zstd && l->buffer &&
                 !ZSTD_isError(ZSTD_DCtx_setParameter(l->zstd, ZSTD_d_windowLogMax, UNPACK_WINDOW));
    if (!ready) return ST_NOMEM(e, l->name);
    return ST_OK;
}

/* Starts reading the packed level l. libarchive is only told of the kind that it is: left to guess,
 * it takes a compressed run of NULs for an empty tar. */
static st_status unpack_start(st_unpack *u, unpack_level *l, unpack_kind kind, st_err *e)
{
    struct archive *a = l->inner = archive_read_new();
    l->buffer = malloc(UNPACK_BUFFER);
    if (!a || !l->buffer) return ST_NOMEM(e, l->name);
    if (kind == COMPRESSED) {
        archive_read_support_filter_gzip(a);
        archive_read_support_filter_bzip2(a);
        archive_read_support_filter_xz(a);
        archive_read_support_format_raw(a);
        archive_read_support_format_empty(a);
    }
    if (kind == TAR) archive_read_support_format_tar(a);
    if (kind == ZIP) archive_read_support_format_zip(a);
    l->owner = u;
    int rc;
    if (l != u->level || !u->regular) {
        rc = archive_read_open(a, l, NULL, unpack_feed, NULL);
    } else { /* libarchive may seek in it, as zip asks for */
        lseek(u->fd, 0, SEEK_SET);
        rc = archive_read_open_fd(a, u->fd, UNPACK_BUFFER);
    }
    return rc == ARCHIVE_OK ? ST_OK : unpack_failed(u, l, a, e);
}

/* The name of what is in a compressed file: without the suffix, .tgz and the like becoming .tar. */
static char *unpack_inner_name(const char *outer)
{
    for (int k = 0; k < UNPACK_KNOWN; k++) {
        for (int i = 0; i < 3 && unpack_known[k].kind <= FRAMES; i++) {
            const char *suffix = unpack_known[k].suffix[i];
            if (!suffix || !st_name_ends(outer, suffix)) continue;
            char *name;
            int n = (int)(strlen(outer) - strlen(suffix));
            return asprintf(&name, "%.*s%s", n, outer, suffix[1] == 't' ? ".tar" : "") < 0 ? NULL
                                                                                           : name;
        }
    }
    return strdup(outer);
}

/* A level for a new stream, `from` the archive around it. Takes over `name`. */
static st_status unpack_add(st_unpack *u, struct archive *from, char *name, st_err *e)
{
    if (!name) ST_FAIL(e, ST_ENOMEM, "out of memory for the name of a file");
    if (u->depth == ST_UNPACK_DEPTH) {
        st_status s = ST_ERR(e, ST_EFORMAT, "%s: more than %d archives inside each other", name,
                             ST_UNPACK_DEPTH);
        free(name);
        return s;
    }
    u->level[u->depth++] = (unpack_level){.from = from, .name = name};
    return ST_OK;
}

/* Moves the archive of the top level to its next plain file; *found false at its end. */
static st_status unpack_member(st_unpack *u, bool *found, st_err *e)
{
    unpack_level *l = &u->level[u->depth - 1];
    struct archive_entry *entry;
    *found = l->zstd && !l->given;
    l->given = true;
    if (*found) return unpack_add(u, NULL, unpack_inner_name(l->name), e);
    if (l->zstd) return ST_OK;
    for (;;) {
        int rc = archive_read_next_header(l->inner, &entry);
        if (rc == ARCHIVE_EOF) return ST_OK;
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return unpack_failed(u, l, l->inner, e);
        *found = true;
        if (archive_format(l->inner) == ARCHIVE_FORMAT_RAW)
            return unpack_add(u, l->inner, unpack_inner_name(l->name), e);
        const char *name = archive_entry_pathname_utf8(entry);
        if (!name) name = archive_entry_pathname(entry);
        if (!name) name = "(unnamed)";
        while (name[0] == '.' && name[1] == '/') /* as tar -C DIR . writes them */
            name += 2;
        const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
        *found = archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry) &&
                 base[0] != '.' && base[0];
        if (!*found) continue;
        char *full;
        return unpack_add(u, l->inner, asprintf(&full, "%s: %s", l->name, name) < 0 ? NULL : full,
                          e);
    }
}

st_status st_unpack_next(st_unpack *u, const char **name, st_err *e)
{
    *name = NULL;
    if (u->started && u->depth) unpack_drop(u); /* the stream that was read */
    bool found = !u->started;
    u->started = true;
    while (u->depth) {
        unpack_level *l = &u->level[u->depth - 1];
        unpack_kind kind;
        if (!found) { /* l is an archive with perhaps more in it */
            ST_TRY(unpack_member(u, &found, e));
            if (!found) unpack_drop(u);
            continue;
        }
        ST_TRY(unpack_look(u, l, e));
        ST_TRY(unpack_sniff(l, &kind, e));
        if (kind == PLAIN) {
            *name = l->name;
            return ST_OK;
        }
        ST_TRY(kind == FRAMES ? unpack_start_frames(l, e) : unpack_start(u, l, kind, e));
        found = false;
    }
    return ST_OK;
}

st_status st_unpack_read(st_unpack *u, char *data, size_t cap, size_t *got, st_err *e)
{
    return unpack_level_read(u, &u->level[u->depth - 1], data, cap, got, e);
}

st_status st_unpack_open(st_unpack **out, const char *path, st_err *e)
{
    struct stat st;
    *out = NULL;
    int fd = st_wait_open(path);
    if (fd < 0) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    st_unpack *u = st_calloc(1, sizeof *u);
    if (!u) {
        close(fd);
        return ST_NOMEM(e, path);
    }
    u->fd = fd;
    u->regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
    st_status s = unpack_add(u, NULL, strdup(path), e);
    if (s)
        st_unpack_close(u);
    else
        *out = u;
    return s;
}

int64_t st_unpack_done(const st_unpack *u)
{
    off_t at = u->regular ? lseek(u->fd, 0, SEEK_CUR) : -1;
    return at < 0 ? u->piped : at;
}

void st_unpack_close(st_unpack *u)
{
    if (!u) return;
    while (u->depth)
        unpack_drop(u);
    close(u->fd);
    free(u);
}
