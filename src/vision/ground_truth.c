/* Labels of pictures, by the folders they are in or by a file. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "vision/inner.h"
#include <stdlib.h>
#include <string.h>

enum { TRUTH_LABELS = 256 << 20 };

void st_truth_close(st_truth *t)
{
    for (int64_t i = 0; i < t->n; i++)
        free(t->name[i]);
    free(t->name);
    free(t->label);
    free(t->path);
    *t = (st_truth){0};
}

/* ---- the pictures ---------------------------------------------------------------------------- */

/* The folder of `dir` with the pictures: as people unpack ImageNet, or as Kaggle packs it. */
static char *truth_folder(const char *dir)
{
    static const char *const known[] = {"val", "validation", "Data/CLS-LOC/val",
                                        "ILSVRC/Data/CLS-LOC/val", NULL};
    for (int i = 0; known[i]; i++) {
        char *path = st_path_join(dir, known[i]);
        if (!path || st_path_is_dir(path)) return path;
        free(path);
    }
    return strdup(dir);
}

typedef struct {
    st_truth *t;
    int64_t cap;
    char **folder; /* of each picture */
} truth_list;

static st_status truth_grow(truth_list *l, st_err *e)
{
    l->cap = l->cap ? 2 * l->cap : 1024;
    char **name = realloc(l->t->name, (size_t)l->cap * sizeof *name);
    if (name) l->t->name = name;
    char **folder = realloc(l->folder, (size_t)l->cap * sizeof *folder);
    if (folder) l->folder = folder;
    if (name && folder) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its file names", l->t->path);
}

static st_status truth_add(truth_list *l, const st_picture *p, st_err *e)
{
    st_truth *t = l->t;
    if (t->n == l->cap) ST_TRY(truth_grow(l, e));
    size_t n, lead = strlen(t->path);
    const char *folder = st_picture_folder(p, &n), *name = p->name;
    if (!strncmp(name, t->path, lead)) { /* without the path and what joins them */
        name += lead;
        name += *name == '/' ? 1 : !strncmp(name, ": ", 2) ? 2 : 0;
    }
    if (!*name) name = p->name;
    t->name[t->n] = strdup(name);
    l->folder[t->n] = strndup(folder, n);
    bool ok = t->name[t->n] && l->folder[t->n];
    if (!ok) free(t->name[t->n]), free(l->folder[t->n]);
    t->n += ok;
    if (!ok) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its file names", t->path);
    return ST_OK;
}

static st_status truth_walk(truth_list *l, st_err *e)
{
    st_gallery *g;
    st_picture p;
    const char *path = l->t->path;
    ST_TRY(st_gallery_open(&g, &path, 1, e));
    st_status s;
    while (!(s = st_gallery_next(g, &p, false, e)) && p.name) {
        s = st_interrupted() ? ST_ERR(e, ST_EINTR, "interrupted") : truth_add(l, &p, e);
        st_picture_free(&p);
        if (s) break;
        if (l->t->n % 1024 == 0) {
            st_report(
                &(st_progress){.what = "look", .done = l->t->n, .total = 0, .unit = "images"});
        }
    }
    st_gallery_close(g);
    ST_TRY(s);
    if (l->t->n) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: no pictures in it (.jpg, .jpeg, .png)", path);
}

/* ---- labels by folders ----------------------------------------------------------------------- */

static int truth_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The different folders, sorted: new memory; NULL: none left. */
static char **truth_unique(const truth_list *l, int64_t *n)
{
    char **all = st_calloc(l->t->n, sizeof *all);
    if (!all) return NULL;
    memcpy(all, l->folder, (size_t)l->t->n * sizeof *all);
    qsort(all, (size_t)l->t->n, sizeof *all, truth_compare);
    *n = 0;
    for (int64_t i = 0; i < l->t->n; i++)
        if (i == 0 || strcmp(all[i], all[*n - 1]) != 0) all[(*n)++] = all[i];
    return all;
}

/* The class of each folder. Folders that are classes of the model by id or name are those, however
 * many there are: a part of ImageNet keeps its numbers. Others are as many as the classes, and
 * their rank is the number, as torchvision counts. */
