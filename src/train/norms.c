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

st_status st_norms_open(st_watch *w, const st_settings *set, int64_t step, st_err *e)
{
    if (!set->out) return ST_OK;
    char *path = st_path_join(set->out, "norms.jsonl");
    st_status s = ST_OK;
    if (!path) return ST_NOMEM(e, set->out);
    /* One that a run has left is cut even if no more is written. */
    if (set->log.norms > 0 || st_path_exists(path)) {
        w->norms = fopen(path, "a+e");
        bool good = w->norms && fseek(w->norms, 0, SEEK_SET) == 0;
        long end = good ? norms_prefix(w->norms, step) : 0;
        good = good && fseek(w->norms, 0, SEEK_END) == 0 && ftruncate(fileno(w->norms), end) == 0;
        if (!good) s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
    }
    free(path);
    return s;
}

void st_norms_close(st_watch *w)
{
    if (w->norms) fclose(w->norms);
    w->norms = NULL;
}

struct norms_walk {
    st_watch *watch;
    st_net *net;
    double w, g; /* sums of magnitudes */
    st_status status;
    st_err *e;
};

static void norms_of(struct norms_walk *k, st_tensor x, double *most, double *sum)
{
    float *at = k->net->flat; /* where weights are staged; nothing is in it during a step */
    int64_t n = st_numel(x);
    st_download(k->net->q, at, x);
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
    fprintf(k->watch->norms, ", \"%s\": %.6g", tag, x);
    if (k->watch->board && !k->status) k->status = st_events_scalar(k->watch->board, tag, x, k->e);
}

static void norms_param(void *ctx, const st_param *p)
{
    struct norms_walk *k = ctx;
    st_net *net = k->net;
    int64_t n = st_numel(p->w);
    double most, sum;
    norms_of(k, st_slice(net->master.data ? net->master : net->w, p->offset, n), &most, &sum);
    norms_put(k, p->name, "max", most);
    norms_put(k, p->name, "mean", sum / (double)n);
    k->w += sum;
    if (st_groups_frozen(net, p)) return;
    norms_of(k, st_slice(net->grad, p->offset, n), &most, &sum);
    norms_put(k, p->name, "grad_max", most);
    norms_put(k, p->name, "grad_mean", sum / (double)n);
    k->g += sum;
}

st_status st_norms_row(st_watch *w, const st_settings *set, st_net *n, int64_t step, st_err *e)
{
    int64_t every = set->log.norms;
    struct norms_walk k = {.watch = w, .net = n, .e = e};
    if (!w->norms || every == 0 || (step % every != 0 && step != 1)) return ST_OK;
    if (w->board) st_events_step(w->board, step);
    fprintf(w->norms, "{\"step\": %lld", (long long)step);
    st_model_params(n->model, norms_param, &k);
    fprintf(w->norms, ", \"total_param_l1_norm\": %.6g, \"total_grad_l1_norm\": %.6g}\n", k.w, k.g);
    if (w->board && !k.status) k.status = st_events_scalar(w->board, "total_param_l1_norm", k.w, e);
    if (w->board && !k.status) k.status = st_events_scalar(w->board, "total_grad_l1_norm", k.g, e);
    if (w->board && !k.status) k.status = st_events_end(w->board, e);
    if (k.status) return k.status;
    if (fflush(w->norms) || ferror(w->norms))
        ST_FAIL(e, ST_EIO, "%s/norms.jsonl: cannot be written: %s; make room and run again",
                set->out, strerror(errno));
    return st_stream_sync(n->q, e);
}
