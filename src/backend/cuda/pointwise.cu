/* Element by element: GELU, residual with dropout, scale, fill, AdamW, averages of weights. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/columns.cuh"
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/pack.cuh"
#include "backend/cuda/pair.h"
#include <math.h>
#include <string.h>

/* ---- GELU ----------------------------------------------------------------------------------- */

template <typename T> struct gelu_fwd {
    const T *x;
    T *y;
    st_gelu_kind kind;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(x, i);
#pragma unroll
        for (int j = 0; j < N; j++)
            p.v[j] = gelu_value<sizeof(T) == 2>(p.v[j], kind);
        store<N>(y, i, p);
    }
};

template <typename T> struct gelu_bwd {
    const T *x, *dy;
    T *dx;
    st_gelu_kind kind;
    template <int N> __device__ pack<N> run(int64_t i) const
    {
        pack<N> p = load<N>(x, i), d = load<N>(dy, i);
#pragma unroll
        for (int j = 0; j < N; j++)
            d.v[j] *= gelu_slope<sizeof(T) == 2>(p.v[j], kind);
        store<N>(dx, i, d);
        return d;
    }
};

template <typename T> static void gelu_fwd_of(st_stream *q, const st_gelu_fwd_args *a)
{
    gelu_fwd<T> f = {(const T *)a->x.data, (T *)a->y.data, a->kind};
    each(q, "gelu_fwd", st_numel(a->x), aligned16(f.x) && aligned16(f.y), f);
}

extern "C" void st_cuda_gelu_fwd(st_stream *q, const st_gelu_fwd_args *a)
{
    a->x.dtype == ST_F32 ? gelu_fwd_of<float>(q, a) : gelu_fwd_of<bf16>(q, a);
}

/* b: NULL, or the sum of the gradients' rows beside. */
template <typename T>
static void gelu_bwd_of(st_stream *q, const st_gelu_bwd_args *a, const st_bias_grad_args *b)
{
    gelu_bwd<T> f = {(const T *)a->x.data, (const T *)a->dy.data, (T *)a->dx.data, a->kind};
    bool aligned = aligned16(f.x) && aligned16(f.dy) && aligned16(f.dx);
    if (b)
        sum_rows(q, "gelu_bwd", b->rows, b->width, aligned, f, (float *)b->dbias.data);
    else
        each(q, "gelu_bwd", st_numel(a->x), aligned, f);
}

extern "C" void st_cuda_gelu_bwd_bias(st_stream *q, const st_gelu_bwd_args *a,
                                      const st_bias_grad_args *b)
{
    a->x.dtype == ST_F32 ? gelu_bwd_of<float>(q, a, b) : gelu_bwd_of<bf16>(q, a, b);
}

extern "C" void st_cuda_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a)
{
    st_cuda_gelu_bwd_bias(q, a, NULL);
}

/* ---- residual ------------------------------------------------------------------------------- */

/* y = a + drop(b); a may be absent. */
template <typename T> struct residual {
    const T *a, *b;
    T *y;
    uint64_t seed;
    uint32_t below;
    float keep; /* 1 / (1 - drop); 0: no dropout */
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(b, i);
        if (keep > 0 && N == 8) {
            uint4 lo = philox(seed, 0, (uint64_t)i / 4), hi = philox(seed, 0, (uint64_t)i / 4 + 1);
            const uint32_t r[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
#pragma unroll
            for (int j = 0; j < N; j++)
                p.v[j] = r[j] >= below ? p.v[j] * keep : 0.0f;
        } else if (keep > 0) {
            p.v[0] = philox_u32(seed, i) >= below ? p.v[0] * keep : 0.0f;
        }
        if (a) {
            pack<N> more = load<N>(a, i);
#pragma unroll
            for (int j = 0; j < N; j++)
                p.v[j] += more.v[j];
        }
        store<N>(y, i, p);
    }
};

template <typename T>
static void residual_of(st_stream *q, const char *op, st_tensor a, st_tensor b, st_tensor y,
                        float drop, uint64_t seed)
{
    residual<T> f = {(const T *)a.data, (const T *)b.data, (T *)y.data, seed, 0, 0.0f};
    if (drop > 0) {
        f.below = st_drop_below(drop);
        f.keep = (float)(1.0 / (1.0 - (double)drop));
    }
    each(q, op, st_numel(y), aligned16(f.a) && aligned16(f.b) && aligned16(f.y), f);
}

extern "C" void st_cuda_residual_fwd(st_stream *q, const st_residual_fwd_args *a)
{
    if (a->y.dtype == ST_F32)
        residual_of<float>(q, "residual_fwd", a->a, a->b, a->y, a->drop, a->seed);
    else
        residual_of<bf16>(q, "residual_fwd", a->a, a->b, a->y, a->drop, a->seed);
}

extern "C" void st_cuda_residual_bwd(st_stream *q, const st_residual_bwd_args *a)
{
    st_tensor none = {};
    if (a->db.dtype == ST_F32)
        residual_of<float>(q, "residual_bwd", none, a->dy, a->db, a->drop, a->seed);
    else
        residual_of<bf16>(q, "residual_bwd", none, a->dy, a->db, a->drop, a->seed);
}

/* ---- fill, scale ---------------------------------------------------------------------------- */

template <typename T> struct fill {
    T *x;
    float value;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p;
#pragma unroll
        for (int j = 0; j < N; j++)
            p.v[j] = value;
        store<N>(x, i, p);
    }
};

