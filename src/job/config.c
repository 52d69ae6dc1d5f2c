/* Configuration: a YAML file and `key=value` overrides, checked against the table of settings.c.
 * Nothing is guessed: a key that is not in the table, a value of another type or out of range is an
 * error with its place. Scalars are read as OmegaConf reads them ("1e-3" is a number). */
/* SPDX-License-Identifier: MIT */
#include "job/settings.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_TEXT = 256 };

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

/* ---- one value ------------------------------------------------------------------------------ */

static bool config_is_null(const st_node *v)
{
    return v->kind == ST_NODE_SCALAR && !v->quoted &&
           (!*v->text || strcmp(v->text, "~") == 0 || strcasecmp(v->text, "null") == 0);
}

static bool config_flag(const char *text, int64_t *out)
{
    static const char *const word[] = {"false", "true", "no", "yes", "off", "on"};
    for (int i = 0; i < 6; i++) {
        if (strcasecmp(text, word[i]) != 0) continue;
        *out = i % 2;
        return true;
    }
    return false;
}

const char *config_found(const st_node *v, char *text, size_t n)
{
    if (v->kind == ST_NODE_LIST)
        snprintf(text, n, "a list");
    else if (v->kind == ST_NODE_MAP)
        snprintf(text, n, "a section");
    else if (config_is_null(v))
        snprintf(text, n, "null");
    else if (v->quoted)
        snprintf(text, n, "the text \"%.60s\"", v->text);
    else
        snprintf(text, n, "%.60s", v->text);
    return text;
}

static st_status config_number(const set_row *r, const st_node *v, char *field, st_err *e)
{
    char found[96];
    int64_t i = 0;
    double d = 0;
    bool whole = r->kind == SET_INT;
    bool ok = v->kind == ST_NODE_SCALAR && !v->quoted &&
              (whole ? st_parse_int(v->text, &i) : st_parse_num(v->text, &d));
    if (!ok) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected %s from %.15g to %.15g%s", v->where, r->key,
                config_found(v, found, sizeof found), whole ? "a whole number" : "a number", r->lo,
                r->hi, r->flags & SET_NULL ? " or null" : "");
    }
    double x = whole ? (double)i : d;
    if (!(x >= r->lo && x <= r->hi)) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %.60s, expected %.15g to %.15g", v->where, r->key,
                v->text, r->lo, r->hi);
    }
    if (whole)
        memcpy(field, &i, sizeof i);
    else
        memcpy(field, &d, sizeof d);
    return ST_OK;
}

static st_status config_choice(const set_row *r, const st_node *v, int64_t *out, st_err *e)
{
    char found[96], legal[160] = "";
    st_dtype t;
    if (v->kind == ST_NODE_SCALAR) {
        for (int i = 0; r->choice[i]; i++) {
            if (strcmp(v->text, r->choice[i]) != 0) continue;
            *out = i;
            return ST_OK;
        }
        /* "bf16", "fp32": the short names of number types are as good as the long ones. */
        if (r->at == offsetof(st_settings, dtype) && st_dtype_parse(v->text, &t) &&
            (t == ST_F32 || t == ST_BF16)) {
            *out = t;
            return ST_OK;
        }
    }
    for (int i = 0; r->choice[i]; i++) {
        size_t n = strlen(legal);
        snprintf(legal + n, sizeof legal - n, "%s%s", i ? ", " : "", r->choice[i]);
    }
    const char *near = v->kind == ST_NODE_SCALAR ? st_nearest(v->text, r->choice) : NULL;
    ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected one of %s%s%s%s", v->where, r->key,
            config_found(v, found, sizeof found), legal, near ? "; did you mean " : "",
            near ? near : "", near ? "?" : "");
}

static st_status config_maps(const set_row *r, const st_node *v, json_t **out, st_err *e)
{
    char found[96];
    if (v->kind != ST_NODE_MAP) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected a section {GLOB: SPEC}", v->where, r->key,
                config_found(v, found, sizeof found));
    }
    json_t *maps = json_object();
    if (!maps) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", r->key);
    for (int64_t i = 0; i < v->n; i++) {
        const st_node *item = v->item[i];
        if (item->kind != ST_NODE_SCALAR || config_is_null(item)) {
            json_decref(maps);
            ST_FAIL(e, ST_EARG,
                    "%s: %s.%.80s: found %s, expected a spec such as lowrank:rank=64; one with "
                    "commas stands in quotes",
                    item->where, r->key, v->key[i], config_found(item, found, sizeof found));
        }
        json_object_set_new(maps, v->key[i], json_string(item->text));
    }
    json_decref(*out);
    *out = maps;
    return ST_OK;
}

