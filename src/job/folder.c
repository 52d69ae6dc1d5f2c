/* Reading model folders: ours and Hugging Face's GPT-2. What the folder holds is matched with what
 * the model needs, by name and shape, before the first weight is read.
 *
 * Hugging Face stores GPT-2's dense block matrices as (in, out) (its Conv1D); ours are (out, in).
 */
/* SPDX-License-Identifier: MIT */
#include "job/folder.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---------------------------------------------------------------------------------- */

/* Strips what wrappers put before GPT-2's own names. */
static const char *folder_bare(const char *name)
{
    static const char *const prefix[] = {"transformer.", "module.", "_orig_mod."};
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++) {
        size_t n = strlen(prefix[i]);
        if (strncmp(name, prefix[i], n)) continue;
        name += n;
        i = (size_t)-1; /* again from the first */
    }
    return name;
}

/* "h.N.attn.bias", "h.N.attn.masked_bias": the causal mask, which older files carry. */
static bool folder_is_mask(const char *name)
{
    if (strncmp(name, "h.", 2)) return false;
    size_t digits = strspn(name + 2, "0123456789");
    const char *rest = name + 2 + digits;
    return digits && (strcmp(rest, ".attn.bias") == 0 || strcmp(rest, ".attn.masked_bias") == 0);
}

static int folder_by_name(const void *a, const void *b)
{
    return strcmp(((const st_folder_row *)a)->name, ((const st_folder_row *)b)->name);
}

static st_status folder_list(st_folder *f)
{
    int64_t n = 0;
    for (int i = 0; i < f->shards; i++)
        n += st_weights_count(f->shard[i]);
    f->row = st_calloc(n, sizeof *f->row);
    if (!f->row) ST_FAIL(f->e, ST_ENOMEM, "%s: out of memory", f->file);
    for (int i = 0; i < f->shards; i++) {
        for (int64_t j = 0; j < st_weights_count(f->shard[i]); j++) {
            const st_stored *t = st_weights_at(f->shard[i], j);
            const char *name = folder_bare(t->name);
            if (!folder_is_mask(name))
                f->row[f->rows++] = (st_folder_row){.name = name, .stored = t};
        }
    }
    qsort(f->row, (size_t)f->rows, sizeof *f->row, folder_by_name);
    for (int64_t i = 1; i < f->rows; i++) {
        if (strcmp(f->row[i - 1].name, f->row[i].name)) continue;
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: tensors %.100s and %.100s are the same parameter; remove "
                "one",
                f->file, f->row[i - 1].stored->name, f->row[i].stored->name);
    }
    return ST_OK;
}

static st_folder_row *folder_find(const st_folder *f, const char *name)
{
    const st_folder_row key = {.name = name};
    return f->rows ? bsearch(&key, f->row, (size_t)f->rows, sizeof key, folder_by_name) : NULL;
}

/* ---- matching ------------------------------------------------------------------------------- */

static void folder_shape(char text[128], const int64_t *dim, int ndim, bool flip)
{
    size_t n = 1;
    strcpy(text, "[");
    for (int i = 0; i < ndim && n < 100; i++) {
        int64_t d = flip && ndim == 2 ? dim[1 - i] : dim[i];
        n += (size_t)snprintf(text + n, 128 - n, "%s%lld", i ? ", " : "", (long long)d);
    }
    snprintf(text + n, 128 - n, "]");
}

static bool folder_same_shape(const st_stored *t, const st_tensor *w, bool flip)
{
    if (t->ndim != w->ndim) return false;
    for (int i = 0; i < w->ndim; i++) {
        if (t->dim[i] != (flip ? w->dim[w->ndim - 1 - i] : w->dim[i])) return false;
    }
    return true;
}

