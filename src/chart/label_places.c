/* Where labels go: near their points, off each other.
 *
 * Each label tries a fixed fan of positions and takes the cheapest, given where the others are now;
 * sweeps repeat until nothing moves. A position costs its distance plus the area it covers of other
 * labels, markers and lines. */
/* SPDX-License-Identifier: MIT */
#include "chart/pen.h"
#include <math.h>
#include <stdlib.h>

static double labels_overlap(st_box a, st_box b)
{
    double w = fmin(a.x + a.w, b.x + b.w) - fmax(a.x, b.x);
    double h = fmin(a.y + a.h, b.y + b.h) - fmax(a.y, b.y);
    return w > 0 && h > 0 ? w * h : 0;
}

typedef struct {
    st_box *box;
    const double *ax, *ay;
    int64_t n;
    const st_box *wall;
    int64_t n_walls;
    st_box frame;
    double clear;
} labels_task;

static double labels_cost(const labels_task *t, int64_t i, st_box b)
{
    double area = b.w * b.h, cost = 0;
    double inside = labels_overlap(b, t->frame);
    cost += 400 * (1 - inside / area);
    st_box wide = {b.x - 2, b.y - 1, b.w + 4, b.h + 2};
    for (int64_t j = 0; j < t->n; j++) {
        double c = t->clear;
        st_box mark = {t->ax[j] - c, t->ay[j] - c, 2 * c, 2 * c};
        double over = labels_overlap(wide, mark);
        if (over > 0) cost += 60 + 60 * over / (4 * c * c);
        if (j == i) continue;
        over = labels_overlap(wide, t->box[j]);
        if (over > 0) cost += 80 + 160 * over / area;
    }
    for (int64_t j = 0; j < t->n_walls; j++) {
        double over = labels_overlap(b, t->wall[j]);
        if (over > 0) cost += 6 + 12 * over / area;
    }
    return cost;
}

/* Candidate c of label i: eight directions, then the same further and further out. */
enum { LABELS_WAYS = 8, LABELS_RINGS = 7 };
static double labels_candidate(const labels_task *t, int64_t i, int c, st_box *b)
{
    static const double way[LABELS_WAYS][3] = {{1, 0, 0},     {-1, 0, 1.5}, {0, -1, 2},
                                               {0, 1, 2},     {1, -0.7, 3}, {1, 0.7, 3},
                                               {-1, -0.7, 4}, {-1, 0.7, 4}};
    const double *w = way[c % LABELS_WAYS];
    int ring = c / LABELS_WAYS;
    double gap = t->clear + 2 + ring * 8.0;
    double h = t->box[i].h, width = t->box[i].w;
    *b = t->box[i];
    b->x = t->ax[i] + w[0] * gap + (w[0] > 0 ? 0 : w[0] < 0 ? -width : -width / 2);
    b->y = t->ay[i] + w[1] * (gap + (w[0] != 0 ? 4 : 0)) + (w[0] != 0 ? -h / 2 : w[1] > 0 ? 0 : -h);
    return w[2] + ring * 9.0;
}

void st_labels_place(st_box *box, const double *ax, const double *ay, int64_t n, const st_box *wall,
                     int64_t n_walls, st_box frame, double clear)
{
    labels_task t = {box, ax, ay, n, wall, n_walls, frame, clear};
    for (int64_t i = 0; i < n; i++)
        labels_candidate(&t, i, 0, &box[i]);
    for (int sweep = 0; sweep < 30; sweep++) {
        bool moved = false;
        for (int64_t k = 0; k < n; k++) {
            int64_t i = sweep % 2 ? n - 1 - k : k; /* both orders: none is always last */
            st_box best = box[i];
            double least = INFINITY;
            for (int c = 0; c < LABELS_WAYS * LABELS_RINGS; c++) {
                st_box b;
                double cost = labels_candidate(&t, i, c, &b);
                if (cost < least) cost += labels_cost(&t, i, b);
                if (cost < least) least = cost, best = b;
            }
            if (fabs(best.x - box[i].x) + fabs(best.y - box[i].y) > 1e-9) moved = true;
            box[i] = best;
        }
        if (!moved) break;
    }
}

typedef struct {
    double y;
    int64_t i;
} labels_row;

static int labels_order(const void *a, const void *b)
{
    const labels_row *p = a, *q = b;
    if (p->y != q->y) return p->y < q->y ? -1 : 1;
    return p->i < q->i ? -1 : p->i > q->i;
}

/* y'[k] >= y'[k-1] + apart is isotonic regression of y[k] - k*apart: pool adjacent violators. */
st_status st_rows_spread(double *y, int64_t n, double apart, double lo, double hi, st_err *e)
{
    if (n < 1) return ST_OK;
    labels_row *row = calloc((size_t)n, sizeof *row);
    double *sum = calloc((size_t)n, sizeof *sum);
    int64_t *count = calloc((size_t)n, sizeof *count);
    if (!row || !sum || !count) {
        free(row), free(sum), free(count);
        ST_FAIL(e, ST_ENOMEM, "plot: no memory for %lld labels", (long long)n);
    }
    if (n > 1 && apart * (double)(n - 1) > hi - lo) apart = (hi - lo) / (double)(n - 1);
    for (int64_t i = 0; i < n; i++)
        row[i] = (labels_row){y[i], i};
    qsort(row, (size_t)n, sizeof *row, labels_order);
    int64_t pools = 0;
    for (int64_t k = 0; k < n; k++) {
        sum[pools] = row[k].y - (double)k * apart;
        count[pools++] = 1;
        while (pools > 1 && sum[pools - 2] * (double)count[pools - 1] >
                                sum[pools - 1] * (double)count[pools - 2]) {
            pools--;
            sum[pools - 1] += sum[pools];
            count[pools - 1] += count[pools];
        }
    }
    double top = hi - apart * (double)(n - 1);
    for (int64_t p = 0, k = 0; p < pools; p++) {
        double at = fmax(lo, fmin(top, sum[p] / (double)count[p]));
        for (int64_t j = 0; j < count[p]; j++, k++)
            y[row[k].i] = at + (double)k * apart;
    }
    free(row), free(sum), free(count);
    return ST_OK;
}
