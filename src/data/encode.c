/* A ring of batches between the thread that reads and writes and the workers that tokenize: the
 * reader fills batches, workers take them in turn, the reader empties them in turn. Memory is the
 * ring's, output the same for any number of workers. */
/* SPDX-License-Identifier: MIT */
#include "data/encode.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ENCODE_BATCH = 1 << 20, ENCODE_MOST = 1024, ENCODE_FLIGHT = 64 << 20 };

typedef struct {
    size_t end;     /* in the batch's text */
    int64_t id_end; /* in its ids */
    bool more;
} encode_part;

typedef struct {
    char *text;
    size_t n, cap;
    encode_part *part;
    int64_t parts, part_cap;
    st_ids ids;
    int64_t specials;   /* special tokens that are taken as text, */
    int32_t special_id; /* and the first of them */
    bool done;          /* under the lock; the worker's last word */
    st_status status;
    st_err err;
} encode_batch;

struct st_encoder {
    const st_bpe *bpe;
    bool special; /* are they tokens? */
    int64_t specials;
    int32_t special_id;
    st_encoder_sink *sink;
    void *ctx;
    encode_batch *batch; /* `batches` of them, used round and round */
    int64_t batches;
    int64_t filled, taken, emptied; /* counts of batches; taken and filled under the lock */
    size_t flight;                  /* bytes of text that are filled and not emptied */
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    bool stop;
    pthread_t *thread;
    int threads;
};

/* ---- workers --------------------------------------------------------------------------------- */

static void encode_work(const st_bpe *bpe, bool special, encode_batch *b)
{
    size_t at = 0;
    b->specials = special ? 0 : st_bpe_specials(bpe, b->text, b->n, &b->special_id);
    b->ids.n = 0;
    b->status = ST_OK;
    for (int64_t i = 0; i < b->parts && !b->status; i++) {
        b->status =
            st_bpe_encode_with(bpe, b->text + at, b->part[i].end - at, special, &b->ids, &b->err);
        at = b->part[i].end;
        b->part[i].id_end = b->ids.n;
    }
}

static void *encode_thread(void *arg)
{
    st_encoder *c = arg;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->stop && c->taken == c->filled)
            pthread_cond_wait(&c->work, &c->lock);
        if (c->stop) break;
        encode_batch *b = &c->batch[c->taken++ % c->batches];
        pthread_mutex_unlock(&c->lock);
        encode_work(c->bpe, c->special, b);
        pthread_mutex_lock(&c->lock);
        b->done = true;
        pthread_cond_signal(&c->ready);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the reader's side ----------------------------------------------------------------------- */

/* Hands the oldest filled batch over, once it is done. */
static st_status encode_empty(st_encoder *c, st_err *e)
{
    encode_batch *b = &c->batch[c->emptied % c->batches];
    pthread_mutex_lock(&c->lock);
    while (!b->done)
        pthread_cond_wait(&c->ready, &c->lock);
    pthread_mutex_unlock(&c->lock);
    if (b->status && e) *e = b->err;
    st_status s = b->status;
    int64_t at = 0;
    for (int64_t i = 0; i < b->parts && !s; i++) {
        s = c->sink(c->ctx, b->ids.id + at, b->part[i].id_end - at, b->part[i].more, e);
        at = b->part[i].id_end;
    }
    if (b->specials && !c->specials) c->special_id = b->special_id;
    c->specials += b->specials;
    c->flight -= b->n;
    b->n = 0;
    b->parts = 0;
    b->done = false;
    if (b->cap > 8 * ENCODE_BATCH) { /* a rare long text's memory is not kept */
        free(b->text);
        st_ids_free(&b->ids);
        b->text = NULL;
        b->cap = 0;
    }
    c->emptied++;
    return s;
}

