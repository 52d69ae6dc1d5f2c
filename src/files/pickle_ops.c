/* The opcodes of Python's pickles, protocols 2 to 5 (Lib/pickletools.py of CPython describes every
 * one), reduced to what makes data: an opcode that would import or call something goes to
 * pickle_names.c and pickle_calls.c. */
/* Long: a table of opcodes and what each does to one stack. */
/* SPDX-License-Identifier: MIT */
#include "files/pickle_vm.h"
#include <stdlib.h>
#include <string.h>

enum {
    VM_MEMO = 1 << 22, /* the largest memo number */
    VM_BIG = 1024      /* bytes of a whole number */
};

/* Where the values above the last mark begin. */
static st_status vm_mark(st_vm *v, uint32_t *first)
{
    uint32_t i = v->depth;
    while (i && v->stack[i - 1] != ST_VM_MARKED)
        i--;
    *first = i;
    return i ? ST_OK : st_vm_damaged(v, "a mark is missing on its stack");
}

/* n bytes of the pickle. */
static st_status vm_bytes(st_vm *v, size_t n, const unsigned char **out)
{
    *out = v->at;
    if ((size_t)(v->end - v->at) < n) return st_vm_damaged(v, "it ends too early");
    v->at += n;
    return ST_OK;
}

/* A little-endian number of n bytes. */
static st_status vm_number(st_vm *v, int n, uint64_t *out)
{
    const unsigned char *b;
    ST_TRY(vm_bytes(v, (size_t)n, &b));
    *out = 0;
    memcpy(out, b, (size_t)n);
    return ST_OK;
}

/* ---- opcodes: `arg` is from their row -------------------------------------------------------- */

typedef st_status vm_op(st_vm *v, int arg);

static st_status vm_constant(st_vm *v, int which)
{
    return st_vm_push(v, (st_obj)which);
}

static st_status vm_empty(st_vm *v, int kind)
{
    return st_vm_push_new(v, (st_py){.kind = (uint8_t)kind});
}

/* -4: signed. */
static st_status vm_int(st_vm *v, int width)
{
    uint64_t u;
    ST_TRY(vm_number(v, abs(width), &u));
    return st_vm_push_new(
        v, (st_py){.kind = ST_PY_INT, .i = width < 0 ? (int64_t)(int32_t)u : (int64_t)u});
}

/* A whole number of any length, after its length in `width` bytes. */
static st_status vm_long(st_vm *v, int width)
{
    uint64_t n;
    const unsigned char *b;
    ST_TRY(vm_number(v, width, &n));
    if (n > VM_BIG) return st_vm_damaged(v, "a whole number of more than 1024 bytes");
    ST_TRY(vm_bytes(v, (size_t)n, &b));
    if (n > 8) {
        st_obj at = (st_obj)((const char *)b - v->p->text);
        return st_vm_push_new(v, (st_py){.kind = ST_PY_BIG, .a = at, .b = (st_obj)n});
    }
    uint64_t u = n && b[n - 1] & 0x80 ? UINT64_MAX : 0;
    memcpy(&u, b, (size_t)n);
    return st_vm_push_new(v, (st_py){.kind = ST_PY_INT, .i = (int64_t)u});
}

static st_status vm_float(st_vm *v, int arg)
{
    const unsigned char *b;
    uint64_t u;
    (void)arg;
    ST_TRY(vm_bytes(v, 8, &b));
    memcpy(&u, b, 8);
    u = __builtin_bswap64(u);
    st_py o = {.kind = ST_PY_FLOAT};
    memcpy(&o.f, &u, 8);
    return st_vm_push_new(v, o);
}

static st_status vm_text(st_vm *v, int width, st_py_kind kind)
{
    uint64_t n;
    const unsigned char *b;
    ST_TRY(vm_number(v, width, &n));
    if (n > (size_t)(v->end - v->at)) return st_vm_damaged(v, "it ends within a text");
    ST_TRY(vm_bytes(v, (size_t)n, &b));
    st_obj at = (st_obj)((const char *)b - v->p->text);
    return st_vm_push_new(v, (st_py){.kind = (uint8_t)kind, .a = at, .b = (st_obj)n});
}

static st_status vm_str(st_vm *v, int width)
{
    return vm_text(v, width, ST_PY_STR);
}

static st_status vm_raw(st_vm *v, int width)
{
    return vm_text(v, width, ST_PY_BYTES);
}

