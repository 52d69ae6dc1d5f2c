/* Reading models from any path: our folders and Hugging Face's, checkpoints, files of weights
 * alone. What is there is matched with what the model needs before the first weight is read. */
/* Long: reading a folder is one list of checks on one state. */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include "files/files.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- weights --------------------------------------------------------------------------------- */

/* out (rows, cols) = in (cols, rows)^T, in squares that stay in the cache. */
static void folder_transpose(void *out, const void *in, int64_t rows, int64_t cols, size_t size)
{
    enum { SQUARE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += SQUARE) {
        for (int64_t c0 = 0; c0 < cols; c0 += SQUARE) {
            for (int64_t r = r0; r < rows && r < r0 + SQUARE; r++) {
                for (int64_t c = c0; c < cols && c < c0 + SQUARE; c++) {
                    int64_t to = r * cols + c, from = c * rows + r;
                    if (size == 4)
                        ((uint32_t *)out)[to] = ((const uint32_t *)in)[from];
                    else
                        ((uint16_t *)out)[to] = ((const uint16_t *)in)[from];
                }
            }
        }
    }
}

static st_status folder_check_finite(const st_folder *f, const st_stored *t, st_tensor w)
{
    enum { AT_ONCE = 256 };
    int64_t n = st_numel(w);
    for (int64_t i = 0; i < n; i += AT_ONCE) {
        float x[AT_ONCE];
        int64_t part = n - i < AT_ONCE ? n - i : AT_ONCE;
        st_convert(x, ST_F32, st_slice(w, i, part).data, w.dtype, part);
        for (int64_t j = 0; j < part; j++) {
            if (isfinite(x[j])) continue;
            ST_FAIL(f->e, ST_EFORMAT,
                    "%s: tensor %.100s: element %lld is %g, expected finite weights; "
                    "the file is damaged or its training diverged",
                    f->file, t->name, (long long)(i + j), (double)x[j]);
        }
    }
    return ST_OK;
}

/* Where the weights go: each parameter into its place of `flat` (host), or staged and uploaded,
 * there or (no flat) where the model is bound. */
struct folder_load {
    st_folder *f;
    st_stream *stream; /* NULL: flat is host memory */
    st_tensor flat;
    /* Room for the largest tensor, and for the largest that is turned or packed. */
    char *stage, *turn;
    size_t stage_bytes, turn_bytes;
    st_status status;
};

/* Is p stored as the transpose of what the model has? */
static bool folder_turned(const st_folder *f, const st_param *p)
{
    if (p->format != ST_F32) return false;
    const st_folder_row *row = st_folder_find(f, p->name);
    if (row && (row->piece >= 0 || row->form == ST_ROW_FLIP)) return true;
    return (p->flags & ST_P_FLIP) && !f->linear && !(row && row->form == ST_ROW_LINEAR);
}

static st_tensor folder_place(const struct folder_load *l, const st_param *p)
{
    return l->flat.data ? st_slice(l->flat, p->offset, st_numel(p->w)) : p->w;
}

static void folder_measure(void *ctx, const st_param *p)
{
    struct folder_load *l = ctx;
    size_t bytes = st_bytes(folder_place(l, p));
    if (bytes > l->stage_bytes) l->stage_bytes = bytes;
    bool packed = !l->flat.data && p->w.dtype != st_dtype_plain(p->w.dtype);
    if ((packed || folder_turned(l->f, p)) && bytes > l->turn_bytes) l->turn_bytes = bytes;
}

/* One stored tensor into `w` (rows, cols), whose transpose it is if `turn`. */
static st_status folder_read_one(struct folder_load *l, const st_stored *t, st_tensor w, bool turn)
{
    st_tensor read = w;
    if (turn) read.data = l->turn;
    ST_TRY(st_stored_read(t, read, l->f->e));
    ST_TRY(folder_check_finite(l->f, t, read));
    if (turn) folder_transpose(w.data, read.data, w.dim[0], w.dim[1], st_dtype_size(w.dtype));
    return ST_OK;
}

