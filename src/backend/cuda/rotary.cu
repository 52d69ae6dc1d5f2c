/* Gated units and rotary positions (contracts: ops.h; formulas: ref/rotary.c). */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/pack.cuh"
#include <string.h>

/* ---- gated units ---------------------------------------------------------------------------- */

template <bool FAST>
static __device__ __forceinline__ void glu_act(float x, st_glu_kind kind, float *act, float *slope)
{
    if (kind != ST_GLU_SILU) {
        st_gelu_kind gelu = kind == ST_GLU_GELU_ERF ? ST_GELU_ERF : ST_GELU_TANH;
        *act = gelu_value<FAST>(x, gelu);
        *slope = gelu_slope<FAST>(x, gelu);
        return;
    }
    float e = gelu_exp<FAST>(-fabsf(x)), large = gelu_ratio<FAST>(1.0f, 1.0f + e);
    float s = x > 0 ? large : e * large;
    *act = x * s;
    *slope = s + x * (e * large * large); /* s (1 - s), also where s is near 1 */
}

template <typename T> struct glu_fwd {
    const T *g, *u;
    T *y;
    st_glu_kind kind;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(g, i), v = load<N>(u, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float act, slope;
            glu_act<sizeof(T) == 2>(p.v[j], kind, &act, &slope);
            p.v[j] = act * v.v[j];
        }
        store<N>(y, i, p);
    }
};

template <typename T> struct glu_bwd {
    const T *g, *u, *dy;
    T *dg, *du;
    st_glu_kind kind;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(g, i), v = load<N>(u, i), d = load<N>(dy, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float act, slope;
            glu_act<sizeof(T) == 2>(p.v[j], kind, &act, &slope);
            p.v[j] = d.v[j] * v.v[j] * slope;
            d.v[j] *= act;
        }
        store<N>(dg, i, p);
        store<N>(du, i, d);
    }
};

template <typename T> static void glu_fwd_of(st_stream *q, const st_glu_fwd_args *a)
{
    glu_fwd<T> f = {(const T *)a->g.data, (const T *)a->u.data, (T *)a->y.data, a->kind};
    bool aligned = aligned16(f.g) && aligned16(f.u) && aligned16(f.y);
    each(q, "glu_fwd", st_numel(a->g), aligned, f);
}

extern "C" void st_cuda_glu_fwd(st_stream *q, const st_glu_fwd_args *a)
{
    a->g.dtype == ST_F32 ? glu_fwd_of<float>(q, a) : glu_fwd_of<bf16>(q, a);
}

template <typename T> static void glu_bwd_of(st_stream *q, const st_glu_bwd_args *a)
{
    glu_bwd<T> f = {(const T *)a->g.data, (const T *)a->u.data, (const T *)a->dy.data,
                    (T *)a->dg.data,      (T *)a->du.data,      a->kind};
    bool aligned = aligned16(f.g) && aligned16(f.u) && aligned16(f.dy);
    aligned = aligned && aligned16(f.dg) && aligned16(f.du);
    each(q, "glu_bwd", st_numel(a->g), aligned, f);
}

extern "C" void st_cuda_glu_bwd(st_stream *q, const st_glu_bwd_args *a)
{
    a->g.dtype == ST_F32 ? glu_bwd_of<float>(q, a) : glu_bwd_of<bf16>(q, a);
}

/* ---- rotary positions ----------------------------------------------------------------------- */

/* The frequencies travel with the launch: nothing on the device has to hold them. */
template <typename T> struct rotary_view {
    int64_t rows, len, start, stride;
    int heads, dim, half;
    const T *x;
    T *y;
    const int32_t *more; /* of start; or NULL */
    float scale, sign;
    float freq[ST_ROTARY];
};

/* A block takes a row: each thread turns pair i of every head, or copies what is not turned. */
template <typename T> static __global__ void rotary_kernel(const rotary_view<T> v)
{
    int64_t at = (int64_t)blockIdx.x * v.stride;
    float position = (float)(v.start + (v.more ? *v.more : 0) + blockIdx.x % v.len);
    for (int i = threadIdx.x; i < v.half; i += blockDim.x) {
        float s, c;
        sincosf(position * v.freq[i], &s, &c);
        s *= v.sign, c *= v.scale;
        for (int h = 0; h < v.heads; h++) {
            int64_t to = at + (int64_t)h * v.dim + i;
            float x = get(v.x, to), y = get(v.x, to + v.half);
            put(v.y, to, x * c - y * s);
            put(v.y, to + v.half, x * s + y * c);
        }
    }
    if (v.x == v.y) return;
    for (int i = 2 * v.half + threadIdx.x; i < v.dim; i += blockDim.x) {
        for (int h = 0; h < v.heads; h++)
            put(v.y, at + (int64_t)h * v.dim + i, get(v.x, at + (int64_t)h * v.dim + i));
    }
}

template <typename T> static void rotary_of(st_stream *q, const st_rotary_args *a)
{
    rotary_view<T> v = {};
    v.rows = a->rows, v.len = a->len, v.start = a->start;
    v.stride = a->stride ? a->stride : a->heads * a->head_dim;
    v.heads = (int)a->heads, v.dim = (int)a->head_dim, v.half = (int)a->half;
    v.x = (const T *)a->x.data, v.y = (T *)a->y.data;
    v.more = (const int32_t *)a->at.data;
    v.scale = a->scale, v.sign = a->back ? -a->scale : a->scale;
    memcpy(v.freq, a->freq, (size_t)a->half * sizeof *v.freq);
    unsigned threads = (unsigned)((a->half + 31) / 32 * 32);
    rotary_kernel<T><<<(unsigned)a->rows, threads, 0, st_cuda_stream(q)>>>(v);
    st_cuda_launched(q, "rotary");
}

extern "C" void st_cuda_rotary(st_stream *q, const st_rotary_args *a)
{
    if (a->rows == 0) return;
    a->x.dtype == ST_F32 ? rotary_of<float>(q, a) : rotary_of<bf16>(q, a);
}
