/* Config files by name ("group/option"), looked for in folders and in the tree the program was
 * built with. A name never leaves its folder. */
/* SPDX-License-Identifier: MIT */
#include "config/configs.h"
#include "files/files.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { GROUP_LEVELS = 4 };

bool configs_legal(const char *name)
{
    if (!*name || strlen(name) >= CONFIG_NAME) return false;
    for (const char *p = name;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || p[0] == '.') return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < 32 || p[i] == '\\' || p[i] == 127) return false;
        p += n;
        if (!*p) return true;
    }
}

void configs_path(const char *dir, const char *name, bool group, char *out, size_t n)
{
    size_t length = strlen(name);
    bool ended = length > 5 && !strcmp(name + length - 5, ".yaml");
    snprintf(out, n, "%s%s%s%s", strcmp(dir, ".") ? dir : "", strcmp(dir, ".") ? "/" : "", name,
             group || ended ? "" : ".yaml");
}

static const config_builtin *configs_builtin(const char *name, bool group)
{
    char path[CONFIG_NAME + 16];
    configs_path(".", name, group, path, sizeof path);
    size_t n = strlen(path);
    for (const config_builtin *b = config_builtins; b->path; b++) {
        if (group ? !strncmp(b->path, path, n) && b->path[n] == '/' : !strcmp(b->path, path))
            return b;
    }
    return NULL;
}

/* Is there a .yaml below a folder? A folder without is no group: `data=data/` means the data. */
static bool configs_has_yaml(const char *path, int level, int *budget)
{
    DIR *d = opendir(path);
    bool found = false;
    if (!d) return false;
    for (struct dirent *i; !found && --*budget > 0 && (i = readdir(d));) {
        size_t n = strlen(i->d_name);
        char *below = i->d_name[0] == '.' ? NULL : st_path_join(path, i->d_name);
        if (!below) continue;
        if (n > 5 && !strcmp(i->d_name + n - 5, ".yaml"))
            found = true;
        else if (level < GROUP_LEVELS && st_path_is_dir(below))
            found = configs_has_yaml(below, level + 1, budget);
        free(below);
    }
    closedir(d);
    return found;
}

bool configs_is_group(const st_configs *c, const char *name)
{
    char path[4096];
    if (!configs_legal(name)) return false;
    for (int i = 0; i < c->dirs; i++) {
        if (!c->dir[i]) continue;
        int budget = GROUP_ENTRIES;
        configs_path(c->dir[i], name, true, path, sizeof path);
        if (configs_has_yaml(path, 0, &budget)) return true;
    }
    return c->builtin && configs_builtin(name, true);
}

