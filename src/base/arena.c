/* Arenas over anonymous memory maps. */
/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A counting arena hands out addresses that no process has: they lie beyond what processors
 * translate for programs (x86-64: no canonical address, arm64: bit 55 is the kernel's), so that a
 * touch is a fault, and nothing is reserved where address space is limited (ulimit -v). */
#define COUNTING_BASE  ((uintptr_t)3 << 55)
#define COUNTING_BYTES ((size_t)1 << 44)

st_status st_arena_open(st_arena *a, size_t bytes, st_err *e)
{
    *a = (st_arena){0};
    size_t page = (size_t)1 << 21;
    if (bytes > SIZE_MAX - page) ST_FAIL(e, ST_ENOMEM, "arena: %zu bytes is too much", bytes);
    size_t cap = (bytes + page - 1) / page * page;
    if (cap == 0) cap = page;
    void *p = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        ST_FAIL(e, ST_ENOMEM, "out of memory: %.1f MiB wanted (%s); try a smaller batch or model",
                (double)bytes / 1048576.0, strerror(errno));
    }
    madvise(p, cap, MADV_HUGEPAGE); /* advice only */
    a->base = p;
    a->cap = cap;
    return ST_OK;
}

st_status st_arena_open_counting(st_arena *a, st_err *e)
{
    (void)e;
    *a = (st_arena){.base = (char *)COUNTING_BASE, .cap = COUNTING_BYTES, .counting = true};
    return ST_OK;
}

void st_arena_close(st_arena *a)
{
    if (!a || !a->base) return;
    if (!a->counting) munmap(a->base, a->cap);
    *a = (st_arena){0};
}

void *st_arena_take(st_arena *a, size_t bytes)
{
    size_t n = (bytes + ST_ALIGN - 1) / ST_ALIGN * ST_ALIGN;
    bool over = n < bytes || n > a->cap - a->used;
    if (over && a->counting) {
        a->peak = SIZE_MAX;
        return a->base;
    }
    if (over) {
        fprintf(stderr, "strut: internal error: arena of %zu bytes has %zu left, %zu wanted\n",
                a->cap, a->cap - a->used, bytes);
        abort();
    }
    void *p = a->base + a->used;
    a->used += n;
    if (a->used > a->peak) a->peak = a->used;
    return p;
}

void *st_calloc(int64_t count, size_t size)
{
    if (count < 0 || (size && (uint64_t)count > (uint64_t)(PTRDIFF_MAX / 2) / size)) return NULL;
    size_t n = (size_t)count;
    return calloc(n ? n : 1, size ? size : 1);
}
