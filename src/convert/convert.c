/* A model from any format that holds it into any other. What a format cannot hold is refused with
 * the reason; what it stores otherwise (dense instead of structured) is said in the result. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include "convert/inner.h"
#include "files/files.h"
#include "fit/fit.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void st_convert_note(st_conversion *c, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_array_append_new(c->notes, st_json_text(text));
    st_log(ST_LOG_WARN, "%s", text);
}

static st_status convert_find(const char *name, const st_convert_format **out, st_err *e)
{
    if (!*name)
        ST_FAIL(e, ST_EARG,
                "the name of OUT says no format (.pt, .safetensors, .gguf, a / at its end): give "
                "--to FORMAT (see: strut help convert)");
    const char *names[32] = {0};
    char list[256] = "";
    size_t n = 0;
    for (int i = 0; st_convert_table[i].name && i < 31; i++) {
        names[i] = st_convert_table[i].name;
        *out = &st_convert_table[i];
        if (strcmp(names[i], name) == 0) return ST_OK;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = st_nearest(name, names);
    ST_FAIL(e, ST_EARG, "--to %.40s: unknown format%s%s%s; the choice is: %s", name,
            near ? " (did you mean " : "", near ? near : "", near ? "?)" : "", list);
}

/* The format that a name of OUT asks for; "": none. */
static const char *convert_by_name(const char *out)
{
    static const char *const ends[][2] = {{"/", "strut"},
                                          {".pth.tar", "pt"},
                                          {".pth", "pt"},
                                          {".pt", "pt"},
                                          {".safetensors", "safetensors"},
                                          {".gguf", "gguf"}};
    size_t n = strlen(out);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i][0]);
        if (n > m && strcmp(out + n - m, ends[i][0]) == 0) return ends[i][1];
    }
    return "";
}

/* Fails before minutes of work where OUT could not be written. */
static st_status convert_room(const st_convert_format *f, const char *in, const char *out,
                              bool replace, st_err *e)
{
    if (f->folder) {
        st_outdir dir = {0};
        ST_TRY(st_output_apart(out, &in, 1, e));
        ST_TRY(st_outdir_open(&dir, out, replace ? st_folder_over : NULL, e));
        st_outdir_discard(&dir);
        return ST_OK;
    }
    ST_TRY(st_output_file(out, replace, "a file of weights", st_weights_there, e));
    return st_output_apart(out, &in, 1, e);
}

/* ---- reading --------------------------------------------------------------------------------- */

static st_status convert_dtype(const char *asked, const char *stored, st_dtype *out, st_err *e)
{
    *out = strcmp(stored, "F16") == 0 ? ST_F16 : strcmp(stored, "BF16") == 0 ? ST_BF16 : ST_F32;
    if (!asked) return ST_OK;
    bool known = st_dtype_parse(asked, out);
    if (known && (*out == ST_F32 || *out == ST_F16 || *out == ST_BF16)) return ST_OK;
    ST_FAIL(e, ST_EARG, "--dtype %.40s: expected f32, f16 or bf16", asked);
}

static st_status convert_read(st_conversion *c, const st_convert_opts *o, const char **form)
{
    st_whole w;
    ST_TRY(convert_dtype(o->dtype, "", &c->dtype, c->e)); /* before much is read */
    ST_TRY(st_whole_open(&w, c->in, &o->how, c->e));
    st_status s = convert_dtype(o->dtype, w.dtype, &c->dtype, c->e);
    *form = w.form;
    c->model = w.model;
    c->flat = w.flat;
    c->tokenizer = w.tokenizer;
    json_array_extend(c->notes, w.notes);
    json_decref(w.notes);
    return s;
}

/* ---- dense ----------------------------------------------------------------------------------- */

struct convert_walk {
    json_t *names;
    const st_slot *only; /* looked for alone; NULL: all are */
    char gated[128];
};

static void convert_structured(void *ctx, const char *name, const st_spec *spec)
{
    struct convert_walk *w = ctx;
    char text[ST_SPEC_TEXT];
    st_spec_print(spec, text);
    if (strcmp(text, "dense") == 0 || (w->only && strcmp(name, w->only->name) != 0)) return;
    json_array_append_new(w->names, json_string(name));
    size_t n = strlen(text);
    if (n > 5 && strcmp(text + n - 5, "+gate") == 0)
        snprintf(w->gated, sizeof w->gated, "%.100s", name);
}

/* Every structured matrix, or only the embedding, becomes the dense one it stands for. */
static st_status convert_expand(st_conversion *c, bool table)
{
    const st_slot *rows = st_model_role(c->model, ST_ROLE_EMBEDDING, -1); /* NULL: of images */
    char own[128];
    snprintf(own, sizeof own, "%.96s=dense", rows ? rows->name : "");
    const char *const all[] = {own, "*=dense"};
    st_decompose_opts o = {
        .maps = rows ? all : all + 1, .nmaps = !table && rows ? 2 : 1, .what = "expand"};
    struct convert_walk w = {.names = c->dense, .only = table ? rows : NULL};
    st_model *to = NULL;
    float *flat = NULL;
    json_t *said = NULL;
    st_model_matrices(c->model, convert_structured, &w);
    if (w.gated[0]) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "%s: is a gated sum: what it does depends on the token, so that no dense matrix is "
                "the same; --to strut, hf-code and pt keep it",
                w.gated);
    }
    if (json_array_size(c->dense) == 0) return ST_OK;
    ST_TRY(st_decompose_weights(c->model, c->flat, &o, &to, &flat, &said, c->e));
    json_decref(said);
    free(c->flat);
    st_model_close(c->model);
    c->flat = flat;
    c->model = to;
    return ST_OK;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* What a classifier needs: a format that holds it, positions for the size that is wanted. */
