/* Attention's kernels alone: checked against plain loops in float64, then timed.
 *   attention check [TEXT]   all cases, or those whose line has TEXT
 *   attention plant [TEXT]   the same with arguments spoilt: every spoilt one must be seen
 *   attention time [TEXT]    milliseconds as tab-separated rows
 * --arch N before these takes what a GPU of compute capability N would.
 * Built by nvcc alone: nvcc -O3 -std=c++17 -Isrc -gencode=arch=compute_90a,code=sm_90a
 *   bench/gpu/attention.cu src/backend/cuda/attention.cu -o attention
 * Long: the oracle, the cases and what is timed share their problems and their checks. */
/* Long: the oracle, its cases and the clock share one set of operands. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/attention.h"
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#define DO(call)                                                                                   \
    do {                                                                                           \
        cudaError_t status_ = (call);                                                              \
        if (status_) {                                                                             \
            printf("%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(status_));                \
            exit(3);                                                                               \
        }                                                                                          \
    } while (0)

static int arch = 90; /* of the GPU; fewer with --arch, for what older ones run */

/* ---- numbers -------------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;
static double random_uniform(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}
static float random_normal(void)
{
    double u = random_uniform() + 1e-12, v = random_uniform();
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Many normal numbers times `by`, in both dtypes: rows start anywhere among them. */
struct pool {
    double by;
    std::vector<float> f32;
    std::vector<uint16_t> bf16;
};
enum { POOL = 1 << 20 };

static const pool &pool_of(double by)
{
    static pool all[2];
    pool &p = all[by != 1];
    p.by = by;
    while (p.f32.size() < POOL + (1 << 14)) {
        p.bf16.push_back(st_f32_to_bf16((float)by * random_normal()));
        p.f32.push_back((float)by * random_normal());
    }
    return p;
}

/* A tensor of heads with rows `stride` apart, its numbers on both sides; what lies between rows,
 * and all of an output, holds NaN before the call. */
struct heads {
    std::vector<char> host;
    char *device;
    int64_t offset, stride, step, len, width;
    st_dtype dtype;
    size_t size(void) const
    {
        return st_dtype_size_of(dtype);
    }
    static size_t st_dtype_size_of(st_dtype t)
    {
        return t == ST_F32 ? 4 : 2;
    }
    double get(int64_t i) const
    {
        i += offset;
        if (dtype == ST_F32) return ((const float *)host.data())[i];
        return st_bf16_to_f32(((const uint16_t *)host.data())[i]);
    }
    void draw(int64_t i, const pool &p)
    {
        size_t from = (size_t)(random_uniform() * POOL);
        const char *x = dtype == ST_F32 ? (const char *)&p.f32[from] : (const char *)&p.bf16[from];
        memcpy(&host[(size_t)(i + offset) * size()], x, (size_t)width * size());
    }
    st_tensor tensor(void) const
    {
        st_tensor t = {};
        t.data = device + (size_t)offset * size();
        t.dtype = dtype;
        return t;
    }
    st_strided rows(void) const
    {
        return st_strided{tensor(), stride, step};
    }
    void poison(void)
    {
        memset(host.data(), 0xff, host.size());
        DO(cudaMemset(device, 0xff, host.size()));
    }
    void upload(void)
    {
        DO(cudaMemcpy(device, host.data(), host.size(), cudaMemcpyHostToDevice));
    }
    void download(void)
    {
        DO(cudaMemcpy(host.data(), device, host.size(), cudaMemcpyDeviceToHost));
    }
};

struct shape {
    int batch, heads, dim, q_len, kv_len, q_start, causal, window;
    float drop;
};

enum { WAYS = 5 };
enum { Q, K, V, O, GO, GQ, GK, GV, TENSORS };
enum { NATURAL, PACKED, ODD, LAYOUTS };
static const char *const layout_names[] = {"natural", "packed", "odd"};
static const char *const way_names[] = {"auto", "warps", "groups", "plain", "split"};
static const char *const tensor_names[] = {"q", "k", "v", "o", "go", "gq", "gk", "gv"};