static st_status config_text(const set_row *r, const st_node *v, char **out, st_err *e)
{
    char found[96];
    if (v->kind != ST_NODE_SCALAR) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected a text", v->where, r->key,
                config_found(v, found, sizeof found));
    }
    int64_t at;
    if (r->choice) ST_TRY(config_choice(r, v, &at, e));
    char *copy = strdup(v->text);
    if (!copy) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", r->key);
    free(*out);
    *out = copy;
    return ST_OK;
}

static void config_null(const set_row *r, char *field)
{
    void *slot = field;
    if (r->kind == SET_NUM) {
        *(double *)slot = (double)NAN;
    } else if (r->kind == SET_TEXT) {
        free(*(char **)slot);
        *(char **)slot = NULL;
    } else if (r->kind == SET_MAPS || r->kind == SET_GROUPS) {
        json_decref(*(json_t **)slot);
        *(json_t **)slot = NULL;
    } else {
        *(int64_t *)slot = ST_UNSET;
    }
}

static st_status config_groups(const set_row *r, const st_node *v, json_t **out, st_err *e);

/* `base`: the struct that the row's offset is in. */
static st_status config_value(void *base, const set_row *r, const st_node *v, st_err *e)
{
    char *field = (char *)base + r->at, found[96];
    void *slot = field;
    if (config_is_null(v)) {
        if (!(r->flags & SET_NULL))
            ST_FAIL(e, ST_EARG, "%s: %s: found null, expected a value", v->where, r->key);
        config_null(r, field);
        return ST_OK;
    }
    switch (r->kind) {
    case SET_TEXT: return config_text(r, v, slot, e);
    case SET_MAPS: return config_maps(r, v, slot, e);
    case SET_GROUPS: return config_groups(r, v, slot, e);
    case SET_CHOICE: return config_choice(r, v, slot, e);
    case SET_FLAG:
        if (v->kind == ST_NODE_SCALAR && !v->quoted && config_flag(v->text, slot)) return ST_OK;
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected true or false", v->where, r->key,
                config_found(v, found, sizeof found));
    default: return config_number(r, v, field, e);
    }
}

/* One entry of train.groups: its keys are a small table of their own. */
static st_status config_group(const char *key, const st_node *v, json_t *group, st_err *e)
{
    const char *legal[8];
    int n = 0, found = -1;
    set_group value = {.lr = (double)NAN, .decay = (double)NAN, ST_UNSET, ST_UNSET};
    for (; st_set_group_rows[n].key; n++)
        legal[n] = st_set_group_rows[n].key;
    legal[n] = NULL;
    for (int64_t i = 0; i < v->n; i++) {
        char name[KEY_TEXT + 64];
        snprintf(name, sizeof name, "%s.%.60s", key, v->key[i]);
        for (found = n - 1; found >= 0 && strcmp(legal[found], v->key[i]) != 0;)
            found--;
        if (found < 0) {
            const char *near = st_nearest(v->key[i], legal);
            ST_FAIL(e, ST_EARG, "%s: unknown key %s%s%s%s; expected lr, decay, schedule, freeze",
                    v->key_where[i], name, near ? "; did you mean " : "", near ? near : "",
                    near ? "?" : "");
        }
        set_row row = st_set_group_rows[found];
        row.key = name;
        ST_TRY(config_value(&value, &row, v->item[i], e));
    }
    if (!isnan(value.lr)) json_object_set_new(group, "lr", json_real(value.lr));
    if (!isnan(value.decay)) json_object_set_new(group, "decay", json_real(value.decay));
    if (value.schedule != ST_UNSET)
        json_object_set_new(group, "schedule", json_boolean(value.schedule != 0));
    if (value.freeze != ST_UNSET)
        json_object_set_new(group, "freeze", json_boolean(value.freeze != 0));
    return ST_OK;
}

static st_status config_groups(const set_row *r, const st_node *v, json_t **out, st_err *e)
{
    char found[96], key[KEY_TEXT];
    if (v->kind != ST_NODE_MAP) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected a section {NAME: {lr: ..., decay: ...}}",
                v->where, r->key, config_found(v, found, sizeof found));
    }
    json_t *groups = json_object();
    st_status s =
        groups ? ST_OK : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", r->key);
    for (int64_t i = 0; !s && i < v->n; i++) {
        json_t *group = json_object();
        snprintf(key, sizeof key, "%s.%.80s", r->key, v->key[i]);
        if (v->item[i]->kind != ST_NODE_MAP) {
            s = st_fail(e, ST_EARG, __FILE__, __LINE__,
                        "%s: %s: found %s, expected keys such as {lr: 1e-4, decay: 0}",
                        v->item[i]->where, key, config_found(v->item[i], found, sizeof found));
        } else {
            s = config_group(key, v->item[i], group, e);
        }
        if (json_object_set_new(groups, v->key[i], group) && !s)
            s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", r->key);
    }
    if (s) {
        json_decref(groups);
        return s;
    }
    json_decref(*out);
    *out = groups;
    return ST_OK;
}

