/* Linear assignment: the permutation of largest gain, by shortest augmenting paths after the
 * reductions of Jonker & Volgenant 1987. Costs are minus gains; v are the columns' prices, and the
 * price-reduced cost of an entry is cost[i, j] - v[j]. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include <cblas.h>
#include <math.h>
#include <stdlib.h>

typedef struct {
    const float *gain; /* (n, n) */
    int64_t n;
    double *v;                           /* prices */
    double *d, *price, *reached, *least; /* of one path: see assign_path */
    int64_t *col, *row, *before; /* of each row, of each column (-1: none); row before a column */
    int64_t *scanned;            /* columns of one path */
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

enum { BLOCK = 64 };

static int64_t assign_block(const assign *a, int64_t j0)
{
    return a->n - j0 < BLOCK ? a->n - j0 : BLOCK;
}

static void assign_least(const assign *a, int64_t j0)
{
    int64_t count = assign_block(a, j0);
    double least = INFINITY;
    for (int64_t k = 0; k < count; k++)
        least = a->d[j0 + k] < least ? a->d[j0 + k] : least;
    a->least[j0 / BLOCK] = least;
}

/* Distances of the block of columns from j0 on, by way of row r, whose reduced costs begin at
 * `base`. Few blocks come nearer, so most cost one pass that compilers make vectors of. */
static void assign_relax(const assign *a, int64_t r, double base, int64_t j0)
{
    const float *gain = a->gain + r * a->n + j0;
    const double *price = a->price + j0, *d = a->d + j0;
    double c[BLOCK];
    int64_t count = assign_block(a, j0), nearer = 0;
    for (int64_t k = 0; k < count; k++)
        c[k] = base - (double)gain[k] - price[k];
    for (int64_t k = 0; k < count; k++)
        nearer += c[k] < d[k];
    if (!nearer) return;
    for (int64_t k = 0; k < count; k++) {
        if (c[k] >= d[k]) continue;
        a->d[j0 + k] = c[k];
        a->before[j0 + k] = r;
    }
    assign_least(a, j0);
}

/* All columns by way of row r; the nearest. */
static int64_t assign_nearest(const assign *a, int64_t r, double base)
{
    int64_t at = 0;
    for (int64_t j0 = 0; j0 < a->n; j0 += BLOCK) {
        assign_relax(a, r, base, j0);
        if (a->least[j0 / BLOCK] < a->least[at / BLOCK]) at = j0;
    }
    double least = a->least[at / BLOCK];
    while (a->d[at] > least)
        at++;
    return at;
}

/* The shortest path from open row i to a column that nobody has, in reduced costs; columns are
 * handed on along it. A scanned column is out of the way: its distance and cost are infinite. */
static void assign_path(assign *a, int64_t i)
{
    int64_t n = a->n, scans = 0, at;
    double base = 0.0, reach;
    for (int64_t j = 0; j < n; j++) {
        a->d[j] = INFINITY;
        a->price[j] = a->v[j];
        a->least[j / BLOCK] = INFINITY;
    }
    for (int64_t r = i;; r = a->row[at]) {
        at = assign_nearest(a, r, base);
        reach = a->d[at];
        if (a->row[at] < 0) break;
        base = reach - assign_cost(a, a->row[at], at);
        a->scanned[scans] = at;
        a->reached[scans++] = reach;
        a->d[at] = INFINITY;
        a->price[at] = -INFINITY;
        assign_least(a, at / BLOCK * BLOCK);
    }
    for (int64_t k = 0; k < scans; k++)
        a->v[a->scanned[k]] += a->reached[k] - reach;
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
    double *numbers = st_calloc(5 * n, sizeof *numbers);
    int64_t *places = st_calloc(4 * n, sizeof *places);
    st_status s = ST_OK;
    if (!numbers || !places) {
        s = ST_NOMEM(e, "assignment");
        goto out;
    }
    a.v = numbers;
    a.d = numbers + n;
    a.price = numbers + 2 * n;
    a.reached = numbers + 3 * n;
    a.least = numbers + 4 * n;
    a.col = places;
    a.before = places + n;
    a.scanned = places + 2 * n;
    a.open = places + 3 * n;
    assign_columns(&a);
    for (int turn = 0; turn < 2; turn++)
        assign_rows(&a);
    for (int64_t k = 0; k < a.opens && !s; k++) {
        if (st_interrupted()) s = ST_ERR(e, ST_EINTR, "interrupted");
        if (!s) assign_path(&a, a.open[k]);
    }
out:
    free(numbers);
    free(places);
    return s;
}

void st_assign_gain(const float *w, const float *v, int64_t out, int64_t in, bool rows, float *gain)
{
    int n = (int)(rows ? out : in), k = (int)(rows ? in : out), ld = (int)in;
    cblas_sgemm(CblasRowMajor, rows ? CblasNoTrans : CblasTrans, rows ? CblasTrans : CblasNoTrans,
                n, n, k, 1.0f, w, ld, v, ld, 1.0f, gain, n);
}