/* w as it is uploaded: the matrices of its last two sides packed, if `t` is. */
static const void *folder_packed(const struct folder_load *l, st_dtype t, st_tensor w)
{
    if (t == w.dtype) return w.data;
    int64_t rows = w.dim[w.ndim - 2], cols = w.dim[w.ndim - 1];
    for (int64_t at = 0, n = st_numel(w); at < n; at += rows * cols)
        st_blocks_pack(l->turn + st_dtype_bytes(t, at), st_slice(w, at, rows * cols).data, t, rows,
                       cols);
    return l->turn;
}

static void folder_load_param(void *ctx, const st_param *p)
{
    struct folder_load *l = ctx;
    const st_folder_row *row = st_folder_find(l->f, p->name);
    if (l->status || !row) return; /* a bias that is not there is zeros */
    if (st_interrupted()) {
        l->status = ST_ERR(l->f->e, ST_EINTR, "%s: interrupted", l->f->path);
        return;
    }
    st_tensor to = folder_place(l, p);
    void *data = l->stream ? (void *)l->stage : to.data;
    st_tensor w = st_view(data, st_dtype_plain(to.dtype), p->w.ndim, p->w.dim);
    if (st_folder_special(row)) {
        l->status = st_folder_read_special(l->f, p, row, w);
        if (!l->status) l->status = folder_check_finite(l->f, row->stored, w);
    } else if (p->format != ST_F32) {
        l->status = st_stored_blocks(row->stored, p->format, w, l->f->e);
        if (!l->status) l->status = folder_check_finite(l->f, row->stored, w);
    } else if (row->piece < 0) {
        l->status = folder_read_one(l, row->stored, w, folder_turned(l->f, p));
    } else {
        int64_t each = p->w.dim[1] * p->w.dim[2];
        for (int64_t i = 0; i < p->w.dim[0] && !l->status; i++) {
            st_tensor one = st_slice(w, i * each, each);
            l->status = folder_read_one(
                l, row[i].stored, st_view2(one.data, one.dtype, p->w.dim[1], p->w.dim[2]), true);
        }
    }
    if (!l->status && l->stream) st_upload(l->stream, to, folder_packed(l, to.dtype, w));
}

st_status st_folder_weights(st_folder *f, st_stream *stream, st_tensor flat)
{
    struct folder_load l = {.f = f, .stream = stream, .flat = flat};
    st_model_params(f->model, folder_measure, &l);
    if (stream) l.stage = malloc(l.stage_bytes + 1);
    l.turn = malloc(l.turn_bytes + 1);
    if ((stream && !l.stage) || !l.turn) {
        l.status = ST_NOMEM(f->e, f->path);
    }
    st_model_params(f->model, folder_load_param, &l);
    free(l.stage);
    free(l.turn);
    return l.status;
}

/* ---- the model ------------------------------------------------------------------------------- */

void st_folder_close(st_folder *f)
{
    for (int i = 0; i < ST_FOLDER_SHARDS && f->shard_name[i]; i++) {
        st_weights_close(f->shard[i]);
        free(f->shard_name[i]);
    }
    for (int i = 0; i < f->notes; i++)
        free(f->note[i]);
    json_decref(f->config);
    json_decref(f->index);
    free(f->row);
    free(f->names);
    free(f->made);
    json_decref(f->maps);
    free(f->file);
    free(f->dir);
    st_model_close(f->model);
    *f = (st_folder){0};
}

void st_folder_note(st_folder *f, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (f->notes < ST_FOLDER_NOTES && (f->note[f->notes] = strdup(text))) f->notes++;
}

const char *st_folder_type(const st_folder *f)
{
    const char *type = json_string_value(json_object_get(f->config, "model_type"));
    return type ? type : "gpt2";
}

