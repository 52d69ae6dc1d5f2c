/* Weights in blocks of 8 and 4 bits: which parameters are, by the matrices' names, and how all of
 * them lie on a device for inference. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { MIXED_ALIGN = 128, QUANTIZE_GLOBS = 1 << 14 };

/* "q4", "Q8_0", "none". */
static bool quantize_format(const char *name, st_dtype *t)
{
    *t = ST_F32;
    if (strcmp(name, "none") == 0) return true;
    return st_dtype_parse(name, t) && st_dtype_blocks(*t);
}

/* Gives what can of the matrix the format; whether anything can. */
static bool quantize_matrix(st_model *m, int64_t matrix, st_dtype t)
{
    bool can = false;
    for (int64_t i = 0; i < m->entries; i++) {
        st_param *p = &m->entry[i].p;
        if (m->entry[i].matrix != matrix || !(p->flags & ST_P_BLOCKS)) continue;
        p->format = t;
        can = true;
    }
    return can;
}

/* A head that is the embedding has nothing of its own. */
static bool quantize_is_tied(const st_model *m, int64_t matrix)
{
    return m->matrix[matrix].role == ST_ROLE_HEAD && st_model_table(m, m->matrix[matrix].name);
}

typedef struct {
    int64_t meant, set;
    const char *last; /* one that was meant and stays as it is */
} quantize_count;

/* `left`: gets the names of what stays as it is, or NULL. */
static quantize_count quantize_glob(st_model *m, const char *glob, st_dtype t, json_t *left)
{
    quantize_count c = {0};
    for (int64_t i = 0; i < m->matrices; i++) {
        const char *name = m->matrix[i].name;
        if (fnmatch(glob, name, 0) != 0 || (quantize_is_tied(m, i) && strcmp(glob, name))) continue;
        c.meant++;
        if (quantize_matrix(m, i, t)) {
            c.set++;
            continue;
        }
        c.last = name;
        if (left) json_array_append_new(left, json_string(name));
    }
    return c;
}

/* Nothing followed the glob. */
static st_status quantize_none(const st_model *m, const char *where, const char *glob,
                               quantize_count c, st_err *e)
{
    char spec[ST_SPEC_TEXT] = "";
    if (c.last) {
        const st_slot *s = st_model_slot(m, c.last), *table = NULL;
        if (s->role == ST_ROLE_HEAD && st_model_table(m, s->name))
            table = st_model_role(m, ST_ROLE_EMBEDDING, -1);
        st_spec_print(s->spec, spec);
        ST_FAIL(e, ST_EARG,
                table ? "%s'%.80s': %s is the embedding (tied): name %s%s"
                      : "%s'%.80s': %s stays floats: %s%s has no rows of whole groups of 32 that a "
                        "product sums over",
                where, glob, c.last, table ? table->name : "the map ", table ? "" : spec);
    }
    const char **names = st_calloc(m->matrices + 1, sizeof *names);
    for (int64_t i = 0; names && i < m->matrices; i++)
        names[i] = m->matrix[i].name;
    const char *near = names ? st_nearest(glob, names) : NULL;
    if (!near && m->matrices) near = m->matrix[0].name;
    free(names);
    ST_FAIL(e, ST_EARG, "%s'%.80s' matches none of %s; the nearest name is '%s'", where, glob,
            st_counted(m->matrices, "matrices").s, near ? near : "");
}

st_status st_model_quantize(st_model *m, const char *const *texts, int n, json_t **left, st_err *e)
{
    json_t *names = json_array();
    st_status s = names ? ST_OK : ST_NOMEM(e, "model");
    for (int i = 0; i < n && !s; i++) {
        char format[16];
        st_dtype t;
        size_t length = strcspn(texts[i], ":");
        const char *glob = texts[i][length] ? texts[i] + length + 1 : "*";
        snprintf(format, sizeof format, "%.*s", (int)(length < 15 ? length : 15), texts[i]);
        if (!quantize_format(format, &t)) {
            s = ST_ERR(e, ST_EARG,
                       "quantize %.80s: expected q8, q4, q4_1 or none, and after a colon, if not "
                       "all are meant, a glob such as 'h.*.mlp.*'",
                       texts[i]);
            break;
        }
        quantize_count c = quantize_glob(m, glob, t, t == ST_F32 ? NULL : names);
        if (!c.set && (t != ST_F32 || !c.meant)) s = quantize_none(m, "quantize ", glob, c, e);
    }
    if (s || !left)
        json_decref(names);
    else
        *left = names;
    return s;
}