static st_status truth_classes(st_truth *t, char **folder, int64_t n, const st_classes *c,
                               int32_t *class, st_err *e)
{
    int64_t known = 0, stranger = -1;
    for (int64_t i = 0; i < n; i++) {
        class[i] = (int32_t)st_classes_find(c, folder[i], strlen(folder[i]));
        known += class[i] >= 0;
        if (class[i] < 0 && stranger < 0) stranger = i;
    }
    if (known == n) {
        t->rule = c->id[0] ? "wnid" : "name";
        return ST_OK;
    }
    if (known > 0) {
        ST_FAIL(e, ST_EARG, "%s: folder %.80s is no class of the model, though %lld others are",
                t->path, folder[stranger], (long long)known);
    }
    if (n != c->n) {
        ST_FAIL(e, ST_EARG,
                "%s: pictures are in %lld folders (%.60s%s), which are no classes of the model by "
                "name; expected one for each of its %lld classes, or a file of labels (--labels)",
                t->path, (long long)n, folder[0], n > 1 ? " ..." : "", (long long)c->n);
    }
    for (int64_t i = 0; i < n; i++)
        class[i] = (int32_t)i;
    t->rule = "rank";
    return ST_OK;
}

static st_status truth_by_folder(const truth_list *l, const st_classes *c, st_err *e)
{
    st_truth *t = l->t;
    int64_t n = 0;
    char **folder = truth_unique(l, &n);
    int32_t *class = folder ? st_calloc(n, sizeof *class) : NULL;
    st_status s = class ? truth_classes(t, folder, n, c, class, e) : ST_NOMEM(e, NULL);
    for (int64_t i = 0; !s && i < t->n; i++) {
        char **at = bsearch(&l->folder[i], folder, (size_t)n, sizeof *folder, truth_compare);
        t->label[i] = class[at - folder];
    }
    t->folders = n;
    free(class);
    free(folder);
    return s;
}

/* ---- labels by a file ------------------------------------------------------------------------ */

typedef struct {
    char *key;  /* a picture's file name */
    int64_t at; /* picture, or line */
    int32_t label;
} truth_line;

static int truth_compare_line(const void *a, const void *b)
{
    return strcmp(((const truth_line *)a)->key, ((const truth_line *)b)->key);
}

static char *truth_base(char *name)
{
    char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* Cuts "KEY LABEL ..." or "KEY,LABEL ..." in place. *label NULL: one word. */
static void truth_cut(char *line, char **key, char **label)
{
    static const char *const blank = ", \t\r";
    *key = line + strspn(line, blank);
    char *end = *key + strcspn(*key, blank);
    *label = end + strspn(end, blank);
    if (!**label) *label = NULL;
    *end = '\0';
    if (*label) (*label)[strcspn(*label, blank)] = '\0';
}

/* A class by id, name or number. -1: neither. */
static int32_t truth_class(const st_classes *c, const char *text)
{
    int64_t n;
    if (st_parse_int(text, &n)) return n >= 0 && n < c->n ? (int32_t)n : -1;
    return (int32_t)st_classes_find(c, text, strlen(text));
}

/* Line `at` of the file: a picture's name and its label, or the label alone. */
static st_status truth_line_read(truth_line *out, char *line, int64_t at, const st_classes *c,
                                 const char *file, bool *alone, bool *skip, st_err *e)
{
    char *key, *label;
    int64_t number;
    truth_cut(line, &key, &label);
    *skip = !*key || *key == '#' || (at == 1 && label && truth_class(c, label) < 0);
    *alone = !label;
    if (*skip) return ST_OK; /* blank, a remark, or the head of a table */
    if (!label && st_parse_int(key, &number)) {
        ST_FAIL(e, ST_EARG,
                "%s:%lld: a number alone, which in ImageNet's own lists counts classes in another "
                "order; expected NAME CLASS, NAME WNID or a WNID alone",
                file, (long long)at);
    }
    *out = (truth_line){
        .key = truth_base(key), .at = at, .label = truth_class(c, label ? label : key)};
    if (out->label >= 0) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s:%lld: %.80s is no class of the model", file, (long long)at,
            label ? label : key);
}

