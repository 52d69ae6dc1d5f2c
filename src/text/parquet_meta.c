/* A parquet file's footer: "PAR1" ... FileMetaData, its length in 4 bytes, "PAR1". Read twice: once
 * for the schema, in which the column is found, once for where the row groups keep it.
 * https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/parquet.h"
#include "text/thrift.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { META_FOOTER = 64 << 20, META_COLUMNS = 10000, META_DEPTH = 32, META_NAME = 160 };
enum { REQUIRED, OPTIONAL, REPEATED };
enum { BYTE_ARRAY = 6 };
enum { UTF8 = 0, ENUM = 4, JSON = 19 };

/* A column: a leaf of the schema with the names on the way to it, "a.b". */
typedef struct {
    char name[META_NAME];
    int type, converted; /* -1: none */
    int levels;
    bool repeated;
} meta_leaf;

typedef struct {
    const char *path;
    meta_leaf *leaf;
    int64_t leaves, cap;
    struct { /* open groups, from the root's on */
        char name[META_NAME];
        int64_t left;
        int levels;
        bool repeated;
    } group[META_DEPTH];
    int depth;
} meta_schema;

const char *st_parquet_codec(int codec)
{
    static const char *const name[] = {"uncompressed", "snappy", "gzip", "lzo",
                                       "brotli",       "lz4",    "zstd", "lz4_raw"};
    return codec >= 0 && codec < 8 ? name[codec] : "an unknown codec";
}

static const char *meta_type(const meta_leaf *l)
{
    static const char *const name[] = {"boolean", "int32",  "int64",      "int96",
                                       "float",   "double", "byte array", "fixed-length bytes"};
    if (l->repeated) return "a list";
    if (l->type == BYTE_ARRAY && (l->converted == UTF8 || l->converted == -1)) return "string";
    return l->type >= 0 && l->type < 8 ? name[l->type] : "unknown";
}

st_status st_parquet_pread(int fd, void *data, size_t n, int64_t at, const char *path, st_err *e)
{
    char *to = data;
    while (n) {
        ssize_t got = pread(fd, to, n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) ST_FAIL(e, ST_EIO, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0) ST_FAIL(e, ST_EFORMAT, "%s: became shorter while it was read", path);
        to += got;
        at += got;
        n -= (size_t)got;
    }
    return ST_OK;
}

/* ---- the schema ------------------------------------------------------------------------------ */

/* "GROUP.NAME", cut to what fits; such a column cannot be chosen, but is one. */
static void meta_name(char *out, const meta_schema *s, const char *name, size_t n)
{
    const char *above = s->depth > 1 ? s->group[s->depth - 1].name : "";
    snprintf(out, META_NAME, "%s%s%.*s", above, *above ? "." : "", (int)(n < 1000 ? n : 1000),
             name);
}

static st_status meta_leaf_add(meta_schema *s, const meta_leaf *leaf, st_err *e)
{
    if (s->leaves == META_COLUMNS) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: more than %d columns", s->path, META_COLUMNS);
    }
    if (s->leaves == s->cap) {
        s->cap = 2 * s->cap + 16;
        meta_leaf *more = realloc(s->leaf, (size_t)s->cap * sizeof *more);
        if (!more) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its columns", s->path);
        s->leaf = more;
    }
    s->leaf[s->leaves++] = *leaf;
    return ST_OK;
}

