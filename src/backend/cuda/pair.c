/* What waits for its partner (pair.h): one operation at most, of which nobody has read the results.
 */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pair.h"

typedef enum { PAIR_NONE, PAIR_GEMM, PAIR_GELU, PAIR_NORM } pair_first;

struct st_cuda_pair {
    pair_first first;
    st_gemm_args gemm;
    st_gelu_bwd_args gelu;
    st_norm_bwd_args norm;
    const char *tag;
};

enum { PAIR_ROWS = 64 }; /* from so many rows on */

static st_cuda_pair *pair_of(const st_stream *q)
{
    return st_cuda_of(q)->pair;
}

st_status st_cuda_pair_open(st_stream *q, st_err *e)
{
    st_cuda_of(q)->pair = st_calloc(1, sizeof(st_cuda_pair));
    return st_cuda_of(q)->pair ? ST_OK : ST_NOMEM(e, "device cuda");
}

static void pair_hold(st_stream *q, pair_first first)
{
    pair_of(q)->first = first;
    pair_of(q)->tag = q->tag;
}

bool st_cuda_pair_gemm(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    bool fits = g->a.dtype == ST_BF16 && g->c.dtype == ST_BF16 && g->beta == 0 && l.batch == 1 &&
                g->tb && !g->ta && g->m >= PAIR_ROWS && g->k > 0 && g->k % 8 == 0 &&
                g->n % 8 == 0 && l.ldc == g->n && st_or(g->bias_rows, 1) == 1;
    if (!fits) return false;
    pair_of(q)->gemm = *g;
    pair_hold(q, PAIR_GEMM);
    return true;
}

void st_cuda_pair_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a)
{
    pair_of(q)->gelu = *a;
    pair_hold(q, PAIR_GELU);
}

void st_cuda_pair_norm_bwd(st_stream *q, const st_norm_bwd_args *a)
{
    pair_of(q)->norm = *a;
    pair_hold(q, PAIR_NORM);
}

bool st_cuda_pair_residual(st_stream *q, const st_residual_fwd_args *a)
{
    st_cuda_pair *p = pair_of(q);
    const st_gemm_args *g = &p->gemm;
    bool same = p->first == PAIR_GEMM && a->b.data == g->c.data && a->y.data == a->b.data &&
                a->a.data && a->a.data != a->y.data && a->drop == 0.0f && a->y.dtype == ST_BF16 &&
                st_numel(a->y) == g->m * g->n;
    if (!same) return false;
    p->first = PAIR_NONE;
    st_cuda_gemm_onto(q, g, a->a);
    return true;
}

bool st_cuda_pair_bias_grad(st_stream *q, const st_bias_grad_args *a)
{
    st_cuda_pair *p = pair_of(q);
    pair_first first = p->first;
    int64_t n = a->rows * a->width;
    if (first == PAIR_GELU && a->dy.data == p->gelu.dx.data && n == st_numel(p->gelu.dx)) {
        p->first = PAIR_NONE;
        st_cuda_gelu_bwd_bias(q, &p->gelu, a);
        return true;
    }
    if (first == PAIR_NORM && a->dy.data == p->norm.dx.data && a->rows == p->norm.rows &&
        a->width == p->norm.width) {
        p->first = PAIR_NONE;
        st_cuda_norm_bwd_bias(q, &p->norm, a);
        return true;
    }
    return false;
}

void st_cuda_pair_flush(st_stream *q)
{
    st_cuda_pair *p = pair_of(q);
    pair_first first = p->first;
    const char *tag = q->tag;
    p->first = PAIR_NONE;
    q->tag = p->tag;
    if (first == PAIR_GEMM) st_cuda_gemm(q, &p->gemm);
    if (first == PAIR_GELU) st_cuda_gelu_bwd(q, &p->gelu);
    if (first == PAIR_NORM) st_cuda_norm_bwd(q, &p->norm);
    q->tag = tag;
}
