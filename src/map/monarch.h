/* Inside of monarch: sizes, blocks of W, weighted projection (monarch_weighted.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_MONARCH_H
#define ST_MAP_MONARCH_H

#include "map/weighted.h"

typedef struct {
    int64_t b, p, s, q;
} monarch_size;

/* Of block (l, i), the t's in it: t = first, first + b, ..; `count` of them. */
typedef struct {
    int64_t first, count;
} monarch_met;

static inline monarch_met map_monarch_met(const monarch_size *z, int64_t l, int64_t i)
{
    int64_t first = i * z->q + ((l - i * z->q) % z->b + z->b) % z->b;
    int64_t count = first < (i + 1) * z->q ? ((i + 1) * z->q - 1 - first) / z->b + 1 : 0;
    return (monarch_met){first, count};
}

/* Writes the triples of block (l, i), columns of which there are `cols` <= p, into l1 and l2. */
void map_monarch_put(const monarch_size *z, int64_t l, int64_t i, const st_svd *d, int64_t cols,
                     const st_theta *t);
/* Goes on from the unweighted projection in theta. */
st_status map_monarch_weighted(const st_spec *s, const monarch_size *z, const float *w,
                               const st_theta *t, const st_project_opts *how, st_err *e);

#endif
