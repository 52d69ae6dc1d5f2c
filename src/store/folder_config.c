/* A config.json for weights that have none, from what is beside them (nanoGPT's model_args, llm.c's
 * header, a config that strut stored) and from the shapes:
 *   wte (vocab, width), wpe (context, width), blocks h.0 to h.(layers-1), c_fc.bias (inner).
 * Kronecker factors say their map by their shapes. What no shape says is the number of heads. */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_LAYERS = 1 << 16, CONFIG_NAME = 64, CONFIG_HEAD = 64 /* width of GPT-2's heads */ };

typedef struct {
    int64_t vocab, width, context, layers, inner, heads;
    double dropout, epsilon;
    const char *gelu;
    bool tied;
} config_shape;

/* ---- what the tensors say -------------------------------------------------------------------- */

static st_status config_tensor(const st_folder *f, const char *name, int ndim,
                               const st_stored **out)
{
    const st_folder_row *row = st_folder_find(f, name);
    if (!row) {
        ST_TRY(st_folder_unread(f, name));
        for (int64_t i = 0; i < f->rows; i++) {
            const char *other = f->row[i].stored->name;
            if (strstr(other, ".lora_")) return st_folder_adapter(f, other);
        }
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: no tensor %s, which every GPT-2 has; these are weights of another kind of "
                "model",
                f->file, name);
    }
    *out = row->stored;
    if (row->stored->ndim == ndim) return ST_OK;
    ST_FAIL(f->e, ST_ESHAPE, "%s: tensor %.100s has %d dimensions, expected %d", f->file,
            row->stored->name, row->stored->ndim, ndim);
}

static int64_t config_layers(const st_folder *f)
{
    int64_t layers = 0;
    for (int64_t i = 0; i < f->rows; i++) {
        if (strncmp(f->row[i].name, "h.", 2)) continue;
        int64_t n = strtoll(f->row[i].name + 2, NULL, 10);
        if (n >= layers && n < CONFIG_LAYERS) layers = n + 1;
    }
    return layers;
}

/* Outputs of h.0.mlp.c_fc: its bias's length, else the side of its weight that is not the width,
 * else n1 n2 of its factors. 0: nothing says it. */
static int64_t config_inner(const st_folder *f, int64_t width)
{
    const st_folder_row *bias = st_folder_find(f, "h.0.mlp.c_fc.bias"),
                        *w = st_folder_find(f, "h.0.mlp.c_fc.weight"),
                        *a = st_folder_find(f, "h.0.mlp.c_fc.a"),
                        *b = st_folder_find(f, "h.0.mlp.c_fc.b");
    int64_t n = 0;
    if (bias && bias->stored->ndim == 1) return bias->stored->dim[0];
    if (w && w->stored->ndim == 2) return w->stored->dim[w->stored->dim[0] == width];
    if (!a || !b || a->stored->ndim < 2 || b->stored->ndim < 2) return 0;
    int i = a->piece < 0 ? a->stored->ndim - 1 : 0;
    bool wrong = __builtin_mul_overflow(a->stored->dim[i], b->stored->dim[i], &n);
    return wrong ? 0 : n;
}

/* The map whose factors are M.a and M.b, if they are there, into `maps`. */
static st_status config_kron(const st_folder *f, const char *matrix, json_t *maps)
{
    char name[CONFIG_NAME + 2], spec[128];
    snprintf(name, sizeof name, "%s.a", matrix);
    const st_folder_row *a = st_folder_find(f, name);
    snprintf(name, sizeof name, "%s.s", matrix);
    const char *scalars = st_folder_find(f, name) ? ",scalars=1" : "";
    if (!a) return ST_OK;
    const int64_t *dim = a->stored->dim;
    if (a->stored->ndim != (a->piece < 0 ? 3 : 2)) {
        ST_FAIL(f->e, ST_ESHAPE,
                "%s: tensor %.100s has %d dimensions, expected 3 (terms, rows, columns)", f->file,
                a->stored->name, a->stored->ndim);
    }
    int64_t terms = dim[0], m1 = dim[1], n1 = dim[2];
    if (a->piece >= 0) {
        m1 = dim[1];
        n1 = dim[0];
        terms = 1;
        while (a + terms < f->row + f->rows && strcmp(a[terms].name, a->name) == 0)
            terms++;
    }
    snprintf(spec, sizeof spec, "kron:terms=%lld,m1=%lld,n1=%lld%s", (long long)terms,
             (long long)m1, (long long)n1, scalars);
    json_object_set_new(maps, matrix, json_string(spec));
    return ST_OK;
}

