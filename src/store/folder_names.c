/* Tensors under the model's names. What wrappers put before GPT-2's own names or between them is
 * stripped, mask buffers are left out, and Krony-PT's factors become those of our kron maps:
 *   h.N.mlp.c_fc_0 (F, m1, n1), h.N.mlp.c_fc_1 (F, m2, n2)    c_fc.a, c_fc.b; c_proj likewise
 *   h.N.mlp.c_fc_bias, h.N.mlp.scalers_fc (F)                 c_fc.bias, c_fc.s
 * and, before March 2024, one pair of matrices a term, of the transposed product:
 *   h.N.mlp.c_fc_F_0 (n1, m1), h.N.mlp.c_fc_F_1 (n2, m2)      entry F of c_fc.a, c_fc.b
 * and of a T2T-ViT that fly's converter has renamed
 *   patch_embed.X, pos_embed.pe                               tokens_to_token.X, pos_embed */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <stdlib.h>
#include <string.h>

enum {
    NAMES_LONGER = 8, /* ours are longer than Krony-PT's by less than this */
    NAMES_SHARED = 4
};

static const char *const names_known[] = {"transformer.", "module.", "_orig_mod.", "model."};
enum { NAMES_KNOWN = sizeof names_known / sizeof *names_known };

/* Without the prefixes that GPT-2's own programs write. */
static const char *names_bare(const char *name)
{
    for (size_t i = 0; i < NAMES_KNOWN; i++) {
        size_t n = strlen(names_known[i]);
        if (strncmp(name, names_known[i], n)) continue;
        name += n;
        i = (size_t)-1; /* again from the first */
    }
    return name;
}

/* Without inner parts that begin with "_", in place: wrappers (_orig_mod, _fsdp_wrapped_module,
 * _checkpoint_wrapped_module), which stand anywhere; models have none. */
static void names_unwrap(char *name)
{
    char *to = name;
    for (const char *at = name; *at;) {
        size_t n = strcspn(at, ".");
        n += at[n] == '.';
        bool wrapper = *at == '_' && at[n - 1] == '.' && at != name;
        if (!wrapper) memmove(to, at, n);
        to += wrapper ? 0 : n;
        at += n;
    }
    *to = '\0';
}

/* The length of what stands before `part` at the end of a name, 0: nothing or another name. */
static size_t names_before(const char *name, const char *part)
{
    size_t n = strlen(name), m = strlen(part);
    return n > m && name[n - m - 1] == '.' && strcmp(name + n - m, part) == 0 ? n - m : 0;
}

/* Any further prefix of f->row[].name: what stands before the one tensor that every model has. It
 * is stripped where it stands, and named. */
static st_status names_prefix(st_folder *f)
{
    static const char *const has[] = {"wpe.weight", "cls_token", "embed_tokens.weight"};
    enum { HAS = sizeof has / sizeof *has };
    const char *prefix = NULL;
    size_t n = 0;
    for (int64_t i = 0; i < f->rows; i++) {
        const char *name = f->row[i].name;
        for (int k = 0; k < HAS; k++) {
            if (strcmp(name, has[k]) == 0) return ST_OK;
            size_t m = names_before(name, has[k]);
            if (m && prefix) {
                ST_FAIL(f->e, ST_EFORMAT,
                        "%s: holds more than one model, under %.*s and %.*s; save one of them by "
                        "itself",
                        f->file, (int)n, prefix, (int)m, name);
            }
            if (m) prefix = name;
            if (m) n = m;
        }
    }
    if (!prefix) return ST_OK;
    st_folder_note(f, "its names begin with %.*s, which is stripped", (int)n, prefix);
    for (size_t i = 0; i < NAMES_KNOWN; i++) { /* lm_head. has less of it than transformer.wpe. */
        size_t m = strlen(names_known[i]);
        if (n <= m || strncmp(prefix + n - m, names_known[i], m)) continue;
        n -= m;
        i = (size_t)-1;
    }
    for (int64_t i = 0; i < f->rows; i++) {
        if (strncmp(f->row[i].name, prefix, n) == 0)
            f->row[i].name = names_bare(f->row[i].name + n);
    }
    return ST_OK;
}

