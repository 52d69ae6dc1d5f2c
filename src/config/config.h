/* config: trees composed of files and words, and the checked settings made of them. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_H
#define ST_CONFIG_H

#include "base/base.h"

/* ---- YAML (yaml.c over libyaml) -------------------------------------------------------------- */

typedef enum { ST_NODE_SCALAR, ST_NODE_LIST, ST_NODE_MAP } st_node_kind;
/* A tree with the place of every value. Scalars keep their text; `quoted` ones are always strings.
 * Lists hold items in `item`; maps hold keys (strings, unique) in `key` beside them. */
typedef struct st_node {
    st_node_kind kind;
    char *text;
    bool quoted;
    bool done; /* it was an interpolation; its text is not one any more */
    bool word; /* plain text of a command line: a string, even where YAML reads more into it */
    int64_t n;
    char **key;
    struct st_node **item;
    char **key_where; /* the place of each key of a map */
    char *where;      /* "FILE:LINE:COLUMN", or "command line" */
} st_node;
/* One document; aliases and anchors, tags, merge keys, duplicate keys, more than 64 levels or 1 MiB
 * are refused, with the place. No document at all (an empty file) is an empty map. */
st_status st_yaml_load(st_node **out, const char *path, st_err *e);
st_status st_yaml_parse(st_node **out, const char *text, size_t n, const char *name, st_err *e);
void st_node_free(st_node *n);
const st_node *st_node_get(const st_node *map, const char *key); /* or NULL */
/* Sets a dotted path ("train.lr") to the value written as YAML ("6e-4", "[a, b]", "{h.*: dense}"),
 * making maps on the way. A path through a list or a value that is not null is ST_EARG; nothing is
 * changed then. */
st_status st_node_set(st_node *root, const char *path, const char *value, const char *where,
                      st_err *e);

/* What a plain scalar means, by OmegaConf's reading of YAML 1.1. */
typedef enum {
    ST_SCALAR_NULL,
    ST_SCALAR_FLAG,
    ST_SCALAR_INT,
    ST_SCALAR_NUM,
    ST_SCALAR_TEXT
} st_scalar_kind;
typedef struct {
    st_scalar_kind kind;
    bool flag;
    int64_t i;
    double x; /* of ST_SCALAR_INT too */
} st_scalar;
st_scalar st_node_scalar(const st_node *n);
json_t *st_node_json(const st_node *n); /* new reference; infinities are strings */
char *st_node_yaml(const st_node *n);   /* new memory, NULL when out of memory */

/* ---- configs composed from many files (configs.c, defaults.c, override.c, compose.c) --------- */

/* A search path: folders, the first that has a file wins, then (`builtin`) the tree configs/ that
 * the program was built with. doc/FORMATS has the grammar: Hydra's, without running anything. */
typedef struct st_configs st_configs;
st_status st_configs_open(st_configs **out, const char *const *dir, int dirs, bool builtin,
                          st_err *e);
void st_configs_close(st_configs *c);
/* The options of a group ("experiment/wt103"), sorted, NULL-terminated; "": of the root. NULL when
 * out of memory. */
char **st_configs_options(const st_configs *c, const char *group);
void st_configs_options_free(char **name);
/* The group that a mistyped "mpl" or "model/mlp" was probably meant to be, in `out`; or NULL. */
const char *st_configs_near_group(const st_configs *c, const char *name, char *out, size_t cap);

/* A section whose own value is short for one of its keys (`data=DIR` for data.dir), or (`key` NULL)
 * a plain key: words of a command line mean it even where a folder makes a group of that name
 * (`out=out` beside a run), unless the group has such an option. */
typedef struct {
    const char *section, *key;
} st_short;
typedef struct {
    const char *name; /* the primary config, by its name in the search path, */
    const char *file; /* or a file anywhere, whose folder then comes first in the search path */
    const char *const *override; /* words of a command line */
    int n;
    bool open; /* keys need not be there to be set: whoever reads the tree knows them */
    bool raw;  /* interpolations are left as they are */
    const st_short *shorts; /* ended by a NULL section; may be NULL */
} st_compose_how;
/* One tree whose nodes know the file they are from. `info` (may be NULL) gets {"search_path":
 * [folder ...], "defaults": [{config, package, file, parent} ...]}, a new reference. ST_EARG and
 * ST_EFORMAT name the place and the nearest that there is. A sweep is ST_EARG. */
