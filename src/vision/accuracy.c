/* Accuracy on pictures with labels: ImageNet's validation set, or whatever is laid out like it. */
/* SPDX-License-Identifier: MIT */
#include "hub/hub.h"
#include "vision/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVAL_SEEDS = 1000, EVAL_SAY = 20, EVAL_PIECE = 1 << 18, EVAL_TOP = 5 };

typedef struct {
    st_classifier c;
    const st_classify_opts *o;
    st_truth truth;
    st_class_rows rows;
    st_class_tally *tally; /* of each seed */
    st_class_row *row;     /* of each picture of a batch and each seed */
    st_err *bad;           /* of each picture of a batch */
    int64_t *at;         /* of each picture of a batch: where it is in the network's; -1: broken */
    int64_t *image;      /* and which it is */
    int64_t seeds, seed; /* how many; the first */
    int64_t limit;       /* pictures from here on are not asked for */
    int64_t next, stop;  /* the loader's next picture, and its end */
    int64_t total, done, resumed; /* pictures that there will be rows of, and are, and were */
    double start, shown;
} eval_job;

/* ---- settings -------------------------------------------------------------------------------- */

/* The first 16 digits of SHA-256 of the weights as they are computed with. */
static st_status eval_fingerprint(const st_loaded *l, char out[17], st_err *e)
{
    int64_t n = st_numel(l->flat);
    size_t item = st_dtype_size(l->flat.dtype);
    char hex[65], *piece = malloc(EVAL_PIECE * item);
    st_digest *d = NULL;
    st_status s = piece ? st_digest_open(&d, "sha256", e) : ST_NOMEM(e, NULL);
    for (int64_t i = 0; !s && i < n; i += EVAL_PIECE) {
        int64_t k = n - i < EVAL_PIECE ? n - i : EVAL_PIECE;
        char *from = (char *)l->flat.data + (size_t)i * item;
        st_download(l->stream, piece, st_view1(from, l->flat.dtype, k));
        s = st_digest_add(d, piece, (size_t)k * item, e);
    }
    if (!s) s = st_digest_end(d, hex, e);
    if (s) st_digest_close(d);
    free(piece);
    if (!s) snprintf(out, 17, "%.16s", hex);
    return s;
}

/* What rows of a file must have in common. */
static st_status eval_settings(const eval_job *j, const char *data, json_t **out, st_err *e)
{
    char weights[17], *folder = strdup(data);
    size_t n = folder ? strlen(folder) : 0;
    while (n > 1 && folder[n - 1] == '/') /* "val/" is "val" */
        folder[--n] = '\0';
    st_status s = eval_fingerprint(&j->c.l, weights, e);
    *out = s || !folder
               ? NULL
               : json_pack("{s:s, s:s, s:o, s:I, s:s, s:o, s:s, s:I, s:I, s:s}", "dtype",
                           st_dtype_name(j->o->dtype), "weights", weights, "data",
                           st_json_text(folder), "images", (json_int_t)j->truth.n, "labels",
                           j->truth.rule, "transform", st_classifier_transform(&j->c, j->o),
                           "attention", j->c.attention, "seeds", (json_int_t)j->seeds, "max_pixels",
                           (json_int_t)j->o->max_pixels, "format", "strut classify 1");
    free(folder);
    if (s || *out) return s;
    return ST_NOMEM(e, NULL);
}

static st_status eval_seeds(eval_job *j, st_err *e)
{
    j->seeds = j->o->seeds ? j->o->seeds : 1;
    j->seed = st_classifier_seed_of(&j->c);
    if (j->seeds < 1 || j->seeds > EVAL_SEEDS) {
        ST_FAIL(e, ST_EARG, "%lld seeds, expected 1 to %d", (long long)j->seeds, EVAL_SEEDS);
    }
    if (j->seeds == 1 || j->seed >= 0) return ST_OK;
    ST_FAIL(e, ST_EARG, "attention %s has nothing random: more than one seed makes no sense",
            j->c.attention);
}

