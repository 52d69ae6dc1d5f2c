/* What a path is and what is in it: one row of a table for each kind of thing strut reads or
 * writes.
 */
/* Long: a table of kinds, each with how it is known and what is told of it. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "report/report.h"
#include "store/store.h"
#include "weights/weights.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { INFO_JSON = 1 << 26, INFO_BLOCK = 1 << 12, FIRST_IDS = 8 };

/* ---- telling kinds apart --------------------------------------------------------------------- */

static bool info_has(const char *dir, const char *name)
{
    char *path = st_path_join(dir, name);
    bool there = path && st_path_exists(path);
    free(path);
    return there;
}

static bool info_ends(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

static bool info_is_checkpoint(const char *path)
{
    return info_has(path, "config.json") && info_has(path, "state.json");
}

static bool info_is_model(const char *path)
{
    return info_has(path, "config.json") || info_has(path, "model.safetensors") ||
           info_has(path, "model.safetensors.index.json") || info_has(path, "pytorch_model.bin") ||
           info_has(path, "pytorch_model.bin.index.json") ||
           info_has(path, "adapter_config.json"); /* none, which its reader says */
}

static bool info_is_run(const char *path)
{
    return info_has(path, "ckpt") && info_has(path, "config.yaml");
}

static bool info_is_data(const char *path)
{
    static const char *const name[] = {"train.bin", "val.bin", "test.bin", "train.npy"};
    bool is = false;
    for (int i = 0; i < 4; i++)
        is = is || info_has(path, name[i]);
    return is;
}

static bool info_is_tokenizer(const char *path)
{
    return info_has(path, "tokenizer.json") || info_has(path, "vocab.json") ||
           info_has(path, "encoder.json");
}

/* By a name that nothing else has: what is wrong with the file is then said. Else by its first
 * bytes: PyTorch's zip and pickle, or llm.c's header. Token shards have none, and
 * these begin none that was ever made: ids that large and rare do not follow each other. */
static bool info_is_weights(const char *path)
{
    static const unsigned char magic[][4] = {
        {'P', 'K', 3, 4}, {0x80, 2, 0x8a, 10}, {0xc6, 0xd7, 0x34, 1}};
    static const char *const name[] = {".pt", ".pth", ".pth.tar", "pytorch_model.bin"};
    for (int i = 0; i < 4; i++) {
        if (info_ends(path, name[i])) return true;
    }
    unsigned char head[4] = {0};
    FILE *f = fopen(path, "rb");
    bool whole = f && fread(head, 1, sizeof head, f) == sizeof head, is = false;
    if (f) fclose(f);
    for (size_t i = 0; whole && i < sizeof magic / sizeof *magic; i++)
        is |= memcmp(head, magic[i], sizeof head) == 0;
    return is;
}

static bool info_is_shard(const char *path)
{
    return st_shard_is(path);
}

static bool info_is_safetensors(const char *path)
{
    return info_ends(path, ".safetensors");
}

static bool info_is_tensors(const char *path)
{
    st_weights *w = NULL;
    bool is = st_weights_open(&w, path, NULL) == ST_OK;
    st_weights_close(w);
    return is;
}

static bool info_is_yaml(const char *path)
{
    return info_ends(path, ".yaml") || info_ends(path, ".yml");
}

static bool info_is_json(const char *path)
{
    return info_ends(path, ".json");
}

/* Whatever its name says, a pointer to a file is none of these. */
static st_status info_pointer(const char *path, st_err *e)
{
    char head[64];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f) fclose(f);
    return st_lfs_refuse(path, head, n, e);
}

/* ---- telling about them ---------------------------------------------------------------------- */

/* The form of its chats, by name or that it is unknown, and what the system says in them. */
static void info_chat(const st_bpe *b, json_t *r)
{
    st_chat *c = NULL;
    bool known = st_chat_open(&c, b, NULL) == ST_OK;
    if (known) json_object_set_new(r, "chat", json_string(st_chat_name(c)));
    if (!known && st_bpe_chat(b)) json_object_set_new(r, "chat", json_string("unknown template"));
    if (known && st_chat_system(c))
        json_object_set_new(r, "chat_system", json_string(st_chat_system(c)));
    st_chat_close(c);
}

