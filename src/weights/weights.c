/* Containers of named tensors: which one a file is, by its content, and what all have in common.
 *
 * Tensors are read with pread, not through a map: a file that another process cuts short while we
 * read is then an error message and not a bus error. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "weights/container.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const st_container *const weights_forms[] = {&st_container_torch, &st_container_torch_legacy,
                                                    &st_container_llmc, &st_container_gguf,
                                                    &st_container_safetensors};

st_status st_weights_pread(const st_weights *w, void *to, size_t n, int64_t at, st_err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(w->fd, (char *)to + done, n - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) ST_FAIL(e, ST_EIO, "%s: cannot be read: %s", w->path, strerror(errno));
        if (got == 0) {
            ST_FAIL(e, ST_EIO,
                    "%s: ends at byte %lld, though it was longer when it was opened; "
                    "something is writing to it",
                    w->path, (long long)at + (long long)done);
        }
        done += (size_t)got;
    }
    return ST_OK;
}

int64_t st_stored_elements(const st_stored *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        if (s->dim[i] == 0) return 0;
    for (int i = 0; i < s->ndim; i++)
        n *= s->dim[i]; /* checked at open */
    return n;
}

void st_stored_pack(st_stored *s)
{
    int64_t step = st_stored_elements(s) > 0; /* else the other sides may be anything */
    for (int i = s->ndim - 1; i >= 0; i--) {
        s->stride[i] = step;
        if (s->dim[i] > 1) step *= s->dim[i];
    }
}

/* Does a text begin so, but for spaces and the case of letters? */
static bool weights_begins(const unsigned char *head, const char *with)
{
    size_t n = strspn((const char *)head, " \t\r\n");
    return n + strlen(with) < 64 && strncasecmp((const char *)head + n, with, strlen(with)) == 0;
}

/* What a file that no reader knows probably is, and what to do; NULL: no idea. */
static const char *weights_guess(const st_weights_look *l)
{
    const unsigned char *h = l->head;
    if (st_lfs_pointer(h, sizeof l->head)) {
        return "it is a Git LFS pointer: fetch the weights themselves with git lfs pull";
    }
    if (weights_begins(h, "<!doctype html") || weights_begins(h, "<html")) {
        return "it is a web page, not what it links to: download the file itself";
    }
    if (memcmp(h + 257, "ustar", 5) == 0) {
        return "it is a tar archive, while PyTorch's .pth.tar files are what torch.save writes, in "
               "spite of their name: if the weights are in it, unpack it first";
    }
    if (memcmp(h, "\x1f\x8b", 2) == 0 || memcmp(h, "\x28\xb5\x2f\xfd", 4) == 0 ||
        memcmp(h,
               "\xfd"
               "7zXZ",
               5) == 0) {
        return "it is compressed: unpack it first";
    }
    if (memcmp(h, "\x89HDF", 4) == 0) {
        return "it is an HDF5 file (TensorFlow), which is not read: save it as safetensors";
    }
    if (h[0] == 0x80 && h[1] >= 2 && h[1] <= 5) {
        return "it is a Python pickle, but none of torch.save: load it where you trust it and save "
               "model.state_dict()";
    }
    if (l->size < 8) return "too few for any: get it again";
    return NULL;
}

