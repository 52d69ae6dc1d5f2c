/* Cross entropy of a softmax over each row, a block a row: loss = logsumexp(z) - z[target],
 * dz = scale (softmax(z) - onehot(target)). Rows with target < 0 count for nothing. And what is
 * learnt from a teacher: its probabilities, its states. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.cuh"

enum { THREADS = 512 };

/* ---- a row, 16 bytes at a time where it can be ---------------------------------------------- */

/* Numbers before the first that is aligned to 16 bytes. */
template <typename T> static __device__ __forceinline__ int64_t loss_head(const T *x, int64_t width)
{
    int64_t n = (int64_t)((16 - ((uintptr_t)x & 15)) & 15) / (int64_t)sizeof(T);
    return n < width ? n : width;
}

/* f(j, pack<N>) for all numbers j of the row. */
template <typename T, typename F>
static __device__ __forceinline__ void loss_row(const T *x, int64_t width, F f)
{
    int64_t head = loss_head(x, width), wide = (width - head) / 8;
    for (int64_t j = threadIdx.x; j < head; j += THREADS)
        f(j, load<1>(x, j));
    for (int64_t i = threadIdx.x; i < wide; i += THREADS)
        f(head + i * 8, load<8>(x, head + i * 8));
    for (int64_t j = head + wide * 8 + threadIdx.x; j < width; j += THREADS)
        f(j, load<1>(x, j));
}

/* The largest x and the sum of e^(by (x - it)), over the block. NaN passes. */
template <typename T>
static __device__ void loss_softmax(const T *x, int64_t width, float by, float *top, float *sum)
{
    float most = -INFINITY, total = 0;
    loss_row(x, width, [&](int64_t, auto p) {
        constexpr int N = sizeof p / sizeof(float);
        float high = p.v[0], add = 0;
#pragma unroll
        for (int k = 1; k < N; k++)
            high = fmaxf(high, p.v[k]);
        if (high > most) {
            total *= expf(by * (most - high));
            most = high;
        }
#pragma unroll
        for (int k = 0; k < N; k++)
            add += expf(by * (p.v[k] - (most == -INFINITY ? 0.0f : most)));
        total += add;
    });
    *top = block_max(most);
    float share = most == -INFINITY && total == 0 ? 0 : total * expf(by * (most - *top));
    *sum = block_sum(share);
}

/* Whether p's and q's rows can be read and written in the same steps. */
template <typename A, typename B> static __device__ bool loss_alike(const A *a, const B *b)
{
    return sizeof(A) == sizeof(B) && (((uintptr_t)a ^ (uintptr_t)b) & 15) == 0;
}

/* y[j] = f(j, x[j]) for all numbers of a row. */
template <typename X, typename Y, typename F>
static __device__ __forceinline__ void loss_map(const X *x, Y *y, int64_t width, F f)
{
    if (loss_alike(x, y)) {
        loss_row(x, width, [&](int64_t j, auto p) {
            constexpr int N = sizeof p / sizeof(float);
#pragma unroll
            for (int k = 0; k < N; k++)
                p.v[k] = f(j + k, p.v[k]);
            store<N>(y, j, p);
        });
    } else {
        for (int64_t j = threadIdx.x; j < width; j += THREADS)
            put(y, j, f(j, get(x, j)));
    }
}

/* ---- cross entropy -------------------------------------------------------------------------- */

/* How a kernel tells that a target is no class. */
typedef struct {
    int *flag, number;
} loss_fault;

