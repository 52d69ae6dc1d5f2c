/* A T2T-ViT's config.json for weights that have none, from the names and shapes of its tensors:
 *   embed_dim, token_dim   tokens_to_token.project.weight (embed_dim, 9 token_dim)
 *   in_chans               tokens_to_token.attention1.norm1.weight (49 in_chans)
 *   tokens_type            attention1.attn.qkv.weight, or attention1.kqv.weight and .w
 *                          (features, _)
 *   img_size               pos_embed (1, 1 + (img_size / 16)^2, embed_dim)
 *   depth, mlp_dim         blocks.N; blocks.0.mlp.fc1.weight (mlp_dim, embed_dim)
 *   num_classes            head.weight (num_classes, embed_dim)
 * What no shape says is the number of heads: every published size has 64 channels in each. */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <stdlib.h>
#include <string.h>

enum { T2T_HEAD = 64, T2T_LAYERS = 1 << 16 };

bool st_folder_is_t2t(const st_folder *f)
{
    static const char lead[] = "tokens_to_token.";
    for (int64_t i = 0; i < f->rows; i++)
        if (strncmp(f->row[i].name, lead, sizeof lead - 1) == 0) return true;
    return false;
}

static st_status t2t_tensor(const st_folder *f, const char *name, int ndim, const st_stored **out)
{
    const st_folder_row *row = st_folder_find(f, name);
    if (!row && st_folder_find(f, "tokens_to_token.soft_split0.weight")) {
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: a T2T-ViT whose tokens are made by convolutions, which is not computed; "
                "expected token modules of transformers or performers",
                f->file);
    }
    if (!row) {
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: no tensor %s, which every dense T2T-ViT has; a structured model needs the "
                "config.json that names its maps",
                f->file, name);
    }
    *out = row->stored;
    if (row->stored->ndim == ndim) return ST_OK;
    ST_FAIL(f->e, ST_ESHAPE, "%s: tensor %.100s has %d dimensions, expected %d", f->file,
            row->stored->name, row->stored->ndim, ndim);
}

static int64_t t2t_depth(const st_folder *f)
{
    int64_t depth = 0;
    for (int64_t i = 0; i < f->rows; i++) {
        if (strncmp(f->row[i].name, "blocks.", 7) != 0) continue;
        int64_t n = strtoll(f->row[i].name + 7, NULL, 10);
        if (n >= depth && n < T2T_LAYERS) depth = n + 1;
    }
    return depth;
}

static st_status t2t_side(const st_folder *f, const st_stored *pos, int64_t *side)
{
    int64_t tokens = pos->dim[1];
    *side = 1;
    while (*side < 4096 && *side * *side < tokens - 1)
        ++*side;
    if (tokens >= 2 && *side * *side == tokens - 1) return ST_OK;
    ST_FAIL(f->e, ST_ESHAPE,
            "%s: tensor %.100s has %lld rows, expected 1 for the class token and a square number "
            "for the image (197 at 224 pixels, 577 at 384)",
            f->file, pos->name, (long long)tokens);
}

static st_status t2t_heads(st_folder *f, int64_t width, int64_t *heads)
{
    *heads = f->how ? f->how->heads : 0;
    if (!*heads && width % T2T_HEAD == 0) *heads = width / T2T_HEAD;
    if (*heads > 0 && width % *heads == 0) return ST_OK;
    return st_folder_no_heads(f, width);
}

st_status st_folder_guess_t2t(st_folder *f)
{
    static const char first[] = "tokens_to_token.attention1.";
    const st_stored *project, *norm, *pos, *fc, *head;
    int64_t side, heads, depth = t2t_depth(f);
    f->guessed = true;
    ST_TRY(t2t_tensor(f, "tokens_to_token.project.weight", 2, &project));
    ST_TRY(t2t_tensor(f, "tokens_to_token.attention1.norm1.weight", 1, &norm));
    ST_TRY(t2t_tensor(f, "pos_embed", 3, &pos));
    ST_TRY(t2t_tensor(f, "blocks.0.mlp.fc1.weight", 2, &fc));
    ST_TRY(t2t_tensor(f, "head.weight", 2, &head));
    ST_TRY(t2t_side(f, pos, &side));
    ST_TRY(t2t_heads(f, project->dim[0], &heads));
    if (project->dim[1] % 9 || norm->dim[0] % 49) {
        ST_FAIL(f->e, ST_ESHAPE,
                "%s: tensors %.100s and %.100s read %lld and %lld numbers, expected multiples of "
                "9 and of 49 (windows of 3 x 3 and 7 x 7)",
                f->file, project->name, norm->name, (long long)project->dim[1],
                (long long)norm->dim[0]);
    }
    char name[64];
    snprintf(name, sizeof name, "%sw", first);
    const st_folder_row *w = st_folder_find(f, name);
    bool performer = w != NULL && w->stored->ndim == 2;
    f->config = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "model_type", "t2t_vit",
        "tokens_type", performer ? "performer" : "transformer", "img_size", (json_int_t)(16 * side),
        "in_chans", (json_int_t)(norm->dim[0] / 49), "num_classes", (json_int_t)head->dim[0],
        "token_dim", (json_int_t)(project->dim[1] / 9), "embed_dim", (json_int_t)project->dim[0],
        "depth", (json_int_t)depth, "num_heads", (json_int_t)heads, "mlp_dim",
        (json_int_t)fc->dim[0], "qkv_bias", st_folder_find(f, "blocks.0.attn.qkv.bias") != NULL);
    if (f->config && performer)
        json_object_set_new(f->config, "performer_features", json_integer(w->stored->dim[0]));
    if (!f->config) return ST_NOMEM(f->e, NULL);
    return ST_OK;
}
