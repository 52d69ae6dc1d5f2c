/* What the matrix types say about themselves. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include <string.h>

static json_t *maps_init_knob(const st_init_knob *k)
{
    bool legal = k->preset >= k->lo && k->preset <= k->hi; /* else it stands for "not given" */
    return json_pack("{s:s, s:s, s:s, s:o}", "name", k->name, "help", k->help, "words",
                     k->words ? k->words : "", "default",
                     legal ? json_real(k->preset) : json_null());
}

static json_t *maps_inits(const st_map_type *t)
{
    json_t *list = json_array();
    const st_map_init *x;
    for (int i = 0; (x = st_start_at(t, i)); i++) {
        json_t *knobs = json_array();
        for (int k = 0; k < ST_INIT_KNOBS && x->knob[k].name; k++)
            json_array_append_new(knobs, maps_init_knob(&x->knob[k]));
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "name", x->name, "help", x->help, "knobs", knobs));
    }
    return list;
}

static json_t *maps_type(const st_map_type *t)
{
    json_t *knobs = json_array();
    for (int i = 0; i < ST_KNOBS && t->knob[i].name; i++) {
        const st_knob *k = &t->knob[i];
        bool required = k->preset == ST_REQUIRED;
        json_t *row = json_pack("{s:s, s:s, s:b}", "name", k->name, "help", k->help ? k->help : "",
                                "required", required);
        if (!required) json_object_set_new(row, "default", json_integer(k->preset));
        json_array_append_new(knobs, row);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "name", t->name, "summary", t->summary,
                     "equation", t->equation, "source", t->source ? t->source : "", "knobs", knobs,
                     "inits", maps_inits(t));
}

enum { MAPS_TYPES = 64 };

st_status st_maps(const char *name, json_t **result, st_err *e)
{
    const char *names[MAPS_TYPES];
    int n = 0;
    json_t *list = json_array();
    for (int i = 0; st_map_types[i]; i++) {
        if (n < MAPS_TYPES - 1) names[n++] = st_map_types[i]->name;
        if (name && strcmp(name, st_map_types[i]->name) != 0) continue;
        json_array_append_new(list, maps_type(st_map_types[i]));
    }
    names[n] = NULL;
    if (name && json_array_size(list) == 0) {
        json_decref(list);
        const char *near = st_nearest(name, names);
        ST_FAIL(e, ST_EARG, "unknown map type \"%s\"%s%s%s; strut maps lists them", name,
                near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    *result = json_pack("{s:o}", "maps", list);
    if (*result && !name) json_object_set_new(*result, "presets", st_presets_json());
    if (!*result) return ST_NOMEM(e, "maps");
    return ST_OK;
}