static st_status config_maps(const st_folder *f, int64_t layers, json_t *maps)
{
    static const char *const matrices[] = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
    char name[CONFIG_NAME];
    for (int64_t i = 0; i < layers; i++) {
        for (int k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "h.%d.%s", (int)i, matrices[k]);
            ST_TRY(config_kron(f, name, maps));
        }
    }
    return ST_OK;
}

static st_status config_shapes(const st_folder *f, config_shape *c)
{
    const st_stored *wte = NULL, *wpe = NULL;
    ST_TRY(config_tensor(f, "wte.weight", 2, &wte));
    ST_TRY(config_tensor(f, "wpe.weight", 2, &wpe));
    *c = (config_shape){.vocab = wte->dim[0],
                        .width = wte->dim[1],
                        .context = wpe->dim[0],
                        .epsilon = 1e-5,
                        .layers = config_layers(f)};
    ST_TRY(st_folder_head(f, &c->tied));
    c->inner = config_inner(f, c->width);
    if (c->layers == 0) {
        ST_FAIL(f->e, ST_EFORMAT, "%s: no tensor of a block (h.0.ln_1.weight ...)", f->file);
    }
    return ST_OK;
}

/* ---- what stands beside them ----------------------------------------------------------------- */

/* model_args[key], if there, must be what the tensors have. */
static st_status config_agrees(const st_folder *f, const json_t *args, const char *key, int64_t has)
{
    int64_t says = has;
    ST_TRY(st_json_int(args, key, 0, INT64_MAX, &says, f->file, f->e));
    if (says == has) return ST_OK;
    ST_FAIL(f->e, ST_EFORMAT, "%s: model_args says %s is %lld, but the tensors have %lld", f->file,
            key, (long long)says, (long long)has);
}

/* The settings of the program that saved the file: nanoGPT's model_args, else a "config" that
 * agrees with the tensors (build-nanogpt's), or NULL. */
static const json_t *config_args(const st_folder *f, const config_shape *c)
{
    const json_t *args = json_object_get(f->extra, "model_args");
    const json_t *config = json_object_get(f->extra, "config");
    if (json_is_object(args)) return args;
    bool agrees = json_integer_value(json_object_get(config, "n_layer")) == c->layers &&
                  json_integer_value(json_object_get(config, "n_embd")) == c->width &&
                  json_integer_value(json_object_get(config, "block_size")) == c->context;
    return agrees ? config : NULL;
}

/* fly's is erf, and so is nanoGPT's since its change 274 (June 2023), unless the file says it, as
 * strut's do; without a word tanh, GPT-2's. */
static void config_gelu(st_folder *f, config_shape *c)
{
    const char *said = json_string_value(
        json_object_get(json_object_get(f->extra, "config"), "activation_function"));
    bool nanogpt = json_object_get(f->extra, "model_args") != NULL, asked = f->how && f->how->gelu;
    c->gelu = f->fly || (nanogpt && !f->krony) ? "gelu" : "gelu_new";
    if (said && (strcmp(said, "gelu") == 0 || strcmp(said, "gelu_new") == 0)) {
        c->gelu = said;
    } else if (nanogpt && !f->krony && !asked) {
        st_folder_note(f, "nanoGPT's erf GELU is taken, which it has since June 2023; --gelu tanh "
                          "has the older one");
    }
}

static st_status config_model_args(st_folder *f, config_shape *c)
{
    const json_t *args = config_args(f, c);
    bool bias = true;
    ST_TRY(st_json_num(json_object_get(f->extra, "gguf"), "gpt2.attention.layer_norm_epsilon", 0,
                       DBL_MAX, &c->epsilon, f->file, f->e));
    if (!json_is_object(args)) return ST_OK;
    ST_TRY(config_agrees(f, args, "n_layer", c->layers));
    ST_TRY(config_agrees(f, args, "n_embd", c->width));
    ST_TRY(config_agrees(f, args, "block_size", c->context));
    ST_TRY(config_agrees(f, args, "vocab_size", c->vocab));
    ST_TRY(st_json_int(args, "n_head", 1, INT32_MAX, &c->heads, f->file, f->e));
    ST_TRY(st_json_num(args, "dropout", 0.0, 0.99, &c->dropout, f->file, f->e));
    ST_TRY(st_json_flag(args, "bias", &bias, f->file, f->e));
    f->no_bias = !bias;
    return ST_OK;
}