/* ---- keys ----------------------------------------------------------------------------------- */

static st_status config_note(st_settings *s, int row, const char *where, st_err *e)
{
    char *copy = strdup(where);
    if (!copy) ST_FAIL(e, ST_ENOMEM, "settings: out of memory");
    free(s->where[row]);
    s->where[row] = copy;
    return ST_OK;
}

/* Applies a section: `prefix` is its key, "" for the whole file. `c` (may be NULL) has the groups
 * that a key may have been meant to be. */
static st_status config_apply(st_settings *s, const st_node *node, const char *prefix,
                              const st_configs *c, st_err *e)
{
    for (int64_t i = 0; i < node->n; i++) {
        const st_node *v = node->item[i];
        char key[KEY_TEXT];
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
        if (row >= 0) {
            ST_TRY(config_value(s, &st_set_rows[row], v, e));
            ST_TRY(config_note(s, row, v->where, e));
        } else if (v->kind == ST_NODE_MAP && v->n > 0) {
            ST_TRY(config_apply(s, v, key, c, e));
        } else if (!(config_is_section(key) && (v->kind == ST_NODE_MAP || config_is_null(v)))) {
            return config_unknown(key, v, node->key_where[i], c, e);
        }
    }
    return ST_OK;
}

/* ---- overrides ------------------------------------------------------------------------------ */

/* An override is a file of one key: parsed as YAML, checked by the same code, applied on top. */
static st_status config_override(st_settings *s, const char *key, const char *value, st_err *e)
{
    st_node *root = NULL;
    ST_TRY(st_yaml_parse(&root, "{}", 2, "command line", e));
    st_status st = st_node_set(root, key, value, "command line", e);
    if (!st) st = config_apply(s, root, "", NULL, e);
    st_node_free(root);
    return st;
}

st_status st_settings_set(st_settings *s, const char *key, const char *value, st_err *e)
{
    int row = st_set_find(key);
    if (row < 0 || st_set_rows[row].kind == SET_MAPS ||
        (row >= 0 && st_set_rows[row].kind == SET_GROUPS))
        return config_override(s, key, value, e);
    char where[] = "settings";
    st_node v = {.kind = ST_NODE_SCALAR, .where = where, .text = strdup(value)};
    if (!v.text) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", key);
    st_status st = config_value(s, &st_set_rows[row], &v, e);
    if (!st) st = config_note(s, row, where, e);
    free(v.text);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

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
    char place[KEY_TEXT];
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
    if (!s->name || !s->out) ST_FAIL(e, ST_ENOMEM, "settings: out of memory");
    return ST_OK;
}

st_status st_settings_open(st_settings *s, st_err *e)
{
    *s = (st_settings){0};
    s->where = st_calloc(st_set_count(), sizeof *s->where);
    if (!s->where) ST_FAIL(e, ST_ENOMEM, "settings: out of memory");
    st_status st = config_defaults(s, e);
    if (st) st_settings_close(s);
    return st;
}

/* The tree that `how` composes, applied to settings that hold the defaults. */
static st_status config_compose(st_settings *s, const st_config_how *how, st_node **root,
                                json_t **info, st_err *e)
{
    st_configs *c;
    *root = NULL;
    ST_TRY(st_configs_open(&c, how->dir, how->dirs, true, e));
    st_status st = st_compose(root, info, c,
                              &(st_compose_how){.name = how->name,
                                                .file = how->file,
                                                .override = how->override,
                                                .n = how->n,
                                                .open = true,
                                                .shorts = config_shorts},
                              e);
    for (int i = 0; st && i < how->n; i++)
        config_hint_group(how->override[i], e);
    if (!st) st = config_apply(s, *root, "", c, e);
    st_configs_close(c);
    return st;
}

st_status st_settings_compose(st_settings *s, const st_config_how *how, json_t **info, st_err *e)
{
    st_node *root;
    const char *primary = how->file ? how->file : how->name;
    if (info) *info = NULL;
    ST_TRY(st_settings_open(s, e));
    st_status st = config_compose(s, how, &root, info, e);
    if (!st) st = config_check(s, e);
    if (!st) st = config_names(s, primary, e);
    st_node_free(root);
    if (!st) return ST_OK;
    st_settings_close(s);
    if (info) {
        json_decref(*info);
        *info = NULL;
    }
    return st;
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
    if (!st_compose(&root, NULL, c, &compose, e) && !(text = st_node_yaml(root)))
        st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "config: out of memory");
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
