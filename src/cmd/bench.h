/* Inside of strut bench. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CMD_BENCH_H
#define ST_CMD_BENCH_H

#include "cmd/cmd.h"

extern const cmd_option cmd_bench_options[];
/* --NAME 8,16: at most `most` whole numbers from 1 to hi. */
st_status cmd_bench_counts(const cmd_args *a, const char *name, int64_t hi, int most, int64_t *out,
                           int *n, st_err *e);
/* --dtype f32,bf16: at most `most` of them. */
st_status cmd_bench_dtypes(const cmd_args *a, int most, st_dtype *out, int *n, st_err *e);
/* --NAME 1,2,4: at most `most` numbers from lo to hi. */
st_status cmd_bench_numbers(const cmd_args *a, const char *name, double lo, double hi, int most,
                            double *out, int *n, st_err *e);
void cmd_bench_show(const json_t *result);
st_status cmd_bench_attention(const cmd_args *a, json_t **result, st_err *e);
void cmd_bench_attention_show(const json_t *result);

#endif
