/* Which runs of steps become one launch (relay.h), and how their results are handed on. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/relay.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *from, *to;
} relay_span;

/* What a step writes: words from `at` on hold it too, unless it is -1. `place`: where the plan says
 * that it goes to memory, or NULL: it always does. */
typedef struct {
    relay_span span;
    int step;
    int32_t at;
    void *place;
} relay_out;

/* Memory that a step reads; `vector`: what it multiplies or adds, in memory from before the run. */
typedef struct {
    relay_span span;
    int step;
    bool vector;
} relay_in;

enum { OUTS = 8 * RELAY_MOST, INS = 8 * RELAY_MOST };

typedef struct {
    st_relay_plan *plan;
    int blocks, step, outs, ins;
    int from[RELAY_MOST];   /* the step that makes what a step waits for, or -1 */
    bool whole[RELAY_MOST]; /* every block makes a share of what it gives */
    relay_out out[OUTS];
    relay_in in[INS];
} relay_work;

static relay_span span_of(const void *p, int64_t bytes)
{
    return (relay_span){p, (const char *)p + (p ? bytes : 0)};
}
static bool span_meet(relay_span a, relay_span b)
{
    return a.from < b.to && b.from < a.to;
}
static bool span_within(relay_span a, relay_span b)
{
    return a.from >= b.from && a.to <= b.to;
}

/* ---- what a step reads and writes ----------------------------------------------------------- */

static void relay_reads(relay_work *r, const void *p, int64_t n, bool vector)
{
    if (p) r->in[r->ins++] = (relay_in){span_of(p, 2 * n), r->step, vector};
}

/* `n` numbers of bfloat16 at p: the words that hold them, or memory. False: neither. */
static bool relay_vector(relay_work *r, const void *p, int64_t n, int32_t *at, const uint16_t **mem,
                         bool waits)
{
    relay_span x = span_of(p, 2 * n);
    *at = -1;
    for (int i = r->outs - 1; i >= 0; i--) {
        const relay_out *o = &r->out[i];
        int64_t past = x.from - o->span.from;
        if (!span_meet(x, o->span)) continue;
        if (o->at < 0 || !span_within(x, o->span) || past % 16) return false;
        *at = o->at + (int32_t)(past / 4);
        if (waits && o->step > r->from[r->step]) r->from[r->step] = o->step;
        return true;
    }
    if (!mem) return false;
    *mem = p;
    relay_reads(r, p, n, true);
    return true;
}

/* words: of bfloat16 numbers that later steps may read; 0: none. */
static int32_t relay_writes(relay_work *r, const void *p, int64_t bytes, int64_t words, void *place)
{
    int32_t at = words ? (int32_t)r->plan->words : -1;
    if (p) r->out[r->outs++] = (relay_out){span_of(p, bytes), r->step, at, place};
    r->plan->words += (words + 3) / 4 * 4;
    return at;
}

static bool relay_product(relay_work *r, const st_few_args *f, st_relay_product *o)
{
    const st_norm_fwd_args *n = &f->norm;
    const st_fold_fwd_args *d = &f->fold;
    int64_t width = d->supers * d->block;
    int64_t cols = n->width ? n->width : d->block ? d->cols : f->k;
    bool takes = f->dtype == ST_BF16 && f->rows == 1 && f->groups == 1 && !n->rms &&
                 (!f->add || (f->sum == f->y && !f->gelu && !f->wide)) && !(f->gelu && f->wide) &&
                 f->k <= 8192 && cols <= 16384 && (!n->width || n->width <= 3072);
    if (!takes) return false;
    *o = (st_relay_product){.w = f->w,
                            .bias = f->bias,
                            .gain = n->gain.data,
                            .shift = n->bias.data,
                            .h = f->h,
                            .normed = n->width ? n->y.data : NULL,
                            .folded = d->block ? d->z.data : NULL,
                            .y = f->y,
                            .mean = n->width ? n->mean.data : NULL,
                            .rstd = n->width ? n->rstd.data : NULL,
                            .ldw = f->ldw,
                            .n = (int32_t)f->n,
                            .k = (int32_t)f->k,
                            .cols = (int32_t)cols,
                            .gelu = f->gelu,
                            .wide = f->wide,
                            .eps = n->eps,
                            .each = 1.0f / (float)cols};
    if (d->block) {
        o->block = (int32_t)d->block, o->factor = (int32_t)d->factor, o->width = (int32_t)width;
        o->turn = (int32_t)(d->r0 % (d->block / d->vec) * d->vec / 8);
    }
    if (!relay_vector(r, f->x, cols, &o->x_at, &o->x, true)) return false;
    o->add_at = -1;
    if (f->add && !relay_vector(r, f->add, f->n, &o->add_at, &o->add, false)) return false;
    relay_reads(r, f->w, (f->n - 1) * f->ldw + f->k, false);
    relay_reads(r, f->bias, f->n, false);
    relay_reads(r, o->gain, cols, false);
    relay_reads(r, o->shift, cols, false);
    relay_writes(r, o->normed, 2 * cols, 0, &o->normed);
    relay_writes(r, o->mean, 4, 0, &o->mean);
    relay_writes(r, o->rstd, 4, 0, &o->rstd);
    relay_writes(r, o->folded, 2 * width, 0, &o->folded);
    relay_writes(r, o->h, 2 * f->n, 0, &o->h);
    o->y_at = relay_writes(r, f->y, f->n * (f->wide ? 4 : 2), f->wide ? 0 : (f->n + 1) / 2, &o->y);
    r->whole[r->step] = (f->n + 1) / 2 >= r->blocks;
    int32_t most = (int32_t)(cols > width ? cols : width);
    if (most > r->plan->numbers) r->plan->numbers = most;
    return true;
}