static st_status folder_check_shape(const st_folder *f, const st_param *p, const st_stored *t)
{
    bool flip = p->flags & ST_P_FLIP;
    static const char *const floats[] = {"F32", "BF16", "F16", "F64"};
    bool known = false;
    for (int i = 0; i < 4; i++)
        known |= strcmp(t->dtype, floats[i]) == 0;
    if (!known) {
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: tensor %.100s is stored as %s, expected F32, BF16, F16 or "
                "F64",
                f->file, t->name, t->dtype);
    }
    if (folder_same_shape(t, &p->w, flip)) return ST_OK;
    char found[128], want[128];
    folder_shape(found, t->dim, t->ndim, false);
    folder_shape(want, p->w.dim, p->w.ndim, flip);
    bool turned = flip && folder_same_shape(t, &p->w, false);
    ST_FAIL(f->e, ST_ESHAPE, "%s: tensor %.100s has shape %s, expected %s by config.json%s",
            f->file, t->name, found, want,
            turned ? "; it is transposed: export it in Hugging Face's layout (Conv1D, in x out)"
                   : "");
}

struct folder_match {
    st_folder *f;
    st_status status;
    const char **name; /* of every parameter, NULL-terminated */
    int64_t n;
    const st_param *missing;
};

static void folder_match_param(void *ctx, const st_param *p)
{
    struct folder_match *m = ctx;
    m->name[m->n++] = p->name;
    if (m->status) return;
    st_folder_row *row = folder_find(m->f, p->name);
    if (!row) {
        if (!m->missing) m->missing = p;
        return;
    }
    row->used = true;
    m->status = folder_check_shape(m->f, p, row->stored);
}

static void folder_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

/* A tied head may be stored once more; st_stored_read compares it later. */
static bool folder_is_tied_head(const st_folder *f, const st_folder_row *row)
{
    return st_model_lm(f->model).tied && strcmp(row->name, "lm_head.weight") == 0;
}

static st_status folder_missing(const st_folder *f, const st_param *p)
{
    const char **free_name = st_calloc(f->rows + 1, sizeof *free_name);
    int64_t n = 0;
    for (int64_t i = 0; free_name && i < f->rows; i++) {
        if (!f->row[i].used) free_name[n++] = f->row[i].name;
    }
    const char *near = free_name ? st_nearest(p->name, free_name) : NULL;
    char *dense = NULL;
    if (p->matrix && asprintf(&dense, "%s.weight", p->matrix) < 0) dense = NULL;
    if (!near && dense && folder_find(f, dense)) near = dense;
    char spec[ST_SPEC_TEXT] = "";
    if (p->spec) st_spec_print(p->spec, spec);
    st_fail(f->e, ST_EFORMAT, __FILE__, __LINE__,
            "%s: no tensor %s%s%.100s, which config.json asks for%s%.100s%s", f->file, p->name,
            p->spec ? ", of the map " : "", spec, near ? "; the nearest there is " : "",
            near ? near : "", near ? "" : "; the weights belong to another config.json");
    free(free_name);
    free(dense);
    return ST_EFORMAT;
}

/* Every parameter has its tensor and every tensor its parameter. */
static st_status folder_match(st_folder *f)
{
    struct folder_match m = {.f = f};
    int64_t n = 0;
    st_model_params(f->model, folder_count, &n);
    m.name = st_calloc(n + 1, sizeof *m.name);
    if (!m.name) ST_FAIL(f->e, ST_ENOMEM, "%s: out of memory", f->dir);
    st_model_params(f->model, folder_match_param, &m);
    st_status s = m.status;
    if (!s && m.missing) s = folder_missing(f, m.missing);
    for (int64_t i = 0; !s && i < f->rows; i++) {
        const st_folder_row *row = &f->row[i];
        if (row->used || folder_is_tied_head(f, row)) continue;
        const char *near = st_nearest(row->name, m.name);
        s = st_fail(f->e, ST_EFORMAT, __FILE__, __LINE__,
                    "%s: unexpected tensor %.100s, for which the model of config.json has no "
                    "parameter%s%s%s",
                    f->file, row->stored->name, near ? " (the nearest is " : "", near ? near : "",
                    near ? ")" : "");
    }
    free(m.name);
    return s;
}

/* ---- weights -------------------------------------------------------------------------------- */

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
    int64_t n = st_numel(w);
    for (int64_t i = 0; i < n; i++) {
        float x = w.dtype == ST_F32 ? ((const float *)w.data)[i]
                                    : st_bf16_to_f32(((const uint16_t *)w.data)[i]);
        if (isfinite(x)) continue;
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: tensor %.100s: element %lld is %g, expected finite weights; "
                "the file is damaged or its training diverged",
                f->file, t->name, (long long)i, (double)x);
    }
    return ST_OK;
}