static st_status info_tokenizer(const char *path, json_t *r, st_err *e)
{
    st_bpe *b = NULL;
    ST_TRY(st_bpe_open(&b, path, e));
    info_chat(b, r);
    json_object_set_new(r, "tokens", json_integer(st_bpe_size(b)));
    json_object_set_new(r, "eos", json_integer(st_bpe_eos(b)));
    st_bpe_close(b);
    return ST_OK;
}

static st_status info_model(const char *path, const st_info_opts *o, json_t *r, st_err *e)
{
    st_model *m = NULL;
    json_t *about = NULL, *facts = NULL;
    const char *from = o->how.tokenizer ? o->how.tokenizer : path;
    st_status s = st_folder_look(path, &o->how, &m, &about, e);
    if (!s) s = st_model_facts(m, "cpu", &facts, e);
    if (!s) {
        json_object_update(r, about);
        bool tokenizer = o->how.tokenizer       ? st_path_exists(from)
                         : st_path_is_dir(path) ? info_is_tokenizer(path)
                                                : st_bpe_inside(path);
        st_bpe *b = NULL;
        json_object_set_new(r, "tokenizer", json_boolean(tokenizer));
        if (tokenizer && !st_model_is_vision(m) && !st_bpe_open(&b, from, NULL)) info_chat(b, r);
        st_bpe_close(b);
        json_object_update(r, facts);
    }
    json_decref(about);
    json_decref(facts);
    st_model_close(m);
    return s;
}

static st_status info_state(const char *path, json_t *r, st_err *e)
{
    static const char *const keys[] = {"step",      "loss",      "val_loss",
                                       "best_loss", "best_step", "seconds"};
    char *file = st_path_join(path, "state.json");
    if (!file) return ST_NOMEM(e, path);
    json_t *state = NULL;
    st_status s = st_json_load(&state, file, INFO_JSON, e);
    free(file);
    for (size_t i = 0; !s && i < sizeof keys / sizeof *keys; i++) {
        json_t *v = json_object_get(state, keys[i]);
        if (v) json_object_set(r, keys[i], v);
    }
    json_decref(state);
    return s;
}

static st_status info_checkpoint(const char *path, const st_info_opts *o, json_t *r, st_err *e)
{
    ST_TRY(info_state(path, r, e));
    return info_model(path, o, r, e);
}

static st_status info_yaml(const char *path, json_t *r, st_err *e)
{
    st_settings set;
    ST_TRY(st_settings_load(&set, path, NULL, 0, e));
    json_object_set_new(r, "settings", st_settings_json(&set));
    st_settings_close(&set);
    return ST_OK;
}

static int info_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names in a folder that are checkpoints, sorted, into `list`. */
static void info_list(const char *dir, json_t *list)
{
    DIR *d = opendir(dir);
    char *name[256];
    size_t n = 0;
    for (struct dirent *f; d && n < 256 && (f = readdir(d));) {
        char *path = f->d_name[0] == '.' ? NULL : st_path_join(dir, f->d_name);
        if (path && info_is_checkpoint(path) && (name[n] = strdup(f->d_name))) n++;
        free(path);
    }
    if (d) closedir(d);
    qsort(name, n, sizeof *name, info_order);
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_pack("{s:s}", "name", name[i]);
        char *path = st_path_join(dir, name[i]);
        if (row && path && info_state(path, row, NULL) == ST_OK) json_array_append(list, row);
        json_decref(row);
        free(path);
        free(name[i]);
    }
}

static st_status info_run(const char *path, json_t *r, st_err *e)
{
    char *yaml = st_path_join(path, "config.yaml"), *ckpt = st_path_join(path, "ckpt");
    st_status s = ST_OK;
    if (!yaml || !ckpt) {
        s = ST_NOMEM(e, path);
    } else {
        json_t *list = json_array();
        info_list(ckpt, list);
        json_object_set_new(r, "checkpoints", list);
        s = info_yaml(yaml, r, e);
    }
    free(yaml);
    free(ckpt);
    return s;
}

