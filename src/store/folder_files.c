/* The files of a model: a folder with config.json and the weights in one file or in shards, as
 * safetensors or as PyTorch saves them, or a file of weights alone. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "hub/hub.h"
#include "store/folder.h"
#include <stdlib.h>
#include <string.h>

enum { FOLDER_JSON = 1 << 22 };

/* Names that Hugging Face gives to weights, best first. */
static const struct {
    const char *name;
    bool index;
} files_known[] = {
    {"model.safetensors", false},
    {"model.safetensors.index.json", true},
    {"pytorch_model.bin", false},
    {"pytorch_model.bin.index.json", true},
};
enum { FILES_KNOWN = sizeof files_known / sizeof *files_known };

static bool files_has(const char *dir, const char *name)
{
    char *path = st_path_join(dir, name);
    bool there = path && st_path_exists(path);
    free(path);
    return there;
}

/* ---- shards ---------------------------------------------------------------------------------- */

static st_status files_add(st_folder *f, const char *name)
{
    if (f->shards == ST_FOLDER_SHARDS) {
        ST_FAIL(f->e, ST_EFORMAT, "%s: weights in more than %d files", f->file, ST_FOLDER_SHARDS);
    }
    if (!*name || *name == '.' || strchr(name, '/')) {
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: weight_map names the file '%.80s', expected one of the same folder", f->file,
                name);
    }
    char *path = st_path_join(f->dir, name), *copy = strdup(name);
    st_status s = path && copy ? ST_OK : ST_NOMEM(f->e, f->path);
    if (!s) s = st_weights_open(&f->shard[f->shards], path, f->e);
    if (!s && f->how && f->how->unchecked) st_weights_unchecked(f->shard[f->shards]);
    free(path);
    if (s) {
        free(copy);
        return s;
    }
    f->shard_name[f->shards++] = copy;
    return ST_OK;
}

/* The shard of that name, opened when first asked for. */
static st_status files_shard(st_folder *f, const char *name, st_weights **out)
{
    for (int i = 0; i < f->shards; i++) {
        *out = f->shard[i];
        if (strcmp(f->shard_name[i], name) == 0) return ST_OK;
    }
    ST_TRY(files_add(f, name));
    *out = f->shard[f->shards - 1];
    return ST_OK;
}

/* *.index.json: {"weight_map": {TENSOR: FILE}}; must agree with the shards. */
static st_status files_map(st_folder *f, const json_t *index)
{
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        ST_FAIL(f->e, ST_EFORMAT, "%s: no weight_map {TENSOR: FILE}", f->file);
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, name, value)
    {
        st_weights *shard;
        if (!json_is_string(value)) {
            ST_FAIL(f->e, ST_EFORMAT, "%s: weight_map.%.100s is no file name", f->file, name);
        }
        ST_TRY(files_shard(f, json_string_value(value), &shard));
        if (!st_weights_find(shard, name)) {
            ST_FAIL(f->e, ST_EFORMAT,
                    "%s: tensor %.100s is not in %s, where the index says it is; "
                    "get the folder again",
                    f->file, name, json_string_value(value));
        }
    }
    return ST_OK;
}

static st_status files_index(st_folder *f)
{
    json_t *index = NULL;
    st_status s = st_json_load(&index, f->file, FOLDER_JSON, f->e);
    if (!s) s = files_map(f, index);
    if (!s) f->index = json_incref(json_object_get(index, "weight_map"));
    json_decref(index);
    return s;
}

st_status st_folder_adapter(const st_folder *f, const char *sign)
{
    ST_FAIL(f->e, ST_EUNSUPPORTED,
            "%s: a PEFT adapter (%.100s), which only changes another model; merge it there "
            "(merge_and_unload) and save that model",
            f->path, sign);
}

/* ---- which files ----------------------------------------------------------------------------- */

/* A folder without weights: says what is there instead. */
static st_status files_none(const st_folder *f, bool config)
{
    static const char *const other[] = {"tf_model.h5", "flax_model.msgpack", NULL};
    const char *found = NULL;
    for (int i = 0; other[i] && !found; i++) {
        if (files_has(f->dir, other[i])) found = other[i];
    }
    if (!config && files_has(f->dir, "ckpt")) {
        ST_FAIL(f->e, ST_EARG,
                "%s: a training run; its models are in %s/ckpt/best and %s/ckpt/last", f->path,
                f->path, f->path);
    }
    if (files_has(f->dir, "adapter_config.json"))
        return st_folder_adapter(f, "adapter_config.json");
    ST_FAIL(f->e, ST_EIO,
            "%s: no %smodel.safetensors or pytorch_model.bin (or their index.json)%s%s%s", f->path,
            config ? "" : "config.json with ", found ? ", only " : "", found ? found : "",
            found ? ", which is not read; save the model with safetensors" : "");
}

