/* The options of a group of configs, and what a name that is not there was meant to be. */
/* SPDX-License-Identifier: MIT */
#include "config/configs.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int options_by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct {
    char **name;
    int64_t n;
    bool full;
} options;

static void options_add(options *o, const char *name, size_t n)
{
    if (o->n >= GROUP_ENTRIES || !(o->name[o->n] = strndup(name, n)))
        o->full = true;
    else
        o->n++;
}

static void options_of_dir(options *o, const char *path)
{
    DIR *d = opendir(path);
    if (!d) return;
    for (struct dirent *i; !o->full && (i = readdir(d));) {
        size_t n = strlen(i->d_name);
        if (n > 5 && i->d_name[0] != '.' && !strcmp(i->d_name + n - 5, ".yaml"))
            options_add(o, i->d_name, n - 5);
    }
    closedir(d);
}

static void options_of_builtins(options *o, const char *group)
{
    size_t n = strlen(group);
    for (const config_builtin *b = config_builtins; b->path && !o->full; b++) {
        const char *rest = n ? b->path + n + 1 : b->path;
        if (n && (strncmp(b->path, group, n) != 0 || b->path[n] != '/')) continue;
        if (!strchr(rest, '/')) options_add(o, rest, strlen(rest) - 5);
    }
}

static bool options_like(const char *name, size_t n, const char *near)
{
    char copy[CONFIG_NAME];
    snprintf(copy, sizeof copy, "%.*s", (int)n, name);
    return !near || st_nearest(near, (const char *const[]){copy, NULL});
}

/* Groups right in `group` ("": the root), "NAME/"; only those whose names are near `near`, if that
 * is not NULL. */
static void options_of_groups(const st_configs *c, options *o, const char *group, const char *near)
{
    char path[4096], name[CONFIG_NAME * 2];
    size_t n = strlen(group), skip = n ? n + 1 : 0;
    for (int i = 0; i < c->dirs; i++) {
        if (!c->dir[i]) continue;
        configs_path(c->dir[i], n ? group : ".", true, path, sizeof path);
        DIR *d = opendir(path);
        for (struct dirent *k; d && !o->full && (k = readdir(d));) {
            if (!options_like(k->d_name, strlen(k->d_name), near)) continue;
            snprintf(name, sizeof name, "%s%s%.255s/", group, n ? "/" : "", k->d_name);
            name[strlen(name) - 1] = '\0';
            if (!configs_is_group(c, name)) continue;
            strcat(name, "/");
            options_add(o, name + skip, strlen(name + skip));
        }
        if (d) closedir(d);
    }
    for (const config_builtin *b = config_builtins; c->builtin && b->path && !o->full; b++) {
        if (n && (strncmp(b->path, group, n) != 0 || b->path[n] != '/')) continue;
        const char *leaf = b->path + skip, *slash = strchr(leaf, '/');
        if (slash && options_like(leaf, (size_t)(slash - leaf), near))
            options_add(o, leaf, (size_t)(slash - leaf) + 1);
    }
}

/* Configs of a group and, where asked for, the groups in it; sorted, each once. */
static char **options_list(const st_configs *c, const char *group, bool groups)
{
    options o = {.name = st_calloc(GROUP_ENTRIES + 1, sizeof *o.name)};
    char path[4096];
    if (!o.name) return NULL;
    bool root = !*group, legal = root || configs_legal(group);
    for (int i = 0; i < c->dirs && legal; i++) {
        if (!c->dir[i]) continue;
        configs_path(c->dir[i], root ? "." : group, true, path, sizeof path);
        options_of_dir(&o, path);
    }
    if (c->builtin && legal) options_of_builtins(&o, group);
    if (groups && legal && !root) options_of_groups(c, &o, group, NULL);
    qsort(o.name, (size_t)o.n, sizeof *o.name, options_by_name);
    int64_t n = 0;
    for (int64_t i = 0; i < o.n; i++) {
        if (n && !strcmp(o.name[n - 1], o.name[i]))
            free(o.name[i]);
        else
            o.name[n++] = o.name[i];
    }
    memset(o.name + n, 0, (size_t)(GROUP_ENTRIES + 1 - n) * sizeof *o.name);
    return o.name;
}

char **st_configs_options(const st_configs *c, const char *group)
{
    return options_list(c, group, false);
}

