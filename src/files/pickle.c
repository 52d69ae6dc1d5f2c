/* Python's pickles as graphs of plain values: their memory, and reading it.
 *
 * Values are built, never evaluated. There is no recursion, and everything that grows has a limit,
 * so that no pickle can use much time or memory. */
/* SPDX-License-Identifier: MIT */
#include "files/pickle_vm.h"
#include <stdlib.h>
#include <string.h>

/* PyTorch writes some 15 values a tensor; the largest models have some thousands of tensors. */
enum { VM_OBJECTS = 1 << 22, VM_CELLS = 1 << 23, VM_STACK = 1 << 20 };

st_status st_vm_damaged(const st_vm *v, const char *why)
{
    ST_FAIL(v->e, ST_EFORMAT, "%s: %s is damaged at byte %lld: %s; get the file again", v->path,
            v->what, (long long)((const char *)v->at - v->p->text), why);
}

/* Room for one more element in a growing array of at most `most`. */
st_status st_vm_grow(const st_vm *v, void *array, uint32_t n, uint32_t *cap, size_t size,
                     uint32_t most, const char *what)
{
    if (n < *cap) return ST_OK;
    if (n >= most) {
        ST_FAIL(v->e, ST_EFORMAT, "%s: %s has more than %u %s, which no model needs", v->path,
                v->what, most, what);
    }
    uint32_t more = *cap ? *cap * 2 : 256;
    void *old, *p;
    more = more > most ? most : more;
    memcpy(&old, array, sizeof old);
    p = realloc(old, (size_t)more * size);
    if (!p) ST_FAIL(v->e, ST_ENOMEM, "%s: out of memory for %s", v->path, v->what);
    memcpy(array, &p, sizeof p);
    *cap = more;
    return ST_OK;
}

st_status st_vm_new(st_vm *v, st_py value, st_obj *out)
{
    st_pickle *p = v->p;
    ST_TRY(
        st_vm_grow(v, &p->obj, p->objects, &p->objects_cap, sizeof *p->obj, VM_OBJECTS, "values"));
    p->obj[p->objects] = value;
    *out = p->objects++;
    return ST_OK;
}

st_status st_vm_append(st_vm *v, st_obj container, st_obj key, st_obj value)
{
    st_pickle *p = v->p;
    ST_TRY(st_vm_grow(v, &p->cell, p->cells, &p->cells_cap, sizeof *p->cell, VM_CELLS, "items"));
    uint32_t c = p->cells++;
    st_py *o = &p->obj[container];
    p->cell[c] = (st_py_cell){.key = key, .value = value};
    if (o->i++)
        p->cell[o->b].next = c;
    else
        o->a = c;
    o->b = c;
    return ST_OK;
}

/* ---- stack ----------------------------------------------------------------------------------- */

st_status st_vm_push(st_vm *v, st_obj o)
{
    ST_TRY(st_vm_grow(v, &v->stack, v->depth, &v->stack_cap, sizeof *v->stack, VM_STACK,
                      "values on its stack"));
    v->stack[v->depth++] = o;
    return ST_OK;
}

st_status st_vm_push_new(st_vm *v, st_py value)
{
    st_obj o;
    ST_TRY(st_vm_new(v, value, &o));
    return st_vm_push(v, o);
}

/* The value on top, which is no mark. */
st_status st_vm_top(st_vm *v, st_obj *out)
{
    if (!v->depth || v->stack[v->depth - 1] == ST_VM_MARKED) {
        return st_vm_damaged(v, "a value is missing on its stack");
    }
    *out = v->stack[v->depth - 1];
    return ST_OK;
}

st_status st_vm_pop(st_vm *v, st_obj *out)
{
    ST_TRY(st_vm_top(v, out));
    v->depth--;
    return ST_OK;
}

st_status st_pickle_load(st_pickle *p, const char *text, size_t n, const char *path,
                         const char *what, st_err *e)
{
    *p = (st_pickle){.text = text, .cells = 1};
    const unsigned char *bytes = (const unsigned char *)text;
    st_vm v = {.p = p, .path = path, .what = what, .at = bytes, .end = bytes + n, .e = e};
    static const st_py first[ST_VM_FIRST] = {[ST_VM_FALSE] = {.kind = ST_PY_BOOL},
                                             [ST_VM_TRUE] = {.kind = ST_PY_BOOL, .i = 1},
                                             [ST_VM_MARKED] = {.kind = ST_PY_MARK}};
    st_obj ignored;
    st_status s = n > UINT32_MAX ? ST_ERR(e, ST_EFORMAT, "%s: %s is too long", path, what) : ST_OK;
    if (!s) s = st_vm_grow(&v, &p->cell, 0, &p->cells_cap, sizeof *p->cell, VM_CELLS, "items");
    for (int i = 0; !s && i < ST_VM_FIRST; i++)
        s = st_vm_new(&v, first[i], &ignored);
    if (!s) s = st_vm_run(&v);
    p->size = (size_t)(v.at - bytes);
    free(v.stack);
    free(v.memo);
    return s;
}

void st_pickle_free(st_pickle *p)
{
    free(p->obj);
    free(p->cell);
    *p = (st_pickle){0};
}

const st_py *st_py_item(const st_pickle *p, const st_py *list, int64_t k)
{
    if (list->kind != ST_PY_LIST && list->kind != ST_PY_TUPLE) return NULL;
    if (k < 0 || k >= list->i) return NULL;
    uint32_t c = list->a;
    for (int64_t i = 0; i < k; i++)
        c = p->cell[c].next;
    return &p->obj[p->cell[c].value];
}

bool st_py_is(const st_pickle *p, const st_py *text, const char *s)
{
    return text->kind == ST_PY_STR && text->b == strlen(s) &&
           memcmp(p->text + text->a, s, text->b) == 0;
}

const st_py *st_py_get(const st_pickle *p, const st_py *dict, const char *key)
{
    const st_py *found = NULL;
    if (dict->kind != ST_PY_DICT && dict->kind != ST_PY_RECORD) return NULL;
    for (uint32_t c = dict->i ? dict->a : 0; c; c = p->cell[c].next) {
        if (st_py_is(p, &p->obj[p->cell[c].key], key)) found = &p->obj[p->cell[c].value];
    }
    return found;
}
