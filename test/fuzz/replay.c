/* The fuzz targets without a fuzzer, as tests: every file that is given (of folders, every file in
 * them), and copies of it with bits turned, bytes cut out, repeated and taken from other files, the
 * same ones each time.
 *
 *   NAME_replay SECONDS PATH...   stops early when the time is over, and says how far it came */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { REPLAY_MOST = 1 << 16, REPLAY_FILES = 4096, REPLAY_COPIES = 4000 };

typedef struct {
    uint8_t *data;
    size_t n;
} replay_file;

static replay_file replay_files[REPLAY_FILES];
static int replay_count;
static uint64_t replay_state = 1;

/* Xorshift (Marsaglia 2003): 0 to most - 1. */
static size_t replay_random(size_t most)
{
    replay_state ^= replay_state << 13;
    replay_state ^= replay_state >> 7;
    replay_state ^= replay_state << 17;
    return (size_t)(replay_state >> 11) % most;
}

static int replay_by_name(const void *a, const void *b)
{
    return strcmp((*(struct dirent *const *)a)->d_name, (*(struct dirent *const *)b)->d_name);
}

static bool replay_add(const char *path)
{
    struct dirent **entry;
    if (st_path_is_dir(path)) {
        int found = scandir(path, &entry, NULL, NULL);
        bool good = found > 0;
        if (good) qsort(entry, (size_t)found, sizeof *entry, replay_by_name);
        for (int i = 0; i < found; i++) {
            char *inner = entry[i]->d_name[0] == '.' ? NULL : st_path_join(path, entry[i]->d_name);
            good = good && (!inner || replay_add(inner));
            free(inner);
            free(entry[i]);
        }
        if (found >= 0) free(entry);
        return good;
    }
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(REPLAY_MOST + 1);
    size_t n = f && data ? fread(data, 1, REPLAY_MOST + 1, f) : 0;
    bool good = f && data && !ferror(f);
    if (f) fclose(f);
    if (!good) perror(path);
    if (!good || n > REPLAY_MOST || replay_count == REPLAY_FILES)
        free(data);
    else
        replay_files[replay_count++] = (replay_file){data, n};
    return good;
}

/* A copy of a file, in one to four places other than it; *n its length. */
static void replay_change(const replay_file *f, uint8_t *to, size_t *n)
{
    memcpy(to, f->data, f->n);
    *n = f->n;
    for (size_t turns = 1 + replay_random(4); turns && *n; turns--) {
        size_t at = replay_random(*n), left = *n - at,
               some = 1 + replay_random(left < 16 ? left : 16);
        const replay_file *other = &replay_files[replay_random((size_t)replay_count)];
        switch (replay_random(6)) {
        case 0: to[at] ^= (uint8_t)(1u << replay_random(8)); break;
        case 1: memset(to + at, replay_random(2) ? 0xff : 0, some); break;
        case 2:
            memmove(to + at, to + at + some, left - some);
            *n -= some;
            break;
        case 3:
            if (*n + some > REPLAY_MOST) break;
            memmove(to + at + some, to + at, left);
            *n += some;
            break;
        case 4: *n = at; break;
        default:
            if (other->n)
                memcpy(to + at, other->data + replay_random(other->n - other->n / 2),
                       some < other->n / 2 ? some : other->n / 2);
        }
    }
}

/* In memory of just that length, so that a read behind it is seen. */
static void replay_run(const uint8_t *data, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) abort();
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

int main(int argc, char **argv)
{
    static uint8_t copy[REPLAY_MOST];
    double until = st_now() + (argc > 2 ? atof(argv[1]) : 0);
    for (int i = 2; i < argc; i++)
        if (!replay_add(argv[i])) return 1;
    if (!replay_count) {
        fprintf(stderr, "%s: no files of at most 64 KiB to try\n", argv[0]);
        return 1;
    }
    for (int i = 0; i < replay_count; i++)
        replay_run(replay_files[i].data, replay_files[i].n);
    int64_t copies = 0;
    for (int k = 0; k < REPLAY_COPIES && st_now() < until; k++) {
        for (int i = 0; i < replay_count && st_now() < until; i++, copies++) {
            size_t n;
            replay_change(&replay_files[i], copy, &n);
            replay_run(copy, n);
        }
    }
    printf("%d files and %lld changed copies\n", replay_count, (long long)copies);
    for (int i = 0; i < replay_count; i++)
        free(replay_files[i].data);
    return 0;
}
