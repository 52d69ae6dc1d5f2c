/* A ring of decoded pictures between threads that decode and one that takes them in order. Whoever
 * is free reads the next picture of the gallery, one at a time, then decodes it beside the others.
 * Its slot is its number modulo the ring's size, so that nobody waits for a slow picture but the
 * taker. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "image/image.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOADER_BYTES = 64 << 20, LOADER_THREADS = 1024, LOADER_LOOK = 200 /* ms */ };

typedef struct {
    st_picture picture;
    st_err bad;
    float *planes;
    bool done;
} loader_slot;

struct st_loader {
    st_loader_opts o;
    st_gallery *gallery; /* of the thread that has set `reading` */
    loader_slot *slot;
    int64_t read, taken; /* pictures begun, pictures taken */
    bool reading, ended, stop;
    st_err failed; /* of the gallery; comes after the pictures before it */
    pthread_mutex_t lock;
    pthread_cond_t room, ready;
    pthread_t *thread;
    int threads;
};

static int64_t loader_planes(const st_loader *l)
{
    return 3 * l->o.fit.size * l->o.fit.size;
}

/* The slot's picture as planes, or why not. */
static void loader_decode(const st_loader *l, loader_slot *s)
{
    st_picture *p = &s->picture;
    st_image im = {0};
    st_status r = ST_OK;
    s->bad = (st_err){0};
    if (!p->packed && !p->data)
        r = st_read_file(p->name, LOADER_BYTES, (char **)&p->data, &p->n, &s->bad);
    if (!r) r = st_image_decode(&im, p->data, p->n, p->name, &l->o.how, &s->bad);
    if (!r) r = st_image_planes(&im, &l->o.fit, s->planes, &s->bad);
    if (r) memset(s->planes, 0, (size_t)loader_planes(l) * sizeof *s->planes);
    st_image_free(&im);
    free(p->data);
    p->data = NULL;
}

/* Reads the next picture into its slot; NULL: there is none. Called and left with the lock held. */
static loader_slot *loader_read(st_loader *l)
{
    st_picture p = {0};
    st_err e = {0};
    l->reading = true;
    pthread_mutex_unlock(&l->lock);
    st_status s = st_gallery_next(l->gallery, &p, true, &e);
    pthread_mutex_lock(&l->lock);
    l->reading = false;
    if (s) l->failed = e;
    if (s && !l->failed.code) l->failed.code = s;
    loader_slot *slot = NULL;
    if (p.name) {
        slot = &l->slot[l->read++ % l->o.slots];
        slot->picture = p;
    }
    l->ended = !slot || (l->o.limit && l->read >= l->o.limit);
    pthread_cond_broadcast(&l->room);
    if (!slot) pthread_cond_signal(&l->ready);
    return slot;
}

static void *loader_run(void *ctx)
{
    st_loader *l = ctx;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stop && !l->ended && (l->reading || l->read - l->taken >= l->o.slots))
            pthread_cond_wait(&l->room, &l->lock);
        if (l->stop || l->ended) break;
        loader_slot *slot = loader_read(l);
        if (!slot) break;
        pthread_mutex_unlock(&l->lock);
        loader_decode(l, slot);
        pthread_mutex_lock(&l->lock);
        slot->done = true;
        pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static st_status loader_start(st_loader *l, st_err *e)
{
    st_picture p;
    for (int64_t i = 0; i < l->o.skip; i++) {
        ST_TRY(st_gallery_next(l->gallery, &p, false, e));
        if (!p.name) break;
        st_picture_free(&p);
    }
    l->slot = st_calloc(l->o.slots, sizeof *l->slot);
    l->thread = st_calloc(l->o.threads, sizeof *l->thread);
    bool ok = l->slot && l->thread;
    for (int64_t i = 0; ok && i < l->o.slots; i++)
        ok = (l->slot[i].planes = st_calloc(loader_planes(l), sizeof(float))) != NULL;
    if (!ok) {
        ST_FAIL(e, ST_ENOMEM, "out of memory for %lld decoded pictures; try a smaller batch",
                (long long)l->o.slots);
    }
    while (l->threads < l->o.threads &&
           pthread_create(&l->thread[l->threads], NULL, loader_run, l) == 0)
        l->threads++;
    if (l->threads) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "no thread can be started to decode pictures");
}

st_status st_loader_open(st_loader **out, const char *const *paths, int n, const st_loader_opts *o,
                         st_err *e)
{
    *out = NULL;
    ST_TRY(st_image_check_fit(&o->fit, e));
    if (o->threads < 1 || o->threads > LOADER_THREADS || o->slots < 0) {
        ST_FAIL(e, ST_EARG, "%d threads, expected 1 to %d", o->threads, LOADER_THREADS);
    }
    st_loader *l = st_calloc(1, sizeof *l);
    if (!l) return ST_NOMEM(e, NULL);
    l->o = *o;
    if (!l->o.slots) l->o.slots = 2 * o->threads;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->ready, NULL);
    st_status s = st_gallery_open(&l->gallery, paths, n, e);
    if (!s) s = loader_start(l, e);
    if (s)
        st_loader_close(l);
    else
        *out = l;
    return s;
}

/* Waits for the next slot; NULL: there is none, or the user has interrupted. */
static loader_slot *loader_wait(st_loader *l)
{
    loader_slot *slot = &l->slot[l->taken % l->o.slots];
    while (!st_interrupted()) {
        if (l->taken < l->read && slot->done) return slot;
        if (l->ended && l->taken == l->read) return NULL;
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += LOADER_LOOK * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000L;
        t.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&l->ready, &l->lock, &t);
    }
    return NULL;
}

st_status st_loader_next(st_loader *l, st_picture *picture, float *planes, st_err *bad, st_err *e)
{
    *picture = (st_picture){0};
    pthread_mutex_lock(&l->lock);
    loader_slot *slot = loader_wait(l);
    st_err failed = l->failed;
    pthread_mutex_unlock(&l->lock);
    if (!slot) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        if (failed.code && e) *e = failed;
        return failed.code;
    }
    memcpy(planes, slot->planes, (size_t)loader_planes(l) * sizeof *planes);
    *picture = slot->picture;
    *bad = slot->bad;
    pthread_mutex_lock(&l->lock);
    slot->picture = (st_picture){0};
    slot->done = false;
    l->taken++;
    pthread_cond_signal(&l->room);
    pthread_mutex_unlock(&l->lock);
    return ST_OK;
}

void st_loader_close(st_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->threads; i++)
        pthread_join(l->thread[i], NULL);
    for (int64_t i = 0; l->slot && i < l->o.slots; i++) {
        st_picture_free(&l->slot[i].picture);
        free(l->slot[i].planes);
    }
    st_gallery_close(l->gallery);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->room);
    pthread_mutex_destroy(&l->lock);
    free(l->slot);
    free(l->thread);
    free(l);
}
