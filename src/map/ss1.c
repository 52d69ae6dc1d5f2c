/* SS1, sketch structured transform (Desai et al. 2024), as a fold of the input and one smaller
 * product (the released code's hash is additive, which makes the two the same):
 *   z[k bk + j] = sum_{l < c} x[(k c + l) bk + (j + s(l)) mod bk],   y = W' z
 * c = factor, T = ceil(in / (c bk)) super-blocks, W' (out, T bk); inputs beyond `in` count as zero.
 * s(l) = r0 (l + 1) vec mod bk. The release's r1, r2, r3 and bn only order the stored weights: W'
 * is what is kept and trained, st_ss1_import and _export translate.
 *
 * folds = H splits the outputs into H groups, each with its own fold; these, and signs=1 (random
 * +-1 per block), draw shifts and signs independently (st_fold_hash): with out/bn folds and signs
 * that is the paper's definition, and W has full rank again.
 *
 * Projection: the fold has orthogonal rows of norm sqrt(count), so least squares is averaging.
 * Weighted by inputs it is one positive definite system of T bk unknowns per fold (map_regress),
 * exact too. */
/* Long: a matrix type is one file. */
/* SPDX-License-Identifier: MIT */
#include "map/weighted.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FACTOR, FOLDS, SIGNS, BK, BN, VEC, R0, R1, R2, R3, SEED, VERSION };
enum { SS1_TILE = 256 }; /* more than any release's; a whole one is kept of fewer inputs too */

typedef struct {
    int64_t supers, width, group; /* T, T*bk, outputs per fold */
} ss1_size;

static ss1_size ss1_sizes(const st_spec *s)
{
    int64_t block = s->knob[BK];
    ss1_size z = {.supers = map_ceil(s->in, s->knob[FACTOR] * block)};
    z.width = z.supers * block;
    z.group = map_ceil(s->out, s->knob[FOLDS]);
    return z;
}

/* The release's 32, or 16 or 8 where that saves padding; less only where the input has no room. */
static int64_t ss1_block(int64_t in, int64_t factor)
{
    for (int64_t block = 32; block >= 8; block /= 2) {
        if (in % (factor * block) == 0) return block;
    }
    int64_t block = 32;
    while (block > 1 && block * factor > in)
        block /= 2;
    return block;
}

static st_status ss1_check(st_spec *s, st_err *e)
{
    int64_t *k = s->knob;
    ST_TRY(map_range(s, FACTOR, 1, s->in, "the inputs", e));
    if (k[BK] == 0) k[BK] = ss1_block(s->in, k[FACTOR]);
    ST_TRY(map_range(s, BK, 1, map_max(s->in / k[FACTOR], SS1_TILE),
                     "in/factor, or the largest tile", e));
    if (k[VEC] == 0) k[VEC] = k[BK] % 8 == 0 ? 8 : 1;
    if (k[VEC] < 1 || k[BK] % k[VEC]) {
        ST_FAIL(e, ST_ESHAPE, "ss1: vec=%lld must divide bk=%lld", (long long)k[VEC],
                (long long)k[BK]);
    }
    ST_TRY(map_range(s, FOLDS, 1, s->out, "the outputs", e));
    ST_TRY(map_range(s, SIGNS, 0, 1, "off or on", e));
    ST_TRY(map_range(s, BN, 1, INT32_MAX, "a positive int32", e));
    for (int i = R0; i <= R3; i++)
        ST_TRY(map_range(s, i, 0, UINT32_MAX, "an uint32", e));
    ST_TRY(map_range(s, SEED, 0, UINT32_MAX, "an uint32", e));
    return map_range(s, VERSION, 3, 3, "the only index map there is", e);
}

static int ss1_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    /* every input meets exactly one weight per output: W has the deviation of W' */
    out[0] = map_factor("weight", s->out, ss1_sizes(s).width, 0, std);
    if (s->knob[FOLDS] > 1) out[0].flags &= ~(unsigned)ST_MAP_WHOLE;
    return 1;
}

static int64_t ss1_kept(const st_spec *s)
{
    return s->knob[FOLDS] * ss1_sizes(s).width;
}

static st_fold_fwd_args ss1_fold(const st_spec *s, int64_t rows)
{
    return (st_fold_fwd_args){.rows = rows,
                              .cols = s->in,
                              .block = s->knob[BK],
                              .factor = s->knob[FACTOR],
                              .supers = ss1_sizes(s).supers,
                              .folds = s->knob[FOLDS],
                              .vec = s->knob[VEC],
                              .r0 = s->knob[R0],
                              .seed = (uint64_t)s->knob[SEED],
                              .signs = (int)s->knob[SIGNS]};
}

