/* Layer normalisation of bfloat16, widened once and narrowed by the processor (formulas:
 * ref/norm.c). What is not bfloat16 throughout goes to the other kernels. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/half_rows.h"

void half_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    bool whole = a->x.dtype == ST_BF16 && a->gain.dtype == ST_BF16 && a->bias.dtype == ST_BF16;
    if (!whole || a->rms || !a->gain.data || !a->bias.data || a->width > HALF_WIDTH) {
        st_cpu_wide(q)->norm_fwd(q, a);
        return;
    }
    int parts = st_parts(q, a->rows * a->width * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float row[HALF_WIDTH], mean, rstd;
        const uint16_t *x = (const uint16_t *)a->x.data + r * a->width, *gain = a->gain.data;
        uint16_t *y = (uint16_t *)a->y.data + r * a->width;
        for (int64_t j = 0; j < a->width; j += LANES)
            _mm512_storeu_ps(row + j, half_load(x + j, half_lanes(a->width - j)));
        half_norm_row(row, a->width, a->eps, gain, a->bias.data, y, &mean, &rstd);
        if (a->mean.data) ((float *)a->mean.data)[r] = mean;
        if (a->rstd.data) ((float *)a->rstd.data)[r] = rstd;
    }
}