/* A SchemaElement: a group opens, a leaf is kept. The list is the tree, depth first. */
static st_status meta_element(meta_schema *s, st_thrift *t, st_err *e)
{
    meta_leaf leaf = {.type = -1, .converted = -1};
    int id = 0, type, repetition = REQUIRED;
    int64_t children = 0;
    const char *name = "";
    size_t n = 0;
    while ((type = st_thrift_field(t, &id))) {
        if (id == 1)
            leaf.type = (int)st_thrift_int(t, type, 0, 7);
        else if (id == 3)
            repetition = (int)st_thrift_int(t, type, REQUIRED, REPEATED);
        else if (id == 4)
            name = st_thrift_bytes(t, type, &n);
        else if (id == 5)
            children = st_thrift_int(t, type, 0, INT32_MAX);
        else if (id == 6)
            leaf.converted = (int)st_thrift_int(t, type, 0, INT32_MAX);
        else
            st_thrift_skip(t, type);
    }
    if (t->bad) return ST_OK; /* the caller tells */
    while (s->depth && !s->group[s->depth - 1].left)
        s->depth--;
    bool root = !s->leaves && !s->depth;
    if (!root && !s->depth) ST_FAIL(e, ST_EFORMAT, "%s: its schema is no tree", s->path);
    if (!root) {
        s->group[s->depth - 1].left--;
        leaf.levels = s->group[s->depth - 1].levels + (repetition != REQUIRED);
        leaf.repeated = s->group[s->depth - 1].repeated || repetition == REPEATED;
        meta_name(leaf.name, s, name, n);
    }
    if (!root && leaf.type >= 0) return meta_leaf_add(s, &leaf, e);
    if (s->depth == META_DEPTH) ST_FAIL(e, ST_EFORMAT, "%s: its schema is too deep", s->path);
    memcpy(s->group[s->depth].name, leaf.name, META_NAME);
    s->group[s->depth].left = children;
    s->group[s->depth].levels = leaf.levels;
    s->group[s->depth++].repeated = leaf.repeated;
    return ST_OK;
}

static st_status meta_columns(meta_schema *s, st_thrift t, st_err *e)
{
    int id = 0, type, element;
    while ((type = st_thrift_field(&t, &id))) {
        if (id != 2) {
            st_thrift_skip(&t, type);
            continue;
        }
        int64_t n = st_thrift_list(&t, type, &element);
        if (n && element != ST_THRIFT_STRUCT) st_thrift_fail(&t, "a schema of no elements");
        for (; n > 0 && !t.bad; n--)
            ST_TRY(meta_element(s, &t, e));
        break;
    }
    if (t.bad) ST_FAIL(e, ST_EFORMAT, "%s: its footer is damaged: %s", s->path, t.bad);
    return ST_OK;
}

/* What to do about a column that is not there: the nearest name, and the names that are. */
static st_status meta_missing(const meta_schema *s, const char *column, st_err *e)
{
    char list[256] = "";
    const char *names[65];
    int n = 0;
    for (int64_t i = 0; i < s->leaves; i++) {
        size_t used = strlen(list);
        if (n < 64) names[n++] = s->leaf[i].name;
        if (used + strlen(s->leaf[i].name) + 24 > sizeof list) {
            snprintf(list + used, sizeof list - used, ", ...");
            break;
        }
        snprintf(list + used, sizeof list - used, "%s\"%s\" (%s)", i ? ", " : "", s->leaf[i].name,
                 meta_type(&s->leaf[i]));
    }
    names[n] = NULL;
    const char *near = st_nearest(column, names);
    ST_FAIL(e, ST_EFORMAT, "%s: no column \"%.60s\"%s%s%s; it has %s; choose with --field", s->path,
            column, near ? ", did you mean \"" : "", near ? near : "", near ? "\"" : "",
            *list ? list : "none");
}

static st_status meta_find(const meta_schema *s, const char *column, int64_t *index, st_err *e)
{
    size_t n = strlen(column);
    for (int64_t i = 0; i < s->leaves; i++) {
        const meta_leaf *l = &s->leaf[i];
        bool same = !strcmp(l->name, column);
        if (!same && !(!strncmp(l->name, column, n) && l->name[n] == '.')) continue;
        if (!same || l->repeated) {
            ST_FAIL(e, ST_EUNSUPPORTED, "%s: column \"%.60s\" holds %s, expected one string a row",
                    s->path, column, l->repeated ? "lists" : "groups");
        }
        bool text = l->converted == -1 || l->converted == UTF8 || l->converted == ENUM ||
                    l->converted == JSON;
        if (l->type != BYTE_ARRAY || !text) {
            ST_FAIL(e, ST_EFORMAT, "%s: column \"%.60s\" is %s, expected a string column", s->path,
                    column, meta_type(l));
        }
        *index = i;
        return ST_OK;
    }
    return meta_missing(s, column, e);
}

