/* Moving numbers about: embedding, permutation, SS1's fold. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"

/* ---- embedding ------------------------------------------------------------------------------- */

static bool embed_ids_ok(st_stream *q, const st_embed_fwd_args *a, st_tensor table)
{
    const int32_t *ids = a->ids.data;
    int64_t limit = table.data ? st_numel(table) / a->width : INT32_MAX;
    for (int64_t r = 0; r < a->rows; r++) {
        if (ids[r] >= 0 && ids[r] < limit) continue;
        st_stream_latch(q, ST_EARG, "embed", "a token id is not below the vocabulary's size");
        return false;
    }
    return true;
}

/* Numbers [j, j + n) of row `id` of a table in blocks, of which n are whole ones. */
static const float *embed_blocks(const st_embed_fwd_args *a, int64_t id, int64_t j, int64_t n,
                                 float *buf)
{
    int64_t rows = st_numel(a->table) / a->width;
    st_blocks_read(a->table.data, a->table.dtype, rows, a->width, id, j, n, buf);
    return buf;
}

/* Numbers [j, j + n) of row r before the position is added. */
static const float *embed_row(const st_embed_fwd_args *a, int64_t r, int64_t j, int64_t n,
                              float *buf)
{
    int64_t id = ((const int32_t *)a->ids.data)[r];
    if (!a->table.data) return block_in(&a->y, r * a->width + j, n, buf);
    if (st_dtype_blocks(a->table.dtype)) return embed_blocks(a, id, j, n, buf);
    if (!a->columns) return block_in(&a->table, id * a->width + j, n, buf);
    int64_t count = st_numel(a->table) / a->width;
    for (int64_t i = 0; i < n; i++)
        buf[i] = scalar_in(&a->table, (j + i) * count + id);
    return buf;
}

void KERNEL(embed_fwd)(st_stream *q, const st_embed_fwd_args *a)
{
    if (!embed_ids_ok(q, a, a->table)) return;
    int parts = st_parts(q, a->rows * a->width);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t p0 = (st_start(a->start, a->at) + r % a->len) * a->width;
        for (int64_t j = 0; j < a->width; j += BLOCK) {
            float bt[BLOCK], bp[BLOCK], by[BLOCK];
            int64_t n = at_most(a->width - j, BLOCK), at = r * a->width + j;
            const float *t = embed_row(a, r, j, n, bt);
            float *y = block_out(&a->y, at, by);
            if (a->position.data) {
                const float *p = block_in(&a->position, p0 + j, n, bp);
#pragma omp simd
                for (int64_t i = 0; i < n; i++)
                    y[i] = t[i] + p[i];
            } else if (y != t) {
                memcpy(y, t, (size_t)n * sizeof *y);
            }
            block_done(&a->y, at, n, y);
        }
    }
}

/* Several rows may add to one row of a table, so threads share columns, not rows. */
void KERNEL(embed_bwd)(st_stream *q, const st_embed_bwd_args *a)
{
    const int32_t *ids = a->ids.data;
    if (!embed_ids_ok(q, a, a->dtable)) return;
    int parts = st_parts(q, a->rows * a->width);
    float *dtable = a->dtable.data, *dposition = a->dposition.data;
    int64_t count = st_numel(a->dtable) / a->width;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span c = st_part(a->width, 16, t, parts);
        for (int64_t r = 0; r < a->rows; r++) {
            int64_t t0 = ids[r] * a->width, p0 = (a->start + r % a->len) * a->width;
            for (int64_t j = c.lo; j < c.hi; j += BLOCK) {
                float buf[BLOCK];
                int64_t n = at_most(c.hi - j, BLOCK);
                const float *dy = block_in(&a->dy, r * a->width + j, n, buf);
                for (int64_t i = 0; i < n && dtable && !a->columns; i++)
                    dtable[t0 + j + i] += dy[i];
                for (int64_t i = 0; i < n && dtable && a->columns; i++)
                    dtable[(j + i) * count + ids[r]] += dy[i];
                for (int64_t i = 0; i < n && dposition; i++)
                    dposition[p0 + j + i] += dy[i];
            }
        }
    }
}

