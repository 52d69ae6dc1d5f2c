/* The formats that convert writes: what each can hold, and how it is written. */
/* SPDX-License-Identifier: MIT */
#include "convert/inner.h"
#include "files/files.h"
#include "weights/weights.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- folders --------------------------------------------------------------------------------- */

static st_status formats_folder(st_conversion *c, const char *path, bool code)
{
    return st_folder_put(path, c->model, c->flat,
                         &(st_folder_how){.dtype = c->dtype,
                                          .tokenizer = c->tokenizer,
                                          .shard_bytes = c->shard_bytes,
                                          .code = code,
                                          .stop = true,
                                          .what = "convert"},
                         c->e);
}

static st_status formats_strut(st_conversion *c, const char *path)
{
    return formats_folder(c, path, false);
}

static st_status formats_hf(st_conversion *c, const char *path)
{
    if (st_model_is_vision(c->model)) return formats_folder(c, path, false);
    ST_TRY(formats_folder(c, path, false));
    return st_convert_card(c, path, false);
}

static st_status formats_code(st_conversion *c, const char *path)
{
    ST_TRY(formats_folder(c, path, true));
    return st_convert_card(c, path, true);
}

/* ---- files ----------------------------------------------------------------------------------- */

static st_status formats_open(st_conversion *c, st_export *x, const st_export_style *style)
{
    ST_TRY(st_export_open(x, c->model, c->flat, c->dtype, style, c->e));
    x->stop = true;
    x->what = "convert";
    return ST_OK;
}

/* One file with strut's names and, as a text beside the tensors, its config.json. */
static st_status formats_safetensors(st_conversion *c, const char *path)
{
    st_export x;
    char *text = json_dumps(c->config, JSON_COMPACT);
    json_t *meta = text ? json_pack("{s:s}", "config", text) : NULL;
    st_status s = meta ? formats_open(c, &x, &st_export_strut) : ST_NOMEM(c->e, NULL);
    if (!s) {
        s = st_safetensors_write(path, x.item, x.n, meta, st_export_fill, &x, c->e);
        st_export_close(&x);
    }
    json_decref(meta);
    free(text);
    return s;
}

/* A PyTorch archive: the state dict alone, or under `key` with `extra` (taken over) beside it. */
static st_status formats_torch(st_conversion *c, const char *path, const char *key,
                               const st_export_style *style, json_t *extra)
{
    st_export x;
    st_status s = formats_open(c, &x, style);
    if (!s) {
        st_torch_how how = {.key = key, .extra = extra, .same = x.same};
        s = st_torch_write(path, x.item, x.n, &how, st_export_fill, &x, c->e);
        st_export_close(&x);
    }
    json_decref(extra);
    return s;
}

/* Is a T2T-ViT's config.json more than its tensors show? */
static bool formats_hidden(const st_conversion *c)
{
    st_vision_shape v = st_model_vision_shape(c->model);
    const json_t *eps = json_object_get(c->config, "layer_norm_eps");
    return json_object_get(c->config, "strut") || v.heads * 64 != v.width ||
           !json_is_null(json_object_get(c->config, "qk_scale")) ||
           fabs(json_number_value(eps) - 1e-5) > 1e-12;
}

static st_status formats_pt(st_conversion *c, const char *path)
{
    if (st_model_is_vision(c->model)) { /* as its authors publish it */
        json_t *extra = formats_hidden(c) ? json_pack("{s:O}", "config", c->config) : NULL;
        return formats_torch(c, path, "state_dict_ema", &st_export_hf, extra);
    }
    return formats_torch(c, path, "model", &st_export_hf, json_pack("{s:O}", "config", c->config));
}

static st_status formats_nanogpt(st_conversion *c, const char *path)
{
    st_lm_shape lm = st_model_lm(c->model);
    json_t *extra = json_pack(
        "{s:{s:I, s:I, s:I, s:I, s:b, s:I, s:f}, s:i, s:f, s:{s:s}}", "model_args", "n_layer",
        (json_int_t)lm.layers, "n_head", (json_int_t)lm.heads, "n_embd", (json_int_t)lm.width,
        "block_size", (json_int_t)lm.context, "bias", 1, "vocab_size", (json_int_t)lm.vocab,
        "dropout", (double)lm.drop_resid, "iter_num", 0, "best_val_loss", 1e9, "config",
        "activation_function", lm.gelu == ST_GELU_ERF ? "gelu" : "gelu_new");
    if (!extra) return ST_NOMEM(c->e, NULL);
    return formats_torch(c, path, "model", &st_export_nanogpt, extra);
}

static st_status formats_krony(st_conversion *c, const char *path)
{
    return formats_torch(c, path, NULL, &st_export_krony, NULL);
}

static st_status formats_fly(st_conversion *c, const char *path)
{
    ST_TRY(st_fly_numbers(c));
    return formats_torch(c, path, NULL, &st_export_fly, NULL);
}

static st_status formats_llmc(st_conversion *c, const char *path)
{
    st_export x;
    st_lm_shape lm = st_model_lm(c->model);
    st_llmc_shape shape = {.context = lm.context,
                           .vocab = lm.vocab,
                           .layers = lm.layers,
                           .heads = lm.heads,
                           .width = lm.width};
    ST_TRY(formats_open(c, &x, &st_export_llmc));
    st_status s = st_llmc_write(path, &shape, x.item, x.n, st_export_fill, &x, c->e);
    st_export_close(&x);
    return s;
}

const st_convert_format st_convert_table[] = {
    {.name = "strut",
     .folder = true,
     .words = true,
     .images = true,
     .blocks = true,
     .write = formats_strut},
    {.name = "hf",
     .folder = true,
     .dense = true,
     .words = true,
     .fits = st_fits_hf,
     .write = formats_hf},
    {.name = "dense",
     .folder = true,
     .dense = true,
     .words = true,
     .images = true,
     .write = formats_hf},
    {.name = "hf-code", .folder = true, .words = true, .fits = st_fits_code, .write = formats_code},
    {.name = "pt", .images = true, .write = formats_pt},
    {.name = "safetensors", .images = true, .blocks = true, .write = formats_safetensors},
    {.name = "nanogpt",
     .gpt2 = true,
     .dense = true,
     .fits = st_fits_nanogpt,
     .write = formats_nanogpt},
    {.name = "fly", .gpt2 = true, .fits = st_fits_fly, .write = formats_fly},
    {.name = "krony", .gpt2 = true, .table = true, .fits = st_fits_krony, .write = formats_krony},
    {.name = "llmc", .gpt2 = true, .dense = true, .fits = st_fits_llmc, .write = formats_llmc},
    {.name = "gguf",
     .dense = true,
     .words = true,
     .blocks = true,
     .fits = st_fits_gguf,
     .write = st_formats_gguf},
    {0},
};