template <typename T, typename D>
static __global__ void __launch_bounds__(THREADS)
    xent_kernel(int64_t width, int64_t stride, const T *logits, const int32_t *targets, float *loss,
                D *dlogits, float scale, loss_fault fault)
{
    int64_t r = blockIdx.x;
    int32_t target = targets[r];
    const T *z = logits + r * stride;
    D *d = dlogits ? dlogits + r * stride : NULL;
    if (target < 0) {
        if (loss && threadIdx.x == 0) loss[r] = 0;
        for (int64_t j = threadIdx.x; j < width && d; j += THREADS)
            put(d, j, 0);
        return;
    }
    if (target >= width) {
        if (threadIdx.x == 0) *(volatile int *)fault.flag = fault.number;
        return;
    }
    float top, sum, at = get(z, target);
    loss_softmax(z, width, 1.0f, &top, &sum);
    if (loss && threadIdx.x == 0) loss[r] = logf(sum) + (top - at);
    if (!d) return;
    float by = scale / sum;
    loss_map(z, d, width, [&](int64_t j, float x) {
        float p = by * expf(x - top);
        return j == target ? p - scale : p;
    });
}

/* The same for rows of float32 logits that begin aligned and fit into shared memory, where they are
 * kept between the sum and the gradient, so that they are read from memory once. */
enum { ROW_THREADS = 1024, ROW_MOST = 56 << 10 }; /* numbers of a row: 224 KiB */

