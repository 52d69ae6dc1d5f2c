/* Parity of the cpu backend with ref: every operation, instruction set, thread count, dtype, shape.
 * One failing case reruns alone: build/parity_test OP:VARIANT:DTYPE:SEED:FORBID:THREADS;
 * all of one operation: build/parity_test OP */
/* SPDX-License-Identifier: MIT */
#include "support/parity.h"
#include "testing.h"

#define ST_OP(op, required)                                                                        \
    static void call_##op(st_stream *q, const void *args)                                          \
    {                                                                                              \
        st_stream_ops(q)->op(q, args);                                                             \
    }
#include "backend/ops.def"
#undef ST_OP

static const parity_op ops[] = {
#define ST_OP(op, required) {#op, cases_##op, call_##op, sizeof(st_##op##_args)},
#include "backend/ops.def"
#undef ST_OP
};
enum { OPS = sizeof ops / sizeof *ops };

static void parity_holds(void **state)
{
    assert_int_equal(parity_run(*state), 0);
}

/* One operation, or one case of it. */
static int parity_chosen(const char *text)
{
    int failures = parity_rerun(ops, OPS, text);
    for (int i = 0; i < OPS; i++) {
        if (strcmp(text, ops[i].op) == 0) failures = parity_run(&ops[i]);
    }
    if (failures < 0) fprintf(stderr, "no such operation or case: %s\n", text);
    if (failures == 0) printf("passes\n");
    return failures != 0;
}

int main(int argc, char **argv)
{
    parity_program(argv[0]);
    if (argc > 1) return parity_chosen(argv[1]);
    static parity_op copy[OPS];
    struct CMUnitTest tests[OPS];
    for (int i = 0; i < OPS; i++) {
        copy[i] = ops[i];
        tests[i] = (struct CMUnitTest){
            .name = ops[i].op, .test_func = parity_holds, .initial_state = &copy[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