bool configs_is_file(const st_configs *c, const char *name)
{
    char path[4096];
    if (!configs_legal(name)) return false;
    for (int i = 0; i < c->dirs; i++) {
        if (!c->dir[i]) continue;
        configs_path(c->dir[i], name, false, path, sizeof path);
        if (st_path_is_file(path)) return true;
    }
    return c->builtin && configs_builtin(name, false);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void config_free(config_file *f)
{
    if (!f) return;
    st_node_free(f->root);
    st_node_free(f->defaults);
    free(f->name);
    free(f->place);
    free(f->package);
    free(f);
}

/* "# @package NAME" among the first lines, which may be empty or of this kind only. */
static st_status config_header(config_file *f, const char *text, st_err *e)
{
    for (const char *p = text + st_text_mark(text, strlen(text)); *p;) {
        size_t n = strcspn(p, "\n");
        char line[160], key[80], value[80], more[2];
        const char *from = p + strspn(p, " \t\r");
        snprintf(line, sizeof line, "%.*s", (int)(from > p + n ? 0 : (size_t)(p + n - from)), from);
        p += n + (p[n] == '\n');
        size_t hash = strspn(line, "#");
        char *at = line + hash + strspn(line + hash, " \t");
        if (!line[0]) continue;
        if (!hash || *at != '@') return ST_OK;
        if (sscanf(at, "%79s %79s %1s", key, value, more) != 2)
            ST_FAIL(e, ST_EFORMAT, "%s: the header \"%.60s\", expected # @package NAME", f->place,
                    line);
        if (strcmp(key, "@package") != 0) continue;
        free(f->package);
        f->package = strdup(value);
        if (!f->package) return ST_NOMEM(e, f->place);
    }
    return ST_OK;
}

static st_status config_read(st_configs *c, config_file *f, const char *text, size_t n, st_err *e)
{
    if (memchr(text, '\0', n)) ST_FAIL(e, ST_EFORMAT, "%s: not a text file", f->place);
    ST_TRY(config_header(f, text, e));
    ST_TRY(st_yaml_parse(&f->root, text, n, f->place, e));
    if (node_is_null(f->root)) {
        st_node *map = node_new(ST_NODE_MAP, NULL, f->root->where);
        if (!map) return ST_NOMEM(e, f->place);
        node_become(f->root, map);
    }
    if (f->root->kind != ST_NODE_MAP)
        ST_FAIL(e, ST_EFORMAT, "%s: expected keys and values (train: ...)", f->root->where);
    c->nodes += node_size(f->root);
    if (c->nodes > CONFIG_NODES)
        ST_FAIL(e, ST_EFORMAT, "%s: with it there are more than %d values", f->place, CONFIG_NODES);
    int64_t i = node_index(f->root, "defaults", 8);
    if (i < 0) return ST_OK;
    f->defaults = node_copy(f->root->item[i], NULL);
    if (!f->defaults) return ST_NOMEM(e, f->place);
    node_remove(f->root, i);
    if (node_is_null(f->defaults)) {
        st_node_free(f->defaults);
        f->defaults = NULL;
    } else if (f->defaults->kind != ST_NODE_LIST) {
        ST_FAIL(e, ST_EFORMAT, "%s: defaults must be a list of configs (- group: option)",
                f->defaults->where);
    }
    return ST_OK;
}

static st_status config_load(st_configs *c, config_file *f, const char *path, st_err *e)
{
    char *text = NULL;
    size_t n = 0;
    ST_TRY(st_read_file(path, YAML_MAX_BYTES, &text, &n, e));
    st_status s = config_read(c, f, text, n, e);
    free(text);
    return s;
}

/* A new entry that `c` owns. */
static st_status config_new(st_configs *c, const char *name, const char *place, config_file **out,
                            st_err *e)
{
    if (c->files >= CONFIG_FILES)
        ST_FAIL(e, ST_EFORMAT, "%s: more than %d config files", place, CONFIG_FILES);
    config_file *f = st_calloc(1, sizeof *f);
    if (f) {
        f->name = strdup(name);
        f->place = strdup(place);
    }
    if (!f || !f->name || !f->place) {
        config_free(f);
        return ST_NOMEM(e, place);
    }
    c->file[c->files++] = *out = f;
    return ST_OK;
}

/* What could not be read is not remembered. */
static st_status config_done(st_configs *c, st_status s)
{
    if (s) config_free(c->file[--c->files]);
    return s;
}

st_status configs_get(st_configs *c, const char *name, const config_file **out, st_err *e)
{
    char path[4096];
    config_file *f;
    for (int64_t i = 0; i < c->files; i++) {
        *out = c->file[i];
        if (!strcmp((*out)->name, name)) return ST_OK;
    }
    for (int i = 0; i < c->dirs && configs_legal(name); i++) {
        if (!c->dir[i]) continue;
        configs_path(c->dir[i], name, false, path, sizeof path);
        if (!st_path_is_file(path)) continue;
        ST_TRY(config_new(c, name, path, &f, e));
        *out = f;
        return config_done(c, config_load(c, f, path, e));
    }
    const config_builtin *b =
        c->builtin && configs_legal(name) ? configs_builtin(name, false) : NULL;
    snprintf(path, sizeof path, "built-in:%s", b ? b->path : name);
    ST_TRY(config_new(c, name, path, &f, e));
    *out = f;
    if (b) return config_done(c, config_read(c, f, b->text, b->n, e));
    f->missing = true;
    return ST_OK;
}

static void configs_forget(st_configs *c)
{
    while (c->files)
        config_free(c->file[--c->files]);
    c->nodes = 0;
}

/* The folder of `path` takes the first place of the search path. */
st_status configs_open_file(st_configs *c, const char *path, const config_file **out, st_err *e)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    config_file *f;
    configs_forget(c);
    free(c->dir[0]);
    c->dir[0] = slash ? strndup(n ? path : "/", n ? n : 1) : strdup(".");
    if (!c->dir[0]) return ST_NOMEM(e, path);
    ST_TRY(config_new(c, "", path, &f, e));
    *out = f;
    return config_done(c, config_load(c, f, path, e));
}

st_status configs_open_none(st_configs *c, const config_file **out, st_err *e)
{
    config_file *f;
    configs_forget(c);
    ST_TRY(config_new(c, "", "command line", &f, e));
    *out = f;
    return config_done(c, config_read(c, f, "", 0, e));
}

/* ---- the search path ------------------------------------------------------------------------- */

st_status st_configs_open(st_configs **out, const char *const *dir, int dirs, bool builtin,
                          st_err *e)
{
    st_configs *c = st_calloc(1, sizeof *c);
    *out = c;
    if (c) c->dir = st_calloc(dirs + 1, sizeof *c->dir);
    if (c) c->file = st_calloc(CONFIG_FILES, sizeof *c->file);
    bool ok = c && c->dir && c->file;
    if (ok) c->dirs = 1; /* the first place is of a primary config that is a file */
    for (int i = 0; ok && i < dirs; i++) {
        c->dir[c->dirs++] = strdup(dir[i]);
        ok = c->dir[c->dirs - 1] != NULL;
    }
    if (!ok) {
        st_configs_close(c);
        *out = NULL;
        return ST_NOMEM(e, "configs");
    }
    c->builtin = builtin;
    return ST_OK;
}

void st_configs_close(st_configs *c)
{
    if (!c) return;
    for (int i = 0; c->dir && i < c->dirs; i++)
        free(c->dir[i]);
    if (c->file) configs_forget(c);
    free(c->dir);
    free(c->file);
    free(c);
}
