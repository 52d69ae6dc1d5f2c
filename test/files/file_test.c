/* Files and folders that appear whole or not at all: success, refusal, full disks, killed writers.
 */
/* Long: one promise (whole or absent) under everything that can break it. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const any[] = {"*", NULL};

static void file_holds(const char *path, const char *text)
{
    char *got = st_test_read(path, NULL);
    assert_non_null(got);
    assert_string_equal(got, text);
    free(got);
}

static void test_outfile(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "a.txt");
    st_err e;
    st_outfile o;
    assert_ok(st_outfile_open(&o, path, &e), &e);
    assert_ok(st_outfile_write(&o, "new", 3, &e), &e);
    assert_false(st_path_exists(path)); /* not before commit */
    assert_ok(st_outfile_commit(&o, &e), &e);
    st_outfile_discard(&o);
    file_holds(path, "new");

    assert_int_equal(chmod(path, 0640), 0);
    assert_ok(st_outfile_open(&o, path, &e), &e);
    assert_ok(st_outfile_write(&o, "other", 5, &e), &e);
    file_holds(path, "new");
    st_outfile_discard(&o);
    st_outfile_discard(&o);
    file_holds(path, "new");
    assert_ok(st_write_file(path, "third", 5, &e), &e);
    file_holds(path, "third");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(st_test_entries(dir), 1);
    st_test_remove(dir);
}

static void test_outfile_refused(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e;
    assert_st(st_write_file(dir, "x", 1, &e), ST_EARG, &e);
    assert_says(&e, "is a folder");
    assert_st(st_write_file("", "x", 1, &e), ST_EARG, &e);
    assert_st(st_write_file(st_test_path(dir, "no/such"), "x", 1, &e), ST_EIO, &e);
    assert_says(&e, "no/such");
    assert_st(st_write_file("/dev/null", "x", 1, &e), ST_EARG, &e);
    assert_true(st_path_exists("/dev/null"));
    const char *dangling = st_test_path(dir, "dangling");
    assert_int_equal(symlink("nowhere", dangling), 0);
    assert_st(st_write_file(dangling, "x", 1, &e), ST_EARG, &e);
    assert_says(&e, "symbolic link");
    st_test_remove(dir);
}

/* A link keeps leading where it led; what it leads to is replaced. */
static void test_outfile_link(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *link = st_test_path(dir, "link");
    st_err e;
    assert_ok(st_make_dirs(st_test_path(dir, "real/deep"), &e), &e);
    const char *real = st_test_path(dir, "real/deep/file");
    st_test_write(real, "old", 3);
    assert_int_equal(symlink("real/deep/file", link), 0);
    assert_ok(st_write_file(link, "new", 3, &e), &e);
    file_holds(real, "new");
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    st_test_remove(dir);
}

/* Names near NAME_MAX leave no room for a suffix: the temporary's name is cut. */
static void test_outfile_long_name(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    st_err e;
    const char *path = st_test_path(dir, name);
    assert_ok(st_write_file(path, "x", 1, &e), &e);
    file_holds(path, "x");
    assert_int_equal(st_test_entries(dir), 1);
    st_test_remove(dir);
}

/* Writes much in a child whose files may not exceed 64 KiB: the error comes at write or, for what
 * the buffer holds back, at commit. Exit code: the status; the message goes to `say`. */
static void file_write_limited(const char *path, size_t chunk, size_t total, const char *say)
{
    struct rlimit limit = {.rlim_cur = 65536, .rlim_max = 65536};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    st_outfile o;
    st_err e = {0};
    char *data = calloc(1, chunk);
    st_status s = st_outfile_open(&o, path, &e);
    for (size_t n = 0; !s && n < total; n += chunk)
        s = st_outfile_write(&o, data, chunk, &e);
    if (!s) s = st_outfile_commit(&o, &e);
    st_outfile_discard(&o);
    free(data);
    FILE *f = fopen(say, "w");
    if (f) {
        fputs(e.msg, f);
        fclose(f);
    }
    _exit((int)s);
}

