/* The loss on text that is not trained on: validations during a run, and the test at its end. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>

/* Mean loss over `total` windows of a shard: spread evenly, or the next ones that it draws. */
static st_status validate_loss(st_trainer *t, st_batch *b, int64_t total, double *loss, st_err *e)
{
    bool draw = b->order == ST_ORDER_RANDOM;
    double sum = 0;
    st_status s = ST_OK;
    st_ema_bind(&t->net, true);
    for (int64_t first = 0; !s && first < total; first += t->data.rows) {
        if (st_interrupted()) {
            s = ST_EINTR;
            break;
        }
        if (draw)
            st_batch_next(b, t->data.rows, t->micro.host_ids, t->micro.host_targets);
        else
            st_batch_spread(b, first, t->data.rows, total, t->micro.host_ids,
                            t->micro.host_targets);
        st_lm_args a = st_micro_upload(&t->micro, t->net.q, t->data.rows);
        st_model_forward(t->net.model, t->net.q, &a, &t->net.scratch);
        sum += st_micro_sum(&t->micro, t->net.q, t->micro.loss, t->data.rows);
    }
    st_ema_bind(&t->net, false);
    if (s) return s;
    ST_TRY(st_stream_sync(t->net.q, e));
    *loss = sum / (double)(total * t->data.context);
    return ST_OK;
}

st_status st_validate(st_trainer *t, st_err *e)
{
    bool draw = t->data.val.order == ST_ORDER_RANDOM;
    int64_t total = st_batch_windows(&t->data.val), want = t->set->eval.batches;
    if (want > 0 && (draw || want <= total / t->data.rows)) total = want * t->data.rows;
    /* What is drawn depends on the step alone. */
    t->data.val.drawn = (int64_t)((uint64_t)t->state.step * (uint64_t)total & (UINT64_MAX >> 8));
    ST_TRY(validate_loss(t, &t->data.val, total, &t->state.val_loss, e));
    t->state.evaluated = t->state.step;
    if (!isfinite(t->state.val_loss)) {
        ST_FAIL(e, ST_EARG,
                "step %lld: the validation loss is %g, expected a finite number; try a "
                "lower train.lr",
                (long long)t->state.step, t->state.val_loss);
    }
    st_log(ST_LOG_INFO, "step %lld: validation loss %.4f, perplexity %.2f",
           (long long)t->state.step, t->state.val_loss, exp(t->state.val_loss));
    st_metric row = {
        .step = t->state.step, .seconds = t->state.seconds, .val_loss = t->state.val_loss};
    ST_TRY(st_board_row(&t->watch, &row, e));
    return st_metrics_add(&t->watch.metrics, &row, e);
}

/* ---- the test -------------------------------------------------------------------------------- */

/* The weights of OUT/ckpt/best on the device; those that were trained are on disk by now. */
static st_status test_best(st_net *n, const char *dir, st_err *e)
{
    st_model *m = NULL;
    st_bpe *none = NULL;
    float *flat = NULL;
    st_status s = st_folder_read(dir, &m, &flat, &none, e);
    if (!s && st_model_elements(m) != n->elements)
        s = ST_ERR(e, ST_ESHAPE, "%s: holds another model", dir);
    if (!s && n->ema.data) {
        st_upload(n->q, n->ema, flat);
    } else if (!s && n->master.data) {
        st_upload(n->q, n->master, flat);
        st_stream_ops(n->q)->copy(n->q, &(st_copy_args){.x = n->master, .y = n->w});
    } else if (!s) {
        st_upload(n->q, n->w, flat);
    }
    st_bpe_close(none);
    st_model_close(m);
    free(flat);
    return s;
}

st_status st_train_test(st_trainer *t, json_t **result, st_err *e)
{
    int64_t step = t->state.step, total = st_batch_windows(&t->data.test);
    bool best = t->disk.out && t->set->ckpt.best && t->state.best_step >= 0;
    double loss = 0;
    *result = NULL;
    if (best) {
        char *dir = st_ckpt_path(t->disk.out, "best");
        st_status s = dir ? test_best(&t->net, dir, e) : ST_NOMEM(e, "test");
        free(dir);
        if (s) return s;
        step = t->state.best_step;
    }
    ST_TRY(validate_loss(t, &t->data.test, total, &loss, e));
    st_log(ST_LOG_INFO, "test loss %.4f, perplexity %.2f (weights of step %lld)", loss, exp(loss),
           (long long)step);
    ST_TRY(st_board_test(&t->watch, t->state.step, loss, e));
    *result = json_pack("{s:f, s:f, s:I, s:I, s:s}", "loss", loss, "perplexity",
                        fmin(exp(loss), 1e300), "tokens", (json_int_t)(total * t->data.context),
                        "step", (json_int_t)step, "weights", best ? "best" : "last");
    if (!*result) return ST_NOMEM(e, "test");
    return ST_OK;
}
