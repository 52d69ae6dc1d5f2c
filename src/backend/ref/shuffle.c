/* Moving numbers about: embedding look-up, bias gradient, permutation, SS1's fold. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"

/* False, and a latched failure, if an id is not a row of the table. */
static bool shuffle_ids_ok(st_stream *q, const st_embed_fwd_args *a, st_tensor table)
{
    const int32_t *ids = a->ids.data;
    for (int64_t r = 0; r < a->rows; r++) {
        if (ids[r] >= 0 && (!table.data || ids[r] < st_numel(table) / a->width)) continue;
        st_stream_latch(q, ST_EARG, "embed", "a token id is not below the vocabulary's size");
        return false;
    }
    return true;
}

/* Where number j of row `id` is in a table of `numel` numbers. */
static int64_t shuffle_embed_at(const st_embed_fwd_args *a, int64_t numel, int64_t id, int64_t j)
{
    return a->columns ? j * (numel / a->width) + id : id * a->width + j;
}

/* Number j of row `id` of the table. */
static double shuffle_embed_number(const st_embed_fwd_args *a, int64_t id, int64_t j)
{
    int64_t numel = st_numel(a->table);
    if (!st_dtype_blocks(a->table.dtype))
        return (double)ref_load(&a->table, shuffle_embed_at(a, numel, id, j));
    float x[32];
    st_blocks_read(a->table.data, a->table.dtype, numel / a->width, a->width, id, j / 32 * 32, 32,
                   x);
    return (double)x[j % 32];
}

void st_ref_embed_fwd(st_stream *q, const st_embed_fwd_args *a)
{
    const int32_t *ids = a->ids.data;
    if (!shuffle_ids_ok(q, a, a->table)) return;
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t p = st_start(a->start, a->at) + r % a->len;
        for (int64_t j = 0; j < a->width; j++) {
            double y = a->table.data ? shuffle_embed_number(a, ids[r], j)
                                     : (double)ref_load(&a->y, r * a->width + j);
            if (a->position.data) y += (double)ref_load(&a->position, p * a->width + j);
            ref_store(&a->y, r * a->width + j, y);
        }
    }
}

void st_ref_embed_bwd(st_stream *q, const st_embed_bwd_args *a)
{
    const int32_t *ids = a->ids.data;
    if (!shuffle_ids_ok(q, a, a->dtable)) return;
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t p = a->start + r % a->len;
        for (int64_t j = 0; j < a->width; j++) {
            double dy = (double)ref_load(&a->dy, r * a->width + j);
            int64_t at = shuffle_embed_at(a, st_numel(a->dtable), ids[r], j);
            if (a->dtable.data) ref_add(&a->dtable, at, dy);
            if (a->dposition.data) ref_add(&a->dposition, p * a->width + j, dy);
        }
    }
}

void st_ref_bias_grad(st_stream *q, const st_bias_grad_args *a)
{
    (void)q;
    for (int64_t j = 0; j < a->width; j++) {
        double sum = 0;
        for (int64_t r = 0; r < a->rows; r++)
            sum += (double)ref_load(&a->dy, r * a->width + j);
        ref_add(&a->dbias, j, sum);
    }
}

void st_ref_permute(st_stream *q, const st_permute_args *a)
{
    (void)q;
    int64_t inner = st_or(a->inner, 1);
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t i = 0; i < a->p; i++) {
            for (int64_t j = 0; j < a->q; j++) {
                int64_t from = ((r * a->p + i) * a->q + j) * inner;
                int64_t to = ((r * a->q + j) * a->p + i) * inner;
                for (int64_t c = 0; c < inner; c++) {
                    double x = (double)ref_load(&a->x, from + c);
                    if (a->accumulate)
                        ref_add(&a->y, to + c, x);
                    else
                        ref_store(&a->y, to + c, x);
                }
            }
        }
    }
}

/* Column of x that term l of z[h][k*block + j] reads, and its sign. */
static int64_t shuffle_fold_column(const st_fold_fwd_args *a, int64_t k, int64_t l, int64_t j,
                                   st_fold_term term)
{
    return (k * a->factor + l) * a->block + (j + term.shift) % a->block;
}

void st_ref_fold_fwd(st_stream *q, const st_fold_fwd_args *a)
{
    (void)q;
    int64_t width = a->supers * a->block;
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t h = 0; h < a->folds; h++) {
            for (int64_t i = 0; i < width; i++) {
                int64_t k = i / a->block, j = i % a->block;
                double sum = 0;
                for (int64_t l = 0; l < a->factor; l++) {
                    st_fold_term term = st_fold_hash(a, h, k, l);
                    int64_t c = shuffle_fold_column(a, k, l, j, term);
                    if (c >= a->cols) continue;
                    sum += (double)term.sign * (double)ref_load(&a->x, r * a->cols + c);
                }
                ref_store(&a->z, (r * a->folds + h) * width + i, sum);
            }
        }
    }
}

void st_ref_fold_bwd(st_stream *q, const st_fold_bwd_args *a)
{
    (void)q;
    int64_t width = a->supers * a->block;
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t c = 0; c < a->cols; c++) {
            int64_t k = c / (a->factor * a->block), l = c / a->block % a->factor;
            double sum = 0;
            for (int64_t h = 0; h < a->folds; h++) {
                /* (j + shift) % block == c % block */
                st_fold_term term = st_fold_hash(a, h, k, l);
                int64_t j = (c % a->block + a->block - term.shift) % a->block;
                int64_t from = (r * a->folds + h) * width + k * a->block + j;
                sum += (double)term.sign * (double)ref_load(&a->dz, from);
            }
            ref_store(&a->dx, r * a->cols + c, sum);
        }
    }
}
