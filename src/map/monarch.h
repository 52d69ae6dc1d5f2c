/* Inside of monarch and btt, whose W consists of blocks of low rank that share no numbers: where
 * these are, and their projection (monarch.c, monarch_weighted.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_MONARCH_H
#define ST_MAP_MONARCH_H

#include "map/weighted.h"

/* b blocks of p inputs, `classes` of s outputs; q columns in a block of the second factor. rank 0:
 * monarch's classes (output o b + l is in class l) and ranks, else btt's (`rank` each; the classes
 * take turns, `group` outputs each). */
typedef struct {
    int64_t b, p, s, q, classes, rank, group;
} monarch_size;

/* What block (l, i) is a product of: rows first, first + step, .. of the first factor, `count` of
 * them, and columns column, column + 1, .. of the second. */
typedef struct {
    int64_t first, count, step, column;
} monarch_met;

static inline monarch_met map_monarch_met(const monarch_size *z, int64_t l, int64_t i)
{
    if (z->rank) return (monarch_met){(i * z->classes + l) * z->rank, z->rank, 1, i * z->rank};
    int64_t first = i * z->q + ((l - i * z->q) % z->b + z->b) % z->b;
    int64_t count = first < (i + 1) * z->q ? ((i + 1) * z->q - 1 - first) / z->b + 1 : 0;
    return (monarch_met){first, count, z->b, first / z->b};
}

/* Output o of class l. */
static inline int64_t map_monarch_row(const monarch_size *z, int64_t l, int64_t o)
{
    if (z->rank) return (o / z->group * z->classes + l) * z->group + o % z->group;
    return o * z->b + l;
}

/* st_map_type.project for these sizes. */
st_status map_monarch_project(const st_spec *s, const monarch_size *z, st_tensor w,
                              const st_theta *t, const st_project_opts *how, st_err *e);

/* Writes the triples of block (l, i), columns of which there are `cols` <= p, into l1 and l2. */
void map_monarch_put(const monarch_size *z, int64_t l, int64_t i, const st_svd *d, int64_t cols,
                     const st_theta *t);
/* Goes on from the unweighted projection in theta. */
st_status map_monarch_weighted(const st_spec *s, const monarch_size *z, const float *w,
                               const st_theta *t, const st_project_opts *how, st_err *e);

#endif
