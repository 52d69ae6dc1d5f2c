/* A model under the names of HazyResearch fly's layers (folder_fly.c has the other direction). */
/* SPDX-License-Identifier: MIT */
#include "convert/inner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Our factors and theirs; the part of a sum stands before both. */
static const char *const fly_factor[][2] = {
    {"lowrank.u", "low_rank.lr_weight2"},
    {"lowrank.v", "low_rank.lr_weight1"},
    {"monarch.l1", "sparse.blkdiag1"},
    {"monarch.l2", "sparse.blkdiag2"},
    {"blockdiag.blocks", "sparse.weight"},
    {"butterfly.tiles", "sparse.weight"},
    {"btt.r", "sparse.w1_bfly"},
    {"btt.l", "sparse.w2_bfly"},
    {"u", "lr_weight2"},
    {"v", "lr_weight1"},
    {"l1", "blkdiag1"},
    {"l2", "blkdiag2"},
    {"blocks", "weight"},
    {"tiles", "weight"},
    {"r", "w1_bfly"},
    {"l", "w2_bfly"},
};

static void fly_name(const st_param *p, const char *prefix, char *name)
{
    if (!p->matrix) {
        snprintf(name, ST_EXPORT_NAME, "%s%.100s", prefix, p->name);
        return;
    }
    const char *under = p->role == ST_ROLE_HEAD ? "" : prefix;
    const char *factor = p->name + strlen(p->matrix) + 1, *mlp = strstr(p->matrix, ".mlp.");
    for (size_t i = 0; i < sizeof fly_factor / sizeof *fly_factor; i++) {
        if (strcmp(factor, fly_factor[i][0]) == 0) {
            factor = fly_factor[i][1];
            break;
        }
    }
    if (mlp) {
        snprintf(name, ST_EXPORT_NAME, "%s%.*s.mlp.%s.%.40s", prefix, (int)(mlp - p->matrix),
                 p->matrix, strcmp(mlp, ".mlp.c_fc") == 0 ? "fc1" : "fc2", factor);
    } else {
        snprintf(name, ST_EXPORT_NAME, "%s%.60s.%.40s", under, p->matrix, factor);
    }
}

const st_export_style st_export_fly = {
    .name = fly_name, .head = true, .mlp = true, .layouts = true};

/* ---- what fly's layers can be ---------------------------------------------------------------- */

struct fly_walk {
    st_conversion *c;
    st_status status;
    bool ss1, attention, btt, head;
};

/* Does the text of a spec name only layers that fly has, alone and beside a low-rank part? */
static bool fly_has(const char *text)
{
    static const char *const plain[] = {
        "blockdiag:", "monarch:", "butterfly:", "btt:", "dense", "lowrank:", "ss1:"};
    const char *sum = strchr(text, '+');
    size_t all = sizeof plain / sizeof *plain, n = sum ? 4 : all; /* of sums, the first four */
    if (strstr(text, ",inner=") || strstr(text, ",folds=") || strstr(text, ",signs=")) return false;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(sum ? sum + 1 : text, plain[i], strlen(plain[i])) == 0) return true;
    }
    return false;
}

static void fly_fits(void *ctx, const char *name, const st_spec *spec)
{
    struct fly_walk *w = ctx;
    char text[ST_SPEC_TEXT];
    st_spec_print(spec, text);
    bool table = strcmp(name, "wte") == 0, dense = strcmp(text, "dense") == 0;
    if (w->status || (table && dense)) return;
    if (!table && fly_has(text)) {
        w->ss1 = w->ss1 || strncmp(text, "ss1", 3) == 0;
        w->btt = w->btt || strstr(text, "btt:");
        w->head = w->head || (strcmp(name, "lm_head") == 0 && !dense);
        w->attention = w->attention || (strstr(name, ".attn.") && !dense);
        return;
    }
    w->status = ST_ERR(w->c->e, ST_EUNSUPPORTED,
                       "fly cannot hold this model: it has no layer for %s in %s", text, name);
}

st_status st_fits_fly(st_conversion *c)
{
    struct fly_walk w = {.c = c};
    st_lm_shape lm = st_model_lm(c->model);
    st_model_matrices(c->model, fly_fits, &w);
    ST_TRY(w.status);
    if (!lm.tied && !w.head && lm.head_bias) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "fly cannot hold this model: its dense head has a bias (lm_head_bias)");
    }
    const char *key = "scale_attn_by_inverse_layer_idx";
    if (!json_is_true(json_object_get(c->config, key)))
        st_convert_note(c, "fly's configurations set %s; this model has it false", key);
    if (st_model_lm(c->model).gelu != ST_GELU_ERF)
        st_convert_note(c, "fly's MLP computes GELU by erf, this model has tanh");
    if (!lm.tied) {
        st_convert_note(c,
                        "the head is no part of the embedding: set tie_word_embeddings: false%s%s",
                        w.head ? " and model.lm_head, which the SS1 authors' copy of fly has" : "",
                        w.head && !lm.head_bias ? ", with bias: false" : "");
    }
    if (w.btt) {
        st_convert_note(c,
                        "a state_dict has no place for the arguments nblocks1, nblocks2, b1 and b2 "
                        "of BlockdiagButterflyLinear: they are m1, n1, rank and group of "
                        "config.json's specs (group not given: out/n1)");
    }
    if (w.attention)
        st_convert_note(c, "structured attention is in the SS1 authors' copy of fly only");
    if (w.ss1) {
        st_convert_note(c, "a state_dict has no place for SS1's tile sizes and hash constants: set "
                           "those of config.json's specs in the layers");
    }
    return ST_OK;
}

/* ---- numbers that stand otherwise ------------------------------------------------------------ */

struct fly_change {
    st_conversion *c;
    st_status status;
};

/* SS1 goes into the release's order; a sum that is neither gated nor a mean becomes the mean that
 * fly has, by doubling one factor of each part. */
static void fly_param(void *ctx, const st_param *p)
{
    struct fly_change *k = ctx;
    static const char *const first[] = {".lowrank.u", ".monarch.l1", ".blockdiag.blocks",
                                        ".butterfly.tiles", ".btt.r"};
    char text[ST_SPEC_TEXT] = "";
    int64_t n = st_numel(p->w);
    float *w = k->c->flat + p->offset;
    if (k->status || !p->spec || p->flags & ST_P_BIAS) return;
    st_spec_print(p->spec, text);
    if (strncmp(text, "ss1:", 4) == 0) {
        float *turned = st_calloc(n, sizeof *turned);
        if (!turned) {
            k->status = ST_NOMEM(k->c->e, NULL);
            return;
        }
        st_ss1_export(p->spec, w, turned);
        memcpy(w, turned, (size_t)n * sizeof *w);
        free(turned);
    }
    bool plain = strchr(text, '+') && !strstr(text, "+gate") && !strstr(text, "+mean");
    bool doubled = false;
    for (int i = 0; i < 5 && plain; i++) {
        size_t len = strlen(first[i]), all = strlen(p->name);
        doubled = doubled || (all > len && strcmp(p->name + all - len, first[i]) == 0);
    }
    for (int64_t i = 0; i < n && doubled; i++)
        w[i] *= 2.0f;
}

st_status st_fly_numbers(st_conversion *c)
{
    struct fly_change k = {.c = c};
    st_model_params(c->model, fly_param, &k);
    return k.status;
}
