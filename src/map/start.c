/* Inits: how theta is set from a dense W. Of every type: the nearest matrix, the nearest matrix
 * with W's norm, random numbers. A type adds its own (st_map_type.init). Text:
 * "NAME:KNOB=VALUE,...". */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include "map/weighted.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_NAMES = 16, START_TEXT = 256 };

static st_status start_project(const st_spec *s, st_tensor w, const st_theta *t, const double *knob,
                               const st_project_opts *how, st_err *e)
{
    (void)knob;
    return s->type->project(s, w, t, how, e);
}

/* As a new model has it: every parameter from the stream of its name, at the deviation that the
 * type gives it for W's std; or, std= given, each at that (Krony-PT: 0.02, which makes W 50 times
 * smaller than GPT-2's). */
static st_status start_random(const st_spec *s, st_tensor w, const st_theta *t, const double *knob,
                              const st_project_opts *how, st_err *e)
{
    (void)w;
    char name[START_TEXT];
    st_param_shape p[ST_PARAMS];
    if (!how || !(how->std >= 0.0f)) ST_FAIL(e, ST_EARG, "init random: no deviation was given");
    int n = s->type->params(s, how->std, p);
    for (int i = 0; i < n; i++) {
        bool weight = p[i].flags & ST_MAP_DECAY || p[i].init_std > 0.0f;
        float std = knob[0] >= 0.0 && weight ? (float)knob[0] : p[i].init_std;
        snprintf(name, sizeof name, "%.200s.%.30s", how->name ? how->name : "", p[i].name);
        st_normal_fill(t->p[i].data, st_numel(t->p[i]), p[i].init_mean, std, how->seed,
                       st_hash_name(name));
    }
    return ST_OK;
}

const st_map_init st_map_inits[] = {
    {.name = "vl",
     .help = "the nearest matrix; of a Kronecker sum Van Loan's (also called project)",
     .fill = start_project,
     .weighted = true},
    {.name = "vl-norm",
     .help = "vl, then scaled by alpha = |W| / |W'| to W's norm",
     .fill = start_project,
     .normalize = true,
     .weighted = true},
    {.name = "random",
     .help = "nothing of W: as strut init makes it, with the same seed",
     .knob = {{"std", "deviation of every factor; not given: so that W' has that of a dense init",
               NULL, -1.0, 0.0, 100.0}},
     .fill = start_random},
    {.name = NULL},
};

const st_map_init *st_start_at(const st_map_type *type, int i)
{
    int own = 0;
    while (own < ST_INITS && type->init[own].name)
        own++;
    if (i < own) return &type->init[i];
    for (int k = 0; st_map_inits[k].name; k++) {
        if (k == i - own) return &st_map_inits[k];
    }
    return NULL;
}

static st_status start_unknown(const char *what, const char *word, const char *const *names,
                               const st_spec *s, st_err *e)
{
    char list[START_TEXT];
    size_t n = 0;
    list[0] = '\0';
    for (int i = 0; names[i] && n < sizeof list; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", names[i]);
    const char *near = st_nearest(word, names);
    ST_FAIL(e, ST_EARG, "init: %s has no %s \"%.40s\"%s%s%s; the choice is: %s", s->type->name,
            what, word, near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "",
            *list ? list : "none");
}

static st_status start_name(st_start *out, const st_spec *s, const char *word, st_err *e)
{
    const char *names[START_NAMES] = {0};
    if (strcmp(word, "project") == 0) word = st_map_inits[0].name;
    const st_map_init *row;
    for (int i = 0; i + 1 < START_NAMES && (row = st_start_at(s->type, i)); i++) {
        names[i] = row->name;
        if (strcmp(word, row->name) != 0) continue;
        out->row = row;
        for (int k = 0; k < ST_INIT_KNOBS; k++)
            out->knob[k] = row->knob[k].preset;
        return ST_OK;
    }
    return start_unknown("init", word, names, s, e);
}

/* Position of `word` in "even|odd", or -1. */
static int start_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (int i = 0; words && *words; i++) {
        size_t len = strcspn(words, "|");
        if (len == n && strncmp(words, word, n) == 0) return i;
        words += len + (words[len] == '|');
    }
    return -1;
}

