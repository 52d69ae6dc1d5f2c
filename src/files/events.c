/* TensorBoard's event files: records of u64 length, masked CRC-32C of it, an Event message
 * (protocol buffers, written by hand: a handful of fields), masked CRC-32C of that. The first says
 * "brain.Event:2"; one that goes on with a run then says from which step on earlier files no longer
 * count (SessionLog START). */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_ROOM = 1 << 16, EVENTS_TEXT = 3 << 14, EVENTS_TAG = 256, EVENTS_VALUE = 512 };
static const char events_stem[] = "events.out.tfevents.";

struct st_events {
    FILE *f;
    char *path;
    int64_t step;
    size_t n; /* of the summary so far */
    uint8_t summary[EVENTS_ROOM], record[2 * EVENTS_ROOM];
    char buffer[EVENTS_ROOM];
};

/* ---- CRC-32C (Castagnoli), reflected --------------------------------------------------------- */

static uint32_t events_crc(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return ~crc;
}

uint32_t st_events_mask(const void *data, size_t n)
{
    uint32_t crc = events_crc(data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- protocol buffers ------------------------------------------------------------------------ */

static uint8_t *events_varint(uint8_t *p, uint64_t x)
{
    for (; x >= 0x80; x >>= 7)
        *p++ = (uint8_t)(x | 0x80);
    *p++ = (uint8_t)x;
    return p;
}

static uint8_t *events_fixed(uint8_t *p, int field, const void *data, size_t n)
{
    *p++ = (uint8_t)(field << 3 | (n == 8 ? 1 : 5));
    memcpy(p, data, n); /* little-endian, as strut's other files */
    return p + n;
}

static uint8_t *events_bytes(uint8_t *p, int field, const void *data, size_t n)
{
    *p++ = (uint8_t)(field << 3 | 2);
    p = events_varint(p, n);
    memcpy(p, data, n);
    return p + n;
}

static uint8_t *events_head(uint8_t *p, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    p = events_fixed(p, 1, &seconds, sizeof seconds);
    *p++ = 2 << 3;
    return events_varint(p, (uint64_t)step);
}

/* ---- records --------------------------------------------------------------------------------- */

/* The record of an event whose message is `head` and then, if n > 0, `body` as field `field`. Not
 * in v->record, where it is put together. */
static st_status events_record(st_events *v, const uint8_t *head, size_t heads, int field,
                               const uint8_t *body, size_t n, st_err *e)
{
    uint8_t *all = v->record, *p = all, length[8];
    memcpy(p, head, heads);
    p += heads;
    if (n) p = events_bytes(p, field, body, n);
    uint64_t size = (uint64_t)(p - all);
    uint32_t crc = (memcpy(length, &size, 8), st_events_mask(length, 8)),
             crc_data = st_events_mask(all, (size_t)size);
    if (fwrite(length, 8, 1, v->f) == 1 && fwrite(&crc, 4, 1, v->f) == 1 &&
        fwrite(all, (size_t)size, 1, v->f) == 1 && fwrite(&crc_data, 4, 1, v->f) == 1 &&
        fflush(v->f) == 0)
        return ST_OK;
    ST_FAIL(e, ST_EIO, "%s: %s; make room and run again, or set log.tensorboard=false", v->path,
            strerror(errno));
}

static st_status events_begin(st_events *v, int64_t purge, st_err *e)
{
    static const char version[] = "brain.Event:2";
    static const uint8_t start[] = {1 << 3, 1}; /* SessionLog.status = START */
    uint8_t head[64], *p = events_head(head, 0);
    p = events_bytes(p, 3, version, strlen(version));
    ST_TRY(events_record(v, head, (size_t)(p - head), 0, NULL, 0, e));
    if (purge < 0) return ST_OK;
    p = events_head(head, purge);
    return events_record(v, head, (size_t)(p - head), 7, start, sizeof start, e);
}

void st_events_step(st_events *v, int64_t step)
{
    v->step = step;
    v->n = 0;
}

st_status st_events_end(st_events *v, st_err *e)
{
    uint8_t head[64], *p = events_head(head, v->step);
    size_t n = v->n;
    v->n = 0;
    return n ? events_record(v, head, (size_t)(p - head), 5, v->summary, n, e) : ST_OK;
}

st_status st_events_scalar(st_events *v, const char *tag, double x, st_err *e)
{
    uint8_t value[EVENTS_VALUE], *p;
    float single = (float)x;
    if (v->n + EVENTS_VALUE > EVENTS_ROOM) ST_TRY(st_events_end(v, e));
    p = events_bytes(value, 1, tag, strnlen(tag, EVENTS_TAG));
    p = events_fixed(p, 2, &single, sizeof single);
    v->n = (size_t)(events_bytes(v->summary + v->n, 1, value, (size_t)(p - value)) - v->summary);
    return ST_OK;
}

/* A string tensor with the metadata of TensorBoard's text plugin. */
st_status st_events_text(st_events *v, const char *tag, const char *text, st_err *e)
{
    static const uint8_t metadata[] = {1 << 3 | 2, 6, 1 << 3 | 2, 4, 't', 'e', 'x', 't', 4 << 3, 2};
    uint8_t *tensor = v->record, *value = v->record + EVENTS_ROOM;
    uint8_t *p = tensor, *q;
    ST_TRY(st_events_end(v, e));
    *p++ = 1 << 3, *p++ = 7;     /* DT_STRING */
    *p++ = 2 << 3 | 2, *p++ = 0; /* no dimensions */
    p = events_bytes(p, 8, text, strnlen(text, EVENTS_TEXT));
    q = events_bytes(value, 1, tag, strnlen(tag, EVENTS_TAG));
    q = events_bytes(q, 8, tensor, (size_t)(p - tensor));
    q = events_bytes(q, 9, metadata, sizeof metadata);
    v->n = (size_t)(events_bytes(v->summary, 1, value, (size_t)(q - value)) - v->summary);
    return st_events_end(v, e);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Readers take the files of a folder by name: the new one is to be the last. */
static long events_time(const char *dir)
{
    long at = (long)time(NULL);
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (strncmp(f->d_name, events_stem, strlen(events_stem)) != 0) continue;
        long there = strtol(f->d_name + strlen(events_stem), NULL, 10);
        if (there >= at && there < 9999999999) at = there + 1;
    }
    if (d) closedir(d);
    return at;
}

st_status st_events_open(st_events **out, const char *dir, int64_t purge, st_err *e)
{
    char host[128] = "";
    st_events *v = st_calloc(1, sizeof *v);
    *out = NULL;
    if (gethostname(host, sizeof host - 1) != 0 || !host[0]) strcpy(host, "localhost");
    if (!v || asprintf(&v->path, "%s/%s%010ld.%s.%d.0", dir, events_stem, events_time(dir), host,
                       (int)getpid()) < 0) {
        free(v);
        return ST_NOMEM(e, dir);
    }
    v->f = fopen(v->path, "wxe");
    st_status s = v->f ? ST_OK : ST_ERR(e, ST_EIO, "%s: %s", v->path, strerror(errno));
    if (!s) setvbuf(v->f, v->buffer, _IOFBF, sizeof v->buffer);
    if (!s) s = events_begin(v, purge, e);
    if (!s)
        *out = v;
    else
        st_events_close(v);
    return s;
}

void st_events_close(st_events *v)
{
    if (!v) return;
    if (v->f) fclose(v->f);
    free(v->path);
    free(v);
}
