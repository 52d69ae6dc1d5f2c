/* Linear assignment: the permutation of largest gain, by shortest augmenting paths after the
 * reductions of Jonker & Volgenant 1987. Costs are minus gains; v are the columns' prices, and the
 * price-reduced cost of an entry is cost[i, j] - v[j]. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    const float *gain; /* (n, n) */
    int64_t n;
    double *v, *d;               /* prices; distances */
    int64_t *col, *row, *before; /* of each row, of each column (-1: none); row before a column */
    int64_t *todo;               /* columns, those already scanned first */
    int64_t *open;               /* rows without a column */
    int64_t opens;
} assign;

static double assign_cost(const assign *a, int64_t i, int64_t j)
{
    return -(double)a->gain[i * a->n + j] - a->v[j];
}

/* Every column is priced at its least cost and goes to the row that has it, if that is free. */
static void assign_columns(assign *a)
{
    for (int64_t j = 0; j < a->n; j++) {
        a->v[j] = INFINITY;
        a->row[j] = a->col[j] = -1;
    }
    for (int64_t i = 0; i < a->n; i++) {
        for (int64_t j = 0; j < a->n; j++) {
            double c = -(double)a->gain[i * a->n + j];
            if (c >= a->v[j]) continue;
            a->v[j] = c;
            a->before[j] = i;
        }
    }
    for (int64_t j = a->n - 1; j >= 0; j--) {
        int64_t i = a->before[j];
        if (a->col[i] >= 0) continue;
        a->col[i] = j;
        a->row[j] = i;
    }
    a->opens = 0;
    for (int64_t i = 0; i < a->n; i++)
        if (a->col[i] < 0) a->open[a->opens++] = i;
}

/* Open rows take their cheapest column, at a price that makes it as dear as the second; the row
 * that had it becomes open. Ends after a bounded number of turns: what is left goes to the paths.
 */
static void assign_rows(assign *a)
{
    int64_t first = a->opens, kept = 0, k = 0, turns = 8 * a->n;
    while (k < first && turns-- > 0) {
        int64_t i = a->open[k++], j1 = 0, j2 = -1;
        double u1 = INFINITY, u2 = INFINITY;
        for (int64_t j = 0; j < a->n; j++) {
            double c = assign_cost(a, i, j);
            if (c >= u2) continue;
            if (c >= u1) {
                u2 = c;
                j2 = j;
            } else {
                u2 = u1;
                j2 = j1;
                u1 = c;
                j1 = j;
            }
        }
        int64_t other = a->row[j1];
        double price = a->v[j1] - (u2 - u1);
        bool dearer = isfinite(u2) && price < a->v[j1];
        if (dearer) {
            a->v[j1] = price;
        } else if (other >= 0 && j2 >= 0 && isfinite(u2)) {
            j1 = j2;
            other = a->row[j2];
        }
        a->col[i] = j1;
        a->row[j1] = i;
        if (other < 0) continue;
        a->col[other] = -1;
        if (dearer)
            a->open[--k] = other; /* at once */
        else
            a->open[kept++] = other; /* kept <= k: row i has left its place */
    }
    while (k < first)
        a->open[kept++] = a->open[k++];
    a->opens = kept;
}

/* The shortest path from open row i to a column that nobody has, in price-reduced costs; columns
 * are handed on along it. */
static void assign_path(assign *a, int64_t i)
{
    int64_t n = a->n, scanned = 0, at = 0;
    for (int64_t j = 0; j < n; j++) {
        a->d[j] = assign_cost(a, i, j);
        a->before[j] = i;
        a->todo[j] = j;
    }
    double reach;
    for (;;) {
        int64_t near = scanned;
        for (int64_t k = scanned + 1; k < n; k++)
            if (a->d[a->todo[k]] < a->d[a->todo[near]]) near = k;
        at = a->todo[near];
        reach = a->d[at];
        if (a->row[at] < 0) break;
        a->todo[near] = a->todo[scanned];
        a->todo[scanned++] = at;
        int64_t r = a->row[at];
        double base = reach - assign_cost(a, r, at);
        for (int64_t k = scanned; k < n; k++) {
            int64_t j = a->todo[k];
            double d = base + assign_cost(a, r, j);
            if (d >= a->d[j]) continue;
            a->d[j] = d;
            a->before[j] = r;
        }
    }
    for (int64_t k = 0; k < scanned; k++)
        a->v[a->todo[k]] += a->d[a->todo[k]] - reach;
    for (int64_t r = -1; r != i;) {
        r = a->before[at];
        a->row[at] = r;
        int64_t had = a->col[r];
        a->col[r] = at;
        at = had;
    }
}

static st_status assign_check(const float *gain, int64_t n, st_err *e)
{
    for (int64_t i = 0; i < n * n; i++) {
        if (isfinite(gain[i])) continue;
        ST_FAIL(e, ST_EARG, "assignment: entry (%lld, %lld) of the gains is not a finite number",
                (long long)(i / n), (long long)(i % n));
    }
    return ST_OK;
}

st_status st_assign(const float *gain, int64_t n, int64_t *row_of, st_err *e)
{
    ST_TRY(assign_check(gain, n, e));
    assign a = {.gain = gain, .n = n, .row = row_of};
    double *numbers = st_calloc(2 * n, sizeof *numbers);
    int64_t *places = st_calloc(4 * n, sizeof *places);
    st_status s = ST_OK;
    if (!numbers || !places) {
        s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "assignment: out of memory");
        goto out;
    }
    a.v = numbers;
    a.d = numbers + n;
    a.col = places;
    a.before = places + n;
    a.todo = places + 2 * n;
    a.open = places + 3 * n;
    assign_columns(&a);
    for (int turn = 0; turn < 2; turn++)
        assign_rows(&a);
    for (int64_t k = 0; k < a.opens && !s; k++) {
        if (st_interrupted()) s = st_fail(e, ST_EINTR, __FILE__, __LINE__, "interrupted");
        if (!s) assign_path(&a, a.open[k]);
    }
out:
    free(numbers);
    free(places);
    return s;
}