bool st_model_quantized(const st_model *m)
{
    for (int64_t i = 0; i < m->entries; i++) {
        if (m->entry[i].p.format != ST_F32) return true;
    }
    return false;
}

st_status st_quantize_read(st_model *m, const json_t *config, st_err *e)
{
    static const char where[] = "config.json: strut.quantize: ";
    const json_t *table = json_object_get(json_object_get(config, "strut"), "quantize");
    const char *glob;
    json_t *value;
    if (!table || json_is_null(table)) return ST_OK;
    if (!json_is_object(table) || json_object_size(table) > QUANTIZE_GLOBS) {
        ST_FAIL(e, ST_EFORMAT, "%sexpected an object {GLOB: FORMAT} of at most %d entries", where,
                QUANTIZE_GLOBS);
    }
    json_object_foreach((json_t *)(uintptr_t)table, glob, value)
    {
        st_dtype t;
        if (!json_is_string(value) || !quantize_format(json_string_value(value), &t)) {
            ST_FAIL(e, ST_EFORMAT, "%s'%.80s' must be \"Q8_0\", \"Q4_0\" or \"Q4_1\"", where, glob);
        }
        quantize_count c = quantize_glob(m, glob, t, NULL);
        if (!c.set) return quantize_none(m, where, glob, c, e);
    }
    return ST_OK;
}

void st_quantize_print(const st_model *m, json_t *config)
{
    json_t *table = json_object(), *ours = json_object_get(config, "strut");
    for (int64_t i = 0; i < m->entries; i++) {
        const st_model_entry *entry = &m->entry[i];
        if (entry->p.format == ST_F32) continue;
        json_object_set_new(table, m->matrix[entry->matrix].name,
                            json_string(st_dtype_name(entry->p.format)));
    }
    if (json_object_size(table) == 0) {
        json_decref(table);
        return;
    }
    if (!ours) json_object_set_new(config, "strut", ours = json_pack("{s:i}", "format", 1));
    json_object_set_new(ours, "quantize", table);
}

/* ---- on a device ----------------------------------------------------------------------------- */

static size_t mixed_bytes(const st_param *p, st_dtype t)
{
    size_t n = st_dtype_bytes(p->format == ST_F32 ? t : p->format, st_numel(p->w));
    return (n + MIXED_ALIGN - 1) / MIXED_ALIGN * MIXED_ALIGN;
}

size_t st_model_mixed(const st_model *m, st_dtype t)
{
    size_t n = 0;
    for (int64_t i = 0; i < m->entries; i++)
        n += mixed_bytes(&m->entry[i].p, t);
    return n;
}

void st_model_bind_mixed(st_model *m, st_dtype t, bool pack, void *base)
{
    char *at = base;
    m->weights = st_view1(base, t, 0);
    m->grads = (st_tensor){0};
    m->mixed = true;
    m->pack = pack;
    for (int64_t i = 0; i < m->entries; i++) {
        st_model_entry *entry = &m->entry[i];
        entry->p.w.data = at;
        st_dtype own = entry->p.format == ST_F32 ? t : entry->p.format;
        entry->p.w.dtype = pack && entry->p.flags & ST_P_WHOLE ? st_dtype_packed(own) : own;
        *entry->w = entry->p.w;
        *entry->dw = (st_tensor){0};
        at += mixed_bytes(&entry->p, t);
    }
    if (m->lm) st_lm_bound(m->lm);
}
