/* report: pages made of results, and what a path is. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_REPORT_H
#define ST_REPORT_H

#include "base/base.h"
#include "store/store.h"

/* Adds "remarks" to the demo's results: sentences that follow from the numbers, nothing else. */
st_status st_remarks_add(json_t *results, st_err *e);
/* Writes DIR/report.html (one self-contained page) and DIR/plots/NAME.{png,svg} from the demo's
 * results (inner.h has their form). */
st_status st_report_write(const json_t *results, const char *dir, st_err *e);

/* Writes `out` (one self-contained page) and its figures (report.html: report_files/NAME.{png,svg})
 * from training runs and benchmarks: folders, searched for runs, and CSV files of strut bench.
 * `title` may be NULL. `replace`: an older page may be there. What cannot be read is left out and
 * named. Result: runs, layers, models (runs.h), left_out, out, plots, bytes, seconds. */
st_status st_report_runs(const char *const *paths, int n, const char *out, const char *title,
                         bool replace, json_t **result, st_err *e);

/* What PATH is (model folder, checkpoint, training run, prepared data, shard, tokenizer, config)
 * and what is in it. Of a file of tensors that are no model the first ST_INFO_TENSORS are listed,
 * with `tensors_left` where there are more. `o` may be NULL. */
enum { ST_INFO_TENSORS = 10000 };
typedef struct {
    st_read_how how; /* of weights that do not say all of it */
    bool all;        /* list all tensors */
} st_info_opts;
st_status st_info(const char *path, const st_info_opts *o, json_t **result, st_err *e);

#endif
