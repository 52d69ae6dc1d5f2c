/* The names of classes and functions that a pickle may ask for, and what calling each stands for.
 *
 * This table is closed. A pickle that asks for any other name is refused by that name: what Python
 * would import and run there could be anything. Listed are what torch.save writes for tensors
 * (torch/_utils.py, torch/serialization.py of PyTorch 0.4 to 2), numpy's scalars, and plain data.
 */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include "weights/pickle.h"
#include <ctype.h>
#include <string.h>

enum { F32, F64, F16, BF16, I64, I32, I16, I8, U8, BOOL, C64, U16, U32, U64, F8_E4M3, F8_E5M2 };

const st_py_dtype st_py_dtypes[] = {
    [F32] = {"F32", 4},         [F64] = {"F64", 8}, [F16] = {"F16", 2},
    [BF16] = {"BF16", 2},       [I64] = {"I64", 8}, [I32] = {"I32", 4},
    [I16] = {"I16", 2},         [I8] = {"I8", 1},   [U8] = {"U8", 1},
    [BOOL] = {"BOOL", 1},       [C64] = {"C64", 8}, [U16] = {"U16", 2},
    [U32] = {"U32", 4},         [U64] = {"U64", 8}, [F8_E4M3] = {"F8_E4M3", 1},
    [F8_E5M2] = {"F8_E5M2", 1},
};

/* What a name is: data, or what calling it gives. */
typedef enum {
    NAME_TYPE,    /* only named, never called */
    NAME_STORAGE, /* torch.FloatStorage: in persistent ids */
    NAME_DTYPE,   /* torch.float32 */
    NAME_DICT,    /* dict(), dict(pairs) */
    NAME_FACTORY, /* defaultdict(type) */
    NAME_RECORD,  /* an object whose attributes BUILD sets */
    NAME_LIST,    /* list(items), set(items) */
    NAME_TUPLE,   /* torch.Size(items) */
    NAME_ARGS,    /* complex(1, 2), Path("a", "b"): the arguments as a tuple */
    NAME_FIRST,   /* the first argument: Parameter(data, ...), torch.device(text) */
    NAME_TENSOR,  /* (storage, offset, sizes, strides, ...) */
    NAME_TENSOR3, /* (storage, offset, sizes, strides, grad, hooks, dtype, ...) */
    NAME_TYPED,   /* (function, type, arguments, state): function(*arguments) */
    NAME_ENCODE,  /* _codecs.encode(text, "latin1"): bytes */
    NAME_BYTES,   /* bytes(): none */
    NAME_KIND,    /* numpy.dtype(text, ...) */
    NAME_SCALAR,  /* numpy's scalar(dtype, bytes) */
    NAME_ARRAY    /* numpy's arrays: only as something that is there */
} name_what;

typedef struct {
    const char *module, *name;
    name_what what;
    int dtype;
} name_row;

#define STORAGE(name, dtype)                                                                       \
    {"torch", name "Storage", NAME_STORAGE, dtype},                                                \
    {                                                                                              \
        "torch.cuda", name "Storage", NAME_STORAGE, dtype                                          \
    }
#define BUILTIN(name, what)                                                                        \
    {"builtins", name, what, 0},                                                                   \
    {                                                                                              \
        "__builtin__", name, what, 0                                                               \
    }
#define NUMPY(name, what)                                                                          \
    {"numpy.core.multiarray", name, what, 0},                                                      \
    {                                                                                              \
        "numpy._core.multiarray", name, what, 0                                                    \
    }

