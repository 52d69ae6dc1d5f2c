/* Products of any shape, layout and dtype: C = beta C + op(A) op(B) + bias.
 *
 * Blocks of op(B) (PACK_K x PACK_N) and op(A) (PACK_M x PACK_K) are widened and copied into panels,
 * TILE_ROWS rows or TILE_COLS columns wide, which a register tile walks (Goto & van de Geijn 2008).
 * Every thread computes its own part of C alone; when C is small and k long, threads take parts of
 * k instead and the sums are added in order. Products of few rows do not pack: rows.h. */
/* SPDX-License-Identifier: MIT */

enum { TILE_COLS = 2 * LANES };
enum {
    PACK_M = 192 / TILE_ROWS * TILE_ROWS,
    PACK_K = 256, /* a panel of B and one of A fit the first cache level */
    PACK_N = 512,
    PACK_A = PACK_M * PACK_K + LANES,     /* floats; see gemm_pack_rows */
    SUMS_M = 480 / TILE_ROWS * TILE_ROWS, /* rows of the block of sums kept for a bf16 C */
};

/* One thread's panels, carved from its scratch. */
typedef struct {
    float *a, *b, *sums;
} gemm_space;

_Static_assert(TILE_ROWS <= LANES && PACK_M % TILE_ROWS == 0, "gemm_pack_rows spills at most once");
_Static_assert((PACK_A + PACK_K * PACK_N + SUMS_M * PACK_N) * sizeof(float) <= ST_CPU_SCRATCH,
               "panels fit the scratch");

static gemm_space gemm_space_of(const st_stream *q, int part)
{
    float *base = (float *)(void *)st_cpu_scratch(q, part);
    return (gemm_space){.a = base, .b = base + PACK_A, .sums = base + PACK_A + PACK_K * PACK_N};
}

/* A matrix to pack: element (i, j) is data[i*rows + j*cols]. */
typedef struct {
    const void *data;
    st_dtype dtype;
    int64_t rows, cols;
} gemm_view;

static inline gemm_view gemm_at(gemm_view v, int64_t i, int64_t j)
{
    int64_t size = (int64_t)st_dtype_size(v.dtype);
    v.data = (const char *)v.data + (i * v.rows + j * v.cols) * size;
    return v;
}

static inline float gemm_get(gemm_view v, int64_t i)
{
    return v.dtype == ST_F32 ? ((const float *)v.data)[i]
                             : st_bf16_to_f32(((const uint16_t *)v.data)[i]);
}

/* ---- packing -------------------------------------------------------------------------------- */

/* dst[j * wide + i] = element (i, j) of `v` for i < wide, j < n, where the elements of a row are
 * neighbours: LANES x LANES at a time. What a vector holds beyond `wide` spills into the next
 * column and is overwritten by it; after the last one there is room for it. */
static void gemm_pack_rows(float *dst, gemm_view v, int wide, int64_t n)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        for (int i0 = 0; i0 < wide; i0 += LANES) {
            vec block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                int64_t row = i0 + i < wide ? i0 + i : wide - 1;
                block[i] = vec_read(v.data, v.dtype, row * v.rows + j);
            }
            vec_transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                vec_store(dst + (j + i) * wide + i0, block[i]);
        }
    }
    for (; j < n; j++) {
        for (int i = 0; i < wide; i++)
            dst[j * wide + i] = gemm_get(v, i * v.rows + j);
    }
}

/* One panel of any layout; rows from `have` on are zero. */
static void gemm_pack_panel(float *dst, gemm_view v, int wide, int64_t have, int64_t n)
{
    if (v.cols == 1 && have == wide) {
        gemm_pack_rows(dst, v, wide, n);
        return;
    }
    if (v.rows == 1 && have == wide) { /* runs of `wide` neighbours */
        for (int64_t j = 0; j < n; j++) {
            const float *from = floats_in(v.data, v.dtype, j * v.cols, wide, dst + j * wide);
            if (v.dtype == ST_F32) memcpy(dst + j * wide, from, (size_t)wide * sizeof *dst);
        }
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        for (int i = 0; i < wide; i++) {
            dst[j * wide + i] = i < have ? gemm_get(v, i * v.rows + j * v.cols) : 0.0f;
        }
    }
}

/* Panels of `wide` rows of an m x n matrix, one after the other. */
static void gemm_pack(float *dst, gemm_view v, int wide, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i += wide) {
        gemm_pack_panel(dst + i * n, gemm_at(v, i, 0), wide, at_most(m - i, wide), n);
    }
}

