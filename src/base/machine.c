/* What the machine is and has to give: threads, memory, its description for results. */
/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double machine_share = 0.8; /* of the free memory that is asked for */

int st_threads(int asked)
{
    int64_t n = asked;
    const char *text = getenv("OMP_NUM_THREADS");
    cpu_set_t set;
    if (n < 1 && (!text || !st_parse_int(text, &n) || n < 1))
        n = sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN)
                                                   : CPU_COUNT(&set);
    return n < 1 ? 1 : n > 512 ? 512 : (int)n;
}

/* A number in a file of one line, or -1 ("max"). */
static double machine_number(const char *path)
{
    int64_t n;
    FILE *f = fopen(path, "r");
    if (!f) return -1.0;
    int got = fscanf(f, "%" SCNd64, &n);
    fclose(f);
    return got == 1 ? (double)n : -1.0;
}

static double machine_available(void)
{
    char line[128];
    int64_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %" SCNd64, &kib) == 1) break;
    }
    if (f) fclose(f);
    return kib > 0 ? 1024.0 * (double)kib : 1e18;
}

double st_memory_free(void)
{
    double n = machine_available(), most = machine_number("/sys/fs/cgroup/memory.max");
    double used = machine_number("/sys/fs/cgroup/memory.current");
    if (most > 0.0 && used >= 0.0) n = fmin(n, most - used);
    return machine_share * fmax(n, 0.0);
}

/* The processor's name as the system tells it. */
static void machine_processor(char *out, size_t cap)
{
    char line[256];
    snprintf(out, cap, "unknown processor");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, cap, "%s", colon + 1 + strspn(colon + 1, " \t"));
        break;
    }
    if (f) fclose(f);
}

json_t *st_machine_json(const char *device, int threads)
{
    char name[128], date[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    machine_processor(name, sizeof name);
    if (gmtime_r(&now, &utc)) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const char *commit = getenv("STRUT_COMMIT"); /* set by the program, which knows its own */
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:I, s:s}", "version", ST_VERSION, "commit",
                     commit ? commit : "", "device", device, "threads", (json_int_t)threads,
                     "machine", name, "cores", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "date",
                     date);
}
