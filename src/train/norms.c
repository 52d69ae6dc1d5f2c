/* OUT/norms.jsonl: every log.norms steps the largest and the mean magnitude of each parameter and
 * of its gradient (before clipping), as fly's norm monitor names them: stats/NAME_max,
 * stats/NAME_mean, stats/NAME_grad_max, stats/NAME_grad_mean, total_param_l1_norm,
 * total_grad_l1_norm */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Length of the rows that are not later than `step`. */
static long norms_prefix(FILE *f, int64_t step)
{
    static const char head[] = "{\"step\": ";
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    long good = 0;
    while ((n = getline(&line, &cap, f)) > 0 && line[n - 1] == '\n') {
        if (strncmp(line, head, sizeof head - 1) != 0) break;
        if (strtoll(line + sizeof head - 1, NULL, 10) > step) break;
        good += (long)n;
    }
    free(line);
    return good;
}

st_status st_norms_open(st_trainer *t, st_err *e)
{
    if (!t->out) return ST_OK;
    char *path = st_path_join(t->out, "norms.jsonl");
    st_status s = ST_OK;
    if (!path) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", t->out);
    /* One that a run has left is cut even if no more is written. */
    if (t->set->log.norms > 0 || st_path_exists(path)) {
        t->norms = fopen(path, "a+e");
        bool good = t->norms && fseek(t->norms, 0, SEEK_SET) == 0;
        long end = good ? norms_prefix(t->norms, t->state.step) : 0;
        good = good && fseek(t->norms, 0, SEEK_END) == 0 && ftruncate(fileno(t->norms), end) == 0;
        if (!good) s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
    }
    free(path);
    return s;
}

void st_norms_close(st_trainer *t)
{
    if (t->norms) fclose(t->norms);
    t->norms = NULL;
}

struct norms_walk {
    st_trainer *t;
    double w, g; /* sums of magnitudes */
    st_status status;
    st_err *e;
};

static void norms_of(struct norms_walk *k, st_tensor x, double *most, double *sum)
{
    float *at = k->t->flat; /* where weights are staged; nothing is in it during a step */
    int64_t n = st_numel(x);
    st_download(k->t->q, at, x);
    *most = *sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = fabs((double)at[i]);
        *most = a > *most ? a : *most;
        *sum += a;
    }
}

static void norms_put(struct norms_walk *k, const char *name, const char *what, double x)
{
    char tag[224];
    snprintf(tag, sizeof tag, "stats/%.180s_%s", name, what);
    fprintf(k->t->norms, ", \"%s\": %.6g", tag, x);
    if (k->t->board && !k->status) k->status = st_events_scalar(k->t->board, tag, x, k->e);
}

static void norms_param(void *ctx, const st_param *p)
{
    struct norms_walk *k = ctx;
    st_trainer *t = k->t;
    int64_t n = st_numel(p->w);
    double most, sum;
    norms_of(k, st_slice(t->master.data ? t->master : t->w, p->offset, n), &most, &sum);
    norms_put(k, p->name, "max", most);
    norms_put(k, p->name, "mean", sum / (double)n);
    k->w += sum;
    if (st_groups_frozen(t, p)) return;
    norms_of(k, st_slice(t->grad, p->offset, n), &most, &sum);
    norms_put(k, p->name, "grad_max", most);
    norms_put(k, p->name, "grad_mean", sum / (double)n);
    k->g += sum;
}

st_status st_norms_row(st_trainer *t, st_err *e)
{
    int64_t step = t->state.step + 1, every = t->set->log.norms;
    struct norms_walk k = {.t = t, .e = e};
    if (!t->norms || every == 0 || (step % every != 0 && step != 1)) return ST_OK;
    if (t->board) st_events_step(t->board, step);
    fprintf(t->norms, "{\"step\": %lld", (long long)step);
    st_model_params(t->model, norms_param, &k);
    fprintf(t->norms, ", \"total_param_l1_norm\": %.6g, \"total_grad_l1_norm\": %.6g}\n", k.w, k.g);
    if (t->board && !k.status) k.status = st_events_scalar(t->board, "total_param_l1_norm", k.w, e);
    if (t->board && !k.status) k.status = st_events_scalar(t->board, "total_grad_l1_norm", k.g, e);
    if (t->board && !k.status) k.status = st_events_end(t->board, e);
    if (k.status) return k.status;
    if (fflush(t->norms) || ferror(t->norms))
        ST_FAIL(e, ST_EIO, "%s/norms.jsonl: cannot be written: %s; make room and run again", t->out,
                strerror(errno));
    return st_stream_sync(t->q, e);
}