/* One "knob=value". */
static st_status start_knob(st_start *out, const st_spec *s, char *item, st_err *e)
{
    const char *names[ST_INIT_KNOBS + 1] = {0};
    char *value = strchr(item, '=');
    if (value) *value++ = '\0';
    for (int i = 0; i < ST_INIT_KNOBS && out->row->knob[i].name; i++) {
        const st_init_knob *k = &out->row->knob[i];
        names[i] = k->name;
        if (strcmp(item, k->name) != 0) continue;
        double x = 0.0;
        int word = value ? start_word(k->words, value) : -1;
        if (word >= 0)
            x = word;
        else if (!value || !st_parse_num(value, &x) || x < k->lo || x > k->hi) {
            ST_FAIL(e, ST_EARG, "init %s: %s is \"%.40s\", expected %s%s%.6g to %.6g",
                    out->row->name, k->name, value ? value : "", k->words ? k->words : "",
                    k->words ? " or " : "", k->lo, k->hi);
        }
        out->knob[i] = x;
        return ST_OK;
    }
    char what[64];
    snprintf(what, sizeof what, "option of init %s called", out->row->name);
    return start_unknown(what, item, names, s, e);
}

st_status st_start_parse(st_start *out, const st_spec *s, const char *text, st_err *e)
{
    char copy[START_TEXT];
    *out = (st_start){0};
    if (!text) text = st_map_inits[0].name;
    if (strlen(text) >= sizeof copy) ST_FAIL(e, ST_EARG, "init: \"%.40s...\" is too long", text);
    memcpy(copy, text, strlen(text) + 1);
    char *rest = strchr(copy, ':');
    if (rest) *rest++ = '\0';
    ST_TRY(start_name(out, s, copy, e));
    for (char *save = NULL, *item = rest ? strtok_r(rest, ",", &save) : NULL; item;
         item = strtok_r(NULL, ",", &save)) {
        ST_TRY(start_knob(out, s, item, e));
    }
    return ST_OK;
}

/* |w|^2, <w, v>, |v|^2 and |w - by v|^2. */
typedef struct {
    double ww, wv, vv, lost;
} start_sums;

static start_sums start_measure(const float *w, const float *v, int64_t n, double by)
{
    start_sums s = {0};
    for (int64_t i = 0; i < n; i++) {
        double a = (double)w[i], b = (double)v[i], d = a - by * b;
        s.ww += a * a;
        s.wv += a * b;
        s.vv += b * b;
        s.lost += d * d;
    }
    return s;
}

void map_scale(const st_spec *s, const st_theta *t, float by)
{
    if (s->type->scale) {
        s->type->scale(s, t, by);
        return;
    }
    float *p = t->p[0].data;
    for (int64_t i = 0; i < st_numel(t->p[0]); i++)
        p[i] *= by;
}

/* The init's fill, of W or, where there is in_cross, of what stands for it under in_cov. */
static st_status start_fill(const st_spec *s, const st_start *start, st_tensor w, const st_theta *t,
                            const st_project_opts *how, st_err *e)
{
    if (!start->row->weighted || !how || !how->in_cov || !how->in_cross)
        return start->row->fill(s, w, t, start->knob, how, e);
    map_cov k = {0};
    ST_TRY(map_cov_open(&k, how, s->in, e));
    st_project_opts own = *how;
    own.in_cross = NULL;
    own.prepared = &k;
    float *target = map_weighted_target(&k, how, w.data, s->out);
    st_status status = ST_OK;
    if (target) {
        st_tensor aim = st_view2(target, ST_F32, s->out, s->in);
        status = start->row->fill(s, aim, t, start->knob, &own, e);
    } else {
        status = ST_ERR(e, ST_ENOMEM, "%s: no memory for %lld numbers", s->type->name,
                        (long long)(s->in * s->out));
    }
    free(target);
    map_cov_close(&k);
    return status;
}

st_status st_map_start(const st_spec *s, const st_start *start, st_tensor w, const st_theta *t,
                       const st_project_opts *how, st_fit *fit, st_err *e)
{
    int64_t n = s->in * s->out;
    ST_TRY(start_fill(s, start, w, t, how, e));
    if (!fit && !start->row->normalize) return ST_OK;
    float *v = malloc((size_t)n * sizeof *v);
    if (!v) ST_FAIL(e, ST_ENOMEM, "%s: no memory for %lld numbers", s->type->name, (long long)n);
    st_status status = st_map_expand(s, t, st_view2(v, ST_F32, s->out, s->in), e);
    if (!status) {
        double alpha = 1.0;
        start_sums m = start_measure(w.data, v, n, 1.0);
        if (start->row->normalize && m.vv > 0.0) {
            alpha = sqrt(m.ww / m.vv);
            map_scale(s, t, (float)alpha);
            m = start_measure(w.data, v, n, alpha);
        }
        double both = m.ww * m.vv, none = m.ww > 0.0 ? 0.0 : 1.0;
        if (fit) {
            *fit = (st_fit){.total = m.ww,
                            .lost = m.lost,
                            .energy = both > 0.0 ? m.wv * m.wv / both : none,
                            .alpha = alpha};
        }
    }
    free(v);
    return status;
}
