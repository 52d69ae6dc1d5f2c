/* Where a stream's time goes: every operation between two marks of the device, added up by
 * operation and cost (what the dry stream counts), so that products of different shapes are told
 * apart. */
/* SPDX-License-Identifier: MIT */
#include "backend/stream.h"
#include <stdlib.h>
#include <string.h>

enum { PROFILE_ROWS = 256, PROFILE_CALLS = 1 << 16 };

/* One call: its row, and the number of the mark before it. */
typedef struct {
    int row, mark;
    double start;
} profile_call;

struct st_profile {
    st_stream dry; /* counts what each call costs */
    st_profile_row row[PROFILE_ROWS];
    int rows, calls;
    profile_call call[PROFILE_CALLS];
};

static int profile_row(struct st_profile *p, const char *op, st_cost before)
{
    int64_t macs = p->dry.cost.macs - before.macs, bytes = p->dry.cost.bytes - before.bytes;
    for (int i = 0; i < p->rows; i++) {
        const st_profile_row *r = &p->row[i];
        if (r->op == op && r->macs == macs && r->bytes == bytes) return i;
    }
    if (p->rows == PROFILE_ROWS) return PROFILE_ROWS - 1; /* which then stands for the rest */
    p->row[p->rows] = (st_profile_row){.op = op, .macs = macs, .bytes = bytes};
    return p->rows++;
}

static void profile_begin(st_stream *q, int row)
{
    struct st_profile *p = q->profile;
    if (p->calls == PROFILE_CALLS) st_profile_settle(q);
    profile_call *c = &p->call[p->calls];
    c->row = row;
    if (q->device->mark)
        q->device->mark(q, 2 * p->calls);
    else
        c->start = st_now();
}

static void profile_end(st_stream *q)
{
    struct st_profile *p = q->profile;
    profile_call *c = &p->call[p->calls];
    p->row[c->row].calls++;
    if (q->device->mark) {
        q->device->mark(q, 2 * p->calls + 1);
        p->calls++;
    } else {
        p->row[c->row].seconds += st_now() - c->start;
    }
}

#define ST_OP(name, required)                                                                      \
    static void profile_##name(st_stream *q, const st_##name##_args *a)                            \
    {                                                                                              \
        struct st_profile *p = q->profile;                                                         \
        st_cost before = p->dry.cost;                                                              \
        st_dry_ops.name(&p->dry, a);                                                               \
        profile_begin(q, profile_row(p, #name, before));                                           \
        q->table.name(q, a);                                                                       \
        profile_end(q);                                                                            \
    }
#include "backend/ops.def"
#undef ST_OP

static const st_ops profile_ops = {
    .name = "profile",
#define ST_OP(op, required) .op = profile_##op,
#include "backend/ops.def"
#undef ST_OP
};

const st_ops *st_profile_ops(void)
{
    return &profile_ops;
}

void st_profile_settle(st_stream *q)
{
    struct st_profile *p = q->profile;
    if (!p || p->calls == 0) return;
    q->device->wait(q);
    for (int i = 0; i < p->calls; i++)
        p->row[p->call[i].row].seconds += q->device->between(q, 2 * i, 2 * i + 1);
    p->calls = 0;
}

st_status st_stream_profile(st_stream *q, bool on, st_err *e)
{
    free(q->profile);
    q->profile = NULL;
    if (on) {
        q->profile = st_calloc(1, sizeof *q->profile);
        if (!q->profile) return ST_NOMEM(e, "profile");
        q->profile->dry.dry = true;
    }
    if (!q->failure.code) st_stream_serve(q);
    return ST_OK;
}

static int profile_order(const void *a, const void *b)
{
    double x = ((const st_profile_row *)a)->seconds, y = ((const st_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

int st_stream_profiled(st_stream *q, const st_profile_row **rows)
{
    struct st_profile *p = q->profile;
    if (!p) return 0;
    st_profile_settle(q);
    qsort(p->row, (size_t)p->rows, sizeof *p->row, profile_order);
    *rows = p->row;
    return p->rows;
}
