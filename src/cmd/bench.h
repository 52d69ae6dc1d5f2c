/* Inside of strut bench. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CMD_BENCH_H
#define ST_CMD_BENCH_H

#include "cmd/cmd.h"

void cmd_bench_show(const json_t *result);

#endif