struct outcome {
    std::vector<double> lse, x[TENSORS]; /* of (len, dim) */
};

struct problem {
    shape s;
    std::vector<outcome> want; /* what is right, of each head where it was asked for */
    st_dtype dtype;
    int layout;
    heads t[TENSORS];
    float *lse, *work;
    st_attend_fwd_args args;
};

static bool has_queries(int i)
{
    return i == Q || i == O || i == GO || i == GQ;
}

static void problem_open(problem *p, shape s, st_dtype dtype, int layout, double sharp)
{
    p->s = s, p->dtype = dtype, p->layout = layout;
    for (int i = 0; i < TENSORS; i++) {
        heads *h = &p->t[i];
        bool out = i == O || i == GO;
        h->dtype = dtype;
        h->width = (int64_t)s.heads * s.dim;
        h->len = has_queries(i) ? s.q_len : s.kv_len;
        h->stride = layout == NATURAL ? h->width : out ? h->width + 8 : 3 * h->width;
        /* a gradient's rows are as far apart as those of its tensor */
        int like = i >= GQ ? i - GQ : i == GO ? O : i;
        if (layout == ODD) h->stride += 1 + like;
        h->step = h->len * h->stride + (layout == NATURAL ? 0 : 64);
        h->offset = layout == NATURAL || out ? 0 : i % 5 * h->width;
        if (layout == ODD) h->offset += 3;
        h->host.resize((size_t)(h->offset + s.batch * h->step + 16) * h->size());
        DO(cudaMalloc(&h->device, h->host.size()));
        h->poison();
        if (i >= GQ || i == O) continue;
        double by = i == Q ? sharp : 1;
        for (int b = 0; b < s.batch; b++)
            for (int64_t r = 0; r < h->len; r++)
                h->draw(b * h->step + r * h->stride, pool_of(by));
        h->upload();
    }
    st_attend_fwd_args a = {};
    st_heads *h = &a.h;
    h->batch = s.batch, h->heads = s.heads, h->head_dim = s.dim, h->q_len = s.q_len;
    h->kv_len = s.kv_len, a.q_start = s.q_start, a.window = s.window, a.causal = s.causal;
    h->q = p->t[Q].rows(), h->k = p->t[K].rows(), h->v = p->t[V].rows(), h->o = p->t[O].rows();
    a.go = p->t[GO].tensor(), a.gq = p->t[GQ].tensor();
    a.gk = p->t[GK].tensor(), a.gv = p->t[GV].tensor();
    a.scale = 1 / sqrtf((float)s.dim), a.drop = s.drop, a.seed = 0x9e3779b97f4a7c15u;
    size_t rows = (size_t)s.batch * s.heads * s.q_len;
    DO(cudaMalloc(&p->lse, rows * sizeof(float) + 16));
    DO(cudaMemset(p->lse, 0xff, rows * sizeof(float) + 16));
    a.lse.data = p->lse, a.lse.dtype = ST_F32;
    size_t fwd = st_attention_fwd_work(&a), bwd = st_attention_bwd_work(&a);
    DO(cudaMalloc(&p->work, (fwd > bwd ? fwd : bwd) + 256));
    DO(cudaMemset(p->work, 0xff, (fwd > bwd ? fwd : bwd) + 256));
    p->args = a;
}

static void problem_close(problem *p)
{
    for (int i = 0; i < TENSORS; i++)
        cudaFree(p->t[i].device);
    cudaFree(p->lse);
    cudaFree(p->work);
}

/* ---- the meaning, one head at a time -------------------------------------------------------- */

static int key_end(const shape &s, int t)
{
    int64_t at = (int64_t)s.q_start + t, end = s.kv_len;
    if (s.causal) end = at + 1;
    if (!s.causal && s.window) end = at + (s.window + 1) / 2;
    return (int)(end < s.kv_len ? end : s.kv_len);
}
static int key_start(const shape &s, int t)
{
    if (!s.window) return 0;
    int64_t at = (int64_t)s.q_start + t, from = at - (s.causal ? s.window - 1 : s.window / 2);
    return (int)(from < 0 ? 0 : from);
}

