/* The JSON header of a safetensors file, {"NAME": {"dtype", "shape", "data_offsets"}, ...,
 * "__metadata__": {STRING: STRING}}, format at github.com/huggingface/safetensors.
 *
 * An own parser for this one grammar, not a JSON library: a hostile header of the legal 100 MB
 * would make gigabytes of JSON objects, and recursion and numbers need no bounds that are not
 * there. */
/* SPDX-License-Identifier: MIT */
#include "weights/safetensors.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A place in the text: [p, end). `tensor` names the entry being read, for messages. */
typedef struct {
    char *text, *p, *end;
    const char *path, *tensor;
    st_err *e;
} header_scan;

static st_status header_bad(const header_scan *s, const char *expected)
{
    char found[24] = "the end";
    if (s->p < s->end) snprintf(found, sizeof found, "byte 0x%02x", (unsigned char)*s->p);
    ST_FAIL(s->e, ST_EFORMAT,
            "%s: header damaged at byte %zu%s%.100s: found %s, expected %s; get the file again",
            s->path, (size_t)(s->p - s->text) + 8, s->tensor ? " in tensor " : "",
            s->tensor ? s->tensor : "", found, expected);
}

static void header_space(header_scan *s)
{
    while (s->p < s->end && strchr(" \t\n\r", *s->p) && *s->p)
        s->p++;
}

/* Skips white space and takes `c` if it is next. */
static bool header_take(header_scan *s, char c)
{
    header_space(s);
    if (s->p == s->end || *s->p != c) return false;
    s->p++;
    return true;
}

/* Four hex digits, or -1. */
static int32_t header_hex(header_scan *s)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end) return -1;
        char c = *s->p;
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* One escape after its backslash, written to *out; it is never longer than its source. */
static st_status header_escape(header_scan *s, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at = s->p < s->end && *s->p ? strchr(from, *s->p) : NULL;
    if (at) {
        *(*out)++ = to[at - from];
        s->p++;
        return ST_OK;
    }
    if (s->p == s->end || *s->p != 'u') return header_bad(s, "an escape sequence");
    s->p++;
    int32_t c = header_hex(s);
    if (c >= 0xd800 && c < 0xdc00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        int32_t low = header_hex(s);
        c = low >= 0xdc00 && low < 0xe000 ? 0x10000 + (c - 0xd800) * 1024 + (low - 0xdc00) : -1;
    }
    if (c <= 0 || (c >= 0xd800 && c < 0xe000)) return header_bad(s, "a character (not NUL)");
    *out += utf8proc_encode_char(c, (utf8proc_uint8_t *)*out);
    return ST_OK;
}

/* A string; *out points into the text, unescaped and NUL-terminated in place. */
static st_status header_string(header_scan *s, const char **out)
{
    if (!header_take(s, '"')) return header_bad(s, "a string");
    char *write = s->p;
    *out = write;
    while (s->p < s->end && *s->p != '"') {
        unsigned char c = (unsigned char)*s->p;
        if (c == '\\') {
            s->p++;
            ST_TRY(header_escape(s, &write));
        } else if (c < 0x20) {
            return header_bad(s, "no control character in a string");
        } else if (c < 0x80) {
            *write++ = *s->p++;
        } else {
            utf8proc_int32_t code;
            utf8proc_ssize_t n =
                utf8proc_iterate((const utf8proc_uint8_t *)s->p, s->end - s->p, &code);
            if (n <= 0) return header_bad(s, "UTF-8");
            memmove(write, s->p, (size_t)n);
            write += n;
            s->p += n;
        }
    }
    if (s->p == s->end) return header_bad(s, "the end of a string");
    *write = '\0'; /* at the closing quote at the latest */
    s->p++;
    return ST_OK;
}

/* "[a, b, ...]" of at most `max` whole numbers from 0 to INT64_MAX. */
static st_status header_numbers(header_scan *s, int64_t *out, int max, int *n)
{
    *n = 0;
    if (!header_take(s, '[')) return header_bad(s, "a list");
    if (header_take(s, ']')) return ST_OK;
    do {
        header_space(s);
        if (*n == max) {
            ST_FAIL(s->e, ST_EFORMAT, "%s: tensor %.100s: more than %d numbers in a list", s->path,
                    s->tensor, max);
        }
        char *first = s->p;
        int64_t v = 0;
        for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
            int digit = *s->p - '0';
            if (v > (INT64_MAX - digit) / 10) return header_bad(s, "a number below 2^63");
            v = v * 10 + digit;
        }
        if (s->p == first || (*first == '0' && s->p - first > 1)) {
            return header_bad(s, "a whole number");
        }
        out[(*n)++] = v;
    } while (header_take(s, ','));
    return header_take(s, ']') ? ST_OK : header_bad(s, "',' or ']'");
}

static const struct {
    char name[12];
    int bits;
} header_dtypes[] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