/* Everything above the mark into a new list or tuple, in its place. */
static st_status vm_gather(st_vm *v, int kind)
{
    uint32_t first;
    st_obj o;
    ST_TRY(vm_mark(v, &first));
    ST_TRY(st_vm_new(v, (st_py){.kind = (uint8_t)kind}, &o));
    for (uint32_t i = first; i < v->depth; i++)
        ST_TRY(st_vm_append(v, o, ST_VM_NONE, v->stack[i]));
    v->depth = first - 1;
    return st_vm_push(v, o);
}

static st_status vm_tuple(st_vm *v, int n)
{
    st_obj o;
    if (v->depth < (uint32_t)n) return st_vm_damaged(v, "a tuple lacks values");
    ST_TRY(st_vm_new(v, (st_py){.kind = ST_PY_TUPLE}, &o));
    for (uint32_t i = v->depth - (uint32_t)n; i < v->depth; i++) {
        if (v->stack[i] == ST_VM_MARKED) return st_vm_damaged(v, "a mark in a tuple");
        ST_TRY(st_vm_append(v, o, ST_VM_NONE, v->stack[i]));
    }
    v->depth -= (uint32_t)n;
    return st_vm_push(v, o);
}

/* The values from stack[first] on, alone or in pairs, into the container below them; `marked`:
 * there is a mark between. */
static st_status vm_fill(st_vm *v, uint32_t first, bool marked, bool pairs)
{
    uint32_t below = marked ? 2 : 1;
    if (first < below || v->stack[first - below] == ST_VM_MARKED) {
        return st_vm_damaged(v, "values without their container");
    }
    st_obj to = v->stack[first - below];
    st_py_kind kind = v->p->obj[to].kind;
    uint32_t n = v->depth - first;
    bool fits = pairs ? kind == ST_PY_DICT || kind == ST_PY_RECORD : kind == ST_PY_LIST;
    if (pairs && n % 2) return st_vm_damaged(v, "a key without its value");
    bool inert = kind == ST_PY_OPAQUE || kind == ST_PY_RECORD || kind == ST_PY_BYTES;
    if (!fits && !inert) return st_vm_damaged(v, "items for what is no container");
    for (uint32_t i = first; fits && i < v->depth; i += pairs ? 2 : 1) {
        st_obj key = pairs ? v->stack[i] : ST_VM_NONE, value = v->stack[pairs ? i + 1 : i];
        ST_TRY(st_vm_append(v, to, key, value));
    }
    v->depth = first - below + 1;
    return ST_OK;
}

static st_status vm_items(st_vm *v, int pairs)
{
    uint32_t first;
    ST_TRY(vm_mark(v, &first));
    return vm_fill(v, first, true, pairs);
}

static st_status vm_item(st_vm *v, int pairs)
{
    uint32_t n = pairs ? 2 : 1;
    if (v->depth < n + 1) return st_vm_damaged(v, "a value is missing on its stack");
    for (uint32_t i = v->depth - n; i < v->depth; i++) {
        if (v->stack[i] == ST_VM_MARKED) return st_vm_damaged(v, "a mark as an item");
    }
    return vm_fill(v, v->depth - n, false, pairs);
}

/* DICT: the pairs above the mark as a new dict. */
static st_status vm_dict(st_vm *v, int arg)
{
    uint32_t first;
    st_obj o;
    (void)arg;
    ST_TRY(vm_mark(v, &first));
    ST_TRY(st_vm_new(v, (st_py){.kind = ST_PY_DICT}, &o));
    v->stack[first - 1] = o;
    return vm_fill(v, first, false, true);
}

static st_status vm_drop(st_vm *v, int arg)
{
    (void)arg;
    if (!v->depth) return st_vm_damaged(v, "its stack is empty");
    v->depth--;
    return ST_OK;
}

static st_status vm_drop_mark(st_vm *v, int arg)
{
    uint32_t first;
    (void)arg;
    ST_TRY(vm_mark(v, &first));
    v->depth = first - 1;
    return ST_OK;
}

static st_status vm_dup(st_vm *v, int arg)
{
    st_obj o;
    (void)arg;
    ST_TRY(st_vm_top(v, &o));
    return st_vm_push(v, o);
}

static st_status vm_remember(st_vm *v, uint64_t at)
{
    st_obj o;
    ST_TRY(st_vm_top(v, &o));
    if (at >= VM_MEMO) return st_vm_damaged(v, "a memo number beyond 4194304");
    while (v->memo_cap <= at) {
        uint32_t old = v->memo_cap;
        ST_TRY(st_vm_grow(v, &v->memo, old, &v->memo_cap, sizeof *v->memo, VM_MEMO, "memos"));
        memset(v->memo + old, 0xff, (v->memo_cap - old) * sizeof *v->memo);
    }
    if (v->memo[at] == UINT32_MAX) v->memos++;
    v->memo[at] = o;
    return ST_OK;
}

