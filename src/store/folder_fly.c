/* Structured layers under the names that HazyResearch fly and its SS1 fork give them, as our maps.
 * Of a matrix M (fly's mlp.fc1 and mlp.fc2 are c_fc and c_proj, as nn.Linear has them, beside
 * Conv1D attention):
 *   M.blkdiag1 (b, q, p), M.blkdiag2 (b, s, q)      monarch l1, l2
 *   M.weight (b, s, p)                              blockdiag
 *   M.weight and M.layout (tile rows, columns)      butterfly: (tiles, k, k); (tiles k, k), each
 *                                                   tile transposed (huggingface); (1, tiles, k, k)
 *                                                   (triton)
 *   M.w1_bfly (K, J r, in/K), M.w2_bfly (J, out/J, K r)   btt r, l with rank r, m1 = K, n1 = J
 *   M.lr_weight1 (r, in), M.lr_weight2 (out, r)     lowrank v, u
 *   M.low_rank1 (in, r), M.low_rank2 (r, out)       their transposes
 *   M.module.0.weight, M.module.1.weight, .bias     lowrank of the fork, whose M.bias is dead
 *   M.sparse.*, M.low_rank.*, M.gate.*              their sum with a gate, or (none) their mean
 *   M.weight (out, K') with K' below in             ss1 (folder_ss1.c); above, if --ss1 is given
 * lm_head is such an M in the fork, where transformers ties M.weight to the embedding though most
 * of its layers do not read one. */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLY_NAME = 64, FLY_LONGER = 16, FLY_TILES = 1 << 24, FLY_SIDE = 1 << 24 };

typedef struct {
    st_folder *f;
    char name[FLY_NAME];
    int64_t in, out;
    st_folder_row *row; /* those of M */
    int64_t rows;
    char **at; /* where the next name goes */
} fly_matrix;

/* The row "M.<prefix><what>", or NULL. */
static st_folder_row *fly_find(const fly_matrix *m, const char *prefix, const char *what)
{
    char name[2 * FLY_NAME];
    snprintf(name, sizeof name, "%s.%s%s", m->name, prefix, what);
    for (int64_t i = 0; i < m->rows; i++) {
        if (m->row[i].stored && strcmp(m->row[i].name, name) == 0) return &m->row[i];
    }
    return NULL;
}

static void fly_rename(fly_matrix *m, st_folder_row *row, const char *type, const char *name)
{
    row->name = *m->at;
    *m->at += sprintf(*m->at, "%s.%s%s%s", m->name, type, *type ? "." : "", name) + 1;
    row->form = ST_ROW_PLAIN;
}

static st_status fly_dims(const fly_matrix *m, const st_folder_row *row, int ndim)
{
    if (row->stored->ndim == ndim) return ST_OK;
    ST_FAIL(m->f->e, ST_ESHAPE, "%s: tensor %.100s has %d dimensions, expected %d", m->f->file,
            row->stored->name, row->stored->ndim, ndim);
}

/* ---- the kinds ------------------------------------------------------------------------------- */

static st_status fly_monarch(fly_matrix *m, st_folder_row *one, st_folder_row *two,
                             const char *type, char spec[ST_SPEC_TEXT])
{
    ST_TRY(fly_dims(m, one, 3));
    ST_TRY(fly_dims(m, two, 3));
    if (one->stored->dim[0] != two->stored->dim[0]) {
        ST_FAIL(m->f->e, ST_EUNSUPPORTED,
                "%s: %.100s has %lld blocks and %.100s %lld; only equal numbers are read",
                m->f->file, one->stored->name, (long long)one->stored->dim[0], two->stored->name,
                (long long)two->stored->dim[0]);
    }
    snprintf(spec, ST_SPEC_TEXT, "monarch:blocks=%lld,inner=%lld", (long long)one->stored->dim[0],
             (long long)one->stored->dim[1]);
    fly_rename(m, one, type, "l1");
    fly_rename(m, two, type, "l2");
    return ST_OK;
}

