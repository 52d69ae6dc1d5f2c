/* folder: what reading a model folder shares between its files. Inside job only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_FOLDER_H
#define ST_JOB_FOLDER_H

#include "job/job.h"

enum { ST_FOLDER_SHARDS = 512 };

/* One tensor found in the folder, under the model's name for it. */
typedef struct {
    const char *name;
    const st_stored *stored;
    bool used;
} st_folder_row;

typedef struct {
    const char *dir;
    char *file; /* what messages call the weights */
    st_model *model;
    st_weights *shard[ST_FOLDER_SHARDS];
    char *shard_name[ST_FOLDER_SHARDS];
    int shards;
    st_folder_row *row; /* by name */
    int64_t rows;
    st_err *e;
} st_folder;

/* config.json -> f->model. */
st_status st_folder_model(st_folder *f);
/* Opens model.safetensors, or the shards of its index, which must agree with it. */
st_status st_folder_files(st_folder *f);

#endif