static bool relay_attend(relay_work *r, const st_attend_next_args *a, st_relay_next *o)
{
    const st_heads *h = &a->h;
    int64_t dim = h->head_dim, row = h->heads * dim, few = h->kv_heads * dim;
    bool takes = h->q.x.dtype == ST_BF16 && h->batch == 1 && dim % 8 == 0 && dim <= 256 &&
                 h->heads <= r->blocks && h->k.stride % 8 == 0 && h->v.stride % 8 == 0 &&
                 (uintptr_t)h->k.x.data % 16 == 0 && (uintptr_t)h->v.x.data % 16 == 0;
    if (!takes) return false;
    *o = (st_relay_next){.k = h->k.x.data,
                         .v = h->v.x.data,
                         .o = h->o.x.data,
                         .at = a->at.data,
                         .k_stride = h->k.stride,
                         .v_stride = h->v.stride,
                         .heads = (int32_t)h->heads,
                         .each = (int32_t)(h->heads / h->kv_heads),
                         .dim = (int32_t)dim,
                         .window = (int32_t)a->window,
                         .scale2 = a->scale * 1.4426950408889634f};
    if (!relay_vector(r, h->q.x.data, row, &o->q_at, NULL, true)) return false;
    if (!relay_vector(r, a->k.x.data, few, &o->k_at, NULL, true)) return false;
    if (!relay_vector(r, a->v.x.data, few, &o->v_at, NULL, true)) return false;
    relay_reads(r, a->at.data, 2, false);
    relay_writes(r, h->k.x.data, 2 * ((h->kv_len - 1) * h->k.stride + few), 0, NULL);
    relay_writes(r, h->v.x.data, 2 * ((h->kv_len - 1) * h->v.stride + few), 0, NULL);
    o->o_at = relay_writes(r, h->o.x.data, 2 * row, row / 2, &o->o);
    o->parts_at = (int32_t)r->plan->words;
    r->plan->words += h->heads * RELAY_SPLITS * (dim + RELAY_PAST);
    if (dim > r->plan->dim) r->plan->dim = (int32_t)dim;
    return true;
}

/* ---- order ---------------------------------------------------------------------------------- */

/* Whether step `late` begins to write only when every block has left step `early` behind: it waits,
 * through others, for one from there on of which every block makes a share. */
static bool relay_after(const relay_work *r, int late, int early)
{
    for (int s = r->from[late]; s >= early; s = r->from[s])
        if (r->whole[s]) return true;
    return false;
}

/* Memory that is read is written by none of the run, or when all have read it. */
static bool relay_in_order(const relay_work *r)
{
    for (int i = 0; i < r->ins; i++) {
        for (int o = 0; o < r->outs; o++) {
            const relay_in *in = &r->in[i];
            const relay_out *out = &r->out[o];
            if (!span_meet(in->span, out->span)) continue;
            if (!in->vector || out->step < in->step) return false;
            if (!relay_after(r, out->step, in->step)) return false;
        }
    }
    return true;
}

/* The last to write memory is the only one that does: what it overwrites, be it in part, was
 * scratch that had been given back. */
static bool relay_last_writes(relay_work *r)
{
    for (int i = 0; i < r->outs; i++) {
        for (int j = i + 1; j < r->outs; j++) {
            if (!span_meet(r->out[i].span, r->out[j].span)) continue;
            if (!r->out[i].place) return false;
            memset(r->out[i].place, 0, sizeof(void *));
            break;
        }
    }
    return true;
}

bool st_relay_make(st_relay_plan *plan, const st_relay_step *step, int n, int blocks)
{
    if (n < RELAY_LEAST || n > RELAY_MOST) return false;
    relay_work *r = st_calloc(1, sizeof *r);
    bool makes = r != NULL;
    *plan = (st_relay_plan){.n = n};
    for (int i = 0; i < n && makes; i++) {
        st_relay_op *o = &plan->op[i];
        r->plan = plan, r->blocks = blocks, r->step = i, r->from[i] = -1;
        o->next = step[i].next;
        makes = step[i].next ? relay_attend(r, &step[i].attend, &o->as.attend)
                             : relay_product(r, &step[i].few, &o->as.product);
    }
    makes = makes && relay_in_order(r) && relay_last_writes(r) && plan->words < 1 << 24;
    free(r);
    return makes;
}