extern "C" void st_cuda_fill(st_stream *q, const st_fill_args *a)
{
    fill<float> f = {(float *)a->x.data, a->value};
    fill<bf16> h = {(bf16 *)a->x.data, a->value};
    int64_t n = st_numel(a->x);
    bool zero = a->value == 0.0f && !signbit(a->value);
    if (zero && n > 0)
        st_cuda_ok(q, cudaMemsetAsync(a->x.data, 0, st_bytes(a->x), st_cuda_stream(q)), "fill");
    else if (a->x.dtype == ST_F32)
        each(q, "fill", n, aligned16(f.x), f);
    else
        each(q, "fill", n, aligned16(h.x), h);
}

typedef struct {
    unsigned char byte[ST_CUDA_SENT];
} sent;
static __global__ void send_kernel(const __grid_constant__ sent s, int n, unsigned char *to)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        to[i] = s.byte[i];
}

extern "C" void st_cuda_send(st_stream *q, void *to, const void *from, size_t bytes)
{
    sent s;
    memcpy(s.byte, from, bytes);
    send_kernel<<<1, 128, 0, st_cuda_stream(q)>>>(s, (int)bytes, (unsigned char *)to);
    st_cuda_launched(q, "upload");
}

/* y = s x, or y += s x */
template <typename X, typename Y> struct scale {
    const X *x;
    Y *y;
    const void *s;
    bool s_wide, accumulate;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(x, i);
        float by = s_wide ? get((const float *)s, 0) : get((const bf16 *)s, 0);
        if (accumulate) {
            pack<N> old = load<N>(y, i);
#pragma unroll
            for (int j = 0; j < N; j++)
                p.v[j] = old.v[j] + by * p.v[j];
        } else {
#pragma unroll
            for (int j = 0; j < N; j++)
                p.v[j] *= by;
        }
        store<N>(y, i, p);
    }
};

template <typename X, typename Y> static void scale_of(st_stream *q, const st_scale_args *a)
{
    scale<X, Y> f = {(const X *)a->x.data, (Y *)a->y.data, a->s.data, a->s.dtype == ST_F32,
                     a->accumulate != 0};
    each(q, "scale", st_numel(a->x), aligned16(f.x) && aligned16(f.y), f);
}

extern "C" void st_cuda_scale(st_stream *q, const st_scale_args *a)
{
    bool x = a->x.dtype == ST_F32, y = a->y.dtype == ST_F32;
    if (x && y)
        scale_of<float, float>(q, a);
    else if (x)
        scale_of<float, bf16>(q, a);
    else if (y)
        scale_of<bf16, float>(q, a);
    else
        scale_of<bf16, bf16>(q, a);
}

/* ---- optimiser ------------------------------------------------------------------------------ */

template <typename W> struct adamw {
    W *w;
    float *master, *m, *v;
    const float *grad;
    float lr, b1, b2, c1, c2, eps, shrink, scale; /* c: 1 - b; shrink: 1 - lr decay */
    float rest1, rest2;                           /* 1 - b^t */
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> x = master ? load<N>(master, i) : load<N>(w, i), g = load<N>(grad, i);
        pack<N> mm = load<N>(m, i), vv = load<N>(v, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float d = g.v[j] * scale;
            mm.v[j] = b1 * mm.v[j] + c1 * d;
            vv.v[j] = b2 * vv.v[j] + c2 * d * d;
            x.v[j] = x.v[j] * shrink - lr * (mm.v[j] / rest1) / (sqrtf(vv.v[j] / rest2) + eps);
        }
        store<N>(m, i, mm);
        store<N>(v, i, vv);
        if (master) store<N>(master, i, x);
        store<N>(w, i, x);
    }
};

template <typename W> static void adamw_of(st_stream *q, const st_adamw_args *a)
{
    double b1 = (double)a->beta1, b2 = (double)a->beta2;
    adamw<W> f = {};
    f.w = (W *)a->w.data;
    f.master = (float *)a->master.data;
    f.m = (float *)a->m.data, f.v = (float *)a->v.data, f.grad = (const float *)a->grad.data;
    f.lr = a->lr, f.b1 = a->beta1, f.b2 = a->beta2;
    f.c1 = (float)(1 - b1), f.c2 = (float)(1 - b2);
    f.eps = a->eps, f.shrink = (float)(1 - (double)a->lr * (double)a->decay);
    f.scale = a->grad_scale;
    f.rest1 = (float)(1 - pow(b1, (double)a->step));
    f.rest2 = (float)(1 - pow(b2, (double)a->step));
    bool aligned = aligned16(f.w) && aligned16(f.master) && aligned16(f.m) && aligned16(f.v) &&
                   aligned16(f.grad);
    each(q, "adamw", st_numel(a->w), aligned, f);
}

extern "C" void st_cuda_adamw(st_stream *q, const st_adamw_args *a)
{
    a->w.dtype == ST_F32 ? adamw_of<float>(q, a) : adamw_of<bf16>(q, a);
}

struct average {
    const float *x;
    float *mean, rate;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(x, i), old = load<N>(mean, i);
#pragma unroll
        for (int j = 0; j < N; j++)
            old.v[j] += rate * (p.v[j] - old.v[j]);
        store<N>(mean, i, old);
    }
};

extern "C" void st_cuda_average(st_stream *q, const st_average_args *a)
{
    average f = {(const float *)a->x.data, (float *)a->mean.data, a->rate};
    each(q, "average", st_numel(a->x), aligned16(f.x) && aligned16(f.mean), f);
}
