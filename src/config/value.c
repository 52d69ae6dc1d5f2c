/* One value of a configuration, checked against its row of the table in settings.c: one of another
 * type or out of range is an error with its place. Scalars are read as OmegaConf reads them ("1e-3"
 * is a number). */
/* SPDX-License-Identifier: MIT */
#include "config/value.h"
#include "tensor/tensor.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool config_is_null(const st_node *v)
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
    if (!maps) return ST_NOMEM(e, r->key);
    for (int64_t i = 0; i < v->n; i++) {
        const st_node *item = v->item[i];
        if (item->kind != ST_NODE_SCALAR || config_is_null(item)) {
            json_decref(maps);
            ST_FAIL(e, ST_EARG,
                    "%s: %s.%.80s: found %s, expected a spec such as lowrank:rank=64; one with "
                    "commas stands in quotes",
                    item->where, r->key, v->key[i], config_found(item, found, sizeof found));
        }
        json_object_set_new(maps, v->key[i], st_json_text(item->text));
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
    if (!copy) return ST_NOMEM(e, r->key);
    free(*out);
    *out = copy;
    return ST_OK;
}

void config_null(const set_row *r, char *field)
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

st_status config_value(void *base, const set_row *r, const st_node *v, st_err *e)
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
        char name[CONFIG_KEY + 64];
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
    char found[96], key[CONFIG_KEY];
    if (v->kind != ST_NODE_MAP) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected a section {NAME: {lr: ..., decay: ...}}",
                v->where, r->key, config_found(v, found, sizeof found));
    }
    json_t *groups = json_object();
    st_status s = groups ? ST_OK : ST_NOMEM(e, r->key);
    for (int64_t i = 0; !s && i < v->n; i++) {
        json_t *group = json_object();
        snprintf(key, sizeof key, "%s.%.80s", r->key, v->key[i]);
        if (v->item[i]->kind != ST_NODE_MAP) {
            s = ST_ERR(e, ST_EARG, "%s: %s: found %s, expected keys such as {lr: 1e-4, decay: 0}",
                       v->item[i]->where, key, config_found(v->item[i], found, sizeof found));
        } else {
            s = config_group(key, v->item[i], group, e);
        }
        if (json_object_set_new(groups, v->key[i], group) && !s) s = ST_NOMEM(e, r->key);
    }
    if (s) {
        json_decref(groups);
        return s;
    }
    json_decref(*out);
    *out = groups;
    return ST_OK;
}
