/* Products by cuBLASLt, loaded when a stream opens: it is half a gigabyte, and strut must start
 * where there is none. What was chosen for a shape (descriptors, algorithm) is kept.
 *
 * The library counts columns first, so it is asked for C' = op(B)' op(A)': its first operand is our
 * b, its rows are our n. A bias then goes along its rows, as its epilogue wants it. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LT_FUNCTIONS(X)                                                                            \
    X(Create)                                                                                      \
    X(Destroy)                                                                                     \
    X(GetVersion)                                                                                  \
    X(Matmul)                                                                                      \
    X(MatmulAlgoGetHeuristic)                                                                      \
    X(MatmulDescCreate)                                                                            \
    X(MatmulDescDestroy)                                                                           \
    X(MatmulDescSetAttribute)                                                                      \
    X(MatrixLayoutCreate)                                                                          \
    X(MatrixLayoutDestroy)                                                                         \
    X(MatrixLayoutSetAttribute)                                                                    \
    X(MatmulPreferenceCreate)                                                                      \
    X(MatmulPreferenceDestroy)                                                                     \
    X(MatmulPreferenceSetAttribute)

enum { LT_PLANS = 1024 };
#define LT_WORKSPACE ((size_t)32 << 20)

/* All that a plan depends on; compared as bytes. */
typedef struct {
    int64_t m, n, k, batch, lda, ldb, ldc, step_a, step_b, step_c, step_bias;
    int32_t type_a, type_c, ta, tb, beta, bias;
    uint32_t align_a, align_b, align_c, pad;
} lt_key;

typedef struct {
    lt_key key;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    bool used, none; /* none: the library has no algorithm */
} lt_plan;

struct st_cuda_lt {
    void *library;
    cublasLtHandle_t handle;
    void *workspace;
#define LT_FIELD(name) __typeof__(cublasLt##name) *name;
    LT_FUNCTIONS(LT_FIELD)
#undef LT_FIELD
    int used;
    lt_plan plan[LT_PLANS]; /* by hash, then by the next free place */
};

/* ---- opening -------------------------------------------------------------------------------- */

