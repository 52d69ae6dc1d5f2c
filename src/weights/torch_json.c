/* The values of a PyTorch pickle that are not the model's tensors, as JSON: settings, counters,
 * histories. A pickle's values form a graph, which may have cycles and be small where the tree is
 * huge, so both depth and size of the tree are bounded: what lies beyond is null, or left out.
 * Objects of programs show their attributes that are numbers and texts. */
/* SPDX-License-Identifier: MIT */
#include "weights/torch.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    JSON_DEPTH = 64,
    JSON_VALUE = 64,     /* bytes that a value is taken to need */
    JSON_BYTES = 1 << 26 /* of all values and texts together: a million values */
};

typedef struct {
    const st_torch_file *f;
    int64_t left; /* bytes */
    int depth;
    st_err *e;
} json_walk;

static st_status json_of(json_walk *j, const st_py *o, json_t **out);

static st_status json_nomem(const json_walk *j)
{
    return ST_NOMEM(j->e, j->f->w->path);
}

/* Is there room for as much more? */
static bool json_room(json_walk *j, int64_t bytes)
{
    j->left -= bytes;
    return j->left > 0;
}

/* JSON has no NaN and no infinity: those become texts. */
static json_t *json_float(double x)
{
    return isnan(x)   ? json_string("nan")
           : isinf(x) ? json_string(x < 0 ? "-inf" : "inf")
                      : json_real(x);
}

/* One number of a tensor without dimensions; other tensors are described. */
static st_status json_tensor(json_walk *j, const st_py *o, json_t **out)
{
    st_stored s = {.name = "(beside the model)"};
    double wide = 0;
    float narrow = 0;
    int32_t whole = 0;
    ST_TRY(st_torch_tensor(j->f, o, &s, j->e));
    st_err quiet;
    if (s.ndim == 0 && strcmp(s.dtype, "F64") == 0) {
        ST_TRY(st_weights_pread(s.file, &wide, 8, s.offset, j->e));
        *out = json_float(wide);
    } else if (s.ndim == 0 && !st_stored_read(&s, st_view1(&narrow, ST_F32, 1), &quiet)) {
        *out = json_float((double)narrow);
    } else if (s.ndim == 0 && !st_stored_read(&s, st_view1(&whole, ST_I32, 1), &quiet)) {
        *out = json_integer(whole);
    } else {
        json_t *shape = json_array();
        for (int i = 0; shape && i < s.ndim; i++)
            json_array_append_new(shape, json_integer(s.dim[i]));
        *out = json_pack("{s:s, s:o}", "tensor", s.dtype, "shape", shape);
    }
    return ST_OK;
}

static st_status json_list(json_walk *j, const st_py *list, json_t **out)
{
    const st_pickle *p = j->f->p;
    st_status s = ST_OK;
    *out = json_array();
    if (!*out) return json_nomem(j);
    for (uint32_t c = list->i ? list->a : 0; !s && c && j->left > 0; c = p->cell[c].next) {
        json_t *item = NULL;
        s = json_of(j, st_py_at(p, p->cell[c].value), &item);
        if (!s && json_array_append_new(*out, item)) s = json_nomem(j);
    }
    return s;
}

/* A key as text: false if it is none (tuples and the like). */
static bool json_key(const st_pickle *p, const st_py *key, char number[32], const char **text,
                     size_t *n)
{
    *text = key->kind == ST_PY_NONE   ? "null"
            : key->kind == ST_PY_BOOL ? key->i ? "true" : "false"
                                      : number;
    if (key->kind == ST_PY_INT) snprintf(number, 32, "%lld", (long long)key->i);
    if (key->kind == ST_PY_FLOAT) snprintf(number, 32, "%.17g", key->f);
    *n = strlen(*text);
    if (key->kind == ST_PY_STR) {
        *text = p->text + key->a;
        *n = key->b;
    }
    return key->kind <= ST_PY_INT || key->kind == ST_PY_FLOAT || key->kind == ST_PY_STR;
}