/* Where the weights go: each parameter into its place of `flat` (host), or staged and uploaded. */
struct folder_load {
    st_folder *f;
    st_stream *stream; /* NULL: flat is host memory */
    st_tensor flat;
    char *stage, *turn; /* room for the largest tensor, and for the largest that is flipped */
    size_t stage_bytes, turn_bytes;
    st_status status;
};

static void folder_measure(void *ctx, const st_param *p)
{
    struct folder_load *l = ctx;
    size_t bytes = (size_t)st_numel(p->w) * st_dtype_size(l->flat.dtype);
    if (bytes > l->stage_bytes) l->stage_bytes = bytes;
    if ((p->flags & ST_P_FLIP) && bytes > l->turn_bytes) l->turn_bytes = bytes;
}

static void folder_load_param(void *ctx, const st_param *p)
{
    struct folder_load *l = ctx;
    if (l->status) return;
    if (st_interrupted()) {
        l->status = st_fail(l->f->e, ST_EINTR, __FILE__, __LINE__, "%s: interrupted", l->f->dir);
        return;
    }
    const st_stored *t = folder_find(l->f, p->name)->stored;
    bool flip = p->flags & ST_P_FLIP;
    st_tensor to = st_slice(l->flat, p->offset, st_numel(p->w)), w = to;
    if (l->stream) w.data = l->stage;
    st_tensor read = w;
    if (flip) read.data = l->turn;
    l->status = st_stored_read(t, read, l->f->e);
    if (!l->status) l->status = folder_check_finite(l->f, t, read);
    if (l->status) return;
    if (flip) {
        folder_transpose(w.data, read.data, p->w.dim[0], p->w.dim[1], st_dtype_size(w.dtype));
    }
    if (l->stream) st_upload(l->stream, to, w.data);
}

