/* Any bytes as a file of tensors: as they are, or after the beginning of a GGUF file, an llm.c
 * model, a legacy PyTorch archive, or as the pickle of a zip one. An error, or tensors that can be
 * read. */
/* SPDX-License-Identifier: MIT */
#include "weights/zip.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char fuzz_path[64], fuzz_zip[64];

static void fuzz_use(const char *path)
{
    st_weights *w;
    st_err e;
    if (st_weights_open(&w, path, &e)) {
        if (e.code == ST_EIO || e.code == ST_EARG || !strstr(e.msg, path)) abort();
        return;
    }
    for (int64_t i = 0; i < st_weights_count(w); i++) {
        const st_stored *t = st_weights_at(w, i);
        if (st_weights_find(w, t->name) != t) abort();
        int64_t elements = 1;
        for (int d = 0; d < t->ndim; d++)
            elements *= t->dim[d];
        if (elements > 1 << 20) continue;
        static const st_dtype as[] = {ST_F32, ST_BF16, ST_I32, ST_U8};
        for (int d = 0; d < 4; d++) {
            void *out = malloc((size_t)elements * st_dtype_size(as[d]) + 1);
            if (out && st_stored_read(t, st_view1(out, as[d], elements), &e) && e.code == ST_EIO)
                abort();
            free(out);
        }
    }
    char *text = st_weights_extra(w) ? json_dumps(st_weights_extra(w), 0) : NULL;
    if (st_weights_extra(w) && !text) abort();
    free(text);
    st_weights_close(w);
}

/* An archive of this data.pkl and one storage, with checksums that are right. */
static void fuzz_archive(const uint8_t *data, size_t n)
{
    st_outfile o;
    st_zip_out z = {0};
    st_err e;
    if (st_outfile_open(&o, fuzz_zip, &e) || st_zip_begin(&z, &o, &e) ||
        st_zip_add(&z, "a/data.pkl", data, n, &e) ||
        st_zip_add(&z, "a/data/0", "0123456789abcdef", 16, &e) || st_zip_end(&z, &e) ||
        st_outfile_commit(&o, &e))
        abort();
    st_zip_drop(&z);
    fuzz_use(fuzz_zip);
}

static void fuzz_put(int fd, const void *head, size_t m, const uint8_t *data, size_t n)
{
    if (ftruncate(fd, 0) || pwrite(fd, head, m, 0) != (ssize_t)m ||
        pwrite(fd, data, n, (off_t)m) != (ssize_t)n)
        abort();
    fuzz_use(fuzz_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char legacy[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
                                 "\x80\x02M\xe9\x03."
                                 "\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    static const int32_t llmc[] = {20240326, 3};
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(fuzz_path, sizeof fuzz_path, "/proc/self/fd/%d", fd);
        snprintf(fuzz_zip, sizeof fuzz_zip, "/dev/shm/strut-fuzz-%d", (int)getpid());
    }
    if (!n) return 0;
    switch (*data) {
    case 'a': fuzz_put(fd, legacy, sizeof legacy - 1, data + 1, n - 1); break;
    case 'b': fuzz_archive(data + 1, n - 1); break;
    case 'c': fuzz_put(fd, "GGUF\3\0\0\0", 8, data + 1, n - 1); break;
    case 'd': fuzz_put(fd, llmc, sizeof llmc, data + 1, n - 1); break;
    default: fuzz_put(fd, "", 0, data, n);
    }
    return 0;
}
