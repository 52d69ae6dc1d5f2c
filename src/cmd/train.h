/* Inside of strut train: what it shows. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CMD_TRAIN_H
#define ST_CMD_TRAIN_H

#include "cmd/cmd.h"
#include <stdio.h>

/* "h.3.mlp.c_fc.a" -> "h.*.mlp.c_fc.a": what the layers have in common. */
void cmd_train_pattern(const char *name, char *out, size_t n);
/* The layers of a plan, like ones in one line, and its totals. */
void cmd_train_table(const json_t *plan, FILE *f);
/* For st_train_opts.begun: the same on standard error; ctx is a bool, --quiet. */
void cmd_train_begun(void *ctx, const json_t *plan);
/* Losses, best, top and test of a result on standard output. */
void cmd_train_end(const json_t *result);

#endif