/* The tiles, and the layout beside them, which is a buffer and goes. */
static st_status fly_tiles(fly_matrix *m, st_folder_row *w, st_folder_row *layout, const char *type,
                           char spec[ST_SPEC_TEXT])
{
    const st_stored *t = w->stored, *l = layout->stored;
    int64_t block = t->ndim > 1 ? t->dim[t->ndim - 1] : 0;
    bool shape = (t->ndim == 3 && t->dim[1] == block) || (t->ndim == 2 && block) ||
                 (t->ndim == 4 && t->dim[0] == 1 && t->dim[2] == block);
    bool fits = shape && block >= 1 && block <= 4096 && l->ndim == 2 &&
                l->dim[0] == (m->out + block - 1) / block &&
                l->dim[1] == (m->in + block - 1) / block && l->dim[0] <= FLY_TILES / l->dim[1];
    if (!fits) {
        ST_FAIL(m->f->e, ST_ESHAPE,
                "%s: tensors %.100s and %.60s are no tiles and layout of a %lld x %lld matrix",
                m->f->file, t->name, l->name, (long long)m->out, (long long)m->in);
    }
    int32_t *on = st_calloc(l->dim[0] * l->dim[1], sizeof *on);
    st_spec s;
    st_status status = on ? st_stored_read(l, st_view2(on, ST_I32, l->dim[0], l->dim[1]), m->f->e)
                          : ST_NOMEM(m->f->e, NULL);
    if (!status) status = st_butterfly_find(&s, m->in, m->out, block, on, m->f->e);
    free(on);
    if (status) st_err_prefix(m->f->e, "%s: tensor %.100s", m->f->file, l->name);
    ST_TRY(status);
    st_spec_print(&s, spec);
    fly_rename(m, w, type, "tiles");
    w->form = t->ndim == 2 ? ST_ROW_TURNED : t->ndim == 4 ? ST_ROW_TILES : ST_ROW_PLAIN;
    layout->stored = NULL; /* no parameter */
    return ST_OK;
}

static st_status fly_lowrank(fly_matrix *m, st_folder_row *v, st_folder_row *u, const char *type,
                             char spec[ST_SPEC_TEXT])
{
    ST_TRY(fly_dims(m, v, 2));
    ST_TRY(fly_dims(m, u, 2));
    snprintf(spec, ST_SPEC_TEXT, "lowrank:rank=%lld", (long long)v->stored->dim[0]);
    fly_rename(m, v, type, "v");
    fly_rename(m, u, type, "u");
    return ST_OK;
}

/* The older FastLinear, both factors transposed. */
static st_status fly_fast(fly_matrix *m, st_folder_row *v, st_folder_row *u,
                          char spec[ST_SPEC_TEXT])
{
    ST_TRY(fly_lowrank(m, v, u, "", spec));
    snprintf(spec, ST_SPEC_TEXT, "lowrank:rank=%lld", (long long)v->stored->dim[1]);
    v->form = u->form = ST_ROW_FLIP;
    return ST_OK;
}

/* Blocks of classes that take turns, b2 outputs each, which only the layer's arguments say. */
static st_status fly_btt(fly_matrix *m, st_folder_row *one, st_folder_row *two, const char *type,
                         char spec[ST_SPEC_TEXT])
{
    ST_TRY(fly_dims(m, one, 3));
    ST_TRY(fly_dims(m, two, 3));
    const int64_t *w1 = one->stored->dim, *w2 = two->stored->dim;
    int64_t k = w1[0], j = w2[0], b1 = k > 0 ? w2[2] / k : 0, b2 = m->f->how ? m->f->how->b2 : 0;
    if (b1 < 1 || j < 1 || w2[2] % k || w1[1] % j || w1[1] / j != b1) {
        ST_FAIL(m->f->e, ST_ESHAPE,
                "%s: tensors %.100s [%lld, %lld, %lld] and %.60s [%lld, %lld, %lld] are no pair: "
                "expected [K, J b1, inputs / K] and [J, outputs / J, K b1]",
                m->f->file, one->stored->name, (long long)w1[0], (long long)w1[1], (long long)w1[2],
                two->stored->name, (long long)w2[0], (long long)w2[1], (long long)w2[2]);
    }
    snprintf(spec, ST_SPEC_TEXT, "btt:rank=%lld,m1=%lld,n1=%lld,group=%lld", (long long)b1,
             (long long)k, (long long)j, (long long)(b2 ? b2 : 1));
    fly_rename(m, one, type, "r");
    fly_rename(m, two, type, "l");
    if (!b2 && j > 1 && !m->f->bfly) {
        st_folder_note(m->f, "a state_dict does not say b2 of its BlockdiagButterflyLinear layers: "
                             "1 is taken, which is their preset; --b2 sets another");
        m->f->bfly = true;
    }
    return ST_OK;
}

