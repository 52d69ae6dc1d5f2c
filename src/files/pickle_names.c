/* The names of classes and functions in pickles that mean something here, and what calling each
 * stands for: what torch.save writes for tensors (torch/_utils.py, torch/serialization.py of
 * PyTorch 0.4 to 2), numpy's scalars, and plain data. Any other name is only kept as a name: what
 * Python would import and run there could be anything, and makes an inert object here. */
/* SPDX-License-Identifier: MIT */
#include "files/pickle_vm.h"
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
    {"copyreg", "_reconstructor", NAME_INSTANCE, 0},
    {"copy_reg", "_reconstructor", NAME_INSTANCE, 0},
    {"copyreg", "__newobj__", NAME_INSTANCE, 0},
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
    int64_t at = name - v->p->text;
    return st_vm_new(v,
                     (st_py){.kind = ST_PY_FOREIGN,
                             .a = (st_obj)(module - v->p->text),
                             .b = (st_obj)m,
                             .i = at << 32 | (int64_t)n},
                     out);
}

const char *st_py_name(const st_py *global)
{
    return names[global->a].name;
}

const name_row *st_vm_name(const st_vm *v, st_obj o)
{
    const st_py *g = st_py_at(v->p, o);
    return g->kind == ST_PY_GLOBAL ? &names[g->a] : NULL;
}

/* Bytes of a file as they may be shown, at out[at]; returns where they end. */
static size_t name_shown(char out[ST_PY_MAKER], size_t at, size_t most, const char *text, size_t n)
{
    for (size_t i = 0; i < n && at < most; i++)
        out[at++] = (char)(isprint((unsigned char)text[i]) ? text[i] : '?');
    return at;
}

bool st_py_maker(const st_pickle *p, const st_py *o, char out[ST_PY_MAKER])
{
    const st_py *name = o->of ? st_py_at(p, o->of) : o;
    out[0] = '\0';
    if (name->kind == ST_PY_GLOBAL && o->of) {
        snprintf(out, ST_PY_MAKER, "%s.%s", names[name->a].module, names[name->a].name);
        return true;
    }
    if (name->kind != ST_PY_FOREIGN) return false;
    size_t n = name_shown(out, 0, ST_PY_MAKER / 2, p->text + name->a, name->b);
    out[n++] = '.';
    n = name_shown(out, n, ST_PY_MAKER - 1, p->text + (name->i >> 32), (uint32_t)name->i);
    out[n] = '\0';
    return true;
}
