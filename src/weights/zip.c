/* Zip archives of stored entries (PKWARE's APPNOTE 6.3): reading and writing what PyTorch packs.
 *
 * Not libarchive, which reads an archive as a stream from its beginning: tensors are read in any
 * order, in place, and the directory at the end alone says how long an entry is (torch.save leaves
 * the lengths in front of the data empty). Deflated entries are refused; torch.save has none. */
/* SPDX-License-Identifier: MIT */
#include "weights/zip.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    ZIP_LOCAL = 30, /* bytes of the fixed parts of records */
    ZIP_CENTRAL = 46,
    ZIP_END = 22,
    ZIP_END64 = 56,
    ZIP_LOCATOR = 20,
    ZIP_EXTRA64 = 1, /* id of the extra field with lengths of 64 bits */
    ZIP_COMMENT = 65535,
    ZIP_DIRECTORY = 1 << 26 /* of some 600,000 entries */
};

static uint16_t zip_u16(const void *p)
{
    uint16_t x;
    memcpy(&x, p, 2);
    return x;
}

static uint32_t zip_u32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* Beyond 2^63 - 1 becomes -1, which no check lets pass. */
static int64_t zip_u64(const void *p)
{
    int64_t x;
    memcpy(&x, p, 8);
    return x < 0 ? -1 : x;
}

static st_status zip_damaged(const st_weights *w, const char *why, st_err *e)
{
    ST_FAIL(e, ST_EFORMAT, "%s: is a damaged or truncated zip archive: %s; get it again", w->path,
            why);
}

/* The record at the end: where the directory is, its bytes and entries. */
struct zip_where {
    int64_t at, bytes, entries;
};

/* The record of archives beyond 4 GiB or 65535 entries, if its locator lies before the end record
 * at `end`. */
static st_status zip_end64(const st_weights *w, int64_t end, struct zip_where *out, st_err *e)
{
    unsigned char b[ZIP_END64];
    if (end < ZIP_LOCATOR) return ST_OK;
    ST_TRY(st_weights_pread(w, b, ZIP_LOCATOR, end - ZIP_LOCATOR, e));
    if (memcmp(b, "PK\6\7", 4)) return ST_OK;
    int64_t at = zip_u64(b + 8);
    if (at < 0 || at > end - ZIP_LOCATOR - ZIP_END64) return zip_damaged(w, "its end record", e);
    ST_TRY(st_weights_pread(w, b, ZIP_END64, at, e));
    if (memcmp(b, "PK\6\6", 4)) return zip_damaged(w, "no zip64 end record", e);
    *out = (struct zip_where){zip_u64(b + 48), zip_u64(b + 40), zip_u64(b + 32)};
    if (out->at < 0 || out->bytes < 0 || out->at > at || out->bytes > at - out->at) {
        return zip_damaged(w, "its directory is not in the file", e);
    }
    return ST_OK;
}

static st_status zip_end(const st_weights *w, struct zip_where *out, st_err *e)
{
    int64_t tail = w->size < ZIP_END + ZIP_COMMENT ? w->size : ZIP_END + ZIP_COMMENT;
    int64_t first = w->size - tail, i;
    unsigned char *b = malloc((size_t)tail + 1);
    if (!b) return ST_NOMEM(e, w->path);
    st_status s = st_weights_pread(w, b, (size_t)tail, first, e);
    for (i = tail - ZIP_END; !s && i >= 0; i--) {
        if (memcmp(b + i, "PK\5\6", 4) == 0 && zip_u16(b + i + 20) == tail - ZIP_END - i) break;
    }
    if (!s && i < 0) s = zip_damaged(w, "no directory at its end", e);
    if (!s) {
        *out = (struct zip_where){zip_u32(b + i + 16), zip_u32(b + i + 12), zip_u16(b + i + 10)};
        int64_t end = first + i;
        s = zip_end64(w, end, out, e);
        if (!s && (out->at > end || out->bytes > end - out->at)) {
            s = zip_damaged(w, "its directory is not in the file", e);
        }
    }
    free(b);
    if (!s && out->bytes > ZIP_DIRECTORY) s = zip_damaged(w, "a directory over 64 MiB", e);
    return s;
}

/* Lengths and place that do not fit into 32 bits, from the extra fields; each only if it is all
 * ones in the record. */