/* Some revisions have no bias: it is zeros. */
static st_status fly_ss1(fly_matrix *m, st_folder_row *w, char spec[ST_SPEC_TEXT])
{
    st_folder_row *r = fly_find(m, "", "random_numbers");
    if (!r) r = fly_find(m, "hasher.", "random_numbers");
    m->f->no_bias = m->f->no_bias || !fly_find(m, "", "bias");
    ST_TRY(st_folder_ss1(m->f, w, r, m->name, m->in, spec));
    if (r) r->stored = NULL; /* no parameter */
    return ST_OK;
}

/* The one matrix that stands alone, or (prefix "sparse.", named) is the sparse part of a sum. spec
 * stays empty where it is dense. */
static st_status fly_part(fly_matrix *m, const char *prefix, char spec[ST_SPEC_TEXT])
{
    bool part = *prefix != '\0';
    st_folder_row *one = fly_find(m, prefix, "blkdiag1"), *two = fly_find(m, prefix, "blkdiag2");
    st_folder_row *w = fly_find(m, prefix, "weight"), *layout = fly_find(m, prefix, "layout");
    st_folder_row *w1 = fly_find(m, prefix, "w1_bfly"), *w2 = fly_find(m, prefix, "w2_bfly");
    if (one && two) return fly_monarch(m, one, two, part ? "monarch" : "", spec);
    if (w1 && w2) return fly_btt(m, w1, w2, part ? "btt" : "", spec);
    if (w && layout) return fly_tiles(m, w, layout, part ? "butterfly" : "", spec);
    if (w && w->stored->ndim == 3) {
        snprintf(spec, ST_SPEC_TEXT, "blockdiag:blocks=%lld", (long long)w->stored->dim[0]);
        fly_rename(m, w, part ? "blockdiag" : "", "blocks");
        return ST_OK;
    }
    bool asked = m->f->how && m->f->how->ss1; /* a whole tile is kept of fewer inputs, too */
    bool small = w && w->stored->ndim == 2 && w->stored->dim[0] == m->out &&
                 w->stored->dim[1] > 0 &&
                 (asked ? w->stored->dim[1] != m->in : w->stored->dim[1] < m->in);
    return small && !part ? fly_ss1(m, w, spec) : ST_OK;
}

static st_status fly_sum(fly_matrix *m, st_folder_row *v, st_folder_row *u, char spec[ST_SPEC_TEXT])
{
    char low[ST_SPEC_TEXT], sparse[ST_SPEC_TEXT] = "";
    bool gate = fly_find(m, "gate.", "weight") != NULL;
    ST_TRY(fly_part(m, "sparse.", sparse));
    if (!*sparse) {
        ST_FAIL(m->f->e, ST_EUNSUPPORTED,
                "%s: %s has a low-rank part, but its other part is none of blkdiag1 and blkdiag2, "
                "w1_bfly and w2_bfly, a weight of blocks, and tiles with a layout",
                m->f->file, m->name);
    }
    ST_TRY(fly_lowrank(m, v, u, "lowrank", low));
    snprintf(spec, ST_SPEC_TEXT, "%.120s+%.200s%s", low, sparse, gate ? "+gate" : "+mean");
    return ST_OK;
}

