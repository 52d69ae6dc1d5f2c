/* store: models on disk in every format, fresh weights, layouts by name. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_STORE_H
#define ST_STORE_H

#include "config/config.h"
#include "model/model.h"
#include "store/export.h"
#include "text/text.h"

/* ---- models on disk (folder*.c) -------------------------------------------------------------- */

/* What weights that have no config.json may leave open. */
typedef struct {
    int64_t heads;    /* attention heads; 0: as the file says, else width / 64 with a warning */
    const char *gelu; /* "tanh" or "erf" against any config.json; NULL: as it says, else tanh */
    const char *tokenizer; /* folder or file; NULL: the one beside the weights, if any */
    const char *dict;      /* of a PyTorch file, "state_dict": the key its weights are under; NULL:
                            * the first usual one; a T2T-ViT's moving average before others */
    const char *ss1; /* "version=3,seed=1024,block_k=32,block_n=32,vec=8,factor=,r0=,r1=,r2=,r3=":
                      * of SS1 matrices in a state_dict of their authors' layers; NULL: those */
    bool unchecked;  /* a zip archive's tensors are not compared with its checksums */
    int64_t b2;      /* of fly's BlockdiagButterflyLinear, which no state_dict says; 0: 1 */
} st_read_how;

/* A model in memory on a device, ready for forward (and, after st_loaded_train, for training). */
typedef struct {
    st_model *model;
    st_stream *stream;
    st_arena weights;  /* on the device */
    st_tensor flat;    /* the weight block; where there are blocks of 8 or 4 bits, its bytes */
    st_bpe *tokenizer; /* NULL if there is none beside the weights */
    char *path;
} st_loaded;

/* Loads a model from any path that holds one (doc/FORMATS, MODELS): a folder with config.json and
 * model.safetensors or pytorch_model.bin, in one file or in shards (ours, a checkpoint, a Hugging
 * Face GPT-2), or a file of weights alone (nanoGPT's and Krony-PT's .pt, safetensors, llm.c), whose
 * config.json is then made from the shapes; or ORG/NAME[@REVISION] of the Hub's cache. Missing,
 * surplus, misshapen or non-finite tensors are errors naming the tensor, what was found and what
 * was expected. dtype F32 or BF16. `device` as st_stream_open has it. `how` may be NULL. */
st_status st_loaded_open_as(st_loaded *out, const char *path, const st_read_how *how,
                            const char *device, st_dtype dtype, st_err *e);
/* The same, as the files say. */
st_status st_loaded_open(st_loaded *out, const char *path, const char *device, st_dtype dtype,
                         st_err *e);
void st_loaded_close(st_loaded *l);
/* Writes a model folder: config.json, generation_config.json, model.safetensors (`dtype`) and, if
 * `tokenizer` is not NULL, its files. `flat` is a host F32 block in the model's layout. */
extern const char *const st_folder_over[]; /* what a model folder may be written over: st_outdir */
st_status st_folder_save(const char *dir, bool replace, const st_model *m, const float *flat,
                         st_dtype dtype, const st_bpe *tokenizer, st_err *e);
/* The same files into `dir`, which is there and is itself written whole (st_outdir). Ctrl-C does
 * not stop it, as it does st_folder_save: a checkpoint is what Ctrl-C asks for. */
st_status st_folder_write(const char *dir, const st_model *m, const float *flat, st_dtype dtype,
                          const st_bpe *tokenizer, st_err *e);
/* A model in host memory, for jobs that turn it into something else, and how it was stored. */
typedef struct {
    st_model *model;
    float *flat;       /* F32 weights in the model's layout */
    st_bpe *tokenizer; /* or NULL */
    const char *form;  /* "strut", "hf", "nanogpt", "krony", or the container's name */
    char dtype[16];    /* "F32", or "mixed" */
    json_t *notes;     /* list of remarks about what was assumed */
} st_whole;
/* `how` may be NULL. */
st_status st_whole_open(st_whole *out, const char *path, const st_read_how *how, st_err *e);
void st_whole_close(st_whole *w);
/* The weights of a model as a host F32 block (new memory), for jobs that work on floats: the model
 * has no block formats then, which a warning says. `tokenizer` and `how` may be NULL. */
st_status st_folder_read_as(const char *path, const st_read_how *how, st_model **model,
                            float **flat, st_bpe **tokenizer, st_err *e);
st_status st_folder_read(const char *path, st_model **model, float **flat, st_bpe **tokenizer,
                         st_err *e);

/* Checks all of a model but the values of its weights: the model (no weights) and {form, dtype,
 * bytes, tensors, stored: {FORMAT: bytes}} of what is stored. `about` and `how` may be NULL. */
st_status st_folder_look(const char *path, const st_read_how *how, st_model **model, json_t **about,
                         st_err *e);

/* ST_EARG, saying what `path` is, unless the model reads text (or images), as `job` ("perplexity")
 * needs. (needs.c) */
st_status st_need_language(const st_model *m, const char *path, const char *job, st_err *e);
st_status st_need_vision(const st_model *m, const char *path, const char *job, st_err *e);
/* From here on the weights of `path` are the floats that they are read as, which a warning says
 * where the model has blocks of 8 or 4 bits. */
st_status st_need_floats(st_model *m, const char *path, st_err *e);

/* ---- positions of an image's patches (positions.c) ------------------------------------------- */

