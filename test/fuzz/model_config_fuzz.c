/* Any bytes as config.json: a model, whose written config opens the same model, or an error. */
/* SPDX-License-Identifier: MIT */
#include "model/model.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *config, *written;
    st_model *m, *again;
    st_err e;
    if (st_json_parse(&config, (const char *)data, n, "config.json", &e)) return 0;
    if (st_model_open(&m, config, &e) == ST_OK) {
        written = st_model_config(m);
        if (!written || st_model_open(&again, written, &e)) abort();
        if (st_model_elements(m) != st_model_elements(again)) abort();
        st_model_close(again);
        json_decref(written);
        st_model_close(m);
    }
    json_decref(config);
    return 0;
}