static st_status fly_one(fly_matrix *m, json_t *maps)
{
    char spec[ST_SPEC_TEXT] = "";
    st_folder_row *v = fly_find(m, "", "lr_weight1"), *u = fly_find(m, "", "lr_weight2");
    st_folder_row *right = fly_find(m, "module.0.", "weight"),
                  *left = fly_find(m, "module.1.", "weight");
    st_folder_row *lv = fly_find(m, "low_rank.", "lr_weight1"),
                  *lu = fly_find(m, "low_rank.", "lr_weight2");
    st_folder_row *vt = fly_find(m, "", "low_rank1"), *ut = fly_find(m, "", "low_rank2");
    st_status s = ST_OK;
    if (lv && lu) {
        s = fly_sum(m, lv, lu, spec);
    } else if (v && u) {
        s = fly_lowrank(m, v, u, "", spec);
    } else if (vt && ut) {
        s = fly_fast(m, vt, ut, spec);
    } else if (right && left) {
        st_folder_row *bias = fly_find(m, "module.1.", "bias");
        s = fly_lowrank(m, right, left, "", spec);
        st_folder_row *dead = fly_find(m, "", "bias");
        if (dead) dead->stored = NULL;
        if (bias) fly_rename(m, bias, "", "bias");
    } else {
        s = fly_part(m, "", spec);
    }
    if (!s && *spec) json_object_set_new(maps, m->name, json_string(spec));
    return s;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Rows whose names begin with "M.": they are neighbours, whatever their order has become. */
static void fly_rows(fly_matrix *m)
{
    st_folder *f = m->f;
    char name[FLY_NAME + 2];
    size_t n = (size_t)snprintf(name, sizeof name, "%s.", m->name);
    int64_t lo = 0, hi = f->rows;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (strncmp(f->row[mid].name, name, n) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    m->row = f->row + lo;
    m->rows = 0;
    while (lo + m->rows < f->rows && !strncmp(m->row[m->rows].name, name, n))
        m->rows++;
}

static int fly_order(const void *a, const void *b)
{
    const st_folder_row *x = a, *y = b;
    int d = strcmp(x->name, y->name);
    return d ? d : (x->piece > y->piece) - (x->piece < y->piece);
}

/* Outputs of block `layer`'s c_fc. */
static int64_t fly_inner(const st_folder *f, int64_t layer, int64_t width)
{
    char name[FLY_NAME];
    static const char *const bias[] = {"bias", "module.1.bias"};
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "h.%lld.mlp.c_fc.%s", (long long)layer, bias[i]);
        const st_folder_row *row = st_folder_find(f, name);
        if (row && row->stored->ndim == 1 && row->stored->dim[0] <= FLY_SIDE)
            return row->stored->dim[0];
    }
    return 4 * width;
}

static st_status fly_block(st_folder *f, int64_t layer, int64_t width, fly_matrix *m, json_t *maps)
{
    int64_t inner = fly_inner(f, layer, width);
    const struct {
        const char *name;
        int64_t in, out;
    } matrix[] = {{"attn.c_attn", width, 3 * width},
                  {"attn.c_proj", width, width},
                  {"mlp.c_fc", width, inner},
                  {"mlp.c_proj", inner, width}};
    for (int i = 0; i < 4; i++) {
        snprintf(m->name, sizeof m->name, "h.%lld.%s", (long long)layer, matrix[i].name);
        m->in = matrix[i].in;
        m->out = matrix[i].out;
        fly_rows(m);
        ST_TRY(fly_one(m, maps));
    }
    return ST_OK;
}

/* A structured head: with its bias, without the copy of the embedding that transformers ties to it.
 */
static st_status fly_head(st_folder *f, int64_t width, int64_t vocab, fly_matrix *m)
{
    strcpy(m->name, "lm_head");
    m->in = width;
    m->out = vocab;
    fly_rows(m);
    ST_TRY(fly_one(m, f->maps));
    if (!json_object_get(f->maps, m->name)) return ST_OK;
    f->head_bias = fly_find(m, "", "bias") != NULL;
    st_folder_row *w = fly_find(m, "", "weight");
    bool tied = w && w->form == ST_ROW_PLAIN && w->stored->ndim == 2 &&
                w->stored->dim[0] == vocab && w->stored->dim[1] == width;
    if (!tied) return ST_OK;
    st_folder_note(f,
                   "%.100s is left out: its layer does not read it, transformers has tied it to "
                   "the embedding",
                   w->stored->name);
    w->stored = NULL;
    return ST_OK;
}