static void ss1_begin(const st_spec *s, int64_t rows, st_fold_fwd_args *f)
{
    *f = ss1_fold(s, rows);
}

/* The fold of x into `kept`, or scratch. */
static st_fold_fwd_args ss1_of_call(const st_map_call *c)
{
    st_fold_fwd_args f = ss1_fold(c->spec, c->x.dim[0]);
    f.x = c->x;
    f.z = c->kept.data ? c->kept : st_take2(c->tmp, c->x.dtype, c->x.dim[0], ss1_kept(c->spec));
    return f;
}

static st_tensor ss1_inner(const st_map_call *c)
{
    if (c->ready) return c->kept;
    st_fold_fwd_args f = ss1_of_call(c);
    st_stream_ops(c->q)->fold_fwd(c->q, &f);
    return f.z;
}

static bool ss1_last(const st_map_call *c, st_gelu_linear_args *a)
{
    if (c->spec->knob[FOLDS] > 1 || map_in_blocks(c, 0)) return false;
    a->x = ss1_inner(c);
    a->rows = a->x.dim[0];
    a->n = c->spec->out;
    a->k = ss1_sizes(c->spec).width;
    a->w = c->theta->p[0];
    return true;
}

/* Fold and product in one operation, where there is one. */
static bool ss1_together(const st_map_call *c)
{
    if (c->ready || c->spec->knob[FOLDS] > 1 || map_in_blocks(c, 0) ||
        !st_stream_ops(c->q)->fold_linear)
        return false;
    st_fold_linear_args a = {
        .n = c->spec->out, .fold = ss1_of_call(c), .w = c->theta->p[0], .bias = c->bias, .y = c->y};
    st_stream_ops(c->q)->fold_linear(c->q, &a);
    return true;
}

static void ss1_forward(const st_map_call *c)
{
    ss1_size z = ss1_sizes(c->spec);
    if (ss1_together(c)) return;
    map_blocks(c->q, &(map_blocks_args){.g = {.m = c->ready ? c->kept.dim[0] : c->x.dim[0],
                                              .n = z.group,
                                              .k = z.width,
                                              .lda = c->spec->knob[FOLDS] * z.width,
                                              .ldb = z.width,
                                              .ldc = c->spec->out,
                                              .step_a = z.width,
                                              .step_b = z.group * z.width,
                                              .step_c = z.group,
                                              .tb = 1,
                                              .a = ss1_inner(c),
                                              .b = c->theta->p[0],
                                              .c = c->y,
                                              .bias = c->bias},
                                        .count = c->spec->knob[FOLDS],
                                        .n_total = c->spec->out});
}

static void ss1_backward(const st_map_call *c)
{
    ss1_size z = ss1_sizes(c->spec);
    int64_t folds = c->spec->knob[FOLDS], n = c->dy.dim[0];
    if (c->dtheta && c->dtheta->p[0].data) {
        map_blocks(c->q, &(map_blocks_args){.g = {.m = z.group,
                                                  .n = z.width,
                                                  .k = n,
                                                  .lda = c->spec->out,
                                                  .ldb = folds * z.width,
                                                  .ldc = z.width,
                                                  .step_a = z.group,
                                                  .step_b = z.width,
                                                  .step_c = z.group * z.width,
                                                  .ta = 1,
                                                  .a = c->dy,
                                                  .b = c->kept.data ? c->kept : ss1_inner(c),
                                                  .c = c->dtheta->p[0],
                                                  .beta = 1.0f},
                                            .count = folds,
                                            .m_total = c->spec->out});
    }
    if (!c->dx.data && !c->dkept.data) return;
    st_fold_bwd_args f = ss1_fold(c->spec, n);
    f.dz = c->dkept.data ? c->dkept : st_take2(c->tmp, c->dy.dtype, n, folds * z.width);
    f.dx = c->dx;
    /* groups beyond the outputs (out=5, folds=4) have no product of their own: k = 0 sets zeros */
    map_blocks(c->q, &(map_blocks_args){.g = {.m = n,
                                              .n = z.width,
                                              .k = z.group,
                                              .lda = c->spec->out,
                                              .ldb = z.width,
                                              .ldc = folds * z.width,
                                              .step_a = z.group,
                                              .step_b = z.group * z.width,
                                              .step_c = z.width,
                                              .a = c->dy,
                                              .b = c->theta->p[0],
                                              .c = f.dz},
                                        .count = folds,
                                        .k_total = c->spec->out});
    if (c->dx.data) st_stream_ops(c->q)->fold_bwd(c->q, &f);
}