static const name_row names[] = {
    {"collections", "OrderedDict", NAME_DICT, 0},
    {"collections", "Counter", NAME_DICT, 0},
    {"collections", "defaultdict", NAME_FACTORY, 0},
    {"argparse", "Namespace", NAME_RECORD, 0},
    {"types", "SimpleNamespace", NAME_RECORD, 0},
    {"pathlib", "PosixPath", NAME_ARGS, 0},
    {"pathlib", "PurePosixPath", NAME_ARGS, 0},
    {"pathlib", "WindowsPath", NAME_ARGS, 0},
    {"_codecs", "encode", NAME_ENCODE, 0},
    BUILTIN("dict", NAME_DICT),
    BUILTIN("list", NAME_LIST),
    BUILTIN("set", NAME_LIST),
    BUILTIN("frozenset", NAME_LIST),
    BUILTIN("tuple", NAME_TUPLE),
    BUILTIN("complex", NAME_ARGS),
    BUILTIN("slice", NAME_ARGS),
    BUILTIN("bytes", NAME_BYTES),
    BUILTIN("int", NAME_TYPE),
    BUILTIN("float", NAME_TYPE),
    BUILTIN("bool", NAME_TYPE),
    BUILTIN("str", NAME_TYPE),
    BUILTIN("object", NAME_TYPE),
    NUMPY("scalar", NAME_SCALAR),
    NUMPY("_reconstruct", NAME_ARRAY),
    {"numpy", "dtype", NAME_KIND, 0},
    {"numpy", "ndarray", NAME_TYPE, 0},
    STORAGE("Float", F32),
    STORAGE("Double", F64),
    STORAGE("Half", F16),
    STORAGE("BFloat16", BF16),
    STORAGE("Long", I64),
    STORAGE("Int", I32),
    STORAGE("Short", I16),
    STORAGE("Char", I8),
    STORAGE("Byte", U8),
    STORAGE("Bool", BOOL),
    STORAGE("ComplexFloat", C64),
    {"torch", "UntypedStorage", NAME_STORAGE, U8},
    {"torch.storage", "UntypedStorage", NAME_STORAGE, U8},
    {"torch", "float32", NAME_DTYPE, F32},
    {"torch", "float64", NAME_DTYPE, F64},
    {"torch", "float16", NAME_DTYPE, F16},
    {"torch", "bfloat16", NAME_DTYPE, BF16},
    {"torch", "int64", NAME_DTYPE, I64},
    {"torch", "int32", NAME_DTYPE, I32},
    {"torch", "int16", NAME_DTYPE, I16},
    {"torch", "int8", NAME_DTYPE, I8},
    {"torch", "uint8", NAME_DTYPE, U8},
    {"torch", "bool", NAME_DTYPE, BOOL},
    {"torch", "complex64", NAME_DTYPE, C64},
    {"torch", "uint16", NAME_DTYPE, U16},
    {"torch", "uint32", NAME_DTYPE, U32},
    {"torch", "uint64", NAME_DTYPE, U64},
    {"torch", "float8_e4m3fn", NAME_DTYPE, F8_E4M3},
    {"torch", "float8_e5m2", NAME_DTYPE, F8_E5M2},
    {"torch", "Size", NAME_TUPLE, 0},
    {"torch", "device", NAME_FIRST, 0},
    {"torch", "strided", NAME_TYPE, 0},
    {"torch", "Tensor", NAME_TYPE, 0},
    {"torch.nn.parameter", "Parameter", NAME_TYPE, 0},
    {"torch.serialization", "_get_layout", NAME_FIRST, 0},
    {"torch._utils", "_rebuild_tensor", NAME_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v2", NAME_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v3", NAME_TENSOR3, 0},
    {"torch._utils", "_rebuild_parameter", NAME_FIRST, 0},
    {"torch._utils", "_rebuild_parameter_with_state", NAME_FIRST, 0},
    {"torch._tensor", "_rebuild_from_type_v2", NAME_TYPED, 0},
};

/* Bytes of a file as they may be shown. */
static void name_shown(char out[80], const char *text, size_t n)
{
    size_t i = 0;
    for (; i < n && i < 79; i++)
        out[i] = (char)(isprint((unsigned char)text[i]) ? text[i] : '?');
    out[i] = '\0';
}

static bool name_same(const char *name, const char *text, size_t n)
{
    return strlen(name) == n && memcmp(name, text, n) == 0;
}

st_status st_vm_global(st_vm *v, const char *module, size_t m, const char *name, size_t n,
                       st_obj *out)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!name_same(names[i].name, name, n) || !name_same(names[i].module, module, m)) continue;
        return st_vm_new(v, (st_py){.kind = ST_PY_GLOBAL, .a = (st_obj)i}, out);
    }
    char from[80], what[80];
    name_shown(from, module, m);
    name_shown(what, name, n);
    ST_FAIL(v->e, ST_EFORMAT,
            "%s: %s asks for %s.%s, which could run code and is refused: only tensors and plain "
            "data are read; where you trust the file, load it in Python and save "
            "model.state_dict()",
            v->path, v->what, from, what);
}