/* ---- row groups ------------------------------------------------------------------------------ */

/* ColumnMetaData. */
static void meta_chunk(st_parquet_chunk *c, st_thrift *t)
{
    int id = 0, type;
    int64_t data = -1, dictionary = -1, physical = -1;
    while ((type = st_thrift_field(t, &id))) {
        if (id == 1)
            physical = st_thrift_int(t, type, 0, 7);
        else if (id == 4)
            c->codec = (int)st_thrift_int(t, type, 0, INT32_MAX);
        else if (id == 5)
            c->values = st_thrift_int(t, type, 0, INT64_MAX);
        else if (id == 7)
            c->bytes = st_thrift_int(t, type, 0, INT64_MAX);
        else if (id == 9)
            data = st_thrift_int(t, type, 0, INT64_MAX);
        else if (id == 11)
            dictionary = st_thrift_int(t, type, 0, INT64_MAX);
        else
            st_thrift_skip(t, type);
    }
    if (physical != BYTE_ARRAY) st_thrift_fail(t, "a column chunk of another type than the schema");
    c->start = dictionary > 0 && dictionary < data ? dictionary : data;
}

/* ColumnChunk. */
static void meta_column(st_parquet_chunk *c, st_thrift *t)
{
    int id = 0, type;
    size_t n = 0;
    while ((type = st_thrift_field(t, &id))) {
        if (id == 1) {
            st_thrift_bytes(t, type, &n);
            if (n) st_thrift_fail(t, "the column is in another file");
        } else if (id == 3 && type == ST_THRIFT_STRUCT) {
            meta_chunk(c, t);
        } else {
            if (id == 8) st_thrift_fail(t, "the column is encrypted");
            st_thrift_skip(t, type);
        }
    }
    if (c->start < 0) st_thrift_fail(t, "the column's place is missing");
}

/* RowGroup: its chunk number `index` of `leaves`, and its rows, which are as many as values. */
static void meta_group(st_parquet_chunk *c, st_thrift *t, int64_t index, int64_t leaves)
{
    int id = 0, type, element;
    int64_t rows = -1;
    *c = (st_parquet_chunk){.start = -1};
    while ((type = st_thrift_field(t, &id))) {
        if (id == 1) {
            int64_t n = st_thrift_list(t, type, &element);
            if (n != leaves || element != ST_THRIFT_STRUCT)
                st_thrift_fail(t, "a row group with other columns than the schema");
            for (int64_t i = 0; i < n && !t->bad; i++) {
                if (i == index)
                    meta_column(c, t);
                else
                    st_thrift_skip(t, element);
            }
        } else if (id == 3) {
            rows = st_thrift_int(t, type, 0, INT64_MAX);
        } else {
            st_thrift_skip(t, type);
        }
    }
    if (c->start < 0) st_thrift_fail(t, "a row group without the column");
    if (rows != c->values) st_thrift_fail(t, "a row group with more or fewer values than rows");
}

/* The chunks are in the file, before its footer, and do not share bytes: their sum fits too. */
static st_status meta_check(st_parquet_meta *m, int64_t end, const char *path, st_err *e)
{
    for (int64_t i = 0; i < m->chunks; i++) {
        const st_parquet_chunk *c = &m->chunk[i];
        if (!c->values) continue; /* nothing is read of it, and writers give it no place */
        if (c->start < 4 || c->start > end || c->bytes > end - c->start ||
            m->bytes > end - c->bytes) {
            ST_FAIL(e, ST_EFORMAT, "%s: row group %lld is at %lld, %lld bytes, not in the file",
                    path, (long long)i, (long long)c->start, (long long)c->bytes);
        }
        m->bytes += c->bytes;
        if (c->codec != 0 && c->codec != 1 && c->codec != 2 && c->codec != 6) {
            ST_FAIL(e, ST_EUNSUPPORTED,
                    "%s: compressed with %s; uncompressed, snappy, gzip and zstd can be read", path,
                    st_parquet_codec(c->codec));
        }
    }
    return ST_OK;
}

