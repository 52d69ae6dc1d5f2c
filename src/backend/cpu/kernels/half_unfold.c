/* Windows of images as rows of bfloat16 (meaning: ref/unfold.c): a window is gathered as float32 by
 * whole vectors, which spill over what follows them and are overwritten by it, and normalised in
 * the first cache level. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/half_rows.h"

enum { HALF_SPILL = 2 * LANES }; /* after a gathered row */

/* Windows that the gatherers below take, and rows that fit the stack. */
static bool half_unfold_serve(const st_unfold_args *a, const st_unfold_shape *s)
{
    bool norm = a->gain.dtype == ST_BF16 && a->gain.data && a->bias.data;
    if (a->y.dtype != ST_BF16 || s->window > HALF_WIDTH) return false;
    if (!norm && (a->gain.data || a->bias.data)) return false;
    if (a->planes) return a->kernel <= LANES;
    return a->x.dtype == ST_BF16 && a->kernel * a->kernel <= LANES;
}

/* Of image i, whose channels are planes: row by row of the window. */
static void half_gather_planes(const st_unfold_args *a, int64_t i, int64_t top, int64_t left,
                               float *to)
{
    int64_t k = a->kernel, lo = left < 0 ? -left : 0, hi = at_most(k, a->width - left);
    uint32_t inside = hi > lo ? half_mask(hi) & ~half_mask(lo) : 0;
    for (int64_t c = 0; c < a->channels; c++) {
        int64_t plane = (i * a->channels + c) * a->height;
        for (int64_t y = top; y < top + k; y++, to += k) {
            __mmask16 have = y >= 0 && y < a->height ? (__mmask16)inside : 0;
            int64_t at = have ? (plane + y) * a->width + left : 0;
            __m512 row;
            if (a->x.dtype == ST_F32)
                row = _mm512_maskz_loadu_ps(have, (const float *)a->x.data + at);
            else
                row = half_load((const uint16_t *)a->x.data + at, have);
            if (k <= LANES / 2)
                _mm256_storeu_ps(to, _mm512_castps512_ps256(row));
            else
                _mm512_storeu_ps(to, row);
        }
    }
}

/* Of image i, whose channels are neighbours: pairs of channels of every place, transposed. */
static void half_gather_pairs(const st_unfold_args *a, int64_t i, int64_t top, int64_t left,
                              float *to)
{
    int64_t k = a->kernel, area = k * k;
    for (int64_t c = 0; c < a->channels; c += 2 * LANES) {
        __mmask32 have = half_mask(a->channels - c);
        vec place[LANES] = {{0}};
        for (int64_t t = 0; t < area; t++) {
            int64_t y = top + t / k, x = left + t % k;
            if (y < 0 || y >= a->height || x < 0 || x >= a->width) continue;
            int64_t at = ((i * a->height + y) * a->width + x) * a->channels + c;
            place[t] = (vec)_mm512_maskz_loadu_epi16(have, (const uint16_t *)a->x.data + at);
        }
        vec_transpose(place);
        for (int64_t j = 0; j < LANES && c + 2 * j < a->channels; j++, to += 2 * area) {
            vec_u32 pair = (vec_u32)place[j];
            vec_store(to, (vec)(pair << 16));
            vec_store(to + area, (vec)(pair & 0xffff0000u));
        }
    }
}

void half_unfold(st_stream *q, const st_unfold_args *a)
{
    st_unfold_shape s = st_unfold_resolve(a);
    if (!half_unfold_serve(a, &s)) {
        st_cpu_wide(q)->unfold(q, a);
        return;
    }
    int64_t lines = a->batch * s.rows;
    int parts = st_parts(q, lines * s.cols * s.window * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t line = 0; line < lines; line++) {
        float row[HALF_WIDTH + HALF_SPILL], mean, rstd;
        int64_t top = line % s.rows * a->stride - a->pad;
        for (int64_t c = 0; c < s.cols; c++) {
            uint16_t *y = (uint16_t *)a->y.data + (line * s.cols + c) * s.window;
            int64_t left = c * a->stride - a->pad;
            if (a->planes)
                half_gather_planes(a, line / s.rows, top, left, row);
            else
                half_gather_pairs(a, line / s.rows, top, left, row);
            if (a->gain.data) {
                half_norm_row(row, s.window, a->eps, a->gain.data, a->bias.data, y, &mean, &rstd);
                continue;
            }
            for (int64_t j = 0; j < s.window; j += LANES)
                half_store(y + j, half_lanes(s.window - j), _mm512_loadu_ps(row + j));
        }
    }
}