/* ---- permutation ----------------------------------------------------------------------------- */

enum { PERMUTE_TILE = 16 };

/* Rows i, columns j of one (p, q) matrix into (q, p), a tile at a time so that both sides of it
 * stay in the first cache level: float32. */
static void permute_tile_f32(const float *x, float *y, const st_permute_args *a, st_span i,
                             st_span j)
{
    if (!a->accumulate && i.hi - i.lo == PERMUTE_TILE && j.hi - j.lo == PERMUTE_TILE) {
        for (int64_t r = i.lo; r < i.hi; r += LANES) {
            for (int64_t c = j.lo; c < j.hi; c += LANES) {
                vec block[LANES];
#pragma GCC unroll 16
                for (int k = 0; k < LANES; k++)
                    block[k] = vec_load(x + (r + k) * a->q + c);
                vec_transpose(block);
#pragma GCC unroll 16
                for (int k = 0; k < LANES; k++)
                    vec_store(y + (c + k) * a->p + r, block[k]);
            }
        }
        return;
    }
    for (int64_t c = j.lo; c < j.hi; c++) {
        for (int64_t r = i.lo; r < i.hi; r++) {
            float *to = &y[c * a->p + r], value = x[r * a->q + c];
            *to = a->accumulate ? *to + value : value;
        }
    }
}

static void permute_tile_bf16(const uint16_t *x, uint16_t *y, const st_permute_args *a, st_span i,
                              st_span j)
{
    for (int64_t c = j.lo; c < j.hi; c++) {
        for (int64_t r = i.lo; r < i.hi; r++) {
            uint16_t value = x[r * a->q + c], *to = &y[c * a->p + r];
            if (!a->accumulate)
                *to = value;
            else
                *to = st_f32_to_bf16(st_bf16_to_f32(*to) + st_bf16_to_f32(value));
        }
    }
}

/* Runs of `inner` numbers move together. */
static void permute_runs(const st_permute_args *a, int64_t at, st_span j)
{
    size_t size = st_dtype_size(a->x.dtype), run = (size_t)a->inner * size;
    for (int64_t c = j.lo; c < j.hi; c++) {
        for (int64_t r = 0; r < a->p; r++) {
            int64_t from = at + (r * a->q + c) * a->inner, to = at + (c * a->p + r) * a->inner;
            if (a->accumulate) {
                block_scaled(&a->x, from, &a->y, to, a->inner, 1, true);
                continue;
            }
            memcpy((char *)a->y.data + (size_t)to * size,
                   (const char *)a->x.data + (size_t)from * size, run);
        }
    }
}

void KERNEL(permute)(st_stream *q, const st_permute_args *a)
{
    int64_t inner = st_or(a->inner, 1), matrix = a->p * a->q * inner;
    int64_t strips = (a->q + PERMUTE_TILE - 1) / PERMUTE_TILE;
    int parts = st_parts(q, a->rows * matrix * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t unit = 0; unit < a->rows * strips; unit++) {
        int64_t at = unit / strips * matrix, c = unit % strips * PERMUTE_TILE;
        st_span j = {c, at_most(a->q, c + PERMUTE_TILE)};
        if (inner > 1) {
            permute_runs(a, at, j);
            continue;
        }
        for (int64_t r = 0; r < a->p; r += PERMUTE_TILE) {
            st_span i = {r, at_most(a->p, r + PERMUTE_TILE)};
            if (a->x.dtype == ST_F32) {
                permute_tile_f32((const float *)a->x.data + at, (float *)a->y.data + at, a, i, j);
            } else {
                permute_tile_bf16((const uint16_t *)a->x.data + at, (uint16_t *)a->y.data + at, a,
                                  i, j);
            }
        }
    }
}

/* ---- SS1's fold ------------------------------------------------------------------------------ */

/* Shifts are multiples of 8 wherever the block is: vectors of 8 need no other shuffle. */
#if LANES == 4
enum { PIECE = 4 };
#else
enum { PIECE = 8 };
#endif
typedef float piece __attribute__((vector_size(4 * PIECE)));
typedef uint32_t piece_u32 __attribute__((vector_size(4 * PIECE)));
typedef uint16_t piece_u16 __attribute__((vector_size(2 * PIECE)));

