/* pickle_vm: what the files of the pickle reader share: pickle.c (memory), pickle_ops.c (opcodes),
 * pickle_names.c (the table of names) and pickle_calls.c (what calls stand for). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FILES_PICKLE_VM_H
#define ST_FILES_PICKLE_VM_H

#include "files/pickle.h"

/* The first values of every pickle. */
enum { ST_VM_NONE, ST_VM_FALSE, ST_VM_TRUE, ST_VM_MARKED, ST_VM_FIRST };

typedef struct {
    st_pickle *p;
    const char *path, *what;
    const unsigned char *at, *end;
    st_obj *stack, *memo;
    uint32_t depth, stack_cap, memos, memo_cap;
    bool done;
    st_err *e;
} st_vm;

/* pickle.c: memory and the stack. */
st_status st_vm_damaged(const st_vm *v, const char *why);
st_status st_vm_new(st_vm *v, st_py value, st_obj *out);
st_status st_vm_append(st_vm *v, st_obj container, st_obj key, st_obj value);
/* Room for one more element in a growing array (a pointer to its pointer) of at most `most`. */
st_status st_vm_grow(const st_vm *v, void *array, uint32_t n, uint32_t *cap, size_t size,
                     uint32_t most, const char *what);
st_status st_vm_push(st_vm *v, st_obj o);
st_status st_vm_push_new(st_vm *v, st_py value);
/* The value on top, which is no mark. */
st_status st_vm_top(st_vm *v, st_obj *out);
st_status st_vm_pop(st_vm *v, st_obj *out);

/* pickle_ops.c: runs to STOP. */
st_status st_vm_run(st_vm *v);

/* pickle_names.c: module.name as a GLOBAL, or as FOREIGN. */
st_status st_vm_global(st_vm *v, const char *module, size_t m, const char *name, size_t n,
                       st_obj *out);
/* pickle_calls.c: what callable(*args) stands for, an inert object if that is not known; persistent
 * ids; and what object.__setstate__(state) changes. */
st_status st_vm_call(st_vm *v, st_obj callable, st_obj args, st_obj *out);
st_status st_vm_inert(st_vm *v, st_obj callable, st_obj *out);
st_status st_vm_persistent(st_vm *v, st_obj id, st_obj *out);
st_status st_vm_build(st_vm *v, st_obj object, st_obj state);

/* What a name is: data, or what calling it gives. */
typedef enum {
    NAME_TYPE,     /* only named, never called */
    NAME_STORAGE,  /* torch.FloatStorage: in persistent ids */
    NAME_DTYPE,    /* torch.float32 */
    NAME_DICT,     /* dict(), dict(pairs) */
    NAME_FACTORY,  /* defaultdict(type) */
    NAME_RECORD,   /* an object whose attributes BUILD sets */
    NAME_LIST,     /* list(items), set(items) */
    NAME_TUPLE,    /* torch.Size(items) */
    NAME_ARGS,     /* complex(1, 2), Path("a", "b"): the arguments as a tuple */
    NAME_FIRST,    /* the first argument: Parameter(data, ...), torch.device(text) */
    NAME_TENSOR,   /* (storage, offset, sizes, strides, ...) */
    NAME_TENSOR3,  /* (storage, offset, sizes, strides, grad, hooks, dtype, ...) */
    NAME_INSTANCE, /* (class, ...): a new one of it, whose attributes BUILD sets */
    NAME_TYPED,    /* (function, type, arguments, state): function(*arguments) */
    NAME_ENCODE,   /* _codecs.encode(text, "latin1"): bytes */
    NAME_BYTES,    /* bytes(): none */
    NAME_KIND,     /* numpy.dtype(text, ...) */
    NAME_SCALAR,   /* numpy's scalar(dtype, bytes) */
    NAME_ARRAY     /* numpy's arrays: only as something that is there */
} name_what;

typedef struct {
    const char *module, *name;
    name_what what;
    int dtype;
} name_row;

/* The row of a known name, NULL if `o` is none. */
const name_row *st_vm_name(const st_vm *v, st_obj o);

#endif
