/* Inside of decomposition: orders of units, and the changes to a model before it is decomposed. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FIT_PERMUTE_H
#define ST_FIT_PERMUTE_H

#include "fit/decompose.h"

/* A structured matrix that units are a side of: its outputs, or its inputs. */
typedef struct {
    st_spec to;
    const float *w; /* (out, in) as it is now */
    bool of_out;
} st_units_side;

/* order: position p gets unit order[p]. */

/* Units in order of importance, the first n / group at slot 0 of groups of `group` neighbours, the
 * next at slot 1, ...; group divides n. */
st_status st_units_group(const double *importance, int64_t n, int64_t group, int64_t *order,
                         st_err *e);
/* norm[k] += |slice k of w|^2. */
void st_units_norms(const st_units_side *s, double *norm);

typedef struct {
    const st_units_side *side;
    int64_t sides, n;
    const int64_t *grouped; /* another order to start from */
    bool spread;            /* sides over threads: the caller is none of them */
    bool randomized;
    uint64_t seed;
} st_units_args;

typedef struct {
    double before, after; /* share of the sides' energy that the nearest matrices keep */
    int64_t turns;
} st_units_found;

/* The order found by alternating projection and assignment. ST_EINTR after Ctrl-C. */
st_status st_units_search(const st_units_args *a, int64_t *order, st_units_found *out, st_err *e);

/* What `o` asks to be done to the weights of `from` (in place) before they are decomposed into
 * `to`: folding, grouping, permuting. *about: {} or {folded, hidden [{layer, group, energy_before,
 * energy, turns}], residual {...}}, new. */
st_status st_decompose_changes(const st_model *from, const st_model *to, float *flat,
                               const st_decompose_opts *o, json_t **about, st_err *e);

#endif
