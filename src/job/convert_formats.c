/* The formats that convert writes: what each can hold, and how it is written. */
/* SPDX-License-Identifier: MIT */
#include "job/convert.h"
#include <string.h>

/* ---- folders -------------------------------------------------------------------------------- */

static st_status formats_folder(st_conversion *c, const char *path, bool code)
{
    return st_folder_put(path, c->model, c->flat,
                         &(st_folder_how){.dtype = c->dtype,
                                          .tokenizer = c->tokenizer,
                                          .shard_bytes = c->shard_bytes,
                                          .code = code,
                                          .stop = true},
                         c->e);
}

static st_status formats_strut(st_conversion *c, const char *path)
{
    return formats_folder(c, path, false);
}

static st_status formats_code(st_conversion *c, const char *path)
{
    return formats_folder(c, path, true);
}

const st_convert_format st_convert_table[] = {
    {.name = "strut",
     .summary = "a model folder of strut; structured matrices as they are",
     .folder = true,
     .words = true,
     .write = formats_strut},
    {.name = "hf",
     .summary = "a Hugging Face GPT-2, every matrix dense",
     .folder = true,
     .dense = true,
     .words = true,
     .write = formats_strut},
    {.name = "dense",
     .summary = "another name for hf",
     .folder = true,
     .dense = true,
     .words = true,
     .write = formats_strut},
    {.name = "hf-code",
     .summary = "structured matrices as they are, with code for transformers (trust_remote_code)",
     .folder = true,
     .words = true,
     .write = formats_code},
    {0},
};
