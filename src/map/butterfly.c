/* Flat block butterfly (Pixelfly, Chen et al. 2022), as HazyResearch fly stores it. On a grid of
 * size x size cells, cell (i, j) is on if i = j or i and j differ in exactly one of the lowest
 * `factors` bits; sides are padded to a multiple of `block`, cut into the cells, and every block x
 * block tile that has an entry of such a cell is on, whole. The tiles are stored one after the
 * other, (tiles, block, block), by tile row, then by tile column.
 *
 * Neighbouring tile rows with the same columns make a band: one product per run of neighbouring
 * columns, of the tiles side by side (a permutation of the weights, small beside the product).
 * Projection: the tiles of W; weighted by inputs, the regression of a band's outputs on its own
 * inputs. Both exact. */
/* Long: a matrix type is one file. */
/* SPDX-License-Identifier: MIT */
#include "map/butterfly.h"
#include "map/weighted.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE, FACTORS, BLOCK, BLOCK_MOST = 4096 };

/* "2, 4, 8": sizes that the sides allow. */
static st_status butterfly_sizes(const st_spec *s, st_err *e)
{
    char list[80] = "";
    size_t n = 0;
    int64_t block = s->knob[BLOCK], in = map_ceil(s->in, block) * block,
            out = map_ceil(s->out, block) * block;
    for (int64_t c = 2; c <= BUTTERFLY_CELLS && in % c == 0 && out % c == 0; c *= 2)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%lld", n ? ", " : "", (long long)c);
    ST_FAIL(e, ST_ESHAPE,
            "butterfly: size=%lld must be a power of two that divides both %lld and %lld (%lld -> "
            "%lld in tiles of block=%lld); legal here: %s%s",
            (long long)s->knob[SIZE], (long long)in, (long long)out, (long long)s->in,
            (long long)s->out, (long long)block, n ? list : "none, another block may do",
            n ? "; with another block also others" : "");
}

static st_status butterfly_check(st_spec *s, st_err *e)
{
    int64_t size = s->knob[SIZE], bits = 0;
    ST_TRY(map_range(s, BLOCK, 1, BLOCK_MOST, "the largest tile", e));
    butterfly_size z = map_butterfly_size(s);
    bool power = size >= 2 && size <= BUTTERFLY_CELLS && (size & (size - 1)) == 0;
    if (!power || z.rows * z.block % size || z.cols * z.block % size) return butterfly_sizes(s, e);
    while (1ll << (bits + 1) <= size)
        bits++;
    return map_range(s, FACTORS, 1, bits, "the logarithm of size", e);
}

static int butterfly_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    butterfly_size z = map_butterfly_size(s);
    int64_t tiles = map_butterfly_tiles(&z);
    /* zero outside the tiles: E[W^2] = std^2 needs the more in them */
    float each = std * sqrtf((float)z.rows * (float)z.cols / (float)tiles);
    out[0] = map_param("tiles", tiles, z.block, z.block, each);
    return 1;
}

static int64_t butterfly_kept(const st_spec *s)
{
    (void)s;
    return 0;
}

/* Fewer rows are bound by reading the weights, of which joined bands have more. */
enum { BUTTERFLY_FEW = 8, BUTTERFLY_MERGE = 64 };

static bool butterfly_merged(st_tensor x)
{
    return x.dim[0] >= BUTTERFLY_MERGE;
}

/* `rows` tile rows of `wide` tiles as a matrix (rows block, wide block), or back, added. */
static void butterfly_permute(st_stream *q, const butterfly_size *z, int64_t rows, int64_t wide,
                              st_tensor tiles, st_tensor flat, bool back)
{
    int64_t n = rows * wide * z->block * z->block;
    st_stream_ops(q)->permute(q, &(st_permute_args){.rows = rows,
                                                    .p = back ? z->block : wide,
                                                    .q = back ? wide : z->block,
                                                    .inner = z->block,
                                                    .x = st_slice(back ? flat : tiles, 0, n),
                                                    .y = st_slice(back ? tiles : flat, 0, n),
                                                    .accumulate = back});
}

/* Column of tiles of the joined band `b` where the part's run `r` begins. */
static int64_t butterfly_place(const butterfly_size *z, const butterfly_band *b,
                               const butterfly_run *r)
{
    butterfly_run u = {0};
    while (map_butterfly_run(z, b, &u)) {
        if (u.first + u.count > r->first) break;
    }
    return u.at + r->first - u.first;
}