static st_status fly_blocks(st_folder *f, int64_t width, int64_t vocab)
{
    size_t bytes = 1;
    for (int64_t i = 0; i < f->rows; i++)
        bytes += strlen(f->row[i].name) + FLY_LONGER;
    f->made = st_calloc((int64_t)bytes, 1);
    f->maps = json_object();
    if (!f->made || !f->maps) return ST_NOMEM(f->e, f->file);
    char *at = f->made;
    fly_matrix m = {.f = f, .at = &at};
    for (int64_t layer = 0; layer < ST_FOLDER_LAYERS; layer++) {
        char name[FLY_NAME];
        snprintf(name, sizeof name, "h.%lld.ln_1.weight", (long long)layer);
        if (!st_folder_find(f, name)) break;
        ST_TRY(fly_block(f, layer, width, &m, f->maps));
    }
    ST_TRY(fly_head(f, width, vocab, &m));
    int64_t n = 0;
    for (int64_t i = 0; i < f->rows; i++) {
        if (f->row[i].stored) f->row[n++] = f->row[i];
    }
    f->rows = n;
    if (n) qsort(f->row, (size_t)n, sizeof *f->row, fly_order);
    return ST_OK;
}

st_status st_folder_fly(st_folder *f)
{
    const st_folder_row *wte = st_folder_find(f, "wte.weight");
    if (json_object_get(f->config, "strut")) return ST_OK; /* our own names */
    if (!wte || wte->stored->ndim != 2) return ST_OK;
    if (wte->stored->dim[1] < 1 || wte->stored->dim[1] > FLY_SIDE) return ST_OK;
    ST_TRY(fly_blocks(f, wte->stored->dim[1], wte->stored->dim[0]));
    if (json_object_size(f->maps) == 0 || !f->config) return ST_OK;
    json_t *config = json_copy(f->config);
    json_decref(f->config);
    f->config = config;
    json_object_set_new(config, "strut", json_pack("{s:i, s:O}", "format", 1, "maps", f->maps));
    if (f->head_bias) json_object_set_new(config, "lm_head_bias", json_true());
    return ST_OK;
}

/* ---- their numbers --------------------------------------------------------------------------- */

bool st_folder_special(const st_folder_row *row)
{
    return row->form >= ST_ROW_TURNED;
}

/* Tiles (block, block), each transposed. */
static void fly_turn(float *to, const float *from, int64_t n, int64_t block)
{
    int64_t square = block * block;
    for (int64_t i = 0; i < n; i++) {
        int64_t tile = i / square, row = i % square / block, col = i % block;
        to[i] = from[tile * square + col * block + row];
    }
}

st_status st_folder_read_special(const st_folder *f, const st_param *p, const st_folder_row *row,
                                 st_tensor w)
{
    int64_t n = st_numel(w);
    float *from = st_calloc(2 * n, sizeof *from), *to = from + n;
    if (!from) return ST_NOMEM(f->e, f->path);
    st_status s = st_stored_read(row->stored, st_view1(from, ST_F32, n), f->e);
    if (row->form == ST_ROW_TURNED)
        fly_turn(to, from, n, p->w.dim[p->w.ndim - 1]);
    else if (row->form == ST_ROW_SS1)
        st_ss1_import(p->spec, from, to);
    else if (row->form == ST_ROW_PAIRS)
        st_pairs_apart(to, from, p->w.dim[0], n / p->w.dim[0], st_model_lm(f->model).head_dim);
    for (int64_t i = 0; i < n && row->form == ST_ROW_GAIN; i++)
        to[i] = from[i] - 1.0f;
    if (!s) st_convert(w.data, w.dtype, to, ST_F32, n);
    free(from);
    return s;
}
