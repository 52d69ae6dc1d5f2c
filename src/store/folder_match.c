/* What was found against what the model needs, by name and shape, before the first weight is read.
 *
 * Hugging Face stores GPT-2's dense block matrices as (in, out) (its Conv1D), nn.Linear and strut
 * as (out, in): nanoGPT, Krony-PT, llm.c. A matrix that is not square shows which it is, and all of
 * a model must agree; where none does, the format decides. */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <stdlib.h>
#include <string.h>

/* ---- shapes ---------------------------------------------------------------------------------- */

static void match_print(char text[128], const int64_t *dim, int ndim, bool flip)
{
    size_t n = 1;
    strcpy(text, "[");
    for (int i = 0; i < ndim && n < 100; i++) {
        int64_t d = flip && ndim == 2 ? dim[1 - i] : dim[i];
        n += (size_t)snprintf(text + n, 128 - n, "%s%lld", i ? ", " : "", (long long)d);
    }
    snprintf(text + n, 128 - n, "]");
}

static bool match_same_shape(const st_stored *t, const int64_t *dim, int ndim, bool flip)
{
    if (t->ndim != ndim) return false;
    for (int i = 0; i < ndim; i++) {
        if (t->dim[i] != dim[flip ? ndim - 1 - i : i]) return false;
    }
    return true;
}

static st_status match_dtype(const st_folder *f, const st_stored *t)
{
    static const char *const floats[] = {"F32", "BF16", "F16", "F64"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(t->dtype, floats[i]) == 0) return ST_OK;
    }
    if (st_blocks_find(t->dtype)) return ST_OK; /* of a GGUF file */
    ST_FAIL(f->e, ST_EFORMAT, "%s: tensor %.100s is stored as %s, expected F32, BF16, F16 or F64",
            f->file, t->name, t->dtype);
}

static st_status match_misfit(const st_folder *f, const st_stored *t, const int64_t *dim, int ndim,
                              bool flip, bool turned)
{
    char found[128], want[128];
    match_print(found, t->dim, t->ndim, false);
    match_print(want, dim, ndim, flip);
    ST_FAIL(f->e, ST_ESHAPE, "%s: tensor %.100s has shape %s, expected %s by %s%s", f->file,
            t->name, found, want, f->guessed ? "the other tensors" : "config.json",
            turned ? "; it is transposed, while others of the model are not" : "");
}

/* The entries of `p`'s first dimension, each stored by itself and transposed. */
static st_status match_pieces(const st_folder *f, const st_param *p, st_folder_row *row)
{
    int64_t n = 0;
    for (; row + n < f->row + f->rows && strcmp(row[n].name, row->name) == 0; n++) {
        const st_stored *t = row[n].stored;
        row[n].used = true;
        ST_TRY(match_dtype(f, t));
        if (p->w.ndim != 3 || row[n].piece != n || n >= p->w.dim[0]) {
            ST_FAIL(f->e, ST_ESHAPE,
                    "%s: tensor %.100s is term %lld of %s, expected terms 0 to %lld, each once",
                    f->file, t->name, (long long)row[n].piece, p->name,
                    (long long)(p->w.ndim == 3 ? p->w.dim[0] - 1 : 0));
        }
        if (!match_same_shape(t, p->w.dim + 1, 2, true))
            return match_misfit(f, t, p->w.dim + 1, 2, true, false);
    }
    if (n == p->w.dim[0]) return ST_OK;
    ST_FAIL(f->e, ST_EFORMAT, "%s: %lld terms of %s, expected %lld", f->file, (long long)n, p->name,
            (long long)p->w.dim[0]);
}

/* A butterfly's tiles (tiles, block, block) stored with other brackets. */
static bool match_tiles(const st_folder_row *row, const st_param *p)
{
    const st_stored *t = row->stored;
    const int64_t *dim = p->w.dim;
    if (p->w.ndim != 3) return false;
    if (row->form == ST_ROW_TILES && t->ndim == 4)
        return t->dim[1] == dim[0] && t->dim[2] == dim[1] && t->dim[3] == dim[2];
    return row->form == ST_ROW_TURNED && t->ndim == 2 && t->dim[0] == dim[0] * dim[1] &&
           t->dim[1] == dim[2];
}