/* The parts of a joined band, each through scratch of its own, into their places in `flat`, or
 * back. */
static void butterfly_join(st_stream *q, const butterfly_size *z, const butterfly_band *b,
                           st_tensor tiles, st_tensor flat, bool back, st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t block = z->block, square = block * block, ld = b->wide * block;
    butterfly_band p = {.row = b->row, .tile = b->tile};
    if (!back) op->fill(q, &(st_fill_args){.x = st_slice(flat, 0, b->rows * b->wide * square)});
    for (int64_t i = 0; i < b->parts && map_butterfly_next(z, &p); i++) {
        size_t mark = st_arena_mark(tmp);
        st_tensor own = map_from(tiles, p.tile * square);
        st_tensor part = st_take1(tmp, flat.dtype, p.tiles * square);
        if (!back) butterfly_permute(q, z, p.rows, p.wide, own, part, false);
        for (butterfly_run r = {0}; map_butterfly_run(z, &p, &r);) {
            st_tensor in = map_from(part, r.at * block);
            st_tensor at =
                map_from(flat, (p.row - b->row) * block * ld + butterfly_place(z, b, &r) * block);
            op->copy(q, &(st_copy_args){.rows = p.rows * block,
                                        .cols = r.count * block,
                                        .ldx = back ? ld : p.wide * block,
                                        .ldy = back ? p.wide * block : ld,
                                        .x = back ? at : in,
                                        .y = back ? in : at});
        }
        if (back) butterfly_permute(q, z, p.rows, p.wide, own, part, true);
        st_arena_rewind(tmp, mark);
    }
}

/* Each band's tiles as a matrix (rows block, wide block), one after the other, or back, added. */
static void butterfly_pack(st_stream *q, const butterfly_size *z, bool merge, st_tensor tiles,
                           st_tensor flat, bool back, st_arena *tmp)
{
    int64_t square = z->block * z->block;
    butterfly_band b = {0};
    for (bool more = map_butterfly_group(z, merge, &b); more;) {
        int64_t tile = b.tile, at = b.at, rows = 0, wide = b.wide;
        if (b.parts > 1) {
            butterfly_join(q, z, &b, tiles, map_from(flat, at * square), back, tmp);
            more = map_butterfly_group(z, merge, &b);
            continue;
        }
        for (; more && b.parts == 1 && b.wide == wide; more = map_butterfly_group(z, merge, &b))
            rows += b.rows;
        butterfly_permute(q, z, rows, wide, map_from(tiles, tile * square),
                          map_from(flat, at * square), back);
    }
}

static st_tensor butterfly_flat(const st_map_call *c, const butterfly_size *z, bool merge)
{
    int64_t n = map_butterfly_area(z, merge) * z->block * z->block;
    st_tensor flat = st_take1(c->tmp, c->theta->p[0].dtype, n);
    butterfly_pack(c->q, z, merge, c->theta->p[0], flat, false, c->tmp);
    return flat;
}

/* A band's sides in entries, clipped to what there is, and its product's operands. */
typedef struct {
    int64_t row, rows, wide; /* outputs [row, row + rows); inputs, padded */
    st_tensor w;             /* (rows, wide), from here on */
} butterfly_part;

static butterfly_part butterfly_cut(const st_spec *s, const butterfly_band *b, st_tensor flat)
{
    int64_t block = s->knob[BLOCK];
    butterfly_part p = {.row = b->row * block, .wide = b->wide * block};
    p.rows = map_min(b->rows * block, s->out - p.row);
    p.w = map_from(flat, b->at * block * block);
    return p;
}

/* The run's inputs [from, from + count) that exist. */
static int64_t butterfly_inputs(const st_spec *s, const butterfly_run *r, int64_t *from)
{
    *from = r->first * s->knob[BLOCK];
    return map_min(r->count * s->knob[BLOCK], s->in - *from);
}

/* A band's inputs: where they lie in x (one product a run), or side by side in scratch (one
 * product, rounded once), which is worth its copy where a band has many outputs. */
typedef struct {
    st_tensor x;
    bool apart; /* x is the whole input: one product a run */
} butterfly_operand;