static st_status vm_put(st_vm *v, int width)
{
    uint64_t at;
    ST_TRY(vm_number(v, width, &at));
    return vm_remember(v, at);
}

static st_status vm_memoize(st_vm *v, int arg)
{
    (void)arg;
    return vm_remember(v, v->memos);
}

static st_status vm_get(st_vm *v, int width)
{
    uint64_t at;
    ST_TRY(vm_number(v, width, &at));
    if (at >= v->memo_cap || v->memo[at] == UINT32_MAX) {
        return st_vm_damaged(v, "it recalls a memo that was not made");
    }
    return st_vm_push(v, v->memo[at]);
}

/* GLOBAL: two lines of text. */
static st_status vm_global(st_vm *v, int arg)
{
    const char *line[2];
    size_t n[2];
    (void)arg;
    for (int i = 0; i < 2; i++) {
        const unsigned char *stop = memchr(v->at, '\n', (size_t)(v->end - v->at));
        if (!stop) return st_vm_damaged(v, "it ends within a name");
        line[i] = (const char *)v->at;
        n[i] = (size_t)(stop - v->at);
        v->at = stop + 1;
    }
    st_obj o;
    ST_TRY(st_vm_global(v, line[0], n[0], line[1], n[1], &o));
    return st_vm_push(v, o);
}

static st_status vm_stack_global(st_vm *v, int arg)
{
    st_obj name, module, o;
    (void)arg;
    ST_TRY(st_vm_pop(v, &name));
    ST_TRY(st_vm_pop(v, &module));
    const st_py *m = st_py_at(v->p, module), *n = st_py_at(v->p, name);
    if (m->kind != ST_PY_STR || n->kind != ST_PY_STR) return st_vm_damaged(v, "a name is no text");
    ST_TRY(st_vm_global(v, v->p->text + m->a, m->b, v->p->text + n->a, n->b, &o));
    return st_vm_push(v, o);
}

/* REDUCE and NEWOBJ; with `keywords` one more value: only names that mean nothing here take some.
 */
static st_status vm_call(st_vm *v, int keywords)
{
    st_obj callable, args, more = ST_VM_NONE, o;
    if (keywords) ST_TRY(st_vm_pop(v, &more));
    ST_TRY(st_vm_pop(v, &args));
    ST_TRY(st_vm_pop(v, &callable));
    const st_py *k = st_py_at(v->p, more);
    if (st_py_at(v->p, args)->kind != ST_PY_TUPLE) {
        return st_vm_damaged(v, "arguments that are no tuple");
    }
    if (keywords && (k->kind != ST_PY_DICT || k->i))
        ST_TRY(st_vm_inert(v, callable, &o));
    else
        ST_TRY(st_vm_call(v, callable, args, &o));
    return st_vm_push(v, o);
}

static st_status vm_build(st_vm *v, int arg)
{
    st_obj state, object;
    (void)arg;
    ST_TRY(st_vm_pop(v, &state));
    ST_TRY(st_vm_top(v, &object));
    return st_vm_build(v, object, state);
}

static st_status vm_persistent(st_vm *v, int arg)
{
    st_obj id, o;
    (void)arg;
    ST_TRY(st_vm_pop(v, &id));
    ST_TRY(st_vm_persistent(v, id, &o));
    return st_vm_push(v, o);
}

/* PROTO and FRAME: numbers that change nothing here. */
static st_status vm_skip(st_vm *v, int width)
{
    uint64_t ignored;
    ST_TRY(vm_number(v, width, &ignored));
    if (width == 1 && (ignored < 2 || ignored > 5)) {
        return st_vm_damaged(v, "it is of no protocol from 2 to 5");
    }
    return ST_OK;
}

static st_status vm_stop(st_vm *v, int arg)
{
    (void)arg;
    v->done = true;
    return st_vm_pop(v, &v->p->root);
}

