/* Replaces matrices of a trained model by structured ones that start from them: which become what,
 * how each starts, what came of it; the rest is copied. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "fit/calibrate.h"
#include "fit/permute.h"
#include "fit/quantize.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DECOMPOSE_TOKENS = 131072 }; /* of a calibration text */

/* ---- what changes ---------------------------------------------------------------------------- */

typedef struct {
    st_decompose_run *r;
    bool *used; /* by entry of o->init */
    st_err *e;
    st_status status;
} decompose_list;

static void decompose_std_of(void *ctx, const st_param *p)
{
    st_decompose_item *x = ctx;
    if (p->matrix && strcmp(p->matrix, x->name) == 0) x->std = p->matrix_std;
}

/* Bytes of the glob of "GLOB=INIT", 0 where there is none: no glob has a ':', and every '=' of an
 * init comes after one. */
static size_t decompose_glob(const char *text)
{
    size_t n = strcspn(text, "=:");
    return text[n] == '=' ? n : 0;
}

/* The last init whose glob matches, or that has none. */
static const char *decompose_init(const decompose_list *l, const char *name)
{
    const st_decompose_opts *o = l->r->o;
    const char *found = NULL;
    for (int i = 0; i < o->ninit; i++) {
        size_t n = decompose_glob(o->init[i]);
        char *glob = n ? strndup(o->init[i], n) : NULL;
        if (n == 0 || (glob && st_glob_match(glob, name))) {
            found = o->init[i] + (n ? n + 1 : 0);
            l->used[i] = true;
        }
        free(glob);
    }
    return found;
}

static void decompose_matrix(void *ctx, const char *name, const st_spec *to)
{
    decompose_list *l = ctx;
    st_decompose_run *r = l->r;
    if (l->status) return;
    const st_slot *from = st_model_slot(r->from, name);
    bool apart =
        from->role == ST_ROLE_HEAD && to->type != &st_map_dense && st_model_lm(r->from).tied;
    if (apart) from = st_model_role(r->from, ST_ROLE_EMBEDDING, -1); /* what it is tied to */
    if (!apart && st_spec_equal(from->spec, to)) return;
    st_decompose_item *x = &r->item[r->n++];
    *x = (st_decompose_item){.name = name, .from = *from->spec, .to = *to, .output_error = NAN};
    x->init = decompose_init(l, name);
    l->status = st_start_parse(&x->start, to, x->init, l->e);
    if (l->status) st_err_prefix(l->e, "%s", name);
    if (!x->init) x->init = st_map_inits[0].name;
    st_model_params(r->to, decompose_std_of, x);
}

static void decompose_count(void *ctx, const char *name, const st_spec *to)
{
    (void)name, (void)to;
    ++*(int64_t *)ctx;
}

/* What only Kronecker sums have is refused where none is made: it would do nothing, silently. */
static st_status decompose_kron_only(const st_decompose_run *r, st_err *e)
{
    char text[ST_SPEC_TEXT];
    bool scalars = r->o->nscalars > 0;
    if (!scalars && r->o->gauge == ST_GAUGE_UNIT) return ST_OK;
    for (int64_t i = 0; i < r->n; i++) {
        st_spec_print(&r->item[i].to, text);
        if (strstr(text, "kron:")) return ST_OK;
    }
    ST_FAIL(
        e, ST_EARG,
        "%s: is about Kronecker sums, and no matrix becomes one (of %lld that change); leave it "
        "out or give a --map GLOB=kron:...",
        scalars ? "--scalars" : "--gauge balanced", (long long)r->n);
}

static st_status decompose_items(st_decompose_run *r, st_err *e)
{
    int64_t most = 0;
    st_model_matrices(r->to, decompose_count, &most);
    decompose_list l = {.r = r, .e = e, .used = st_calloc(r->o->ninit + 1, sizeof *l.used)};
    r->item = st_calloc(most, sizeof *r->item);
    if (!r->item || !l.used) l.status = ST_NOMEM(e, NULL);
    if (!l.status) st_model_matrices(r->to, decompose_matrix, &l);
    for (int i = 0; i < r->o->ninit && !l.status; i++) {
        if (l.used[i]) continue;
        l.status = ST_ERR(e, ST_EARG, "init %s: matches none that change, of %s", r->o->init[i],
                          st_counted(r->n, "matrices").s);
    }
    free(l.used);
    if (!l.status && r->n == 0 && !r->o->nquantize)
        st_log(ST_LOG_WARN, "nothing to decompose: all matrices are left as they are by --map and "
                            "--skip");
    return l.status ? l.status : decompose_kron_only(r, e);
}

/* ---- what came of it ------------------------------------------------------------------------- */

