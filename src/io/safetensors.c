/* Reading safetensors files: u64 header length, JSON header, then the tensors' bytes without gaps.
 *
 * Tensors are read with pread, not through a map: a file that another process cuts short while we
 * read is then an error message and not a bus error. */
/* SPDX-License-Identifier: MIT */
#include "io/safetensors.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian; conversion is not written"
#endif

/* The reference implementation's limit of the header. */
#define HEADER_MAX 100000000u

struct st_safetensors {
    int fd;
    char *path, *text;
    int64_t start;    /* of the tensors' bytes in the file */
    st_header header; /* tensors by offset */
    st_stored **by_name;
};

static int safetensors_by_offset(const void *a, const void *b)
{
    const st_stored *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty ones first */
    return strcmp(x->name, y->name);
}

static int safetensors_by_name(const void *a, const void *b)
{
    return strcmp((*(st_stored *const *)a)->name, (*(st_stored *const *)b)->name);
}

static int safetensors_by_key(const void *a, const void *b)
{
    return strcmp(((const st_header_meta *)a)->key, ((const st_header_meta *)b)->key);
}

/* Reads exactly n bytes at `at`. */
static st_status safetensors_pread(int fd, const char *path, void *to, size_t n, int64_t at,
                                   st_err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)to + done, n - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) ST_FAIL(e, ST_EIO, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0) {
            ST_FAIL(e, ST_EIO,
                    "%s: ends at byte %lld, though it was longer when it was opened; "
                    "something is writing to it",
                    path, (long long)at + (long long)done);
        }
        done += (size_t)got;
    }
    return ST_OK;
}

/* What a file that is no safetensors file probably is. */
static const char *safetensors_guess(const char first[8])
{
    if (memcmp(first, "version ", 8) == 0) {
        return "it is a Git LFS pointer: fetch the weights themselves with git lfs pull";
    }
    if (memcmp(first, "PK\3\4", 4) == 0 || memcmp(first, "\x80\2", 2) == 0) {
        return "it is a PyTorch archive: save it as safetensors first";
    }
    if (memcmp(first, "GGUF", 4) == 0) return "it is a GGUF file, which is not read";
    return "it is no safetensors file, or damaged: get it again";
}

/* Reads the header's text; *n its length. */
static st_status safetensors_header(st_safetensors *f, int64_t size, size_t *n, st_err *e)
{
    unsigned char first[8];
    if (size < 8) {
        ST_FAIL(e, ST_EFORMAT, "%s: has %lld bytes, expected a safetensors file of 10 or more",
                f->path, (long long)size);
    }
    ST_TRY(safetensors_pread(f->fd, f->path, first, 8, 0, e));
    uint64_t length;
    memcpy(&length, first, 8);
    if (length > HEADER_MAX) {
        ST_FAIL(e, ST_EFORMAT, "%s: header of %llu bytes, at most %u are legal; %s", f->path,
                (unsigned long long)length, HEADER_MAX, safetensors_guess((const char *)first));
    }
    if ((int64_t)length > size - 8) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: truncated: header of %llu bytes, but only %lld are there; get "
                "the file again",
                f->path, (unsigned long long)length, (long long)size - 8);
    }
    f->text = malloc((size_t)length + 1);
    if (!f->text) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its header", f->path);
    f->start = 8 + (int64_t)length;
    *n = (size_t)length;
    return safetensors_pread(f->fd, f->path, f->text, *n, 8, e);
}

/* The tensors' bytes must follow each other without holes, from 0 to the end of the file. */
static st_status safetensors_ranges(st_safetensors *f, int64_t size, st_err *e)
{
    st_header *h = &f->header;
    if (h->n) qsort(h->tensor, (size_t)h->n, sizeof *h->tensor, safetensors_by_offset);
    int64_t end = 0;
    for (int64_t i = 0; i < h->n; i++) {
        st_stored *t = &h->tensor[i];
        t->file = f;
        if (t->offset != end) {
            ST_FAIL(e, ST_EFORMAT,
                    "%s: tensor %.100s begins at byte %lld of the data, expected "
                    "%lld (%s); the file is damaged",
                    f->path, t->name, (long long)t->offset, (long long)end,
                    t->offset > end ? "a hole" : "an overlap");
        }
        end += (int64_t)t->bytes;
    }
    if (end != size - f->start) {
        ST_FAIL(e, ST_EFORMAT, "%s: %lld bytes of tensors, but the header describes %lld; %s",
                f->path, (long long)(size - f->start), (long long)end,
                end > size - f->start ? "it is truncated: get it again" : "it has a foreign tail");
    }
    return ST_OK;
}

static st_status safetensors_names(st_safetensors *f, st_err *e)
{
    st_header *h = &f->header;
    f->by_name = st_calloc(h->n, sizeof *f->by_name);
    if (!f->by_name) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its header", f->path);
    for (int64_t i = 0; i < h->n; i++)
        f->by_name[i] = &h->tensor[i];
    qsort(f->by_name, (size_t)h->n, sizeof *f->by_name, safetensors_by_name);
    for (int64_t i = 1; i < h->n; i++) {
        if (strcmp(f->by_name[i - 1]->name, f->by_name[i]->name)) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: two tensors are named %.100s", f->path, f->by_name[i]->name);
    }
    if (h->n_meta) qsort(h->meta, (size_t)h->n_meta, sizeof *h->meta, safetensors_by_key);
    for (int64_t i = 1; i < h->n_meta; i++) {
        if (strcmp(h->meta[i - 1].key, h->meta[i].key)) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: __metadata__ has %.100s twice", f->path, h->meta[i].key);
    }
    return ST_OK;
}

