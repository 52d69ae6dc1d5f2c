/* One checkpoint: a model folder (weights in float32: the master copy, or with train.ema their
 * average) with two more files. state.safetensors: AdamW's moments "m.NAME" and "v.NAME" and,
 * beside an average, the weights in training "w.NAME", float32, in the parameters' shapes.
 * state.json, format 1: step, data cursor, best validation, and the settings of the run. It is
 * checked whole before anything of it is used. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "train/inner.h"
#include "weights/weights.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CKPT_FORMAT = 1, CKPT_JSON = 1 << 22 };

st_status st_ckpt_json(const char *dir, json_t **out, st_err *e)
{
    char *path = st_path_join(dir, "state.json");
    if (!path) return ST_NOMEM(e, dir);
    st_status s = st_json_load(out, path, CKPT_JSON, e);
    free(path);
    return s;
}

/* ---- moments --------------------------------------------------------------------------------- */

/* One stored tensor for each parameter and moment; the names are built into one block. */
struct ckpt_list {
    st_net *net;
    st_store_item *item;
    int64_t *offset; /* in the flat block */
    char *names;
    size_t bytes, used;
    int64_t n;
};

static void ckpt_measure(void *ctx, const st_param *p)
{
    struct ckpt_list *l = ctx;
    l->n++;
    l->bytes += strlen(p->name) + 3;
}

static void ckpt_item(struct ckpt_list *l, const st_param *p, char moment)
{
    char *name = l->names + l->used;
    l->used += (size_t)sprintf(name, "%c.%s", moment, p->name) + 1;
    st_store_item *item = &l->item[l->n];
    *item = (st_store_item){.name = name, .dtype = ST_F32, .ndim = p->w.ndim};
    for (int i = 0; i < p->w.ndim; i++)
        item->dim[i] = p->w.dim[i];
    l->offset[l->n++] = p->offset;
}

static void ckpt_items_m(void *ctx, const st_param *p)
{
    ckpt_item(ctx, p, 'm');
}

static void ckpt_items_v(void *ctx, const st_param *p)
{
    ckpt_item(ctx, p, 'v');
}

static void ckpt_items_w(void *ctx, const st_param *p)
{
    ckpt_item(ctx, p, 'w');
}

static void ckpt_list_close(struct ckpt_list *l)
{
    free(l->item);
    free(l->offset);
    free(l->names);
}

/* `weights`: those in training too. */
static st_status ckpt_list_open(struct ckpt_list *l, st_net *n, bool weights, st_err *e)
{
    *l = (struct ckpt_list){.net = n};
    st_model_params(n->model, ckpt_measure, l);
    l->item = st_calloc(3 * l->n, sizeof *l->item);
    l->offset = st_calloc(3 * l->n, sizeof *l->offset);
    l->names = st_calloc(3 * (int64_t)l->bytes, 1);
    if (!l->item || !l->offset || !l->names) {
        ckpt_list_close(l);
        return ST_NOMEM(e, "checkpoint");
    }
    l->n = 0;
    st_model_params(n->model, ckpt_items_m, l);
    st_model_params(n->model, ckpt_items_v, l);
    if (weights) st_model_params(n->model, ckpt_items_w, l);
    return ST_OK;
}

static st_tensor ckpt_moment(const struct ckpt_list *l, int64_t i)
{
    const st_store_item *item = &l->item[i];
    int64_t n = 1;
    for (int d = 0; d < item->ndim; d++)
        n *= item->dim[d];
    st_tensor w = l->net->master.data ? l->net->master : l->net->w;
    st_tensor from = item->name[0] == 'm' ? l->net->m : item->name[0] == 'v' ? l->net->v : w;
    return st_slice(from, l->offset[i], n);
}

static st_status ckpt_fill(void *ctx, int64_t i, void *data, size_t bytes, st_err *e)
{
    struct ckpt_list *l = ctx;
    (void)bytes;
    st_download(l->net->q, data, ckpt_moment(l, i));
    return st_stream_sync(l->net->q, e);
}

