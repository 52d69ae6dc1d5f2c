/* Any bytes as a safetensors file: an error, or tensors that can all be read. */
/* SPDX-License-Identifier: MIT */
#include "weights/weights.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n) abort();
    st_weights *f;
    st_err e;
    if (st_weights_open(&f, path, &e)) return 0;
    if (strcmp(st_weights_form(f), "safetensors")) {
        st_weights_close(f);
        return 0;
    }
    uint64_t length;
    memcpy(&length, data, 8);
    int64_t end = 8 + (int64_t)length;
    for (int64_t i = 0; i < st_weights_count(f); i++) {
        const st_stored *t = st_weights_at(f, i);
        if (t->offset != end || st_weights_find(f, t->name) != t) abort();
        end += (int64_t)t->bytes;
        int64_t elements = 1;
        for (int d = 0; d < t->ndim; d++)
            elements *= t->dim[d];
        if (elements > 1 << 20) continue;
        static const st_dtype as[] = {ST_F32, ST_BF16, ST_I32, ST_U8};
        for (int d = 0; d < 4; d++) {
            void *out = malloc((size_t)elements * st_dtype_size(as[d]) + 1);
            if (out) (void)st_stored_read(t, st_view1(out, as[d], elements), &e);
            free(out);
        }
    }
    (void)st_weights_meta(f, "format");
    if ((size_t)end != n) abort();
    st_weights_close(f);
    return 0;
}
