/* What the calls in a pickle stand for. A call of a name that is not in the table, or with
 * arguments that it is not known to take, makes an inert object, which remembers that name. */
/* SPDX-License-Identifier: MIT */
#include "files/pickle_vm.h"
#include <math.h>
#include <string.h>

/* Argument k of a call, -1 if there are fewer. */
static int64_t name_arg(const st_vm *v, st_obj args, int64_t k)
{
    const st_py *t = st_py_at(v->p, args);
    if (k >= t->i) return -1;
    uint32_t c = t->a;
    while (k--)
        c = v->p->cell[c].next;
    return v->p->cell[c].value;
}

st_status st_vm_inert(st_vm *v, st_obj callable, st_obj *out)
{
    st_obj of = st_py_at(v->p, callable)->of;
    return st_vm_new(v, (st_py){.kind = ST_PY_RECORD, .of = of ? of : callable}, out);
}

/* A new container of `kind` with the items of `from`: none if it is none. Dicts also from a list of
 * pairs. */
static st_status name_copy(st_vm *v, st_obj callable, st_py_kind kind, int64_t from, st_obj *out)
{
    if (from < 0) return st_vm_new(v, (st_py){.kind = (uint8_t)kind}, out);
    st_py_kind given = st_py_at(v->p, (st_obj)from)->kind;
    bool dict = kind == ST_PY_DICT || kind == ST_PY_RECORD;
    bool items = given == ST_PY_LIST || given == ST_PY_TUPLE;
    if (!items && !(dict && given == ST_PY_DICT)) return st_vm_inert(v, callable, out);
    ST_TRY(st_vm_new(v, (st_py){.kind = (uint8_t)kind}, out));
    int64_t n = st_py_at(v->p, (st_obj)from)->i;
    uint32_t c = st_py_at(v->p, (st_obj)from)->a;
    for (int64_t i = 0; i < n; i++, c = v->p->cell[c].next) {
        int64_t key = v->p->cell[c].key, value = v->p->cell[c].value;
        if (dict && items) {
            const st_py *pair = st_py_at(v->p, (st_obj)value);
            if ((pair->kind != ST_PY_TUPLE && pair->kind != ST_PY_LIST) || pair->i != 2) {
                return st_vm_inert(v, callable, out);
            }
            st_obj of = (st_obj)value;
            key = name_arg(v, of, 0);
            value = name_arg(v, of, 1);
        }
        ST_TRY(st_vm_append(v, *out, (st_obj)key, (st_obj)value));
    }
    return ST_OK;
}

/* _rebuild_tensor*(storage, offset, sizes, strides, ...). That they fit together is checked when
 * the storage's place is known. */
static st_status name_tensor(st_vm *v, st_obj callable, st_obj args, bool typed, st_obj *out)
{
    enum { STORAGE_AT, OFFSET, SIZES, STRIDES, DTYPE = 6 };
    st_pickle *p = v->p;
    const st_py *list = st_py_at(p, args), *storage = st_py_item(p, list, STORAGE_AT);
    const st_py *offset = st_py_item(p, list, OFFSET), *sizes = st_py_item(p, list, SIZES);
    const st_py *strides = st_py_item(p, list, STRIDES);
    const st_py *dtype = typed ? st_py_item(p, list, DTYPE) : NULL;
    if (!strides || storage->kind != ST_PY_STORAGE || offset->kind != ST_PY_INT ||
        sizes->kind != ST_PY_TUPLE || strides->kind != ST_PY_TUPLE || sizes->i != strides->i) {
        return st_vm_inert(v, strides && storage->of ? storage->of : callable, out);
    }
    int element = storage->dtype;
    if (typed) {
        const name_row *row = dtype ? st_vm_name(v, (st_obj)name_arg(v, args, DTYPE)) : NULL;
        if (!row || row->what != NAME_DTYPE) return st_vm_inert(v, callable, out);
        element = row->dtype;
    }
    st_py t = {.kind = ST_PY_TENSOR, .dtype = (uint8_t)element, .i = offset->i};
    t.a = (st_obj)name_arg(v, args, STORAGE_AT);
    st_obj size = (st_obj)name_arg(v, args, SIZES), stride = (st_obj)name_arg(v, args, STRIDES);
    /* A cell of its own holds the two tuples: the list of one that is thrown away. */
    st_obj holder;
    ST_TRY(st_vm_new(v, (st_py){.kind = ST_PY_LIST}, &holder));
    ST_TRY(st_vm_append(v, holder, size, stride));
    t.b = st_py_at(p, holder)->a;
    return st_vm_new(v, t, out);
}

