/* Checksums of stretches of a file, compared when a tensor of a stretch is first read: a zip
 * archive has the CRC-32 of every storage. One that is 0 was not computed (torch.save with
 * compute_crc32 off writes that), so it says nothing. */
/* SPDX-License-Identifier: MIT */
#include "weights/container.h"
#include <stdlib.h>
#include <zlib.h>

enum { SUMS_PIECE = 1 << 18 };

static int sums_order(const void *a, const void *b)
{
    int64_t x = ((const st_weights_sum *)a)->at, y = ((const st_weights_sum *)b)->at;
    return (x > y) - (x < y);
}

void st_sums_sort(st_weights *w)
{
    int64_t n = 0;
    for (int64_t i = 0; i < w->sums; i++) {
        if (w->sum[i].bytes > 0 && w->sum[i].crc) w->sum[n++] = w->sum[i];
    }
    w->sums = n;
    if (n) qsort(w->sum, (size_t)n, sizeof *w->sum, sums_order);
}

/* The stretch that a tensor's first element lies in, or NULL. */
static st_weights_sum *sums_of(const st_stored *s)
{
    const st_weights *w = s->file;
    int64_t lo = 0, hi = w->sums;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (w->sum[mid].at <= s->offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && s->offset - w->sum[lo - 1].at < w->sum[lo - 1].bytes ? &w->sum[lo - 1] : NULL;
}

static st_status sums_read(const st_weights *w, const st_weights_sum *sum, uint32_t *crc, st_err *e)
{
    unsigned char *piece = malloc(SUMS_PIECE);
    if (!piece) return ST_NOMEM(e, w->path);
    st_status s = ST_OK;
    for (int64_t done = 0; done < sum->bytes && !s; done += SUMS_PIECE) {
        int64_t n = sum->bytes - done < SUMS_PIECE ? sum->bytes - done : SUMS_PIECE;
        s = st_weights_pread(w, piece, (size_t)n, sum->at + done, e);
        if (!s) *crc = (uint32_t)crc32_z(*crc, piece, (size_t)n);
    }
    free(piece);
    return s;
}

st_status st_sums_check(const st_stored *s, const void *whole, st_err *e)
{
    st_weights_sum *sum = sums_of(s);
    uint32_t crc = 0;
    if (!sum || sum->right) return ST_OK;
    if (whole && sum->at == s->offset && (size_t)sum->bytes == s->bytes)
        crc = (uint32_t)crc32_z(0, whole, s->bytes);
    else
        ST_TRY(sums_read(s->file, sum, &crc, e));
    if (crc != sum->crc) {
        ST_FAIL(
            e, ST_EFORMAT,
            "%s: tensor %.100s is damaged: its %lld bytes have the checksum %08x, expected %08x "
            "by the archive; get the file again, or read it as it is with --no-checksums",
            s->file->path, s->name, (long long)sum->bytes, (unsigned)crc, (unsigned)sum->crc);
    }
    sum->right = true;
    return ST_OK;
}

void st_weights_unchecked(st_weights *w)
{
    w->sums = 0;
}