static inline piece piece_read(const void *p, st_dtype t, int64_t i)
{
    piece v;
    piece_u16 h;
    if (t == ST_F32) {
        memcpy(&v, (const float *)p + i, sizeof v);
        return v;
    }
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return (piece)(__builtin_convertvector(h, piece_u32) << 16);
}

/* Rounded as narrow does it. */
static inline void piece_write(void *p, st_dtype t, int64_t i, piece v)
{
    if (t == ST_F32) {
        memcpy((float *)p + i, &v, sizeof v);
        return;
    }
    piece_u32 u = (piece_u32)v;
    piece_u32 even = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, nan = (u >> 16) | 0x40u;
    piece_u32 is = (piece_u32)((u & 0x7fffffffu) > 0x7f800000u);
    piece_u16 h = __builtin_convertvector((is & nan) | (~is & even), piece_u16);
    memcpy((uint16_t *)p + i, &h, sizeof h);
}

/* The hash of every (fold, super-block, slice), drawn once per call: rows share it. */
typedef struct {
    const st_fold_fwd_args *a;
    const st_fold_term *terms; /* NULL: too many for the scratch, drawn again and again */
    bool whole;                /* shifts and blocks are whole pieces */
} fold_plan;

static inline int64_t fold_index(const st_fold_fwd_args *a, int64_t h, int64_t k, int64_t l)
{
    return (h * a->supers + k) * a->factor + l;
}

static fold_plan fold_open(st_stream *q, const st_fold_fwd_args *a)
{
    int64_t count = a->folds * a->supers * a->factor;
    fold_plan p = {.a = a, .whole = a->block % PIECE == 0 && a->vec % PIECE == 0};
    if ((size_t)count > ST_CPU_SCRATCH / sizeof(st_fold_term)) return p;
    st_fold_term *terms = (st_fold_term *)(void *)st_cpu_scratch(q, 0);
    for (int64_t i = 0; i < count; i++) {
        terms[i] =
            st_fold_hash(a, i / (a->supers * a->factor), i / a->factor % a->supers, i % a->factor);
    }
    p.terms = terms;
    return p;
}

static inline st_fold_term fold_term(const fold_plan *p, int64_t h, int64_t k, int64_t l)
{
    return p->terms ? p->terms[fold_index(p->a, h, k, l)] : st_fold_hash(p->a, h, k, l);
}

/* One block of z from whole pieces of x: a shift only says which. */
__attribute__((always_inline)) static inline void
fold_fwd_pieces(const fold_plan *p, int64_t r, int64_t h, int64_t k, const st_dtype t)
{
    const st_fold_fwd_args *a = p->a;
    int64_t block = a->block, to = ((r * a->folds + h) * a->supers + k) * block;
    int64_t from = r * a->cols + k * a->factor * block;
    for (int64_t j0 = 0; j0 < block; j0 += 4 * PIECE) {
        piece sum[4] = {{0}};
        int64_t wide = at_most(block - j0, 4 * PIECE);
        for (int64_t l = 0; l < a->factor; l++) {
            st_fold_term term = fold_term(p, h, k, l);
            int64_t at = j0 + term.shift, x = from + l * block;
#pragma GCC unroll 4
            for (int64_t i = 0; i < 4; i++, at += PIECE) {
                if (at >= block) at -= block;
                if (i * PIECE < wide) sum[i] += term.sign * piece_read(a->x.data, t, x + at);
            }
        }
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            if (i * PIECE < wide) piece_write(a->z.data, t, to + j0 + i * PIECE, sum[i]);
        }
    }
}

