/* Any bytes as a file of weights without a config.json: an error, or a model that is what it says
 * and that is stored and read as the same. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64], copy[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        snprintf(copy, sizeof copy, "/tmp/folder_fuzz.%d", (int)getpid());
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n) abort();
    static const st_read_how how = {.heads = 1};
    st_model *m, *again;
    float *flat, *other;
    st_err e;
    if (st_folder_read_as(path, &how, &m, &flat, NULL, &e)) return 0;
    /* every number of the model but zero biases is in the file */
    if (st_model_counts(m).parameters > (int64_t)(16 * n + (1 << 16))) abort();
    json_t *result = NULL;
    st_convert_opts o = {.to = "safetensors", .dtype = "f32", .how = how, .replace = true};
    if (st_convert_model(path, copy, &o, &result, &e)) abort();
    json_decref(result);
    if (st_folder_read(copy, &again, &other, NULL, &e)) abort();
    if (st_model_elements(m) != st_model_elements(again) ||
        memcmp(flat, other, (size_t)st_model_elements(m) * sizeof *flat) != 0)
        abort();
    remove(copy);
    free(other);
    free(flat);
    st_model_close(again);
    st_model_close(m);
    return 0;
}
