/* Inner header of config: config files by name, from folders and from the program itself
 * (configs.c), and the order in which a primary config's defaults list puts them (defaults.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_CONFIGS_H
#define ST_CONFIG_CONFIGS_H

#include "config/config.h"
#include "config/override.h"

/* The tree configs/ as it was when the program was built, sorted by path; ended by a NULL path. */
typedef struct {
    const char *path, *text;
    size_t n;
} config_builtin;
extern const config_builtin config_builtins[];

enum {
    CONFIG_DEPTH = 32,     /* of defaults lists */
    CONFIG_ENTRIES = 1024, /* of all defaults lists together */
    CONFIG_NODES = 20000,  /* values of all files together, and of what they are merged into */
    CONFIG_FILES = 512,
    CONFIG_NAME = 512,
    GROUP_ENTRIES = 4096 /* of a folder */
};

/* One file: its defaults list is taken out of its tree. */
typedef struct {
    char *name;               /* "experiment/wt103/gpt2" */
    char *place;              /* what messages call it */
    char *package;            /* of its header, or NULL */
    st_node *root, *defaults; /* a map; a list or NULL */
    bool missing;
} config_file;

struct st_configs {
    char **dir; /* first wins; the first is the primary config's own, NULL if that has a name */
    int dirs;
    bool builtin;
    config_file **file; /* those read so far */
    int64_t files, nodes;
};

/* The file of a name; *out->missing where there is none. It belongs to `c`. */
st_status configs_get(st_configs *c, const char *name, const config_file **out, st_err *e);
/* A primary config at a path, which is then called "" here. */
st_status configs_open_file(st_configs *c, const char *path, const config_file **out, st_err *e);
st_status configs_open_none(st_configs *c, const config_file **out, st_err *e); /* an empty one */
/* "DIR/NAME.yaml" (an ending that is there stays), or "DIR/NAME" for a group. */
void configs_path(const char *dir, const char *name, bool group, char *out, size_t n);
bool configs_is_group(const st_configs *c, const char *name);
bool configs_is_file(const st_configs *c, const char *name);
/* No empty, "." or ".." part, no control characters, not absolute. */
bool configs_legal(const char *name);
/* ST_EARG: WHERE: no such option, those there are and the nearest (options.c). */
st_status configs_no_option(const st_configs *c, const char *group, const char *option,
                            const char *where, st_err *e);

/* ---- defaults.c ------------------------------------------------------------------------------ */

/* One step of the composition: a file's own values go under a package. */
typedef struct {
    const config_file *file;
    char *package; /* "" is the root */
    char *key;     /* "group@package" it was chosen by, or NULL */
    char *parent;  /* the config whose list names it, or NULL */
} defaults_step;

typedef struct {
    defaults_step *step;
    int64_t n;
    bool *config; /* of each override: it is of a key, not of a group */
} defaults_list;

st_status defaults_open(defaults_list *out, st_configs *c, const config_file *primary,
                        const override *o, int64_t n, const st_short *shorts, st_err *e);
void defaults_close(defaults_list *d);

#endif
