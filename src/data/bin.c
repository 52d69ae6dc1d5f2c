/* Files of tokens as they are written, and what every prepared folder has besides. Ids of 16 bits
 * stand bare, as nanoGPT has them; ids of 32 bits are an .npy file, which says what it is. */
/* SPDX-License-Identifier: MIT */
#include "data/prepare.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BIN_BLOCK = 1 << 14, BIN_HEAD = 128 };

st_status st_bin_failed(const st_bin *b, st_err *e)
{
    int why = errno ? errno : EIO;
    ST_FAIL(e, ST_EIO, "%s: cannot be written: %s%s", b->name, strerror(why),
            why == ENOSPC || why == EDQUOT ? "; make room and run again, nothing was kept" : "");
}

int st_bin_width(const st_bpe *b)
{
    return st_bpe_size(b) > 65536 ? 4 : 2;
}

bool st_bin_seek(const st_bin *b, int64_t at)
{
    return fseeko(b->f, b->head + b->width * at, SEEK_SET) == 0;
}

int32_t st_bin_token(const st_bin *b, const void *block, size_t j)
{
    return b->width == 2 ? ((const uint16_t *)block)[j] : ((const int32_t *)block)[j];
}

/* numpy's header of version 1, filled up with spaces to BIN_HEAD bytes. */
static bool bin_head(st_bin *b)
{
    char head[BIN_HEAD + 1];
    int n = snprintf(head, sizeof head, "\x93NUMPY\x01%c%c%c", 0, BIN_HEAD - 10, 0);
    n += snprintf(head + n, sizeof head - (size_t)n,
                  "{'descr': '<u4', 'fortran_order': False, 'shape': (%lld,), }",
                  (long long)b->tokens);
    memset(head + n, ' ', (size_t)(BIN_HEAD - n));
    head[BIN_HEAD - 1] = '\n';
    return fseeko(b->f, 0, SEEK_SET) == 0 && fwrite(head, 1, BIN_HEAD, b->f) == BIN_HEAD;
}

st_status st_bin_open(st_bin *b, const char *dir, const char *name, int width, st_err *e)
{
    *b = (st_bin){.name = name, .width = width, .head = width == 4 ? BIN_HEAD : 0};
    char *path = st_path_join(dir, name);
    if (!path) return ST_NOMEM(e, name);
    errno = 0;
    b->f = fopen(path, "w+be");
    st_status s = b->f && (!b->head || bin_head(b)) ? ST_OK : st_bin_failed(b, e);
    free(path);
    return s;
}

st_status st_bin_put(st_bin *b, const int32_t *id, int64_t n, st_err *e)
{
    uint16_t token[BIN_BLOCK];
    for (int64_t i = 0; i < n; i += BIN_BLOCK) {
        size_t k = n - i < BIN_BLOCK ? (size_t)(n - i) : BIN_BLOCK;
        for (size_t j = 0; j < k && b->width == 2; j++)
            token[j] = (uint16_t)id[i + (int64_t)j];
        const void *block = b->width == 2 ? (const void *)token : id + i;
        errno = 0;
        if (fwrite(block, (size_t)b->width, k, b->f) != k) return st_bin_failed(b, e);
    }
    b->tokens += n;
    return ST_OK;
}

st_status st_bin_copy(st_bin *b, st_bin *from, int64_t at, int64_t n, st_err *e)
{
    uint32_t token[BIN_BLOCK];
    const size_t width = (size_t)b->width;
    errno = 0;
    if (!st_bin_seek(from, at)) return st_bin_failed(from, e);
    for (int64_t left = n; left > 0;) {
        size_t k = left < BIN_BLOCK ? (size_t)left : BIN_BLOCK;
        errno = 0;
        if (fread(token, width, k, from->f) != k) return st_bin_failed(from, e);
        if (fwrite(token, width, k, b->f) != k) return st_bin_failed(b, e);
        left -= (int64_t)k;
    }
    b->tokens += n;
    return ST_OK;
}

st_status st_bin_close(st_bin *b, st_err *e)
{
    if (!b->f) return ST_OK;
    errno = 0;
    int failed = b->head && !bin_head(b);
    failed |= fclose(b->f);
    b->f = NULL;
    return failed ? st_bin_failed(b, e) : ST_OK;
}

void st_bin_drop(st_bin *b)
{
    if (b->f) fclose(b->f);
    *b = (st_bin){0};
}

st_status st_bin_vocab(const st_bpe *b, const char *path, bool needed, st_err *e)
{
    if (st_bin_width(b) != 2) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: %lld tokens, but this data set is one of 16-bit ids: at most 65536", path,
                (long long)st_bpe_size(b));
    }
    if (needed && st_bpe_eos(b) < 0) {
        ST_FAIL(e, ST_EARG, "%s: has no <|endoftext|>, which ends documents", path);
    }
    return ST_OK;
}

/* ---- the folder ------------------------------------------------------------------------------ */

json_t *st_prepare_meta(const st_bpe *b, const char *const *inputs, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, st_json_text(inputs[i]));
    json_t *eos = st_bpe_eos(b) < 0 ? json_null() : json_integer(st_bpe_eos(b));
    return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o}", "format", "strut shards 1", "dtype",
                     st_bin_width(b) == 2 ? "uint16" : "uint32", "vocab_size",
                     (json_int_t)st_bpe_size(b), "eos_token_id", eos, "tokenizer_hash",
                     json_sprintf("%016llx", (unsigned long long)st_bpe_hash(b)), "inputs", list);
}

st_status st_prepare_open(st_outdir *dir, const char *out, const st_prepare_opts *o,
                          const char *const *inputs, int n, st_err *e)
{
    static const char *const over[] = {"train.bin",  "val.bin",  "test.bin",  "train.npy",
                                       "val.npy",    "test.npy", "meta.json", "meta.pkl",
                                       ST_BPE_FILES, NULL};
    ST_TRY(st_output_apart(out, inputs, n, e));
    ST_TRY(st_output_apart(out, &o->tokenizer, 1, e));
    return st_outdir_open(dir, out, o->replace ? over : NULL, e);
}

st_status st_prepare_finish(st_outdir *dir, const st_bpe *b, const json_t *meta, st_err *e)
{
    ST_TRY(st_bpe_save(b, dir->temp, e));
    char *path = st_path_join(dir->temp, "meta.json");
    if (!path || !meta) {
        free(path);
        return ST_NOMEM(e, "meta.json");
    }
    st_status s = st_write_json(path, meta, e);
    free(path);
    return s ? s : st_outdir_commit(dir, e);
}

json_t *st_prepare_result(const json_t *meta, const char *out, const char *const *names,
                          double seconds)
{
    json_t *files = json_array(), *result = json_pack("{s:o}", "out", st_json_text(out));
    for (; *names; names++) {
        char *path = st_path_join(out, *names);
        json_array_append_new(files, st_json_text(path ? path : *names));
        free(path);
    }
    json_object_update(result, (json_t *)(uintptr_t)meta);
    json_object_set_new(result, "files", files);
    json_object_set_new(result, "seconds", json_real(seconds));
    return result;
}