/* Rows of blocks: bytes in a folder of ours, their own type in a GGUF file. */
static st_status match_blocks(const st_folder *f, const st_param *p, const st_stored *t)
{
    int64_t dim[4];
    bool bytes = strcmp(t->dtype, "U8") == 0;
    memcpy(dim, p->w.dim, sizeof dim);
    if (!bytes && strcmp(t->dtype, st_dtype_name(p->format)) != 0) {
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: tensor %.100s is stored as %s, expected U8, the bytes of %s, which "
                "config.json says it is",
                f->file, t->name, t->dtype, st_dtype_name(p->format));
    }
    int64_t *row = &dim[p->w.ndim - 1];
    if (bytes) *row = (int64_t)st_dtype_bytes(p->format, *row);
    if (match_same_shape(t, dim, p->w.ndim, false)) return ST_OK;
    return match_misfit(f, t, dim, p->w.ndim, false, false);
}

static st_status match_shape(const st_folder *f, const st_param *p, st_folder_row *row)
{
    bool flip = (p->flags & ST_P_FLIP) && !f->linear && row->form != ST_ROW_LINEAR;
    flip = flip || row->form == ST_ROW_FLIP;
    row->used = true;
    if (row->piece >= 0) return match_pieces(f, p, row);
    if (p->format != ST_F32) return match_blocks(f, p, row->stored);
    ST_TRY(match_dtype(f, row->stored));
    if (match_same_shape(row->stored, p->w.dim, p->w.ndim, flip)) return ST_OK;
    if (match_tiles(row, p)) return ST_OK;
    bool turned =
        (p->flags & ST_P_FLIP) && match_same_shape(row->stored, p->w.dim, p->w.ndim, !flip);
    return match_misfit(f, row->stored, p->w.dim, p->w.ndim, flip, turned);
}

/* ---- orientation ----------------------------------------------------------------------------- */

struct match_turn {
    const st_folder *f;
    int64_t conv, linear; /* matrices that can only be so */
    int64_t square;
};

static void match_turn_param(void *ctx, const st_param *p)
{
    struct match_turn *m = ctx;
    bool either = (p->flags & ST_P_FLIP) && p->format == ST_F32;
    const st_folder_row *row = either ? st_folder_find(m->f, p->name) : NULL;
    if (!row || row->piece >= 0 || row->form == ST_ROW_LINEAR) return;
    bool linear = match_same_shape(row->stored, p->w.dim, p->w.ndim, false);
    bool conv = match_same_shape(row->stored, p->w.dim, p->w.ndim, true);
    m->square += linear && conv;
    m->linear += linear && !conv;
    m->conv += conv && !linear;
}

static st_status match_orientation(st_folder *f)
{
    struct match_turn m = {.f = f};
    st_model_params(f->model, match_turn_param, &m);
    f->linear = m.linear > m.conv; /* the fewer are then named as misshapen */
    if (m.linear || m.conv || !m.square) return ST_OK;
    f->linear = f->krony || json_object_get(f->extra, "model_args");
    if (f->linear || !f->guessed || f->fly || f->ss1) return ST_OK; /* theirs is Conv1D */
    ST_FAIL(f->e, ST_EFORMAT,
            "%s: nothing shows whether its matrices are (in, out) or (out, in), since all of them "
            "are square; put it into a folder with a config.json, where (in, out) is meant",
            f->file);
}

/* ---- names ----------------------------------------------------------------------------------- */

struct match_walk {
    st_folder *f;
    st_status status;
    const char **name; /* of every parameter, NULL-terminated */
    int64_t n;
    const st_param *missing;
};

static void match_param(void *ctx, const st_param *p)
{
    struct match_walk *m = ctx;
    m->name[m->n++] = p->name;
    if (m->status) return;
    st_folder_row *row = st_folder_find(m->f, p->name);
    if (row) {
        m->status = match_shape(m->f, p, row);
    } else if (!m->missing && !(m->f->no_bias && (p->flags & ST_P_BIAS))) {
        m->missing = p;
    }
}