const char *st_py_name(const st_py *global)
{
    return names[global->a].name;
}

static const name_row *name_of(const st_vm *v, st_obj o)
{
    const st_py *g = st_py_at(v->p, o);
    return g->kind == ST_PY_GLOBAL ? &names[g->a] : NULL;
}

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

/* A new container of `kind` with the items of `from`: none if it is none. Dicts also from a list of
 * pairs. */
static st_status name_copy(st_vm *v, st_py_kind kind, int64_t from, st_obj *out)
{
    ST_TRY(st_vm_new(v, (st_py){.kind = (uint8_t)kind}, out));
    if (from < 0) return ST_OK;
    st_py_kind given = st_py_at(v->p, (st_obj)from)->kind;
    bool dict = kind == ST_PY_DICT || kind == ST_PY_RECORD;
    bool items = given == ST_PY_LIST || given == ST_PY_TUPLE;
    if (!items && !(dict && given == ST_PY_DICT)) return st_vm_damaged(v, "no list of items");
    int64_t n = st_py_at(v->p, (st_obj)from)->i;
    uint32_t c = st_py_at(v->p, (st_obj)from)->a;
    for (int64_t i = 0; i < n; i++, c = v->p->cell[c].next) {
        int64_t key = v->p->cell[c].key, value = v->p->cell[c].value;
        if (dict && items) {
            const st_py *pair = st_py_at(v->p, (st_obj)value);
            if ((pair->kind != ST_PY_TUPLE && pair->kind != ST_PY_LIST) || pair->i != 2) {
                return st_vm_damaged(v, "a dict of what are no pairs");
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
static st_status name_tensor(st_vm *v, st_obj args, bool typed, st_obj *out)
{
    enum { STORAGE_AT, OFFSET, SIZES, STRIDES, DTYPE = 6 };
    st_pickle *p = v->p;
    const st_py *list = st_py_at(p, args), *storage = st_py_item(p, list, STORAGE_AT);
    const st_py *offset = st_py_item(p, list, OFFSET), *sizes = st_py_item(p, list, SIZES);
    const st_py *strides = st_py_item(p, list, STRIDES);
    const st_py *dtype = typed ? st_py_item(p, list, DTYPE) : NULL;
    if (!strides || storage->kind != ST_PY_STORAGE || offset->kind != ST_PY_INT ||
        sizes->kind != ST_PY_TUPLE || strides->kind != ST_PY_TUPLE || sizes->i != strides->i) {
        return st_vm_damaged(v, "a tensor without storage, offset, sizes and strides");
    }
    int element = storage->dtype;
    if (typed) {
        const name_row *row = dtype && dtype->kind == ST_PY_GLOBAL ? &names[dtype->a] : NULL;
        if (!row || row->what != NAME_DTYPE) return st_vm_damaged(v, "a tensor without dtype");
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

/* numpy's scalar(dtype, bytes) as a number; a kind that is no number becomes opaque. */
static st_status name_scalar(st_vm *v, st_obj args, st_obj *out)
{
    const st_py *list = st_py_at(v->p, args), *kind = st_py_item(v->p, list, 0);
    const st_py *bytes = st_py_item(v->p, list, 1);
    if (!bytes || kind->kind != ST_PY_KIND) return st_vm_damaged(v, "a numpy scalar of no dtype");
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
        o.f = (double)st_f16_to_f32((uint16_t)u);
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

/* The argument k as a value of another kind: what it is seen as. */
static st_status name_seen(st_vm *v, st_obj args, st_py_kind given, st_py_kind kind, st_obj *out)
{
    const st_py *first = st_py_item(v->p, st_py_at(v->p, args), 0);
    if (!first || first->kind != given) return st_vm_damaged(v, "an argument of another type");
    return st_vm_new(v, (st_py){.kind = (uint8_t)kind, .a = first->a, .b = first->b}, out);
}

/* function(*arguments) of (function, type, arguments, state): a tensor, or a parameter of one. */
static st_status name_typed(st_vm *v, st_obj args, st_obj *out)
{
    int64_t function = name_arg(v, args, 0), inner = name_arg(v, args, 2);
    const name_row *row = function < 0 ? NULL : name_of(v, (st_obj)function);
    if (!row || inner < 0 || st_py_at(v->p, (st_obj)inner)->kind != ST_PY_TUPLE ||
        (row->what != NAME_TENSOR && row->what != NAME_TENSOR3)) {
        return st_vm_damaged(v, "a tensor of a type that is not read");
    }
    return name_tensor(v, (st_obj)inner, row->what == NAME_TENSOR3, out);
}

st_status st_vm_call(st_vm *v, st_obj callable, st_obj args, st_obj *out)
{
    const name_row *row = name_of(v, callable);
    if (!row) return st_vm_damaged(v, "a call of what is no function");
    int64_t first = name_arg(v, args, 0);
    switch (row->what) {
    case NAME_DICT: return name_copy(v, ST_PY_DICT, first, out);
    case NAME_FACTORY: return name_copy(v, ST_PY_DICT, -1, out);
    case NAME_RECORD: return name_copy(v, ST_PY_RECORD, -1, out);
    case NAME_LIST: return name_copy(v, ST_PY_LIST, first, out);
    case NAME_TUPLE: return name_copy(v, ST_PY_TUPLE, first, out);
    case NAME_ARGS: *out = args; return ST_OK;
    case NAME_FIRST:
        if (first < 0) return st_vm_damaged(v, "a call without arguments");
        *out = (st_obj)first;
        return ST_OK;
    case NAME_TENSOR: return name_tensor(v, args, false, out);
    case NAME_TENSOR3: return name_tensor(v, args, true, out);
    case NAME_TYPED: return name_typed(v, args, out);
    case NAME_ENCODE: return name_seen(v, args, ST_PY_STR, ST_PY_LATIN, out);
    case NAME_BYTES: return st_vm_new(v, (st_py){.kind = ST_PY_BYTES}, out);
    case NAME_KIND: return name_seen(v, args, ST_PY_STR, ST_PY_KIND, out);
    case NAME_SCALAR: return name_scalar(v, args, out);
    case NAME_ARRAY: return st_vm_new(v, (st_py){.kind = ST_PY_OPAQUE}, out);
    case NAME_TYPE:
    case NAME_STORAGE:
    case NAME_DTYPE: break;
    }
    ST_FAIL(v->e, ST_EFORMAT, "%s: %s calls %s.%s, which no data needs; it is refused", v->path,
            v->what, row->module, row->name);
}

/* ("storage", type, key, location, elements[, view]): what torch.save names its storages by. */
st_status st_vm_persistent(st_vm *v, st_obj id, st_obj *out)
{
    const st_pickle *p = v->p;
    const st_py *list = st_py_at(p, id), *tag = st_py_item(p, list, 0);
    const st_py *type = st_py_item(p, list, 1), *key = st_py_item(p, list, 2);
    const st_py *n = st_py_item(p, list, 4), *view = st_py_item(p, list, 5);
    if (tag && st_py_is(p, tag, "module")) {
        ST_FAIL(v->e, ST_EFORMAT,
                "%s: %s holds a whole module with its source text, which could run code; load it "
                "where you trust it and save model.state_dict()",
                v->path, v->what);
    }
    const name_row *row = type && type->kind == ST_PY_GLOBAL ? &names[type->a] : NULL;
    if (!n || !st_py_is(p, tag, "storage") || !row || row->what != NAME_STORAGE ||
        key->kind != ST_PY_STR || n->kind != ST_PY_INT || n->i < 0) {
        return st_vm_damaged(v, "a persistent id that is no storage");
    }
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

/* Attributes of a record; the byte order of a numpy dtype. Those of a dict (state_dict's
 * "_metadata"), a tensor and an opaque value are left out. */
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
    if (o->kind != ST_PY_RECORD) {
        bool known = o->kind == ST_PY_DICT || o->kind == ST_PY_TENSOR || o->kind == ST_PY_OPAQUE;
        return known ? ST_OK : st_vm_damaged(v, "attributes of what has none");
    }
    if (s->kind != ST_PY_DICT) return st_vm_damaged(v, "attributes that are no dict");
    int64_t n = s->i;
    uint32_t c = s->a;
    for (int64_t i = 0; i < n; i++, c = p->cell[c].next)
        ST_TRY(st_vm_append(v, object, p->cell[c].key, p->cell[c].value));
    return ST_OK;
}
