/* The files of a model folder: config.json, and the weights in one file or in shards. */
/* SPDX-License-Identifier: MIT */
#include "job/folder.h"
#include <stdlib.h>
#include <string.h>

enum { FOLDER_JSON = 1 << 22 };

st_status st_folder_model(st_folder *f)
{
    if (!st_path_exists(f->dir)) {
        ST_FAIL(f->e, ST_EIO,
                "%s: no such folder; expected a model folder (config.json, "
                "model.safetensors)",
                f->dir);
    }
    if (!st_path_is_dir(f->dir)) {
        ST_FAIL(f->e, ST_EARG,
                "%s: is a file, expected a model folder (config.json, "
                "model.safetensors)",
                f->dir);
    }
    char *path = st_path_join(f->dir, "config.json");
    if (!path) ST_FAIL(f->e, ST_ENOMEM, "%s: out of memory", f->dir);
    json_t *config = NULL;
    st_status s = st_json_load(&config, path, FOLDER_JSON, f->e);
    free(path);
    if (s) return s;
    s = st_model_open(&f->model, config, f->e);
    if (s) st_err_prefix(f->e, "%s", f->dir);
    json_decref(config);
    return s;
}

static st_status folder_add_shard(st_folder *f, const char *name)
{
    if (f->shards == ST_FOLDER_SHARDS) {
        ST_FAIL(f->e, ST_EFORMAT, "%s: weights in more than %d files", f->file, ST_FOLDER_SHARDS);
    }
    if (!*name || *name == '.' || strchr(name, '/')) {
        ST_FAIL(f->e, ST_EFORMAT,
                "%s: weight_map names the file '%.80s', expected one of the same "
                "folder",
                f->file, name);
    }
    char *path = st_path_join(f->dir, name), *copy = strdup(name);
    st_status s = path && copy
                      ? ST_OK
                      : st_fail(f->e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", f->dir);
    if (!s) s = st_weights_open(&f->shard[f->shards], path, f->e);
    free(path);
    if (s) {
        free(copy);
        return s;
    }
    f->shard_name[f->shards++] = copy;
    return ST_OK;
}

/* The shard of that name, opened when first asked for. */
static st_status folder_shard(st_folder *f, const char *name, st_weights **out)
{
    for (int i = 0; i < f->shards; i++) {
        *out = f->shard[i];
        if (strcmp(f->shard_name[i], name) == 0) return ST_OK;
    }
    ST_TRY(folder_add_shard(f, name));
    *out = f->shard[f->shards - 1];
    return ST_OK;
}

/* model.safetensors.index.json: {"weight_map": {TENSOR: FILE}}; must agree with the shards. */
static st_status folder_index(st_folder *f, const json_t *index)
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
        ST_TRY(folder_shard(f, json_string_value(value), &shard));
        if (!st_weights_find(shard, name)) {
            ST_FAIL(f->e, ST_EFORMAT,
                    "%s: tensor %.100s is not in %s, where the index says it is; "
                    "get the folder again",
                    f->file, name, json_string_value(value));
        }
    }
    return ST_OK;
}

/* Opens model.safetensors or the shards of its index. */
st_status st_folder_files(st_folder *f)
{
    static const char *const other[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                        "tf_model.h5", "flax_model.msgpack", NULL};
    char *index = st_path_join(f->dir, "model.safetensors.index.json");
    f->file = st_path_join(f->dir, "model.safetensors");
    st_status s = ST_OK;
    if (!f->file || !index) {
        s = st_fail(f->e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", f->dir);
    } else if (st_path_exists(f->file)) {
        s = folder_add_shard(f, "model.safetensors");
    } else if (st_path_exists(index)) {
        json_t *j = NULL;
        free(f->file);
        f->file = index;
        index = NULL;
        s = st_json_load(&j, f->file, FOLDER_JSON, f->e);
        if (!s) s = folder_index(f, j);
        json_decref(j);
    } else {
        const char *found = NULL;
        for (int i = 0; other[i] && !found; i++) {
            char *path = st_path_join(f->dir, other[i]);
            if (path && st_path_exists(path)) found = other[i];
            free(path);
        }
        s = st_fail(f->e, ST_EIO, __FILE__, __LINE__, "%s: no model.safetensors%s%s%s", f->dir,
                    found ? ", only " : "", found ? found : "",
                    found ? ", which is not read; save the model with safetensors" : "");
    }
    free(index);
    return s;
}