/* The 1 to 8 bytes of a numpy scalar; 0 if they are none. */
static size_t name_bytes(const st_vm *v, const st_py *b, unsigned char out[8])
{
    const unsigned char *from = (const unsigned char *)v->p->text + b->a;
    size_t n = 0;
    for (uint32_t i = 0; i < b->b; i++) {
        if (n == 8 || (b->kind != ST_PY_BYTES && b->kind != ST_PY_LATIN)) return 0;
        unsigned char c = from[i];
        if (b->kind == ST_PY_LATIN && c >= 0x80) {
            if ((c != 0xc2 && c != 0xc3) || i + 1 == b->b) return 0;
            c = (unsigned char)((c & 3) << 6 | (from[++i] & 0x3f));
        }
        out[n++] = c;
    }
    return n;
}

/* IEEE 754's binary16: sign, 5 bits of exponent, 10 of fraction. */
static double name_half(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double x = exponent == 31 ? fraction ? (double)NAN : (double)INFINITY
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return h & 0x8000 ? -x : x;
}

/* numpy's scalar(dtype, bytes) as a number; a kind that is no number becomes opaque. */
static st_status name_scalar(st_vm *v, st_obj callable, st_obj args, st_obj *out)
{
    const st_py *list = st_py_at(v->p, args), *kind = st_py_item(v->p, list, 0);
    const st_py *bytes = st_py_item(v->p, list, 1);
    if (!bytes || kind->kind != ST_PY_KIND) return st_vm_inert(v, callable, out);
    unsigned char raw[8] = {0};
    char type = kind->b == 2 ? v->p->text[kind->a] : ' ';
    int size = kind->b == 2 ? v->p->text[kind->a + 1] - '0' : 0;
    st_py o = {.kind = ST_PY_OPAQUE};
    bool fits = (int)name_bytes(v, bytes, raw) == size && !kind->i;
    uint64_t u;
    memcpy(&u, raw, 8);
    if (fits && type == 'f' && size == 8) {
        o.kind = ST_PY_FLOAT;
        memcpy(&o.f, raw, 8);
    } else if (fits && type == 'f' && size == 4) {
        float f;
        memcpy(&f, raw, 4);
        o.kind = ST_PY_FLOAT;
        o.f = (double)f;
    } else if (fits && type == 'f' && size == 2) {
        o.kind = ST_PY_FLOAT;
        o.f = name_half((uint16_t)u);
    } else if (fits && (type == 'i' || type == 'u') && size && !(type == 'u' && u > INT64_MAX)) {
        int unused = type == 'i' ? 64 - 8 * size : 0;
        o.kind = ST_PY_INT;
        o.i = (int64_t)(u << unused) >> unused;
    } else if (fits && type == 'b' && size == 1) {
        o.kind = ST_PY_BOOL;
        o.i = u != 0;
    }
    return st_vm_new(v, o, out);
}

/* The text that is the first argument as a value of another kind: what it is seen as. */
static st_status name_seen(st_vm *v, st_obj callable, st_obj args, st_py_kind kind, st_obj *out)
{
    const st_py *first = st_py_item(v->p, st_py_at(v->p, args), 0);
    if (!first || first->kind != ST_PY_STR) return st_vm_inert(v, callable, out);
    return st_vm_new(v, (st_py){.kind = (uint8_t)kind, .a = first->a, .b = first->b}, out);
}

/* function(*arguments) of (function, type, arguments, state): a tensor, or a parameter of one. */
static st_status name_typed(st_vm *v, st_obj callable, st_obj args, st_obj *out)
{
    int64_t function = name_arg(v, args, 0), inner = name_arg(v, args, 2);
    const name_row *row = function < 0 ? NULL : st_vm_name(v, (st_obj)function);
    if (!row || inner < 0 || st_py_at(v->p, (st_obj)inner)->kind != ST_PY_TUPLE ||
        (row->what != NAME_TENSOR && row->what != NAME_TENSOR3)) {
        bool named = function >= 0 && st_py_at(v->p, (st_obj)function)->kind == ST_PY_FOREIGN;
        return st_vm_inert(v, named ? (st_obj)function : callable, out);
    }
    return name_tensor(v, callable, (st_obj)inner, row->what == NAME_TENSOR3, out);
}

/* A new object of the class that is the first argument. */
static st_status name_instance(st_vm *v, st_obj callable, int64_t class, st_obj *out)
{
    if (class < 0) return st_vm_inert(v, callable, out);
    const name_row *row = st_vm_name(v, (st_obj) class);
    bool dict = row && row->what == NAME_DICT;
    if (dict || (row && row->what == NAME_RECORD))
        return st_vm_new(v, (st_py){.kind = dict ? ST_PY_DICT : ST_PY_RECORD}, out);
    return st_vm_inert(v, (st_obj) class, out);
}