/* Had the file its rows? */
static bool eval_has(const eval_job *j, int64_t image)
{
    return j->rows.have && j->rows.have[image];
}

static st_status eval_open(eval_job *j, const char *model, const char *data, st_err *e)
{
    json_t *settings = NULL;
    ST_TRY(st_classifier_open(&j->c, model, j->o, e));
    ST_TRY(eval_seeds(j, e));
    j->tally = st_calloc(j->seeds, sizeof *j->tally);
    j->row = st_calloc(j->seeds * j->c.batch, sizeof *j->row);
    j->bad = st_calloc(j->c.batch, sizeof *j->bad);
    j->at = st_calloc(j->c.batch, sizeof *j->at);
    j->image = st_calloc(j->c.batch, sizeof *j->image);
    if (!j->tally || !j->row || !j->bad || !j->at || !j->image) return ST_NOMEM(e, NULL);
    ST_TRY(st_truth_open(&j->truth, data, j->o->labels, &j->c.classes, e));
    j->total = j->limit = j->o->limit && j->o->limit < j->truth.n ? j->o->limit : j->truth.n;
    if (!j->o->csv) return ST_OK;
    ST_TRY(eval_settings(j, data, &settings, e));
    j->rows = (st_class_rows){.truth = &j->truth,
                              .seeds = j->seeds,
                              .seed = j->seed < 0 ? 0 : j->seed,
                              .tally = j->tally};
    st_status s = st_class_rows_open(&j->rows, j->o->csv, j->o->replace, settings, e);
    json_decref(settings);
    j->total = j->done = j->resumed = j->rows.images;
    for (int64_t i = 0; !s && i < j->limit; i++)
        j->total += !eval_has(j, i);
    return s;
}

/* ---- running --------------------------------------------------------------------------------- */

/* Row of one picture from its logits. */
static void eval_score(const eval_job *j, st_class_row *r, const float *z)
{
    double logsum;
    r->tops = j->c.v.classes < EVAL_TOP ? (int)j->c.v.classes : EVAL_TOP;
    st_top_classes(z, j->c.v.classes, r->tops, r->best, &logsum);
    r->probability = (float)exp((double)z[r->best[0]] - logsum);
    double loss = logsum - (double)z[r->label];
    r->loss = loss > 0 ? (float)loss : 0.0f;
}

/* Up to a batch of pictures; *n read, *good of them decoded. */
static st_status eval_fill(eval_job *j, st_loader *l, int64_t *n, int64_t *good, st_err *e)
{
    int64_t pixels = j->c.v.channels * j->c.v.size * j->c.v.size;
    *n = *good = 0;
    while (*n < j->c.batch && j->next < j->stop) {
        st_picture p;
        st_err *bad = &j->bad[*n];
        ST_TRY(st_loader_next(l, &p, j->c.h_pixels + *good * pixels, bad, e));
        bool missing = !p.name;
        st_picture_free(&p);
        if (missing) ST_FAIL(e, ST_EIO, "%s: pictures went away meanwhile", j->truth.path);
        if (eval_has(j, j->next++)) continue;
        j->image[*n] = j->next - 1;
        j->at[(*n)++] = bad->code ? -1 : (*good)++;
        if (!bad->code) continue;
        int64_t broken = ++j->tally[0].broken;
        if (broken <= EVAL_SAY) st_log(ST_LOG_WARN, "%s", bad->msg);
        if (broken == EVAL_SAY + 1) st_log(ST_LOG_WARN, "more broken images are not named here");
    }
    return ST_OK;
}

