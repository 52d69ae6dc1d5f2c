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

/* Tile rows [row, row + rows), which have the same columns on, `wide` tiles each; the first of
 * their tiles is number `tile` of the whole. */
typedef struct {
    int64_t row, rows, wide, tile;
    uint64_t on[BUTTERFLY_CELLS / 64]; /* cells whose columns are on */
} butterfly_band;

/* Neighbouring columns of a band: tiles [first, first + count) of the width, `at` of the band's. */
typedef struct {
    int64_t first, count, at;
    int64_t cell; /* where the search goes on */
} butterfly_run;

butterfly_size map_butterfly_size(const st_spec *s);
/* The band after `b` (which starts as {0}); false at the end. */
bool map_butterfly_next(const butterfly_size *z, butterfly_band *b);
/* The run after `r` (which starts as {0}). */
bool map_butterfly_run(const butterfly_size *z, const butterfly_band *b, butterfly_run *r);
int64_t map_butterfly_tiles(const butterfly_size *z);

#endif