/* A tied head stored beside the embedding must be the same numbers. */
static st_status folder_check_tied(const st_folder *f)
{
    const st_folder_row *head = folder_find(f, "lm_head.weight"),
                        *wte = folder_find(f, "wte.weight");
    if (!head || head->used || !wte) return ST_OK;
    if (head->stored->ndim == 2 && wte->stored->ndim == 2 && wte->stored->bytes &&
        head->stored->dim[0] == wte->stored->dim[0] &&
        head->stored->dim[1] == wte->stored->dim[1]) {
        int64_t n = wte->stored->dim[0] * wte->stored->dim[1];
        float *a = st_calloc(n, sizeof *a), *b = st_calloc(n, sizeof *b);
        st_status s =
            a && b ? ST_OK
                   : st_fail(f->e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", f->file);
        if (!s) s = st_stored_read(head->stored, st_view1(a, ST_F32, n), f->e);
        if (!s) s = st_stored_read(wte->stored, st_view1(b, ST_F32, n), f->e);
        bool same = !s && memcmp(a, b, (size_t)n * sizeof *a) == 0;
        free(a);
        free(b);
        if (s || same) return s;
    }
    ST_FAIL(f->e, ST_EFORMAT,
            "%s: tensor %.100s differs from wte.weight, but config.json ties "
            "them; set \"tie_word_embeddings\": false there to use both, or "
            "remove the tensor",
            f->file, head->stored->name);
}

/* Fills `flat`, which has the model's elements and was zeroed. */
static st_status folder_weights(st_folder *f, st_stream *stream, st_tensor flat)
{
    struct folder_load l = {.f = f, .stream = stream, .flat = flat};
    st_model_params(f->model, folder_measure, &l);
    if (stream) l.stage = malloc(l.stage_bytes + 1);
    l.turn = malloc(l.turn_bytes + 1);
    if ((stream && !l.stage) || !l.turn) {
        l.status = st_fail(f->e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", f->dir);
    }
    st_model_params(f->model, folder_load_param, &l);
    free(l.stage);
    free(l.turn);
    return l.status;
}

/* ---- the folder ----------------------------------------------------------------------------- */

static void folder_close(st_folder *f)
{
    for (int i = 0; i < f->shards; i++) {
        st_weights_close(f->shard[i]);
        free(f->shard_name[i]);
    }
    free(f->row);
    free(f->file);
    st_model_close(f->model);
}

/* Opens and checks all but the weights' values. */
static st_status folder_open(st_folder *f, const char *dir, st_err *e)
{
    *f = (st_folder){.dir = dir, .e = e};
    ST_TRY(st_folder_model(f));
    ST_TRY(st_folder_files(f));
    ST_TRY(folder_list(f));
    ST_TRY(folder_match(f));
    return folder_check_tied(f);
}

/* The folder's tokenizer, or NULL if it has none. */
static st_status folder_tokenizer(const st_folder *f, st_bpe **out)
{
    static const char *const files[] = {"tokenizer.json", "vocab.json", "encoder.json"};
    *out = NULL;
    bool some = false;
    for (int i = 0; i < 3; i++) {
        char *path = st_path_join(f->dir, files[i]);
        some |= path && st_path_exists(path);
        free(path);
    }
    if (!some) return ST_OK;
    ST_TRY(st_bpe_open(out, f->dir, f->e));
    int64_t ids = st_bpe_size(*out), vocab = st_model_lm(f->model).vocab;
    if (ids <= vocab) return ST_OK;
    st_bpe_close(*out);
    *out = NULL;
    ST_FAIL(f->e, ST_EFORMAT,
            "%s: the tokenizer has %lld tokens, but vocab_size in config.json is "
            "%lld; they belong to different models",
            f->dir, (long long)ids, (long long)vocab);
}

st_status st_folder_read(const char *dir, st_model **model, float **flat, st_bpe **tokenizer,
                         st_err *e)
{
    st_folder f;
    *model = NULL;
    *flat = NULL;
    if (tokenizer) *tokenizer = NULL;
    st_status s = folder_open(&f, dir, e);
    int64_t n = s ? 0 : st_model_elements(f.model);
    float *w = s ? NULL : st_calloc(n, sizeof *w);
    if (!s && !w) {
        s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory: %.1f MiB of weights", dir,
                    (double)n * 4 / 1048576.0);
    }
    if (!s) s = folder_weights(&f, NULL, st_view1(w, ST_F32, n));
    if (!s && tokenizer) s = folder_tokenizer(&f, tokenizer);
    if (!s) {
        *model = f.model;
        *flat = w;
        f.model = NULL;
        w = NULL;
    }
    free(w);
    folder_close(&f);
    return s;
}

st_status st_folder_look(const char *dir, st_model **model, json_t **about, st_err *e)
{
    st_folder f;
    st_status s = folder_open(&f, dir, e);
    *model = s ? NULL : f.model;
    *about = NULL;
    if (!s) {
        int64_t bytes = 0;
        const char *dtype = f.rows ? f.row[0].stored->dtype : "";
        for (int64_t i = 0; i < f.rows; i++) {
            bytes += (int64_t)f.row[i].stored->bytes;
            if (strcmp(dtype, f.row[i].stored->dtype) != 0) dtype = "mixed";
        }
        *about = json_pack("{s:s, s:I, s:I}", "dtype", dtype, "bytes", (json_int_t)bytes, "tensors",
                           (json_int_t)f.rows);
        f.model = NULL;
    }
    folder_close(&f);
    return s;
}

st_status st_loaded_open(st_loaded *out, const char *dir, const char *device, st_dtype dtype,
                         st_err *e)
{
    st_folder f;
    *out = (st_loaded){0};
    st_status s = folder_open(&f, dir, e);
    out->model = f.model; /* closed with `out` from here on */
    int64_t n = s ? 0 : st_model_elements(f.model);
    if (!s) s = st_stream_open(&out->stream, device, 0, e);
    if (!s) {
        s = st_device_arena(out->stream, (size_t)n * st_dtype_size(dtype), &out->weights, e);
        if (s) st_err_prefix(e, "%s", dir);
    }
    if (!s) {
        out->flat = st_take1(&out->weights, dtype, n);
        s = folder_weights(&f, out->stream, out->flat);
    }
    if (!s) s = st_stream_sync(out->stream, e);
    if (!s) s = folder_tokenizer(&f, &out->tokenizer);
    if (!s) {
        st_model_bind(out->model, out->flat, (st_tensor){0});
        out->path = strdup(dir);
        if (!out->path) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", dir);
    }
    f.model = NULL;
    folder_close(&f);
    if (s) st_loaded_close(out);
    return s;
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
