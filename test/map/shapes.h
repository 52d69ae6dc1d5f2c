/* The shapes on which all types are tested: shapes.def, read by every law test of this folder. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_SHAPES_H
#define ST_TEST_SHAPES_H

#include "map/map.h"

/* How the projection weighted by inputs is found: one least-squares problem, another closed form,
 * or taking turns, which ends near a stationary point. */
typedef enum { LINEAR, EXACT, ALTERNATING } shape_kind;

/* PROJECT: the laws of projection (which take long) are tried on it, too; sides up to 24. LOCAL:
 * its unweighted projection takes turns as well. FULL: any matrix is of this form. */
enum { PROJECT = 1, LOCAL = 2, FULL = 4 };

typedef struct {
    const char *spec;
    int64_t in, out, rows;
    shape_kind kind;
    unsigned how;
} map_shape;

static const map_shape shapes[] = {
#include "map/shapes.def"
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

#endif
