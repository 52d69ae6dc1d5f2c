/* bench map: one matrix, every structure against dense, forward and backward. */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "bench/inner.h"
#include <stdlib.h>
#include <string.h>

/* Dense first, then what was asked for, or every type that can be fitted. */
static st_status map_choose(bench_shape *s, const st_bench_map_opts *o, st_err *e)
{
    ST_TRY(st_spec_parse(&s->layer[s->n++].l.spec, "dense", o->in, o->out, e));
    for (int i = 0; i < o->nmaps; i++) {
        if (strcmp(o->maps[i], "dense") == 0) continue;
        ST_TRY(bench_spec(&s->layer[s->n++].l.spec, o->maps[i], o->in, o->out, o->fit, e));
    }
    st_map_view view;
    for (int i = 0; o->nmaps == 0 && st_map_view_at(i, &view); i++) {
        if (view.knobs[0]) continue;
        st_err why = {0};
        if (bench_spec(&s->layer[s->n].l.spec, view.fit, o->in, o->out, o->fit, &why) == ST_OK)
            s->n++;
        else
            st_log(ST_LOG_WARN, "left out: %s", why.msg);
    }
    for (int64_t i = 0; i < s->n; i++)
        s->layer[i].control = "none";
    return ST_OK;
}

static st_status map_check(const st_bench_map_opts *o, st_err *e)
{
    const int64_t most = 1 << 20;
    if (o->in < 1 || o->out < 1 || o->rows < 1 || o->in > most || o->out > most || o->rows > most) {
        ST_FAIL(e, ST_EARG, "in %lld, out %lld, rows %lld: expected 1 to %lld each",
                (long long)o->in, (long long)o->out, (long long)o->rows, (long long)most);
    }
    if (o->dtype != ST_F32 && o->dtype != ST_BF16) {
        ST_FAIL(e, ST_EARG, "dtype %s: expected float32 or bfloat16", st_dtype_name(o->dtype));
    }
    return ST_OK;
}

st_status st_bench_map(const st_bench_map_opts *o, json_t **result, st_err *e)
{
    ST_TRY(map_check(o, e));
    bench_shape shape = {
        .dtype = o->dtype, .in = o->in, .out = o->out, .rows = o->rows, .backward = o->backward};
    bench_roof roof = {0};
    bench_effort how = {.reps = o->reps, .budget = o->budget, .roof = &roof};
    ST_TRY(st_stream_open(&shape.q, o->device, 0, e));
    int64_t types = 0;
    while (st_map_types[types])
        types++;
    shape.layer = st_calloc(1 + types + o->nmaps, sizeof *shape.layer);
    json_t *rows = json_array();
    st_status s = shape.layer ? map_choose(&shape, o, e) : ST_NOMEM(e, NULL);
    if (!s) s = bench_shape_plan(&shape, e);
    if (!s) s = bench_roof_open(&roof, shape.q, o->dtype == ST_BF16, e);
    if (!s) s = bench_shape_run(&shape, &how, rows, e);
    *result = NULL;
    if (!s || (s == ST_EINTR && json_array_size(rows))) {
        *result = st_machine_json(st_stream_describe(shape.q), st_stream_threads(shape.q));
        json_object_set(*result, "rows", rows);
        json_object_set_new(*result, "ceilings", bench_roof_json(&roof));
    }
    bench_roof_close(&roof);
    free(shape.layer);
    json_decref(rows);
    st_stream_close(shape.q);
    return s;
}