st_status st_vm_call(st_vm *v, st_obj callable, st_obj args, st_obj *out)
{
    const name_row *row = st_vm_name(v, callable);
    const st_py *called = st_py_at(v->p, callable);
    bool foreign = called->kind == ST_PY_FOREIGN || called->of;
    if (!row && !foreign) return st_vm_damaged(v, "a call of what is no function");
    if (!row) return st_vm_inert(v, callable, out);
    int64_t first = name_arg(v, args, 0);
    switch (row->what) {
    case NAME_DICT: return name_copy(v, callable, ST_PY_DICT, first, out);
    case NAME_FACTORY: return name_copy(v, callable, ST_PY_DICT, -1, out);
    case NAME_RECORD: return name_copy(v, callable, ST_PY_RECORD, -1, out);
    case NAME_LIST: return name_copy(v, callable, ST_PY_LIST, first, out);
    case NAME_TUPLE: return name_copy(v, callable, ST_PY_TUPLE, first, out);
    case NAME_INSTANCE: return name_instance(v, callable, first, out);
    case NAME_ARGS: *out = args; return ST_OK;
    case NAME_FIRST:
        if (first < 0) break;
        *out = (st_obj)first;
        return ST_OK;
    case NAME_TENSOR: return name_tensor(v, callable, args, false, out);
    case NAME_TENSOR3: return name_tensor(v, callable, args, true, out);
    case NAME_TYPED: return name_typed(v, callable, args, out);
    case NAME_ENCODE: return name_seen(v, callable, args, ST_PY_LATIN, out);
    case NAME_BYTES: return st_vm_new(v, (st_py){.kind = ST_PY_BYTES}, out);
    case NAME_KIND: return name_seen(v, callable, args, ST_PY_KIND, out);
    case NAME_SCALAR: return name_scalar(v, callable, args, out);
    case NAME_ARRAY: return st_vm_new(v, (st_py){.kind = ST_PY_OPAQUE}, out);
    case NAME_TYPE:
    case NAME_STORAGE:
    case NAME_DTYPE: break;
    }
    return st_vm_inert(v, callable, out);
}

/* ("storage", type, key, location, elements[, view]): what torch.save names its storages by. */
st_status st_vm_persistent(st_vm *v, st_obj id, st_obj *out)
{
    const st_pickle *p = v->p;
    const st_py *list = st_py_at(p, id), *tag = st_py_item(p, list, 0);
    const st_py *type = st_py_item(p, list, 1), *key = st_py_item(p, list, 2);
    const st_py *n = st_py_item(p, list, 4), *view = st_py_item(p, list, 5);
    if (tag && type && st_py_is(p, tag, "module")) { /* a class, with its source text */
        *out = (st_obj)name_arg(v, id, 1);
        return ST_OK;
    }
    if (!n || !st_py_is(p, tag, "storage") || key->kind != ST_PY_STR || n->kind != ST_PY_INT ||
        n->i < 0) {
        return st_vm_damaged(v, "a persistent id that is no storage");
    }
    const name_row *row = st_vm_name(v, (st_obj)name_arg(v, id, 1));
    if (!row || row->what != NAME_STORAGE) return st_vm_inert(v, (st_obj)name_arg(v, id, 1), out);
    if (view && view->kind != ST_PY_NONE) {
        ST_FAIL(v->e, ST_EUNSUPPORTED,
                "%s: %s has views of storages, as PyTorch before 1.0 wrote; load it in a newer "
                "one and save it again",
                v->path, v->what);
    }
    return st_vm_new(v,
                     (st_py){.kind = ST_PY_STORAGE,
                             .dtype = (uint8_t)row->dtype,
                             .a = key->a,
                             .b = key->b,
                             .i = n->i},
                     out);
}

/* The pairs of a dict as attributes of `object`. */
static st_status name_attributes(st_vm *v, st_obj object, const st_py *state)
{
    st_pickle *p = v->p;
    int64_t n = state->kind == ST_PY_DICT ? state->i : 0;
    uint32_t c = state->a;
    for (int64_t i = 0; i < n; i++, c = p->cell[c].next)
        ST_TRY(st_vm_append(v, object, p->cell[c].key, p->cell[c].value));
    return ST_OK;
}

/* Attributes of a record, from a dict or a pair of dicts (that of its slots second); the byte order
 * of a numpy dtype. Those of everything else (state_dict's "_metadata") are left out. */
st_status st_vm_build(st_vm *v, st_obj object, st_obj state)
{
    st_pickle *p = v->p;
    const st_py *s = st_py_at(p, state);
    st_py *o = &p->obj[object];
    if (o->kind == ST_PY_KIND) {
        const st_py *order = st_py_item(p, s, 1);
        o->i = order && st_py_is(p, order, ">");
        return ST_OK;
    }
    if (o->kind != ST_PY_RECORD) return ST_OK;
    if (s->kind != ST_PY_TUPLE || s->i != 2) return name_attributes(v, object, s);
    ST_TRY(name_attributes(v, object, st_py_item(p, s, 0)));
    return name_attributes(v, object, st_py_item(p, s, 1));
}