st_status st_safetensors_open(st_safetensors **out, const char *path, st_err *e)
{
    *out = NULL;
    st_safetensors *f = st_calloc(1, sizeof *f);
    if (!f) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    struct stat st;
    size_t n = 0;
    st_status s = ST_OK;
    f->path = strdup(path);
    f->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (!f->path) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", path);
    if (!s && (f->fd < 0 || fstat(f->fd, &st))) {
        s = st_fail(e, ST_EIO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
    } else if (!s && !S_ISREG(st.st_mode)) {
        s = st_fail(e, ST_EARG, __FILE__, __LINE__, "%s: is %s, expected a safetensors file", path,
                    S_ISDIR(st.st_mode) ? "a folder" : "no plain file");
    }
    if (!s) s = safetensors_header(f, st.st_size, &n, e);
    if (!s) s = st_header_parse(&f->header, f->text, n, path, e);
    if (!s) s = safetensors_ranges(f, st.st_size, e);
    if (!s) s = safetensors_names(f, e);
    if (s) {
        st_safetensors_close(f);
        return s;
    }
    *out = f;
    return ST_OK;
}

void st_safetensors_close(st_safetensors *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    st_header_free(&f->header);
    free(f->by_name);
    free(f->text);
    free(f->path);
    free(f);
}

int64_t st_safetensors_count(const st_safetensors *f)
{
    return f->header.n;
}

const st_stored *st_safetensors_at(const st_safetensors *f, int64_t i)
{
    assert(i >= 0 && i < f->header.n);
    return &f->header.tensor[i];
}

const st_stored *st_safetensors_find(const st_safetensors *f, const char *name)
{
    const st_stored key = {.name = name}, *k = &key;
    st_stored **at = f->header.n ? bsearch(&k, f->by_name, (size_t)f->header.n, sizeof *f->by_name,
                                           safetensors_by_name)
                                 : NULL;
    return at ? *at : NULL;
}

const char *st_safetensors_meta(const st_safetensors *f, const char *key)
{
    const st_header_meta k = {.key = key};
    const st_header_meta *at =
        f->header.n_meta
            ? bsearch(&k, f->header.meta, (size_t)f->header.n_meta, sizeof k, safetensors_by_key)
            : NULL;
    return at ? at->value : NULL;
}

static const struct {
    const char *name;
    st_dtype dtype;
} safetensors_dtypes[] = {{"F32", ST_F32}, {"BF16", ST_BF16}, {"F16", ST_F16},
                          {"I32", ST_I32}, {"U16", ST_U16},   {"U8", ST_U8}};

/* F64 or a float of st_dtype to another float, through a buffer. */
static st_status safetensors_convert(const st_stored *s, bool wide, st_dtype from, st_tensor dst,
                                     st_err *e)
{
    enum { CHUNK = 4096 };
    union {
        double d[CHUNK];
        float f[CHUNK];
        uint16_t h[CHUNK];
    } buffer;
    float narrow[CHUNK];
    size_t size = wide ? sizeof(double) : st_dtype_size(from), to = st_dtype_size(dst.dtype);
    int64_t n = st_numel(dst), at = s->file->start + s->offset;
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t some = n - i < CHUNK ? n - i : CHUNK;
        ST_TRY(safetensors_pread(s->file->fd, s->file->path, &buffer, (size_t)some * size,
                                 at + i * (int64_t)size, e));
        void *out = (char *)dst.data + (size_t)i * to;
        if (wide) {
            for (int64_t j = 0; j < some; j++)
                narrow[j] = (float)buffer.d[j];
            st_convert(out, dst.dtype, narrow, ST_F32, some);
        } else {
            st_convert(out, dst.dtype, &buffer, from, some);
        }
    }
    return ST_OK;
}

st_status st_stored_read(const st_stored *s, st_tensor dst, st_err *e)
{
    int64_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        n *= s->dim[i]; /* checked at open */
    if (n != st_numel(dst)) {
        ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s has %lld elements, expected %lld", s->file->path,
                s->name, (long long)n, (long long)st_numel(dst));
    }
    bool wide = strcmp(s->dtype, "F64") == 0, known = wide;
    st_dtype from = ST_F32;
    for (size_t i = 0; i < sizeof safetensors_dtypes / sizeof *safetensors_dtypes; i++) {
        if (strcmp(s->dtype, safetensors_dtypes[i].name)) continue;
        from = safetensors_dtypes[i].dtype;
        known = true;
    }
    if (known && !wide && from == dst.dtype) {
        return safetensors_pread(s->file->fd, s->file->path, dst.data, s->bytes,
                                 s->file->start + s->offset, e);
    }
    if (!known || from > ST_F16 || dst.dtype > ST_F16) {
        ST_FAIL(e, ST_EFORMAT, "%s: tensor %.100s is stored as %s, which cannot be read as %s",
                s->file->path, s->name, s->dtype, st_dtype_name(dst.dtype));
    }
    return safetensors_convert(s, wide, from, dst, e);
}
