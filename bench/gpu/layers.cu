/* Structured layers on a GPU against the dense layer: checks every fused kernel against plain
 * loops, then times layers, the MLP block and both with their backward, beside cuBLASLt's dense
 * products (the best of six ways) in the same run. Medians of graph replays that take turns; inputs
 * rotate through more memory than the L2 cache holds.
 *   layers check [rows]     layers time PART FILE.tsv [rows]     layers fork FILE.tsv */
/* SPDX-License-Identifier: MIT */
#include "check.cuh"
#include "mlp.cuh"
#include <cstring>

/* One shape's operands, SETS of those that are as long as the rows. */
struct layer {
    heap room;
    int64_t m, k, n;
    bf16 *x[SETS], *y[SETS], *t[SETS], *z[SETS], *w, *w2, *wt, *bias;
    float *scale;
    int *done;
    layer(int64_t m_, int64_t k_, int64_t n_) : m(m_), k(k_), n(n_)
    {
        int64_t wide = std::max(k, n);
        for (int i = 0; i < SETS; i++) {
            x[i] = room.random<bf16>(m * k, 1.0f);
            y[i] = room.get<bf16>(m * n);
            t[i] = room.random<bf16>(m * wide, 1.0f);
            z[i] = room.random<bf16>(m * wide, 1.0f);
        }
        w = room.random<bf16>(n * k, 0.05f);
        w2 = room.random<bf16>(n * k, 0.05f);
        bias = room.random<bf16>(wide, 1.0f);
        scale = room.random<float>(8, 1.0f);
        done = room.zeros<int>(m / 64 + 5);
    }
};

static st_fused_args product(layer *l, int64_t groups, int64_t n, int64_t k, const bf16 *x,
                             const bf16 *w, bf16 *y, st_fused_out out)
{
    st_fused_args a = shape(l->m, groups, n, k, out);
    a.ldx = groups * k;
    a.ldw = k;
    a.ldy = groups * n * (out == ST_OUT_EXPAND ? 4 : 1);
    a.x = x;
    a.w = w;
    a.y = y;
    a.bias = out == ST_OUT_DEAL ? NULL : l->bias;
    a.scale = l->scale;
    return a;
}

typedef std::function<void(int, cudaStream_t)> call;

static call dense_lt(layer *l, int64_t k, lt_plan *p)
{
    *p = {l->m, l->n, k, false, true, CUBLASLT_EPILOGUE_BIAS};
    return [=](int i, cudaStream_t q) { lt_run(p, l->x[i], l->w, l->y[i], l->bias, NULL, q); };
}

/* From x; way as in st_fused_args. */
template <int factor> static void ss1_whole(contest *c, layer *l, int way)
{
    static const char *const ways[] = {"", ", fold beside the product", ", fold, product"};
    char name[64];
    snprintf(name, sizeof name, "ss1 %dx%s", factor, ways[way]);
    c->add(name, [=](int i, cudaStream_t q) {
        st_fused_args a = product(l, 1, l->n, l->k / factor, l->x[i], l->w, l->y[i], ST_OUT_PLAIN);
        a.ldx = l->k;
        a.in_factor = factor;
        a.in_hash = HASH;
        a.z = l->z[i];
        a.done = l->done;
        a.way = way;
        MUST(st_fused_product(&a, q));
    });
}