static butterfly_operand butterfly_gather(const st_map_call *c, const butterfly_size *z,
                                          const butterfly_band *b)
{
    int64_t n = c->x.dim[0], wide = b->wide * z->block, runs = 0, from;
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);)
        runs++;
    bool thin = c->x.dtype == ST_F32 && (runs - 1) * b->rows < b->wide;
    if (runs == 1 || thin) return (butterfly_operand){c->x, true};
    st_tensor g = st_take2(c->tmp, c->x.dtype, n, wide);
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);) {
        int64_t count = butterfly_inputs(c->spec, &r, &from);
        st_stream_ops(c->q)->copy(c->q, &(st_copy_args){.rows = n,
                                                        .cols = count,
                                                        .pad = r.count * z->block,
                                                        .ldx = c->spec->in,
                                                        .ldy = wide,
                                                        .x = map_from(c->x, from),
                                                        .y = map_from(g, r.at * z->block)});
    }
    return (butterfly_operand){g, false};
}

static void butterfly_band_forward(const st_map_call *c, const butterfly_size *z,
                                   const butterfly_band *b, const butterfly_part *p,
                                   butterfly_operand a)
{
    st_gemm_args g = {.m = a.x.dim[0],
                      .n = p->rows,
                      .k = p->wide,
                      .tb = 1,
                      .ldb = p->wide,
                      .ldc = c->spec->out,
                      .a = a.x,
                      .b = p->w,
                      .c = map_from(c->y, p->row)};
    if (c->bias.data) g.bias = st_slice(c->bias, p->row, p->rows);
    if (!a.apart) {
        st_stream_ops(c->q)->gemm(c->q, &g);
        return;
    }
    int64_t from;
    g.lda = c->spec->in;
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);) {
        g.k = butterfly_inputs(c->spec, &r, &from);
        g.a = map_from(a.x, from);
        g.b = map_from(p->w, r.at * z->block);
        st_stream_ops(c->q)->gemm(c->q, &g);
        g.beta = 1.0f;
        g.bias = (st_tensor){0};
    }
}

/* So few rows that packing the weights would be most of the work: tiles are read where they lie. */
static void butterfly_few(const st_map_call *c)
{
    butterfly_size z = map_butterfly_size(c->spec);
    int64_t first[BUTTERFLY_CELLS], count[BUTTERFLY_CELLS], square = z.block * z.block;
    for (butterfly_band b = {0}; map_butterfly_next(&z, &b);) {
        butterfly_part p = butterfly_cut(c->spec, &b, c->theta->p[0]);
        st_tiles_args a = {.rows = c->x.dim[0],
                           .tile_rows = b.rows,
                           .wide = b.wide,
                           .block = z.block,
                           .cols = c->spec->in,
                           .outs = p.rows,
                           .ldy = c->spec->out,
                           .first = first,
                           .count = count,
                           .x = c->x,
                           .tiles = st_slice(c->theta->p[0], b.tile * square, b.tiles * square),
                           .y = map_from(c->y, p.row)};
        if (c->bias.data) a.bias = st_slice(c->bias, p.row, p.rows);
        for (butterfly_run r = {0}; map_butterfly_run(&z, &b, &r); a.runs++) {
            first[a.runs] = r.first;
            count[a.runs] = r.count;
        }
        st_stream_ops(c->q)->tiles(c->q, &a);
    }
}

static void butterfly_forward(const st_map_call *c)
{
    butterfly_size z = map_butterfly_size(c->spec);
    if (c->x.dim[0] < BUTTERFLY_FEW) {
        butterfly_few(c);
        return;
    }
    bool merge = butterfly_merged(c->x);
    st_tensor flat = butterfly_flat(c, &z, merge);
    for (butterfly_band b = {0}; map_butterfly_group(&z, merge, &b);) {
        butterfly_part p = butterfly_cut(c->spec, &b, flat);
        size_t mark = st_arena_mark(c->tmp);
        butterfly_operand a = butterfly_gather(c, &z, &b);
        butterfly_band_forward(c, &z, &b, &p, a);
        st_arena_rewind(c->tmp, mark);
    }
}

/* dW of a band, (rows, wide) of `into`, set; a run's missing inputs are left alone. */
static void butterfly_band_grad(const st_map_call *c, const butterfly_size *z,
                                const butterfly_band *b, const butterfly_part *p,
                                butterfly_operand x, st_tensor into)
{
    st_gemm_args g = {.m = p->rows,
                      .n = p->wide,
                      .k = x.x.dim[0],
                      .ta = 1,
                      .lda = c->spec->out,
                      .ldc = p->wide,
                      .a = map_from(c->dy, p->row),
                      .b = x.x,
                      .c = into};
    if (!x.apart) {
        st_stream_ops(c->q)->gemm(c->q, &g);
        return;
    }
    int64_t from;
    g.ldb = c->spec->in;
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);) {
        g.n = butterfly_inputs(c->spec, &r, &from);
        g.b = map_from(x.x, from);
        g.c = map_from(into, r.at * z->block);
        st_stream_ops(c->q)->gemm(c->q, &g);
    }
}

