/* Moving numbers about: embedding, permutation, SS1's fold. */
/* SPDX-License-Identifier: MIT */

/* ---- embedding --------------------------------------------------------------------------------- */

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

static void kernel_embed_fwd(st_stream *q, const st_embed_fwd_args *a)
{
    const int32_t *ids = a->ids.data;
    if (!embed_ids_ok(q, a, a->table)) return;
    int parts = st_parts(q, a->rows * a->width);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t t0 = ids[r] * a->width, p0 = (a->start + r % a->len) * a->width;
        for (int64_t j = 0; j < a->width; j += BLOCK) {
            float bt[BLOCK], bp[BLOCK], by[BLOCK];
            int64_t n = at_most(a->width - j, BLOCK), at = r * a->width + j;
            const float *t = block_in(&a->table, t0 + j, n, bt);
            float *y = block_out(&a->y, at, by);
            if (a->position.data) {
                const float *p = block_in(&a->position, p0 + j, n, bp);
#pragma omp simd
                for (int64_t i = 0; i < n; i++) y[i] = t[i] + p[i];
            } else {
                memcpy(y, t, (size_t)n * sizeof *y);
            }
            block_done(&a->y, at, n, y);
        }
    }
}

/* Several rows may add to one row of a table, so threads share columns, not rows. */
static void kernel_embed_bwd(st_stream *q, const st_embed_bwd_args *a)
{
    const int32_t *ids = a->ids.data;
    if (!embed_ids_ok(q, a, a->dtable)) return;
    int parts = st_parts(q, a->rows * a->width);
    float *dtable = a->dtable.data, *dposition = a->dposition.data;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span c = st_part(a->width, 16, t, parts);
        for (int64_t r = 0; r < a->rows; r++) {
            int64_t t0 = ids[r] * a->width, p0 = (a->start + r % a->len) * a->width;
            for (int64_t j = c.lo; j < c.hi; j += BLOCK) {
                float buf[BLOCK];
                int64_t n = at_most(c.hi - j, BLOCK);
                const float *dy = block_in(&a->dy, r * a->width + j, n, buf);
                for (int64_t i = 0; i < n && dtable; i++) dtable[t0 + j + i] += dy[i];
                for (int64_t i = 0; i < n && dposition; i++) dposition[p0 + j + i] += dy[i];
            }
        }
    }
}

/* ---- permutation ------------------------------------------------------------------------------- */

enum { PERMUTE_TILE = 16 };

/* Rows i, columns j of one (p, q) matrix into (q, p), a tile at a time so that both sides of it stay
 * in the first cache level: float32. */
static void permute_tile_f32(const float *x, float *y, const st_permute_args *a, st_span i,
                             st_span j)
{
    if (!a->accumulate && i.hi - i.lo == PERMUTE_TILE && j.hi - j.lo == PERMUTE_TILE) {
        for (int64_t r = i.lo; r < i.hi; r += LANES) {
            for (int64_t c = j.lo; c < j.hi; c += LANES) {
                vec block[LANES];
#pragma GCC unroll 16
                for (int k = 0; k < LANES; k++) block[k] = vec_load(x + (r + k) * a->q + c);
                vec_transpose(block);
#pragma GCC unroll 16
                for (int k = 0; k < LANES; k++) vec_store(y + (c + k) * a->p + r, block[k]);
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
            if (!a->accumulate) *to = value;
            else *to = st_f32_to_bf16(st_bf16_to_f32(*to) + st_bf16_to_f32(value));
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
                pointwise_scaled(&a->x, from, &a->y, to, a->inner, 1, true);
                continue;
            }
            memcpy((char *)a->y.data + (size_t)to * size,
                   (const char *)a->x.data + (size_t)from * size, run);
        }
    }
}

static void kernel_permute(st_stream *q, const st_permute_args *a)
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

/* ---- SS1's fold -------------------------------------------------------------------------------- */

/* z[0..n) += sign * x[from..from + n), columns at or beyond `cols` counting as zero. */
static void fold_add(const st_fold_fwd_args *a, float *z, int64_t row, int64_t from, int64_t n,
                     float sign)
{
    n = at_most(n, a->cols - from);
    for (int64_t i = 0; i < n; i += BLOCK) {
        float buf[BLOCK];
        int64_t len = at_most(n - i, BLOCK);
        const float *x = block_in(&a->x, row * a->cols + from + i, len, buf);
        float *to = z + i;
#pragma omp simd
        for (int64_t j = 0; j < len; j++) to[j] += sign * x[j];
    }
}

/* One block of z: the shifted slices of x in two pieces each, so that no index needs a modulo. */
static void fold_fwd_block(const st_fold_fwd_args *a, int64_t r, int64_t h, int64_t k)
{
    int64_t block = a->block, to = ((r * a->folds + h) * a->supers + k) * block;
    for (int64_t j = 0; j < block; j += BLOCK) {
        float sum[BLOCK];
        int64_t n = at_most(block - j, BLOCK);
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t l = 0; l < a->factor; l++) {
            st_fold_term term = st_fold_hash(a, h, k, l);
            int64_t slice = (k * a->factor + l) * block, first = (j + term.shift) % block;
            int64_t head = at_most(n, block - first);
            fold_add(a, sum, r, slice + first, head, term.sign);
            fold_add(a, sum + head, r, slice, n - head, term.sign);
        }
        float buf[BLOCK], *z = block_out(&a->z, to + j, buf);
        memcpy(z, sum, (size_t)n * sizeof *z);
        block_done(&a->z, to + j, n, z);
    }
}

static void kernel_fold_fwd(st_stream *q, const st_fold_fwd_args *a)
{
    int parts = st_parts(q, a->rows * a->folds * a->supers * a->factor * a->block);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t h = 0; h < a->folds; h++) {
            for (int64_t k = 0; k < a->supers; k++) fold_fwd_block(a, r, h, k);
        }
    }
}

/* dx of slice (k, l): z's blocks of all folds, shifted back. */
static void fold_bwd_slice(const st_fold_bwd_args *a, int64_t r, int64_t k, int64_t l)
{
    int64_t block = a->block, slice = (k * a->factor + l) * block;
    for (int64_t j = 0; j < block && slice + j < a->cols; j += BLOCK) {
        float sum[BLOCK], buf[BLOCK];
        int64_t n = at_most(at_most(block - j, BLOCK), a->cols - slice - j);
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t h = 0; h < a->folds; h++) {
            st_fold_term term = st_fold_hash(a, h, k, l);
            int64_t from = ((r * a->folds + h) * a->supers + k) * block;
            int64_t first = (j + block - term.shift) % block, head = at_most(n, block - first);
            const float *dz = block_in(&a->dz, from + first, head, buf);
            for (int64_t i = 0; i < head; i++) sum[i] += term.sign * dz[i];
            dz = block_in(&a->dz, from, n - head, buf);
            for (int64_t i = head; i < n; i++) sum[i] += term.sign * dz[i - head];
        }
        float out[BLOCK], *dx = block_out(&a->dx, r * a->cols + slice + j, out);
        memcpy(dx, sum, (size_t)n * sizeof *dx);
        block_done(&a->dx, r * a->cols + slice + j, n, dx);
    }
}

static void kernel_fold_bwd(st_stream *q, const st_fold_bwd_args *a)
{
    int parts = st_parts(q, a->rows * a->folds * a->supers * a->factor * a->block);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t k = 0; k < a->supers; k++) {
            for (int64_t l = 0; l < a->factor; l++) fold_bwd_slice(a, r, k, l);
        }
    }
}