template <int factor> static void ss1(contest *c, layer *l, lt_plan *p)
{
    char name[64];
    int64_t kept = l->k / factor;
    for (int way = 0; way <= 2; way++)
        ss1_whole<factor>(c, l, way);
    snprintf(name, sizeof name, "ss1 %dx, folded before", factor);
    c->add(name, [=](int i, cudaStream_t q) {
        st_fused_args a = product(l, 1, l->n, kept, l->z[i], l->w, l->y[i], ST_OUT_PLAIN);
        MUST(st_fused_product(&a, q));
    });
    if (factor == 4) {
        c->add("ss1 4x, folded before, mma.sync", [=](int i, cudaStream_t q) {
            st_fused_args a = product(l, 1, l->n, kept, l->z[i], l->w, l->y[i], ST_OUT_PLAIN);
            MUST(st_fused_product_mma(&a, q));
        });
    }
    for (int way = 1; way <= 2; way++) {
        if (way == 2 && kept <= 192) continue;
        snprintf(name, sizeof name, "ss1 %dx, folded before, %s", factor,
                 way == 1 ? "together" : "by turns");
        c->add(name, [=](int i, cudaStream_t q) {
            st_fused_args a = product(l, 1, l->n, kept, l->z[i], l->w, l->y[i], ST_OUT_PLAIN);
            a.way = way;
            MUST(st_fused_product(&a, q));
        });
    }
    snprintf(name, sizeof name, "cublasLt k/%d", factor);
    *p = {l->m, l->n, kept, false, true, CUBLASLT_EPILOGUE_BIAS};
    c->add(name,
           [=](int i, cudaStream_t q) { lt_run(p, l->z[i], l->w, l->y[i], l->bias, NULL, q); });
}

static void monarch(contest *c, layer *l)
{
    if (l->k % 768 || l->n % 4) return;
    c->add("monarch 4", [=](int i, cudaStream_t q) {
        st_fused_args a = product(l, 4, 192, l->k / 4, l->x[i], l->w, l->t[i], ST_OUT_DEAL);
        MUST(st_fused_product(&a, q));
        a = product(l, 4, l->n / 4, 192, l->t[i], l->w2, l->y[i], ST_OUT_INTERLEAVE);
        MUST(st_fused_product(&a, q));
    });
    c->add("  second factor", [=](int i, cudaStream_t q) {
        st_fused_args a = product(l, 4, l->n / 4, 192, l->t[i], l->w2, l->y[i], ST_OUT_INTERLEAVE);
        MUST(st_fused_product(&a, q));
    });
    c->add("  first factor", [=](int i, cudaStream_t q) {
        st_fused_args a = product(l, 4, 192, l->k / 4, l->x[i], l->w, l->t[i], ST_OUT_DEAL);
        MUST(st_fused_product(&a, q));
    });
}

static void thin(contest *c, layer *l, int64_t rank)
{
    char name[64];
    snprintf(name, sizeof name, "low rank %d", (int)rank);
    int64_t r = (rank + 7) / 8 * 8;
    c->add(name, [=](int i, cudaStream_t q) {
        st_fused_args a = product(l, 1, r, l->k, l->x[i], l->w, l->t[i], ST_OUT_PLAIN);
        a.bias = NULL;
        MUST(st_fused_product(&a, q));
        a = product(l, 1, l->n, r, l->t[i], l->w2, l->y[i], ST_OUT_PLAIN);
        MUST(st_fused_product(&a, q));
    });
}

static void kron(contest *c, layer *l)
{
    if (l->n == 4 * l->k) {
        c->add("  kron, together", [=](int i, cudaStream_t q) {
            st_fused_args a = product(l, 1, l->k, l->k, l->x[i], l->w, l->y[i], ST_OUT_EXPAND);
            a.way = 1;
            MUST(st_fused_product(&a, q));
        });
        c->add("kron 1x4, factored", [=](int i, cudaStream_t q) {
            st_fused_args a = product(l, 1, l->k, l->k, l->x[i], l->w, l->y[i], ST_OUT_EXPAND);
            MUST(st_fused_product(&a, q));
        });
    } else if (l->k == 4 * l->n) {
        for (int way = 0; way <= 2; way++) {
            static const char *const ways[] = {"", ", gather beside the product",
                                               ", gather, product"};
            c->add(std::string("kron 4x1") + ways[way], [=](int i, cudaStream_t q) {
                st_fused_args a = product(l, 1, l->n, l->n, l->x[i], l->w, l->y[i], ST_OUT_PLAIN);
                a.ldx = l->k;
                a.in_factor = 4;
                a.in_gather = 1;
                a.z = l->z[i];
                a.done = l->done;
                a.way = way;
                MUST(st_fused_product(&a, q));
            });
        }
    }
}

