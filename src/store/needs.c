/* Jobs that only one kind of model can do, and the sentence that says so. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"

st_status st_need_language(const st_model *m, const char *path, const char *job, st_err *e)
{
    if (!st_model_is_vision(m)) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: is a T2T-ViT, which classifies images; %s needs a language model",
            path, job);
}

st_status st_need_vision(const st_model *m, const char *path, const char *job, st_err *e)
{
    if (st_model_is_vision(m)) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "%s: is a GPT-2, which reads text; %s needs a classifier of images (T2T-ViT)", path,
            job);
}
