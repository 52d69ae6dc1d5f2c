/* The head of a GGUF file: keys and values, a buffer at a time. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GGUF_KEYS = 1 << 14,
    GGUF_TEXT = 1 << 12, /* longer values are left out, but for a tokenizer up to the size of: */
    GGUF_BUFFER = 1 << 16,
    GGUF_LONG = 1 << 22,
    GGUF_LIST = 1 << 22, /* entries of a tokenizer's list */
    GGUF_SHORT = 1 << 10 /* entries of another, by block */
};

struct st_gguf {
    int fd;
    char *path;
    int64_t size, at, first, held; /* held bytes of the file from `first` on */
    json_t *keys;
    uint64_t tensors;
    bool lists;
    unsigned char buffer[GGUF_BUFFER];
};

bool st_gguf_is(const char *path)
{
    char magic[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    bool is = pread(fd, magic, 4, 0) == 4 && memcmp(magic, "GGUF", 4) == 0;
    close(fd);
    return is;
}

st_status st_gguf_bad(const st_gguf *g, const char *why, st_err *e)
{
    ST_FAIL(e, ST_EFORMAT, "%s: GGUF header damaged or truncated at byte %lld: %s; get it again",
            g->path, (long long)g->at, why);
}

static st_status gguf_fill(st_gguf *g, st_err *e)
{
    g->first = g->at;
    g->held = 0;
    int64_t want = g->size - g->at < GGUF_BUFFER ? g->size - g->at : GGUF_BUFFER;
    while (g->held < want) {
        ssize_t got = pread(g->fd, g->buffer + g->held, (size_t)(want - g->held), g->at + g->held);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) ST_FAIL(e, ST_EIO, "%s: %s", g->path, got ? strerror(errno) : "it shrank");
        g->held += got;
    }
    return ST_OK;
}

/* The next n bytes, n at most GGUF_BUFFER. */
static st_status gguf_take(st_gguf *g, int64_t n, const unsigned char **out, st_err *e)
{
    *out = g->buffer;
    if (n > g->size - g->at) return st_gguf_bad(g, "it ends too early", e);
    if (g->at < g->first || g->at + n > g->first + g->held) ST_TRY(gguf_fill(g, e));
    *out = g->buffer + (g->at - g->first);
    g->at += n;
    return ST_OK;
}

st_status st_gguf_number(st_gguf *g, int bytes, uint64_t *out, st_err *e)
{
    const unsigned char *b;
    *out = 0;
    ST_TRY(gguf_take(g, bytes, &b, e));
    memcpy(out, b, (size_t)bytes);
    return ST_OK;
}

/* The length of a text that begins here. */
static st_status gguf_length(st_gguf *g, uint64_t *n, st_err *e)
{
    ST_TRY(st_gguf_number(g, 8, n, e));
    return *n > (uint64_t)(g->size - g->at) ? st_gguf_bad(g, "it ends within a text", e) : ST_OK;
}

st_status st_gguf_text(st_gguf *g, char *out, size_t room, size_t *n, st_err *e)
{
    uint64_t length;
    const unsigned char *b;
    out[0] = '\0';
    *n = 0;
    ST_TRY(gguf_length(g, &length, e));
    *n = (size_t)length;
    if (*n >= room) {
        g->at += (int64_t)length;
        return ST_OK;
    }
    ST_TRY(gguf_take(g, (int64_t)length, &b, e));
    memcpy(out, b, *n);
    out[*n] = '\0';
    return ST_OK;
}

/* A text as JSON; *out NULL: it is none, or longer than `most`. */
static st_status gguf_string(st_gguf *g, uint64_t most, json_t **out, st_err *e)
{
    uint64_t n;
    const unsigned char *b;
    ST_TRY(gguf_length(g, &n, e));
    if (n > most) {
        g->at += (int64_t)n;
        return ST_OK;
    }
    if (n <= GGUF_BUFFER) {
        ST_TRY(gguf_take(g, (int64_t)n, &b, e));
        *out = json_stringn((const char *)b, n);
        return ST_OK;
    }
    char *text = malloc(n);
    if (!text) return ST_NOMEM(e, g->path);
    st_status s = ST_OK;
    for (uint64_t at = 0, part; at < n && !s; at += part) {
        part = n - at < GGUF_BUFFER ? n - at : GGUF_BUFFER;
        s = gguf_take(g, (int64_t)part, &b, e);
        if (!s) memcpy(text + at, b, part);
    }
    if (!s) *out = json_stringn(text, n);
    free(text);
    return s;
}