/* What memory alone takes: x read and y written, each as fast as the machine does it. */
static void ceilings(contest *c, layer *l)
{
    c->add("  x copied", [=](int i, cudaStream_t q) {
        MUST(cudaMemcpyAsync(l->t[i], l->x[i], (size_t)(l->m * l->k) * 2, cudaMemcpyDeviceToDevice,
                             q));
    });
    c->add("  y written", [=](int i, cudaStream_t q) {
        MUST(cudaMemsetAsync(l->y[i], 0x3f, (size_t)(l->m * l->n) * 2, q));
    });
}

static void forward(int64_t m, int64_t k, int64_t n, int64_t rank, FILE *tsv)
{
    layer l(m, k, n);
    lt_plan p[4];
    char title[64];
    snprintf(title, sizeof title, "%d %d->%d", (int)m, (int)k, (int)n);
    contest c = {title, SETS, {}};
    c.add("dense, cublasLt", dense_lt(&l, k, p));
    ceilings(&c, &l);
    c.add("dense, own", [&](int i, cudaStream_t q) {
        st_fused_args a = product(&l, 1, n, k, l.x[i], l.w, l.y[i], ST_OUT_PLAIN);
        MUST(st_fused_product(&a, q));
    });
    ss1<2>(&c, &l, p + 1);
    ss1<4>(&c, &l, p + 2);
    if (k % 256 == 0) ss1<8>(&c, &l, p + 3);
    monarch(&c, &l);
    thin(&c, &l, rank);
    kron(&c, &l);
    c.add("block-diagonal 4", [&](int i, cudaStream_t q) {
        st_fused_args a = product(&l, 4, n / 4, k / 4, l.x[i], l.w, l.y[i], ST_OUT_PLAIN);
        MUST(st_fused_product(&a, q));
    });
    c.add("dense, cublasLt again", dense_lt(&l, k, p));
    c.run(9, tsv);
}

/* The shapes that the bench of SS1's authors times, dense and SS1. */
static void fork(FILE *tsv)
{
    static const int64_t few[][3] = {
        {1024, 1024, 1024},   {16384, 1024, 1024}, {32768, 1024, 1024},  {36864, 768, 768},
        {36864, 768, 3072},   {36864, 3072, 768},  {12288, 768, 2304},   {12288, 768, 50256},
        {32768, 768, 768},    {32768, 768, 2304},  {32768, 768, 3072},   {32768, 3072, 768},
        {4096, 4096, 4096},   {4096, 4096, 1024},  {4096, 4096, 14336},  {4096, 14336, 4096},
        {8192, 4096, 4096},   {8192, 4096, 1024},  {8192, 4096, 14336},  {8192, 14336, 4096},
        {16384, 4096, 4096},  {16384, 4096, 1024}, {16384, 4096, 14336}, {16384, 14336, 4096},
        {32768, 512, 512},    {32768, 2048, 2048}, {32768, 4096, 4096},  {32768, 8192, 8192},
        {32768, 16384, 16384}};
    for (const int64_t *s : few) {
        layer l(s[0], s[1], s[2]);
        lt_plan p;
        char title[64];
        snprintf(title, sizeof title, "%d %d->%d", (int)s[0], (int)s[1], (int)s[2]);
        contest c = {title, SETS, {}};
        c.add("dense, cublasLt", dense_lt(&l, s[1], &p));
        ss1_whole<2>(&c, &l, 0);
        ss1_whole<4>(&c, &l, 0);
        ss1_whole<8>(&c, &l, 0);
        c.run(5, tsv);
    }
}

/* ---- with backward -------------------------------------------------------------------------- */

struct grads {
    lt_plan dx, dw;
    bf16 *g[SETS], *dx_at[SETS], *dz;
    float *dw_at, *db;
};