/* dx of a band, added to `sum` (n, in). */
static void butterfly_band_back(const st_map_call *c, const butterfly_size *z,
                                const butterfly_band *b, const butterfly_part *p, st_tensor sum)
{
    int64_t from;
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);) {
        int64_t count = butterfly_inputs(c->spec, &r, &from);
        st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->dy.dim[0],
                                                        .n = count,
                                                        .k = p->rows,
                                                        .lda = c->spec->out,
                                                        .ldb = p->wide,
                                                        .ldc = c->spec->in,
                                                        .a = map_from(c->dy, p->row),
                                                        .b = map_from(p->w, r.at * z->block),
                                                        .c = map_from(sum, from),
                                                        .beta = 1.0f});
    }
}

static void butterfly_backward(const st_map_call *c)
{
    const st_ops *op = st_stream_ops(c->q);
    butterfly_size z = map_butterfly_size(c->spec);
    bool learn = c->dtheta && c->dtheta->p[0].data, merge = butterfly_merged(c->x);
    st_tensor sum = c->dx, dflat = {0}, flat = butterfly_flat(c, &z, merge);
    if (c->dx.data && c->dx.dtype != ST_F32)
        sum = st_take2(c->tmp, ST_F32, c->x.dim[0], c->spec->in);
    if (c->dx.data) op->fill(c->q, &(st_fill_args){.x = sum, .value = 0.0f});
    if (learn) dflat = st_take1(c->tmp, ST_F32, st_numel(flat));
    if (learn && (z.rows * z.block != c->spec->out || z.cols * z.block != c->spec->in))
        op->fill(c->q, &(st_fill_args){.x = dflat, .value = 0.0f});
    for (butterfly_band b = {0}; map_butterfly_group(&z, merge, &b);) {
        butterfly_part p = butterfly_cut(c->spec, &b, flat);
        size_t mark = st_arena_mark(c->tmp);
        if (learn) {
            st_tensor own = map_from(dflat, b.at * z.block * z.block);
            butterfly_operand a = butterfly_gather(c, &z, &b);
            butterfly_band_grad(c, &z, &b, &p, a, own);
        }
        if (c->dx.data) butterfly_band_back(c, &z, &b, &p, sum);
        st_arena_rewind(c->tmp, mark);
    }
    if (learn) butterfly_pack(c->q, &z, merge, c->dtheta->p[0], dflat, true, c->tmp);
    if (c->dx.data && sum.data != c->dx.data)
        op->copy(c->q,
                 &(st_copy_args){.rows = c->x.dim[0], .cols = c->spec->in, .x = sum, .y = c->dx});
}

/* Tile `tile` is where its band's entry (row, col) of tiles is in W; visits every stored row. */
static void butterfly_copy(const st_spec *s, const float *w, float *tiles)
{
    butterfly_size z = map_butterfly_size(s);
    int64_t block = z.block;
    for (butterfly_band b = {0}; map_butterfly_next(&z, &b);) {
        for (butterfly_run r = {0}; map_butterfly_run(&z, &b, &r);) {
            for (int64_t i = 0; i < b.rows * r.count * block; i++) {
                int64_t o = i % block, c = i / block % r.count, row = i / block / r.count;
                int64_t tile = b.tile + row * b.wide + r.at + c;
                int64_t at = (b.row + row) * block + o, first = (r.first + c) * block;
                int64_t cols = map_min(block, s->in - first);
                if (at >= s->out || cols < 1) continue;
                memcpy(tiles + (tile * block + o) * block, w + at * s->in + first,
                       (size_t)cols * sizeof *w);
            }
        }
    }
}

/* One band's outputs on its own inputs, then into the tiles. */
static st_status butterfly_regress(const st_spec *s, const butterfly_size *z,
                                   const butterfly_band *b, map_regress_args *a, int64_t *bucket,
                                   float *tiles, st_err *e)
{
    int64_t block = z->block, from;
    for (int64_t i = 0; i < s->in; i++)
        bucket[i] = -1;
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);) {
        int64_t count = butterfly_inputs(s, &r, &from);
        for (int64_t i = 0; i < count; i++)
            bucket[from + i] = r.at * block + i;
    }
    a->first = b->row * block;
    a->rows = map_min(b->rows * block, s->out - a->first);
    a->width = b->wide * block;
    a->theta = st_calloc(a->rows * a->width, sizeof *a->theta);
    if (!a->theta) return ST_NOMEM(e, "butterfly");
    st_status status = map_regress(a, e);
    for (int64_t i = 0; i < a->rows * b->wide && !status; i++) {
        int64_t c = i % b->wide, o = i / b->wide, tile = b->tile + o / block * b->wide + c;
        memcpy(tiles + (tile * block + o % block) * block, a->theta + o * a->width + c * block,
               (size_t)block * sizeof *tiles);
    }
    free(a->theta);
    return status;
}