static st_status info_shard(const char *path, json_t *r, st_err *e)
{
    st_shard shard;
    ST_TRY(st_shard_open(&shard, path, e));
    json_t *first = json_array();
    int32_t id[INFO_BLOCK];
    uint32_t largest = 0;
    for (int64_t i = 0; i < shard.n; i += INFO_BLOCK) {
        int64_t n = shard.n - i < INFO_BLOCK ? shard.n - i : INFO_BLOCK;
        st_shard_read(&shard, i, n, id);
        for (int64_t k = 0; k < n; k++) {
            if (i + k < FIRST_IDS) json_array_append_new(first, json_integer(id[k]));
            if ((uint32_t)id[k] > largest) largest = (uint32_t)id[k];
        }
    }
    json_object_set_new(r, "format", json_string(shard.format));
    json_object_set_new(r, "tokens", json_integer(shard.n));
    json_object_set_new(r, "bytes", json_integer((json_int_t)shard.bytes));
    json_object_set_new(r, "largest_id", json_integer(largest));
    json_object_set_new(r, "first_ids", first);
    st_shard_close(&shard);
    return ST_OK;
}

static st_status info_data(const char *path, json_t *r, st_err *e)
{
    static const char *const names[] = {"train.bin", "val.bin",        "test.bin", "train.npy",
                                        "val.npy",   "validation.npy", "test.npy"};
    json_t *shards = json_object();
    st_status s = ST_OK;
    for (size_t i = 0; !s && i < sizeof names / sizeof *names; i++) {
        if (!info_has(path, names[i])) continue;
        char *file = st_path_join(path, names[i]);
        json_t *row = json_object();
        s = file ? info_shard(file, row, e) : ST_ENOMEM;
        json_object_set_new(shards, names[i], row);
        free(file);
    }
    json_object_set_new(r, "shards", shards);
    json_object_set_new(r, "tokenizer", json_boolean(info_is_tokenizer(path)));
    if (s || !info_has(path, "meta.json")) return s;
    char *file = st_path_join(path, "meta.json");
    json_t *meta = NULL;
    s = file ? st_json_load(&meta, file, INFO_JSON, e) : ST_ENOMEM;
    free(file);
    if (!s) json_object_set_new(r, "meta", meta);
    return s;
}

static st_status info_tensors(const char *path, const st_info_opts *o, json_t *r, st_err *e)
{
    st_weights *f = NULL;
    ST_TRY(st_weights_open_dict(&f, path, o->how.dict, e));
    int64_t n = st_weights_count(f), most = o->all ? n : ST_INFO_TENSORS, bytes = 0, numbers = 0;
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) {
        const st_stored *t = st_weights_at(f, i);
        bytes += (int64_t)t->bytes;
        numbers += st_stored_elements(t);
        if (i >= most) continue;
        json_t *shape = json_array();
        for (int d = 0; d < t->ndim; d++)
            json_array_append_new(shape, json_integer(t->dim[d]));
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", st_json_text(t->name),
                                              "dtype", t->dtype, "shape", shape));
    }
    json_object_set_new(r, "form", json_string(st_weights_form(f)));
    st_weights_close(f);
    json_object_set_new(r, "bytes", json_integer(bytes));
    json_object_set_new(r, "numbers", json_integer(numbers));
    json_object_set_new(r, "tensors", list);
    if (n > most) json_object_set_new(r, "tensors_left", json_integer(n - most));
    return ST_OK;
}

/* A file of weights: the model in it, or (with the reason why it is none) its tensors. */
static st_status info_weights(const char *path, const st_info_opts *o, json_t *r, st_err *e)
{
    st_err why = {0};
    if (info_model(path, o, r, &why) == ST_OK) {
        json_object_set_new(r, "kind", json_string("model"));
        return ST_OK;
    }
    ST_TRY(info_tensors(path, o, r, e));
    json_object_set_new(r, "no_model", st_json_text(why.msg));
    return ST_OK;
}

/* A config object: its facts. */
static st_status info_facts(const char *path, const json_t *config, json_t *r, st_err *e)
{
    st_model *m = NULL;
    json_t *facts = NULL;
    st_status s = st_model_open(&m, config, e);
    if (s) st_config_called(e, path);
    if (!s) s = st_model_facts(m, "cpu", &facts, e);
    if (!s) json_object_update(r, facts);
    json_decref(facts);
    st_model_close(m);
    return s;
}