static bool zip_extra(st_zip_entry *t, const unsigned char *x, size_t n)
{
    int64_t *const field[] = {&t->size, &t->packed, &t->header};
    bool wanted = false;
    for (int i = 0; i < 3; i++)
        wanted |= *field[i] == UINT32_MAX;
    while (wanted && n >= 4) {
        size_t id = zip_u16(x), len = zip_u16(x + 2);
        if (len > n - 4) return false;
        const unsigned char *at = x + 4, *end = at + len;
        for (int i = 0; id == ZIP_EXTRA64 && i < 3; i++) {
            if (*field[i] != UINT32_MAX) continue;
            if (end - at < 8) return false;
            *field[i] = zip_u64(at);
            at += 8;
        }
        if (id == ZIP_EXTRA64) return true;
        x += 4 + len;
        n -= 4 + len;
    }
    return true;
}

/* One record of the directory; the byte after its name becomes NUL later. */
static st_status zip_entry(const st_weights *w, unsigned char *b, size_t left, st_zip_entry *t,
                           size_t *used, st_err *e)
{
    if (left < ZIP_CENTRAL || memcmp(b, "PK\1\2", 4)) return zip_damaged(w, "its directory", e);
    size_t name = zip_u16(b + 28), extra = zip_u16(b + 30), comment = zip_u16(b + 32);
    *used = ZIP_CENTRAL + name + extra + comment;
    if (*used > left) return zip_damaged(w, "its directory ends early", e);
    *t = (st_zip_entry){.name = (char *)b + ZIP_CENTRAL,
                        .size = zip_u32(b + 24),
                        .packed = zip_u32(b + 20),
                        .header = zip_u32(b + 42),
                        .crc = zip_u32(b + 16),
                        .method = zip_u16(b + 10),
                        .flags = zip_u16(b + 8)};
    if (!name || memchr(t->name, 0, name)) return zip_damaged(w, "an entry without a name", e);
    if (!zip_extra(t, b + ZIP_CENTRAL + name, extra)) return zip_damaged(w, "its lengths", e);
    /* The name moves to the front of its record, whose numbers have been read, to gain a NUL. */
    memmove(b, t->name, name);
    b[name] = '\0';
    t->name = (char *)b;
    return ST_OK;
}

static int zip_by_name(const void *a, const void *b)
{
    return strcmp(((const st_zip_entry *)a)->name, ((const st_zip_entry *)b)->name);
}

st_status st_zip_open(st_zip *z, const st_weights *w, st_err *e)
{
    struct zip_where end = {0};
    *z = (st_zip){0};
    ST_TRY(zip_end(w, &end, e));
    if (end.entries < 0 || end.entries > end.bytes / ZIP_CENTRAL) {
        return zip_damaged(w, "more entries than its directory has room for", e);
    }
    z->text = malloc((size_t)end.bytes + 1);
    z->entry = st_calloc(end.entries, sizeof *z->entry);
    if (!z->text || !z->entry) return ST_NOMEM(e, w->path);
    ST_TRY(st_weights_pread(w, z->text, (size_t)end.bytes, end.at, e));
    unsigned char *at = (unsigned char *)z->text;
    size_t left = (size_t)end.bytes, used = 0;
    for (int64_t i = 0; i < end.entries; i++, at += used, left -= used)
        ST_TRY(zip_entry(w, at, left, &z->entry[z->n++], &used, e));
    if (left) return zip_damaged(w, "its directory has more than its entries", e);
    if (z->n) qsort(z->entry, (size_t)z->n, sizeof *z->entry, zip_by_name);
    for (int64_t i = 1; i < z->n; i++) {
        if (strcmp(z->entry[i - 1].name, z->entry[i].name)) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: two entries are named %.100s", w->path, z->entry[i].name);
    }
    return ST_OK;
}

void st_zip_close(st_zip *z)
{
    free(z->entry);
    free(z->text);
    *z = (st_zip){0};
}

const st_zip_entry *st_zip_find(const st_zip *z, const char *name)
{
    const st_zip_entry key = {.name = name};
    return z->n ? bsearch(&key, z->entry, (size_t)z->n, sizeof key, zip_by_name) : NULL;
}

st_status st_zip_place(const st_weights *w, const st_zip_entry *t, int64_t *at, st_err *e)
{
    unsigned char b[ZIP_LOCAL];
    if (t->method || t->size != t->packed || (t->flags & 1)) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: entry %.100s is %s; torch.save stores its entries as they are: unpack the "
                "archive and pack it again with zip -0",
                w->path, t->name, t->flags & 1 ? "encrypted" : "compressed");
    }
    if (t->header < 0 || t->header > w->size - ZIP_LOCAL) {
        return zip_damaged(w, "an entry that is not in the file", e);
    }
    ST_TRY(st_weights_pread(w, b, ZIP_LOCAL, t->header, e));
    size_t name = zip_u16(b + 26);
    char found[512];
    *at = t->header + ZIP_LOCAL + (int64_t)name + zip_u16(b + 28);
    if (memcmp(b, "PK\3\4", 4) || name != strlen(t->name) || name > sizeof found || *at > w->size ||
        t->size < 0 || t->size > w->size - *at) {
        return zip_damaged(w, "an entry that is not where its directory says", e);
    }
    ST_TRY(st_weights_pread(w, found, name, t->header + ZIP_LOCAL, e));
    if (memcmp(found, t->name, name)) return zip_damaged(w, "an entry of another name", e);
    return ST_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Little-endian numbers one after the other: widths 2, 4 and 8 as in `form`, e.g. "4224". */
