/* pickle: Python's pickles, read into a graph of plain values. Nothing is ever executed: names of
 * classes and functions are looked up in a table of what is data, and all others stand for inert
 * objects, which keep their attributes and the name that made them. Part of the door of files. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FILES_PICKLE_H
#define ST_FILES_PICKLE_H

#include "base/base.h"

/* A value is an index into st_pickle.obj, items of containers are chains of cells. */
typedef uint32_t st_obj;

typedef enum {
    ST_PY_NONE,
    ST_PY_BOOL,    /* i */
    ST_PY_INT,     /* i */
    ST_PY_BIG,     /* an int beyond 64 bits: its two's complement bytes in a, b */
    ST_PY_FLOAT,   /* f */
    ST_PY_STR,     /* text at a, b bytes */
    ST_PY_BYTES,   /* bytes at a, b of them */
    ST_PY_LATIN,   /* bytes, written as the UTF-8 at a, b of the characters 0 to 255 */
    ST_PY_LIST,    /* also sets: cells from a to b, i of them */
    ST_PY_TUPLE,   /* likewise */
    ST_PY_DICT,    /* likewise, with keys */
    ST_PY_RECORD,  /* an object with attributes: a dict that BUILD fills */
    ST_PY_GLOBAL,  /* row a of the table of names */
    ST_PY_FOREIGN, /* a name that is not in it: module at a, b bytes; name at i >> 32, i &
                    * 0xffffffff
                    */
    ST_PY_KIND,    /* a numpy dtype: its text at a, b; i = 1 for big endian */
    ST_PY_STORAGE, /* key at a, b; i elements of `dtype` */
    ST_PY_TENSOR,  /* storage a; cell b is (sizes, strides); from element i, of `dtype` */
    ST_PY_OPAQUE,  /* known to be data, but of no use here */
    ST_PY_MARK     /* on the stack only */
} st_py_kind;

typedef struct {
    uint8_t kind, dtype;
    st_obj a, b;
    st_obj of; /* an inert object: the name that made it, in a way that is not read; else 0 */
    union {
        int64_t i;
        double f;
    };
} st_py;

typedef struct {
    st_obj key, value; /* key: of dicts */
    uint32_t next;     /* 0: the last */
} st_py_cell;

typedef struct {
    const char *text; /* of the pickle: borrowed, texts lie in it */
    size_t size;      /* of the pickle, to its STOP */
    st_py *obj;
    st_py_cell *cell; /* cell 0 is not used */
    uint32_t objects, objects_cap, cells, cells_cap;
    st_obj root;
} st_pickle;

/* Reads one pickle from the beginning of text[0..n). `path` and `what` name it in errors. Memory:
 * at most some 250 MiB, and 40 times n. Release with st_pickle_free, also after failure. */
st_status st_pickle_load(st_pickle *p, const char *text, size_t n, const char *path,
                         const char *what, st_err *e);
void st_pickle_free(st_pickle *p);

static inline const st_py *st_py_at(const st_pickle *p, st_obj o)
{
    return &p->obj[o];
}
/* Element k of a list or tuple, NULL if there are fewer. Walks: for short ones. */
const st_py *st_py_item(const st_pickle *p, const st_py *list, int64_t k);
/* dict[key], the last if given twice; NULL if it is not there or `dict` is no dict or record. */
const st_py *st_py_get(const st_pickle *p, const st_py *dict, const char *key);
bool st_py_is(const st_pickle *p, const st_py *text, const char *s);

/* The last part of a GLOBAL's name: "float16". */
const char *st_py_name(const st_py *global);
/* "module.name" of what made an inert object, or of a foreign name itself; false: `o` is neither.
 */
enum { ST_PY_MAKER = 160 };
bool st_py_maker(const st_pickle *p, const st_py *o, char out[ST_PY_MAKER]);

/* Element types of tensors, by st_py.dtype. */
typedef struct {
    char name[8]; /* as safetensors calls it */
    int size;
} st_py_dtype;
extern const st_py_dtype st_py_dtypes[];

#endif