/* What follows "h.N.", or NULL. */
static const char *names_in_block(const char *name)
{
    if (strncmp(name, "h.", 2)) return NULL;
    size_t digits = strspn(name + 2, "0123456789");
    return digits && name[2 + digits] == '.' ? name + 3 + digits : NULL;
}

/* "h.N.attn.bias", "h.N.attn.masked_bias": the causal mask, which older files carry, as those of
 * Llama carry "layers.N.self_attn.rotary_emb.inv_freq". */
static bool names_is_mask(const char *name)
{
    const char *rest = names_in_block(name);
    if (names_before(name, "self_attn.rotary_emb.inv_freq")) return true;
    return rest && (strcmp(rest, "attn.bias") == 0 || strcmp(rest, "attn.masked_bias") == 0);
}

/* "0", "1", "bias": the factor that Krony-PT calls so. */
static const char *names_factor(const char *text)
{
    static const char *const theirs[] = {"0", "1", "bias"}, *const ours[] = {"a", "b", "bias"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, theirs[i]) == 0) return ours[i];
    }
    return NULL;
}

/* Krony-PT's `rest` of "h.N.mlp.REST": its matrix, our name for the factor, and of which term. */
static bool names_krony(const char *rest, const char **matrix, const char **factor, int64_t *piece)
{
    static const char *const matrices[] = {"c_fc", "c_proj"}, *const scalars[] = {"scalers_fc",
                                                                                  "scalers_proj"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(matrices[i]);
        *matrix = matrices[i];
        *factor = "s";
        *piece = -1;
        if (strcmp(rest, scalars[i]) == 0) return true;
        if (strncmp(rest, matrices[i], n) || rest[n] != '_') continue;
        const char *tail = rest + n + 1;
        if ((*factor = names_factor(tail))) return true;
        size_t digits = strspn(tail, "0123456789");
        if (!digits || digits > 9 || tail[digits] != '_') return false;
        *piece = atoi(tail);
        *factor = names_factor(tail + digits + 1);
        return *factor && strcmp(*factor, "bias") != 0;
    }
    return false;
}

/* fly's name of a T2T-ViT's tensor as its authors write it; NULL: it is none. */
static const char *names_fly(const char *name, char **at)
{
    static const char theirs[] = "patch_embed.";
    const char *rest = name + sizeof theirs - 1;
    if (strcmp(name, "pos_embed.pe") == 0) return "pos_embed";
    bool renamed = strncmp(name, theirs, sizeof theirs - 1) == 0 &&
                   (strncmp(rest, "attention", 9) == 0 || strncmp(rest, "project.", 8) == 0);
    if (!renamed) return NULL;
    const char *ours = *at;
    *at += sprintf(*at, "tokens_to_token.%s", rest) + 1;
    return ours;
}

/* What follows fly's "mlp.fc1." or "mlp.fc2.", and our name for that matrix; NULL: neither. */
static const char *names_linear(const char *rest, const char **matrix)
{
    bool one = strncmp(rest, "mlp.fc1.", 8) == 0, two = strncmp(rest, "mlp.fc2.", 8) == 0;
    *matrix = one ? "c_fc" : "c_proj";
    return one || two ? rest + 8 : NULL;
}

/* The model's name for one tensor; a name that has to be made is put at *at, which moves on. false:
 * it is a mask. */
static bool names_row(st_folder *f, st_folder_row *row, char **at)
{
    const char *name = row->name, *rest = names_in_block(name), *matrix, *factor;
    if (names_is_mask(name)) return false;
    row->form = st_folder_llama_form(f, name);
    const char *original = names_fly(name, at);
    if (original) row->name = original;
    if (rest && strncmp(rest, "mlp.", 4) == 0 &&
        names_krony(rest + 4, &matrix, &factor, &row->piece)) {
        row->name = *at;
        *at += sprintf(*at, "%.*s.%s.%s", (int)(rest + 3 - name), name, matrix, factor) + 1;
        f->krony = true;
    }
    const char *linear = rest ? names_linear(rest, &matrix) : NULL;
    if (linear) {
        row->name = *at;
        *at += sprintf(*at, "%.*s.%s", (int)(rest + 3 - name), name, matrix) + 1;
        *at += sprintf(*at - 1, ".%s", linear);
        row->form = ST_ROW_LINEAR;
        f->fly = true;
    }
    return true;
}