static void *lt_library(char *name, size_t room)
{
    snprintf(name, room, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    const char *const folder[] = {"", "/usr/local/cuda/lib64/", getenv("CUDA_HOME")};
    char path[512];
    for (int i = 0; i < 3; i++) {
        if (!folder[i]) continue;
        snprintf(path, sizeof path, "%s%s%s", folder[i], i == 2 ? "/lib64/" : "", name);
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
    }
    return NULL;
}

static const char *lt_symbols(struct st_cuda_lt *lt)
{
#define LT_FIND(name)                                                                              \
    *(void **)&lt->name = dlsym(lt->library, "cublasLt" #name);                                    \
    if (!lt->name) return "cublasLt" #name;
    LT_FUNCTIONS(LT_FIND)
#undef LT_FIND
    return NULL;
}

st_status st_cuda_lt_open(st_stream *q, st_err *e)
{
    char name[64];
    struct st_cuda_lt *lt = st_cuda_of(q)->lt = st_calloc(1, sizeof *lt);
    if (!lt) return ST_NOMEM(e, "device cuda");
    lt->library = lt_library(name, sizeof name);
    if (!lt->library) {
        ST_FAIL(e, ST_EDEVICE,
                "device cuda: %s is not to be found (it is part of the CUDA toolkit); install it, "
                "or name its folder in $LD_LIBRARY_PATH",
                name);
    }
    const char *missing = lt_symbols(lt);
    if (missing) ST_FAIL(e, ST_EDEVICE, "device cuda: %s has no %s", name, missing);
    cublasStatus_t status = lt->Create(&lt->handle);
    if (status) ST_FAIL(e, ST_EDEVICE, "device cuda: cublasLtCreate: status %d", (int)status);
    cudaError_t error = cudaMalloc(&lt->workspace, LT_WORKSPACE);
    if (error) {
        ST_FAIL(e, error == cudaErrorMemoryAllocation ? ST_ENOMEM : ST_EDEVICE,
                "device cuda: 32 MiB for products: %s", cudaGetErrorString(error));
    }
    return ST_OK;
}

void st_cuda_lt_name(const struct st_cuda_lt *lt, char *out, size_t room)
{
    size_t v = lt->GetVersion();
    snprintf(out, room, "cuBLASLt %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}

static void lt_forget(struct st_cuda_lt *lt)
{
    for (int i = 0; i < LT_PLANS; i++) {
        lt_plan *p = &lt->plan[i];
        if (p->desc) lt->MatmulDescDestroy(p->desc);
        if (p->a) lt->MatrixLayoutDestroy(p->a);
        if (p->b) lt->MatrixLayoutDestroy(p->b);
        if (p->c) lt->MatrixLayoutDestroy(p->c);
    }
    memset(lt->plan, 0, sizeof lt->plan);
    lt->used = 0;
}

void st_cuda_lt_close(struct st_cuda_lt *lt)
{
    if (!lt) return;
    if (lt->handle) {
        lt_forget(lt);
        lt->Destroy(lt->handle);
    }
    cudaFree(lt->workspace);
    if (lt->library) dlclose(lt->library);
    free(lt);
}

/* ---- plans ---------------------------------------------------------------------------------- */

/* What the library may rely on: the largest power of two that divides the address, at most 256. */
static uint32_t lt_align(const void *p)
{
    uintptr_t at = (uintptr_t)p | 256;
    return (uint32_t)(at & (~at + 1));
}

static cudaDataType_t lt_type(st_dtype t)
{
    return t == ST_F32 ? CUDA_R_32F : CUDA_R_16BF;
}

static lt_key lt_key_of(const st_gemm_args *g, const void *onto)
{
    st_gemm_layout l = st_gemm_resolve(g);
    lt_key k;
    memset(&k, 0, sizeof k);
    k.m = g->m, k.n = g->n, k.k = g->k, k.batch = l.batch;
    k.lda = l.lda, k.ldb = l.ldb, k.ldc = l.ldc;
    if (l.batch > 1) k.step_a = l.step_a, k.step_b = l.step_b, k.step_c = l.step_c;
    k.type_a = g->a.dtype, k.type_c = g->c.dtype, k.ta = g->ta, k.tb = g->tb;
    k.beta = g->beta != 0 || onto;
    k.bias = g->bias.data != NULL;
    if (k.bias && l.batch > 1) k.step_bias = g->step_bias;
    k.align_a = lt_align(g->a.data), k.align_b = lt_align(g->b.data);
    k.align_c = lt_align(g->c.data);
    if (onto && lt_align(onto) < k.align_c) k.align_c = lt_align(onto);
    return k;
}

static cublasStatus_t lt_matrix(const struct st_cuda_lt *lt, cublasLtMatrixLayout_t *out,
                                int32_t type, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
                                int64_t step)
{
    int32_t count = (int32_t)batch;
    cublasStatus_t s =
        lt->MatrixLayoutCreate(out, lt_type((st_dtype)type), (uint64_t)rows, (uint64_t)cols, ld);
    if (s || batch == 1) return s;
    s = lt->MatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                     sizeof count);
    return s ? s
             : lt->MatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &step, sizeof step);
}

static cublasStatus_t lt_describe(const struct st_cuda_lt *lt, lt_plan *p, const void *bias)
{
    const lt_key *k = &p->key;
    int32_t first = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t s = lt->MatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
#define LT_SET(what, value)                                                                        \
    if (!s)                                                                                        \
    s = lt->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_##what, &value, sizeof value)
    LT_SET(TRANSA, first);
    LT_SET(TRANSB, second);
    if (k->bias) {
        int32_t epilogue = CUBLASLT_EPILOGUE_BIAS, type = lt_type((st_dtype)k->type_a);
        LT_SET(EPILOGUE, epilogue);
        LT_SET(BIAS_DATA_TYPE, type);
        LT_SET(BIAS_POINTER, bias);
        if (k->batch > 1) LT_SET(BIAS_BATCH_STRIDE, k->step_bias);
    }
#undef LT_SET
    if (!s) {
        s = lt_matrix(lt, &p->a, k->type_a, k->tb ? k->k : k->n, k->tb ? k->n : k->k, k->ldb,
                      k->batch, k->step_b);
    }
    if (!s) {
        s = lt_matrix(lt, &p->b, k->type_a, k->ta ? k->m : k->k, k->ta ? k->k : k->m, k->lda,
                      k->batch, k->step_a);
    }
    if (!s) s = lt_matrix(lt, &p->c, k->type_c, k->n, k->m, k->ldc, k->batch, k->step_c);
    return s;
}

/* Chooses p's algorithm. Sums are never rounded to bf16 on their way (no reduction in the type of
 * the output), and take the same order each time. */
static cublasStatus_t lt_choose(const struct st_cuda_lt *lt, lt_plan *p)
{
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t result;
    uint64_t room = LT_WORKSPACE;
    uint32_t mask = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int found = 0;
    cublasStatus_t s = lt->MatmulPreferenceCreate(&pref);
#define LT_PREFER(what, value)                                                                     \
    if (!s)                                                                                        \
    s = lt->MatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_##what, &value, sizeof value)
    LT_PREFER(MAX_WORKSPACE_BYTES, room);
    LT_PREFER(REDUCTION_SCHEME_MASK, mask);
    LT_PREFER(MIN_ALIGNMENT_A_BYTES, p->key.align_b);
    LT_PREFER(MIN_ALIGNMENT_B_BYTES, p->key.align_a);
    LT_PREFER(MIN_ALIGNMENT_C_BYTES, p->key.align_c);
    LT_PREFER(MIN_ALIGNMENT_D_BYTES, p->key.align_c);
#undef LT_PREFER
    if (!s) {
        s = lt->MatmulAlgoGetHeuristic(lt->handle, p->desc, p->a, p->b, p->c, p->c, pref, 1,
                                       &result, &found);
    }
    if (!s && (found == 0 || result.state)) s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!s) p->algo = result.algo;
    if (pref) lt->MatmulPreferenceDestroy(pref);
    return s;
}

static lt_plan *lt_find(struct st_cuda_lt *lt, const lt_key *key, const void *bias)
{
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    if (lt->used > LT_PLANS * 3 / 4) lt_forget(lt);
    lt_plan *p;
    for (p = &lt->plan[h % LT_PLANS]; p->used;
         p = p + 1 == lt->plan + LT_PLANS ? lt->plan : p + 1) {
        if (memcmp(&p->key, key, sizeof *key) == 0) return p;
    }
    p->key = *key;
    p->used = true;
    lt->used++;
    p->none = lt_describe(lt, p, bias) || lt_choose(lt, p);
    return p;
}

bool st_cuda_lt_gemm(st_stream *q, const st_gemm_args *g, const void *onto)
{
    struct st_cuda_lt *lt = st_cuda_of(q)->lt;
    float alpha = 1.0f, beta = onto ? 1.0f : g->beta;
    lt_key key = lt_key_of(g, onto);
    if (key.m > INT32_MAX || key.n > INT32_MAX || key.k > INT32_MAX || key.batch > INT32_MAX)
        return false;
    lt_plan *p = lt_find(lt, &key, g->bias.data);
    if (p->none) return false;
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    if (key.bias) {
        s = lt->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias.data,
                                       sizeof g->bias.data);
    }
    if (!s) {
        s = lt->Matmul(lt->handle, p->desc, &alpha, g->b.data, p->a, g->a.data, p->b, &beta,
                       onto ? onto : g->c.data, p->c, g->c.data, p->c, &p->algo, lt->workspace,
                       LT_WORKSPACE, st_cuda_stream(q));
    }
    if (s) {
        char text[64];
        snprintf(text, sizeof text, "cublasLtMatmul: status %d", (int)s);
        st_stream_latch(q, ST_EDEVICE, "gemm", text);
    }
    return true;
}
