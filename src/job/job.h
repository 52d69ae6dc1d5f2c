/* job: what strut does for a person; one file a job. A job reads an options struct, reports through
 * the sinks of base, writes files whole or not at all, and returns its result as a JSON object that
 * the program prints (as text or, with --json, as it is). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_H
#define ST_JOB_H

#include "io/io.h"
#include "model/model.h"

/* ---- model folders (folder.c) ------------------------------------------------------------------ */

/* A model in memory on a device, ready for forward (and, after st_loaded_train, for training). */
typedef struct {
    st_model *model;
    st_stream *stream;
    st_arena weights; /* on the device */
    st_tensor flat;   /* the weight block */
    st_bpe *tokenizer; /* NULL if the folder has none */
    char *path;
} st_loaded;

/* Loads DIR/config.json + model.safetensors (ours or a Hugging Face GPT-2: prefixes "transformer.",
 * "module.", "_orig_mod." stripped, attention-mask buffers ignored, Conv1D flipped, tied lm_head
 * checked). Missing, surplus, misshapen or non-finite tensors are errors naming the tensor, what was
 * found and what was expected. dtype F32 or BF16. `device` "cpu" or "ref". */
st_status st_loaded_open(st_loaded *out, const char *dir, const char *device, st_dtype dtype,
                         st_err *e);
void st_loaded_close(st_loaded *l);
/* Writes a model folder: config.json, generation_config.json, model.safetensors (`dtype`) and, if
 * `tokenizer` is not NULL, its files. `flat` is a host F32 block in the model's layout. */
st_status st_folder_save(const char *dir, bool replace, const st_model *m, const float *flat,
                         st_dtype dtype, const st_bpe *tokenizer, st_err *e);
/* The weights of a folder as a host F32 block (new memory), for jobs that only convert. */
st_status st_folder_read(const char *dir, st_model **model, float **flat, st_bpe **tokenizer,
                         st_err *e);

/* ---- config (config.c): YAML + overrides -> checked settings ------------------------------------- */

/* ---- training (train.c, checkpoint.c, schedule.c) ------------------------------------------------ */

/* ---- tokenizer and prepare (tokenizer.c, prepare.c) ---------------------------------------------- */

/* ---- init and decompose (init.c, decompose.c) ---------------------------------------------------- */

/* ---- perplexity and generate (perplexity.c, generate.c) ------------------------------------------ */

/* ---- info, maps, bench (info.c, bench.c) --------------------------------------------------------- */

/* ---- demo and report (demo.c, report.c, plot.c) -------------------------------------------------- */

#endif