static void backward(int64_t m, int64_t k, int64_t n, FILE *tsv)
{
    layer l(m, k, n);
    lt_plan fwd, plans[3][3];
    grads g;
    for (int i = 0; i < SETS; i++) {
        g.g[i] = l.room.random<bf16>(m * n, 1.0f);
        g.dx_at[i] = l.room.get<bf16>(m * k);
    }
    g.dz = l.room.get<bf16>(m * k);
    g.db = l.room.get<float>(n);
    g.dw_at = l.room.get<float>(n * k);
    g.dx = {m, k, n, false, false};
    g.dw = {n, k, m, true, false, CUBLASLT_EPILOGUE_BGRADB};
    g.dw.out = CUDA_R_32F;
    char title[64];
    snprintf(title, sizeof title, "%d %d->%d train", (int)m, (int)k, (int)n);
    contest c = {title, SETS, {}};
    call y = dense_lt(&l, k, &fwd);
    c.add("dense, cublasLt", [&](int i, cudaStream_t q) {
        y(i, q);
        lt_run(&g.dx, g.g[i], l.w, g.dx_at[i], NULL, NULL, q);
        lt_run(&g.dw, g.g[i], l.x[i], g.dw_at, g.db, NULL, q);
    });
    for (int at = 0; at < 3; at++) {
        int factor = 2 << at;
        int64_t kept = k / factor;
        lt_plan *p = plans[at];
        if (k % (32 * factor)) continue;
        p[0] = {m, kept, n, false, false};
        p[1] = {n, kept, m, true, false, CUBLASLT_EPILOGUE_BGRADB};
        p[1].out = CUDA_R_32F;
        char name[64];
        snprintf(name, sizeof name, "ss1 %dx, fold, unfold", factor);
        c.add(name, [=, &l, &g](int i, cudaStream_t q) {
            st_fused_args a = product(&l, 1, n, kept, l.x[i], l.w, l.y[i], ST_OUT_PLAIN);
            a.ldx = k;
            a.in_factor = factor;
            a.in_hash = HASH;
            a.z = l.z[i];
            a.done = l.done;
            MUST(st_fused_product(&a, q));
            lt_run(p, g.g[i], l.w, g.dz, NULL, NULL, q);
            lt_run(p + 1, g.g[i], l.z[i], g.dw_at, g.db, NULL, q);
            st_unfold_call u = {m, kept, g.dz, NULL, g.dx_at[i], NULL, NULL, factor, HASH, 0};
            MUST(st_fused_unfold(&u, q));
        });
    }
    c.run(7, tsv);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "check")) return check_all(argc > 2 ? atoll(argv[2]) : 0) != 0;
    if (argc > 2 && !strcmp(argv[1], "fork")) {
        FILE *tsv = fopen(argv[2], "a");
        if (!tsv) return 1;
        fork(tsv);
        return fclose(tsv) != 0;
    }
    if (argc < 4 || strcmp(argv[1], "time")) {
        fprintf(stderr, "layers check [rows] | layers time PART FILE.tsv [rows], PART 0 .. 7\n");
        return 1;
    }
    int part = atoi(argv[2]);
    int64_t m = argc > 4 ? atoll(argv[4]) : 32768;
    FILE *tsv = fopen(argv[3], "a");
    if (!tsv) return 1;
    switch (part) {
    case 0: forward(m, 768, 3072, 76, tsv); break;
    case 1: forward(m, 3072, 768, 76, tsv); break;
    case 2: forward(m, 768, 768, 48, tsv); break;
    case 3: forward(m, 768, 2304, 72, tsv); break;
    case 4: backward(m, 768, 3072, tsv); break;
    case 5: backward(m, 3072, 768, tsv); break;
    case 6: mlp_infer(m, tsv); break;
    case 7: mlp_train(m, tsv); break;
    }
    fclose(tsv);
    return 0;
}