/* The same for any shift, element by element; columns at or beyond `cols` count as zero. */
static void fold_fwd_numbers(const fold_plan *p, int64_t r, int64_t h, int64_t k)
{
    const st_fold_fwd_args *a = p->a;
    int64_t block = a->block, to = ((r * a->folds + h) * a->supers + k) * block;
    for (int64_t j = 0; j < block; j++) {
        float total = 0, out, *z = block_out(&a->z, to + j, &out);
        for (int64_t l = 0; l < a->factor; l++) {
            st_fold_term t = fold_term(p, h, k, l);
            int64_t at = j + t.shift < block ? j + t.shift : j + t.shift - block;
            int64_t col = (k * a->factor + l) * block + at;
            if (col < a->cols) total += t.sign * scalar_in(&a->x, r * a->cols + col);
        }
        *z = total;
        block_done(&a->z, to + j, 1, z);
    }
}

void KERNEL(fold_fwd)(st_stream *q, const st_fold_fwd_args *a)
{
    int parts = st_parts(q, a->rows * a->folds * a->supers * a->factor * a->block);
    fold_plan p = fold_open(q, a);
    int64_t inside = p.whole ? a->cols / (a->factor * a->block) : 0; /* blocks with no padding */
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t h = 0; h < a->folds; h++) {
            for (int64_t k = 0; k < a->supers; k++) {
                if (k >= inside)
                    fold_fwd_numbers(&p, r, h, k);
                else if (a->x.dtype == ST_F32)
                    fold_fwd_pieces(&p, r, h, k, ST_F32);
                else
                    fold_fwd_pieces(&p, r, h, k, ST_BF16);
            }
        }
    }
}

/* dx of slice (k, l): z's blocks of all folds, shifted back. */
__attribute__((always_inline)) static inline void
fold_bwd_pieces(const fold_plan *p, int64_t r, int64_t k, int64_t l, const st_dtype t)
{
    const st_fold_bwd_args *a = p->a;
    int64_t block = a->block, to = r * a->cols + (k * a->factor + l) * block;
    for (int64_t j0 = 0; j0 < block; j0 += 4 * PIECE) {
        piece sum[4] = {{0}};
        int64_t wide = at_most(block - j0, 4 * PIECE);
        for (int64_t h = 0; h < a->folds; h++) {
            st_fold_term term = fold_term(p, h, k, l);
            int64_t at = j0 >= term.shift ? j0 - term.shift : j0 - term.shift + block;
            int64_t from = ((r * a->folds + h) * a->supers + k) * block;
#pragma GCC unroll 4
            for (int64_t i = 0; i < 4; i++, at += PIECE) {
                if (at >= block) at -= block;
                if (i * PIECE < wide) sum[i] += term.sign * piece_read(a->dz.data, t, from + at);
            }
        }
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            if (i * PIECE < wide) piece_write(a->dx.data, t, to + j0 + i * PIECE, sum[i]);
        }
    }
}

static void fold_bwd_numbers(const fold_plan *p, int64_t r, int64_t k, int64_t l)
{
    const st_fold_bwd_args *a = p->a;
    int64_t block = a->block, first = (k * a->factor + l) * block;
    for (int64_t j = 0; j < block && first + j < a->cols; j++) {
        float total = 0, out, *dx = block_out(&a->dx, r * a->cols + first + j, &out);
        for (int64_t h = 0; h < a->folds; h++) {
            st_fold_term t = fold_term(p, h, k, l);
            int64_t at = j >= t.shift ? j - t.shift : j - t.shift + block;
            int64_t from = ((r * a->folds + h) * a->supers + k) * block;
            total += t.sign * scalar_in(&a->dz, from + at);
        }
        *dx = total;
        block_done(&a->dx, r * a->cols + first + j, 1, dx);
    }
}

void KERNEL(fold_bwd)(st_stream *q, const st_fold_bwd_args *a)
{
    int parts = st_parts(q, a->rows * a->folds * a->supers * a->factor * a->block);
    fold_plan p = fold_open(q, a);
    int64_t inside = p.whole ? a->cols / (a->factor * a->block) : 0;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t k = 0; k < a->supers; k++) {
            for (int64_t l = 0; l < a->factor; l++) {
                if (k >= inside)
                    fold_bwd_numbers(&p, r, k, l);
                else if (a->dx.dtype == ST_F32)
                    fold_bwd_pieces(&p, r, k, l, ST_F32);
                else
                    fold_bwd_pieces(&p, r, k, l, ST_BF16);
            }
        }
    }
}