static void match_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

/* A tied head may be stored once more; match_tied compares it. */
static bool match_is_tied_head(const st_folder *f, const st_folder_row *row)
{
    return st_model_lm(f->model).tied && strcmp(row->name, "lm_head.weight") == 0;
}

st_status st_folder_unread(const st_folder *f, const char *name)
{
    for (int i = 0; i < f->shards; i++) {
        const char *there;
        json_t *maker;
        json_object_foreach((json_t *)(uintptr_t)st_weights_unread(f->shard[i]), there, maker)
        {
            size_t n = strlen(there), m = strlen(name);
            if (n < m || strcmp(there + n - m, name) || (n > m && there[n - m - 1] != '.'))
                continue;
            ST_FAIL(f->e, ST_EFORMAT,
                    "%s: tensor %.100s was made by %.160s, which is not read and could run code; "
                    "load it in Python where you trust the file, and save plain tensors",
                    f->file, there, json_string_value(maker));
        }
    }
    return ST_OK;
}

static st_status match_missing(const st_folder *f, const st_param *p)
{
    ST_TRY(st_folder_unread(f, p->name));
    const char **free_name = st_calloc(f->rows + 1, sizeof *free_name);
    int64_t n = 0;
    for (int64_t i = 0; free_name && i < f->rows; i++) {
        if (!f->row[i].used) free_name[n++] = f->row[i].name;
    }
    const char *near = free_name ? st_nearest(p->name, free_name) : NULL;
    char *dense = NULL;
    if (p->matrix && asprintf(&dense, "%s.weight", p->matrix) < 0) dense = NULL;
    if (!near && dense && st_folder_find(f, dense)) near = dense;
    char spec[ST_SPEC_TEXT] = "";
    if (p->spec) st_spec_print(p->spec, spec);
    ST_ERR(f->e, ST_EFORMAT, "%s: no tensor %s%s%.100s, which %s%s%.100s%s", f->file, p->name,
           p->spec ? ", of the map " : "", spec,
           !f->guessed                    ? "config.json asks for"
           : st_model_is_vision(f->model) ? "a T2T-ViT of this shape has"
           : st_folder_is_llama(f)        ? "a model of this shape has"
                                          : "a GPT-2 of this shape has",
           near ? "; the nearest there is " : "", near ? near : "",
           near         ? ""
           : f->guessed ? "; a structured model needs the config.json that names its maps"
                        : "; the weights belong to another config.json");
    free(free_name);
    free(dense);
    return ST_EFORMAT;
}

/* ---- the head -------------------------------------------------------------------------------- */

/* The rows of tokens. */
static const st_folder_row *match_table(const st_folder *f)
{
    const st_folder_row *row = st_folder_find(f, "wte.weight");
    return row ? row : st_folder_find(f, "embed_tokens.weight");
}

st_status st_folder_head(const st_folder *f, bool *tied)
{
    const st_folder_row *head = st_folder_find(f, "lm_head.weight"), *wte = match_table(f);
    *tied = !head;
    if (!head || !wte || head->stored->ndim != 2 || wte->stored->ndim != 2 ||
        wte->stored->bytes == 0 || head->stored->dim[0] != wte->stored->dim[0] ||
        head->stored->dim[1] != wte->stored->dim[1])
        return ST_OK;
    int64_t n = wte->stored->dim[0] * wte->stored->dim[1];
    ST_TRY(match_dtype(f, head->stored));
    ST_TRY(match_dtype(f, wte->stored));
    float *a = st_calloc(n, sizeof *a), *b = st_calloc(n, sizeof *b);
    st_status s = a && b ? ST_OK : ST_NOMEM(f->e, f->file);
    if (!s) s = st_stored_read(head->stored, st_view1(a, ST_F32, n), f->e);
    if (!s) s = st_stored_read(wte->stored, st_view1(b, ST_F32, n), f->e);
    *tied = !s && memcmp(a, b, (size_t)n * sizeof *a) == 0;
    free(a);
    free(b);
    return s;
}