static void ckpt_shape(char *text, size_t n, const int64_t *dim, int ndim)
{
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < ndim && at < n; i++)
        at += (size_t)snprintf(text + at, n - at, "%s%lld", i ? "x" : "", (long long)dim[i]);
}

static st_status ckpt_check_item(const st_store_item *want, const st_stored *is, const char *path,
                                 st_err *e)
{
    char a[64], b[64];
    if (!is) ST_FAIL(e, ST_EFORMAT, "%s: %s is missing", path, want->name);
    bool same = is->ndim == want->ndim;
    for (int d = 0; same && d < want->ndim; d++)
        same = is->dim[d] == want->dim[d];
    if (!same) {
        ckpt_shape(a, sizeof a, is->dim, is->ndim);
        ckpt_shape(b, sizeof b, want->dim, want->ndim);
        ST_FAIL(e, ST_ESHAPE, "%s: %s is %s, expected %s", path, want->name, a, b);
    }
    if (strcmp(is->dtype, "F32") != 0)
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %s, expected F32", path, want->name, is->dtype);
    return ST_OK;
}

/* Reads one tensor to the device through `flat`, whose weights are there already. */
static st_status ckpt_read_moment(struct ckpt_list *l, int64_t i, const st_stored *is,
                                  const char *path, st_err *e)
{
    const st_store_item *want = &l->item[i];
    st_tensor to = ckpt_moment(l, i);
    float *x = l->net->flat;
    bool square = want->name[0] == 'v';
    int64_t n = st_numel(to), at = 0;
    ST_TRY(st_stored_read(is, st_view1(x, ST_F32, n), e));
    while (at < n && isfinite(x[at]) && (!square || x[at] >= 0.0f))
        at++;
    if (at < n) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s has %g at position %lld, expected %s", path, want->name,
                (double)x[at], (long long)at, square ? "numbers from 0 on" : "finite numbers");
    }
    st_upload(l->net->q, to, x);
    return ST_OK;
}

struct ckpt_has {
    const st_weights *file;
    bool weights;
};

static void ckpt_has_weights(void *ctx, const st_param *p)
{
    struct ckpt_has *h = ctx;
    char name[256];
    snprintf(name, sizeof name, "w.%s", p->name);
    h->weights = h->weights || st_weights_find(h->file, name);
}

/* Moments and, where the checkpoint's model is an average, the weights in training. */
static st_status ckpt_tensors(st_net *n, int64_t *averaged, const char *path, st_err *e)
{
    struct ckpt_has has = {0};
    struct ckpt_list l = {0};
    st_weights *f = NULL;
    ST_TRY(st_weights_open(&f, path, e));
    has.file = f;
    st_model_params(n->model, ckpt_has_weights, &has);
    st_status s = ckpt_list_open(&l, n, has.weights, e);
    for (int64_t i = 0; !s && i < l.n; i++)
        s = ckpt_check_item(&l.item[i], st_weights_find(f, l.item[i].name), path, e);
    if (!s && st_weights_count(f) != l.n) {
        s = ST_ERR(e, ST_EFORMAT, "%s: has %lld tensors, expected %lld", path,
                   (long long)st_weights_count(f), (long long)l.n);
    }
    st_ema_start(n); /* what was read as the model is the average */
    if (!has.weights) *averaged = 0;
    for (int64_t i = 0; !s && i < l.n; i++)
        s = ckpt_read_moment(&l, i, st_weights_find(f, l.item[i].name), path, e);
    if (!s && has.weights && n->master.data)
        st_stream_ops(n->q)->copy(n->q, &(st_copy_args){.x = n->master, .y = n->w});
    if (l.item) ckpt_list_close(&l);
    st_weights_close(f);
    return s;
}

/* ---- state ----------------------------------------------------------------------------------- */

