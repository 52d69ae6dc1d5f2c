/* The order of writing, syncing and renaming: what a power cut leaves is whole or not there. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "rig/disk.h"
#include "testing.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static void in_order(int renames)
{
    static int before;
    const char *broken = disk_broken();
    if (*broken) fail_msg("in the wrong order:\n%s", broken);
    assert_int_equal(disk_renames() - before, renames);
    before = disk_renames();
}

static void judged(const char *want)
{
    const char *broken = disk_broken();
    if (!strstr(broken, want)) fail_msg("not seen: \"%s\" in \"%s\"", want, broken);
}

static void synced(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

/* The judge itself: each disorder is seen, order is not. */
static void test_judge(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *a = st_test_path(dir, "a"), *b = st_test_path(dir, "b");
    const char *sub = st_test_path(dir, "sub"), *in = st_test_path(dir, "sub/in");
    const char *moved = st_test_path(dir, "moved");
    st_test_write(a, "1", 1);
    assert_int_equal(rename(a, b), 0);
    judged("early ");
    st_test_write(a, "1", 1);
    synced(a);
    st_test_write(a, "12", 2);
    assert_int_equal(rename(a, b), 0);
    judged("early ");
    st_test_write(a, "1", 1);
    synced(a);
    assert_int_equal(rename(a, b), 0);
    judged("unsynced ");
    st_test_write(a, "1", 1);
    synced(b);
    assert_int_equal(rename(b, moved), 0);
    assert_int_equal(remove(a), 0);
    judged("removed ");
    assert_int_equal(mkdir(sub, 0777), 0);
    st_test_write(in, "1", 1);
    synced(sub);
    assert_int_equal(rename(sub, b), 0);
    judged("sub/in");
    synced(st_test_path(b, "in"));
    st_test_write(st_test_path(b, "more"), "1", 1);
    synced(st_test_path(b, "more"));
    assert_int_equal(rename(b, sub), 0);
    judged("early ");
    synced(sub);
    assert_int_equal(disk_renames(), 6);
    assert_int_equal(rename(sub, b), 0);
    synced(dir);
    assert_int_equal(unlink(moved), 0);
    in_order(7);
    st_test_remove(dir);
}

static void test_file(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "f");
    st_err e;
    for (size_t n = 0; n < 200000; n = n * 3 + 1) { /* new, then in place of the old */
        char *data = st_calloc((int64_t)n + 1, 1);
        assert_ok(st_write_file(path, data, n, &e), &e);
        in_order(1);
        assert_ok(st_copy_file(path, st_test_path(dir, "copy"), &e), &e);
        in_order(1);
        free(data);
    }
    json_t *j = json_pack("{s:i}", "a", 1);
    assert_ok(st_write_json(path, j, &e), &e);
    json_decref(j);
    in_order(1);
    st_test_remove(dir);
}

/* In a folder named by nothing ("f"), and one that fails leaves no order to keep. */
static void test_here(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char *cwd = getcwd(NULL, 0);
    st_err e;
    assert_int_equal(chdir(dir), 0);
    assert_ok(st_write_file("f", "x", 1, &e), &e);
    in_order(1);
    assert_ok(st_make_dirs("d", &e), &e);
    assert_st(st_write_file("d", "x", 1, &e), ST_EARG, &e);
    in_order(0);
    assert_int_equal(chdir(cwd), 0);
    free(cwd);
    st_test_remove(dir);
}

static const char *const any[] = {"*", NULL};

/* Files written with plain stdio and with ours, a folder in it, links: all are synced. */
static void outdir_filled(const char *path, bool replace)
{
    st_outdir o;
    st_err e;
    assert_ok(st_outdir_open(&o, path, replace ? any : NULL, &e), &e);
    st_test_write(st_test_path(o.temp, "plain"), "1", 1);
    assert_ok(st_write_file(st_test_path(o.temp, "ours"), "2", 1, &e), &e);
    assert_int_equal(symlink("plain", st_test_path(o.temp, "link")), 0);
    assert_ok(st_outdir_commit(&o, &e), &e);
    st_outdir_discard(&o);
}

static void test_folder(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_err e;
    outdir_filled(path, false);
    in_order(2); /* the file `ours`, and the folder */
    outdir_filled(path, true);
    in_order(2);
    st_outdir o;
    assert_ok(st_outdir_open(&o, st_test_path(dir, "deep"), NULL, &e), &e);
    assert_ok(st_make_dirs(st_test_path(o.temp, "a/b"), &e), &e);
    st_test_write(st_test_path(o.temp, "a/b/c"), "1", 1);
    assert_ok(st_outdir_commit(&o, &e), &e);
    in_order(1);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