static st_status weights_file(st_weights *w, st_weights_look *look, st_err *e)
{
    struct stat st;
    w->fd = open(w->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (w->fd < 0 || fstat(w->fd, &st)) ST_FAIL(e, ST_EIO, "%s: %s", w->path, strerror(errno));
    if (!S_ISREG(st.st_mode)) {
        ST_FAIL(e, ST_EARG, "%s: is %s, expected a file of weights", w->path,
                S_ISDIR(st.st_mode) ? "a folder" : "no plain file");
    }
    w->size = look->size = st.st_size;
    size_t n = w->size < ST_WEIGHTS_HEAD ? (size_t)w->size : ST_WEIGHTS_HEAD;
    return st_weights_pread(w, look->head, n, 0, e);
}

static int weights_by_name(const void *a, const void *b)
{
    return strcmp((*(st_stored *const *)a)->name, (*(st_stored *const *)b)->name);
}

static st_status weights_names(st_weights *w, st_err *e)
{
    w->by_name = st_calloc(w->n, sizeof *w->by_name);
    if (!w->by_name) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its names", w->path);
    for (int64_t i = 0; i < w->n; i++) {
        w->row[i].file = w;
        w->by_name[i] = &w->row[i];
    }
    qsort(w->by_name, (size_t)w->n, sizeof *w->by_name, weights_by_name);
    for (int64_t i = 1; i < w->n; i++) {
        if (strcmp(w->by_name[i - 1]->name, w->by_name[i]->name)) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: two tensors are named %.100s", w->path, w->by_name[i]->name);
    }
    return ST_OK;
}

static st_status weights_choose(st_weights *w, const st_weights_look *look, st_err *e)
{
    for (size_t i = 0; !w->form && i < sizeof weights_forms / sizeof *weights_forms; i++) {
        if (weights_forms[i]->probe(look)) w->form = weights_forms[i];
    }
    const char *why = w->form ? NULL : weights_guess(look);
    if (why) {
        ST_FAIL(e, ST_EFORMAT, "%s: has %lld bytes and is no file of tensors that can be read: %s",
                w->path, (long long)w->size, why);
    }
    /* Else a damaged header: safetensors' own reader says where. */
    if (!w->form) w->form = &st_container_safetensors;
    return ST_OK;
}

st_status st_weights_open_dict(st_weights **out, const char *path, const char *dict, st_err *e)
{
    *out = NULL;
    st_weights_look look = {0};
    st_weights *w = st_calloc(1, sizeof *w);
    if (!w) return ST_NOMEM(e, path);
    w->fd = -1;
    w->dict = dict;
    w->path = strdup(path);
    st_status s = w->path ? ST_OK : ST_NOMEM(e, path);
    if (!s) s = weights_file(w, &look, e);
    if (!s) s = weights_choose(w, &look, e);
    if (!s) s = w->form->open(w, e);
    if (!s) s = weights_names(w, e);
    if (s) {
        st_weights_close(w);
        return s;
    }
    w->dict = NULL;
    *out = w;
    return ST_OK;
}

st_status st_weights_open(st_weights **out, const char *path, st_err *e)
{
    return st_weights_open_dict(out, path, NULL, e);
}

void st_weights_close(st_weights *w)
{
    if (!w) return;
    if (w->form && w->form->close) w->form->close(w);
    if (w->fd >= 0) close(w->fd);
    json_decref(w->extra);
    json_decref(w->unread);
    free(w->by_name);
    free(w->row);
    free(w->sum);
    free(w->path);
    free(w);
}

bool st_weights_there(const char *path)
{
    st_weights *w = NULL;
    bool there = !st_weights_open(&w, path, NULL);
    st_weights_close(w);
    return there;
}

const char *st_weights_form(const st_weights *w)
{
    return w->form->name;
}

int64_t st_weights_size(const st_weights *w)
{
    return w->size;
}

int64_t st_weights_count(const st_weights *w)
{
    return w->n;
}

const st_stored *st_weights_at(const st_weights *w, int64_t i)
{
    assert(i >= 0 && i < w->n);
    return &w->row[i];
}

const st_stored *st_weights_find(const st_weights *w, const char *name)
{
    const st_stored key = {.name = name}, *k = &key;
    st_stored **at =
        w->n ? bsearch(&k, w->by_name, (size_t)w->n, sizeof *w->by_name, weights_by_name) : NULL;
    return at ? *at : NULL;
}

const char *st_weights_meta(const st_weights *w, const char *key)
{
    return w->form->meta ? w->form->meta(w, key) : NULL;
}

const json_t *st_weights_extra(const st_weights *w)
{
    return w->extra;
}

const json_t *st_weights_unread(const st_weights *w)
{
    return w->unread;
}
