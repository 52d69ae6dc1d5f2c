/* Any bytes as a parquet file: strings or an error, in bounded memory and time. The footer's length
 * and magic are put right, so that more than them is tried. */
/* SPDX-License-Identifier: MIT */
#include "text/text.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FUZZ_ROWS = 1 << 16, FUZZ_ALL = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("parquet", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    uint32_t footer = n > 12 ? (data[0] | (uint32_t)data[1] << 8) % (uint32_t)(n - 11) : 0;
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n) abort();
    if (n > 12 && data[2] & 1) {
        if (pwrite(fd, "PAR1", 4, 0) != 4 || pwrite(fd, &footer, 4, (off_t)n - 8) != 4 ||
            pwrite(fd, "PAR1", 4, (off_t)n - 4) != 4)
            abort();
    }
    st_parquet *p;
    st_err e;
    const char *text;
    size_t len, all = 0, sum = 0;
    if (st_parquet_open(&p, path, "text", &e)) return 0;
    for (int i = 0; i < FUZZ_ROWS && all < FUZZ_ALL; i++) {
        if (st_parquet_next(p, &text, &len, &e) || !text) break;
        for (size_t k = 0; k < len; k++)
            sum += (uint8_t)text[k];
        all += len;
    }
    if (st_parquet_done(p) < 0 || sum > 255 * all) abort();
    st_parquet_close(p);
    return 0;
}