/* Biases are all there, or none of those that bias=False leaves out. */
static bool config_no_bias(const st_folder *f)
{
    return !st_folder_find(f, "h.0.ln_1.bias") && !st_folder_find(f, "h.0.attn.c_attn.bias") &&
           !st_folder_find(f, "ln_f.bias");
}

st_status st_folder_no_heads(const st_folder *f, int64_t width)
{
    if (f->how && f->how->heads) {
        ST_FAIL(f->e, ST_EARG, "%s: --heads %lld is no divisor of the width %lld", f->file,
                (long long)f->how->heads, (long long)width);
    }
    ST_FAIL(f->e, ST_EARG,
            "%s: nothing says the number of attention heads; give --heads, a divisor of the width "
            "%lld (to convert, for commands that lack it)",
            f->file, (long long)width);
}

static st_status config_heads(st_folder *f, config_shape *c)
{
    int64_t asked = f->how ? f->how->heads : 0;
    if (asked && c->heads && asked != c->heads) {
        ST_FAIL(f->e, ST_EARG, "%s: has %lld heads, --heads says %lld; leave it out", f->file,
                (long long)c->heads, (long long)asked);
    }
    if (!c->heads) c->heads = asked;
    if (!c->heads && c->width % CONFIG_HEAD == 0 && c->width) {
        c->heads = c->width / CONFIG_HEAD;
        st_folder_note(f,
                       "nothing says the number of heads: %lld is taken, as GPT-2 has for a width "
                       "of %lld; --heads sets another",
                       (long long)c->heads, (long long)c->width);
    }
    return !c->heads || c->width % c->heads ? st_folder_no_heads(f, c->width) : ST_OK;
}

st_status st_folder_stored(st_folder *f)
{
    json_t *config = json_object_get(f->extra, "config");
    const char *text = st_weights_meta(f->shard[0], "config");
    if (json_is_object(config) && json_object_get(config, "model_type")) { /* not nanoGPT's */
        f->config = json_incref(config);
    } else if (text) {
        ST_TRY(st_json_parse(&f->config, text, strlen(text), f->file, f->e));
    }
    return ST_OK;
}

st_status st_folder_guess(st_folder *f)
{
    config_shape c;
    if (st_folder_is_t2t(f)) return st_folder_guess_t2t(f);
    if (st_folder_is_llama(f)) return st_folder_guess_llama(f);
    f->guessed = true;
    ST_TRY(config_shapes(f, &c));
    f->no_bias = f->no_bias || config_no_bias(f);
    ST_TRY(config_model_args(f, &c));
    ST_TRY(config_heads(f, &c));
    config_gelu(f, &c);
    json_t *maps = json_object();
    st_status s = config_maps(f, c.layers, maps);
    json_object_update(maps, f->maps);
    f->config = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:b, s:b, s:f, s:f, s:f, s:f, s:b, s:I, s:I}",
        "model_type", "gpt2", "vocab_size", (json_int_t)c.vocab, "n_positions",
        (json_int_t)c.context, "n_embd", (json_int_t)c.width, "n_layer", (json_int_t)c.layers,
        "n_head", (json_int_t)c.heads, "n_inner", c.inner ? json_integer(c.inner) : json_null(),
        "activation_function", c.gelu, "lm_head_bias", f->head_bias,
        "scale_attn_by_inverse_layer_idx", f->fly, "resid_pdrop", c.dropout, "embd_pdrop",
        c.dropout, "attn_pdrop", c.dropout, "layer_norm_epsilon", c.epsilon, "tie_word_embeddings",
        c.tied, "bos_token_id", (json_int_t)50256, "eos_token_id", (json_int_t)50256);
    if (f->fly) {
        st_folder_note(f,
                       "fly's names: its erf GELU and attention scores divided by the block's "
                       "number (scale_attn_by_inverse_layer_idx) are taken, as its configurations "
                       "have them; --gelu and config.json change that");
    }
    if (json_object_size(maps) > 0)
        json_object_set_new(f->config, "strut", json_pack("{s:i, s:O}", "format", 1, "maps", maps));
    json_decref(maps);
    if (!s && !f->config) s = ST_NOMEM(f->e, NULL);
    return s;
}
