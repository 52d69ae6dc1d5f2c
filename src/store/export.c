/* A model's parameters under the names and in the orientation of the formats that hold them. */
/* SPDX-License-Identifier: MIT */
#include "store/export.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */

static void export_name_hf(const st_param *p, const char *prefix, char *name)
{
    snprintf(name, ST_EXPORT_NAME, "%s%.100s", p->role == ST_ROLE_HEAD ? "" : prefix, p->name);
}

/* The factors of kronecker products in MLPs; the rest as Hugging Face calls it. */
static void export_name_krony(const st_param *p, const char *prefix, char *name)
{
    static const char *const ours[] = {"a", "b", "bias"}, *const theirs[] = {"0", "1", "bias"};
    const char *mlp = strstr(p->name, ".mlp."), *factor = mlp ? strrchr(p->name, '.') + 1 : NULL;
    export_name_hf(p, prefix, name);
    if (!mlp) return;
    int block = (int)(mlp - p->name);
    const char *matrix = mlp + 5; /* "c_fc" or "c_proj" */
    int length = (int)(factor - 1 - matrix);
    if (strcmp(factor, "s") == 0) {
        snprintf(name, ST_EXPORT_NAME, "transformer.%.*s.mlp.scalers%.*s", block, p->name,
                 length - 1, matrix + 1);
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(factor, ours[i])) continue;
        snprintf(name, ST_EXPORT_NAME, "transformer.%.*s.mlp.%.*s_%s", block, p->name, length,
                 matrix, theirs[i]);
    }
}

const st_export_style st_export_hf = {.name = export_name_hf};
const st_export_style st_export_strut = {.name = export_name_hf, .blocks = true};
const st_export_style st_export_nanogpt = {.name = export_name_hf, .linear = true, .head = true};
const st_export_style st_export_krony = {.name = export_name_krony, .linear = true, .head = true};
const st_export_style st_export_llmc = {.name = export_name_hf, .linear = true};
const st_export_style st_export_gguf = {
    .name = export_name_hf, .linear = true, .vectors = true, .gains = true, .blocks = true};
const st_export_style st_export_gguf_llama = {
    .name = export_name_hf, .linear = true, .vectors = true, .pairs = true, .blocks = true};

/* ---- pairs ----------------------------------------------------------------------------------- */

/* Row 2i + s of a head is row s * head / 2 + i of the other. */
static void export_pairs(float *to, const float *from, int64_t rows, int64_t cols, int64_t head,
                         bool apart)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t first = r / head * head, at = r % head;
        int64_t other = first + at % 2 * (head / 2) + at / 2;
        memcpy(to + (apart ? other : r) * cols, from + (apart ? r : other) * cols,
               (size_t)cols * sizeof *to);
    }
}

void st_pairs_apart(float *to, const float *from, int64_t rows, int64_t cols, int64_t head)
{
    export_pairs(to, from, rows, cols, head, true);
}

void st_pairs_together(float *to, const float *from, int64_t rows, int64_t cols, int64_t head)
{
    export_pairs(to, from, rows, cols, head, false);
}

/* ---- items ----------------------------------------------------------------------------------- */

struct export_walk {
    st_export *x;
    const float *flat;
    st_dtype dtype;
    const st_export_style *style;
    const st_model *m;
    const st_param *table; /* the embedding */
    int64_t table_at;
    bool has_head, failed;
};

static bool export_has_layout(const st_param *p)
{
    size_t n = strlen(p->name);
    return p->spec && n > 6 && strcmp(p->name + n - 6, ".tiles") == 0;
}

static void export_count(void *ctx, const st_param *p)
{
    *(int64_t *)ctx += 1 + export_has_layout(p);
}

