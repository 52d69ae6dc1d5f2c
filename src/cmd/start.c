/* What the process needs before any work: open descriptors, signals, the environment that OpenMP
 * and the BLAS read when they are loaded. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include "files/files.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set in the environment of the second start. */
#define START_MARK "STRUT_STARTED"
/* How often an idle OpenMP thread looks for work before it sleeps: some 50 us, enough to bridge the
 * gap between two operations, short enough not to steal from other processes (the library's own
 * preset is milliseconds, which makes everything several times slower on a busy machine). */
#define START_SPIN "2000"

static volatile sig_atomic_t start_signal;

/* A closed descriptor would be given to the next file that is opened, and a message would then end
 * in somebody's model. Descriptors of the wrong direction: using them fails, as it should. */
void cmd_start_files(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) == -1) _exit(1);
    }
}

static void start_handler(int sig)
{
    if (st_interrupted()) _exit(128 + sig); /* the second one means it */
    start_signal = sig;
    st_interrupt();
}

/* A file in memory that somebody cut, or a disk that went away, while it was read. Only calls that
 * handlers may make. */
static void start_cut(int sig, siginfo_t *info, void *context)
{
    (void)context;
    const char *name = st_mapped_name(info->si_addr);
    if (!name) { /* no business of ours: it happens again */
        signal(sig, SIG_DFL);
        return;
    }
    static const char head[] = "\nstrut: ",
                      tail[] = ": could not be read on: it was cut or its disk went away; bring it "
                               "back as it was, and a run goes on from its last checkpoint\n";
    bool told = write(2, head, sizeof head - 1) >= 0 && write(2, name, strlen(name)) >= 0 &&
                write(2, tail, sizeof tail - 1) >= 0;
    _exit(told ? 1 : 2);
}

void cmd_start_signals(void)
{
    struct sigaction cut = {.sa_sigaction = start_cut, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &cut, NULL);
    const int list[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct sigaction old, new = {.sa_handler = start_handler, .sa_flags = SA_RESTART};
        sigemptyset(&new.sa_mask);
        if (sigaction(list[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN) continue; /* nohup */
        sigaction(list[i], &new, NULL);
    }
}

int cmd_signal(void)
{
    return start_signal;
}

/* Processors that a container's quota grants, 0 if there is none (cgroup v2, then v1). */
static int64_t start_quota(void)
{
    long long quota = -1, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        if (fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1; /* "max 100000" */
        fclose(f);
    } else {
        const char *names[] = {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                               "/sys/fs/cgroup/cpu/cpu.cfs_period_us"};
        long long *into[] = {&quota, &period};
        for (int i = 0; i < 2; i++) {
            if (!(f = fopen(names[i], "r"))) return 0;
            if (fscanf(f, "%lld", into[i]) != 1) quota = -1;
            fclose(f);
        }
    }
    return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

/* Processors that this process may use. */
static int64_t start_processors(void)
{
    cpu_set_t set;
    int64_t n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                            : sysconf(_SC_NPROCESSORS_ONLN);
    int64_t quota = start_quota();
    if (quota > 0 && quota < n) n = quota;
    return n > 0 ? n : 1;
}

void cmd_start_threads(char **argv, int64_t threads)
{
    if (getenv(START_MARK)) {
        unsetenv(START_MARK); /* not for our children */
        return;
    }
    bool again = cmd_limits_stack();
    if (!getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT")) {
        again = setenv("GOMP_SPINCOUNT", START_SPIN, 1) == 0;
    }
    if (threads > 0 || !getenv("OMP_NUM_THREADS")) {
        char text[24];
        snprintf(text, sizeof text, "%lld",
                 (long long)(threads > 0 ? threads : start_processors()));
        again |= setenv("OMP_NUM_THREADS", text, 1) == 0;
    }
    const char *core = getenv("OPENBLAS_CORETYPE") ? NULL : st_blas_core();
    if (core) again |= setenv("OPENBLAS_CORETYPE", core, 1) == 0;
    if (!again || setenv(START_MARK, "1", 1) != 0) return;
    execv("/proc/self/exe", argv);
    unsetenv(START_MARK); /* no /proc: slower, not wrong */
}