static bool json_plain(const st_py *o)
{
    return o->kind == ST_PY_BOOL || o->kind == ST_PY_INT || o->kind == ST_PY_FLOAT ||
           o->kind == ST_PY_STR;
}

/* Adds the pairs of a dict, but those under `skip`, and no tensors if `bare`. */
static st_status json_dict(json_walk *j, const st_py *dict, const char *skip, bool bare,
                           json_t *out)
{
    const st_pickle *p = j->f->p;
    for (uint32_t c = dict->i ? dict->a : 0; c; c = p->cell[c].next) {
        const st_py *key = st_py_at(p, p->cell[c].key), *value = st_py_at(p, p->cell[c].value);
        char number[32] = "";
        const char *text;
        size_t n;
        if (bare && value->kind == ST_PY_TENSOR) continue;
        if (dict->of && !json_plain(value)) continue;
        if (!json_key(p, key, number, &text, &n)) continue;
        if (skip && strlen(skip) == n && memcmp(skip, text, n) == 0) continue;
        json_t *item = NULL;
        if (!json_room(j, (int64_t)n)) return ST_OK;
        ST_TRY(json_of(j, value, &item));
        /* Fails for a key that is not UTF-8, which then is left out. */
        json_object_setn_new(out, text, n, item);
    }
    return ST_OK;
}

static st_status json_text(json_walk *j, const st_py *o, json_t **out)
{
    if (json_room(j, o->b)) *out = json_stringn(j->f->p->text + o->a, o->b);
    if (!*out) *out = json_null(); /* not UTF-8 */
    return ST_OK;
}

/* An int beyond 64 bits: hexadecimal text of its two's complement. */
static st_status json_big(json_walk *j, const st_py *o, json_t **out)
{
    char *text = malloc(2 * (size_t)o->b + 3), *at = text;
    if (!text) return json_nomem(j);
    at += sprintf(at, "0x");
    for (uint32_t i = o->b; i--;)
        at += sprintf(at, "%02x", (unsigned char)j->f->p->text[o->a + i]);
    *out = json_string(text);
    free(text);
    return ST_OK;
}

/* *out is a new reference; on failure NULL. */
static st_status json_of(json_walk *j, const st_py *o, json_t **out)
{
    st_status s = ST_OK;
    *out = NULL;
    if (j->depth == JSON_DEPTH || !json_room(j, JSON_VALUE)) {
        *out = json_null();
        return ST_OK;
    }
    j->depth++;
    switch ((st_py_kind)o->kind) {
    case ST_PY_BOOL: *out = json_boolean(o->i); break;
    case ST_PY_INT: *out = json_integer(o->i); break;
    case ST_PY_FLOAT: *out = json_float(o->f); break;
    case ST_PY_STR:
    case ST_PY_KIND: s = json_text(j, o, out); break;
    case ST_PY_LIST:
    case ST_PY_TUPLE: s = json_list(j, o, out); break;
    case ST_PY_DICT:
    case ST_PY_RECORD:
        *out = json_object();
        s = *out ? json_dict(j, o, NULL, false, *out) : json_nomem(j);
        break;
    case ST_PY_TENSOR: s = json_tensor(j, o, out); break;
    case ST_PY_BIG: s = json_big(j, o, out); break;
    case ST_PY_GLOBAL: *out = json_string(st_py_name(o)); break;
    case ST_PY_NONE:
    case ST_PY_BYTES:
    case ST_PY_LATIN:
    case ST_PY_FOREIGN:
    case ST_PY_STORAGE:
    case ST_PY_OPAQUE:
    case ST_PY_MARK: *out = json_null(); break;
    }
    j->depth--;
    if (!s && !*out) s = json_nomem(j);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

st_status st_torch_json(const st_torch_file *f, const st_py *dict, const char *skip, bool bare,
                        json_t *out, st_err *e)
{
    json_walk j = {.f = f, .left = JSON_BYTES, .e = e};
    return json_dict(&j, dict, skip, bare, out);
}
