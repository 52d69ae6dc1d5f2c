/* The table of the reference backend. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <stdio.h>

void st_ref_fill_table(st_ops *t)
{
    t->name = "ref";
#define ST_OP(op, required) t->op = st_ref_##op;
#include "backend/ops.def"
#undef ST_OP
}

static st_status ref_open(st_stream *q, int threads, st_err *e)
{
    (void)threads, (void)e;
    st_ref_fill_table(&q->table);
    q->threads = 1;
    snprintf(q->describe, sizeof q->describe, "ref, 1 thread, plain loops");
    return ST_OK;
}

const st_device st_device_ref = {.name = "ref", .open = ref_open};