void st_configs_options_free(char **name)
{
    for (int64_t i = 0; name && name[i]; i++)
        free(name[i]);
    free(name);
}

/* ---- a name that is not there ---------------------------------------------------------------- */

/* "a, b, ..." of the names, as many as fit. */
static void options_text(char **name, char *list, size_t cap)
{
    size_t n = 0;
    list[0] = '\0';
    for (int64_t i = 0; name[i] && n + strlen(name[i]) + 8 < cap; i++) {
        bool last = name[i + 1] && n + strlen(name[i]) + strlen(name[i + 1]) + 12 >= cap;
        n += (size_t)snprintf(list + n, cap - n, "%s%s%s", i ? ", " : "", name[i],
                              last ? ", ..." : "");
    }
}

/* The name nearest to `leaf`, of a group with its slash. */
static const char *options_near(char **name, const char *leaf)
{
    char group[CONFIG_NAME + 8];
    const char *const *list = (const char *const *)(void *)name;
    snprintf(group, sizeof group, "%.*s/", CONFIG_NAME, leaf);
    const char *near = st_nearest(leaf, list);
    return near ? near : st_nearest(group, list);
}

/* Cuts the last part off "a/b/c" and hands it out. */
static const char *folder_cut(char *folder, char *last, size_t cap)
{
    char *slash = strrchr(folder, '/');
    snprintf(last, cap, "%s", slash ? slash + 1 : folder);
    *(slash ? slash : folder) = '\0';
    return last;
}

st_status configs_no_option(const st_configs *c, const char *group, const char *option,
                            const char *where, st_err *e)
{
    char folder[CONFIG_NAME * 2], whole[CONFIG_NAME * 3], last[CONFIG_NAME * 2], list[256];
    const char *slash = strrchr(option, '/'), *leaf = slash ? slash + 1 : option;
    snprintf(folder, sizeof folder, "%s%s%.*s", group, *group && slash ? "/" : "",
             (int)(slash ? slash - option : 0), option);
    if (!configs_legal(option) || (*folder && !configs_legal(folder)))
        ST_FAIL(e, ST_EARG,
                "%s: %.60s%s%.80s: not the name of a config (no \"..\", no \"/\" first)", where,
                group, *group ? "=" : "", option);
    snprintf(whole, sizeof whole, "%s%s%s", folder, *folder ? "/" : "", leaf);
    bool inside = *group && configs_is_group(c, whole);
    char **name = options_list(c, inside ? whole : folder, true);
    while (name && !name[0] && strchr(folder, '/')) { /* the group is not there either */
        st_configs_options_free(name);
        leaf = folder_cut(folder, last, sizeof last);
        name = options_list(c, folder, true);
    }
    if (!name) return ST_NOMEM(e, where);
    const char *near = inside ? NULL : options_near(name, leaf);
    options_text(name, list, sizeof list);
    st_status s = ST_ERR(e, ST_EARG, "%s: no config %.100s%s%.100s%s%s%s%s%s%s", where, group,
                         *group ? "/" : "", option, inside ? ", which is a group of configs" : "",
                         near ? "; did you mean " : "", near ? near : "", near ? "?" : "",
                         *list ? (inside ? "; there are in it: " : "; there are: ")
                               : "; nothing of that group is on the search path (--info shows it)",
                         list);
    st_configs_options_free(name);
    return s;
}

const char *st_configs_near_group(const st_configs *c, const char *name, char *out, size_t cap)
{
    char folder[CONFIG_NAME], last[CONFIG_NAME];
    options o = {.name = st_calloc(GROUP_ENTRIES + 1, sizeof *o.name)};
    snprintf(folder, sizeof folder, "%s", name);
    const char *leaf = folder_cut(folder, last, sizeof last), *near = NULL;
    if (o.name && *folder) options_of_groups(c, &o, folder, leaf);
    if (o.name && o.n == 0) {
        folder[0] = '\0';
        options_of_groups(c, &o, "", leaf);
    }
    if (o.name) near = options_near(o.name, leaf);
    if (near)
        snprintf(out, cap, "%s%s%.*s", folder, *folder ? "/" : "", (int)strlen(near) - 1, near);
    st_configs_options_free(o.name);
    return near ? out : NULL;
}
