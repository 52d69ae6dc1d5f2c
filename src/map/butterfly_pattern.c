/* Which tiles of a flat block butterfly are on. Everything is derived from the cells, so that the
 * work does not depend on the sides. */
/* SPDX-License-Identifier: MIT */
#include "map/butterfly.h"
#include <string.h>

enum { SIZE, FACTORS, BLOCK };

butterfly_size map_butterfly_size(const st_spec *s)
{
    butterfly_size z = {.cells = s->knob[SIZE], .factors = s->knob[FACTORS]};
    z.block = s->knob[BLOCK];
    z.rows = map_ceil(s->out, z.block);
    z.cols = map_ceil(s->in, z.block);
    return z;
}

/* Cells that tile row `row` meets: [*from, *to]. */
static void pattern_cells(const butterfly_size *z, int64_t row, int64_t *from, int64_t *to)
{
    int64_t high = z->rows * z->block / z->cells;
    *from = row * z->block / high;
    *to = (row * z->block + z->block - 1) / high;
}

/* Cell (i, j) is on if i = j or i and j differ in one of the lowest `factors` bits. */
static void pattern_on(const butterfly_size *z, int64_t from, int64_t to, uint64_t *on)
{
    memset(on, 0, BUTTERFLY_CELLS / 8);
    for (int64_t i = from; i <= to; i++) {
        on[i / 64] |= 1ull << i % 64;
        for (int64_t f = 0; f < z->factors; f++) {
            int64_t j = i ^ (int64_t)1 << f;
            on[j / 64] |= 1ull << j % 64;
        }
    }
}

/* First tile row after `row` that meets other cells. */
static int64_t pattern_until(const butterfly_size *z, int64_t from, int64_t to)
{
    int64_t high = z->rows * z->block / z->cells;
    int64_t last = map_min(((from + 1) * high - 1) / z->block, ((to + 1) * high) / z->block - 1);
    return last + 1;
}

static bool pattern_cell(const butterfly_band *b, int64_t j)
{
    return b->on[j / 64] >> j % 64 & 1;
}

bool map_butterfly_run(const butterfly_size *z, const butterfly_band *b, butterfly_run *r)
{
    int64_t width = z->cols * z->block / z->cells, j = r->cell;
    bool begun = false;
    r->at += r->count;
    for (; j < z->cells; j++) {
        if (!pattern_cell(b, j)) continue;
        int64_t first = j * width / z->block, end = ((j + 1) * width - 1) / z->block + 1;
        if (begun && first > r->first + r->count) break;
        if (!begun) r->first = first;
        begun = true;
        r->count = end - r->first;
    }
    r->cell = j;
    return begun;
}

static int64_t pattern_wide(const butterfly_size *z, const butterfly_band *b)
{
    int64_t n = 0;
    for (butterfly_run r = {0}; map_butterfly_run(z, b, &r);)
        n += r.count;
    return n;
}

bool map_butterfly_next(const butterfly_size *z, butterfly_band *b)
{
    int64_t row = b->row + b->rows, from, to;
    b->tile += b->tiles;
    b->at += b->rows * b->wide;
    if (row >= z->rows) return false;
    uint64_t more[BUTTERFLY_CELLS / 64];
    pattern_cells(z, row, &from, &to);
    pattern_on(z, from, to, b->on);
    b->row = row;
    b->rows = pattern_until(z, from, to) - row;
    while (row + b->rows < z->rows) { /* neighbours with the same columns */
        pattern_cells(z, row + b->rows, &from, &to);
        pattern_on(z, from, to, more);
        if (memcmp(more, b->on, sizeof more) != 0) break;
        b->rows = pattern_until(z, from, to) - row;
    }
    b->wide = pattern_wide(z, b);
    b->tiles = b->rows * b->wide;
    b->parts = 1;
    return true;
}

bool map_butterfly_group(const butterfly_size *z, bool merge, butterfly_band *b)
{
    if (!map_butterfly_next(z, b)) return false;
    for (butterfly_band next = *b; merge && map_butterfly_next(z, &next);) {
        butterfly_band both = *b;
        for (int i = 0; i < BUTTERFLY_CELLS / 64; i++)
            both.on[i] |= next.on[i];
        both.wide = pattern_wide(z, &both);
        both.rows += next.rows;
        both.tiles += next.tiles;
        both.parts++;
        if (both.rows * both.wide * 5 > both.tiles * 7) break;
        *b = both;
    }
    return true;
}

int64_t map_butterfly_tiles(const butterfly_size *z)
{
    int64_t n = 0;
    for (butterfly_band b = {0}; map_butterfly_next(z, &b);)
        n += b.rows * b.wide;
    return n;
}

int64_t map_butterfly_area(const butterfly_size *z, bool merge)
{
    int64_t n = 0;
    for (butterfly_band b = {0}; map_butterfly_group(z, merge, &b);)
        n += b.rows * b.wide;
    return n;
}

/* Is every tile of `layout` as the pattern has it? */
static bool pattern_is(const butterfly_size *z, const int32_t *layout)
{
    int64_t tiles = 0;
    for (butterfly_band b = {0}; map_butterfly_next(z, &b);) {
        for (butterfly_run r = {0}; map_butterfly_run(z, &b, &r);) {
            for (int64_t i = 0; i < b.rows * r.count; i++) {
                int64_t row = b.row + i / r.count, col = r.first + i % r.count;
                if (!layout[row * z->cols + col]) return false;
                tiles++;
            }
        }
    }
    for (int64_t i = 0; i < z->rows * z->cols; i++)
        tiles -= layout[i] != 0;
    return tiles == 0;
}

st_status st_butterfly_find(st_spec *s, int64_t in, int64_t out, int64_t block,
                            const int32_t *layout, st_err *e)
{
    *s = (st_spec){.type = &st_map_butterfly, .in = in, .out = out};
    s->knob[BLOCK] = block;
    for (int64_t size = 2; size <= BUTTERFLY_CELLS; size *= 2) {
        for (int64_t f = 1; 1ll << f <= size; f++) {
            s->knob[SIZE] = size;
            s->knob[FACTORS] = f;
            if (st_spec_check(s, NULL)) continue;
            butterfly_size z = map_butterfly_size(s);
            if (pattern_is(&z, layout)) return ST_OK;
        }
    }
    ST_FAIL(e, ST_EUNSUPPORTED,
            "its tiles are those of no flat block butterfly of up to %d cells a side (fly's "
            "other patterns, global rows and shuffled cells are not read)",
            BUTTERFLY_CELLS);
}

int32_t *st_butterfly_layout(const st_spec *s, int64_t dim[2])
{
    st_spec own = *s;
    for (int i = 0; i < ST_PARTS && own.type != &st_map_butterfly; i++) {
        if (s->part[i].type != &st_map_butterfly) continue;
        own.type = s->part[i].type;
        memcpy(own.knob, s->part[i].knob, sizeof own.knob);
    }
    if (own.type != &st_map_butterfly) return NULL;
    butterfly_size z = map_butterfly_size(&own);
    int32_t *layout = st_calloc(z.rows * z.cols, sizeof *layout);
    dim[0] = z.rows;
    dim[1] = z.cols;
    for (butterfly_band b = {0}; layout && map_butterfly_next(&z, &b);) {
        for (butterfly_run r = {0}; map_butterfly_run(&z, &b, &r);) {
            for (int64_t i = 0; i < b.rows * r.count; i++)
                layout[(b.row + i / r.count) * z.cols + r.first + i % r.count] = 1;
        }
    }
    return layout;
}
