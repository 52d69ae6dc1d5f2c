/* Structured layers on a GPU against the dense layer: checks every fused kernel against plain
 * loops, then times layers, the MLP block and both with their backward, beside cuBLASLt's dense
 * products (the best of six ways) in the same run. Medians of graph replays that take turns; inputs
 * rotate through more memory than the L2 cache holds. layers check [rows]     layers time PART
 * FILE.tsv [rows] */
/* SPDX-License-Identifier: MIT */
#include "check.cuh"
#include <cstring>

enum { SETS = 3, HASH = 3 };

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
        done = room.get<int>(m / 64 + 4);
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

template <int factor> static void ss1(contest *c, layer *l, lt_plan *p)
{
    char name[64];
    int64_t kept = l->k / factor;
    static const char *const ways[] = {"", ", fold beside the product", ", fold, product"};
    for (int way = 0; way <= 2; way++) {
        snprintf(name, sizeof name, "ss1 %dx%s", factor, ways[way]);
        c->add(name, [=](int i, cudaStream_t q) {
            st_fused_args a = product(l, 1, l->n, kept, l->x[i], l->w, l->y[i], ST_OUT_PLAIN);
            a.ldx = l->k;
            a.in_factor = factor;
            a.in_hash = HASH;
            a.z = l->z[i];
            a.done = l->done;
            a.way = way;
            MUST(st_fused_product(&a, q));
        });
    }
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
        c->add("kron 4x1, gather, product", [=](int i, cudaStream_t q) {
            MUST(st_fused_gather4(l->m, l->n, l->x[i], l->scale, l->z[i], q));
            st_fused_args a = product(l, 1, l->n, l->n, l->z[i], l->w, l->y[i], ST_OUT_PLAIN);
            MUST(st_fused_product(&a, q));
        });
    }
}