static inline gemm_view gemm_transposed(gemm_view v)
{
    return (gemm_view){v.data, v.dtype, v.cols, v.rows};
}

/* ---- the register tile ---------------------------------------------------------------------- */

/* What happens to C where a block of sums arrives: C = beta C + sums + bias (or no bias). */
typedef struct {
    float *c;
    int64_t ldc;
    const float *bias;
    float beta;
} gemm_sink;

static inline vec gemm_merge(vec sum, const float *c, const float *bias, float beta)
{
    if (bias) sum += vec_load(bias);
    if (beta != 0) sum += beta * vec_load(c);
    return sum;
}

/* Rows of sums that do not fill the tile's width. */
static void gemm_store_edge(const float *sums, int64_t rows, int64_t cols, gemm_sink to)
{
    for (int64_t i = 0; i < rows; i++) {
        float *c = to.c + i * to.ldc;
        for (int64_t j = 0; j < cols; j++) {
            float sum = sums[i * TILE_COLS + j] + (to.bias ? to.bias[j] : 0.0f);
            c[j] = to.beta != 0 ? sum + to.beta * c[j] : sum;
        }
    }
}

/* One tile: `a` (k, TILE_ROWS) and `b` (k, TILE_COLS) are panels. All loops over the sums must be
 * unrolled, or gcc keeps the array in memory. */
static void gemm_tile(int64_t k, const float *restrict a, const float *restrict b, int64_t rows,
                      int64_t cols, gemm_sink to)
{
    vec sum[TILE_ROWS][2];
    for (int64_t i = 0; i < rows; i++)
        __builtin_prefetch(to.c + i * to.ldc, 1);
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        sum[i][0] = sum[i][1] = (vec){0};
    for (int64_t x = 0; x < k; x++) {
        vec b0 = vec_load(b + x * TILE_COLS), b1 = vec_load(b + x * TILE_COLS + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            vec ai = vec_set(a[x * TILE_ROWS + i]);
            sum[i][0] += ai * b0;
            sum[i][1] += ai * b1;
        }
    }
    if (cols == TILE_COLS) {
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            if (i >= rows) break;
            float *c = to.c + i * to.ldc;
            const float *bias = to.bias ? to.bias + LANES : NULL;
            vec_store(c, gemm_merge(sum[i][0], c, to.bias, to.beta));
            vec_store(c + LANES, gemm_merge(sum[i][1], c + LANES, bias, to.beta));
        }
        return;
    }
    float edge[TILE_ROWS * TILE_COLS];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++) {
        vec_store(edge + i * TILE_COLS, sum[i][0]);
        vec_store(edge + i * TILE_COLS + LANES, sum[i][1]);
    }
    gemm_store_edge(edge, rows, cols, to);
}

/* All tiles of a block of packed panels. */
static void gemm_block(int64_t m, int64_t n, int64_t k, const float *a, const float *b,
                       gemm_sink to)
{
    for (int64_t j = 0; j < n; j += TILE_COLS) {
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            gemm_sink tile = {.c = to.c + i * to.ldc + j,
                              .ldc = to.ldc,
                              .bias = to.bias ? to.bias + j : NULL,
                              .beta = to.beta};
            gemm_tile(k, a + i * k, b + j * k, at_most(m - i, TILE_ROWS), at_most(n - j, TILE_COLS),
                      tile);
        }
    }
}

/* ---- one thread's part of C ----------------------------------------------------------------- */

/* The part of a product that a thread computes. */
typedef struct {
    gemm_view a, b; /* op(A) (m, k), op(B) (k, n) */
    int64_t m, n, k;
    st_tensor c, bias; /* c: element (i, j) is i*ldc + j from `at` on */
    int64_t at, ldc;
    int64_t row, bias_at, bias_rows, bias_ld; /* bias of row i: see gemm_bias */
    float beta;
} gemm_part;

/* Where the bias of row i of a part starts: it repeats after bias_rows rows of all of C. */
static inline int64_t gemm_bias(const gemm_part *p, int64_t i)
{
    return p->bias_at + (p->row + i) % p->bias_rows * p->bias_ld;
}