/* A tied head stored beside the embedding must be the same numbers. */
static st_status match_tied(const st_folder *f)
{
    const st_folder_row *head = st_folder_find(f, "lm_head.weight");
    bool tied;
    if (!head || head->used || f->guessed) return ST_OK;
    ST_TRY(st_folder_head(f, &tied));
    if (tied) return ST_OK;
    ST_FAIL(f->e, ST_EFORMAT,
            "%s: tensor %.100s differs from %s, but config.json ties "
            "them; set \"tie_word_embeddings\": false there to use both, or "
            "remove the tensor",
            f->file, head->stored->name, match_table(f)->name);
}

/* ---- tensors that no parameter has ----------------------------------------------------------- */

/* A name with every number as "*", in place. */
static void match_star(char *name)
{
    char *to = name;
    for (const char *at = name; *at;) {
        bool digit = *at >= '0' && *at <= '9', part = at == name || at[-1] == '.';
        size_t n = digit && part ? strspn(at, "0123456789") : 0;
        bool number = n && (at[n] == '.' || !at[n]);
        *to++ = number ? '*' : *at;
        at += number ? n : 1;
    }
    *to = '\0';
}

/* Does a tensor stand within something of the model that has parameters itself (h.0.mlp.c_fc), or
 * in a block that the model lacks? Then the model is another one than the files'. */
static bool match_within(const char *name, const char *const *param)
{
    size_t before = strncmp(name, "layers.", 7) == 0 ? 7 : strncmp(name, "h.", 2) == 0 ? 2 : 0;
    size_t digits = before ? strspn(name + before, "0123456789") : 0;
    bool block = digits && name[before + digits] == '.', found = false;
    for (; *param; param++) {
        const char *dot = strrchr(*param, '.');
        if (dot && strncmp(name, *param, (size_t)(dot + 1 - *param)) == 0) return true;
        found = found || (block && strncmp(name, *param, before + digits + 1) == 0);
    }
    return block && !found;
}

/* Is `name` one of the names in "a, b, c"? */
static bool match_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at++) {
        if ((at == list || at[-1] == ' ') && (at[n] == ',' || !at[n])) return true;
    }
    return false;
}

/* What no parameter stands for is left out (value heads, classifiers, caches), with one remark. */
static st_status match_extra(st_folder *f, const char *const *param)
{
    char list[256] = "";
    size_t n = 0;
    int64_t left = 0;
    for (int64_t i = 0; i < f->rows; i++) {
        const st_folder_row *row = &f->row[i];
        if (row->used || match_is_tied_head(f, row)) continue;
        if (match_within(row->name, param)) {
            const char *near = st_nearest(row->name, param);
            ST_FAIL(f->e, ST_EFORMAT,
                    "%s: unexpected tensor %.100s, for which the model %s has no "
                    "parameter%s%s%s",
                    f->file, row->stored->name,
                    f->guessed ? "that the other tensors make" : "of config.json",
                    near ? " (the nearest is " : "", near ? near : "", near ? ")" : "");
        }
        char name[128];
        snprintf(name, sizeof name, "%s", row->name);
        match_star(name);
        left++;
        if (match_listed(list, name) || n + strlen(name) + 8 > sizeof list) continue;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", name);
    }
    if (left) {
        st_folder_note(f, "%lld tensor%s left out, for which the model has no place: %s",
                       (long long)left, left == 1 ? " is" : "s are", list);
    }
    return ST_OK;
}

st_status st_folder_match(st_folder *f)
{
    struct match_walk m = {.f = f};
    int64_t n = 0;
    ST_TRY(match_orientation(f));
    st_model_params(f->model, match_count, &n);
    m.name = st_calloc(n + 1, sizeof *m.name);
    if (!m.name) return ST_NOMEM(f->e, f->path);
    st_model_params(f->model, match_param, &m);
    st_status s = m.status;
    if (!s && m.missing) s = match_missing(f, m.missing);
    if (!s) s = match_extra(f, m.name);
    free(m.name);
    return s ? s : match_tied(f);
}
