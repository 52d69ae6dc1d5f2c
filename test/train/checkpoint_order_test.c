/* A run's checkpoints and reports at a power cut: each name that appears stands for whole files
 * that are on disk, and nothing old goes before the new is there (rig/disk.h). */
/* SPDX-License-Identifier: MIT */
#include "rig/disk.h"
#include "rig/runs.h"

/* A run to `step` whose files all appeared in order, `least` names or more. */
static void run_in_order(const char *name, const char *more, int step, int least)
{
    int before = disk_renames();
    json_t *result = runs_good(name, more);
    assert_int_equal(runs_number(result, "step"), step);
    json_decref(result);
    const char *broken = disk_broken();
    if (*broken) fail_msg("%s %s: in the wrong order:\n%s", name, more, broken);
    int renames = disk_renames() - before;
    if (renames < least) fail_msg("%s: %d renames, expected %d or more", name, renames, least);
}

/* last three times, best, and a step each. */
static void test_new(void **state)
{
    (void)state;
    run_in_order("new", "ckpt.keep=3", 12, 7);
}

/* Folders are exchanged and old ones dropped. */
static void test_dropped(void **state)
{
    (void)state;
    run_in_order("dropped", "ckpt.every=2 ckpt.keep=1 eval.every=2", 12, 12);
}

static void test_resumed(void **state)
{
    (void)state;
    run_in_order("resumed", "train.steps=8 ckpt.keep=2", 8, 4);
    run_in_order("resumed", "train.steps=12 ckpt.keep=2", 12, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_resumed),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