static st_status butterfly_project(const st_spec *s, st_tensor w, const st_theta *t,
                                   const st_project_opts *how, st_err *e)
{
    memset(t->p[0].data, 0, st_bytes(t->p[0]));
    if (!how || !how->in_cov) {
        butterfly_copy(s, w.data, t->p[0].data);
        return ST_OK;
    }
    butterfly_size z = map_butterfly_size(s);
    map_cov k = {0};
    int64_t *bucket = st_calloc(s->in, sizeof *bucket);
    map_regress_args a = {.k = &k, .w = w.data, .bucket = bucket};
    st_status status = ST_OK;
    if (!bucket) status = ST_NOMEM(e, "butterfly");
    if (!status) status = map_cov_open(&k, how, s->in, e);
    for (butterfly_band b = {0}; !status && map_butterfly_next(&z, &b);)
        status = butterfly_regress(s, &z, &b, &a, bucket, t->p[0].data, e);
    map_cov_close(&k);
    free(bucket);
    return status;
}

/* fly's layer takes the tiles from a dense init of the padded inputs, each tile row scaled by
 * sqrt(columns / columns on); its bias is torch's. */
static void butterfly_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t,
                            st_tensor bias)
{
    butterfly_size z = map_butterfly_size(s);
    int64_t square = z.block * z.block;
    double inputs = (double)(z.cols * z.block);
    map_fresh_weight(how, "tiles", t->p[0], 1.0);
    map_fresh_uniform(how, "bias", bias, 1.0 / sqrt(inputs));
    if (how->over > 0.0f) return;
    for (butterfly_band b = {0}; map_butterfly_next(&z, &b);) {
        float *from = (float *)t->p[0].data + b.tile * square;
        float bound = (float)(1.0 / sqrt((double)(b.wide * z.block)));
        for (int64_t i = 0; i < b.rows * b.wide * square; i++)
            from[i] *= bound;
    }
}

/* The block given or fly's 32, smaller where that has no size. */
static st_status butterfly_fit(st_spec *s, int64_t params, st_err *e)
{
    st_spec best = *s;
    bool found = false;
    for (int64_t block = 32; block >= 1 && !found; block /= 2) {
        for (int64_t size = 2; size <= BUTTERFLY_CELLS; size *= 2) {
            for (int64_t f = 1; 1ll << f <= size; f++) {
                st_spec try = *s;
                try.knob[SIZE] = size;
                try.knob[FACTORS] = f;
                try.knob[BLOCK] = block;
                if (butterfly_check(&try, NULL)) continue;
                if (!found || map_misfit(&try, params) < map_misfit(&best, params)) best = try;
                found = true;
            }
        }
        found = found && map_misfit(&best, params) <= MAP_FIT_TOLERANCE;
    }
    *s = best;
    if (!found) return map_unfit(s, params, st_spec_check(s, NULL) ? NULL : s, e);
    return ST_OK;
}

const st_map_type st_map_butterfly = {
    .name = "butterfly",
    .summary = "the tiles of a flat block butterfly (Pixelfly)",
    .equation = "W's tiles that meet a cell (i, j) of size x size with i = j or i xor j = 2^e, "
                "e < factors; y = W x",
    .source = "Chen et al. 2022 (arXiv 2112.00029), HazyResearch fly",
    .knob = {{"size", "cells a side, a power of two that divides both padded sides", 16,
              ST_KNOB_SHOWN},
             {"factors", "butterfly factors summed, 1..log2 size", 2, ST_KNOB_SHOWN},
             {"block", "side of a tile, 1..4096", 32, ST_KNOB_HIDDEN}},
    .check = butterfly_check,
    .params = butterfly_params,
    .kept = butterfly_kept,
    .forward = butterfly_forward,
    .backward = butterfly_backward,
    .project = butterfly_project,
    .fresh = butterfly_fresh,
    .fit = butterfly_fit,
};
