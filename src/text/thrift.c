/* Thrift's compact protocol: numbers are zigzag varints, fields name their distance from the field
 * before and their type in one byte. Every length is checked against the bytes that are left, every
 * element takes at least one, so reading is linear in the input and allocates nothing. */
/* SPDX-License-Identifier: MIT */
#include "text/thrift.h"

enum { THRIFT_DEPTH = 32 };
enum { STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BYTES, LIST, SET, MAP, STRUCT };

void st_thrift_fail(st_thrift *t, const char *why)
{
    if (!t->bad) t->bad = why;
}

static void thrift_cut(st_thrift *t)
{
    if (!t->bad) t->cut = true;
    st_thrift_fail(t, "ends early");
}

static uint8_t thrift_byte(st_thrift *t)
{
    if (!t->bad && t->at == t->n) thrift_cut(t);
    return t->bad ? 0 : t->data[t->at++];
}

static uint64_t thrift_varint(st_thrift *t)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = thrift_byte(t);
        v |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) return t->bad ? 0 : v;
    }
    st_thrift_fail(t, "a number of more than 64 bits");
    return 0;
}

static int64_t thrift_zigzag(st_thrift *t)
{
    uint64_t v = thrift_varint(t);
    return (int64_t)(v >> 1 ^ (~(v & 1) + 1));
}

static void thrift_advance(st_thrift *t, uint64_t n)
{
    if (t->bad) return;
    if (n > t->n - t->at)
        thrift_cut(t);
    else
        t->at += (size_t)n;
}

int st_thrift_field(st_thrift *t, int *id)
{
    uint8_t head = thrift_byte(t);
    int type = head & 15, step = head >> 4;
    if (type == STOP) return 0;
    int64_t next = step ? *id + step : thrift_zigzag(t);
    if (type > STRUCT || next < 1 || next > INT16_MAX) st_thrift_fail(t, "an impossible field");
    *id = t->bad ? 0 : (int)next;
    return t->bad ? 0 : type;
}

int64_t st_thrift_int(st_thrift *t, int type, int64_t lo, int64_t hi)
{
    int64_t v = 0;
    if (type == BYTE)
        v = (int8_t)thrift_byte(t);
    else if (type >= I16 && type <= I64)
        v = thrift_zigzag(t);
    else
        st_thrift_fail(t, "a field that is no number where one belongs");
    if (!t->bad && (v < lo || v > hi)) st_thrift_fail(t, "a number out of its range");
    return t->bad ? 0 : v;
}

bool st_thrift_flag(st_thrift *t, int type)
{
    if (type != TRUE && type != FALSE) st_thrift_fail(t, "a field that is no flag");
    return type == TRUE;
}

const char *st_thrift_bytes(st_thrift *t, int type, size_t *n)
{
    if (type != BYTES) st_thrift_fail(t, "a field that is no text where one belongs");
    uint64_t len = thrift_varint(t);
    size_t at = t->at;
    thrift_advance(t, len);
    *n = t->bad ? 0 : (size_t)len;
    return t->bad ? "" : (const char *)t->data + at;
}

int64_t st_thrift_list(st_thrift *t, int type, int *element)
{
    if (type != LIST && type != SET) st_thrift_fail(t, "a field that is no list where one belongs");
    uint8_t head = thrift_byte(t);
    uint64_t n = head >> 4 == 15 ? thrift_varint(t) : (uint64_t)head >> 4;
    *element = head & 15;
    if (!t->bad && (*element == STOP || *element > STRUCT))
        st_thrift_fail(t, "a list of nothing known");
    if (!t->bad && n > t->n - t->at) thrift_cut(t);
    return t->bad ? 0 : (int64_t)n;
}

static void thrift_skip(st_thrift *t, int type, bool listed, int depth);

static void thrift_skip_map(st_thrift *t, int depth)
{
    uint64_t n = thrift_varint(t);
    if (!n) return;
    uint8_t types = thrift_byte(t);
    for (; n && !t->bad; n--) {
        thrift_skip(t, types >> 4, true, depth);
        thrift_skip(t, types & 15, true, depth);
    }
}

/* A flag is in its field's type, but a byte in a list. */
static void thrift_skip(st_thrift *t, int type, bool listed, int depth)
{
    size_t bytes;
    int id = 0, element;
    if (depth > THRIFT_DEPTH) st_thrift_fail(t, "too many levels");
    if (t->bad) return;
    switch (type) {
    case TRUE:
    case FALSE:
        if (listed) thrift_advance(t, 1);
        break;
    case BYTE: thrift_advance(t, 1); break;
    case I16:
    case I32:
    case I64: thrift_varint(t); break;
    case DOUBLE: thrift_advance(t, 8); break;
    case BYTES: st_thrift_bytes(t, type, &bytes); break;
    case LIST:
    case SET:
        for (int64_t n = st_thrift_list(t, type, &element); n > 0 && !t->bad; n--)
            thrift_skip(t, element, true, depth + 1);
        break;
    case MAP: thrift_skip_map(t, depth + 1); break;
    case STRUCT:
        while ((element = st_thrift_field(t, &id)))
            thrift_skip(t, element, false, depth + 1);
        break;
    default: st_thrift_fail(t, "a field of no known type");
    }
}

void st_thrift_skip(st_thrift *t, int type)
{
    thrift_skip(t, type, false, 0);
}
