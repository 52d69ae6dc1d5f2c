/* The guard: operations and copies may touch device memory, and nothing else unseen. */
/* SPDX-License-Identifier: MIT */
#include "backend/backend.h"
#include "testing.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 40, CAUGHT = 128 + SIGABRT };

typedef struct {
    st_stream *q;
    st_arena mem;
    st_tensor a, b;
} bench;

static bench bench_open(const char *device)
{
    bench b = {0};
    st_err e;
    assert_ok(st_stream_open(&b.q, device, 1, &e), &e);
    assert_ok(st_device_arena(b.q, 4096, &b.mem, &e), &e);
    b.a = st_take1(&b.mem, ST_F32, N);
    b.b = st_take1(&b.mem, ST_F32, N);
    st_stream_tag(b.q, "h.0.mlp");
    return b;
}

static void bench_close(bench *b)
{
    st_device_arena_close(b->q, &b->mem);
    st_stream_close(b->q);
}

/* Runs `act` in a child: how it ended, like a shell tells it, and what it said. */
static int child(void (*act)(bench *b), const char *device, char *said, size_t room)
{
    int end[2], status = 0;
    size_t n = 0;
    ssize_t got;
    assert_int_equal(pipe(end), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(end[1], STDERR_FILENO);
        close(end[0]);
        bench b = bench_open(device);
        act(&b);
        _exit(0);
    }
    close(end[1]);
    while (n + 1 < room && (got = read(end[0], said + n, room - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(end[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void backend_may_touch(void **state)
{
    (void)state;
    float x[N], y[N];
    bench b = bench_open("guard"), other = bench_open("guard");
    st_err e;
    for (int i = 0; i < N; i++)
        x[i] = (float)i - 7;
    st_upload(b.q, b.a, x);
    st_stream_ops(b.q)->copy(b.q, &(st_copy_args){.x = b.a, .y = b.b});
    st_stream_ops(other.q)->copy(other.q, &(st_copy_args){.x = b.b, .y = other.a});
    assert_ok(st_stream_sync(b.q, &e), &e);
    st_download(b.q, y, other.a);
    assert_memory_equal(x, y, sizeof x);
    assert_string_equal(st_stream_device(b.q), "guard");
    assert_true(st_stream_on_host(b.q)); /* whose rules about free memory are the host's */
    bench_close(&other);
    bench_close(&b);
}

static void no_list_names_it(void **state)
{
    (void)state;
    st_err e;
    for (const char *const *name = st_device_names(); *name; name++)
        assert_string_not_equal(*name, "guard");
    assert_st(st_device_check("gaurd", &e), ST_EARG, &e);
    assert_null(strstr(e.msg, "guard"));
}

/* ---- touches -------------------------------------------------------------------------------- */

void guard_test_read(bench *b); /* not static: a backtrace knows its name */

__attribute__((noinline)) void guard_test_read(bench *b)
{
    volatile const float *x = b->b.data;
    float sum = x[0] + 1.0f;
    if (sum > 0) _exit(0);
    _exit(1);
}

static void write_there(bench *b)
{
    *(volatile float *)b->a.data = 1;
}

static void upload_from_there(bench *b)
{
    st_upload(b->q, b->a, b->b.data);
}

static void download_to_there(bench *b)
{
    st_download(b->q, b->a.data, b->b);
}

static void touch_after_others(bench *b)
{
    signal(SIGSEGV, SIG_DFL); /* as a test's framework does */
    st_stream_ops(b->q)->fill(b->q, &(st_fill_args){.x = b->a, .value = 1});
    write_there(b);
}

static void touch_after_upload(bench *b)
{
    float x[N] = {0};
    st_upload(b->q, b->a, x);
    write_there(b);
}

static void touch_after_download(bench *b)
{
    float x[N];
    st_download(b->q, x, b->a);
    write_there(b);
}

static void touches_are_caught(void **state)
{
    (void)state;
    char said[4096];
    assert_int_equal(child(touch_after_upload, "guard", said, sizeof said), CAUGHT);
    assert_int_equal(child(touch_after_download, "guard", said, sizeof said), CAUGHT);
    assert_int_equal(child(guard_test_read, "guard", said, sizeof said), CAUGHT);
    assert_non_null(strstr(said, "touched outside of the backend"));
    assert_non_null(strstr(said, "192 bytes into an arena of device guard, last tag h.0.mlp"));
    assert_non_null(strstr(said, "guard_test_read"));
    assert_int_equal(child(write_there, "guard", said, sizeof said), CAUGHT);
    assert_non_null(strstr(said, " 0 bytes into an arena"));
    assert_int_equal(child(upload_from_there, "guard", said, sizeof said), CAUGHT);
    assert_non_null(strstr(said, "192 bytes into an arena"));
    assert_int_equal(child(download_to_there, "guard", said, sizeof said), CAUGHT);
    assert_int_equal(child(touch_after_others, "guard", said, sizeof said), CAUGHT);
}

/* $ST_GUARD lays it over the devices that compute in host memory. */
static void others_are_guarded_on_demand(void **state)
{
    static const char *const devices[] = {"ref", "cpu"};
    char said[4096], *had = getenv("ST_GUARD"), kept[32];
    (void)state;
    if (had) snprintf(kept, sizeof kept, "%s", had);
    for (int i = 0; i < 2; i++) {
        unsetenv("ST_GUARD");
        assert_int_equal(child(write_there, devices[i], said, sizeof said), 0);
        setenv("ST_GUARD", "1", 1);
        assert_int_equal(child(write_there, devices[i], said, sizeof said), CAUGHT);
        assert_non_null(strstr(said, devices[i]));
    }
    unsetenv("ST_GUARD");
    if (had) setenv("ST_GUARD", kept, 1);
}

/* ---- faults that are no touches ------------------------------------------------------------- */

static void say_mine(int number)
{
    (void)number;
    _exit(77);
}

static void fault_elsewhere(bench *b)
{
    signal(SIGSEGV, say_mine);
    st_stream_ops(b->q)->fill(b->q, &(st_fill_args){.x = b->a, .value = 1});
    volatile const char *p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    _exit(p[100]);
}

static void other_faults_are_passed_on(void **state)
{
    (void)state;
    char said[4096];
    assert_int_equal(child(fault_elsewhere, "guard", said, sizeof said), 77);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backend_may_touch),
        cmocka_unit_test(no_list_names_it),
        cmocka_unit_test(touches_are_caught),
        cmocka_unit_test(others_are_guarded_on_demand),
        cmocka_unit_test(other_faults_are_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
