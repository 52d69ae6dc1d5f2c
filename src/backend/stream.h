/* The inside of a stream, for the files of this room. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_STREAM_H
#define ST_STREAM_H

#include "backend/backend.h"

/* A kind of device: how its streams are set up and taken down, and its memory. */
typedef struct st_device {
    const char *name;
    const struct st_device *under; /* whose memory this one guards (guard.c); NULL: none's */
    /* Whether there are several, named NAME:0, NAME:1, ...; q->index says which. */
    bool numbered;
    bool packs; /* st_stream_packs */
    /* Whether "auto" may choose it; NULL: never. */
    bool (*there)(void);
    /* Fills q->table, q->threads, q->describe and, if it needs one, q->device_state. */
    st_status (*open)(st_stream *q, int threads, st_err *e);
    void (*close)(st_stream *q); /* of a half-opened stream too; may be NULL */
    /* Zeroed memory of the device as an arena, whose base the host may not touch; copies, after
     * which the host may use its side; a wait for all that is queued, which latches what failed.
     * All NULL: the device computes in host memory, in the calling thread's order. */
    st_status (*alloc)(st_stream *q, size_t bytes, st_arena *out, st_err *e);
    void (*release)(st_stream *q, st_arena *a);
    void (*upload)(st_stream *q, st_tensor dst, const void *src);
    void (*download)(st_stream *q, void *dst, st_tensor src);
    void (*wait)(st_stream *q);
    /* Remembers under `number` when what is queued so far was done; seconds between two numbers,
     * after a wait. NULL: operations are done when they return. */
    void (*mark)(st_stream *q, int number);
    double (*between)(st_stream *q, int first, int second);
    /* Notes what is queued from `record` to `recorded` in place of doing it, so that `play` does it
     * at once; recorded gives NULL where something in between could not be noted. NULL, all four:
     * operations are queued one by one. */
    bool (*record)(st_stream *q);
    void *(*recorded)(st_stream *q);
    void (*play)(st_stream *q, const void *recording);
    void (*forget)(st_stream *q, void *recording);
} st_device;

struct st_profile;

struct st_stream {
    st_ops ops; /* what callers see: `table`, or operations that do nothing after a failure */
    st_ops table;
    const st_device *device;
    void *device_state;
    st_ops *guarded; /* what `table` leads to on a guarded device (guard.c) */
    int index, threads;
    int units;              /* of a GPU; 0: threads */
    double peak, peak_half; /* FLOP/s in float32 and in bfloat16; 0: not known */
    bool dry;
    st_cost cost;
    const char *tag;
    st_err failure;             /* code ST_OK: none */
    struct st_profile *profile; /* NULL: nobody asked */
    char describe[128];
};

extern const st_device st_device_cuda, st_device_cpu, st_device_ref, st_device_guard;

/* The row to open instead of `d`: one that guards it where $ST_GUARD is set. */
const st_device *st_guard_over(const st_device *d);

/* The operations of a dry stream (dry.c). */
extern const st_ops st_dry_ops;
/* Those that measure what `table` does (profile.c); adds up what is still queued. */
const st_ops *st_profile_ops(void);
void st_profile_settle(st_stream *q);
/* Sets q->ops to what callers are to see where nothing has failed (open.c). */
void st_stream_serve(st_stream *q);

/* A field of an argument struct where zero means "natural". */
static inline int64_t st_or(int64_t value, int64_t natural)
{
    return value ? value : natural;
}

/* st_gemm_args with every default filled in. */
typedef struct {
    int64_t batch, lda, ldb, ldc, step_a, step_b, step_c;
} st_gemm_layout;

static inline st_gemm_layout st_gemm_resolve(const st_gemm_args *g)
{
    st_gemm_layout l = {.batch = st_or(g->batch, 1)};
    l.lda = st_or(g->lda, g->ta ? g->m : g->k);
    l.ldb = st_or(g->ldb, g->tb ? g->k : g->n);
    l.ldc = st_or(g->ldc, g->n);
    l.step_a = g->step_a < 0 ? 0 : st_or(g->step_a, l.lda * (g->ta ? g->k : g->m));
    l.step_b = g->step_b < 0 ? 0 : st_or(g->step_b, l.ldb * (g->tb ? g->n : g->k));
    l.step_c = g->step_c < 0 ? 0 : st_or(g->step_c, l.ldc * g->m);
    return l;
}

/* Rows of a tensor of heads: next to each other, and items too, where nothing else is said. */
static inline void st_natural(st_strided *t, int64_t width, int64_t len)
{
    t->stride = st_or(t->stride, width);
    t->step = st_or(t->step, len * t->stride);
}

static inline st_heads st_heads_resolve(st_heads h)
{
    int64_t width = h.heads * h.head_dim;
    h.kv_heads = st_or(h.kv_heads, h.heads);
    st_natural(&h.q, width, h.q_len);
    st_natural(&h.k, h.kv_heads * h.head_dim, h.kv_len);
    st_natural(&h.v, h.kv_heads * h.head_dim, h.kv_len);
    st_natural(&h.o, width, h.q_len);
    return h;
}

