/* The MLP block 768-3072-768 with GELU, dense and SS1: forward, and forward with backward. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_GPU_MLP_CUH
#define ST_BENCH_GPU_MLP_CUH

#include "check.cuh"

enum { SETS = 3, HASH = 3 }; /* inputs that rotate; r0 mod 4 of SS1's release */

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

#endif
