/* Initial weights as the programs that a type comes from give them, for comparisons in which the
 * start is not to differ. The numbers stand in the types' files (st_map_type.fresh). */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t fresh_stream(const st_fresh_opts *how, const char *param)
{
    char name[256];
    snprintf(name, sizeof name, "%.200s.%.40s", how->name ? how->name : "", param);
    return st_hash_name(name);
}

void map_fresh_uniform(const st_fresh_opts *how, const char *param, st_tensor t, double bound)
{
    if (!t.data) return;
    st_uniform_fill(t.data, st_numel(t), (float)bound, how->seed, fresh_stream(how, param));
}

void map_fresh_normal(const st_fresh_opts *how, const char *param, st_tensor t, float std)
{
    if (!t.data) return;
    st_normal_fill(t.data, st_numel(t), 0.0f, std, how->seed, fresh_stream(how, param));
}

void map_fresh_weight(const st_fresh_opts *how, const char *param, st_tensor t, double bound)
{
    if (how->over > 0.0f)
        map_fresh_normal(how, param, t, how->over);
    else
        map_fresh_uniform(how, param, t, bound);
}

void map_fresh_linear(const st_fresh_opts *how, const char *param, st_tensor t)
{
    map_fresh_normal(how, param, t, how->over > 0.0f ? how->over : how->range);
}

void st_map_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t, st_tensor bias)
{
    if (bias.data) memset(bias.data, 0, st_bytes(bias));
    if (s->type->fresh && how->law != ST_FRESH_DENSE) {
        s->type->fresh(s, how, t, bias);
        return;
    }
    st_param_shape p[ST_PARAMS];
    int n = s->type->params(s, how->std, p);
    for (int i = 0; i < n; i++) {
        st_normal_fill(t->p[i].data, st_numel(t->p[i]), p[i].init_mean, p[i].init_std, how->seed,
                       fresh_stream(how, p[i].name));
    }
}