static inline st_attend_next_args st_attend_next_resolve(const st_attend_next_args *given)
{
    st_attend_next_args a = *given;
    a.h.q_len = 1;
    a.h = st_heads_resolve(a.h);
    st_natural(&a.k, a.h.kv_heads * a.h.head_dim, 1);
    st_natural(&a.v, a.h.kv_heads * a.h.head_dim, 1);
    return a;
}

/* The position of the first row of an item, on a device in the host's memory. */
static inline int64_t st_start(int64_t start, st_tensor at)
{
    return start + (at.data ? *(const int32_t *)at.data : 0);
}

static inline st_attend_fwd_args st_attend_resolve(const st_attend_fwd_args *given)
{
    st_attend_fwd_args a = *given;
    a.h = st_heads_resolve(a.h);
    return a;
}

/* The keys that query t may see: from st_attend_first to below st_attend_keys, which is no less. */
static inline int64_t st_attend_keys(const st_attend_fwd_args *a, int64_t t)
{
    int64_t limit = a->h.kv_len, at = a->q_start + t;
    if (a->causal) limit = at + 1;
    if (a->window && !a->causal) limit = at + (a->window + 1) / 2;
    return limit < a->h.kv_len ? limit : a->h.kv_len;
}
/* Behind the last query that sees key j, in a causal window or without one. */
static inline int64_t st_attend_queries(const st_attend_fwd_args *a, int64_t j)
{
    int64_t end = a->window ? j - a->q_start + a->window : a->h.q_len;
    return end < 0 ? 0 : end < a->h.q_len ? end : a->h.q_len;
}
static inline int64_t st_attend_first(const st_attend_fwd_args *a, int64_t t)
{
    if (!a->window) return 0;
    int64_t first = a->q_start + t - (a->causal ? a->window - 1 : a->window / 2);
    int64_t end = st_attend_keys(a, t);
    return first < 0 ? 0 : first < end ? first : end;
}

static inline st_favor_args st_favor_resolve(const st_favor_args *given)
{
    st_favor_args a = *given;
    a.h = st_heads_resolve(a.h);
    a.scale = a.scale != 0 ? a.scale : 1.0f;
    return a;
}

static inline st_lsh_order_args st_lsh_order_resolve(const st_lsh_order_args *given)
{
    st_lsh_order_args a = *given;
    a.h = st_heads_resolve(a.h);
    a.sorted = st_or(a.sorted, a.total);
    return a;
}

/* Where keys are shared, they are named like those that are not. */
static inline st_lsh_attend_args st_lsh_attend_resolve(const st_lsh_attend_args *given)
{
    st_lsh_attend_args a = *given;
    if (a.shared) {
        a.h.k = a.h.q;
        a.k_order = a.q_order;
        a.k_cluster = a.q_cluster;
    }
    a.h = st_heads_resolve(a.h);
    return a;
}

/* Keys that a query of cluster c meets: its own cluster's, and the one's before. */
static inline int64_t st_lsh_keys(const st_lsh_attend_args *a)
{
    return a->shared ? 2 * a->q_cluster : a->k_cluster;
}
/* Where the `at`th of them stands in the order. */
static inline int64_t st_lsh_place(const st_lsh_attend_args *a, int64_t c, int64_t at)
{
    if (at < a->k_cluster) return c * a->k_cluster + at;
    return ((c + a->clusters - 1) % a->clusters - 1) * a->k_cluster + at;
}

/* Rows of w. */
static inline int64_t st_favor_rows(const st_favor_args *a)
{
    if (a->map == ST_FAVOR_ELU) return 0;
    return a->map == ST_FAVOR_COSH ? a->features / 2 : a->features;
}

/* What phi.phi is divided by. */
static inline int64_t st_favor_divisor(const st_favor_args *a)
{
    return a->map == ST_FAVOR_EXP || a->map == ST_FAVOR_COSH ? a->features : 1;
}

/* The exact part: attention within the window. Without a window its keys are the visible ones. */
static inline st_attend_fwd_args st_favor_near(const st_favor_args *a)
{
    return (st_attend_fwd_args){.h = a->h,
                                .q_start = a->q_start,
                                .window = a->window,
                                .scale = a->scale,
                                .causal = a->causal};
}

/* Row count, columns and row distances of a copy. */
static inline st_copy_args st_copy_resolve(const st_copy_args *given)
{
    st_copy_args a = *given;
    a.rows = st_or(a.rows, 1);
    a.cols = st_or(a.cols, st_numel(a.x) / a.rows);
    a.pad = a.accumulate || a.pad < a.cols ? a.cols : a.pad;
    a.ldx = st_or(a.ldx, a.cols);
    a.ldy = st_or(a.ldy, a.pad);
    return a;
}

/* Windows of an image, down and across, and numbers in one. */
typedef struct {
    int64_t rows, cols, window;
} st_unfold_shape;

static inline st_unfold_shape st_unfold_resolve(const st_unfold_args *a)
{
    return (st_unfold_shape){.rows = (a->height + 2 * a->pad - a->kernel) / a->stride + 1,
                             .cols = (a->width + 2 * a->pad - a->kernel) / a->stride + 1,
                             .window = a->channels * a->kernel * a->kernel};
}

#endif