/* That dtype and shape need exactly the bytes of the range. */
static st_status header_check(header_scan *s, st_stored *t, const int64_t range[2])
{
    int64_t bits = 0;
    for (size_t i = 0; i < sizeof header_dtypes / sizeof *header_dtypes; i++) {
        if (strcmp(t->dtype, header_dtypes[i].name) == 0) bits = header_dtypes[i].bits;
    }
    if (bits == 0) {
        ST_FAIL(s->e, ST_EFORMAT, "%s: tensor %.100s: unknown dtype %.40s", s->path, t->name,
                t->dtype);
    }
    for (int i = 0; i < t->ndim; i++) {
        if (__builtin_mul_overflow(bits, t->dim[i], &bits)) {
            ST_FAIL(s->e, ST_EFORMAT, "%s: tensor %.100s: its shape has more than 2^60 elements",
                    s->path, t->name);
        }
    }
    if (bits % 8 || range[1] - range[0] != bits / 8) {
        ST_FAIL(s->e, ST_EFORMAT,
                "%s: tensor %.100s: data_offsets [%lld, %lld] do not fit its shape and dtype %s, "
                "which need %lld%s bytes",
                s->path, t->name, (long long)range[0], (long long)range[1], t->dtype,
                (long long)(bits / 8), bits % 8 ? ".5" : "");
    }
    t->offset = range[0];
    t->bytes = (size_t)(bits / 8);
    return ST_OK;
}

static st_status header_tensor(header_scan *s, st_stored *t)
{
    enum { DTYPE = 1, SHAPE = 2, RANGE = 4 };
    int seen = 0, n;
    int64_t range[2] = {0};
    if (!header_take(s, '{')) return header_bad(s, "'{'");
    do {
        const char *key;
        ST_TRY(header_string(s, &key));
        int which = strcmp(key, "dtype") == 0          ? DTYPE
                    : strcmp(key, "shape") == 0        ? SHAPE
                    : strcmp(key, "data_offsets") == 0 ? RANGE
                                                       : 0;
        if (!which || (seen & which)) {
            ST_FAIL(s->e, ST_EFORMAT,
                    "%s: tensor %.100s: %s key %.40s, expected dtype, shape and "
                    "data_offsets once each",
                    s->path, t->name, which ? "second" : "unknown", key);
        }
        seen |= which;
        if (!header_take(s, ':')) return header_bad(s, "':'");
        if (which == DTYPE) ST_TRY(header_string(s, &t->dtype));
        if (which == SHAPE) ST_TRY(header_numbers(s, t->dim, 8, &t->ndim));
        if (which == RANGE) {
            ST_TRY(header_numbers(s, range, 2, &n));
            if (n != 2) return header_bad(s, "two data_offsets");
        }
    } while (header_take(s, ','));
    if (!header_take(s, '}')) return header_bad(s, "',' or '}'");
    if (seen != (DTYPE | SHAPE | RANGE)) {
        ST_FAIL(s->e, ST_EFORMAT, "%s: tensor %.100s: no %s", s->path, t->name,
                !(seen & DTYPE)   ? "dtype"
                : !(seen & SHAPE) ? "shape"
                                  : "data_offsets");
    }
    return header_check(s, t, range);
}

/* Room for one more of `size` bytes in a growing array. */
static st_status header_grow(const header_scan *s, void *array, int64_t n, int64_t *cap,
                             size_t size)
{
    if (n < *cap) return ST_OK;
    int64_t more = *cap ? *cap * 2 : 64;
    void *old, *p;
    memcpy(&old, array, sizeof old);
    p = realloc(old, (size_t)more * size);
    if (!p) ST_FAIL(s->e, ST_ENOMEM, "%s: out of memory for its header", s->path);
    memcpy(array, &p, sizeof p);
    *cap = more;
    return ST_OK;
}

static st_status header_metadata(header_scan *s, st_header *h)
{
    if (h->has_meta) ST_FAIL(s->e, ST_EFORMAT, "%s: two __metadata__ entries", s->path);
    h->has_meta = true;
    if (!header_take(s, '{')) return header_bad(s, "'{'");
    if (header_take(s, '}')) return ST_OK;
    do {
        st_header_meta m;
        ST_TRY(header_string(s, &m.key));
        if (!header_take(s, ':')) return header_bad(s, "':'");
        ST_TRY(header_string(s, &m.value));
        ST_TRY(header_grow(s, &h->meta, h->n_meta, &h->cap_meta, sizeof m));
        h->meta[h->n_meta++] = m;
    } while (header_take(s, ','));
    return header_take(s, '}') ? ST_OK : header_bad(s, "',' or '}'");
}

st_status st_header_parse(st_header *h, char *text, size_t n, const char *path, st_err *e)
{
    *h = (st_header){0};
    text[n] = '\0';
    header_scan s = {.text = text, .p = text, .end = text + n, .path = path, .e = e};
    if (n == 0 || *text != '{') return header_bad(&s, "'{'");
    s.p++;
    bool more = !header_take(&s, '}');
    while (more) {
        st_stored t = {0};
        s.tensor = NULL;
        ST_TRY(header_string(&s, &t.name));
        s.tensor = t.name;
        if (!header_take(&s, ':')) return header_bad(&s, "':'");
        if (strcmp(t.name, "__metadata__") == 0) {
            ST_TRY(header_metadata(&s, h));
        } else {
            ST_TRY(header_tensor(&s, &t));
            ST_TRY(header_grow(&s, &h->tensor, h->n, &h->cap, sizeof t));
            h->tensor[h->n++] = t;
        }
        more = header_take(&s, ',');
        if (!more && !header_take(&s, '}')) return header_bad(&s, "',' or '}'");
    }
    s.tensor = NULL;
    header_space(&s);
    return s.p == s.end ? ST_OK : header_bad(&s, "nothing but spaces after the header's '}'");
}

void st_header_free(st_header *h)
{
    free(h->tensor);
    free(h->meta);
    *h = (st_header){0};
}
