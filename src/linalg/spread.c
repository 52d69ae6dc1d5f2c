/* Pieces of work over threads. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include <pthread.h>

enum { SPREAD_WORKERS = 64 };

typedef struct {
    const st_spread_args *a;
    pthread_mutex_t lock; /* of what follows */
    int64_t next, done;
    st_err err;
    st_status status;
} spread;

/* Takes pieces until there are none or something went wrong. */
static void *spread_work(void *arg)
{
    spread *r = arg;
    const st_spread_args *a = r->a;
    pthread_mutex_lock(&r->lock);
    while (!r->status && r->next < a->n) {
        if (st_interrupted()) {
            r->status = ST_ERR(&r->err, ST_EINTR, "interrupted; nothing was written");
            break;
        }
        int64_t i = r->next++;
        st_err err = {0};
        if (!a->quiet) {
            st_report(&(st_progress){.what = a->what,
                                     .done = r->done,
                                     .total = a->n,
                                     .unit = a->unit,
                                     .detail = a->name ? a->name(a->ctx, i) : NULL});
        }
        pthread_mutex_unlock(&r->lock);
        st_status s = a->work(a->ctx, i, &err);
        pthread_mutex_lock(&r->lock);
        r->done++;
        if (!s || r->status) continue;
        r->status = s;
        r->err = err;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

st_status st_spread(const st_spread_args *a, st_err *e)
{
    spread r = {.a = a};
    int64_t workers = st_threads(0);
    if (workers > a->n) workers = a->n;
    if (workers > SPREAD_WORKERS) workers = SPREAD_WORKERS;
    int before = workers > 1 ? st_linalg_threads(1) : 0;
    pthread_t thread[SPREAD_WORKERS];
    int64_t started = 0;
    pthread_mutex_init(&r.lock, NULL);
    while (started + 1 < workers && pthread_create(&thread[started], NULL, spread_work, &r) == 0)
        started++;
    spread_work(&r);
    for (int64_t i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&r.lock);
    if (workers > 1) st_linalg_threads(before);
    if (r.status && e) *e = r.err;
    return r.status;
}
