/* What a result is not written over: inputs of the same run, files of another kind. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include <unistd.h>

static void output_apart(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char in[512], out[512], part[512], other[512];
    st_err e;
    snprintf(in, sizeof in, "%s", st_test_path(dir, "in"));
    snprintf(out, sizeof out, "%s", st_test_path(dir, "out"));
    snprintf(part, sizeof part, "%s", st_test_path(in, "part"));
    snprintf(other, sizeof other, "%s", st_test_path(dir, "input"));
    assert_ok(st_make_dirs(part, &e), &e);
    assert_ok(st_make_dirs(other, &e), &e);
    const char *reads[] = {NULL, "no such thing", in};
    assert_ok(st_output_apart(out, reads, 3, &e), &e); /* nothing there */
    assert_ok(st_output_apart(other, reads, 3, &e), &e);
    assert_st(st_output_apart(in, reads, 3, &e), ST_EARG, &e);   /* itself */
    assert_st(st_output_apart(part, reads, 3, &e), ST_EARG, &e); /* a part of it */
    assert_st(st_output_apart(dir, reads, 3, &e), ST_EARG, &e);  /* holds it */
    assert_ok(st_output_apart(in, reads, 2, &e), &e);
    assert_int_equal(symlink("in", out), 0); /* by another name */
    assert_st(st_output_apart(out, reads, 3, &e), ST_EARG, &e);
    assert_non_null(strstr(e.msg, "in)"));
    st_test_write(st_test_path(dir, "a"), "1", 1);
    assert_int_equal(link(st_test_path(dir, "a"), st_test_path(dir, "b")), 0);
    snprintf(in, sizeof in, "%s", st_test_path(dir, "a"));
    assert_st(st_output_apart(st_test_path(dir, "b"), reads, 3, &e), ST_EARG, &e);
    st_test_remove(dir);
}

static bool output_ours(const char *path)
{
    char *text = NULL;
    size_t n = 0;
    bool ours = !st_read_file(path, 100, &text, &n, NULL) && n == 4 && !memcmp(text, "ours", 4);
    free(text);
    return ours;
}

static void output_file(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "f");
    st_err e;
    assert_ok(st_output_file(path, false, "x", output_ours, &e), &e);
    st_test_write(path, "ours", 4);
    assert_st(st_output_file(path, false, "x", output_ours, &e), ST_EARG, &e);
    assert_non_null(strstr(e.msg, "--force"));
    assert_ok(st_output_file(path, true, "x", output_ours, &e), &e);
    st_test_write(path, "", 0);
    assert_ok(st_output_file(path, true, "x", output_ours, &e), &e);
    st_test_write(path, "mine", 4);
    assert_st(st_output_file(path, true, "x", output_ours, &e), ST_EARG, &e);
    assert_st(st_output_file(dir, true, "x", output_ours, &e), ST_EARG, &e);
    st_test_remove(dir);
}

/* A folder is replaced only where every file of it has a name that the result's could have. */
static void output_folder(void **state)
{
    (void)state;
    static const char *const over[] = {"*.safetensors", "config.json", NULL};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_outdir o;
    st_err e;
    assert_ok(st_make_dirs(path, &e), &e);
    assert_ok(st_outdir_open(&o, path, NULL, &e), &e); /* empty */
    st_outdir_discard(&o);
    st_test_write(st_test_path(path, "model.safetensors"), "1", 1);
    assert_st(st_outdir_open(&o, path, NULL, &e), ST_EARG, &e);
    assert_ok(st_outdir_open(&o, path, over, &e), &e);
    st_test_write(st_test_path(path, "thesis.tex"), "1", 1); /* while the work goes on */
    assert_st(st_outdir_commit(&o, &e), ST_EARG, &e);
    assert_non_null(strstr(e.msg, "thesis.tex"));
    assert_st(st_outdir_open(&o, path, over, &e), ST_EARG, &e);
    assert_true(st_path_exists(st_test_path(path, "model.safetensors")));
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(output_apart),
                                       cmocka_unit_test(output_file),
                                       cmocka_unit_test(output_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
