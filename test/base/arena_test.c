/* Arenas: alignment, zeros, stack order, peaks, what must not be touched. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_take(void **state)
{
    (void)state;
    st_arena a;
    st_err e;
    assert_ok(st_arena_open(&a, 1000, &e), &e);
    assert_true(a.cap >= 1000);
    static const size_t size[] = {1, 64, 65, 0, 100};
    char *last = a.base;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        char *p = st_arena_take(&a, size[i]);
        assert_int_equal((uintptr_t)p % ST_ALIGN, 0);
        assert_ptr_equal(p, last);
        last = p + (size[i] + ST_ALIGN - 1) / ST_ALIGN * ST_ALIGN;
        for (size_t j = 0; j < size[i]; j++)
            assert_int_equal(p[j], 0);
        memset(p, 1, size[i]);
    }
    size_t mark = st_arena_mark(&a);
    assert_int_equal(mark, 64 + 64 + 128 + 0 + 128);
    char *p = st_arena_take(&a, 256);
    st_arena_rewind(&a, mark);
    assert_ptr_equal(st_arena_take(&a, 128), p);
    assert_int_equal(a.peak, mark + 256);
    assert_int_equal(a.used, mark + 128);
    st_arena_rewind(&a, 0);
    assert_ptr_equal(st_arena_take(&a, a.cap), a.base);
    st_arena_close(&a);
    assert_null(a.base);
    st_arena_close(&a);
    st_arena_close(NULL);
    assert_ok(st_arena_open(&a, 0, &e), &e);
    assert_non_null(st_arena_take(&a, 0));
    st_arena_close(&a);
}

static void test_too_much(void **state)
{
    (void)state;
    st_arena a;
    st_err e;
    assert_st(st_arena_open(&a, SIZE_MAX, &e), ST_ENOMEM, &e);
    assert_null(a.base);
    assert_st(st_arena_open(&a, (size_t)1 << 60, &e), ST_ENOMEM, &e);
    assert_says(&e, "MiB wanted");
    st_arena_close(&a);
    assert_null(st_calloc(-1, 1));
    assert_null(st_calloc(INT64_MAX, 1));
    assert_null(st_calloc(INT64_MAX / 4, 8));
    assert_null(st_calloc((int64_t)1 << 32, (size_t)1 << 32));
    char *p = st_calloc(0, 8), *q = st_calloc(8, 0), *r = st_calloc(1000, 3);
    assert_true(p && q && r);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(r[i], 0);
    free(p);
    free(q);
    free(r);
}

/* Sizes that no machine has, in address space only. */
static void test_counting(void **state)
{
    (void)state;
    st_arena a;
    st_err e;
    assert_ok(st_arena_open_counting(&a, &e), &e);
    assert_true(a.counting);
    char *p = st_arena_take(&a, (size_t)1 << 34), *q = st_arena_take(&a, 1);
    assert_int_equal(q - p, (int64_t)1 << 34);
    assert_int_equal(a.peak, ((size_t)1 << 34) + ST_ALIGN);
    /* More than all: said by the peak, which stays. */
    st_arena_take(&a, a.cap);
    assert_true(a.peak == SIZE_MAX);
    st_arena_take(&a, 1);
    assert_true(a.peak == SIZE_MAX);
    st_arena_close(&a);
}

/* Runs `what` in a child, which must end by a signal (or a sanitizer's exit). */
static void must_die(void (*what)(st_arena *), st_arena *a)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        signal(SIGSEGV, SIG_DFL); /* cmocka's would go on with the test */
        signal(SIGABRT, SIG_DFL);
        what(a);
        _exit(0);
    }
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_false(WIFEXITED(code) && WEXITSTATUS(code) == 0);
}

static void touch(st_arena *a)
{
    *(volatile char *)st_arena_take(a, 1) = 1;
}

static void overrun(st_arena *a)
{
    st_arena_take(a, a->cap + 1);
}

static void overflow(st_arena *a)
{
    st_arena_take(a, SIZE_MAX);
}

static void test_faults(void **state)
{
    (void)state;
    st_arena a, c;
    st_err e;
    assert_ok(st_arena_open(&a, 100, &e), &e);
    assert_ok(st_arena_open_counting(&c, &e), &e);
    must_die(touch, &c);
    must_die(overrun, &a);
    must_die(overflow, &a);
    st_arena_close(&a);
    st_arena_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