/* sums (m, n) over all of k, in rows of `to.ldc`; m <= SUMS_M, n <= PACK_N. */
static void gemm_sums(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n,
                      gemm_space space, gemm_sink to)
{
    for (int64_t x = 0; x < st_or(p->k, 1); x += PACK_K) { /* once even if the sum is empty */
        int64_t k = at_most(p->k - x, PACK_K);
        gemm_pack(space.b, gemm_transposed(gemm_at(p->b, x, j0)), TILE_COLS, n, k);
        for (int64_t i = 0; i < m; i += PACK_M) {
            int64_t rows = at_most(m - i, PACK_M);
            gemm_sink part = to;
            part.c += i * to.ldc;
            gemm_pack(space.a, gemm_at(p->a, i0 + i, x), TILE_ROWS, rows, k);
            gemm_block(rows, n, k, space.a, space.b, part);
        }
        to.beta = 1;
        to.bias = NULL;
    }
}

/* C = beta C + bias, for a block of C whose rows differ in bias. */
static void gemm_begin(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++) {
        float wide[PACK_N], *c = (float *)p->c.data + p->at + (i0 + i) * p->ldc + j0;
        const float *bias = block_in(&p->bias, gemm_bias(p, i0 + i) + j0, n, wide);
        if (p->beta != 0) {
            for (int64_t j = 0; j < n; j++)
                c[j] = p->beta * c[j] + bias[j];
        } else {
            memcpy(c, bias, (size_t)n * sizeof *c);
        }
    }
}

/* sums += bias, for a block in rows of PACK_N. */
static void gemm_add_bias(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n,
                          float *sums)
{
    for (int64_t i = 0; i < m; i++) {
        float wide[PACK_N], *sum = sums + i * PACK_N;
        const float *bias = block_in(&p->bias, gemm_bias(p, i0 + i) + j0, n, wide);
        for (int64_t j = 0; j < n; j++)
            sum[j] += bias[j];
    }
}

/* C = beta C + sums, for a block of sums (with the bias in them) in rows of PACK_N. */
static void gemm_round(const gemm_part *p, int64_t i0, int64_t j0, int64_t m, int64_t n,
                       const float *sums)
{
    float old[PACK_N], new[PACK_N];
    for (int64_t i = 0; i < m; i++) {
        int64_t at = p->at + (i0 + i) * p->ldc + j0;
        const float *sum = sums + i * PACK_N;
        const float *was = p->beta != 0 ? block_in(&p->c, at, n, old) : NULL;
        float *c = block_out(&p->c, at, new);
        for (int64_t j = 0; j < n; j++)
            c[j] = was ? sum[j] + p->beta * was[j] : sum[j];
        block_done(&p->c, at, n, new);
    }
}

static void gemm_compute(const gemm_part *p, gemm_space space)
{
    bool by_row = p->bias.data && p->bias_rows > 1; /* else all rows' bias is the same */
    for (int64_t j = 0; j < p->n; j += PACK_N) {
        float bias[PACK_N];
        int64_t n = at_most(p->n - j, PACK_N);
        const float *add = NULL;
        if (p->bias.data && !by_row) add = block_in(&p->bias, p->bias_at + j, n, bias);
        for (int64_t i = 0; i < p->m; i += SUMS_M) {
            int64_t m = at_most(p->m - i, SUMS_M);
            if (p->c.dtype == ST_F32) {
                float *c = (float *)p->c.data + p->at + i * p->ldc + j;
                if (by_row) gemm_begin(p, i, j, m, n);
                gemm_sink to = {c, p->ldc, add, by_row ? 1 : p->beta};
                gemm_sums(p, i, j, m, n, space, to);
            } else {
                gemm_sums(p, i, j, m, n, space, (gemm_sink){space.sums, PACK_N, add, 0});
                if (by_row) gemm_add_bias(p, i, j, m, n, space.sums);
                gemm_round(p, i, j, m, n, space.sums);
            }
        }
    }
}

/* ---- sharing among threads ------------------------------------------------------------------ */

static gemm_part gemm_part_of(const st_gemm_args *g, const st_gemm_layout *l, int64_t batch)
{
    gemm_part p = {.m = g->m, .n = g->n, .k = g->k, .c = g->c, .bias = g->bias, .beta = g->beta};
    p.a = (gemm_view){g->a.data, g->a.dtype, g->ta ? 1 : l->lda, g->ta ? l->lda : 1};
    p.b = (gemm_view){g->b.data, g->b.dtype, g->tb ? 1 : l->ldb, g->tb ? l->ldb : 1};
    int64_t size = (int64_t)st_dtype_size(g->a.dtype);
    p.a.data = (const char *)p.a.data + batch * l->step_a * size;
    p.b.data = (const char *)p.b.data + batch * l->step_b * size;
    p.at = batch * l->step_c;
    p.ldc = l->ldc;
    p.bias_at = batch * g->step_bias;
    p.bias_rows = st_or(g->bias_rows, 1);
    p.bias_ld = g->n;
    return p;
}