static json_t *decompose_rows(const st_decompose_run *r)
{
    json_t *rows = json_array();
    for (int64_t i = 0; i < r->n; i++) {
        const st_decompose_item *x = &r->item[i];
        char text[ST_SPEC_TEXT], old[ST_SPEC_TEXT];
        st_spec_print(&x->to, text);
        st_spec_print(&x->from, old);
        double share = x->fit.total > 0.0 ? x->fit.lost / x->fit.total : 0.0;
        json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "name",
                            x->name, "spec", text, "from", old, "init", x->init, "parameters",
                            (json_int_t)st_spec_weights(&x->to), "parameters_before",
                            (json_int_t)st_spec_weights(&x->from), "norm", sqrt(x->fit.total),
                            "energy", x->fit.energy, "error", sqrt(share), "alpha", x->fit.alpha,
                            "seconds", x->seconds));
        json_t *row = json_array_get(rows, json_array_size(rows) - 1);
        if (!isnan(x->output_error))
            json_object_set_new(row, "output_error", json_real(x->output_error));
        if (r->o->nids) json_object_set_new(row, "weighted", json_boolean(x->start.row->weighted));
    }
    return rows;
}

static void decompose_copy(void *ctx, const st_param *p)
{
    st_decompose_run *r = ctx;
    st_tensor old = st_decompose_find(r->from, r->flat, p->name);
    if (!old.data || st_numel(old) != st_numel(p->w)) return;
    memcpy(r->to_flat + p->offset, old.data, st_bytes(old));
}

/* *changes: what st_decompose_changes says, new. */
static st_status decompose_weights(const st_model *from, float *flat, const st_decompose_opts *o,
                                   st_model **to, float **to_flat, json_t **matrices,
                                   json_t **changes, st_err *e)
{
    json_t *config = NULL;
    *changes = NULL;
    *to = NULL;
    *to_flat = NULL;
    *matrices = NULL;
    const char **maps = NULL;
    int n = 0;
    st_status s = st_preset_join(o->preset, o->maps, o->nmaps, &maps, &n, e);
    if (!s) s = st_model_remap(from, maps, n, o->skip, o->nskip, &config, e);
    free(maps);
    if (!s) s = st_model_open(to, config, e);
    json_decref(config);
    if (!s) *to_flat = st_calloc(st_model_elements(*to), sizeof **to_flat);
    if (!s && !*to_flat) s = ST_NOMEM(e, NULL);
    st_decompose_run r = {.from = from, .to = *to, .flat = flat, .to_flat = *to_flat, .o = o};
    if (!s) s = decompose_items(&r, e);
    if (!s) s = st_decompose_changes(from, *to, flat, o, changes, e);
    /* Everything of the same name and size first; what changes then overwrites what it makes. */
    if (!s) st_model_params(r.to, decompose_copy, &r);
    if (!s) s = o->nids ? st_calibrate_all(&r, e) : st_decompose_all(&r, e);
    if (!s) *matrices = decompose_rows(&r);
    free(r.item);
    if (!s) return ST_OK;
    json_decref(*changes);
    *changes = NULL;
    free(*to_flat);
    st_model_close(*to);
    *to_flat = NULL;
    *to = NULL;
    return s;
}

st_status st_decompose_weights(const st_model *from, float *flat, const st_decompose_opts *o,
                               st_model **to, float **to_flat, json_t **matrices, st_err *e)
{
    json_t *changes = NULL;
    st_status s = decompose_weights(from, flat, o, to, to_flat, matrices, &changes, e);
    json_decref(changes);
    return s;
}

/* Fails early, before minutes of work, where OUT could not be written. */
static st_status decompose_room(const char *in, const char *out, const st_decompose_opts *o,
                                st_err *e)
{
    const char *const reads[] = {in, o->weights};
    ST_TRY(st_output_apart(out, reads, 2, e));
    st_outdir dir = {0};
    ST_TRY(st_outdir_open(&dir, out, o->replace ? st_folder_over : NULL, e));
    st_outdir_discard(&dir);
    return ST_OK;
}