static st_status convert_images(st_conversion *c, const st_convert_format *f,
                                const st_convert_opts *o)
{
    if (o->image_size) ST_TRY(st_need_vision(c->model, c->in, "--image-size", c->e));
    if (!st_model_is_vision(c->model)) return ST_OK;
    if (!f->images) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "%s holds language models; strut, dense, pt and safetensors hold a T2T-ViT",
                f->name);
    }
    double off = st_positions_off(c->model, c->flat);
    int64_t size = st_model_vision_shape(c->model).size;
    if (off > 0.0025) { /* more than rounding to bfloat16 */
        st_convert_note(c,
                        "the stored positions are %.3g from T2T-ViT's sinusoid at most: trained or "
                        "interpolated ones, which are kept",
                        off);
    }
    if (!o->image_size || o->image_size == size) return ST_OK;
    st_convert_note(c, "positions interpolated from %lld to %lld pixels", (long long)size,
                    (long long)o->image_size);
    st_status s = st_positions_resize(&c->model, &c->flat, o->image_size, c->e);
    if (s) st_err_prefix(c->e, "--image-size %lld", (long long)o->image_size);
    return s;
}

/* ---- 8 and 4 bits ---------------------------------------------------------------------------- */

/* The formats that are asked for, or those of the source. */
static st_status convert_quantize(st_conversion *c, const st_convert_format *f,
                                  const st_convert_opts *o)
{
    static const char *const none[] = {"none"};
    json_t *left = NULL;
    if (o->nquantize && !f->blocks) {
        ST_FAIL(c->e, ST_EARG,
                "--quantize: %s holds floats; strut, safetensors and gguf hold blocks", f->name);
    }
    if (!f->blocks && st_model_quantized(c->model)) {
        st_convert_note(c, "%s holds floats: what was in blocks of 8 or 4 bits is written as %s",
                        f->name, st_dtype_name(c->dtype));
        return st_model_quantize(c->model, none, 1, NULL, c->e);
    }
    ST_TRY(st_model_quantize(c->model, o->quantize, o->nquantize, &left, c->e));
    size_t n = json_array_size(left);
    if (n) {
        st_convert_note(c, "%s%s stays %s: no part of it has rows of whole groups of 32",
                        json_string_value(json_array_get(left, 0)), n > 1 ? " and others" : "",
                        st_dtype_name(c->dtype));
    }
    json_decref(left);
    return ST_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static st_status convert_write(st_conversion *c, const st_convert_format *f, bool replace)
{
    if (!f->folder) return f->write(c, c->out);
    st_outdir o = {0};
    ST_TRY(st_outdir_open(&o, c->out, replace ? st_folder_over : NULL, c->e));
    st_status s = f->write(c, o.temp);
    if (s && s != ST_EINTR) st_err_prefix(c->e, "%s", c->out);
    if (!s) s = st_outdir_commit(&o, c->e);
    st_outdir_discard(&o);
    return s;
}

static st_status convert_run(st_conversion *c, const st_convert_format *f, const st_convert_opts *o,
                             const char **form)
{
    ST_TRY(convert_room(f, c->in, c->out, o->replace, c->e));
    ST_TRY(convert_read(c, o, form));
    ST_TRY(convert_images(c, f, o));
    if (f->dense || f->table) ST_TRY(convert_expand(c, !f->dense));
    ST_TRY(convert_quantize(c, f, o));
    c->config = st_model_config(c->model);
    if (!c->config) return ST_NOMEM(c->e, NULL);
    const char *type = json_string_value(json_object_get(c->config, "model_type"));
    if (f->gpt2 && strcmp(type, "gpt2")) {
        ST_FAIL(c->e, ST_EUNSUPPORTED, "%s cannot hold this model: it is a %s, expected a GPT-2",
                f->name, type);
    }
    if (f->fits) ST_TRY(f->fits(c));
    if (c->tokenizer && !f->words) st_convert_note(c, "%s has no place for the tokenizer", f->name);
    return convert_write(c, f, o->replace);
}

st_status st_convert_model(const char *in, const char *out, const st_convert_opts *o,
                           json_t **result, st_err *e)
{
    const st_convert_format *f = NULL;
    const char *form = "";
    double start = st_now();
    *result = NULL;
    ST_TRY(convert_find(o->to ? o->to : convert_by_name(out), &f, e));
    st_conversion c = {.in = in,
                       .out = out,
                       .shard_bytes = o->shard_bytes,
                       .dense = json_array(),
                       .notes = json_array(),
                       .e = e};
    st_status s = convert_run(&c, f, o, &form);
    if (!s) {
        *result = json_pack(
            "{s:o, s:o, s:s, s:s, s:s, s:I, s:O, s:b, s:O, s:f}", "in", st_json_text(in), "out",
            st_json_text(out), "from", form, "to", f->name, "dtype", st_dtype_name(c.dtype),
            "parameters", (json_int_t)st_model_counts(c.model).parameters, "densified", c.dense,
            "tokenizer", f->words && c.tokenizer, "notes", c.notes, "seconds", st_now() - start);
        if (!*result) s = ST_NOMEM(e, NULL);
    }
    json_decref(c.config);
    json_decref(c.dense);
    json_decref(c.notes);
    st_bpe_close(c.tokenizer);
    st_model_close(c.model);
    free(c.flat);
    return s;
}
