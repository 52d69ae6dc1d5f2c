/* The cpu device. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <omp.h>
#include <stdio.h>

static st_status cpu_open(st_stream *q, int threads, st_err *e)
{
    (void)e;
    st_ref_fill_table(&q->table);
    q->table.name = "cpu";
    q->threads = threads ? threads : omp_get_max_threads();
    snprintf(q->describe, sizeof q->describe, "cpu, %d threads", q->threads);
    return ST_OK;
}

const st_device st_device_cpu = {.name = "cpu", .open = cpu_open};
