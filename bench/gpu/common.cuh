/* Shared by the stand-alone GPU harness: failures, random inputs, a clock that interleaves. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_GPU_COMMON_CUH
#define ST_BENCH_GPU_COMMON_CUH

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <functional>
#include <string>
#include <vector>

typedef __nv_bfloat16 bf16;

static inline void must(int code, const char *what, int line)
{
    if (code == 0) return;
    fprintf(stderr, "line %d: %s: %d %s\n", line, what, code,
            code > 0 ? cudaGetErrorString((cudaError_t)code) : "not supported");
    exit(1);
}
#define MUST(call) must((int)(call), #call, __LINE__)

static __device__ __host__ inline uint32_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return (uint32_t)(x >> 32);
}
/* Uniform in +-scale. */
template <class T> __global__ void fill_kernel(T *x, int64_t n, uint64_t seed, float scale)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        x[i] = (T)(((float)mix(seed * 0x9e3779b97f4a7c15ull + i) / 2147483648.0f - 1.0f) * scale);
}

/* Device memory that lives until the end of a scope. */
struct heap {
    std::vector<void *> all;
    ~heap()
    {
        for (void *p : all)
            cudaFree(p);
    }
    void *bytes(size_t n)
    {
        void *p;
        MUST(cudaMalloc(&p, n));
        all.push_back(p);
        MUST(cudaMemset(p, 0xff, n)); /* NaN in every format */
        return p;
    }
    template <class T> T *get(int64_t n)
    {
        return (T *)bytes((size_t)n * sizeof(T));
    }
    template <class T> T *zeros(int64_t n)
    {
        T *p = get<T>(n);
        MUST(cudaMemset(p, 0, (size_t)n * sizeof(T)));
        return p;
    }
    template <class T> T *random(int64_t n, float scale)
    {
        static uint64_t seed = 1;
        T *p = get<T>(n);
        fill_kernel<<<1024, 256>>>(p, n, seed++, scale);
        MUST(cudaGetLastError());
        return p;
    }
};

/* ---- cuBLASLt ------------------------------------------------------------------------------- */

/* Row-major C (m, n) = op(A) op(B): a library call, planned once with the best of a few ways. */
struct lt_plan {
    int64_t m, n, k;
    bool ta, tb; /* A stored (k, m), B stored (n, k) */
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    cudaDataType_t out = CUDA_R_16BF;
    int64_t ldaux = 0;
    cublasLtMatmulDesc_t op = nullptr;
    cublasLtMatrixLayout_t la = nullptr, lb = nullptr, lc = nullptr;
    cublasLtMatmulAlgo_t algo;
    bool ready = false;
};

static inline cublasLtHandle_t lt_handle()
{
    static cublasLtHandle_t h = nullptr;
    if (!h) MUST(cublasLtCreate(&h));
    return h;
}
static const size_t lt_room = 64u << 20;
static inline void *lt_work()
{
    static void *p = nullptr;
    if (!p) MUST(cudaMalloc(&p, lt_room));
    return p;
}

static inline int lt_call(lt_plan *p, const void *a, const void *b, void *c, const void *bias,
                          void *aux, const cublasLtMatmulAlgo_t *algo, cudaStream_t q)
{
    float one = 1.0f, zero = 0.0f;
    if (p->epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                       sizeof bias);
    }
    if (p->ldaux) {
        cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux,
                                       sizeof aux);
    }
    /* row-major C = A B is column-major C^T = B^T A^T */
    return cublasLtMatmul(lt_handle(), p->op, &one, b, p->la, a, p->lb, &zero, c, p->lc, c, p->lc,
                          algo, lt_work(), lt_room, q);
}