static st_store_item *export_item(struct export_walk *k, const st_param *p)
{
    st_export *x = k->x;
    bool linear = k->style->linear || (k->style->mlp && strstr(p->name, ".mlp."));
    bool blocks = k->style->blocks && p->format != ST_F32;
    bool turn = (p->flags & ST_P_FLIP) && !linear && !blocks;
    bool vector = k->style->vectors && (p->w.ndim == 1 || strcmp(p->name, "wpe.weight") == 0);
    st_store_item *item = &x->item[x->n];
    *item = (st_store_item){.name = x->names + x->n * ST_EXPORT_NAME,
                            .dtype = blocks   ? p->format
                                     : vector ? ST_F32
                                              : k->dtype,
                            .ndim = p->w.ndim};
    for (int i = 0; i < p->w.ndim; i++)
        item->dim[i] = p->w.dim[turn ? p->w.ndim - 1 - i : i];
    x->same[x->n] = -1;
    bool turned = strstr(p->name, ".q_proj.") || strstr(p->name, ".k_proj.");
    x->row[x->n++] =
        (st_export_row){.w = k->flat + p->offset,
                        .rows = p->w.dim[0],
                        .cols = p->w.ndim > 1 ? p->w.dim[1] : 1,
                        .turn = turn,
                        .head = k->style->pairs && turned ? st_model_lm(k->m).head_dim : 0,
                        .gain = k->style->gains && (p->flags & ST_P_LESS)};
    return item;
}

/* Beside the tensor "PREFIX.weight" just added. */
static void export_layout(struct export_walk *k, const st_param *p)
{
    st_export *x = k->x;
    st_export_row *row = &x->row[x->n];
    st_store_item *item = &x->item[x->n];
    char *name = x->names + x->n * ST_EXPORT_NAME;
    char before[ST_EXPORT_NAME];
    snprintf(before, sizeof before, "%s", name - ST_EXPORT_NAME);
    snprintf(name, ST_EXPORT_NAME, "%.*s.layout", (int)(strrchr(before, '.') - before), before);
    *item = (st_store_item){.name = name, .dtype = ST_I32, .ndim = 2};
    *row = (st_export_row){.layout = st_butterfly_layout(p->spec, item->dim)};
    k->failed = k->failed || !row->layout;
    x->same[x->n++] = -1;
}

static void export_param(void *ctx, const st_param *p)
{
    struct export_walk *k = ctx;
    if (p->role == ST_ROLE_EMBEDDING && strcmp(p->name, "wte.weight") == 0) {
        k->table = p;
        k->table_at = k->x->n;
    }
    if (p->role == ST_ROLE_HEAD) k->has_head = true;
    char *name = k->x->names + k->x->n * ST_EXPORT_NAME;
    if (st_model_is_vision(k->m))
        snprintf(name, ST_EXPORT_NAME, "%.100s", p->name);
    else
        k->style->name(p, st_model_prefix(k->m), name);
    export_item(k, p);
    if (export_has_layout(p) && k->style->layouts) export_layout(k, p);
}

st_status st_export_open(st_export *x, const st_model *m, const float *flat, st_dtype dtype,
                         const st_export_style *style, st_err *e)
{
    int64_t n = 1; /* the head once more */
    *x = (st_export){0};
    st_model_params(m, export_count, &n);
    x->item = st_calloc(n, sizeof *x->item);
    x->row = st_calloc(n, sizeof *x->row);
    x->same = st_calloc(n, sizeof *x->same);
    x->names = st_calloc(n, ST_EXPORT_NAME);
    if (!x->item || !x->row || !x->same || !x->names) {
        st_export_close(x);
        return ST_NOMEM(e, NULL);
    }
    struct export_walk k = {.x = x, .flat = flat, .dtype = dtype, .style = style, .m = m};
    st_model_params(m, export_param, &k);
    if (style->head && !k.has_head && k.table) {
        strcpy(x->names + x->n * ST_EXPORT_NAME, "lm_head.weight");
        export_item(&k, k.table);
        x->same[x->n - 1] = k.table_at;
    }
    if (k.failed) {
        st_export_close(x);
        return ST_NOMEM(e, NULL);
    }
    for (int64_t i = 0; i < x->n; i++)
        x->total += x->same[i] < 0 ? st_export_bytes(x, i, 1) : 0;
    return ST_OK;
}

