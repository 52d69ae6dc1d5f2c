/* The pattern of a flat block butterfly, tile row by tile row. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_BUTTERFLY_H
#define ST_MAP_BUTTERFLY_H

#include "map/inner.h"

enum { BUTTERFLY_CELLS = 1024 };

typedef struct {
    int64_t cells, factors, block;
    int64_t rows, cols; /* of tiles, the padded sides over block */
} butterfly_size;

/* A band: tile rows [row, row + rows) that have the same columns on, or several such after each
 * other (parts), whose columns together are nearly all on in each. `wide` tiles a row; the first
 * stored tile is number `tile`, of `tiles`; side by side, with zeros for what is off, the bands
 * take rows * wide tiles each, this one from `at` on. */
typedef struct {
    int64_t row, rows, wide, tile, tiles, at, parts;
    uint64_t on[BUTTERFLY_CELLS / 64]; /* cells whose columns are on */
} butterfly_band;

/* Neighbouring columns of a band: tiles [first, first + count) of the width, `at` of the band's. */
typedef struct {
    int64_t first, count, at;
    int64_t cell; /* where the search goes on */
} butterfly_run;

butterfly_size map_butterfly_size(const st_spec *s);
/* The band of one part after `b` (which starts as {0}); false at the end. */
bool map_butterfly_next(const butterfly_size *z, butterfly_band *b);
/* The same; with `merge`, parts are joined while that adds no more than 2 tiles to 5. A butterfly
 * of 2 factors is 3 of 4 cells of blocks on the diagonal: fewer and larger products. */
bool map_butterfly_group(const butterfly_size *z, bool merge, butterfly_band *b);
/* The run after `r` (which starts as {0}). */
bool map_butterfly_run(const butterfly_size *z, const butterfly_band *b, butterfly_run *r);
int64_t map_butterfly_tiles(const butterfly_size *z);
/* Tiles that the bands take side by side. */
int64_t map_butterfly_area(const butterfly_size *z, bool merge);

#endif
