/* Where the factors of a Kronecker sum come from.
 *
 * Nearest: with R[(i1, j1), (i2, j2)] = W^T[i1 m2 + i2, j1 n2 + j2],
 *   |W^T - sum_f A_f (x) B_f| = |R - sum_f vec A_f vec B_f^T|,
 * so the truncated SVD R ~ sum sigma u v^T is optimal (Van Loan & Pitsianis 1993). The split
 * between A and B is a free gauge: rms(B) = 1, so that one optimiser step means the same relative
 * change of W whatever the shape of B; or sqrt(sigma) each, as Krony-PT has it (Ben Ayad et al.
 * 2024).
 *
 * Pruned (ibid.): A is the slice of W^T at one place of B, B is 1 there: with B (2, 1) the even
 * rows of W^T, the odd ones start at `second` times their even neighbours. Further terms take the
 * places after it. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include "map/kron.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { TILE = 32 };

void map_kron_rearrange(const kron_size *z, const float *w, float *r)
{
    int64_t in = z->m1 * z->m2, out = z->n1 * z->n2, cols = z->m2 * z->n2;
    /* in squares, because the two orders have no line of memory in common */
    for (int64_t o0 = 0; o0 < out; o0 += TILE) {
        for (int64_t i0 = 0; i0 < in; i0 += TILE) {
            for (int64_t o = o0; o < map_min(o0 + TILE, out); o++) {
                int64_t j1 = o / z->n2, j2 = o % z->n2;
                for (int64_t i = i0; i < map_min(i0 + TILE, in); i++) {
                    int64_t i1 = i / z->m2, i2 = i % z->m2;
                    r[(i1 * z->n1 + j1) * cols + i2 * z->n2 + j2] = w[o * in + i];
                }
            }
        }
    }
}

static st_status kron_set_scalars(const kron_size *z, const st_theta *t, const st_project_opts *how,
                                  st_err *e)
{
    bool given = how && how->scalars;
    if (given && (!z->scalars || how->nscalars != z->f)) {
        ST_FAIL(e, ST_EARG,
                "kron: %lld scalars for %lld terms%s; expected one for each term of a map with "
                "scalars=1",
                (long long)how->nscalars, (long long)z->f,
                z->scalars ? "" : " without learned scalars");
    }
    for (int64_t f = 0; given && f < z->f; f++) {
        if (fabs(how->scalars[f]) <= (double)FLT_MAX) continue;
        ST_FAIL(e, ST_EARG, "kron: scalar %g of term %lld; float32 holds up to %g", how->scalars[f],
                (long long)f, (double)FLT_MAX);
    }
    for (int64_t f = 0; z->scalars && f < z->f; f++)
        ((float *)t->p[KRON_S].data)[f] = given ? (float)how->scalars[f] : 1.0f;
    return ST_OK;
}

st_status map_kron_van_loan(const st_spec *s, const float *w, const st_theta *t,
                            const st_project_opts *how, st_err *e)
{
    kron_size z = map_kron_size(s);
    int64_t m = z.m1 * z.n1, n = z.m2 * z.n2;
    ST_TRY(kron_set_scalars(&z, t, how, e));
    float *r = malloc((size_t)(m * n) * sizeof *r), *a = t->p[KRON_A].data, *b = t->p[KRON_B].data;
    if (!r) ST_FAIL(e, ST_ENOMEM, "kron: no memory for %lld numbers", (long long)(m * n));
    map_kron_rearrange(&z, w, r);
    st_svd d = {0};
    st_status status =
        st_svd_open(&d, r, m, n, z.f, how && how->randomized, how ? how->seed : 0, e);
    free(r);
    for (int64_t f = 0; f < z.f && !status; f++) {
        /* vt's rows have norm 1 */
        float size = how && how->gauge == ST_GAUGE_BALANCED ? sqrtf(d.s[f]) : sqrtf((float)n);
        float rest = size > 0.0f ? d.s[f] / size : 0.0f;
        for (int64_t i = 0; i < m; i++)
            a[f * m + i] = rest * d.u[i * z.f + f];
        for (int64_t i = 0; i < n; i++)
            b[f * n + i] = size * d.vt[f * n + i];
    }
    st_svd_close(&d);
    return status;
}

st_status map_kron_prune(const st_spec *s, st_tensor w, const st_theta *t, const double *knob,
                         const st_project_opts *how, st_err *e)
{
    kron_size z = map_kron_size(s);
    int64_t m = z.m1 * z.n1, n = z.m2 * z.n2, keep = (int64_t)knob[0];
    if ((double)keep < knob[0] || keep + z.f > n || z.f > n) {
        ST_FAIL(e, ST_EARG,
                "init prune: keep is %.15g with %lld terms, but B has %lld x %lld entries, "
                "numbered from 0",
                knob[0], (long long)z.f, (long long)z.m2, (long long)z.n2);
    }
    ST_TRY(kron_set_scalars(&z, t, how, e));
    const float *from = w.data;
    float *a = t->p[KRON_A].data, *b = t->p[KRON_B].data;
    for (int64_t f = 0; f < z.f; f++) {
        int64_t slot = keep + f, i2 = slot / z.n2, j2 = slot % z.n2;
        for (int64_t i = 0; i < m; i++) {
            int64_t i1 = i / z.n1, j1 = i % z.n1;
            a[f * m + i] = from[(j1 * z.n2 + j2) * s->in + i1 * z.m2 + i2];
        }
        for (int64_t i = 0; i < n; i++)
            b[f * n + i] = i == slot ? 1.0f : (float)knob[1];
    }
    return ST_OK;
}

void map_kron_scale(const st_spec *s, const st_theta *t, float by)
{
    kron_size z = map_kron_size(s);
    st_tensor p = t->p[z.scalars ? KRON_S : KRON_A];
    float *x = p.data;
    for (int64_t i = 0; i < st_numel(p); i++)
        x[i] *= by;
}

/* Row o of W, o = j1 n2 + j2: sum_f s_f B_f[:, j2] times A_f[:, j1], for each i1. */
st_status map_kron_expand(const st_spec *s, const st_theta *t, st_tensor w, st_err *e)
{
    (void)e;
    kron_size z = map_kron_size(s);
    const float *a = t->p[KRON_A].data, *b = t->p[KRON_B].data;
    const float *scale = z.scalars ? t->p[KRON_S].data : NULL;
    for (int64_t o = 0; o < s->out; o++) {
        float *row = (float *)w.data + o * s->in;
        int64_t j1 = o / z.n2, j2 = o % z.n2;
        for (int64_t i1 = 0; i1 < z.m1; i1++) {
            for (int64_t i2 = 0; i2 < z.m2; i2++) {
                float sum = 0.0f;
                for (int64_t f = 0; f < z.f; f++) {
                    float x = a[(f * z.m1 + i1) * z.n1 + j1] * b[(f * z.m2 + i2) * z.n2 + j2];
                    sum += scale ? scale[f] * x : x;
                }
                row[i1 * z.m2 + i2] = sum;
            }
        }
    }
    return ST_OK;
}