template <typename D>
static __global__ void __launch_bounds__(ROW_THREADS)
    xent_row_kernel(int64_t width, int64_t stride, const float *logits, const int32_t *targets,
                    float *loss, D *dlogits, float scale, loss_fault fault)
{
    extern __shared__ float4 row[];
    int64_t r = blockIdx.x;
    int32_t target = targets[r];
    const float4 *z = (const float4 *)(logits + r * stride);
    float *one = (float *)row, most = -INFINITY, total = 0;
    int quads = (int)width / 4;
    if (target >= width) {
        if (threadIdx.x == 0) *(volatile int *)fault.flag = fault.number;
        return;
    }
    for (int i = threadIdx.x; i < quads; i += ROW_THREADS) {
        float4 v = __ldcs(z + i);
        row[i] = v;
        float high = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
        if (high > most) {
            total *= __expf(most - high);
            most = high;
        }
        float base = most == -INFINITY ? 0.0f : most;
        total +=
            (__expf(v.x - base) + __expf(v.y - base)) + (__expf(v.z - base) + __expf(v.w - base));
    }
    if (4 * quads + (int)threadIdx.x < width) { /* up to 3 are left */
        float v = ((const float *)z)[4 * quads + threadIdx.x];
        one[4 * quads + threadIdx.x] = v;
        total = v > most ? total * __expf(most - v) + 1.0f : total + __expf(v - most);
        most = fmaxf(most, v);
    }
    float top = block_max(most);
    float share = most == -INFINITY && total == 0 ? 0 : total * __expf(most - top);
    float sum = block_sum(share), by = scale / sum;
    if (loss && threadIdx.x == 0) loss[r] = target < 0 ? 0.0f : logf(sum) + (top - one[target]);
    D *d = dlogits + r * stride;
    int pairs = (int)width / 8;
    for (int i = threadIdx.x; i < pairs; i += ROW_THREADS) {
        float4 a = row[2 * i], b = row[2 * i + 1];
        eight e = {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
#pragma unroll
        for (int k = 0; k < 8; k++) {
            float p = by * __expf(e.v[k] - top);
            p = 8 * i + k == target ? p - scale : p;
            e.v[k] = target < 0 ? 0.0f : p;
        }
        put8(d, 8 * (int64_t)i, e);
    }
    int64_t j = 8 * (int64_t)pairs + threadIdx.x;
    if (j < width) {
        float p = by * __expf(one[j] - top);
        put(d, j, target < 0 ? 0.0f : j == target ? p - scale : p);
    }
}

/* Whether the kernel above takes it. */
static bool xent_in_rows(const st_xent_args *a)
{
    int64_t stride = st_or(a->stride, a->width);
    return a->logits.dtype == ST_F32 && a->dlogits.dtype == ST_BF16 && a->dlogits.data &&
           stride % 8 == 0 && aligned16(a->logits.data) && aligned16(a->dlogits.data) &&
           a->width > 4096 && a->width <= ROW_MOST;
}

/* False: the GPU has not as much shared memory. */
static bool xent_rows(st_stream *q, const st_xent_args *a)
{
    int bytes = (int)((a->width + 3) / 4 * 16);
    loss_fault fault = {
        st_cuda_of(q)->faulty_on_device,
        st_cuda_fault_number(q, "xent", "a target id is not below the number of classes")};
    cudaError_t status = cudaFuncSetAttribute((const void *)xent_row_kernel<bf16>,
                                              cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status) {
        cudaGetLastError();
        return false;
    }
    xent_row_kernel<bf16><<<(unsigned)a->rows, ROW_THREADS, bytes, st_cuda_stream(q)>>>(
        a->width, st_or(a->stride, a->width), (const float *)a->logits.data,
        (const int32_t *)a->targets.data, (float *)a->loss.data, (bf16 *)a->dlogits.data, a->scale,
        fault);
    st_cuda_launched(q, "xent");
    return true;
}

template <typename T, typename D> static void xent_of(st_stream *q, const st_xent_args *a)
{
    loss_fault fault = {
        st_cuda_of(q)->faulty_on_device,
        st_cuda_fault_number(q, "xent", "a target id is not below the number of classes")};
    xent_kernel<T, D><<<(unsigned)a->rows, THREADS, 0, st_cuda_stream(q)>>>(
        a->width, st_or(a->stride, a->width), (const T *)a->logits.data,
        (const int32_t *)a->targets.data, (float *)a->loss.data, (D *)a->dlogits.data, a->scale,
        fault);
    st_cuda_launched(q, "xent");
}

extern "C" void st_cuda_xent(st_stream *q, const st_xent_args *a)
{
    if (a->rows == 0) return;
    bool x = a->logits.dtype == ST_F32, d = a->dlogits.dtype == ST_F32;
    if (xent_in_rows(a) && xent_rows(q, a)) return;
    if (x && (d || !a->dlogits.data))
        xent_of<float, float>(q, a);
    else if (x)
        xent_of<float, bf16>(q, a);
    else if (d && a->dlogits.data)
        xent_of<bf16, float>(q, a);
    else
        xent_of<bf16, bf16>(q, a);
}

/* ---- a teacher's probabilities -------------------------------------------------------------- */

template <typename T, typename U, typename D> struct distill {
    int64_t width, stride;
    const T *logits;
    const U *teacher;
    const int32_t *targets;
    float *loss, *kl;
    D *dlogits;
    float scale, kl_scale, temperature;
    loss_fault fault;
};

/* logsumexp of by x, in two parts whose sum it is: so that large ones do not swallow small ones. */
typedef struct {
    float top, log;
} loss_parts;

template <typename T> static __device__ loss_parts distill_lse(const T *x, int64_t width, float by)
{
    float top, sum;
    loss_softmax(x, width, by, &top, &sum);
    return loss_parts{top, logf(sum)};
}

template <typename T, typename U, typename D>
static __global__ void __launch_bounds__(THREADS) distill_kernel(distill<T, U, D> a)
{
    int64_t r = blockIdx.x;
    int32_t target = a.targets[r];
    const T *z = a.logits + r * a.stride;
    const U *t = a.teacher + r * a.stride;
    D *d = a.dlogits ? a.dlogits + r * a.stride : NULL;
    bool none = target < 0;
    if (target >= a.width) {
        if (threadIdx.x == 0) *(volatile int *)a.fault.flag = a.fault.number;
        return;
    }
    float by = 1.0f / a.temperature, kl = 0, at = none ? 0 : get(z, target);
    loss_parts one = distill_lse(z, a.width, 1.0f), soft = distill_lse(z, a.width, by);
    loss_parts other = distill_lse(t, a.width, by);
    for (int64_t j = threadIdx.x; j < a.width; j += THREADS) {
        float x = get(z, j), log_p = by * (x - soft.top) - soft.log;
        float log_t = by * (get(t, j) - other.top) - other.log, p_t = expf(log_t);
        kl += p_t * (log_t - log_p);
        if (!d) continue;
        float g = a.scale * (expf((x - one.top) - one.log) - (j == target ? 1.0f : 0.0f));
        g += a.kl_scale * a.temperature * (expf(log_p) - p_t);
        put(d, j, none ? 0.0f : g);
    }
    kl = block_sum(kl);
    if (threadIdx.x) return;
    if (a.kl) a.kl[r] = none ? 0 : kl;
    if (a.loss) a.loss[r] = none ? 0 : one.log + (one.top - at);
}

template <typename T, typename U, typename D>
static void distill_of(st_stream *q, const st_distill_args *a)
{
    distill<T, U, D> d = {};
    d.width = a->width, d.stride = st_or(a->stride, a->width);
    d.logits = (const T *)a->logits.data, d.teacher = (const U *)a->teacher.data;
    d.targets = (const int32_t *)a->targets.data;
    d.loss = (float *)a->loss.data, d.kl = (float *)a->kl.data, d.dlogits = (D *)a->dlogits.data;
    d.scale = a->scale, d.kl_scale = a->kl_scale, d.temperature = a->temperature;
    d.fault.flag = st_cuda_of(q)->faulty_on_device;
    d.fault.number =
        st_cuda_fault_number(q, "distill", "a target id is not below the number of classes");
    distill_kernel<T, U, D><<<(unsigned)a->rows, THREADS, 0, st_cuda_stream(q)>>>(d);
    st_cuda_launched(q, "distill");
}

/* By the teacher's dtype and that of the gradient. */
template <typename T> static void distill_from(st_stream *q, const st_distill_args *a)
{
    bool u = a->teacher.dtype == ST_F32, d = a->dlogits.dtype == ST_F32;
    if (u && d)
        distill_of<T, float, float>(q, a);
    else if (u)
        distill_of<T, float, bf16>(q, a);
    else if (d)
        distill_of<T, bf16, float>(q, a);
    else
        distill_of<T, bf16, bf16>(q, a);
}

extern "C" void st_cuda_distill(st_stream *q, const st_distill_args *a)
{
    if (a->rows == 0) return;
    a->logits.dtype == ST_F32 ? distill_from<float>(q, a) : distill_from<bf16>(q, a);
}

/* ---- a teacher's states --------------------------------------------------------------------- */

template <typename T>
static __global__ void match_kernel(int64_t width, const T *x, const T *t, float *loss, T *dx,
                                    float scale, bool relative)
{
    int64_t r = blockIdx.x, at = r * width;
    float far = 0, size = 0;
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
        float y = get(t, at + j), d = get(x, at + j) - y;
        far += d * d;
        size += y * y;
    }
    far = block_sum(far);
    size = block_sum(size);
    float w = !relative ? 1.0f / (float)width : size > 0 ? 1.0f / size : 0.0f;
    if (loss && threadIdx.x == 0) loss[r] += w * far;
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
        float d = get(x, at + j) - get(t, at + j);
        put(dx, at + j, get(dx, at + j) + 2.0f * scale * w * d);
    }
}

template <typename T> static void match_of(st_stream *q, const st_match_args *a)
{
    match_kernel<T><<<(unsigned)a->rows, 128, 0, st_cuda_stream(q)>>>(
        a->width, (const T *)a->x.data, (const T *)a->t.data, (float *)a->loss.data,
        (T *)a->dx.data, a->scale, a->relative != 0);
    st_cuda_launched(q, "match");
}

extern "C" void st_cuda_match(st_stream *q, const st_match_args *a)
{
    if (a->rows == 0) return;
    a->x.dtype == ST_F32 ? match_of<float>(q, a) : match_of<bf16>(q, a);
}
