/* bench model experiment=GROUP: the models of a group of experiments, as training them would make
 * them. */
/* SPDX-License-Identifier: MIT */
#include "bench/model.h"
#include "files/files.h"
#include "store/store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char experiment_key[] = "experiment=";

bool model_is_override(const char *word)
{
    return strchr(word, '=') && !st_path_exists(word);
}

const char *model_experiment_name(const st_bench_model_opts *o)
{
    const size_t n = sizeof experiment_key - 1;
    for (int i = 0; i < o->nmodels; i++) {
        if (strncmp(o->models[i], experiment_key, n) == 0) return o->models[i] + n;
    }
    return NULL;
}

/* Adds the model of experiment `name` with the other overrides of the command line. */
static st_status experiment_add(model_bench *b, const st_config_how *search, const char *name,
                                const char *label, st_err *e)
{
    char first[256];
    st_settings set;
    json_t *config = NULL;
    st_config_how how = *search;
    const char **word = st_calloc(b->o->nmodels + 1, sizeof *word);
    if (!word) return ST_NOMEM(e, NULL);
    snprintf(first, sizeof first, "%s%s", experiment_key, name);
    word[how.n++] = first;
    for (int i = 0; i < b->o->nmodels; i++) {
        const char *w = b->o->models[i];
        bool experiment = strncmp(w, experiment_key, sizeof experiment_key - 1) == 0;
        if (model_is_override(w) && !experiment) word[how.n++] = w;
    }
    how.override = word;
    st_status s = st_settings_compose(&set, &how, NULL, e);
    free(word);
    if (s) return s;
    s = st_settings_model(&set, NULL, &config, e);
    st_settings_close(&set);
    if (!s && b->n == 0 && json_object_get(config, "strut")) {
        json_t *plain = json_deep_copy(config);
        json_object_del(plain, "strut");
        s = model_add(b, plain, "dense", "none", e);
    }
    if (s) {
        json_decref(config);
        return s;
    }
    return model_add(b, config, label, "none", e);
}

st_status model_experiment(model_bench *b, st_err *e)
{
    static const char *const dir[] = {"configs"};
    const char *group = model_experiment_name(b->o);
    char path[256];
    st_config_how how = {.name = "train", .dir = dir, .dirs = st_path_is_dir(dir[0]) ? 1 : 0};
    snprintf(path, sizeof path, "experiment/%s", group);
    char **option = st_config_options(&how, path);
    if (!option) return ST_NOMEM(e, NULL);
    st_status s = ST_OK;
    if (!option[0]) s = experiment_add(b, &how, group, group, e);
    for (int pass = 0; pass < 2; pass++) { /* the dense one goes first */
        for (int i = 0; !s && option[i]; i++) {
            if ((strcmp(option[i], "dense") == 0) != (pass == 0)) continue;
            snprintf(path, sizeof path, "%s/%s", group, option[i]);
            s = experiment_add(b, &how, path, option[i], e);
        }
    }
    st_configs_options_free(option);
    return s;
}