/* What `how` asks for, in f->config. */
static st_status folder_adjust(st_folder *f)
{
    static const char *const kinds[][2] = {{"tanh", "gelu_new"}, {"erf", "gelu"}};
    const char *gelu = f->how ? f->how->gelu : NULL;
    bool vision = strcmp(st_folder_type(f), "t2t_vit") == 0;
    if (vision && gelu) {
        ST_FAIL(f->e, ST_EARG, "%s: is a T2T-ViT, whose GELU is erf; leave --gelu out", f->path);
    }
    bool gpt2 = strstr(st_folder_type(f), "gpt2") != NULL;
    if (!vision && !gpt2 && gelu) {
        ST_FAIL(f->e, ST_EARG,
                "%s: is a %.40s, whose activation config.json says; leave --gelu out", f->path,
                st_folder_type(f));
    }
    json_t *config = json_copy(f->config); /* it may be part of a file's extra */
    if (!config) return ST_NOMEM(f->e, f->path);
    json_decref(f->config);
    f->config = config;
    bool known = !gelu;
    for (int i = 0; gelu && i < 2; i++) {
        if (strcmp(gelu, kinds[i][0]) != 0) continue;
        json_object_set_new(config, "activation_function", json_string(kinds[i][1]));
        known = true;
    }
    if (!known) ST_FAIL(f->e, ST_EARG, "gelu: \"%s\" is neither tanh nor erf", gelu);
    int64_t heads = f->how ? f->how->heads : 0, has = heads;
    ST_TRY(st_json_int(config,
                       vision ? "num_heads"
                       : gpt2 ? "n_head"
                              : "num_attention_heads",
                       1, INT32_MAX, &has, "config.json", f->e));
    if (has == heads || !heads) return ST_OK;
    ST_FAIL(f->e, ST_EARG, "%s: has %lld heads by its config.json, --heads says %lld; leave it out",
            f->path, (long long)has, (long long)heads);
}

/* Containers of programs that know the tanh GELU only. */
static bool folder_is_tanh(const st_folder *f)
{
    const char *form = st_weights_form(f->shard[0]);
    return strcmp(form, "llm.c") == 0 || strcmp(form, "gguf") == 0;
}

st_status st_folder_open(st_folder *f, const char *path, const st_read_how *how, st_err *e)
{
    *f = (st_folder){.path = path, .how = how, .e = e};
    ST_TRY(st_folder_files(f));
    f->extra = st_weights_extra(f->shard[0]);
    ST_TRY(st_folder_list(f));
    if (!f->config) ST_TRY(st_folder_stored(f));
    ST_TRY(st_folder_fly(f));
    if (!f->config) ST_TRY(st_folder_guess(f));
    ST_TRY(folder_adjust(f));
    st_status s = st_model_open(&f->model, f->config, e);
    if (s) st_err_prefix(e, "%s", path);
    ST_TRY(s);
    ST_TRY(st_folder_match(f));
    bool unsaid = f->guessed && f->linear && !f->fly && !(how && how->gelu) && !folder_is_tanh(f) &&
                  !json_object_get(f->extra, "model_args");
    if (unsaid) {
        st_folder_note(f, "nothing says which GELU it has: the tanh one is taken, with which "
                          "Krony-PT is exported and measured; --gelu erf has the other");
    }
    for (int i = 0; i < f->notes; i++)
        st_log(ST_LOG_WARN, "%s: %s", path, f->note[i]);
    return ST_OK;
}

const char *st_folder_form(const st_folder *f)
{
    const char *container = st_weights_form(f->shard[0]);
    bool ours = st_model_is_vision(f->model) && !f->single; /* nobody else has such folders */
    bool theirs = f->maps && json_object_size(f->maps) > 0;
    bool maps = json_object_get(f->config, "strut") && !theirs;
    if ((ours || maps) && !f->guessed) return "strut";
    if (f->krony) return "krony";
    if (f->fly) return "fly";
    if (f->ss1) return "ss1";
    if (folder_is_tanh(f)) return container;
    if (json_object_get(f->extra, "model_args")) return "nanogpt";
    return f->single ? container : "hf";
}

const char *st_folder_dtype(const st_folder *f)
{
    const char *dtype = "";
    for (int64_t i = 0; i < f->rows; i++) {
        const char *own = f->row[i].stored->dtype;
        if (strcmp(own, "U8") == 0) continue; /* blocks */
        if (dtype[0] && strcmp(dtype, own) != 0) return "mixed";
        dtype = own;
    }
    return dtype;
}

