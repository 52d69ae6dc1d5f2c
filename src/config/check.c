/* Configuration: a YAML file and `key=value` overrides, checked against the table of settings.c.
 * Nothing is guessed: a key that is not in the table is an error with its place. */
/* SPDX-License-Identifier: MIT */
#include "config/value.h"
#include "files/files.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sections whose own value is short for one of their keys: `data=DIR`, `model=gpt2-medium`; and
 * keys that are no groups, whatever folders there are. */
static const st_short config_shorts[] = {{"data", "dir"},
                                         {"model", "preset"},
                                         {"distill", "teacher"},
                                         {"name", NULL},
                                         {"out", NULL},
                                         {"device", NULL},
                                         {"dtype", NULL},
                                         {"threads", NULL},
                                         {"seed", NULL},
                                         {"init", NULL},
                                         {0}};

/* ---- keys ------------------------------------------------------------------------------------ */

static st_status config_note(st_settings *s, int row, const char *where, st_err *e)
{
    char *copy = strdup(where);
    if (!copy) return ST_NOMEM(e, "settings");
    free(s->where[row]);
    s->where[row] = copy;
    return ST_OK;
}

/* Applies a section: `prefix` is its key, "" for the whole file. `c` (may be NULL) has the groups
 * that a key may have been meant to be. `s` NULL: only keys are looked at. */
static st_status config_apply(st_settings *s, const st_node *node, const char *prefix,
                              const st_configs *c, st_err *e)
{
    for (int64_t i = 0; i < node->n; i++) {
        const st_node *v = node->item[i];
        char key[CONFIG_KEY];
        int n = snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", node->key[i]);
        if (n >= (int)sizeof key)
            ST_FAIL(e, ST_EARG, "%s: unknown key %.60s...; all keys: strut train --keys", v->where,
                    key);
        if (strncmp(node->key[i], "__", 2) == 0) continue; /* for interpolations to refer to */
        const st_short *as = config_shorts;
        while (as->section && strcmp(key, as->section) != 0)
            as++;
        if (as->section && as->key && v->kind == ST_NODE_SCALAR && !config_is_null(v))
            snprintf(key, sizeof key, "%s.%s", as->section, as->key);
        int row = st_set_find(key);
        bool open = !s && v->kind == ST_NODE_SCALAR && v->text &&
                    (strstr(v->text, "${") || strcmp(v->text, "???") == 0);
        if (row >= 0 && !s) {
            continue;
        } else if (row >= 0) {
            ST_TRY(config_value(s, &st_set_rows[row], v, e));
            ST_TRY(config_note(s, row, v->where, e));
        } else if (v->kind == ST_NODE_MAP && v->n > 0) {
            ST_TRY(config_apply(s, v, key, c, e));
        } else if (!(config_is_section(key) &&
                     (open || v->kind == ST_NODE_MAP || config_is_null(v)))) {
            return config_unknown(key, v, node->key_where[i], c, e);
        }
    }
    return ST_OK;
}

/* ---- overrides ------------------------------------------------------------------------------- */

/* An override is a file of one key: parsed as YAML, checked by the same code, applied on top. */
static st_status config_override(st_settings *s, const char *key, const char *value, st_err *e)
{
    st_node *root = NULL;
    ST_TRY(st_yaml_parse(&root, "{}", 2, "command line", e));
    st_status status = st_node_set(root, key, value, "command line", e);
    if (!status) status = config_apply(s, root, "", NULL, e);
    st_node_free(root);
    return status;
}