static inline void lt_plan_open(lt_plan *p, const void *a, const void *b, void *c, const void *bias,
                                void *aux)
{
    MUST(cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    cublasOperation_t t = CUBLAS_OP_T;
    if (p->tb) cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t);
    if (p->ta) cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSB, &t, sizeof t);
    cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue,
                                   sizeof p->epilogue);
    if (p->ldaux) {
        cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->ldaux,
                                       sizeof p->ldaux);
    }
    if (p->epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        cudaDataType_t type = p->out; /* gradients of biases come as the product does */
        cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type,
                                       sizeof type);
    }
    MUST(cublasLtMatrixLayoutCreate(&p->la, CUDA_R_16BF, p->tb ? p->k : p->n, p->tb ? p->n : p->k,
                                    p->tb ? p->k : p->n));
    MUST(cublasLtMatrixLayoutCreate(&p->lb, CUDA_R_16BF, p->ta ? p->m : p->k, p->ta ? p->k : p->m,
                                    p->ta ? p->m : p->k));
    MUST(cublasLtMatrixLayoutCreate(&p->lc, p->out, p->n, p->m, p->n));
    cublasLtMatmulPreference_t want;
    MUST(cublasLtMatmulPreferenceCreate(&want));
    cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &lt_room,
                                         sizeof lt_room);
    cublasLtMatmulHeuristicResult_t found[6];
    int count = 0;
    float best = 1e30f;
    if (p->epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                       sizeof bias);
    }
    MUST(cublasLtMatmulAlgoGetHeuristic(lt_handle(), p->op, p->la, p->lb, p->lc, p->lc, want, 6,
                                        found, &count));
    cudaEvent_t from, to;
    cudaEventCreate(&from);
    cudaEventCreate(&to);
    for (int i = 0; i < count; i++) {
        float ms = 1e30f;
        if (lt_call(p, a, b, c, bias, aux, &found[i].algo, 0)) continue;
        cudaEventRecord(from);
        for (int r = 0; r < 3; r++)
            lt_call(p, a, b, c, bias, aux, &found[i].algo, 0);
        cudaEventRecord(to);
        MUST(cudaEventSynchronize(to));
        cudaEventElapsedTime(&ms, from, to);
        if (ms < best) {
            best = ms;
            p->algo = found[i].algo;
            p->ready = true;
        }
    }
    if (p->ready) return;
    if (p->epilogue == CUBLASLT_EPILOGUE_BGRADB) { /* then without the bias gradient */
        printf("cublasLt: no bias gradient in %dx%dx%d\n", (int)p->m, (int)p->n, (int)p->k);
        p->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
        lt_plan_open(p, a, b, c, bias, aux);
        return;
    }
    fprintf(stderr, "cublasLt has no way for %dx%dx%d\n", (int)p->m, (int)p->n, (int)p->k);
}

static inline void lt_run(lt_plan *p, const void *a, const void *b, void *c, const void *bias,
                          void *aux, cudaStream_t q)
{
    if (!p->op) lt_plan_open(p, a, b, c, bias, aux);
    if (!p->ready) exit(1);
    MUST(lt_call(p, a, b, c, bias, aux, &p->algo, q));
}

/* ---- the clock ------------------------------------------------------------------------------ */

/* Variants of one job, each run as a graph of `sets` calls on rotating inputs, taking turns. */
struct contest {
    struct entry {
        std::string name;
        std::function<void(int, cudaStream_t)> call;
        cudaGraphExec_t graph;
        std::vector<float> us;
    };
    std::string title;
    int sets;
    std::vector<entry> all;

    void add(const std::string &name, std::function<void(int, cudaStream_t)> call)
    {
        all.push_back({name, call, nullptr, {}});
    }
    void run(int rounds, FILE *tsv)
    {
        cudaStream_t q;
        MUST(cudaStreamCreate(&q));
        cudaEvent_t from, to;
        MUST(cudaEventCreate(&from));
        MUST(cudaEventCreate(&to));
        for (entry &e : all) {
            fprintf(stderr, "%s\n", e.name.c_str());
            e.call(0, 0); /* plans are made outside of the graph */
            MUST(cudaDeviceSynchronize());
            cudaGraph_t g;
            MUST(cudaStreamBeginCapture(q, cudaStreamCaptureModeThreadLocal));
            for (int i = 0; i < 2 * sets; i++)
                e.call(i % sets, q);
            MUST(cudaStreamEndCapture(q, &g));
            MUST(cudaGraphInstantiate(&e.graph, g, 0));
            MUST(cudaGraphLaunch(e.graph, q));
        }
        for (int r = 0; r < rounds; r++) {
            for (entry &e : all) {
                float ms;
                MUST(cudaEventRecord(from, q));
                MUST(cudaGraphLaunch(e.graph, q));
                MUST(cudaEventRecord(to, q));
                MUST(cudaEventSynchronize(to));
                MUST(cudaEventElapsedTime(&ms, from, to));
                e.us.push_back(ms * 1000.0f / (2 * sets));
            }
        }
        float base = 0.0f;
        for (entry &e : all) {
            std::sort(e.us.begin(), e.us.end());
            float median = e.us[e.us.size() / 2];
            if (base == 0.0f) base = median;
            printf("%-22s %-34s %8.1f %8.1f %6.2f\n", title.c_str(), e.name.c_str(), median,
                   e.us[0], base / median);
            fprintf(tsv, "%s\t%s\t%.2f\t%.2f\t%.3f\n", title.c_str(), e.name.c_str(), median,
                    e.us[0], base / median);
            cudaGraphExecDestroy(e.graph);
        }
        fflush(stdout);
        fflush(tsv);
        cudaStreamDestroy(q);
    }
};

#endif
