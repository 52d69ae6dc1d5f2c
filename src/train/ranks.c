/* The ckpt.top_k checkpoints of the lowest validation losses, OUT/ckpt/top-N, and the list of all
 * checkpoints, OUT/checkpoints.json. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool st_rank_enter(const st_settings *set, st_train_state *s)
{
    int64_t most = set->ckpt.top_k, at = s->ranked;
    if (most == 0) return false;
    while (at > 0 && s->rank[at - 1].loss > s->val_loss)
        at--;
    if (s->ranked > most) s->ranked = most; /* a resumed run may keep fewer */
    if (at >= most) return false;
    if (s->ranked < most) s->ranked++;
    memmove(&s->rank[at + 1], &s->rank[at], (size_t)(s->ranked - at - 1) * sizeof s->rank[0]);
    s->rank[at] = (st_rank){s->step, s->val_loss};
    return true;
}

bool st_rank_has(const st_train_state *s, int64_t step)
{
    bool has = false;
    for (int64_t i = 0; i < s->ranked; i++)
        has = has || s->rank[i].step == step;
    return has;
}

json_t *st_rank_json(const st_train_state *s)
{
    json_t *list = json_array();
    for (int64_t i = 0; list && i < s->ranked; i++) {
        json_array_append_new(list, json_pack("{s:I, s:f}", "step", (json_int_t)s->rank[i].step,
                                              "val_loss", s->rank[i].loss));
    }
    return list;
}

st_status st_rank_read(st_train_state *s, const json_t *list, const char *what, st_err *e)
{
    size_t i;
    const json_t *row;
    s->ranked = 0;
    if (list && (!json_is_array(list) || json_array_size(list) > ST_RANKS))
        ST_FAIL(e, ST_EFORMAT, "%s: top: expected a list of at most %d", what, ST_RANKS);
    json_array_foreach(list, i, row)
    {
        st_rank r = {-1, (double)NAN};
        ST_TRY(st_json_int(row, "step", 0, s->step, &r.step, what, e));
        ST_TRY(st_json_num(row, "val_loss", -1e300, 1e300, &r.loss, what, e));
        if (r.step < 0 || isnan(r.loss))
            ST_FAIL(e, ST_EFORMAT, "%s: top[%zu]: expected step and val_loss", what, i);
        s->rank[s->ranked++] = r;
    }
    return ST_OK;
}

/* ---- the list -------------------------------------------------------------------------------- */

static int rank_by_step(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Steps of the checkpoints KIND-N, sorted. */
static json_t *rank_steps(const char *dir, const char *kind)
{
    json_t *list = json_array();
    int64_t *step = NULL, n = 0, cap = 0;
    DIR *d = opendir(dir);
    for (struct dirent *item; d && (item = readdir(d));) {
        int64_t at = st_ckpt_number(item->d_name, kind);
        if (at < 0) continue;
        if (n == cap) {
            int64_t *more = realloc(step, (size_t)(cap = 2 * cap + 16) * sizeof *step);
            if (!more) break;
            step = more;
        }
        step[n++] = at;
    }
    if (d) closedir(d);
    if (n) qsort(step, (size_t)n, sizeof *step, rank_by_step);
    for (int64_t i = 0; list && i < n; i++)
        json_array_append_new(list, json_integer(step[i]));
    free(step);
    return list;
}

st_status st_rank_write(const st_settings *set, const st_train_state *s, st_err *e)
{
    char *dir = st_ckpt_path(set->out, "."), *path = st_path_join(set->out, "checkpoints.json");
    json_t *best =
        s->best_step < 0 || !set->ckpt.best
            ? json_null()
            : json_pack("{s:I, s:f}", "step", (json_int_t)s->best_step, "val_loss", s->best_loss);
    json_t *all = !dir || !path
                      ? NULL
                      : json_pack("{s:i, s:I, s:o, s:o, s:o, s:o}", "format", 1, "last",
                                  (json_int_t)s->step, "best", best, "top", st_rank_json(s), "step",
                                  rank_steps(dir, "step"), "progress", rank_steps(dir, "progress"));
    st_status status = all ? st_write_json(path, all, e) : ST_NOMEM(e, set->out);
    json_decref(all);
    free(dir);
    free(path);
    return status;
}
