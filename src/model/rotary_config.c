/* Rotary positions in a config.json: rope_scaling, or what newer files call rope_parameters, with
 * rope_theta inside; of Gemma's those of blocks without and with a window. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <string.h>

static const char *const file = "config.json";

static const char *const rope_names[] = {[ST_ROPE_DEFAULT] = "default",
                                         [ST_ROPE_LINEAR] = "linear",
                                         [ST_ROPE_DYNAMIC] = "dynamic",
                                         [ST_ROPE_YARN] = "yarn",
                                         [ST_ROPE_LLAMA3] = "llama3"};
enum { ROPES = sizeof rope_names / sizeof *rope_names };

static st_status rope_numbers(st_rope *r, const json_t *from, const char *what, st_err *e)
{
    double original = (double)r->original;
    ST_TRY(st_json_num(from, "rope_theta", 1.0 + 1e-6, 1e15, &r->theta, what, e));
    ST_TRY(st_json_num(from, "factor", 1e-3, 1e6, &r->factor, what, e));
    ST_TRY(st_json_num(from, "low_freq_factor", 1e-3, 1e6, &r->low, what, e));
    ST_TRY(st_json_num(from, "high_freq_factor", 1e-3, 1e6, &r->high, what, e));
    ST_TRY(st_json_num(from, "beta_fast", 1e-3, 1e6, &r->beta_fast, what, e));
    ST_TRY(st_json_num(from, "beta_slow", 1e-3, 1e6, &r->beta_slow, what, e));
    ST_TRY(st_json_num(from, "attention_factor", 0, 1e6, &r->attention_factor, what, e));
    ST_TRY(st_json_num(from, "mscale", 0, 1e6, &r->mscale, what, e));
    ST_TRY(st_json_num(from, "mscale_all_dim", 0, 1e6, &r->mscale_all, what, e));
    ST_TRY(st_json_flag(from, "truncate", &r->truncate, what, e));
    ST_TRY(st_json_num(from, "original_max_position_embeddings", 1, ST_LLAMA_CONTEXT, &original,
                       what, e));
    r->original = (int64_t)original;
    return ST_OK;
}

static st_rope rope_preset(const st_llama_config *c, double theta)
{
    return (st_rope){.theta = theta,
                     .factor = 1,
                     .low = 1,
                     .high = 4,
                     .beta_fast = 32,
                     .beta_slow = 1,
                     .truncate = true,
                     .original = c->context};
}

/* Positions that `from`, called `what`, describes. */
static st_status rope_one(st_llama_config *c, st_rope *r, const json_t *config, const json_t *from,
                          const char *what, st_err *e)
{
    const char *name = "default", *older = NULL;
    ST_TRY(st_json_str(from, "type", &older, what, e));
    if (older) name = older;
    ST_TRY(st_json_str(from, "rope_type", &name, what, e));
    int kind = 0;
    while (kind < ROPES && strcmp(name, rope_names[kind]))
        kind++;
    if (kind == ROPES || json_is_object(json_object_get(from, "full_attention"))) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: %s '%.40s', expected default, linear, dynamic, yarn or llama3", what,
                kind == ROPES ? "rope_type is" : "differs by layer: beside", name);
    }
    r->kind = (st_rope_kind)kind;
    ST_TRY(rope_numbers(r, from, what, e));
    ST_TRY(st_json_int(config, "original_max_position_embeddings", 1, ST_LLAMA_CONTEXT,
                       &r->original, file, e));
    if (kind == ST_ROPE_DYNAMIC) { /* the context is the trained one, which is what grows */
        r->original = c->context;
        double longer = (double)c->context * r->factor;
        c->context = longer < ST_LLAMA_CONTEXT ? (int64_t)longer : ST_LLAMA_CONTEXT;
        if (c->context < r->original) c->context = r->original;
    }
    if (kind == ST_ROPE_LLAMA3 && r->high <= r->low) {
        ST_FAIL(e, ST_EFORMAT, "%s: high_freq_factor is %g, expected more than low_freq_factor %g",
                what, r->high, r->low);
    }
    return ST_OK;
}

st_status st_rope_read(st_llama_config *c, const json_t *config, st_err *e)
{
    const char *what = "config.json: rope_scaling";
    const json_t *from = json_object_get(config, "rope_scaling");
    c->rope = rope_preset(c, c->gemma ? 1e6 : 1e4);
    c->local = rope_preset(c, 1e4);
    ST_TRY(st_json_num(config, "rope_theta", 1.0 + 1e-6, 1e15, &c->rope.theta, file, e));
    ST_TRY(st_json_num(config, "rope_local_base_freq", 1.0 + 1e-6, 1e15, &c->local.theta, file, e));
    if (!from || json_is_null(from)) {
        from = json_object_get(config, "rope_parameters");
        what = "config.json: rope_parameters";
    }
    if (!from || json_is_null(from)) return ST_OK;
    if (!json_is_object(from)) ST_FAIL(e, ST_EFORMAT, "%s: expected an object", what);
    const json_t *local = json_object_get(from, "sliding_attention");
    const json_t *full = json_object_get(from, "full_attention");
    if (c->gemma && json_is_object(local)) {
        const char *its = "config.json: rope_parameters: sliding_attention";
        ST_TRY(rope_one(c, &c->local, config, local, its, e));
        if (c->local.kind != ST_ROPE_DEFAULT) {
            ST_FAIL(e, ST_EUNSUPPORTED, "%s: rope_type is '%s', expected default (not supported)",
                    its, rope_names[c->local.kind]);
        }
    }
    if (c->gemma && json_is_object(full)) from = full;
    return rope_one(c, &c->rope, config, from, what, e);
}

json_t *st_rope_json(const st_rope *r)
{
    if (r->kind == ST_ROPE_DEFAULT) return json_null();
    json_t *to = json_pack("{s:s, s:f}", "rope_type", rope_names[r->kind], "factor", r->factor);
    if (r->kind == ST_ROPE_LLAMA3 || r->kind == ST_ROPE_YARN)
        json_object_set_new(to, "original_max_position_embeddings", json_integer(r->original));
    if (r->kind == ST_ROPE_LLAMA3) {
        json_object_set_new(to, "low_freq_factor", json_real(r->low));
        json_object_set_new(to, "high_freq_factor", json_real(r->high));
    }
    if (r->kind != ST_ROPE_YARN) return to;
    json_object_set_new(to, "beta_fast", json_real(r->beta_fast));
    json_object_set_new(to, "beta_slow", json_real(r->beta_slow));
    if (r->attention_factor > 0)
        json_object_set_new(to, "attention_factor", json_real(r->attention_factor));
    if (r->mscale > 0) json_object_set_new(to, "mscale", json_real(r->mscale));
    if (r->mscale_all > 0) json_object_set_new(to, "mscale_all_dim", json_real(r->mscale_all));
    if (!r->truncate) json_object_set_new(to, "truncate", json_false());
    return to;
}