static void meaning(const problem &p, int b, int h, bool back, outcome *out)
{
    const shape &s = p.s;
    uint32_t below = st_drop_below(s.drop);
    int d = s.dim;
    std::vector<double> in[TENSORS];
    for (int i = Q; i <= GO; i++) {
        const heads &t = p.t[i];
        if (i == O) continue;
        for (int64_t r = 0; r < t.len; r++)
            for (int c = 0; c < d; c++)
                in[i].push_back(t.get(b * t.step + r * t.stride + (int64_t)h * d + c));
    }
    out->lse.assign((size_t)s.q_len, 0);
    for (int i = O; i < TENSORS; i++)
        out->x[i].assign((size_t)(has_queries(i) ? s.q_len : s.kv_len) * (size_t)d, 0);
    std::vector<double> w((size_t)s.kv_len), m((size_t)s.kv_len);
    for (int t = 0; t < s.q_len; t++) {
        const double *q = &in[Q][(size_t)t * d], *go = &in[GO][(size_t)t * d];
        double *o = &out->x[O][(size_t)t * d], *gq = &out->x[GQ][(size_t)t * d];
        int from = key_start(s, t), end = key_end(s, t);
        double top = -INFINITY, total = 0, dot = 0;
        for (int j = from; j < end; j++) {
            double sum = 0;
            for (int c = 0; c < d; c++)
                sum += q[c] * in[K][(size_t)j * d + c];
            w[j] = sum * p.args.scale;
            top = fmax(top, w[j]);
            int64_t number = (((int64_t)b * s.heads + h) * s.q_len + t) * s.kv_len + j;
            m[j] = !(s.drop > 0)                         ? 1
                   : ST_KEEP(p.args.seed, number, below) ? 1 / (1 - (double)s.drop)
                                                         : 0;
        }
        for (int j = from; j < end; j++)
            total += exp(w[j] - top);
        double lse = out->lse[t] = top + log(total);
        for (int j = from; j < end; j++) {
            w[j] = exp(w[j] - lse);
            for (int c = 0; c < d; c++)
                o[c] += w[j] * m[j] * in[V][(size_t)j * d + c];
        }
        for (int c = 0; c < d; c++)
            dot += o[c] * go[c];
        for (int j = from; j < end && back; j++) {
            double gv = 0;
            for (int c = 0; c < d; c++) {
                gv += go[c] * in[V][(size_t)j * d + c];
                out->x[GV][(size_t)j * d + c] += m[j] * w[j] * go[c];
            }
            double ds = w[j] * (m[j] * gv - dot) * p.args.scale;
            for (int c = 0; c < d; c++) {
                gq[c] += ds * in[K][(size_t)j * d + c];
                out->x[GK][(size_t)j * d + c] += ds * q[c];
            }
        }
    }
}

/* ---- checking ------------------------------------------------------------------------------- */

struct verdict {
    double error[TENSORS], lse;
    bool bad;
    char why[160];
};

static void blame(verdict *v, const char *what, const char *tensor, double x)
{
    if (!v->bad) snprintf(v->why, sizeof v->why, "%s of %s: %.3g", what, tensor, x);
    v->bad = true;
}

static void check_tensor(const problem &p, int i, int b, int h, const outcome &want, double limit,
                         verdict *v)
{
    const heads &t = p.t[i];
    double wrong = 0, norm = 0, most = 0;
    for (double y : want.x[i])
        norm += y * y;
    double each = sqrt(norm / (double)(t.len * p.s.dim)) + 1e-30;
    for (int64_t r = 0; r < t.len; r++) {
        for (int c = 0; c < p.s.dim; c++) {
            double x = t.get(b * t.step + r * t.stride + (int64_t)h * p.s.dim + c);
            double y = want.x[i][(size_t)(r * p.s.dim + c)], d = fabs(x - y);
            wrong += d * d;
            d /= norm > 0 ? 24 * each + 4 * fabs(y) : 1;
            most = d <= most ? most : d; /* NaN is taken */
        }
    }
    double error = norm > 0 ? sqrt(wrong / norm) : sqrt(wrong);
    if (!(error <= v->error[i])) v->error[i] = error;
    if (!(error <= limit)) blame(v, "relative error", tensor_names[i], error);
    if (!(most <= limit)) blame(v, "one number's error", tensor_names[i], most);
}