static st_status decompose_result(const st_model *from, const st_model *to, const char *out,
                                  json_t *matrices, double seconds, json_t **result, st_err *e)
{
    double mean = 0.0, total = 0.0, kept = 0.0, lost = 0.0;
    size_t i;
    json_t *row;
    json_array_foreach(matrices, i, row)
    {
        double norm = json_number_value(json_object_get(row, "norm"));
        double energy = json_number_value(json_object_get(row, "energy"));
        double error = json_number_value(json_object_get(row, "error"));
        mean += energy;
        total += norm * norm;
        kept += norm * norm * energy;
        lost += norm * norm * error * error;
    }
    bool some = total > 0.0;
    *result =
        json_pack("{s:o, s:f, s:I, s:I, s:f, s:f, s:f, s:O}", "out", st_json_text(out), "seconds",
                  seconds, "parameters", (json_int_t)st_model_counts(to).parameters,
                  "parameters_before", (json_int_t)st_model_counts(from).parameters, "mean_energy",
                  i ? mean / (double)i : 1.0, "energy", some ? kept / total : 1.0, "error",
                  some ? sqrt(lost / total) : 0.0, "matrices", matrices);
    if (!*result) return ST_NOMEM(e, NULL);
    return ST_OK;
}

/* What only a language model has: a text, and blocks whose channels are known to be permutable. */
static st_status decompose_suits(const st_decompose_opts *o, const st_model *m, const char *in,
                                 st_err *e)
{
    const char *job = o->weights        ? "decompose with calibration"
                      : o->permute      ? "decompose with an order of units"
                      : o->group_hidden ? "decompose with grouped units"
                      : o->fold_norms   ? "decompose with folded norms"
                                        : NULL;
    return job ? st_need_language(m, in, job, e) : ST_OK;
}

/* The text that `given` names, as ids in *o. */
static st_status decompose_text(const st_decompose_opts *given, const st_model *m,
                                const st_bpe *tokenizer, st_decompose_opts *o, st_ids *ids,
                                st_err *e)
{
    *o = *given;
    if (!given->weights) return ST_OK;
    int64_t limit = given->calibrate_tokens ? given->calibrate_tokens : DECOMPOSE_TOKENS;
    if (limit < 1)
        ST_FAIL(e, ST_EARG, "calibration: %lld tokens, expected at least 1", (long long)limit);
    ST_TRY(st_calibrate_read(given->weights, given->field, tokenizer, limit, st_model_lm(m).context,
                             ids, e));
    o->ids = ids->id;
    int64_t len = ids->n < st_model_lm(m).context ? ids->n : st_model_lm(m).context;
    o->nids = len ? ids->n - ids->n % len : 0; /* whole sequences, as a calibration runs them */
    return ST_OK;
}

/* What is asked for in blocks; *said as the result has it, NULL: nothing is. */
static st_status decompose_quantize(st_model *to, float *flat, const st_decompose_opts *o,
                                    json_t **said, st_err *e)
{
    json_t *left = NULL, *rows = NULL;
    if (!o->nquantize) return ST_OK;
    ST_TRY(st_model_quantize(to, o->quantize, o->nquantize, &left, e));
    st_status s = o->nids && st_model_quantized(to)
                      ? st_quantize_all(to, flat, o->ids, o->nids, &rows, e)
                      : ST_OK;
    *said = json_pack("{s:o, s:o}", "left", left, "matrices", rows ? rows : json_array());
    return s;
}

st_status st_decompose(const char *in, const char *out, const st_decompose_opts *given,
                       json_t **result, st_err *e)
{
    st_model *from = NULL, *to = NULL;
    float *flat = NULL, *to_flat = NULL;
    st_bpe *tokenizer = NULL;
    json_t *matrices = NULL, *changes = NULL, *quantized = NULL;
    st_decompose_opts o;
    st_ids ids = {0};
    double start = st_now();
    st_status s = decompose_room(in, out, given, e);
    if (!s) s = st_folder_read_as(in, &given->how, &from, &flat, &tokenizer, e);
    if (!s) s = decompose_suits(given, from, in, e);
    if (!s) s = decompose_text(given, from, tokenizer, &o, &ids, e);
    if (!s) s = decompose_weights(from, flat, &o, &to, &to_flat, &matrices, &changes, e);
    if (!s) s = decompose_quantize(to, to_flat, &o, &quantized, e);
    if (!s) s = st_folder_save(out, o.replace, to, to_flat, o.dtype, tokenizer, e);
    if (!s) s = decompose_result(from, to, out, matrices, st_now() - start, result, e);
    if (!s && o.nids) {
        json_object_set_new(*result, "calibration",
                            json_pack("{s:o, s:I, s:b}", "text", st_json_text(o.weights), "tokens",
                                      (json_int_t)o.nids, "sequential", o.sequential));
    }
    if (!s) json_object_set(*result, "changes", changes);
    if (!s && quantized) json_object_set(*result, "quantized", quantized);
    st_ids_free(&ids);
    json_decref(changes);
    json_decref(quantized);
    json_decref(matrices);
    st_bpe_close(tokenizer);
    free(flat);
    free(to_flat);
    st_model_close(from);
    st_model_close(to);
    return s;
}