static int names_order(const void *a, const void *b)
{
    const st_folder_row *x = a, *y = b;
    int d = strcmp(x->name, y->name);
    return d ? d : (x->piece > y->piece) - (x->piece < y->piece);
}

/* Views of few numbers may stand for many: no real model has several of the same, but for the head.
 * Bounds memory by what the files have. */
static st_status names_bound(const st_folder *f)
{
    int64_t bytes = 0, held = 1 << 20;
    for (int i = 0; i < f->shards; i++)
        held += st_weights_size(f->shard[i]);
    for (int64_t i = 0; i < f->rows; i++) {
        int64_t n = (int64_t)f->row[i].stored->bytes;
        if (!__builtin_add_overflow(bytes, n, &bytes) && bytes / NAMES_SHARED <= held) continue;
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: its tensors have more than %d times the bytes of the file, so that many are "
                "the same numbers; this is no model that strut knows",
                f->file, NAMES_SHARED);
    }
    return ST_OK;
}

/* Has the index of the shards this tensor in another one? */
static bool names_elsewhere(const st_folder *f, int shard, const char *name)
{
    const char *file = json_string_value(json_object_get(f->index, name));
    return file && strcmp(file, f->shard_name[shard]) != 0;
}

/* The tensors of all shards, each under the name it has there, without wrappers: at *at. */
static void names_all(st_folder *f, char **at)
{
    int64_t elsewhere = 0;
    const char *file = NULL;
    for (int i = 0; i < f->shards; i++) {
        for (int64_t j = 0; j < st_weights_count(f->shard[i]); j++) {
            const st_stored *t = st_weights_at(f->shard[i], j);
            if (names_elsewhere(f, i, t->name)) {
                file = f->shard_name[i];
                elsewhere++;
                continue;
            }
            char *name = strcpy(*at, t->name);
            *at += strlen(name) + 1;
            names_unwrap(name);
            f->row[f->rows++] = (st_folder_row){.name = names_bare(name), .stored = t, .piece = -1};
        }
    }
    if (elsewhere) {
        st_folder_note(f,
                       "by the index %s of %s (and perhaps others) belong%s to another file, from "
                       "which they are taken",
                       st_counted(elsewhere, "tensors").s, file, elsewhere == 1 ? "s" : "");
    }
}

st_status st_folder_list(st_folder *f)
{
    int64_t n = 0;
    size_t bytes = 1;
    for (int i = 0; i < f->shards; i++) {
        n += st_weights_count(f->shard[i]);
        for (int64_t j = 0; j < st_weights_count(f->shard[i]); j++)
            bytes += 2 * strlen(st_weights_at(f->shard[i], j)->name) + 2 * NAMES_LONGER;
    }
    f->row = st_calloc(n, sizeof *f->row);
    f->names = st_calloc((int64_t)bytes, 1);
    if (!f->row || !f->names) return ST_NOMEM(f->e, f->file);
    char *at = f->names;
    names_all(f, &at);
    ST_TRY(names_prefix(f));
    n = 0;
    for (int64_t i = 0; i < f->rows; i++) {
        if (names_row(f, &f->row[i], &at)) f->row[n++] = f->row[i];
    }
    f->rows = n;
    ST_TRY(names_bound(f));
    if (f->rows) qsort(f->row, (size_t)f->rows, sizeof *f->row, names_order);
    for (int64_t i = 1; i < f->rows; i++) {
        const st_folder_row *a = &f->row[i - 1], *b = &f->row[i];
        if (strcmp(a->name, b->name) || (a->piece != b->piece && a->piece >= 0)) continue;
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: tensors %.100s and %.100s are the same parameter; remove one", f->file,
                a->stored->name, b->stored->name);
    }
    return ST_OK;
}

st_folder_row *st_folder_find(const st_folder *f, const char *name)
{
    int64_t lo = 0, hi = f->rows;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (strcmp(f->row[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < f->rows && strcmp(f->row[lo].name, name) == 0 ? &f->row[lo] : NULL;
}