static void forward(int64_t m, int64_t k, int64_t n, int64_t rank, FILE *tsv)
{
    layer l(m, k, n);
    lt_plan p[4];
    char title[64];
    snprintf(title, sizeof title, "%d %d->%d", (int)m, (int)k, (int)n);
    contest c = {title, SETS, {}};
    c.add("dense, cublasLt", dense_lt(&l, k, p));
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

/* ---- the MLP block -------------------------------------------------------------------------- */

struct mlp {
    heap room;
    int64_t m, d, f;
    bf16 *x[SETS], *y[SETS], *g[SETS], *dx[SETS];
    bf16 *h[SETS], *act[SETS], *zs[SETS], *z1, *z2[SETS], *dh, *dz1, *dz2;
    bf16 *w1, *w2, *b1, *b2;
    float *scale, *db1, *db2, *dw1, *dw2, *dbf, *work;
    mlp(int64_t m_, int64_t d_, int64_t f_) : m(m_), d(d_), f(f_)
    {
        for (int i = 0; i < SETS; i++) {
            x[i] = room.random<bf16>(m * d, 1.0f);
            g[i] = room.random<bf16>(m * d, 1.0f);
            y[i] = room.get<bf16>(m * d);
            dx[i] = room.get<bf16>(m * d);
            h[i] = room.get<bf16>(m * f);
            act[i] = room.get<bf16>(m * f);
            z2[i] = room.get<bf16>(m * f / 2);
            zs[i] = room.random<bf16>(m * d / 2, 1.0f);
        }
        z1 = room.get<bf16>(m * d);
        dh = room.get<bf16>(m * f);
        dz1 = room.get<bf16>(m * d);
        dz2 = room.get<bf16>(m * f);
        w1 = room.random<bf16>(d * f, 0.05f);
        w2 = room.random<bf16>(d * f, 0.05f);
        b1 = room.random<bf16>(f, 1.0f);
        b2 = room.random<bf16>(d, 1.0f);
        scale = room.random<float>(8, 1.0f);
        db1 = room.get<float>(f);
        db2 = room.get<float>(d);
        dw1 = room.get<float>(d * f);
        dw2 = room.get<float>(d * f);
        dbf = room.random<float>(f, 1.0f);
        work = room.get<float>(st_fused_unfold_work(m, f));
    }
};

static st_fused_args mlp_in(mlp *b, int factor, int i, bool keep)
{
    st_fused_args a = shape(b->m, 1, b->f, b->d / factor, ST_OUT_FOLD);
    a.ldx = a.ldw = a.k;
    a.ldy = b->f / factor;
    a.x = b->z1;
    a.w = b->w1;
    a.bias = b->b1;
    a.y = b->z2[i];
    a.h = keep ? b->h[i] : NULL;
    a.gelu = 1;
    a.out_factor = factor;
    a.out_hash = HASH;
    return a;
}

static void mlp_forward(mlp *b, int factor, int i, bool keep, lt_plan *p, cudaStream_t q)
{
    st_fold_call f = {b->m, b->d / factor, b->d, b->x[i], b->z1, factor, HASH};
    MUST(st_fused_fold(&f, q));
    st_fused_args a = mlp_in(b, factor, i, keep);
    MUST(st_fused_product(&a, q));
    if (p) {
        lt_run(p, b->z2[i], b->w2, b->y[i], b->b2, NULL, q);
        return;
    }
    a = shape(b->m, 1, b->d, b->f / factor, ST_OUT_PLAIN);
    a.ldx = a.ldw = a.k;
    a.ldy = b->d;
    a.x = b->z2[i];
    a.w = b->w2;
    a.bias = b->b2;
    a.y = b->y[i];
    MUST(st_fused_product(&a, q));
}

static void mlp_infer(int64_t m, FILE *tsv)
{
    mlp b(m, 768, 3072);
    lt_plan one = {m, b.f, b.d, false, true, CUBLASLT_EPILOGUE_GELU_BIAS};
    lt_plan two = {m, b.d, b.f, false, true, CUBLASLT_EPILOGUE_BIAS};
    contest c = {"mlp 768-3072-768", SETS, {}};
    c.add("dense, cublasLt", [&](int i, cudaStream_t q) {
        lt_run(&one, b.x[i], b.w1, b.act[i], b.b1, NULL, q);
        lt_run(&two, b.act[i], b.w2, b.y[i], b.b2, NULL, q);
    });
    c.add("dense, own", [&](int i, cudaStream_t q) {
        st_fused_args a = shape(m, 1, b.f, b.d, ST_OUT_PLAIN);
        a.ldx = a.ldw = b.d;
        a.ldy = b.f;
        a.x = b.x[i];
        a.w = b.w1;
        a.bias = b.b1;
        a.y = b.act[i];
        a.gelu = 1;
        MUST(st_fused_product(&a, q));
        a = shape(m, 1, b.d, b.f, ST_OUT_PLAIN);
        a.ldx = a.ldw = b.f;
        a.ldy = b.d;
        a.x = b.act[i];
        a.w = b.w2;
        a.bias = b.b2;
        a.y = b.y[i];
        MUST(st_fused_product(&a, q));
    });
    c.add("dense, cublasLt, first half",
          [&](int i, cudaStream_t q) { lt_run(&one, b.x[i], b.w1, b.act[i], b.b1, NULL, q); });
    lt_plan second[3];
    c.add("  norm", [&](int i, cudaStream_t q) {
        st_norm_fold_call n = {m, b.d, b.x[i], b.b1, b.b2, b.z1, NULL, NULL, 1e-5f, 1, 0};
        MUST(st_fused_norm_fold(&n, q));
    });
    for (int at = 0; at < 3; at++) {
        int factor = 2 << at;
        char name[64];
        lt_plan *p = second + at;
        *p = {m, b.d, b.f / factor, false, true, CUBLASLT_EPILOGUE_BIAS};
        snprintf(name, sizeof name, "ss1 %dx, fold before", factor);
        c.add(name, [=, &b](int i, cudaStream_t q) { mlp_forward(&b, factor, i, false, NULL, q); });
        snprintf(name, sizeof name, "ss1 %dx, folded by the norm", factor);
        c.add(name, [=, &b](int i, cudaStream_t q) {
            st_fused_args a = mlp_in(&b, factor, i, false);
            a.x = b.zs[i];
            MUST(st_fused_product(&a, q));
            lt_run(p, b.z2[i], b.w2, b.y[i], b.b2, NULL, q);
        });
        snprintf(name, sizeof name, "  norm, fold %dx", factor);
        c.add(name, [=, &b](int i, cudaStream_t q) {
            st_norm_fold_call n = {m,    b.d,  b.x[i], b.b1,   b.b2, b.z1,
                                   NULL, NULL, 1e-5f,  factor, HASH};
            MUST(st_fused_norm_fold(&n, q));
        });
        snprintf(name, sizeof name, "ss1 %dx, fold before, cublasLt", factor);
        c.add(name, [=, &b](int i, cudaStream_t q) { mlp_forward(&b, factor, i, false, p, q); });
        if (factor == 4) {
            c.add("  together", [=, &b](int i, cudaStream_t q) {
                st_fused_args a = mlp_in(&b, factor, i, false);
                a.way = 1;
                MUST(st_fused_product(&a, q));
            });
            c.add("  erf", [=, &b](int i, cudaStream_t q) {
                st_fused_args a = mlp_in(&b, factor, i, false);
                a.gelu = 2;
                MUST(st_fused_product(&a, q));
            });
        }
        snprintf(name, sizeof name, "ss1 %dx, gelu and fold alone", factor);
        c.add(name, [=, &b](int i, cudaStream_t q) {
            st_fused_args a = mlp_in(&b, factor, i, false);
            MUST(st_fused_product(&a, q));
        });
    }
    lt_plan square = {m, b.d, b.d, false, true, CUBLASLT_EPILOGUE_BIAS};
    c.add("kron 1x4, 4x1", [&](int i, cudaStream_t q) {
        st_fused_args a = shape(m, 1, b.d, b.d, ST_OUT_GATHER);
        a.ldx = a.ldw = a.ldy = b.d;
        a.x = b.x[i];
        a.w = b.w1;
        a.bias = b.b1;
        a.scale = b.scale;
        a.y = b.z2[i];
        a.gelu = 1;
        MUST(st_fused_product(&a, q));
        lt_run(&square, b.z2[i], b.w2, b.y[i], b.b2, NULL, q);
    });
    c.run(9, tsv);
}

static void mlp_train(int64_t m, FILE *tsv)
{
    mlp b(m, 768, 3072);
    lt_plan d[6] = {{m, b.f, b.d, false, true, CUBLASLT_EPILOGUE_GELU_AUX_BIAS},
                    {m, b.d, b.f, false, true, CUBLASLT_EPILOGUE_BIAS},
                    {m, b.f, b.d, false, false, CUBLASLT_EPILOGUE_DGELU},
                    {b.d, b.f, m, true, false, CUBLASLT_EPILOGUE_BGRADB},
                    {b.f, b.d, m, true, false, CUBLASLT_EPILOGUE_BGRADB},
                    {m, b.d, b.f, false, false}};
    d[0].ldaux = d[2].ldaux = b.f;
    d[3].out = d[4].out = CUDA_R_32F;
    contest c = {"mlp 768-3072-768 train", SETS, {}};
    c.add("dense, cublasLt", [&](int i, cudaStream_t q) {
        lt_run(&d[0], b.x[i], b.w1, b.act[i], b.b1, b.h[i], q);
        lt_run(&d[1], b.act[i], b.w2, b.y[i], b.b2, NULL, q);
        lt_run(&d[2], b.g[i], b.w2, b.dh, NULL, b.h[i], q);
        lt_run(&d[3], b.g[i], b.act[i], b.dw2, b.db2, NULL, q);
        lt_run(&d[4], b.dh, b.x[i], b.dw1, b.db1, NULL, q);
        lt_run(&d[5], b.dh, b.w1, b.dx[i], NULL, NULL, q);
    });
    lt_plan plans[3][4];
    for (int at = 0; at < 3; at++) {
        int factor = 2 << at;
        lt_plan *s = plans[at];
        s[0] = {m, b.f / factor, b.d, false, false};
        s[1] = {b.d, b.f / factor, m, true, false, CUBLASLT_EPILOGUE_BGRADB};
        s[2] = {b.f, b.d / factor, m, true, false};
        s[3] = {m, b.d / factor, b.f, false, false};
        s[1].out = s[2].out = CUDA_R_32F;
        char name[64];
        auto grad = [=, &b](int i, int steps, cudaStream_t q) {
            lt_run(&s[0], b.g[i], b.w2, b.dz2, NULL, NULL, q);
            if (steps == 1) return;
            st_unfold_call u = {m,     b.f / factor, b.dz2,  b.h[i], b.dh,
                                b.dbf, b.work,       factor, HASH,   1};
            MUST(st_fused_unfold(&u, q));
            if (steps == 2) return;
            lt_run(&s[1], b.g[i], b.z2[i], b.dw2, b.db2, NULL, q);
            if (steps == 3) return;
            lt_run(&s[2], b.dh, b.z1, b.dw1, NULL, NULL, q);
            if (steps == 4) return;
            lt_run(&s[3], b.dh, b.w1, b.dz1, NULL, NULL, q);
            st_unfold_call v = {m, b.d / factor, b.dz1, NULL, b.dx[i], NULL, NULL, factor, HASH, 0};
            MUST(st_fused_unfold(&v, q));
        };
        snprintf(name, sizeof name, "ss1 %dx, fold before, unfold", factor);
        c.add(name, [=, &b](int i, cudaStream_t q) {
            mlp_forward(&b, factor, i, true, NULL, q);
            grad(i, 5, q);
        });
        if (factor != 4) continue;
        c.add("  its forward",
              [=, &b](int i, cudaStream_t q) { mlp_forward(&b, factor, i, true, NULL, q); });
        for (int steps = 1; steps <= 5; steps++) {
            snprintf(name, sizeof name, "  %d of 5 steps back", steps);
            c.add(name, [=](int i, cudaStream_t q) { grad(i, steps, q); });
        }
    }
    c.run(7, tsv);
}

/* A few kernels once each, for a profiler. */
static void once(int64_t m)
{
    layer l(m, 768, 3072);
    mlp b(m, 768, 3072);
    for (int i = 0; i < 2; i++) {
        st_fused_args a = mlp_in(&b, 4, 0, false);
        MUST(st_fused_product(&a, 0));
        a = product(&l, 1, l.n, 192, l.z[0], l.w, l.y[0], ST_OUT_PLAIN);
        MUST(st_fused_product(&a, 0));
        a = product(&l, 4, 768, 192, l.t[0], l.w2, l.y[0], ST_OUT_INTERLEAVE);
        MUST(st_fused_product(&a, 0));
        a = product(&l, 1, l.k, l.k, l.x[0], l.w, l.y[0], ST_OUT_EXPAND);
        MUST(st_fused_product(&a, 0));
        st_unfold_call u = {m, b.f / 4, b.dz2, b.h[0], b.dh, b.dbf, b.work, 4, HASH, 1};
        MUST(st_fused_unfold(&u, 0));
    }
    MUST(cudaDeviceSynchronize());
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "check")) return check_all(argc > 2 ? atoll(argv[2]) : 0) != 0;
    if (argc < 4 || strcmp(argv[1], "time")) {
        fprintf(stderr, "layers check [rows] | layers time PART FILE.tsv [rows], PART 0 .. 7\n");
        return 1;
    }
    if (!strcmp(argv[2], "once")) {
        once(32768);
        return 0;
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