/* Rows [r.lo, r.hi) and columns [c.lo, c.hi) of a part. */
static gemm_part gemm_cut(gemm_part p, st_span r, st_span c)
{
    p.a = gemm_at(p.a, r.lo, 0);
    p.b = gemm_at(p.b, 0, c.lo);
    p.at += r.lo * p.ldc + c.lo;
    p.bias_at += c.lo;
    p.row = r.lo;
    p.m = r.hi - r.lo;
    p.n = c.hi - c.lo;
    return p;
}

/* A C too small to share, a long k: each thread sums a stretch of k, then the sums are added. */
static void gemm_split_k(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l, int parts)
{
    for (int64_t batch = 0; batch < l->batch; batch++) {
        gemm_part whole = gemm_part_of(g, l, batch);
#pragma omp parallel for num_threads(parts) schedule(static)
        for (int t = 0; t < parts; t++) {
            st_span x = st_part(g->k, 16, t, parts);
            gemm_part p = whole;
            p.k = x.hi - x.lo;
            p.a = gemm_at(p.a, 0, x.lo);
            p.b = gemm_at(p.b, x.lo, 0);
            gemm_space space = gemm_space_of(q, t);
            gemm_sums(&p, 0, 0, g->m, g->n, space, (gemm_sink){space.sums, PACK_N, NULL, 0});
        }
        float *sums = gemm_space_of(q, 0).sums;
        for (int64_t i = 0; i < g->m; i++) {
            float *row = sums + i * PACK_N;
            for (int t = 1; t < parts; t++) {
                const float *more = gemm_space_of(q, t).sums + i * PACK_N;
                for (int64_t j = 0; j < g->n; j++)
                    row[j] += more[j];
            }
        }
        if (g->bias.data) gemm_add_bias(&whole, 0, 0, g->m, g->n, sums);
        gemm_round(&whole, 0, 0, g->m, g->n, sums);
    }
}

/* Ways to cut one product's rows and columns. */
typedef struct {
    int64_t rows, cols;
} gemm_grid;

/* The cut into `parts` that packs least: each part packs its rows of A and columns of B. */
static gemm_grid gemm_grid_of(int64_t m, int64_t n, int64_t parts)
{
    gemm_grid best = {parts, 1};
    int64_t least = INT64_MAX;
    for (int64_t rows = 1; rows <= parts; rows++) {
        if (parts % rows) continue;
        int64_t cols = parts / rows;
        int64_t high = ((m + TILE_ROWS - 1) / TILE_ROWS + rows - 1) / rows * TILE_ROWS;
        int64_t wide = ((n + TILE_COLS - 1) / TILE_COLS + cols - 1) / cols * TILE_COLS;
        /* multiply-adds of the largest part, and what packing costs beside them */
        int64_t cost = high * wide + 16 * (high + wide);
        if (cost < least) best = (gemm_grid){rows, cols}, least = cost;
    }
    return best;
}

/* op gemm, any case. */
static void kernel_gemm(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    if (g->m <= 0 || g->n <= 0) return;
    int parts = st_parts(q, l.batch * g->m * g->n * (g->k + 8) / 8);
    if (thin_gemm(g, &l, parts) || rows_gemm(q, g, &l, parts)) return;
    int64_t tiles = ((g->m + TILE_ROWS - 1) / TILE_ROWS) * ((g->n + TILE_COLS - 1) / TILE_COLS);
    if (parts > 1 && tiles * l.batch < 4 * parts && g->k >= 512 && g->n <= PACK_N &&
        g->m <= SUMS_M) {
        gemm_split_k(q, g, &l, parts);
        return;
    }
    int64_t cuts = l.batch % parts == 0 || l.batch > 4 * parts ? 1 : parts;
    gemm_grid grid = gemm_grid_of(g->m, g->n, cuts);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t unit = 0; unit < l.batch * cuts; unit++) {
        int64_t i = unit % cuts / grid.cols, j = unit % cuts % grid.cols;
        st_span r = st_part(g->m, TILE_ROWS, i, grid.rows);
        st_span c = st_part(g->n, TILE_COLS, j, grid.cols);
        gemm_part p = gemm_cut(gemm_part_of(g, &l, unit / cuts), r, c);
        gemm_compute(&p, gemm_space_of(q, omp_get_thread_num()));
    }
}