/* Gives the batch in the making to the workers; empties until there is room for the next. */
static st_status encode_submit(st_encoder *c, st_err *e)
{
    c->flight += c->batch[c->filled % c->batches].n;
    pthread_mutex_lock(&c->lock);
    c->filled++;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    while (c->filled - c->emptied == c->batches ||
           (c->flight > ENCODE_FLIGHT && c->filled > c->emptied))
        ST_TRY(encode_empty(c, e));
    return ST_OK;
}

/* Room for one more part and n more bytes. */
static st_status encode_room(encode_batch *b, size_t n, st_err *e)
{
    if (b->n + n > b->cap) {
        size_t cap = b->n + n < ENCODE_BATCH ? ENCODE_BATCH : b->n + n;
        char *more = realloc(b->text, cap);
        if (!more) ST_FAIL(e, ST_ENOMEM, "out of memory for a text of %zu bytes", n);
        b->text = more;
        b->cap = cap;
    }
    if (b->parts == b->part_cap) {
        int64_t cap = b->part_cap ? 2 * b->part_cap : 64;
        encode_part *more = realloc(b->part, (size_t)cap * sizeof *more);
        if (!more) ST_FAIL(e, ST_ENOMEM, "out of memory for %lld texts", (long long)cap);
        b->part = more;
        b->part_cap = cap;
    }
    return ST_OK;
}

st_status st_encoder_add(st_encoder *c, const char *text, size_t n, bool more, st_err *e)
{
    encode_batch *b = &c->batch[c->filled % c->batches];
    ST_TRY(encode_room(b, n, e));
    memcpy(b->text + b->n, text, n);
    b->n += n;
    b->part[b->parts++] = (encode_part){.end = b->n, .more = more};
    return b->n >= ENCODE_BATCH ? encode_submit(c, e) : ST_OK;
}

st_status st_encoder_finish(st_encoder *c, st_err *e)
{
    if (c->batch[c->filled % c->batches].parts) ST_TRY(encode_submit(c, e));
    while (c->emptied < c->filled)
        ST_TRY(encode_empty(c, e));
    size_t n = 0;
    char *name = c->specials ? st_bpe_name(c->bpe, c->special_id, &n) : NULL;
    if (name) {
        st_log(ST_LOG_WARN,
               "the text has special tokens of the tokenizer, %lld in all (the first: %s), which "
               "are taken as ordinary text",
               (long long)c->specials, name);
    }
    free(name);
    c->specials = 0;
    return ST_OK;
}

st_status st_encoder_open(st_encoder **out, const st_bpe *bpe, bool special, int threads,
                          st_encoder_sink *sink, void *ctx, st_err *e)
{
    *out = NULL;
    if (threads < 1 || threads > ENCODE_MOST) {
        ST_FAIL(e, ST_EARG, "%d threads, expected 1 to %d", threads, ENCODE_MOST);
    }
    st_encoder *c = st_calloc(1, sizeof *c);
    if (!c) return ST_NOMEM(e, NULL);
    c->bpe = bpe;
    c->special = special;
    c->sink = sink;
    c->ctx = ctx;
    c->batches = 3 * (int64_t)threads + 1; /* for each one in work, one waiting, one done */
    c->batch = st_calloc(c->batches, sizeof *c->batch);
    c->thread = st_calloc(threads, sizeof *c->thread);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->ready, NULL);
    while (c->batch && c->thread && c->threads < threads &&
           pthread_create(&c->thread[c->threads], NULL, encode_thread, c) == 0)
        c->threads++;
    if (!c->threads) {
        st_encoder_close(c);
        ST_FAIL(e, ST_ENOMEM, "no thread can be started for tokenizing");
    }
    *out = c;
    return ST_OK;
}

void st_encoder_close(st_encoder *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->threads; i++)
        pthread_join(c->thread[i], NULL);
    for (int64_t i = 0; c->batch && i < c->batches; i++) {
        free(c->batch[i].text);
        free(c->batch[i].part);
        st_ids_free(&c->batch[i].ids);
    }
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->ready);
    free(c->batch);
    free(c->thread);
    free(c);
}