/* Where the fold of output group h puts each input. */
static void ss1_buckets(const st_spec *s, int64_t h, int64_t *bucket, float *sign)
{
    st_fold_fwd_args f = ss1_fold(s, 1);
    for (int64_t at = 0; at < f.supers * f.factor * f.block; at++) {
        int64_t k = at / (f.factor * f.block), l = at / f.block % f.factor, j = at % f.block;
        st_fold_term term = st_fold_hash(&f, h, k, l);
        int64_t col = (k * f.factor + l) * f.block + (j + term.shift) % f.block;
        if (col >= s->in) continue;
        bucket[col] = k * f.block + j;
        sign[col] = term.sign;
    }
}

static st_status ss1_project_weighted(const st_spec *s, st_tensor w, const st_theta *t,
                                      const st_project_opts *how, st_err *e)
{
    ss1_size z = ss1_sizes(s);
    map_cov k = {0};
    int64_t *bucket = st_calloc(s->in, sizeof *bucket);
    float *sign = st_calloc(s->in, sizeof *sign), *to = t->p[0].data;
    st_status status = ST_OK;
    if (!bucket || !sign) status = ST_ERR(e, ST_ENOMEM, "ss1: out of memory");
    if (!status) status = map_cov_open(&k, how, s->in, e);
    for (int64_t first = 0; first < s->out && !status; first += z.group) {
        ss1_buckets(s, first / z.group, bucket, sign);
        status = map_regress(&(map_regress_args){.k = &k,
                                                 .w = w.data,
                                                 .bucket = bucket,
                                                 .sign = sign,
                                                 .first = first,
                                                 .rows = map_min(z.group, s->out - first),
                                                 .width = z.width,
                                                 .theta = to + first * z.width},
                             e);
    }
    map_cov_close(&k);
    free(bucket);
    free(sign);
    return status;
}

static st_status ss1_project(const st_spec *s, st_tensor w, const st_theta *t,
                             const st_project_opts *how, st_err *e)
{
    if (how && how->in_cov) return ss1_project_weighted(s, w, t, how, e);
    ss1_size z = ss1_sizes(s);
    st_fold_fwd_args f = ss1_fold(s, 1);
    const float *from = w.data;
    float *to = t->p[0].data;
    for (int64_t at = 0; at < s->out * z.width; at++) {
        int64_t o = at / z.width, k = at % z.width / f.block, j = at % f.block, count = 0;
        double sum = 0;
        for (int64_t l = 0; l < f.factor; l++) {
            st_fold_term h = st_fold_hash(&f, o / z.group, k, l);
            int64_t col = (k * f.factor + l) * f.block + (j + h.shift) % f.block;
            if (col >= s->in) continue;
            sum += (double)h.sign * (double)from[o * s->in + col];
            count++;
        }
        to[at] = count ? (float)(sum / (double)count) : 0.0f;
    }
    return ST_OK;
}

static st_status ss1_fit(st_spec *s, int64_t params, st_err *e)
{
    st_spec best = {0};
    for (int64_t c = 1; c <= s->in; c++) {
        st_spec now = *s;
        now.knob[FACTOR] = c;
        if (ss1_check(&now, NULL)) continue;
        if (!best.type || map_misfit(&now, params) < map_misfit(&best, params)) best = now;
    }
    if (!best.type || map_misfit(&best, params) > MAP_FIT_TOLERANCE) {
        return map_unfit(s, params, best.type ? &best : NULL, e);
    }
    *s = best;
    return ST_OK;
}

/* ---- the released code's weights ------------------------------------------------------------- */

/* r(p, k) of the release: where row n = p bn + .. of super-block k keeps its first weight. */
static int64_t ss1_row_shift(const st_spec *s, int64_t n, int64_t k)
{
    uint64_t m = (uint64_t)(s->knob[BK] / s->knob[VEC]), p = (uint64_t)(n / s->knob[BN]);
    uint64_t r = (uint64_t)s->knob[R3] % m + (uint64_t)s->knob[R2] % m * (p % m) +
                 (uint64_t)s->knob[R1] % m * ((uint64_t)(k + 1) % m);
    return (int64_t)(r % m) * s->knob[VEC];
}

