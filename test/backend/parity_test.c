/* Parity of the cpu and cuda backends with ref: every operation, instruction set, thread count,
 * dtype, shape. On a GPU every operation is a test of its own, skipped where there is none.
 * One failing case reruns alone: build/parity_test OP:VARIANT:DTYPE:SEED:FORBID:THREADS;
 * all of one operation: build/parity_test OP; all of one device, or of its cases every Nth:
 * build/parity_test cuda [N] */
/* SPDX-License-Identifier: MIT */
#include "support/parity.h"
#include "testing.h"

#define ST_OP(op, required)                                                                        \
    static void call_##op(st_stream *q, const void *args)                                          \
    {                                                                                              \
        st_stream_ops(q)->op(q, args);                                                             \
    }                                                                                              \
    static bool there_##op(const st_stream *q)                                                     \
    {                                                                                              \
        return st_stream_ops(q)->op != NULL;                                                       \
    }
#include "backend/ops.def"
#undef ST_OP

static const parity_op ops[] = {
#define ST_OP(op, required) {#op, cases_##op, call_##op, there_##op, sizeof(st_##op##_args)},
#include "backend/ops.def"
#undef ST_OP
};
enum { OPS = sizeof ops / sizeof *ops };

static void parity_holds(void **state)
{
    assert_int_equal(parity_run(*state, "cpu", 1), 0);
}

static bool parity_has_gpu(void)
{
    st_stream *q;
    bool there = st_stream_open(&q, "cuda", 0, NULL) == ST_OK;
    if (there) st_stream_close(q);
    return there;
}

static void parity_holds_on_gpu(void **state)
{
    if (!parity_has_gpu()) skip();
    assert_int_equal(parity_run(*state, "cuda", 1), 0);
}

/* Of all operations on `device`, each `every`th case. */
static int parity_device(const char *device, int every)
{
    int failures = 0;
    for (int i = 0; i < OPS; i++) {
        int found = parity_run(&ops[i], device, every);
        printf("%s %s\n", found ? "fails " : "passes", ops[i].op);
        fflush(stdout);
        failures += found;
    }
    return failures != 0;
}

/* One operation, or one case of it. */
static int parity_chosen(const char *text)
{
    int failures = parity_rerun(ops, OPS, text);
    for (int i = 0; i < OPS; i++) {
        if (strcmp(text, ops[i].op) != 0) continue;
        failures = parity_run(&ops[i], "cpu", 1);
        if (parity_has_gpu()) failures += parity_run(&ops[i], "cuda", 1);
    }
    if (failures < 0) fprintf(stderr, "no such operation or case: %s\n", text);
    if (failures == 0) printf("passes\n");
    return failures != 0;
}

int main(int argc, char **argv)
{
    parity_program(argv[0]);
    int every = argc > 2 ? atoi(argv[2]) : 1;
    if (argc > 1 && st_device_check(argv[1], NULL) == ST_OK)
        return parity_device(argv[1], every > 0 ? every : 1);
    if (argc > 1) return parity_chosen(argv[1]);
    static parity_op copy[OPS];
    static char name[OPS][48];
    struct CMUnitTest tests[2 * OPS];
    for (int i = 0; i < OPS; i++) {
        copy[i] = ops[i];
        snprintf(name[i], sizeof name[i], "%s on cuda", ops[i].op);
        tests[i] = (struct CMUnitTest){
            .name = ops[i].op, .test_func = parity_holds, .initial_state = &copy[i]};
        tests[OPS + i] = (struct CMUnitTest){
            .name = name[i], .test_func = parity_holds_on_gpu, .initial_state = &copy[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