/* Rows without a function are refused by name; absent ones are no opcodes. */
static const struct {
    const char *name;
    vm_op *run;
    int arg;
} vm_ops[256] = {
    ['('] = {"MARK", vm_constant, ST_VM_MARKED},
    ['.'] = {"STOP", vm_stop, 0},
    ['0'] = {"POP", vm_drop, 0},
    ['1'] = {"POP_MARK", vm_drop_mark, 0},
    ['2'] = {"DUP", vm_dup, 0},
    ['N'] = {"NONE", vm_constant, ST_VM_NONE},
    [0x88] = {"NEWTRUE", vm_constant, ST_VM_TRUE},
    [0x89] = {"NEWFALSE", vm_constant, ST_VM_FALSE},
    ['J'] = {"BININT", vm_int, -4},
    ['K'] = {"BININT1", vm_int, 1},
    ['M'] = {"BININT2", vm_int, 2},
    [0x8a] = {"LONG1", vm_long, 1},
    [0x8b] = {"LONG4", vm_long, 4},
    ['G'] = {"BINFLOAT", vm_float, 0},
    ['U'] = {"SHORT_BINSTRING", vm_str, 1},
    ['T'] = {"BINSTRING", vm_str, 4},
    [0x8c] = {"SHORT_BINUNICODE", vm_str, 1},
    ['X'] = {"BINUNICODE", vm_str, 4},
    [0x8d] = {"BINUNICODE8", vm_str, 8},
    ['C'] = {"SHORT_BINBYTES", vm_raw, 1},
    ['B'] = {"BINBYTES", vm_raw, 4},
    [0x8e] = {"BINBYTES8", vm_raw, 8},
    [0x96] = {"BYTEARRAY8", vm_raw, 8},
    [']'] = {"EMPTY_LIST", vm_empty, ST_PY_LIST},
    [0x8f] = {"EMPTY_SET", vm_empty, ST_PY_LIST},
    [')'] = {"EMPTY_TUPLE", vm_empty, ST_PY_TUPLE},
    ['}'] = {"EMPTY_DICT", vm_empty, ST_PY_DICT},
    ['l'] = {"LIST", vm_gather, ST_PY_LIST},
    ['t'] = {"TUPLE", vm_gather, ST_PY_TUPLE},
    [0x91] = {"FROZENSET", vm_gather, ST_PY_LIST},
    [0x85] = {"TUPLE1", vm_tuple, 1},
    [0x86] = {"TUPLE2", vm_tuple, 2},
    [0x87] = {"TUPLE3", vm_tuple, 3},
    ['d'] = {"DICT", vm_dict, 0},
    ['a'] = {"APPEND", vm_item, 0},
    ['e'] = {"APPENDS", vm_items, 0},
    [0x90] = {"ADDITEMS", vm_items, 0},
    ['s'] = {"SETITEM", vm_item, 1},
    ['u'] = {"SETITEMS", vm_items, 1},
    ['q'] = {"BINPUT", vm_put, 1},
    ['r'] = {"LONG_BINPUT", vm_put, 4},
    [0x94] = {"MEMOIZE", vm_memoize, 0},
    ['h'] = {"BINGET", vm_get, 1},
    ['j'] = {"LONG_BINGET", vm_get, 4},
    ['c'] = {"GLOBAL", vm_global, 0},
    [0x93] = {"STACK_GLOBAL", vm_stack_global, 0},
    ['R'] = {"REDUCE", vm_call, 0},
    [0x81] = {"NEWOBJ", vm_call, 0},
    [0x92] = {"NEWOBJ_EX", vm_call, 1},
    ['b'] = {"BUILD", vm_build, 0},
    ['Q'] = {"BINPERSID", vm_persistent, 0},
    [0x80] = {"PROTO", vm_skip, 1},
    [0x95] = {"FRAME", vm_skip, 8},
    ['i'] = {"INST", NULL, 0},
    ['o'] = {"OBJ", NULL, 0},
    [0x82] = {"EXT1", NULL, 0},
    [0x83] = {"EXT2", NULL, 0},
    [0x84] = {"EXT4", NULL, 0},
    [0x97] = {"NEXT_BUFFER", NULL, 0},
    [0x98] = {"READONLY_BUFFER", NULL, 0},
    ['P'] = {"PERSID", NULL, 0},
    ['I'] = {"INT", NULL, 0},
    ['L'] = {"LONG", NULL, 0},
    ['F'] = {"FLOAT", NULL, 0},
    ['S'] = {"STRING", NULL, 0},
    ['V'] = {"UNICODE", NULL, 0},
    ['g'] = {"GET", NULL, 0},
    ['p'] = {"PUT", NULL, 0},
};

st_status st_vm_run(st_vm *v)
{
    const unsigned char *b;
    while (!v->done) {
        ST_TRY(vm_bytes(v, 1, &b));
        if (!vm_ops[*b].name) {
            v->at = b;
            return st_vm_damaged(v, "a byte that is no opcode");
        }
        if (!vm_ops[*b].run) {
            ST_FAIL(v->e, ST_EFORMAT,
                    "%s: %s uses the opcode %s, which torch.save does not write and which is not "
                    "read; load it where you trust it and save model.state_dict()",
                    v->path, v->what, vm_ops[*b].name);
        }
        ST_TRY(vm_ops[*b].run(v, vm_ops[*b].arg));
    }
    return ST_OK;
}
