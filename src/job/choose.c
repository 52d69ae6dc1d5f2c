/* Which matrix becomes what: "GLOB=SPEC" texts, as people write them, against a model's matrices.
 */
/* SPDX-License-Identifier: MIT */
#include "job/job.h"
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *const *maps;
    int nmaps;
    const char *const *skip;
    int nskip;
    bool tied;
    bool *used;         /* by entry of maps, then of skip */
    const char **names; /* of all matrices, NULL-terminated; for suggestions */
    int64_t count;
    json_t *table; /* name -> canonical spec of what is replaced */
    st_err *e;
    st_status status;
} choose_walk;

bool st_glob_match(const char *glob, const char *name)
{
    return fnmatch(glob, name, 0) == 0;
}

/* A tied lm_head is an embedding too: only its exact name means it. */
static bool choose_match(const choose_walk *w, const char *glob, const char *name)
{
    bool exact = strcmp(name, "wte") == 0 || (w->tied && strcmp(name, "lm_head") == 0);
    if (exact) return strcmp(glob, name) == 0;
    return st_glob_match(glob, name);
}

static void choose_matrix(void *ctx, const char *name, const st_spec *spec)
{
    choose_walk *w = ctx;
    const char *found = NULL;
    bool skipped = false;
    w->names[w->count++] = name;
    if (w->status) return;
    for (int i = 0; i < w->nmaps; i++) {
        const char *eq = strchr(w->maps[i], '=');
        char *glob = strndup(w->maps[i], (size_t)(eq - w->maps[i]));
        if (glob && choose_match(w, glob, name)) {
            found = w->maps[i];
            w->used[i] = true;
        }
        free(glob);
    }
    for (int i = 0; i < w->nskip; i++) {
        if (!st_glob_match(w->skip[i], name)) continue;
        skipped = w->used[w->nmaps + i] = true;
    }
    if (!found || skipped) return;
    st_spec to;
    char text[ST_SPEC_TEXT];
    w->status = st_spec_parse(&to, strchr(found, '=') + 1, spec->in, spec->out, w->e);
    if (w->status) {
        st_err_prefix(w->e, "map %s: %s", found, name);
        return;
    }
    st_spec_print(&to, text);
    json_object_set_new(w->table, name, json_string(text));
}

static st_status choose_unused(const choose_walk *w, st_err *e)
{
    for (int i = 0; i < w->nmaps + w->nskip; i++) {
        if (w->used[i]) continue;
        bool map = i < w->nmaps;
        const char *text = map ? w->maps[i] : w->skip[i - w->nmaps];
        char glob[128];
        snprintf(glob, sizeof glob, "%.*s", map ? (int)strcspn(text, "=") : 127, text);
        const char *near = st_nearest(glob, w->names);
        ST_FAIL(e, ST_EARG, "%s %s: no matrix of the model matches%s%s%s%s", map ? "map" : "skip",
                text, near ? "; did you mean " : " (names are like ",
                near       ? near
                : w->count ? w->names[0]
                           : "",
                near ? "?" : ")",
                w->tied && map && st_glob_match(glob, "lm_head")
                    ? "; a tied lm_head is replaced by its exact name only"
                    : "");
    }
    return ST_OK;
}

static void choose_count(void *ctx, const char *name, const st_spec *spec)
{
    (void)name, (void)spec;
    ++*(int64_t *)ctx;
}

static st_status choose_texts(const char *const *maps, int n, st_err *e)
{
    for (int i = 0; i < n; i++) {
        const char *eq = strchr(maps[i], '=');
        if (eq && eq != maps[i] && eq[1]) continue;
        ST_FAIL(e, ST_EARG, "map %s: expected GLOB=SPEC, such as 'h.*.mlp.*=monarch:blocks=4'",
                maps[i]);
    }
    return ST_OK;
}

/* Puts what was chosen into the model's config. */
static st_status choose_config(const st_model *m, const json_t *table, json_t **config, st_err *e)
{
    const char *name;
    json_t *text;
    *config = st_model_config(m);
    json_t *ours = json_object_get(*config, "strut");
    if (!ours) json_object_set_new(*config, "strut", ours = json_pack("{s:i}", "format", 1));
    json_t *maps = json_object_get(ours, "maps");
    if (!maps) json_object_set_new(ours, "maps", maps = json_object());
    json_object_foreach((json_t *)(uintptr_t)table, name, text)
    {
        if (json_object_set(maps, name, text)) ST_FAIL(e, ST_ENOMEM, "model: out of memory");
    }
    return ST_OK;
}

st_status st_model_remap(const st_model *m, const char *const *maps, int nmaps,
                         const char *const *skip, int nskip, json_t **config, st_err *e)
{
    *config = NULL;
    ST_TRY(choose_texts(maps, nmaps, e));
    int64_t matrices = 0;
    st_model_matrices(m, choose_count, &matrices);
    choose_walk w = {.maps = maps,
                     .nmaps = nmaps,
                     .skip = skip,
                     .nskip = nskip,
                     .tied = st_model_lm(m).tied,
                     .used = st_calloc(nmaps + nskip + 1, sizeof *w.used),
                     .names = st_calloc(matrices + 1, sizeof *w.names),
                     .table = json_object(),
                     .e = e};
    st_status s = ST_OK;
    if (!w.used || !w.names || !w.table) {
        s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "model: out of memory");
    }
    if (!s) st_model_matrices(m, choose_matrix, &w);
    if (!s) s = w.status;
    if (!s) s = choose_unused(&w, e);
    if (!s) s = choose_config(m, w.table, config, e);
    if (s && *config) {
        json_decref(*config);
        *config = NULL;
    }
    json_decref(w.table);
    free(w.used);
    free(w.names);
    return s;
}