static void test_full_disk(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *out = st_test_dir(), *path = st_test_path(dir, "big");
    const char *say = st_test_path(out, "say");
    st_test_write(path, "old", 3);
    static const struct {
        size_t chunk, total;
    } cases[] = {{1000000, 1000000}, {100, 70000}, {65537, 65537}, {1, 65540}, {4096, 131072}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t child = fork();
        if (child == 0) file_write_limited(path, cases[i].chunk, cases[i].total, say);
        int code;
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_true(WIFEXITED(code));
        assert_int_equal(WEXITSTATUS(code), ST_EIO);
        file_holds(path, "old");
        assert_int_equal(st_test_entries(dir), 1);
        char *msg = st_test_read(say, NULL);
        assert_non_null(strstr(msg, path));
        assert_non_null(strstr(msg, "File too large"));
        free(msg);
    }
    st_test_remove(dir);
    st_test_remove(out);
}

/* The kernel's own full disk, through a device that is always full. */
static void test_dev_full(void **state)
{
    (void)state;
    FILE *f = fopen("/dev/full", "wb");
    if (!f) skip();
    st_outfile o = {.f = f, .path = strdup("/tmp/strut-test-full"), .temp = NULL};
    st_err e;
    char data[100] = {0};
    assert_ok(st_outfile_write(&o, data, sizeof data, &e), &e); /* held in the buffer */
    assert_st(st_outfile_commit(&o, &e), ST_EIO, &e);
    assert_says(&e, "No space left");
    assert_says(&e, "make room");
}

/* A child is killed while it writes; the next writer of the same place cleans up after it. The
 * temporary of a living writer stays. */
static void test_killed_writer(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "w"), *sub = st_test_path(dir, "d");
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        st_outfile o;
        st_outdir d;
        bool ok = !st_outfile_open(&o, path, NULL) && !st_outdir_open(&d, sub, NULL, NULL) &&
                  !st_write_file(st_test_path(d.temp, "part"), "x", 1, NULL) &&
                  write(ready[1], "x", 1) == 1;
        for (;;)
            pause();
        _exit(ok);
    }
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(st_test_entries(dir), 2);
    st_err e;
    assert_ok(st_write_file(path, "mine", 4, &e), &e);
    assert_int_equal(st_test_entries(dir), 3); /* the living child's two, and ours */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_ok(st_write_file(path, "mine", 4, &e), &e);
    st_outdir d;
    assert_ok(st_outdir_open(&d, sub, NULL, &e), &e);
    assert_int_equal(st_test_entries(dir), 2); /* ours: the file and the new temporary folder */
    st_outdir_discard(&d);
    assert_int_equal(st_test_entries(dir), 1);
    close(ready[0]);
    close(ready[1]);
    st_test_remove(dir);
}

static void test_outdir(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "above/model");
    const char *a = st_test_path(dir, "above/model/a");
    st_err e;
    st_outdir o;
    assert_ok(st_outdir_open(&o, st_test_path(dir, "above/model//"), NULL, &e), &e);
    assert_ok(st_write_file(st_test_path(o.temp, "a"), "1", 1, &e), &e);
    assert_false(st_path_exists(path));
    assert_ok(st_outdir_commit(&o, &e), &e);
    st_outdir_discard(&o);
    file_holds(a, "1");

    assert_st(st_outdir_open(&o, path, NULL, &e), ST_EARG, &e);
    assert_says(&e, "not empty");
    st_outdir_discard(&o);
    assert_ok(st_outdir_open(&o, path, any, &e), &e);
    assert_ok(st_write_file(st_test_path(o.temp, "b"), "2", 1, &e), &e);
    file_holds(a, "1");
    assert_ok(st_outdir_commit(&o, &e), &e);
    assert_false(st_path_exists(a));
    file_holds(st_test_path(path, "b"), "2");
    assert_int_equal(st_test_entries(st_test_path(dir, "above")), 1);
    st_test_remove(dir);
}