static size_t zip_pack(unsigned char *out, const char *form, const uint64_t *value)
{
    size_t n = 0;
    for (; *form; form++, value++) {
        size_t width = (size_t)(*form - '0');
        memcpy(out + n, value, width);
        n += width;
    }
    return n;
}

static uint64_t zip_short(uint64_t x)
{
    return x < UINT32_MAX ? x : UINT32_MAX;
}

st_status st_zip_begin(st_zip_out *z, st_outfile *out, st_err *e)
{
    *z = (st_zip_out){.out = out};
    z->directory = open_memstream(&z->text, &z->bytes);
    if (!z->directory) return ST_NOMEM(e, out->path);
    return ST_OK;
}

/* Data is checked with a CRC that stands before it, so an entry is written when it is whole. */
st_status st_zip_add(st_zip_out *z, const char *name, const void *data, size_t n, st_err *e)
{
    enum { ALIGN = 64, FIELDS = 20 + 4 };
    const uint64_t wide = UINT32_MAX; /* "see the extra field": always, so that one way is tested */
    unsigned char b[ZIP_CENTRAL], pad[FIELDS + ALIGN];
    size_t len = strlen(name), used;
    uint64_t crc = crc32_z(0, data, n), at = (uint64_t)z->at;
    /* Version 4.5, no flags, stored, 1980-01-01: the same tensors give the same file. */
    used = zip_pack(b, "42222244422",
                    (uint64_t[]){0x04034b50, 45, 0, 0, 0, 0x21, crc, wide, wide, len, 0});
    size_t extra = zip_pack(pad, "2288", (uint64_t[]){ZIP_EXTRA64, 16, n, n});
    size_t begin = (size_t)z->at + used + len + extra + 4, fill = (ALIGN - begin % ALIGN) % ALIGN;
    /* PyTorch's own padding: a field "FB" of Zs. */
    extra += zip_pack(pad + extra, "22", (uint64_t[]){0x4246, fill});
    memset(pad + extra, 'Z', fill);
    extra += fill;
    zip_pack(b + 28, "2", (uint64_t[]){extra});
    ST_TRY(st_outfile_write(z->out, b, used, e));
    ST_TRY(st_outfile_write(z->out, name, len, e));
    ST_TRY(st_outfile_write(z->out, pad, extra, e));
    ST_TRY(st_outfile_write(z->out, data, n, e));
    z->at += (int64_t)(used + len + extra + n);
    z->n++;
    size_t more = zip_pack(pad, "22888", (uint64_t[]){ZIP_EXTRA64, 24, n, n, at});
    used = zip_pack(b, "42222224442222244",
                    (uint64_t[]){0x02014b50, 45, 45, 0, 0, 0, 0x21, crc, wide, wide, len, more, 0,
                                 0, 0, 0, wide});
    fwrite(b, 1, used, z->directory);
    fwrite(name, 1, len, z->directory);
    fwrite(pad, 1, more, z->directory);
    return ST_OK;
}

st_status st_zip_end(st_zip_out *z, st_err *e)
{
    unsigned char b[ZIP_END64 + ZIP_LOCATOR + ZIP_END];
    int bad = ferror(z->directory);
    bad |= fclose(z->directory);
    z->directory = NULL;
    if (bad) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its directory", z->out->path);
    uint64_t n = (uint64_t)z->n, bytes = z->bytes, at = (uint64_t)z->at;
    size_t used = zip_pack(b, "4822448888",
                           (uint64_t[]){0x06064b50, ZIP_END64 - 12, 45, 45, 0, 0, n, n, bytes, at});
    used += zip_pack(b + used, "4484", (uint64_t[]){0x07064b50, 0, at + bytes, 1});
    uint64_t few = n < UINT16_MAX ? n : UINT16_MAX;
    used += zip_pack(b + used, "42222442",
                     (uint64_t[]){0x06054b50, 0, 0, few, few, zip_short(bytes), zip_short(at), 0});
    ST_TRY(st_outfile_write(z->out, z->text, z->bytes, e));
    return st_outfile_write(z->out, b, used, e);
}

void st_zip_drop(st_zip_out *z)
{
    if (z->directory) fclose(z->directory);
    free(z->text);
    *z = (st_zip_out){0};
}
