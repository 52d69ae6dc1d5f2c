/* Texts of the form "name:knob=value,...": reading and writing the knobs of any table's rows. */
/* SPDX-License-Identifier: MIT */
#include "map/map.h"
#include <stdio.h>
#include <string.h>

int st_knobs_count(const st_knob *knob)
{
    int n = 0;
    while (n < ST_KNOBS && knob[n].name)
        n++;
    return n;
}

/* "dense, lowrank, ..." or a type's knobs, for messages. */
static void knobs_list(const char *const *names, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (; *names && n < cap; names++) {
        int w = snprintf(out + n, cap - n, "%s%s", n ? ", " : "", *names);
        if (w > 0) n += (size_t)w;
    }
}

st_status st_knobs_unknown(const char *what, const char *word, const char *const *names,
                           const char *text, st_err *e)
{
    char list[256];
    knobs_list(names, list, sizeof list);
    const char *near = st_nearest(word, names);
    ST_FAIL(e, ST_EARG, "\"%.80s\": unknown %s \"%.40s\"%s%s%s; the choice is: %s", text, what,
            word, near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "",
            *list ? list : "none");
}

/* One "knob=value"; `seen` has a bit per knob already given. */
static st_status knobs_item(char *item, const char *type, const st_knob *knob, int64_t *value,
                            unsigned *seen, const char *text, st_err *e)
{
    char *number = strchr(item, '=');
    if (number) *number++ = '\0';
    const char *names[ST_KNOBS + 1] = {0};
    for (int i = 0; i < st_knobs_count(knob); i++)
        names[i] = knob[i].name;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], item) != 0) continue;
        if (*seen & 1u << i) ST_FAIL(e, ST_EARG, "\"%.80s\": %s is given twice", text, item);
        *seen |= 1u << i;
        if (!number || !st_parse_int(number, &value[i]) || value[i] == ST_REQUIRED) {
            ST_FAIL(e, ST_EARG, "\"%.80s\": %s needs a whole number, e.g. %s=%d (%s)", text, item,
                    item, 4, knob[i].help);
        }
        return ST_OK;
    }
    char what[64];
    snprintf(what, sizeof what, "knob of %s", type);
    return st_knobs_unknown(what, item, names, text, e);
}

st_status st_knobs_read(const char *type, const st_knob *knob, char *items, int64_t *value,
                        const char *text, st_err *e)
{
    for (int i = 0; i < st_knobs_count(knob); i++)
        value[i] = knob[i].preset;
    unsigned seen = 0;
    while (items) {
        char *next = strchr(items, ',');
        if (next) *next++ = '\0';
        ST_TRY(knobs_item(items, type, knob, value, &seen, text, e));
        items = next;
    }
    return ST_OK;
}