void st_export_close(st_export *x)
{
    for (int64_t i = 0; x->row && i < x->n; i++)
        free(x->row[i].layout);
    free(x->item);
    free(x->row);
    free(x->same);
    free(x->names);
    *x = (st_export){0};
}

static int64_t export_numbers(const st_store_item *item)
{
    int64_t n = 1;
    for (int d = 0; d < item->ndim; d++)
        n *= item->dim[d];
    return n;
}

int64_t st_export_bytes(const st_export *x, int64_t first, int64_t n)
{
    int64_t bytes = 0;
    for (int64_t i = first; i < first + n; i++) {
        bytes += (int64_t)st_dtype_bytes(x->item[i].dtype, export_numbers(&x->item[i]));
    }
    return bytes;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* data (cols, rows) = w (rows, cols)^T, in squares that stay in the cache. */
static void export_turned(void *data, st_dtype t, const float *w, int64_t rows, int64_t cols)
{
    enum { SQUARE = 32 };
    float strip[SQUARE];
    for (int64_t r0 = 0; r0 < rows; r0 += SQUARE) {
        int64_t n = rows - r0 < SQUARE ? rows - r0 : SQUARE;
        for (int64_t c0 = 0; c0 < cols; c0 += SQUARE) {
            for (int64_t c = c0; c < cols && c < c0 + SQUARE; c++) {
                for (int64_t r = 0; r < n; r++)
                    strip[r] = w[(r0 + r) * cols + c];
                st_convert((char *)data + (size_t)(c * rows + r0) * st_dtype_size(t), t, strip,
                           ST_F32, n);
            }
        }
    }
}

/* Weights are finite; one that float16, or a block's scale in it, cannot hold would become
 * infinite. */
static st_status export_check_f16(const st_store_item *item, const float *w, int64_t n, st_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(w[i]) < 65520.0f) continue;
        ST_FAIL(e, ST_EARG,
                "tensor %.100s: %g does not fit into %s, whose largest number is 65504; "
                "choose bfloat16 or float32",
                item->name, (double)w[i],
                item->dtype == ST_F16 ? "float16" : "blocks with scales of float16");
    }
    return ST_OK;
}

st_status st_export_fill(void *ctx, int64_t i, void *data, size_t bytes, st_err *e)
{
    st_export *x = ctx;
    const st_store_item *item = &x->item[x->first + i];
    const st_export_row *row = &x->row[x->first + i];
    int64_t n = export_numbers(item);
    if (x->what) {
        x->done += (int64_t)bytes;
        st_report(&(st_progress){.what = x->what,
                                 .done = x->done,
                                 .total = x->total,
                                 .unit = "bytes",
                                 .detail = item->name,
                                 .last = x->done == x->total});
    }
    if (x->stop && st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    if (row->layout) {
        memcpy(data, row->layout, bytes);
        return ST_OK;
    }
    if (item->dtype == ST_F16 || st_dtype_blocks(item->dtype))
        ST_TRY(export_check_f16(item, row->w, n, e));
    if (row->head || row->gain) {
        float *w = st_calloc(n, sizeof *w);
        if (!w) return ST_NOMEM(e, item->name);
        if (row->head) st_pairs_together(w, row->w, row->rows, row->cols, row->head);
        for (int64_t k = 0; row->gain && k < n; k++)
            w[k] = row->w[k] + 1.0f;
        st_convert(data, item->dtype, w, ST_F32, n);
        free(w);
    } else if (row->turn)
        export_turned(data, item->dtype, row->w, row->rows, row->cols);
    else
        st_convert(data, item->dtype, row->w, ST_F32, n);
    return ST_OK;
}