/* Opens the tokenizer; added tokens without a row in the model are left out of it. */
static st_status folder_tokenizer(const st_folder *f, const char *path, st_bpe **out, st_err *e)
{
    int64_t vocab = st_model_lm(f->model).vocab;
    ST_TRY(st_bpe_open(out, path, e));
    int64_t ids = st_bpe_size(*out);
    if (ids <= vocab) return ST_OK;
    if (st_bpe_cut(*out, vocab, NULL) == ST_OK) {
        st_log(ST_LOG_WARN,
               "%s: without the last %s of its tokenizer, added there, for which the model has no "
               "row",
               path, st_counted(ids - vocab, "tokens").s);
        return ST_OK;
    }
    st_bpe_close(*out);
    *out = NULL;
    ST_FAIL(e, ST_EFORMAT,
            "%s: the tokenizer has %lld tokens, but vocab_size in config.json is "
            "%lld; they belong to different models",
            path, (long long)ids, (long long)vocab);
}

st_status st_folder_tokenizer(const st_folder *f, st_bpe **out)
{
    const char *asked = f->how ? f->how->tokenizer : NULL;
    st_err why;
    *out = NULL;
    if (asked) ST_TRY(st_need_language(f->model, f->path, "--tokenizer", f->e));
    if (asked) return folder_tokenizer(f, asked, out, f->e);
    if (st_model_is_vision(f->model)) return ST_OK;
    bool inside = st_bpe_inside(f->path);
    if (!inside && !st_bpe_there(f->dir)) return ST_OK;
    /* what lies beside a file need not belong to it, and not every command needs it */
    if (folder_tokenizer(f, inside ? f->path : f->dir, out, &why))
        st_log(ST_LOG_WARN, "its tokenizer is left out: %s", why.msg);
    return ST_OK;
}

st_status st_whole_open(st_whole *out, const char *path, const st_read_how *how, st_err *e)
{
    st_folder f;
    *out = (st_whole){0};
    st_status s = st_folder_open(&f, path, how, e);
    int64_t n = s ? 0 : st_model_elements(f.model);
    if (!s && !(out->flat = st_calloc(n, sizeof *out->flat))) {
        s = ST_ERR(e, ST_ENOMEM, "%s: out of memory: %.1f MiB of weights", path,
                   (double)n * 4 / 1048576.0);
    }
    if (!s) s = st_folder_weights(&f, NULL, st_view1(out->flat, ST_F32, n));
    if (!s) s = st_folder_tokenizer(&f, &out->tokenizer);
    if (!s) {
        out->notes = json_array();
        for (int i = 0; i < f.notes; i++)
            json_array_append_new(out->notes, st_json_text(f.note[i]));
        out->form = st_folder_form(&f);
        snprintf(out->dtype, sizeof out->dtype, "%s", st_folder_dtype(&f));
        out->model = f.model;
        f.model = NULL;
    }
    st_folder_close(&f);
    if (s) st_whole_close(out);
    return s;
}

void st_whole_close(st_whole *w)
{
    st_model_close(w->model);
    st_bpe_close(w->tokenizer);
    free(w->flat);
    json_decref(w->notes);
    *w = (st_whole){0};
}

st_status st_folder_read_as(const char *path, const st_read_how *how, st_model **model,
                            float **flat, st_bpe **tokenizer, st_err *e)
{
    st_whole w;
    *model = NULL;
    *flat = NULL;
    if (tokenizer) *tokenizer = NULL;
    ST_TRY(st_whole_open(&w, path, how, e));
    *model = w.model;
    *flat = w.flat;
    w.model = NULL;
    w.flat = NULL;
    if (tokenizer) {
        *tokenizer = w.tokenizer;
        w.tokenizer = NULL;
    }
    st_whole_close(&w);
    return st_need_floats(*model, path, e);
}