static json_t *ckpt_number_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *ckpt_state(const st_trainer *t)
{
    const st_train_state *s = &t->state;
    json_t *j =
        json_pack("{s:i, s:s, s:I, s:I, s:I, s:{s:I, s:I}, s:o, s:o, s:o, s:I, s:f}", "format",
                  CKPT_FORMAT, "strut", ST_VERSION, "step", (json_int_t)s->step, "evaluated",
                  (json_int_t)s->evaluated, "averaged", (json_int_t)s->averaged, "data", "drawn",
                  (json_int_t)t->data.train.drawn, "tokens", (json_int_t)t->data.train.shard.n,
                  "loss", ckpt_number_or_null(s->loss), "val_loss",
                  ckpt_number_or_null(s->val_loss), "best_loss", ckpt_number_or_null(s->best_loss),
                  "best_step", (json_int_t)s->best_step, "seconds", s->seconds);
    json_t *stop = json_pack("{s:o, s:I, s:f, s:I, s:b}", "best", ckpt_number_or_null(s->stop_best),
                             "wait", (json_int_t)s->stop_wait, "loss_sum", s->loss_sum,
                             "loss_steps", (json_int_t)s->loss_steps, "stopped", (int)s->stopped);
    if (j && stop) {
        json_object_set(j, "stop", stop);
        json_object_set_new(j, "top", st_rank_json(s));
        json_object_set_new(
            j, "epoch",
            json_pack("{s:f, s:f}", "began", s->epoch_began, "seconds", s->epoch_seconds));
        json_object_set_new(j, "settings", st_settings_json(t->set));
    }
    json_decref(stop);
    return j;
}

/* What early stopping and the list of the best know; an older checkpoint has neither. */
static st_status ckpt_read_stop(st_train_state *s, const json_t *j, const char *what, st_err *e)
{
    const json_t *stop = json_object_get(j, "stop");
    if (stop && !json_is_object(stop)) ST_FAIL(e, ST_EFORMAT, "%s: stop: expected an object", what);
    ST_TRY(st_json_num(stop, "best", -1e300, 1e300, &s->stop_best, what, e));
    ST_TRY(st_json_int(stop, "wait", 0, INT64_MAX / 4, &s->stop_wait, what, e));
    ST_TRY(st_json_num(stop, "loss_sum", -1e300, 1e300, &s->loss_sum, what, e));
    ST_TRY(st_json_int(stop, "loss_steps", 0, INT64_MAX / 4, &s->loss_steps, what, e));
    ST_TRY(st_json_flag(stop, "stopped", &s->stopped, what, e));
    const json_t *epoch = json_object_get(j, "epoch");
    if (epoch && !json_is_object(epoch))
        ST_FAIL(e, ST_EFORMAT, "%s: epoch: expected an object", what);
    ST_TRY(st_json_num(epoch, "began", 0, 1e300, &s->epoch_began, what, e));
    ST_TRY(st_json_num(epoch, "seconds", 0, 1e300, &s->epoch_seconds, what, e));
    return st_rank_read(s, json_object_get(j, "top"), what, e);
}