st_status st_compose(st_node **out, json_t **info, st_configs *c, const st_compose_how *how,
                     st_err *e);

/* Splits sweeps: jobs in order, the last override changes fastest; each has every word once, a
 * swept one with one of its values. At most 10,000 jobs. */
typedef struct {
    char ***job; /* of each job its words, NULL-terminated */
    int64_t jobs;
    bool *swept; /* of each word */
    int words;
} st_sweep;
st_status st_sweep_open(st_sweep *s, const char *const *word, int n, st_err *e);
void st_sweep_close(st_sweep *s);

/* ---- settings (settings.c, check.c): YAML + overrides -> checked settings -------------------- */

typedef enum { ST_LR_COSINE, ST_LR_LINEAR, ST_LR_CONSTANT } st_lr_schedule;
typedef enum { ST_WARMUP_ZERO, ST_WARMUP_STEP } st_warmup_start;
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
        int64_t n_layer, n_head, n_kv_head, n_embd, n_inner, n_positions, vocab_size;
        int64_t scale_attn_by_inverse_layer_idx, tie_word_embeddings;
        double layer_norm_epsilon, initializer_range;
        int64_t structured_init; /* st_fresh_law */
        json_t *map;             /* {GLOB: SPEC} in order, or NULL */
    } model;
    struct {
        int64_t steps, micro_batch, context, tokens_per_step, warmup, schedule, decay_steps;
        int64_t warmup_start; /* st_warmup_start */
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
/* Sets one key from a program: any text is a value as it is (no YAML quoting), "null" is null; maps
 * are written as in an override. */
st_status st_settings_set(st_settings *s, const char *key, const char *value, st_err *e);
void st_settings_close(st_settings *s);
/* The flat object {"train.lr": 0.0006, ...}, and the YAML text (malloc) that loads as the same. */
json_t *st_settings_json(const st_settings *s);
char *st_settings_yaml(const st_settings *s);
/* Every legal key: a list of {"key", "type", "default", "legal", "help"}. New reference. */
json_t *st_settings_keys(void);

/* ---- the table of settings (settings.c) ------------------------------------------------------ */

/* How a row's text is read and where it goes in st_settings. */
typedef enum {
    SET_TEXT,   /* char *, owned */
    SET_INT,    /* int64_t */
    SET_NUM,    /* double */
    SET_FLAG,   /* int64_t 0 or 1 */
    SET_CHOICE, /* int64_t, position in `choice` */
    SET_MAPS,   /* json_t *, {GLOB: SPEC} */
    SET_GROUPS  /* json_t *, {NAME: {lr, decay, schedule, freeze}} */
} set_kind;

enum {
    SET_NULL = 1, /* null is legal (and the default, where `preset` is NULL) */
    SET_FREE = 2  /* may change when a run is resumed: does not alter what it computes */
};

typedef struct {
    const char *key;
    set_kind kind;
    size_t at; /* offset in st_settings */
    const char *preset;
    double lo, hi;
    const char *const *choice; /* NULL-terminated */
    unsigned flags;
    const char *help;
} set_row;

enum { CONFIG_KEY = 256 }; /* room for a key, and for its place in messages */

extern const set_row st_set_rows[];
/* The keys of one entry of a SET_GROUPS row: offsets in set_group; the key NULL ends it. */
extern const set_row st_set_group_rows[];
typedef struct {
    double lr, decay;         /* NAN: not given */
    int64_t schedule, freeze; /* flags, or ST_UNSET */
} set_group;
int st_set_count(void);
/* Row of a key, or -1. */
int st_set_find(const char *key);
/* "FILE:LINE:COLUMN: train.lr" for messages, or "train.lr" for a default. */
const char *st_set_place(const st_settings *s, const char *key, char *text, size_t n);
/* Value of a row as JSON (new reference). */
json_t *st_set_value(const st_settings *s, const set_row *r);
/* First key whose value differs between the settings and the flat object of an earlier run and that
 * is not free to change; NULL if there is none. */
const char *st_set_changed(const st_settings *s, const json_t *before);

#endif