/* What lies between the rows of an output must be untouched. */
static void check_gaps(const problem &p, int i, verdict *v)
{
    const heads &t = p.t[i];
    std::vector<char> ours(t.host.size(), 0);
    for (int b = 0; b < p.s.batch; b++)
        for (int64_t r = 0; r < t.len; r++)
            memset(&ours[(size_t)(t.offset + b * t.step + r * t.stride) * t.size()], 1,
                   (size_t)t.width * t.size());
    for (size_t k = 0; k < ours.size(); k++)
        if (!ours[k] && (unsigned char)t.host[k] != 0xff)
            return blame(v, "a byte beside the rows", tensor_names[i], (double)k);
}

static void check_lse(const problem &p, int b, int h, const std::vector<float> &lse,
                      const outcome &want, verdict *v)
{
    double limit = p.dtype == ST_F32 ? 1e-5 : 1e-4;
    for (int t = 0; t < p.s.q_len; t++) {
        double x = (double)lse[(size_t)((b * p.s.heads + h) * p.s.q_len + t)], y = want.lse[t];
        double d = isinf(x) && x == y ? 0 : fabs(x - y) / (1 + fabs(y));
        if (!(d <= v->lse)) v->lse = d;
        if (!(d <= limit)) blame(v, "error", "lse", d);
    }
}

/* Splitting is for the forward pass alone. */
static st_attention_way back_way(st_attention_way way)
{
    return way == ST_ATTENTION_SPLIT ? ST_ATTENTION_AUTO : way;
}

static cudaError_t run_once(problem *p, const st_attend_fwd_args &a, st_attention_way way,
                            bool back)
{
    for (int i = O; i < TENSORS; i++)
        if (i != GO) p->t[i].poison();
    cudaError_t status = st_attention_fwd(&a, p->work, arch, way, 0);
    if (!status && back) status = st_attention_bwd(&a, p->work, arch, back_way(way), 0);
    if (status) return status;
    DO(cudaDeviceSynchronize());
    for (int i = O; i < TENSORS; i++)
        if (i != GO) p->t[i].download();
    return cudaSuccess;
}

/* Runs `a` twice and compares with what p says. False: that way does not take these arguments. */
static bool check_problem(problem *p, const st_attend_fwd_args &a, st_attention_way way, int heads,
                          verdict *v)
{
    bool back = !p->s.window;
    int last = back ? TENSORS : O + 1;
    *v = verdict{};
    std::vector<char> first[TENSORS];
    cudaError_t status = run_once(p, a, way, back);
    if (status == cudaErrorNotSupported) return false;
    DO(status);
    for (int i = O; i < last; i++)
        if (i != GO) first[i] = p->t[i].host;
    DO(run_once(p, a, way, back));
    for (int i = O; i < last; i++) {
        if (i == GO) continue;
        if (first[i] != p->t[i].host) blame(v, "two runs differ", tensor_names[i], 0);
        check_gaps(*p, i, v);
    }
    std::vector<float> lse((size_t)(p->s.batch * p->s.heads * p->s.q_len));
    DO(cudaMemcpy(lse.data(), p->lse, lse.size() * sizeof(float), cudaMemcpyDeviceToHost));
    int all = p->s.batch * p->s.heads;
    for (int n = 0; n < heads && n < all; n++) {
        int head = heads >= all ? n : (int)((int64_t)n * (all - 1) / (heads > 1 ? heads - 1 : 1));
        p->want.resize((size_t)all);
        outcome &want = p->want[(size_t)head];
        if (want.lse.empty()) meaning(*p, head / p->s.heads, head % p->s.heads, back, &want);
        /* D stands on the rounded o, and ds, a small difference, on D */
        for (int i = O; i < last; i++) {
            bool grows = i == GQ || i == GK;
            double limit = p->dtype == ST_F32 ? (grows ? 3e-5 : 4e-6) : grows ? 3e-2 : 5e-3;
            if (i != GO) check_tensor(*p, i, head / p->s.heads, head % p->s.heads, want, limit, v);
        }
        if (a.lse.data) check_lse(*p, head / p->s.heads, head % p->s.heads, lse, want, v);
    }
    return true;
}