/* Of "x.JPEG" the rows "x.JPEG" and "x" (Kaggle) will do. */
static const truth_line *truth_find(const truth_line *line, int64_t n, char *base)
{
    truth_line want = {.key = base};
    const truth_line *at = bsearch(&want, line, (size_t)n, sizeof *line, truth_compare_line);
    char *dot = strrchr(base, '.');
    if (at || !dot) return at;
    *dot = '\0';
    at = bsearch(&want, line, (size_t)n, sizeof *line, truth_compare_line);
    *dot = '.';
    return at;
}

/* Labels alone are of the pictures sorted by their file names. */
static st_status truth_by_rank(st_truth *t, const truth_line *line, int64_t lines, const char *file,
                               st_err *e)
{
    if (lines != t->n) {
        ST_FAIL(e, ST_EARG, "%s: %s for %s; labels alone must be one for each", file,
                st_counted(lines, "labels").s, st_counted(t->n, "pictures").s);
    }
    truth_line *order = st_calloc(t->n, sizeof *order);
    if (!order) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < t->n; i++)
        order[i] = (truth_line){.key = truth_base(t->name[i]), .at = i};
    qsort(order, (size_t)t->n, sizeof *order, truth_compare_line);
    for (int64_t i = 0; i < t->n; i++)
        t->label[order[i].at] = line[i].label;
    free(order);
    return ST_OK;
}

static st_status truth_by_name(st_truth *t, truth_line *line, int64_t lines, const char *file,
                               st_err *e)
{
    if (lines) qsort(line, (size_t)lines, sizeof *line, truth_compare_line);
    for (int64_t i = 1; i < lines; i++) {
        const truth_line *a = &line[i - 1], *b = &line[i];
        if (strcmp(a->key, b->key) || a->label == b->label) continue;
        ST_FAIL(e, ST_EARG, "%s: %.200s has two labels, in lines %lld and %lld", file, a->key,
                (long long)(a->at < b->at ? a->at : b->at),
                (long long)(a->at < b->at ? b->at : a->at));
    }
    for (int64_t i = 0; i < t->n; i++) {
        const truth_line *at = truth_find(line, lines, truth_base(t->name[i]));
        if (!at) ST_FAIL(e, ST_EARG, "%s: no label of %.200s", file, t->name[i]);
        t->label[i] = at->label;
    }
    return ST_OK;
}

static st_status truth_by_file(st_truth *t, const char *file, const st_classes *c, st_err *e)
{
    char *text;
    size_t size;
    ST_TRY(st_read_file(file, TRUTH_LABELS, &text, &size, e));
    int64_t lines = 1, n = 0, lone = 0, at = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    truth_line *line = st_calloc(lines, sizeof *line);
    st_status s = line ? ST_OK : ST_NOMEM(e, NULL);
    char *first = text + st_text_mark(text, size);
    for (char *p = first, *next; !s && p; p = next) {
        bool alone, skip;
        next = strchr(p, '\n');
        if (next) *next++ = '\0';
        s = truth_line_read(&line[n], p, ++at, c, file, &alone, &skip, e);
        n += !skip;
        lone += !skip && alone;
    }
    if (!s && lone && lone != n) {
        s = ST_ERR(e, ST_EARG, "%s: some lines have a name and a label, others one word", file);
    }
    if (!s) s = lone ? truth_by_rank(t, line, n, file, e) : truth_by_name(t, line, n, file, e);
    t->rule = "file";
    free(line);
    free(text);
    return s;
}

st_status st_truth_open(st_truth *t, const char *path, const char *labels, const st_classes *c,
                        st_err *e)
{
    *t = (st_truth){.path = truth_folder(path)};
    truth_list l = {.t = t};
    st_status s = t->path ? truth_walk(&l, e) : ST_NOMEM(e, NULL);
    if (!s && !(t->label = st_calloc(t->n, sizeof *t->label))) s = ST_NOMEM(e, NULL);
    if (!s) s = labels ? truth_by_file(t, labels, c, e) : truth_by_folder(&l, c, e);
    for (int64_t i = 0; i < t->n; i++)
        free(l.folder[i]);
    free(l.folder);
    if (s) st_truth_close(t);
    return s;
}
