/* The reference backend, opened for a program of tests, and what such tests compare with. */
/* SPDX-License-Identifier: MIT */
#ifndef REF_RIG_H
#define REF_RIG_H

#include "backend/backend.h"
#include "tensor/tensor.h"
#include "testing.h"
#include <math.h>

static st_stream *q;
static const st_ops *op;

static int ref_setup(void **state)
{
    (void)state;
    st_err e;
    if (st_stream_open(&q, "ref", 0, &e)) return -1;
    op = st_stream_ops(q);
    return 0;
}

static int ref_teardown(void **state)
{
    (void)state;
    st_stream_close(q);
    return 0;
}

static st_tensor f32(const float *x, int64_t n)
{
    return st_view1((void *)(uintptr_t)x, ST_F32, n);
}

static void assert_near(double got, double want, double tol)
{
    if (fabs(got - want) <= tol) return;
    print_message("got %.9g, want %.9g, bound %.2g\n", got, want, tol);
    assert_true(fabs(got - want) <= tol);
}

static void assert_all_near(const float *got, const double *want, int n, double tol)
{
    for (int i = 0; i < n; i++)
        assert_near((double)got[i], want[i], tol);
}

static void random_fill(float *x, int64_t n, uint64_t stream)
{
    st_normal_fill(x, n, 0, 1, 42, stream);
}

#endif