/* Opens entry `known` of files_known in f->dir. */
static st_status files_open(st_folder *f, int known)
{
    f->file = st_path_join(f->dir, files_known[known].name);
    if (!f->file) return ST_NOMEM(f->e, f->path);
    return files_known[known].index ? files_index(f) : files_add(f, files_known[known].name);
}

/* config.json of f->dir, if it is there. */
static st_status files_config(st_folder *f)
{
    if (!files_has(f->dir, "config.json")) return ST_OK;
    char *path = st_path_join(f->dir, "config.json");
    if (!path) return ST_NOMEM(f->e, f->path);
    st_status s = st_json_load(&f->config, path, FOLDER_JSON, f->e);
    if (!s && !json_is_object(f->config)) {
        s = ST_ERR(f->e, ST_EFORMAT, "%s: expected a JSON object", path);
    }
    free(path);
    return s;
}

/* The weights of a folder, or (name not NULL) those of that name in it. */
static st_status files_folder(st_folder *f, const char *name)
{
    ST_TRY(files_config(f));
    for (int i = 0; i < FILES_KNOWN; i++) {
        if (name ? strcmp(name, files_known[i].name) == 0 : files_has(f->dir, files_known[i].name))
            return files_open(f, i);
    }
    return files_none(f, f->config != NULL);
}

static bool files_is_known(const char *name)
{
    for (int i = 0; i < FILES_KNOWN; i++) {
        if (strcmp(name, files_known[i].name) == 0) return true;
    }
    return false;
}

/* A name that is no path: perhaps a model that was fetched from the Hub. */
static st_status files_cached(st_folder *f)
{
    char *config = st_hub_find(f->path, false, NULL, "config.json");
    if (!config) {
        ST_FAIL(
            f->e, ST_EIO,
            "%s: no such file or folder, nor in the Hub's cache (strut fetch); expected a model "
            "folder (config.json, model.safetensors) or a file of weights (.pt, .bin, "
            ".safetensors)",
            f->path);
    }
    *strrchr(config, '/') = '\0';
    f->dir = config;
    return files_folder(f, NULL);
}

/* A training run's file that has a T2T-ViT and its moving average: the latter, whose accuracy is
 * what its authors report. */
static st_status files_average(st_folder *f)
{
    static const char key[] = "state_dict_ema";
    st_weights *average = NULL;
    bool vision = st_weights_find(f->shard[0], "cls_token") ||
                  st_weights_find(f->shard[0], "module.cls_token");
    if (!vision || !json_is_object(json_object_get(st_weights_extra(f->shard[0]), key)))
        return ST_OK;
    ST_TRY(st_weights_open_dict(&average, f->path, key, f->e));
    st_weights_close(f->shard[0]);
    f->shard[0] = average;
    st_folder_note(f, "has weights and their moving average (state_dict_ema), which is taken; "
                      "--dict state_dict takes the other");
    return ST_OK;
}

/* A file of weights with nothing beside it that says what they are. */
static st_status files_single(st_folder *f, const char *name)
{
    size_t n = strlen(name);
    f->single = true;
    if (n > 5 && strcmp(name + n - 5, ".json") == 0) {
        ST_FAIL(f->e, ST_EARG,
                "%s: is a JSON file, expected a model: a folder (config.json, model.safetensors) "
                "or a file of weights (.pt, .bin, .safetensors)",
                f->path);
    }
    f->file = strdup(f->path);
    f->shard_name[0] = strdup(name);
    if (!f->file || !f->shard_name[0]) return ST_NOMEM(f->e, f->path);
    const char *dict = f->how ? f->how->dict : NULL;
    ST_TRY(st_weights_open_dict(&f->shard[0], f->path, dict, f->e));
    f->shards = 1;
    if (!dict) ST_TRY(files_average(f));
    if (f->how && f->how->unchecked) st_weights_unchecked(f->shard[0]);
    return ST_OK;
}

st_status st_folder_files(st_folder *f)
{
    if (!st_path_exists(f->path)) return files_cached(f);
    if (st_path_is_dir(f->path)) {
        f->dir = strdup(f->path);
        if (!f->dir) return ST_NOMEM(f->e, f->path);
        return files_folder(f, NULL);
    }
    const char *slash = strrchr(f->path, '/'), *name = slash ? slash + 1 : f->path;
    f->dir = slash ? strndup(f->path, (size_t)(slash - f->path) + 1) : strdup(".");
    if (!f->dir) return ST_NOMEM(f->e, f->path);
    return files_is_known(name) ? files_folder(f, name) : files_single(f, name);
}
