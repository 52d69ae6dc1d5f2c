/* The split of prepared text where documents keep their order: at the end of train.bin. */
/* SPDX-License-Identifier: MIT */
#include "data/split.h"
#include <errno.h>
#include <math.h>
#include <unistd.h>

enum { SPLIT_BLOCK = 1 << 14, SPLIT_CONTEXT = 1024 };
/* What val.bin has at least if no fraction was asked for: ten contexts, or a tenth of a small text.
 */
enum { SPLIT_FLOOR = 10 * SPLIT_CONTEXT + 1 };

/* The last place <= at in train.bin where a document begins. */
static st_status split_boundary(prepare_state *p, int64_t at, int64_t *found, st_err *e)
{
    st_bin *f = &p->file[TRAIN];
    uint32_t token[SPLIT_BLOCK];
    for (int64_t end = at, begin; end > 0; end = begin) {
        begin = end > SPLIT_BLOCK ? end - SPLIT_BLOCK : 0;
        size_t k = (size_t)(end - begin);
        errno = 0;
        if (!st_bin_seek(f, begin) || fread(token, (size_t)f->width, k, f->f) != k)
            return st_bin_failed(f, e);
        while (k && st_bin_token(f, token, k - 1) != p->eos)
            k--;
        *found = begin + (int64_t)k;
        if (k) return ST_OK;
    }
    *found = 0;
    return ST_OK;
}

/* Moves what is behind the first `left` tokens of train.bin to the end of val.bin. */
static st_status split_move(prepare_state *p, int64_t left, st_err *e)
{
    st_bin *from = &p->file[TRAIN], *to = &p->file[VAL];
    uint32_t token[SPLIT_BLOCK];
    const size_t width = (size_t)from->width;
    int64_t documents = 0;
    errno = 0;
    if (!st_bin_seek(from, left)) return st_bin_failed(from, e);
    for (int64_t i = left; i < from->tokens; i += SPLIT_BLOCK) {
        size_t k = from->tokens - i < SPLIT_BLOCK ? (size_t)(from->tokens - i) : SPLIT_BLOCK;
        if (fread(token, width, k, from->f) != k) return st_bin_failed(from, e);
        if (fwrite(token, width, k, to->f) != k) return st_bin_failed(to, e);
        for (size_t j = 0; j < k; j++)
            documents += st_bin_token(from, token, j) == p->eos;
    }
    if (!st_bin_seek(from, 0) || ftruncate(fileno(from->f), from->head + from->width * left))
        return st_bin_failed(from, e);
    to->tokens += from->tokens - left;
    from->tokens = left;
    to->documents += documents;
    from->documents -= documents;
    return ST_OK;
}

/* Where train.bin must end so that neither file is empty nor val.bin smaller than it should be. */
static st_status split_end(prepare_state *p, int64_t *left, st_err *e)
{
    int64_t total = p->file[TRAIN].tokens + p->file[VAL].tokens, floor = 1;
    if (p->o->val_fraction == 0) floor = total / 10 < SPLIT_FLOOR ? total / 10 : SPLIT_FLOOR;
    if (p->split == ST_SPLIT_TOKENS) {
        int64_t n = llround(p->fraction * (double)total);
        n = n < floor ? floor : n;
        *left = n < 1 ? total - 1 : n >= total ? 1 : total - n;
        return ST_OK;
    }
    *left = p->file[TRAIN].tokens;
    if (p->file[VAL].documents > 0 && p->file[VAL].tokens >= floor) return ST_OK;
    int64_t want = floor > p->file[VAL].tokens ? floor - p->file[VAL].tokens : 1, last;
    ST_TRY(split_boundary(p, *left - 1, &last, e)); /* of the last document */
    if (want < *left)
        ST_TRY(split_boundary(p, *left - want, left, e));
    else
        *left = 0;
    if (*left == 0) *left = last ? last : p->file[TRAIN].tokens; /* the first one stays */
    return ST_OK;
}

st_status prepare_split(prepare_state *p, st_err *e)
{
    int64_t left;
    if (p->documents == 1) p->split = ST_SPLIT_TOKENS;
    errno = 0;
    if (fflush(p->file[TRAIN].f)) return st_bin_failed(&p->file[TRAIN], e);
    ST_TRY(split_end(p, &left, e));
    ST_TRY(split_move(p, left, e));
    if (p->file[VAL].tokens <= SPLIT_CONTEXT) {
        st_log(ST_LOG_WARN,
               "val.bin has only %s, less than a context of %d; for more, say "
               "--val-fraction",
               st_counted(p->file[VAL].tokens, "tokens").s, SPLIT_CONTEXT);
    }
    return ST_OK;
}