static const shape cases[] = {
    /* batch heads dim, queries keys start, causal window drop */
    {2, 2, 64, 64, 64, 0, 1, 0, 0},       {1, 2, 64, 128, 128, 0, 1, 0, 0},
    {2, 3, 64, 200, 200, 0, 1, 0, 0},     {1, 2, 64, 300, 300, 0, 1, 0, 0.1f},
    {2, 2, 64, 196, 196, 0, 0, 0, 0},     {1, 2, 64, 197, 197, 0, 0, 0, 0.25f},
    {1, 1, 64, 1, 1, 0, 1, 0, 0},         {2, 2, 64, 1, 77, 76, 1, 0, 0},
    {1, 2, 64, 130, 258, 128, 1, 0, 0},   {1, 2, 64, 130, 258, 40, 1, 0, 0.5f},
    {1, 2, 64, 130, 258, 100, 0, 33, 0},  {1, 2, 64, 100, 300, 250, 0, 21, 0},
    {1, 2, 64, 150, 150, 0, 1, 40, 0.1f}, {1, 1, 64, 70, 333, 0, 0, 0, 0},
    {1, 1, 64, 333, 70, 0, 0, 0, 0},      {1, 1, 64, 257, 511, 254, 1, 0, 0.2f},
    {1, 1, 64, 513, 513, 0, 1, 0, 0},     {1, 2, 128, 128, 128, 0, 1, 0, 0},
    {1, 2, 128, 200, 200, 0, 1, 0, 0.1f}, {1, 2, 128, 197, 259, 0, 0, 0, 0},
    {1, 1, 128, 300, 300, 0, 1, 0, 0},    {1, 2, 80, 100, 150, 50, 1, 0, 0},
    {1, 2, 40, 133, 133, 0, 1, 0, 0.1f},  {1, 2, 33, 100, 100, 0, 1, 0, 0},
    {1, 3, 7, 65, 65, 0, 0, 0, 0.1f},     {1, 3, 1, 40, 70, 30, 1, 0, 0},
    {1, 2, 96, 190, 190, 0, 0, 0, 0},     {1, 1, 256, 100, 100, 0, 1, 0, 0.1f},
    {1, 1, 192, 70, 130, 60, 1, 0, 0},    {1, 1, 255, 90, 90, 0, 0, 0, 0},
    {1, 1, 300, 60, 60, 0, 1, 0, 0.1f},   {2, 2, 32, 129, 129, 0, 1, 0, 0},
    {2, 2, 64, 16, 200, 184, 1, 0, 0},    {2, 2, 64, 3, 1000, 997, 1, 0, 0},
    {1, 2, 72, 5, 130, 125, 1, 0, 0},     {1, 2, 33, 9, 190, 100, 1, 17, 0},
    {1, 2, 64, 5, 60, 70, 0, 9, 0},       {1, 2, 64, 1, 300, 299, 1, 0, 0.3f},
    {1, 2, 64, 66, 40, 0, 1, 0, 0},       {1, 2, 64, 9, 190, 100, 1, 17, 0},
    {1, 2, 128, 16, 700, 600, 1, 0, 0},   {1, 1, 256, 2, 150, 148, 1, 0, 0},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void line_of(char *out, size_t room, const shape &s, st_dtype dtype, int layout, int way)
{
    snprintf(out, room,
             "%s %s %s batch=%d heads=%d dim=%d q=%d kv=%d start=%d causal=%d window=%d drop=%g",
             dtype == ST_F32 ? "f32" : "bf16", layout_names[layout], way_names[way], s.batch,
             s.heads, s.dim, s.q_len, s.kv_len, s.q_start, s.causal, s.window, (double)s.drop);
}

static int check_all(const char *text)
{
    int bad = 0, done = 0;
    for (int c = 0; c < CASES; c++) {
        for (int n = 0; n < 2 * LAYOUTS; n++) {
            st_dtype dtype = n % 2 ? ST_F32 : ST_BF16;
            problem p;
            bool open = false;
            for (int way = n / 2 != NATURAL; way < WAYS; way++) {
                char line[200];
                verdict v;
                line_of(line, sizeof line, cases[c], dtype, n / 2, way);
                if (text && !strstr(line, text)) continue;
                if (!open) problem_open(&p, cases[c], dtype, n / 2, c % 3 == 2 ? 5 : 1);
                open = true;
                if (!check_problem(&p, p.args, (st_attention_way)way, 1 << 20, &v)) continue;
                done++;
                bad += v.bad;
                if (!v.bad && !text) continue;
                printf("%s %s: %s  o %.1e gq %.1e gk %.1e gv %.1e lse %.1e\n",
                       v.bad ? "WRONG" : "right", line, v.why, v.error[O], v.error[GQ], v.error[GK],
                       v.error[GV], v.lse);
            }
            if (open) problem_close(&p);
        }
    }
    printf("%d checks, %d wrong\n", done, bad);
    return bad > 0 || done == 0;
}

/* Spoils the arguments in one way. False: these would mean the same. */
static bool spoil(st_attend_fwd_args *a, const shape &s, int kind)
{
    switch (kind) {
    case 0: a->seed++; return s.drop > 0;
    case 1: a->q_start++; return s.causal && s.q_start + s.q_len <= s.kv_len && !s.window;
    case 2: a->window += 2; return s.window > 0 && s.causal;
    case 3: a->h.kv_len--; return !s.causal && !s.window && s.kv_len > 1;
    case 4: a->scale *= 1.05f; return s.kv_len > 1 && !s.window;
    case 5: a->causal = 0; return s.causal && s.q_len > 1 && !s.window;
    case 6: a->h.q_len--; return s.q_len > 1;
    default: a->h.v.x.data = (char *)a->h.v.x.data + 16; return true;
    }
}

static int plant_all(const char *text)
{
    int missed = 0, done = 0;
    for (int c = 0; c < CASES; c++) {
        char name[200];
        line_of(name, sizeof name, cases[c], ST_BF16, PACKED, 0);
        if (text ? !strstr(name, text) : cases[c].dim % 8 || cases[c].kv_len > 300) continue;
        problem p;
        problem_open(&p, cases[c], ST_BF16, PACKED, 1);
        for (int kind = 0; kind < 8; kind++) {
            for (int way = 0; way < WAYS; way++) {
                st_attend_fwd_args a = p.args;
                verdict v;
                if (!spoil(&a, cases[c], kind)) continue;
                if (!check_problem(&p, a, (st_attention_way)way, 1 << 20, &v)) continue;
                done++;
                if (v.bad) continue;
                char line[200];
                line_of(line, sizeof line, cases[c], ST_BF16, PACKED, way);
                printf("MISSED kind %d %s\n", kind, line);
                missed++;
            }
        }
        problem_close(&p);
    }
    printf("%d planted, %d missed\n", done, missed);
    return missed > 0 || done == 0;
}

/* ---- timing --------------------------------------------------------------------------------- */

static int compare_floats(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return (a > b) - (a < b);
}

enum { REPEATS = 31, SETS = 2 };

/* Median, first and last tenth of REPEATS calls' milliseconds, inputs taking turns. */
static void time_calls(problem *p, st_attention_way way, bool back, float *out)
{
    cudaEvent_t start, stop;
    float ms[REPEATS];
    DO(cudaEventCreate(&start));
    DO(cudaEventCreate(&stop));
    for (int i = -4; i < REPEATS; i++) {
        problem *x = &p[(i + 4) % SETS];
        DO(cudaEventRecord(start, 0));
        if (back)
            DO(st_attention_bwd(&x->args, x->work, arch, way, 0));
        else
            DO(st_attention_fwd(&x->args, x->work, arch, way, 0));
        DO(cudaEventRecord(stop, 0));
        DO(cudaEventSynchronize(stop));
        if (i >= 0) DO(cudaEventElapsedTime(&ms[i], start, stop));
    }
    qsort(ms, REPEATS, sizeof ms[0], compare_floats);
    out[0] = ms[REPEATS / 2], out[1] = ms[REPEATS / 10], out[2] = ms[REPEATS - 1 - REPEATS / 10];
}

static const shape timed[] = {
    {32, 12, 64, 1024, 1024, 0, 1, 0, 0}, {32, 12, 64, 1024, 1024, 0, 1, 0, 0.1f},
    {8, 12, 64, 4096, 4096, 0, 1, 0, 0},  {16, 16, 128, 1024, 1024, 0, 1, 0, 0},
    {4, 16, 128, 4096, 4096, 0, 1, 0, 0}, {256, 6, 64, 197, 197, 0, 0, 0, 0},
    {256, 6, 64, 196, 196, 0, 0, 0, 0},   {64, 1, 64, 3136, 3136, 0, 0, 0, 0},
    {1, 12, 64, 1, 1024, 1023, 1, 0, 0},  {64, 12, 64, 1, 1024, 1023, 1, 0, 0},
};

static void time_shape(const shape &s, st_dtype dtype, st_attention_way way)
{
    problem p[SETS];
    double pairs = 0;
    for (int t = 0; t < s.q_len; t++)
        pairs += key_end(s, t);
    for (int i = 0; i < SETS; i++) {
        problem_open(&p[i], s, dtype, s.q_len > 1 ? PACKED : NATURAL, 1);
        if (st_attention_fwd(&p[i].args, p[i].work, arch, way, 0)) return;
    }
    verdict v = {};
    bool back = s.q_len > 1, check = pairs * s.dim < 1e8;
    if (check)
        check_problem(&p[0], p[0].args, way, 2, &v);
    else
        DO(st_attention_fwd(&p[0].args, p[0].work, arch, way, 0));
    DO(st_attention_fwd(&p[1].args, p[1].work, arch, way, 0));
    for (int pass = 0; pass < 1 + back; pass++) {
        float ms[3];
        time_calls(p, way, pass, ms);
        double work = pairs * s.batch * s.heads * s.dim * (pass ? 10 : 4);
        printf("strut-%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%g\t%.4f\t%.4f\t%.4f\t%.1f\t%s\n",
               way_names[way], pass ? "backward" : "forward", dtype == ST_F32 ? "f32" : "bf16",
               s.batch, s.heads, s.dim, s.q_len, s.kv_len, s.causal, (double)s.drop, (double)ms[0],
               (double)ms[1], (double)ms[2], work / (double)ms[0] * 1e-9,
               v.bad   ? v.why
               : check ? "right"
                       : "unchecked");
        fflush(stdout);
    }
    for (int i = 0; i < SETS; i++)
        problem_close(&p[i]);
}

int main(int count, char **word)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 2 && !strcmp(word[1], "--arch")) {
        arch = atoi(word[2]);
        count -= 2, word += 2;
    }
    const char *what = count > 1 ? word[1] : "check", *text = count > 2 ? word[2] : NULL;
    if (!strcmp(what, "check")) return check_all(text);
    if (!strcmp(what, "plant")) return plant_all(text);
    printf("what\tpass\tdtype\tbatch\theads\tdim\tq\tkv\tcausal\tdrop\tms\tms10\tms90\tTFLOPs\tchec"
           "k\n");
    for (size_t i = 0; i < sizeof timed / sizeof timed[0]; i++) {
        for (int way = ST_ATTENTION_AUTO; way <= ST_ATTENTION_WARPS; way++) {
            char line[200];
            line_of(line, sizeof line, timed[i], ST_BF16, PACKED, way);
            if (text ? !strstr(strcat(line, ":"), text) : way && i > 1) continue;
            time_shape(timed[i], ST_BF16, (st_attention_way)way);
        }
    }
    return 0;
}
