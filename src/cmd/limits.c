/* What the system allows the process: memory that libraries take when they are loaded, and stack.
 */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* OpenBLAS maps two buffers of 128 MiB when it is loaded, before main, and asks for ever where it
 * gets none. */
enum { LIMITS_BLAS = 257 << 20, LIMITS_STACK = 512 << 10, LIMITS_USUAL = 8 << 20 };

/* Runs before any library's constructors: nothing of them is ready, so only bare calls. */
__attribute__((no_sanitize("address", "undefined"))) static void limits_memory(void)
{
    static const char says[] =
        "strut: cannot start: its library of matrix products takes 256 MiB when it is loaded, and "
        "a "
        "limit of the memory of a process leaves less; look at ulimit -d and ulimit -v, and raise "
        "them or say ulimit -S -d unlimited\n";
    long at = syscall(SYS_mmap, NULL, (size_t)LIMITS_BLAS, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at != -1) {
        syscall(SYS_munmap, at, (size_t)LIMITS_BLAS);
        return;
    }
    syscall(SYS_write, 2, says, sizeof says - 1);
    syscall(SYS_exit_group, 1);
}

__attribute__((section(".preinit_array"),
               used)) static void (*const limits_first)(void) = limits_memory;

bool cmd_limits_stack(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_STACK, &r) || r.rlim_cur >= LIMITS_STACK) return false;
    r.rlim_cur = r.rlim_max < LIMITS_USUAL ? r.rlim_max : LIMITS_USUAL;
    return setrlimit(RLIMIT_STACK, &r) == 0;
}

st_status cmd_limits_check(st_err *e)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_STACK, &r) || r.rlim_cur >= LIMITS_STACK) return ST_OK;
    ST_FAIL(e, ST_ENOMEM,
            "the stack may have %lld KiB (ulimit -s), expected at least %d; raise it: ulimit -s %d",
            (long long)r.rlim_cur / 1024, LIMITS_STACK / 1024, LIMITS_USUAL / 1024);
}
