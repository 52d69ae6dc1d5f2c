/* Which matrix becomes what: "GLOB=SPEC" texts, as people write them, against a model's matrices.
 */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const st_model *m;
    const char *const *maps;
    int nmaps;
    const char *const *skip;
    int nskip;
    bool *used;         /* by entry of maps, then of skip */
    const char **names; /* of all matrices, NULL-terminated; for suggestions */
    int64_t count;
    json_t *table; /* name -> canonical spec of what is replaced */
    json_t *left;  /* reason -> [names] of what '*' does not mean */
    st_err *e;
    st_status status;
} choose_walk;

bool st_glob_match(const char *glob, const char *name)
{
    return fnmatch(glob, name, 0) == 0;
}

static bool choose_match(const choose_walk *w, const char *glob, const char *name)
{
    /* The embedding, and a head that is tied to it: only their exact names mean them. */
    if (st_model_table(w->m, name)) return strcmp(glob, name) == 0;
    return st_glob_match(glob, name);
}

static void choose_leave(choose_walk *w, const char *name, const char *why)
{
    json_t *names = json_object_get(w->left, why);
    if (!names) json_object_set_new(w->left, why, names = json_array());
    json_array_append_new(names, json_string(name));
}

/* '*' means all matrices that can become what it asks for; the others stay and are named. */
static bool choose_left(choose_walk *w, const char *map, const char *name, st_status s,
                        const st_err *why)
{
    if (s != ST_ESHAPE || strncmp(map, "*=", 2) != 0) return false;
    choose_leave(w, name, why->msg);
    return true;
}

/* The embedding, where a '*' asks for something that is no expansion. */
static void choose_table(choose_walk *w, const char *name, bool skipped)
{
    for (int i = 0; i < w->nmaps && !skipped; i++) {
        if (strncmp(w->maps[i], "*=", 2) != 0 || strcmp(w->maps[i] + 2, "dense") == 0) continue;
        choose_leave(w, name, "'*' does not mean embeddings; their exact names do");
        return;
    }
}

static void choose_say_left(const choose_walk *w)
{
    const char *why;
    json_t *names;
    json_object_foreach(w->left, why, names)
    {
        size_t n = json_array_size(names);
        st_log(ST_LOG_WARN, "left as %s: %s%s%s%s (%s)", n == 1 ? "it is" : "they are",
               json_string_value(json_array_get(names, 0)),
               n > 2   ? ", ..., "
               : n > 1 ? ", "
                       : "",
               n > 1 ? json_string_value(json_array_get(names, n - 1)) : "",
               n > 2 ? " and others like them" : "", why);
    }
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
    if (!found && st_model_table(w->m, name)) choose_table(w, name, skipped);
    if (!found || skipped) return;
    st_spec to;
    st_err why = {0};
    char text[ST_SPEC_TEXT];
    st_status s = st_spec_parse(&to, strchr(found, '=') + 1, spec->in, spec->out, &why);
    if (s && choose_left(w, found, name, s, &why)) return;
    if (s) {
        w->status = ST_ERR(w->e, s, "map %s: %s: %s", found, name, why.msg);
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
        const st_slot *head = st_model_role(w->m, ST_ROLE_HEAD, -1);
        bool apart =
            map && head && st_model_table(w->m, head->name) && st_glob_match(glob, head->name);
        ST_FAIL(e, ST_EARG, "%s %s: no matrix of the model matches%s%s%s%s%s%s",
                map ? "map" : "skip", text, near ? "; did you mean " : " (names are like ",
                near       ? near
                : w->count ? w->names[0]
                           : "",
                near ? "?" : ")", apart ? "; a tied " : "", apart ? head->name : "",
                apart ? " is replaced by its exact name only" : "");
    }
    return ST_OK;
}

/* A '*' that nothing can become. */
static st_status choose_none(const choose_walk *w, st_err *e)
{
    const char *why;
    json_t *names;
    if (json_object_size(w->table) > 0) return ST_OK;
    json_object_foreach(w->left, why, names)
    {
        const char *name = json_string_value(json_array_get(names, 0));
        if (st_model_table(w->m, name)) continue;
        ST_FAIL(e, ST_ESHAPE, "no matrix can be replaced; %s: %s", name, why);
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
        if (json_object_set(maps, name, text)) return ST_NOMEM(e, "model");
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
    choose_walk w = {.m = m,
                     .maps = maps,
                     .nmaps = nmaps,
                     .skip = skip,
                     .nskip = nskip,
                     .used = st_calloc(nmaps + nskip + 1, sizeof *w.used),
                     .names = st_calloc(matrices + 1, sizeof *w.names),
                     .table = json_object(),
                     .left = json_object(),
                     .e = e};
    st_status s = ST_OK;
    if (!w.used || !w.names || !w.table || !w.left) {
        s = ST_NOMEM(e, "model");
    }
    if (!s) st_model_matrices(m, choose_matrix, &w);
    if (!s) s = w.status;
    if (!s) s = choose_unused(&w, e);
    if (!s) s = choose_none(&w, e);
    if (!s) choose_say_left(&w);
    if (!s) s = choose_config(m, w.table, config, e);
    if (s && *config) {
        json_decref(*config);
        *config = NULL;
    }
    json_decref(w.table);
    json_decref(w.left);
    free(w.used);
    free(w.names);
    return s;
}
