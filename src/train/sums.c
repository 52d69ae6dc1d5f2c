/* Sums of a checkpoint's tensors, so that a flipped bit is found before a run goes on from it. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The safetensors files of DIR: {NAME: "crc32 in hex"}. */
st_status st_ckpt_sums(const char *dir, json_t **out, st_err *e)
{
    json_t *sums = json_object();
    DIR *d = opendir(dir);
    st_status s = sums && d ? ST_OK : ST_NOMEM(e, dir);
    for (struct dirent *item; !s && (item = readdir(d));) {
        if (!st_name_ends(item->d_name, ".safetensors")) continue;
        char *path = st_path_join(dir, item->d_name), text[16];
        uint32_t crc = 0;
        s = path ? st_file_crc32(path, &crc, e) : ST_NOMEM(e, dir);
        snprintf(text, sizeof text, "%08" PRIx32, crc);
        if (!s && json_object_set_new(sums, item->d_name, json_string(text))) s = ST_NOMEM(e, dir);
        free(path);
    }
    if (d) closedir(d);
    if (s) {
        json_decref(sums);
        sums = NULL;
    }
    *out = sums;
    return s;
}

st_status st_ckpt_sums_check(const char *dir, const json_t *sums, st_err *e)
{
    const char *name;
    json_t *was;
    st_status s = ST_OK;
    json_object_foreach((json_t *)(uintptr_t)sums, name, was)
    {
        if (s || !json_is_string(was) || strchr(name, '/')) continue;
        char *path = st_path_join(dir, name), text[16];
        uint32_t crc = 0;
        s = path ? st_file_crc32(path, &crc, e) : ST_NOMEM(e, dir);
        snprintf(text, sizeof text, "%08" PRIx32, crc);
        if (!s && strcmp(text, json_string_value(was)) != 0)
            s = ST_ERR(e, ST_EFORMAT,
                       "%s: its CRC-32 is %s, the checkpoint was written with %s; the disk or a "
                       "copy has damaged it: go on from another one of the run "
                       "(ckpt.resume=FOLDER)",
                       path, text, json_string_value(was));
        free(path);
    }
    return s;
}