static st_status ckpt_read_state(st_trainer *t, const json_t *j, const char *what, st_err *e)
{
    const int64_t big = INT64_MAX / 4;
    st_train_state s = t->state;
    const json_t *data = json_object_get(j, "data");
    int64_t format = 0, tokens = t->data.train.shard.n, drawn = 0;
    if (!json_is_object(j) || !json_is_object(data) ||
        !json_is_integer(json_object_get(j, "step")) ||
        !json_is_integer(json_object_get(data, "drawn")))
        ST_FAIL(e, ST_EFORMAT, "%s: expected an object with step and data.drawn", what);
    ST_TRY(st_json_int(j, "format", 1, INT32_MAX, &format, what, e));
    if (format != CKPT_FORMAT) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: format is %lld, expected %d; a newer strut wrote it", what,
                (long long)format, CKPT_FORMAT);
    }
    ST_TRY(st_json_int(j, "step", 0, big, &s.step, what, e));
    ST_TRY(st_json_int(j, "evaluated", -1, s.step, &s.evaluated, what, e));
    ST_TRY(st_json_int(j, "averaged", 0, s.step, &s.averaged, what, e));
    ST_TRY(st_json_int(j, "best_step", -1, s.step, &s.best_step, what, e));
    ST_TRY(st_json_int(data, "drawn", 0, big, &drawn, what, e));
    ST_TRY(st_json_int(data, "tokens", 1, big, &tokens, what, e));
    ST_TRY(st_json_num(j, "loss", -1e300, 1e300, &s.loss, what, e));
    ST_TRY(st_json_num(j, "val_loss", -1e300, 1e300, &s.val_loss, what, e));
    ST_TRY(st_json_num(j, "best_loss", -1e300, 1e300, &s.best_loss, what, e));
    ST_TRY(st_json_num(j, "seconds", 0, 1e300, &s.seconds, what, e));
    ST_TRY(ckpt_read_stop(&s, j, what, e));
    if (tokens != t->data.train.shard.n && strcmp(t->set->ckpt.resume, "auto") == 0) {
        ST_FAIL(e, ST_EARG,
                "%s: the run began on a training shard of %lld tokens, this one has %lld; "
                "ckpt.resume=yes goes on with it",
                what, (long long)tokens, (long long)t->data.train.shard.n);
    }
    t->state = s;
    t->data.train.drawn = drawn;
    if (strcmp(t->set->ckpt.resume, "auto") != 0 && s.stopped) st_stop_again(&t->state);
    return ST_OK;
}

st_status st_ckpt_load(st_trainer *t, st_err *e)
{
    json_t *j = NULL;
    char *state = st_path_join(t->disk.resume, "state.json");
    char *tensors = st_path_join(t->disk.resume, "state.safetensors");
    st_status s = ST_OK;
    if (!state || !tensors) s = ST_NOMEM(e, t->disk.resume);
    if (!s) s = st_ckpt_json(t->disk.resume, &j, e);
    if (!s) s = ckpt_read_state(t, j, state, e);
    if (!s) s = ckpt_tensors(&t->net, &t->state.averaged, tensors, e); /* says more, if it can */
    if (!s) s = st_ckpt_sums_check(t->disk.resume, json_object_get(j, "crc32"), e);
    if (!s) s = st_stream_sync(t->net.q, e);
    if (!s) {
        t->disk.saved = t->state.step;
        t->disk.saved_evaluated = t->state.evaluated;
        t->watch.logged_tokens = st_epoch_tokens(&t->data, t->state.step);
        t->watch.logged_seconds = t->state.seconds;
        st_log(ST_LOG_INFO, "going on from %s, step %lld", t->disk.resume,
               (long long)t->state.step);
    }
    json_decref(j);
    free(state);
    free(tensors);
    return s;
}

/* ---- writing --------------------------------------------------------------------------------- */

st_status st_ckpt_write(st_trainer *t, const char *dir, st_err *e)
{
    struct ckpt_list l;
    char *moments = st_path_join(dir, "state.safetensors"), *path = st_path_join(dir, "state.json");
    json_t *state = ckpt_state(t);
    st_status s = moments && path && state ? ckpt_list_open(&l, &t->net, t->net.ema.data != NULL, e)
                                           : ST_NOMEM(e, dir);
    if (!s) {
        s = st_folder_write(dir, t->net.model, t->net.flat, ST_F32, t->disk.tokenizer, e);
        if (!s) s = st_safetensors_write(moments, l.item, l.n, NULL, ckpt_fill, &l, e);
        json_t *sums = NULL;
        if (!s) s = st_ckpt_sums(dir, &sums, e);
        if (!s) json_object_set_new(state, "crc32", sums);
        if (!s) s = st_write_json(path, state, e);
        ckpt_list_close(&l);
    }
    json_decref(state);
    free(moments);
    free(path);
    return s;
}
