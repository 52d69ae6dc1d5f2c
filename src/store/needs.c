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

st_status st_need_floats(st_model *m, const char *path, st_err *e)
{
    static const char *const none[] = {"none"};
    if (!st_model_quantized(m)) return ST_OK;
    st_log(ST_LOG_WARN, "%s: weights in blocks of 8 or 4 bits are read as floats", path);
    return st_model_quantize(m, none, 1, NULL, e);
}
