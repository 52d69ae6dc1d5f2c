/* What a run writes of itself before its first step: the settings as they were given and as they
 * were composed; and the files of what is watched are opened. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t record_rows(int64_t steps, int64_t every)
{
    return every > 0 ? steps / every + 3 : 0;
}

/* The settings as they were given, with what followed from them as remarks. */
static char *record_yaml(const st_trainer *t)
{
    char *yaml = st_settings_yaml(t->set), *text = NULL;
    json_t *where = st_json_text(t->disk.out); /* a comment ends with its line */
    char *out = where ? strdup(json_string_value(where)) : NULL;
    for (char *p = out; p && *p; p++)
        if ((unsigned char)*p < 0x20) *p = '?';
    int n = !yaml || !out
                ? -1
                : asprintf(&text,
                           "# `strut train %s/config.yaml` goes on with this run. The null below "
                           "stand for:\n#   train.context %lld, train.tokens_per_step %lld, "
                           "train.min_lr %g, train.decay_steps %lld, train.steps %lld (%lld an "
                           "epoch);\n#   model.*: see ckpt/last/config.json\n%s",
                           out, (long long)t->data.context,
                           (long long)(t->data.rows * t->data.context * t->data.accumulate),
                           t->pace.min_lr, (long long)t->pace.decay_steps, (long long)t->pace.steps,
                           (long long)t->data.per_epoch, yaml);
    json_decref(where);
    free(out);
    free(yaml);
    return n < 0 ? NULL : text;
}

/* What the run was composed of, where Hydra's users look for it. */
static st_status record_hydra(const st_disk *disk, st_err *e)
{
    if (!disk->how) return ST_OK;
    char *dir = st_path_join(disk->out, ".hydra"), *text = NULL, *words = NULL;
    char *config = dir ? st_path_join(dir, "config.yaml") : NULL;
    char *overrides = dir ? st_path_join(dir, "overrides.yaml") : NULL;
    size_t size = 0;
    FILE *f = open_memstream(&words, &size);
    for (int i = 0; f && i < disk->how->n; i++) {
        json_t *word = st_json_text(disk->how->override[i]);
        fputs("- ", f);
        json_dumpf(word, f, JSON_ENCODE_ANY); /* YAML reads JSON strings */
        fputc('\n', f);
        json_decref(word);
    }
    bool told = f && fclose(f) == 0;
    st_status s = config && overrides && told ? st_make_dirs(dir, e) : ST_NOMEM(e, ".hydra");
    if (!s && !(text = st_config_text(disk->how, false, e))) s = ST_EFORMAT;
    if (!s) s = st_write_file(config, text, strlen(text), e);
    if (!s) s = st_write_file(overrides, words, strlen(words), e);
    free(words);
    free(text);
    free(overrides);
    free(config);
    free(dir);
    return s;
}

st_status st_record_open(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    st_status s = ST_OK;
    if (t->disk.out) {
        ST_TRY(st_make_dirs(t->disk.out, e));
        char *yaml = record_yaml(t), *path = st_path_join(t->disk.out, "config.yaml");
        s = yaml && path ? st_write_file(path, yaml, strlen(yaml), e) : ST_NOMEM(e, "config.yaml");
        free(yaml);
        free(path);
        if (!s) s = record_hydra(&t->disk, e);
    }
    st_watch *w = &t->watch;
    w->metrics.name = w->monitor.name;
    w->metrics.names = w->monitor.names;
    if (!s) {
        s = st_metrics_open(&w->metrics, t->disk.out, t->lesson.teach.teacher != NULL,
                            t->state.step, t->state.evaluated,
                            record_rows(t->pace.steps, set->log.every),
                            record_rows(t->pace.steps, set->eval.every), e);
    }
    if (!s) s = st_norms_open(w, set, t->state.step, e);
    /* Rows later than the checkpoint that the run goes on from are cut from metrics.jsonl; in
     * TensorBoard's file a mark says that they no longer count. */
    bool resumed = t->disk.resume != NULL;
    bool over = resumed && (t->state.stopped || t->state.step >= t->pace.steps); /* nothing comes */
    if (!s && !over) s = st_board_open(w, set, resumed ? t->state.step + 1 : 0, e);
    return s;
}