static st_status meta_groups(st_parquet_meta *m, st_thrift t, const meta_schema *s, int64_t index,
                             st_err *e)
{
    int id = 0, type, element;
    while ((type = st_thrift_field(&t, &id))) {
        if (id != 4) {
            st_thrift_skip(&t, type);
            continue;
        }
        int64_t n = st_thrift_list(&t, type, &element);
        if (m->chunk || (n && element != ST_THRIFT_STRUCT))
            st_thrift_fail(&t, "a strange list of row groups");
        if (t.bad) break;
        m->chunk = st_calloc(n + 1, sizeof *m->chunk);
        if (!m->chunk) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its row groups", s->path);
        for (; m->chunks < n && !t.bad; m->chunks++)
            meta_group(&m->chunk[m->chunks], &t, index, s->leaves);
    }
    if (t.bad) ST_FAIL(e, ST_EFORMAT, "%s: its footer is damaged: %s", s->path, t.bad);
    return ST_OK;
}

/* ---- the footer ------------------------------------------------------------------------------ */

static st_status meta_footer(st_parquet_meta *m, int fd, const char *path, st_thrift *t, st_err *e)
{
    struct stat st;
    char tail[8], head[64] = "";
    uint32_t n;
    if (fstat(fd, &st)) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    m->size = st.st_size;
    if (m->size < 12)
        ST_FAIL(e, ST_EFORMAT, "%s: no parquet file: %lld bytes", path, (long long)m->size);
    ST_TRY(st_parquet_pread(fd, head, m->size < 64 ? (size_t)m->size : 64, 0, path, e));
    ST_TRY(st_lfs_refuse(path, head, sizeof head, e));
    ST_TRY(st_parquet_pread(fd, tail, 8, m->size - 8, path, e));
    memcpy(&n, tail, 4);
    if (!memcmp(tail + 4, "PARE", 4)) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: an encrypted parquet file", path);
    }
    if (memcmp(head, "PAR1", 4) != 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: holds something else, expected parquet data as its name says",
                path);
    }
    if (memcmp(tail + 4, "PAR1", 4) != 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: does not end as a parquet file does; was it cut short?", path);
    }
    if (n > META_FOOTER || (int64_t)n > m->size - 12) {
        ST_FAIL(e, ST_EFORMAT, "%s: a footer of %u bytes, expected at most %lld", path, n,
                (long long)(m->size - 12 < META_FOOTER ? m->size - 12 : META_FOOTER));
    }
    uint8_t *data = malloc(n + 1);
    if (!data) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its footer", path);
    *t = (st_thrift){.data = data, .n = n};
    return st_parquet_pread(fd, data, n, m->size - 8 - n, path, e);
}

st_status st_parquet_meta_read(st_parquet_meta *m, int fd, const char *path, const char *column,
                               st_err *e)
{
    st_thrift t = {0};
    meta_schema s = {.path = path};
    int64_t index = 0;
    *m = (st_parquet_meta){0};
    st_status status = meta_footer(m, fd, path, &t, e);
    if (!status) status = meta_columns(&s, t, e);
    if (!status) status = meta_find(&s, column, &index, e);
    if (!status) status = meta_groups(m, t, &s, index, e);
    if (!status) status = meta_check(m, m->size - 8 - (int64_t)t.n, path, e);
    if (!status) m->levels = s.leaf[index].levels;
    if (status) {
        free(m->chunk);
        *m = (st_parquet_meta){0};
    }
    free((void *)(uintptr_t)t.data);
    free(s.leaf);
    return status;
}