st_status st_settings_set(st_settings *s, const char *key, const char *value, st_err *e)
{
    int row = st_set_find(key);
    if (row < 0 || st_set_rows[row].kind == SET_MAPS ||
        (row >= 0 && st_set_rows[row].kind == SET_GROUPS))
        return config_override(s, key, value, e);
    char where[] = "settings";
    st_node v = {.kind = ST_NODE_SCALAR, .where = where, .text = strdup(value)};
    if (!v.text) return ST_NOMEM(e, key);
    st_status status = config_value(s, &st_set_rows[row], &v, e);
    if (!status) status = config_note(s, row, where, e);
    free(v.text);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static st_status config_defaults(st_settings *s, st_err *e)
{
    for (int i = 0; i < st_set_count(); i++) {
        const set_row *r = &st_set_rows[i];
        config_null(r, (char *)s + r->at);
        if (!r->preset) continue;
        char text[64];
        char where[] = "default";
        snprintf(text, sizeof text, "%s", r->preset);
        st_node v = {.kind = ST_NODE_SCALAR, .text = text, .where = where};
        ST_TRY(config_value(s, r, &v, e));
    }
    return ST_OK;
}

/* What one key alone cannot tell. */
static st_status config_check(const st_settings *s, st_err *e)
{
    char place[CONFIG_KEY];
    if (!isnan(s->train.min_lr) && s->train.min_lr > s->train.lr) {
        ST_FAIL(e, ST_EARG, "%s: %g is above train.lr = %g",
                st_set_place(s, "train.min_lr", place, sizeof place), s->train.min_lr, s->train.lr);
    }
    if (s->train.decay_steps != ST_UNSET && s->train.decay_steps < s->train.warmup) {
        ST_FAIL(e, ST_EARG, "%s: %lld is less than train.warmup = %lld",
                st_set_place(s, "train.decay_steps", place, sizeof place),
                (long long)s->train.decay_steps, (long long)s->train.warmup);
    }
    if (s->eval.order && s->eval.every > 0 && s->eval.batches == 0) {
        ST_FAIL(e, ST_EARG, "%s: random windows have no end; expected eval.batches above 0",
                st_set_place(s, "eval.order", place, sizeof place));
    }
    return ST_OK;
}

/* name: the config file's, without folder and ending; out: runs/NAME. */
static st_status config_names(st_settings *s, const char *path, st_err *e)
{
    if (!s->name) {
        const char *slash = path ? strrchr(path, '/') : NULL;
        const char *stem = slash ? slash + 1 : path ? path : "train";
        const char *dot = strrchr(stem, '.');
        s->name = strndup(stem, dot && dot > stem ? (size_t)(dot - stem) : strlen(stem));
    }
    if (s->name && !s->out) s->out = st_path_join("runs", s->name);
    if (!s->name || !s->out) return ST_NOMEM(e, "settings");
    return ST_OK;
}

st_status st_settings_open(st_settings *s, st_err *e)
{
    *s = (st_settings){0};
    s->where = st_calloc(st_set_count(), sizeof *s->where);
    if (!s->where) return ST_NOMEM(e, "settings");
    st_status status = config_defaults(s, e);
    if (status) st_settings_close(s);
    return status;
}

/* The tree that `how` composes, applied to settings that hold the defaults. */
static st_status config_compose(st_settings *s, const st_config_how *how, st_node **root,
                                json_t **info, st_err *e)
{
    st_configs *c;
    *root = NULL;
    ST_TRY(st_configs_open(&c, how->dir, how->dirs, true, e));
    st_status status = st_compose(root, info, c,
                                  &(st_compose_how){.name = how->name,
                                                    .file = how->file,
                                                    .override = how->override,
                                                    .n = how->n,
                                                    .open = true,
                                                    .shorts = config_shorts},
                                  e);
    for (int i = 0; status && i < how->n; i++)
        config_hint_group(how->override[i], e);
    if (!status) status = config_apply(s, *root, "", c, e);
    st_configs_close(c);
    return status;
}

st_status st_settings_compose(st_settings *s, const st_config_how *how, json_t **info, st_err *e)
{
    st_node *root;
    const char *primary = how->file ? how->file : how->name;
    if (info) *info = NULL;
    ST_TRY(st_settings_open(s, e));
    st_status status = config_compose(s, how, &root, info, e);
    if (!status) status = config_check(s, e);
    if (!status) status = config_names(s, primary, e);
    st_node_free(root);
    if (!status) return ST_OK;
    st_settings_close(s);
    if (info) {
        json_decref(*info);
        *info = NULL;
    }
    return status;
}

st_status st_settings_load(st_settings *s, const char *path, const char *const *overrides, int n,
                           st_err *e)
{
    st_config_how how = {.file = path, .override = overrides, .n = n};
    return st_settings_compose(s, &how, NULL, e);
}

char *st_config_text(const st_config_how *how, bool resolve, st_err *e)
{
    st_configs *c;
    st_node *root = NULL;
    char *text = NULL;
    if (st_configs_open(&c, how->dir, how->dirs, true, e)) return NULL;
    st_compose_how compose = {.name = how->name,
                              .file = how->file,
                              .override = how->override,
                              .n = how->n,
                              .open = true,
                              .raw = !resolve,
                              .shorts = config_shorts};
    bool fine = !st_compose(&root, NULL, c, &compose, e) && !config_apply(NULL, root, "", c, e);
    if (fine && !(text = st_node_yaml(root))) ST_NOMEM(e, "config");
    st_node_free(root);
    st_configs_close(c);
    return text;
}

char **st_config_options(const st_config_how *how, const char *group)
{
    st_configs *c;
    if (st_configs_open(&c, how->dir, how->dirs, true, NULL)) return NULL;
    char **name = st_configs_options(c, group);
    st_configs_close(c);
    return name;
}

void st_settings_close(st_settings *s)
{
    if (!s) return;
    for (int i = 0; i < st_set_count(); i++) {
        if (s->where) free(s->where[i]);
        config_null(&st_set_rows[i], (char *)s + st_set_rows[i].at);
    }
    free(s->where);
    *s = (st_settings){0};
}