static void test_outdir_refused(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e;
    st_outdir o;
    st_test_write(st_test_path(dir, "file"), "x", 1);
    assert_st(st_outdir_open(&o, st_test_path(dir, "file"), any, &e), ST_EARG, &e);
    assert_says(&e, "is a file");
    assert_st(st_outdir_open(&o, st_test_path(dir, "file/below"), any, &e), ST_EARG, &e);
    assert_ok(st_make_dirs(st_test_path(dir, "many/one"), &e), &e);
    assert_st(st_outdir_open(&o, st_test_path(dir, "many"), any, &e), ST_EARG, &e);
    assert_says(&e, "holds a folder (one)");
    char *cwd = getcwd(NULL, 0);
    assert_int_equal(chdir(st_test_path(dir, "many/one")), 0);
    assert_st(st_outdir_open(&o, ".", any, &e), ST_EARG, &e);
    assert_says(&e, "working folder");
    assert_int_equal(chdir(cwd), 0);
    free(cwd);
    assert_st(st_outdir_open(&o, "/", any, &e), ST_EARG, &e);
    /* What appears while we write is not lost either. */
    assert_ok(st_outdir_open(&o, st_test_path(dir, "late"), NULL, &e), &e);
    assert_ok(st_make_dirs(st_test_path(dir, "late"), &e), &e);
    st_test_write(st_test_path(dir, "late/his"), "x", 1);
    assert_st(st_outdir_commit(&o, &e), ST_EARG, &e);
    file_holds(st_test_path(dir, "late/his"), "x");
    assert_int_equal(st_test_entries(dir), 3);
    st_test_remove(dir);
}

/* renameat2 is made to fail as on file systems and kernels without it. */
static void file_forbid_exchange(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) _exit(77);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(77);
}

static void test_outdir_fallback(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m");
    st_err e;
    assert_ok(st_make_dirs(path, &e), &e);
    st_test_write(st_test_path(path, "old"), "1", 1);
    pid_t child = fork();
    if (child == 0) {
        file_forbid_exchange();
        st_outdir o;
        bool ok = !st_outdir_open(&o, path, any, NULL) &&
                  !st_write_file(st_test_path(o.temp, "new"), "2", 1, NULL) &&
                  !st_outdir_commit(&o, NULL);
        _exit(ok ? 0 : 1);
    }
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code));
    if (WEXITSTATUS(code) == 77) skip();
    assert_int_equal(WEXITSTATUS(code), 0);
    file_holds(st_test_path(path, "new"), "2");
    assert_int_equal(st_test_entries(path), 1);
    assert_int_equal(st_test_entries(dir), 1);

    /* Killed between the two renames: the next writer finds the old folder put back. */
    assert_int_equal(rename(path, st_test_path(dir, ".m.strutold-4194305-0")), 0);
    assert_ok(st_make_dirs(st_test_path(dir, ".m.strut-4194305-0"), &e), &e);
    st_outdir o;
    assert_st(st_outdir_open(&o, path, NULL, &e), ST_EARG, &e);
    st_outdir_discard(&o);
    file_holds(st_test_path(path, "new"), "2");
    assert_int_equal(st_test_entries(dir), 1);
    st_test_remove(dir);
}

static void test_read_and_copy(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *a = st_test_path(dir, "a"), *b = st_test_path(dir, "b");
    st_err e;
    char *text;
    size_t n;
    for (size_t size = 0; size < 300000; size = size * 2 + 1) {
        char *data = malloc(size + 1);
        for (size_t i = 0; i < size; i++)
            data[i] = (char)(i * 7 + i / 256);
        st_test_write(a, data, size);
        assert_ok(st_read_file(a, size, &text, &n, &e), &e);
        assert_int_equal(n, size);
        assert_memory_equal(text, data, size);
        assert_int_equal(text[n], 0);
        free(text);
        if (size) {
            assert_st(st_read_file(a, size - 1, &text, &n, &e), ST_EFORMAT, &e);
            assert_null(text);
        }
        assert_ok(st_copy_file(a, b, &e), &e);
        text = st_test_read(b, &n);
        assert_int_equal(n, size);
        assert_memory_equal(text, data, size);
        free(text);
        free(data);
    }
    assert_st(st_read_file("/dev/zero", 1000000, &text, &n, &e), ST_EFORMAT, &e);
    assert_st(st_read_file(dir, 1000, &text, &n, &e), ST_EIO, &e);
    assert_st(st_read_file(st_test_path(dir, "none"), 1000, &text, &n, &e), ST_EIO, &e);
    assert_says(&e, "No such file");
    assert_st(st_copy_file(st_test_path(dir, "none"), b, &e), ST_EIO, &e);
    assert_st(st_copy_file(dir, b, &e), ST_EIO, &e);
    st_test_remove(dir);
}