static void ss1_translate(const st_spec *s, const float *from, float *to, bool import)
{
    int64_t width = ss1_sizes(s).width, block = s->knob[BK];
    for (int64_t n = 0; n < s->out; n++) {
        for (int64_t c = 0; c < width; c++) {
            int64_t k = c / block, j = c % block, shift = ss1_row_shift(s, n, k);
            int64_t ours = n * width + c;
            int64_t theirs = n * width + k * block + (j - shift + block) % block;
            to[import ? ours : theirs] = from[import ? theirs : ours];
        }
    }
}

void st_ss1_import(const st_spec *s, const float *released, float *weight)
{
    ss1_translate(s, released, weight, true);
}

void st_ss1_export(const st_spec *s, const float *weight, float *released)
{
    ss1_translate(s, weight, released, false);
}

/* First outputs of MT19937 (Matsumoto & Nishimura 1998) seeded as PyTorch does: the release draws
 * its hash constants with torch.randint, one 32-bit output each. */
static void ss1_mt19937(uint32_t seed, uint32_t *out, int count)
{
    uint32_t mt[624];
    mt[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        mt[i] = 1812433253u * (mt[i - 1] ^ mt[i - 1] >> 30) + i;
    for (int i = 0; i < count; i++) {
        uint32_t y = (mt[i] & 0x80000000u) | (mt[i + 1] & 0x7fffffffu);
        y = mt[i + 397] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        mt[i] = y;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c5680u;
        y ^= y << 15 & 0xefc60000u;
        out[i] = y ^ y >> 18;
    }
}

void st_ss1_constants(uint64_t seed, int version, int64_t r[4])
{
    uint32_t draw[4];
    ss1_mt19937((uint32_t)seed, draw, 4);
    if (version == 3) {
        r[0] = 45007;
        for (int i = 1; i < 4; i++)
            r[i] = draw[i - 1] % 45007;
        return;
    }
    uint32_t prime = version == 2 ? 45007 : 92387;
    for (int i = 0; i < 4; i++)
        r[i] = 2 * (1 + (int64_t)(draw[i] % (prime / 2 - 2))) + 1;
}

/* fly: the released package's (October 2024) Xavier-uniform of the stored matrix. Fork: the layer
 * of the revision that its configurations name, by the uncompressed inputs. Neither sets a bias. */
static void ss1_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t, st_tensor bias)
{
    double width = (double)ss1_sizes(s).width, bound = 1.0 / sqrt((double)s->in);
    (void)bias;
    if (how->law == ST_FRESH_FLY) bound = sqrt(6.0 / ((double)s->out + width));
    map_fresh_weight(how, "weight", t->p[0], bound);
}

const st_map_type st_map_ss1 = {
    .name = "ss1",
    .summary = "the input folded onto itself, then a smaller matrix",
    .equation = "z[k bk + j] = sum_l x[(k c + l) bk + (j + s(l)) mod bk]; y = W' z",
    .source = "Desai et al. 2024 (SS1, NeurIPS)",
    .knob =
        {
            {"factor", "inputs per weight c, 1..in", 4, ST_KNOB_SHOWN},
            {"folds", "output groups with a fold of their own, 1..out", 1, ST_KNOB_HIDDEN},
            {"signs", "1: random signs in the folds", 0, ST_KNOB_HIDDEN},
            {"bk", "inputs per block, 1..in/factor or 256; 0: 32, 16 or 8, whichever divides best",
             0, ST_KNOB_STORED},
            {"bn", "outputs per block of the release's storage order", 32, ST_KNOB_STORED},
            {"vec", "granularity of shifts, a divisor of bk; 0: 8, or 1 where 8 does not divide", 0,
             ST_KNOB_STORED},
            {"r0", "hash constant of the fold", 45007, ST_KNOB_STORED},
            {"r1", "hash constant of the release's storage order", 20011, ST_KNOB_STORED},
            {"r2", "hash constant of the release's storage order", 38363, ST_KNOB_STORED},
            {"r3", "hash constant of the release's storage order", 15263, ST_KNOB_STORED},
            {"seed", "of the independent hashes (folds > 1 or signs=1)", 1024, ST_KNOB_STORED},
            {"version", "of the index map", 3, ST_KNOB_STORED},
        },
    .check = ss1_check,
    .params = ss1_params,
    .kept = ss1_kept,
    .forward = ss1_forward,
    .backward = ss1_backward,
    .last = ss1_last,
    .fold = ss1_begin,
    .project = ss1_project,
    .fresh = ss1_fresh,
    .fit = ss1_fit,
    .sized = {"factor", 1},
    /* folds=4 with signs draws an independent hash for each quarter of the outputs */
    .view = {{"ss1", "ss1", ""}, {"ss1 folds", "ss1", ",folds=4,signs=1"}},
};