static const int8_t gguf_sizes[ST_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* A number of the type. */
static st_status gguf_single(st_gguf *g, uint64_t type, json_t **out, st_err *e)
{
    uint64_t u;
    float f;
    double d;
    ST_TRY(st_gguf_number(g, gguf_sizes[type], &u, e));
    memcpy(&f, &u, 4);
    memcpy(&d, &u, 8);
    int unused = 64 - 8 * gguf_sizes[type];
    switch (type) {
    case ST_GGUF_FLOAT: *out = json_real((double)f); break;
    case ST_GGUF_DOUBLE: *out = json_real(d); break;
    case ST_GGUF_BOOL: *out = json_boolean(u); break;
    case ST_GGUF_I8:
    case ST_GGUF_I16:
    case ST_GGUF_I32:
    case ST_GGUF_I64: *out = json_integer((int64_t)(u << unused) >> unused); break;
    default:
        if (u <= INT64_MAX) *out = json_integer((int64_t)u);
    }
    return ST_OK;
}

/* A list: its entries where there are at most `most`; numbers are else passed in one step, texts by
 * their lengths. An entry that has no JSON is null. */
static st_status gguf_list(st_gguf *g, uint64_t most, json_t **out, st_err *e)
{
    uint64_t type, n;
    ST_TRY(st_gguf_number(g, 4, &type, e));
    ST_TRY(st_gguf_number(g, 8, &n, e));
    if (type >= ST_GGUF_TYPES || type == ST_GGUF_ARRAY) return st_gguf_bad(g, "a list of lists", e);
    uint64_t left = (uint64_t)(g->size - g->at), each = (uint64_t)gguf_sizes[type];
    if (n > left / (each ? each : 8)) return st_gguf_bad(g, "it ends within a list", e);
    bool keep = n <= most;
    if (each && !keep) {
        g->at += (int64_t)(n * each);
        return ST_OK;
    }
    if (keep && !(*out = json_array())) return ST_NOMEM(e, g->path);
    for (uint64_t i = 0; i < n; i++) {
        json_t *entry = NULL;
        ST_TRY(each ? gguf_single(g, type, &entry, e)
                    : gguf_string(g, keep ? GGUF_TEXT : 0, &entry, e));
        if (!keep)
            json_decref(entry);
        else if (json_array_append_new(*out, entry ? entry : json_null()))
            return ST_NOMEM(e, g->path);
    }
    return ST_OK;
}

/* One value; *out stays NULL for what is left out. */
static st_status gguf_value(st_gguf *g, const char *key, uint64_t type, json_t **out, st_err *e)
{
    bool tokens = g->lists && strncmp(key, "tokenizer.", 10) == 0;
    if (type >= ST_GGUF_TYPES) return st_gguf_bad(g, "a value of unknown type", e);
    bool other = strncmp(key, "tokenizer.", 10) != 0;
    uint64_t most = tokens ? GGUF_LIST : other ? GGUF_SHORT : 0;
    if (type == ST_GGUF_ARRAY) return gguf_list(g, most, out, e);
    if (type == ST_GGUF_STRING) return gguf_string(g, tokens ? GGUF_LONG : GGUF_TEXT - 1, out, e);
    return gguf_single(g, type, out, e);
}

static st_status gguf_values(st_gguf *g, uint64_t n, st_err *e)
{
    for (uint64_t i = 0; i < n; i++) {
        char key[256];
        size_t len;
        uint64_t type;
        json_t *value = NULL;
        ST_TRY(st_gguf_text(g, key, sizeof key, &len, e));
        ST_TRY(st_gguf_number(g, 4, &type, e));
        st_status s = gguf_value(g, key, type, &value, e);
        if (!s && value && len && len < sizeof key)
            json_object_setn_new(g->keys, key, len, value); /* fails for what is not UTF-8 */
        else
            json_decref(value);
        ST_TRY(s);
    }
    return ST_OK;
}

static st_status gguf_head(st_gguf *g, st_err *e)
{
    uint64_t magic, version, values;
    ST_TRY(st_gguf_number(g, 4, &magic, e));
    if (memcmp(&magic, "GGUF", 4)) ST_FAIL(e, ST_EFORMAT, "%s: this is no GGUF file", g->path);
    ST_TRY(st_gguf_number(g, 4, &version, e));
    if (version != ST_GGUF_VERSION && version != 2) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: GGUF version %llu, expected 2 or 3%s", g->path,
                (unsigned long long)version, version > 0xffff ? " (little-endian)" : "");
    }
    ST_TRY(st_gguf_number(g, 8, &g->tensors, e));
    ST_TRY(st_gguf_number(g, 8, &values, e));
    if (values > GGUF_KEYS) return st_gguf_bad(g, "too many entries", e);
    g->keys = json_object();
    return g->keys ? gguf_values(g, values, e) : ST_NOMEM(e, g->path);
}

st_status st_gguf_open(st_gguf **out, const char *path, bool lists, st_err *e)
{
    struct stat st;
    *out = NULL;
    st_gguf *g = st_calloc(1, sizeof *g);
    if (!g) return ST_NOMEM(e, path);
    g->lists = lists;
    g->path = strdup(path);
    g->fd = open(path, O_RDONLY | O_CLOEXEC);
    st_status s = g->path ? ST_OK : ST_NOMEM(e, path);
    if (!s && (g->fd < 0 || fstat(g->fd, &st)))
        s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
    if (!s) g->size = st.st_size;
    if (!s) s = gguf_head(g, e);
    if (s)
        st_gguf_close(g);
    else
        *out = g;
    return s;
}

void st_gguf_close(st_gguf *g)
{
    if (!g) return;
    if (g->fd >= 0) close(g->fd);
    json_decref(g->keys);
    free(g->path);
    free(g);
}

const json_t *st_gguf_keys(const st_gguf *g)
{
    return g->keys;
}

uint64_t st_gguf_tensors(const st_gguf *g)
{
    return g->tensors;
}

int64_t st_gguf_at(const st_gguf *g)
{
    return g->at;
}

const char *st_gguf_path(const st_gguf *g)
{
    return g->path;
}