st_status st_folder_read(const char *path, st_model **model, float **flat, st_bpe **tokenizer,
                         st_err *e)
{
    return st_folder_read_as(path, NULL, model, flat, tokenizer, e);
}

/* Bytes of what is stored, by format. */
struct folder_kinds {
    const st_folder *f;
    json_t *bytes;
};

static void folder_kind(void *ctx, const st_param *p)
{
    struct folder_kinds *k = ctx;
    const st_folder_row *row = st_folder_find(k->f, p->name), *end = k->f->row + k->f->rows;
    for (; row && row < end && strcmp(row->name, p->name) == 0; row++) {
        const char *kind = p->format == ST_F32 ? row->stored->dtype : st_dtype_name(p->format);
        json_int_t so_far = json_integer_value(json_object_get(k->bytes, kind));
        json_object_set_new(k->bytes, kind, json_integer(so_far + (json_int_t)row->stored->bytes));
    }
}

st_status st_folder_look(const char *path, const st_read_how *how, st_model **model, json_t **about,
                         st_err *e)
{
    st_folder f;
    st_status s = st_folder_open(&f, path, how, e);
    *model = s ? NULL : f.model;
    if (about) *about = NULL;
    if (!s && about) {
        int64_t bytes = 0;
        for (int64_t i = 0; i < f.rows; i++)
            bytes += (int64_t)f.row[i].stored->bytes;
        struct folder_kinds kinds = {.f = &f, .bytes = json_object()};
        st_model_params(*model, folder_kind, &kinds);
        *about = json_pack("{s:s, s:s, s:I, s:I, s:o}", "form", st_folder_form(&f), "dtype",
                           st_folder_dtype(&f), "bytes", (json_int_t)bytes, "tensors",
                           (json_int_t)f.rows, "stored", kinds.bytes);
    }
    if (!s) f.model = NULL;
    st_folder_close(&f);
    return s;
}

st_status st_loaded_open_as(st_loaded *out, const char *path, const st_read_how *how,
                            const char *device, st_dtype dtype, st_err *e)
{
    st_folder f;
    *out = (st_loaded){0};
    st_status s = st_folder_open(&f, path, how, e);
    out->model = f.model; /* closed with `out` from here on */
    bool mixed = !s && st_model_quantized(f.model);
    size_t bytes = s       ? 0
                   : mixed ? st_model_mixed(f.model, dtype)
                           : st_dtype_bytes(dtype, st_model_elements(f.model));
    if (!s) s = st_stream_open(&out->stream, device, 0, e);
    if (!s) {
        s = st_device_arena(out->stream, bytes, &out->weights, e);
        if (s) st_err_prefix(e, "%s", path);
    }
    if (!s) {
        out->flat = mixed ? st_take1(&out->weights, ST_U8, (int64_t)bytes)
                          : st_take1(&out->weights, dtype, st_model_elements(f.model));
        if (mixed)
            st_model_bind_mixed(out->model, dtype, st_stream_packs(out->stream), out->flat.data);
        s = st_folder_weights(&f, out->stream, mixed ? (st_tensor){0} : out->flat);
    }
    if (!s) s = st_stream_sync(out->stream, e);
    if (!s) s = st_folder_tokenizer(&f, &out->tokenizer);
    if (!s) {
        if (!mixed) st_model_bind(out->model, out->flat, (st_tensor){0});
        out->path = strdup(path);
        if (!out->path) s = ST_NOMEM(e, path);
    }
    f.model = NULL;
    st_folder_close(&f);
    if (s) st_loaded_close(out);
    return s;
}

st_status st_loaded_open(st_loaded *out, const char *path, const char *device, st_dtype dtype,
                         st_err *e)
{
    return st_loaded_open_as(out, path, NULL, device, dtype, e);
}

void st_loaded_close(st_loaded *l)
{
    if (!l) return;
    st_bpe_close(l->tokenizer);
    if (l->stream) st_device_arena_close(l->stream, &l->weights);
    st_stream_close(l->stream);
    st_model_close(l->model);
    free(l->path);
    *l = (st_loaded){0};
}