/* "gpt2" and its like, when there is no file of that name. */
static st_status info_name(const char *name, json_t *r, st_err *e)
{
    json_t *config = NULL;
    ST_TRY(st_fresh_config(&config, name, e));
    st_status s = info_facts(name, config, r, e);
    json_decref(config);
    return s;
}

static bool info_is_name(const char *path)
{
    return st_fresh_find(path) >= 0;
}

/* A GPT-2's config.json, a tokenizer.json or vocab.json. */
static st_status info_json(const char *path, json_t *r, st_err *e)
{
    json_t *j = NULL;
    ST_TRY(st_json_load(&j, path, INFO_JSON, e));
    bool config = json_object_get(j, "model_type") || json_object_get(j, "n_embd");
    st_status s = ST_OK;
    if (!config) {
        json_object_set_new(r, "kind", json_string("tokenizer"));
        s = info_tokenizer(path, r, e);
    } else {
        s = info_facts(path, j, r, e);
    }
    json_decref(j);
    return s;
}

static const struct {
    const char *kind;
    bool folder;
    bool (*is)(const char *path);
    st_status (*tell)(const char *path, json_t *r, st_err *e); /* or, of weights: */
    st_status (*read)(const char *path, const st_info_opts *o, json_t *r, st_err *e);
} kinds[] = {
    {"checkpoint", true, info_is_checkpoint, NULL, info_checkpoint},
    {"model", true, info_is_model, NULL, info_model},
    {"run", true, info_is_run, info_run, NULL},
    {"data", true, info_is_data, info_data, NULL},
    {"tokenizer", true, info_is_tokenizer, info_tokenizer, NULL},
    {"weights", false, info_is_weights, NULL, info_weights},
    {"shard", false, info_is_shard, info_shard, NULL},
    {"safetensors", false, info_is_safetensors, NULL, info_tensors},
    {"settings", false, info_is_yaml, info_yaml, NULL},
    {"config", false, info_is_json, info_json, NULL},
    {"weights", false, info_is_tensors, NULL, info_weights},
    {"config", false, NULL, info_name, NULL}, /* last: no path, a published size */
};
enum { INFO_KINDS = sizeof kinds / sizeof *kinds };

static st_status info_tell(size_t kind, const char *path, const st_info_opts *o, json_t **result,
                           st_err *e)
{
    json_t *r = json_object();
    json_object_set_new(r, "kind", json_string(kinds[kind].kind));
    json_object_set_new(r, "path", st_json_text(path));
    st_status s = kinds[kind].tell ? kinds[kind].tell(path, r, e) : kinds[kind].read(path, o, r, e);
    if (s)
        json_decref(r);
    else
        *result = r;
    return s;
}

st_status st_info(const char *path, const st_info_opts *o, json_t **result, st_err *e)
{
    static const st_info_opts plain;
    if (!o) o = &plain;
    *result = NULL;
    bool there = st_path_exists(path), folder = there && st_path_is_dir(path);
    if (!there && !info_is_name(path)) {
        ST_FAIL(e, ST_EIO, "%s: there is no such file or folder", path);
    }
    if (!there) return info_tell(INFO_KINDS - 1, path, o, result, e);
    if (!folder && !st_path_is_file(path)) {
        ST_FAIL(e, ST_EARG, "%s: neither a plain file nor a folder, so it is not read", path);
    }
    if (!folder) ST_TRY(info_pointer(path, e));
    for (size_t i = 0; i < INFO_KINDS - 1; i++) {
        if (kinds[i].folder == folder && kinds[i].is(path)) return info_tell(i, path, o, result, e);
    }
    if (folder) {
        ST_FAIL(e, ST_EARG,
                "%s: a folder, but neither a model or checkpoint (config.json), a training run "
                "(config.yaml and ckpt/), prepared data (train.bin) nor a tokenizer "
                "(tokenizer.json, vocab.json)",
                path);
    }
    ST_FAIL(e, ST_EARG,
            "%s: not a file that strut knows; expected a folder, .pt, .bin, .safetensors, .yaml "
            "or .json",
            path);
}