/* The largest difference of a T2T-ViT's stored positions from the sinusoid. */
double st_positions_off(const st_model *m, const float *flat);
/* from (old, old, width) -> to (new, new, width). */
void st_positions_grid(const float *from, int64_t old, float *to, int64_t new, int64_t width);
/* Replaces model and weights (host F32) by those for images of `size` pixels. On an error they
 * stay.
 */
st_status st_positions_resize(st_model **m, float **flat, int64_t size, st_err *e);

/* ---- fresh models (fresh.c) ------------------------------------------------------------------ */

/* A config.json object for "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" (GPT-2's four sizes,
 * Hugging Face's keys), "llama-135m", "llama-360m", "llama-1b", "tinyllama", "qwen2.5-0.5b",
 * "t2t-vit-14", "t2t-vit-t-14" ... (T2T-ViT's; also as t2t_vit_t_14), or the content of a
 * config.json file. New reference. */
st_status st_fresh_config(json_t **out, const char *name, st_err *e);
/* Puts `what` in place of "config.json: strut.maps" in the error of a config that is no file. */
void st_config_called(st_err *e, const char *what);
/* Names that st_fresh_config knows, NULL-terminated. */
extern const char *const st_fresh_names[];
int st_fresh_find(const char *name); /* the index of its own name for a name, or -1 */
/* Initial weights: every parameter from its own stream (seed, hash of its name), so that a model
 * with another map differs only where the map does. flat: host F32, st_model_elements, zeroed
 * (padding stays). ST_EINTR after Ctrl-C. */
st_status st_fresh_weights(const st_model *m, uint64_t seed, float *flat, st_err *e);
/* The same by another law (st_fresh_law): structured matrices and their biases as fly's or the
 * fork's layers start, and mlp.c_proj, even if dense, without GPT-2's scaling by depth, which those
 * programs' own MLP does not get. */
st_status st_fresh_weights_by(const st_model *m, st_fresh_law law, uint64_t seed, float *flat,
                              st_err *e);
/* All of the model.*map* keys into `maps`, {GLOB: SPEC}, later ones win. */
st_status st_settings_maps(const st_settings *set, st_globs globs, json_t *maps, st_err *e);
/* The config.json of the model that the settings describe, if init is "scratch"; `tokenizer` (may
 * be NULL) gives the vocabulary. *out is a new reference. */
st_status st_settings_model(const st_settings *s, const st_bpe *tokenizer, json_t **out, st_err *e);

/* ---- layouts, fresh models as folders (presets.c, remap.c, init.c) --------------------------- */

/* A layout of GPT-2 124M by name. */
enum { ST_PRESET_MAPS = 6 };
typedef struct {
    const char *name, *help;
    int64_t parameters;               /* of the whole model */
    const char *maps[ST_PRESET_MAPS]; /* "GLOB=SPEC", NULL after the last */
} st_preset;
extern const st_preset st_presets[]; /* ends with name NULL */
/* ST_EARG with the nearest name if there is none. */
st_status st_preset_find(const st_preset **out, const char *name, st_err *e);
/* The maps of preset `name` (NULL: none), then the others, which win: *count texts in new memory.
 */
st_status st_preset_join(const char *name, const char *const *maps, int n, const char ***out,
                         int *count, st_err *e);
/* A list of {name, help, parameters, maps}. */
json_t *st_presets_json(void);

bool st_glob_match(const char *glob, const char *name); /* fnmatch's * ? [] */
/* The config of `m` with other matrices: "GLOB=SPEC" texts against its matrices' names (later ones
 * win), but for those that match a glob of `skip`. Texts that match nothing and specs that do not
 * fit are ST_EARG or ST_ESHAPE. wte, and a tied lm_head (which is then untied), are replaced only
 * by their exact names. */
st_status st_model_remap(const st_model *m, const char *const *maps, int nmaps,
                         const char *const *skip, int nskip, json_t **config, st_err *e);

typedef struct {
    const char *preset;      /* name of a layout (st_presets), NULL: none; `maps` win over it */
    const char *const *maps; /* "GLOB=SPEC", later ones win */
    int nmaps;
    uint64_t seed;
    st_fresh_law law;            /* of the structured matrices' initial weights */
    st_dtype dtype;              /* of the stored weights */
    const char *tokenizer;       /* folder or file of a tokenizer to be stored too; NULL: none */
    int64_t image_size, classes; /* of a T2T-ViT: pixels to a side, classes; 0: as it is */
    bool replace;                /* OUT may exist and is replaced */
} st_init_opts;
/* Writes a model folder with fresh weights; `source` as st_fresh_config takes it. Result: out, seed
 * and what st_model_facts says. */
st_status st_init_model(const char *source, const char *out, const st_init_opts *o, json_t **result,
                        st_err *e);

/* ---- what a model is (facts.c, maps.c) ------------------------------------------------------- */

/* parameters, embedding_parameters, macs_per_token (one forward over a full context, attention
 * included, on `device`'s paths), weight_macs_per_token (without attention), layers, heads, width,
 * inner, context, vocab, tied, maps {name: spec}. Of a classifier of images: parameters,
 * embedding_parameters, macs_per_image, layers, heads, width, inner, image_size, tokens, classes,
 * token_modules ("performer" or "transformer"), maps. */
st_status st_model_facts(st_model *m, const char *device, json_t **result, st_err *e);
/* {maps: [{name, summary, equation, source, knobs: [{name, help, required, default}]}]}, of one
 * type or (NULL) all. */
st_status st_maps(const char *name, json_t **result, st_err *e);

#endif