/* The network on the pictures, once for each seed, into j->row (picture, seed). */
static st_status eval_network(eval_job *j, int64_t n, int64_t good, st_err *e)
{
    for (int64_t k = 0; k < j->seeds; k++) {
        if (j->seeds > 1) ST_TRY(st_classifier_seed(&j->c, j->seed + k, e));
        if (good) ST_TRY(st_classifier_run(&j->c, good, e));
        for (int64_t i = 0; i < n; i++) {
            st_class_row *r = &j->row[i * j->seeds + k];
            *r = (st_class_row){.label = j->truth.label[j->image[i]],
                                .seed = j->seed < 0 ? 0 : j->seed + k,
                                .error = j->at[i] < 0 ? j->bad[i].msg : NULL};
            if (!r->error) eval_score(j, r, j->c.h_logits + j->at[i] * j->c.v.classes);
            if (!r->error || k) st_class_count(&j->tally[k], r); /* eval_fill has counted those */
        }
    }
    return ST_OK;
}

static void eval_report(const eval_job *j)
{
    char detail[80];
    const st_class_tally *t = &j->tally[0];
    double n = t->images ? (double)t->images : 1.0;
    snprintf(detail, sizeof detail, "top-1 %.2f %% top-5 %.2f %%", 100.0 * (double)t->right / n,
             100.0 * (double)t->right5 / n);
    st_report(&(st_progress){.what = "classify",
                             .done = j->done - j->resumed,
                             .total = j->total - j->resumed,
                             .unit = "images",
                             .detail = detail,
                             .last = j->done >= j->total});
}

static st_status eval_batches(eval_job *j, st_loader *l, st_err *e)
{
    while (j->next < j->stop) {
        int64_t n, good;
        ST_TRY(eval_fill(j, l, &n, &good, e));
        ST_TRY(eval_network(j, n, good, e));
        for (int64_t i = 0; i < n * j->seeds; i++) {
            const char *name = j->truth.name[j->image[i / j->seeds]];
            ST_TRY(st_class_rows_add(&j->rows, name, &j->row[i], e));
        }
        ST_TRY(st_class_rows_flush(&j->rows, e));
        j->done += n;
        eval_report(j);
        if (st_interrupted() && j->done < j->total) ST_FAIL(e, ST_EINTR, "interrupted");
    }
    return ST_OK;
}

/* From the first picture without rows from `from` on to where many have them, by a loader of their
 * own: those in between are read in vain. */
static void eval_stretch(eval_job *j, int64_t from)
{
    enum { PASSED = 256 };
    for (j->next = from; j->next < j->limit && eval_has(j, j->next);)
        j->next++;
    j->stop = j->next;
    for (int64_t i = j->next; i < j->limit && i - j->stop < PASSED; i++)
        if (!eval_has(j, i)) j->stop = i + 1;
}

static st_status eval_run(eval_job *j, st_err *e)
{
    const char *path = j->truth.path;
    st_status s = ST_OK;
    j->start = st_now();
    if (j->done < j->total) eval_report(j);
    for (eval_stretch(j, 0); !s && j->next < j->stop; eval_stretch(j, j->stop)) {
        st_loader *l;
        st_loader_opts lo = {.fit = j->c.fit,
                             .how = {.max_pixels = j->o->max_pixels, .exif = j->o->exif},
                             .threads = j->c.threads,
                             .slots = j->c.batch + j->c.threads,
                             .skip = j->next,
                             .limit = j->stop - j->next};
        ST_TRY(st_loader_open(&l, &path, 1, &lo, e));
        s = eval_batches(j, l, e);
        st_loader_close(l);
        for (int64_t i = j->stop; i < j->truth.n; i++)
            j->rows.astray = j->rows.astray || eval_has(j, i);
    }
    if (s == ST_EINTR && e) {
        st_err_prefix(e, "%lld of %s%s", (long long)j->done, st_counted(j->total, "images").s,
                      j->rows.f ? "; the same command goes on from here" : "");
    }
    return s ? s : st_class_rows_end(&j->rows, e);
}

/* ---- the result ------------------------------------------------------------------------------ */