static void file_on_alarm(int sig)
{
    (void)sig;
    st_interrupt();
}

/* A pipe is read to its end, however slowly it comes; one that nobody writes gives way to Ctrl-C.
 */
static void test_pipe(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *fifo = st_test_path(dir, "fifo");
    st_err e;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (int writer = 0; writer < 2; writer++) {
        pid_t child = fork();
        if (child == 0) {
            struct sigaction act = {.sa_handler = file_on_alarm, .sa_flags = SA_RESTART};
            char *text;
            size_t n;
            sigaction(SIGALRM, &act, NULL);
            alarm(writer ? 20 : 1);
            st_status s = st_read_file(fifo, 100, &text, &n, &e);
            if (s == ST_OK && (n != 6 || memcmp(text, "slowly", 7))) _exit(99);
            _exit((int)s);
        }
        if (writer) {
            int fd = open(fifo, O_WRONLY);
            assert_int_equal(write(fd, "slow", 4), 4);
            usleep(300000);
            assert_int_equal(write(fd, "ly", 2), 2);
            close(fd);
        }
        int code;
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_true(WIFEXITED(code));
        assert_int_equal(WEXITSTATUS(code), writer ? ST_OK : ST_EINTR);
    }
    st_test_remove(dir);
}

static void test_paths(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e;
    char *p = st_path_join("a", "b");
    assert_string_equal(p, "a/b");
    free(p);
    p = st_path_join("a/", "b");
    assert_string_equal(p, "a/b");
    free(p);
    assert_ok(st_make_dirs(st_test_path(dir, "x/y//z/"), &e), &e);
    assert_true(st_path_is_dir(st_test_path(dir, "x/y/z")));
    assert_ok(st_make_dirs(st_test_path(dir, "x/y"), &e), &e);
    assert_ok(st_make_dirs("/", &e), &e);
    st_test_write(st_test_path(dir, "f"), "", 0);
    assert_false(st_path_is_dir(st_test_path(dir, "f")));
    assert_st(st_make_dirs(st_test_path(dir, "f/g"), &e), ST_EIO, &e);
    assert_says(&e, "is a file");
    json_t *j = json_pack("{s:i, s:[s, s]}", "b", 1, "a", "x", "\xc3\xa9");
    assert_ok(st_write_json(st_test_path(dir, "j"), j, &e), &e);
    json_decref(j);
    file_holds(st_test_path(dir, "j"),
               "{\n  \"b\": 1,\n  \"a\": [\n    \"x\",\n    \"\xc3\xa9\"\n  ]\n}\n");
    static const double real[] = {0.1, 1e-5, 0.30000000000000004, 1.0 / 3, 1e300, 5e-324};
    for (int i = 0; i < 6; i++) {
        j = json_real(real[i]);
        assert_ok(st_write_json(st_test_path(dir, "r"), j, &e), &e);
        json_decref(j);
        char *text = st_test_read(st_test_path(dir, "r"), NULL);
        assert_true(strtod(text, NULL) == real[i]);
        if (i < 2) assert_string_equal(text, i ? "1e-5\n" : "0.1\n");
        free(text);
    }
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outfile),        cmocka_unit_test(test_outfile_refused),
        cmocka_unit_test(test_outfile_link),   cmocka_unit_test(test_outfile_long_name),
        cmocka_unit_test(test_full_disk),      cmocka_unit_test(test_dev_full),
        cmocka_unit_test(test_killed_writer),  cmocka_unit_test(test_outdir),
        cmocka_unit_test(test_outdir_refused), cmocka_unit_test(test_outdir_fallback),
        cmocka_unit_test(test_read_and_copy),  cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
