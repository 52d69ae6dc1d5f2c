/* Names of classes. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "vision/inner.h"
#include <stdlib.h>
#include <string.h>

enum { CLASSES_IMAGENET = 1000, CLASSES_CONFIG = 64 << 20 };

void st_classes_close(st_classes *c)
{
    free(c->id);
    free(c->name);
    free(c->text);
    *c = (st_classes){0};
}

int64_t st_classes_find(const st_classes *c, const char *text, size_t n)
{
    for (int64_t i = 0; i < c->n; i++) {
        if (c->id[i] && strlen(c->id[i]) == n && !memcmp(c->id[i], text, n)) return i;
        if (strlen(c->name[i]) == n && !memcmp(c->name[i], text, n)) return i;
    }
    return -1;
}

static st_status classes_imagenet(st_classes *c, st_err *e)
{
    c->text = strdup(st_imagenet_text);
    if (!c->text) return ST_NOMEM(e, NULL);
    c->from = "imagenet";
    char *line = c->text, *rest;
    for (int64_t i = 0; i < c->n; line = rest) {
        rest = strchr(line, '\n') + 1;
        if (*line == '#') continue;
        rest[-1] = '\0';
        c->id[i] = line;
        line = strchr(line, ' ');
        *line = '\0';
        c->name[i++] = line + 1;
    }
    return ST_OK;
}

/* Names one after the other in c->text, each with its NUL, from a callback's words. */
static st_status classes_list(st_classes *c, const json_t *labels, const char *what, st_err *e)
{
    size_t size = 0, used = 0;
    char key[24], number[40];
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < c->n; i++) {
            snprintf(key, sizeof key, "%lld", (long long)i);
            snprintf(number, sizeof number, "class %lld", (long long)i);
            const json_t *label = json_object_get(labels, key);
            const char *text = labels ? json_string_value(label) : number;
            if (!text) {
                ST_FAIL(e, ST_EFORMAT, "%s: id2label has no text for class %s of %lld", what, key,
                        (long long)c->n);
            }
            size_t n = strlen(text) + 1;
            if (pass) c->name[i] = memcpy(c->text + used, text, n);
            used += pass ? n : 0;
            size += n;
        }
        if (!pass && !(c->text = malloc(size))) return ST_NOMEM(e, NULL);
    }
    return ST_OK;
}

/* transformers writes LABEL_0, LABEL_1 ... where nobody has said anything. */
static bool classes_say_nothing(const json_t *labels)
{
    const char *first = json_string_value(json_object_get(labels, "0"));
    return first && !strcmp(first, "LABEL_0");
}

st_status st_classes_open(st_classes *c, const char *model, int64_t n, st_err *e)
{
    *c = (st_classes){.n = n};
    c->id = st_calloc(n, sizeof *c->id);
    c->name = st_calloc(n, sizeof *c->name);
    char *path = st_path_join(model, "config.json");
    json_t *config = NULL;
    st_status s = c->id && c->name && path ? ST_OK : ST_NOMEM(e, NULL);
    if (!s && st_path_is_dir(model) && st_path_exists(path))
        s = st_json_load(&config, path, CLASSES_CONFIG, e);
    const json_t *labels = json_object_get(config, "id2label");
    if (!json_is_object(labels) || classes_say_nothing(labels)) labels = NULL;
    c->from = labels ? "config.json" : "numbers";
    if (!s && !labels && n == CLASSES_IMAGENET)
        s = classes_imagenet(c, e);
    else if (!s)
        s = classes_list(c, labels, path, e);
    json_decref(config);
    free(path);
    if (s) st_classes_close(c);
    return s;
}