/* Mean and deviation over seeds. */
static double eval_mean(const double *v, int64_t n, double *std)
{
    double mean = 0.0, square = 0.0;
    for (int64_t i = 0; i < n; i++)
        mean += v[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        square += (v[i] - mean) * (v[i] - mean);
    *std = n > 1 ? sqrt(square / (double)(n - 1)) : 0.0;
    return mean;
}

/* top1, top5, loss and, of several seeds, runs and *_std into `out`. */
static void eval_numbers(const eval_job *j, json_t *out)
{
    static const char *const key[] = {"top1", "top5", "loss"};
    static const char *const spread[] = {"top1_std", "top5_std", "loss_std"};
    double v[3][EVAL_SEEDS];
    json_t *runs = json_array();
    double n = j->tally[0].images ? (double)j->tally[0].images : 1.0;
    for (int64_t k = 0; k < j->seeds; k++) {
        const st_class_tally *t = &j->tally[k];
        v[0][k] = (double)t->right / n;
        v[1][k] = (double)t->right5 / n;
        v[2][k] = t->loss / n;
        json_array_append_new(runs,
                              json_pack("{s:I, s:f, s:f, s:f}", "seed", (json_int_t)(j->seed + k),
                                        "top1", v[0][k], "top5", v[1][k], "loss", v[2][k]));
    }
    for (int i = 0; i < 3; i++) {
        double std, mean = eval_mean(v[i], j->seeds, &std);
        json_object_set_new(out, key[i], json_real(mean));
        if (j->seeds > 1) json_object_set_new(out, spread[i], json_real(std));
    }
    if (j->seeds > 1) json_object_set(out, "runs", runs);
    json_decref(runs);
}

static st_status eval_result(const eval_job *j, const char *model, const char *data,
                             json_t **result, st_err *e)
{
    const st_class_tally *t = &j->tally[0];
    double seconds = st_now() - j->start;
    double n = (double)(j->done - j->resumed) * (double)j->seeds;
    *result = json_pack("{s:o, s:o, s:s}", "model", st_json_text(model), "data", st_json_text(data),
                        "attention", j->c.attention);
    if (!*result) return ST_NOMEM(e, NULL);
    eval_numbers(j, *result);
    double p = json_number_value(json_object_get(*result, "top1"));
    json_t *rest =
        json_pack("{s:f, s:I, s:I, s:I, s:s, s:o, s:s, s:s, s:I, s:I, s:f, s:f}", "top1_stderr",
                  t->images > 1 ? sqrt(p * (1.0 - p) / (double)(t->images - 1)) : 0.0, "images",
                  (json_int_t)t->images, "broken", (json_int_t)t->broken, "classes",
                  (json_int_t)j->truth.folders, "labels", j->truth.rule, "transform",
                  st_classifier_transform(&j->c, j->o), "dtype", st_dtype_name(j->o->dtype),
                  "device", st_stream_device(j->c.l.stream), "seeds", (json_int_t)j->seeds,
                  "resumed", (json_int_t)j->resumed, "seconds", seconds, "images_per_second",
                  n / (seconds > 1e-9 ? seconds : 1e-9));
    bool bad = !rest || json_object_update(*result, rest);
    json_decref(rest);
    if (!bad) return ST_OK;
    json_decref(*result);
    *result = NULL;
    return ST_NOMEM(e, NULL);
}

st_status st_classify_eval(const char *model, const char *data, const st_classify_opts *o,
                           json_t **result, st_err *e)
{
    eval_job j = {.o = o};
    st_status s = eval_open(&j, model, data, e);
    if (!s) s = eval_run(&j, e);
    if (!s && j.tally[0].images == 0) {
        s = ST_ERR(e, ST_EFORMAT, "%s: of %s none can be read", data,
                   st_counted(j.total, "images").s);
    }
    if (!s) s = eval_result(&j, model, data, result, e);
    st_class_rows_close(&j.rows);
    st_truth_close(&j.truth);
    st_classifier_close(&j.c);
    free(j.tally);
    free(j.row);
    free(j.bad);
    free(j.at);
    free(j.image);
    return s;
}
