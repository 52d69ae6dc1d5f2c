/* What each format can hold. The code that will read it takes much for granted which config.json
 * says: the reason of a refusal is what it would compute otherwise. */
/* SPDX-License-Identifier: MIT */
#include "convert/inner.h"
#include <stdio.h>
#include <string.h>

static double fits_number(const st_conversion *c, const char *key)
{
    return json_number_value(json_object_get(c->config, key));
}

/* Attention scores by 1/sqrt(head width), as everybody but some Hugging Face models has them. */
static st_status fits_scores(const st_conversion *c, const char *format)
{
    const char *key = "scale_attn_by_inverse_layer_idx";
    bool by_layer = json_is_true(json_object_get(c->config, key));
    if (!by_layer) key = "scale_attn_weights";
    if (!by_layer && !json_is_false(json_object_get(c->config, key))) return ST_OK;
    ST_FAIL(c->e, ST_EUNSUPPORTED, "%s cannot hold this model: its config.json has %s %s", format,
            key, by_layer ? "true" : "false");
}

/* What nanoGPT's code, Krony-PT's and llm.c's take for granted. */
static st_status fits_plain(const st_conversion *c, const char *format)
{
    st_lm_shape lm = st_model_lm(c->model);
    double eps = fits_number(c, "layer_norm_epsilon");
    ST_TRY(fits_scores(c, format));
    if (!lm.tied) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "%s cannot hold this model: its head is not tied to the embedding", format);
    }
    if (lm.inner != 4 * lm.width) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "%s cannot hold this model: its MLPs are %lld wide, expected 4 times %lld", format,
                (long long)lm.inner, (long long)lm.width);
    }
    if (eps > 1.0001e-5 || eps < 0.9999e-5) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "%s cannot hold this model: its layer_norm_epsilon is %g, expected 1e-05", format,
                eps);
    }
    return ST_OK;
}

/* `format` computes one GELU whatever the model has. */
static void fits_gelu(st_conversion *c, const char *format, st_gelu_kind runs)
{
    static const char *const names[] = {[ST_GELU_TANH] = "tanh", [ST_GELU_ERF] = "erf"};
    st_gelu_kind has = st_model_lm(c->model).gelu;
    if (has == runs) return;
    st_convert_note(c,
                    "%s computes GELU by %s, this model has %s: its numbers differ a little there",
                    format, names[runs], names[has]);
}

st_status st_fits_nanogpt(st_conversion *c)
{
    ST_TRY(fits_plain(c, "nanogpt"));
    fits_gelu(c, "nanoGPT", ST_GELU_ERF);
    return ST_OK;
}

st_status st_fits_llmc(st_conversion *c)
{
    ST_TRY(fits_plain(c, "llmc"));
    if (c->dtype == ST_F16) {
        ST_FAIL(c->e, ST_EUNSUPPORTED, "llmc has no float16: choose --dtype f32 or bf16");
    }
    fits_gelu(c, "llm.c", ST_GELU_TANH);
    return ST_OK;
}

st_status st_fits_code(st_conversion *c)
{
    return st_modeling_fits(c->model, c->e);
}

/* The head of Hugging Face's GPT-2 has no bias, nor has llama.cpp's. */
static st_status fits_head(const st_conversion *c, const char *format)
{
    if (!st_model_lm(c->model).head_bias) return ST_OK;
    ST_FAIL(c->e, ST_EUNSUPPORTED,
            "%s cannot hold this model: its head has a bias (lm_head_bias in config.json)", format);
}

st_status st_fits_hf(st_conversion *c)
{
    return st_model_is_vision(c->model) ? ST_OK : fits_head(c, "hf");
}

st_status st_fits_gguf(st_conversion *c)
{
    ST_TRY(fits_head(c, "gguf"));
    ST_TRY(st_fits_gguf_llama(c));
    if (json_object_get(c->config, "hidden_act")) return ST_OK; /* no GPT-2 */
    ST_TRY(fits_scores(c, "gguf"));
    fits_gelu(c, "llama.cpp", ST_GELU_TANH);
    return ST_OK;
}

/* ---- Krony-PT -------------------------------------------------------------------------------- */

struct fits_walk {
    const st_conversion *c;
    char fc[ST_SPEC_TEXT], proj[ST_SPEC_TEXT]; /* what every layer's must be */
    st_status status;
};

/* A spec's knobs as text; true for kron. */
static bool fits_kron(const st_spec *spec, long long knob[3], bool *scalars)
{
    char text[ST_SPEC_TEXT];
    st_spec_print(spec, text);
    *scalars = strstr(text, "scalars=1") != NULL;
    return sscanf(text, "kron:terms=%lld,m1=%lld,n1=%lld", &knob[0], &knob[1], &knob[2]) == 3;
}

/* The first c_fc sets the shape of all, c_proj has its transpose. */
static void fits_krony_first(void *ctx, const char *name, const st_spec *spec)
{
    struct fits_walk *w = ctx;
    long long knob[3];
    bool scalars;
    if (strcmp(name, "h.0.mlp.c_fc") != 0 || !fits_kron(spec, knob, &scalars)) return;
    st_spec_print(spec, w->fc);
    snprintf(w->proj, sizeof w->proj, "kron:terms=%lld,m1=%lld,n1=%lld%s", knob[0], knob[2],
             knob[1], scalars ? ",scalars=1" : "");
}

static void fits_krony_matrix(void *ctx, const char *name, const st_spec *spec)
{
    struct fits_walk *w = ctx;
    char text[ST_SPEC_TEXT];
    bool fc = strstr(name, ".mlp.c_fc") != NULL, mlp = fc || strstr(name, ".mlp.c_proj") != NULL;
    const char *want = fc ? w->fc : mlp ? w->proj : "dense";
    st_spec_print(spec, text);
    if (w->status || (*want && strcmp(text, want) == 0)) return;
    w->status =
        ST_ERR(w->c->e, ST_EUNSUPPORTED, "krony cannot hold this model: %s is %s, expected %s%s",
               name, text, *want ? want : "kron",
               mlp ? " (Krony-PT has Kronecker MLPs of one shape in every layer)" : "");
}

st_status st_fits_krony(st_conversion *c)
{
    struct fits_walk w = {.c = c};
    ST_TRY(fits_plain(c, "krony"));
    st_model_matrices(c->model, fits_krony_first, &w);
    st_model_matrices(c->model, fits_krony_matrix, &w);
    ST_TRY(w.status);
    fits_gelu(c, "Krony-PT", ST_GELU_ERF);
    return ST_OK;
}
