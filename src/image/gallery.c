/* Picture files of paths, folders and archives, in order. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "image/image.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { GALLERY_BYTES = 64 << 20, GALLERY_FIRST = 1 << 17 };

struct st_gallery {
    char **path;
    int paths;
    st_walk *walk;
    st_unpack *file; /* open, or NULL */
    const char *from;
    bool named;
};

/* torchvision's list and what a careless eye takes for a picture; what cannot be read is then
 * counted by name, not passed over. */
static bool gallery_is(const char *name)
{
    static const char *const suffix[] = {".jpg",  ".jpeg", ".jpe",  ".png",  ".gif", ".bmp", ".tif",
                                         ".tiff", ".webp", ".heic", ".avif", ".jxl", NULL};
    for (int i = 0; suffix[i]; i++)
        if (st_name_ends(name, suffix[i])) return true;
    return false;
}

static bool gallery_packed(const char *name)
{
    static const char *const suffix[] = {".tar", ".tgz", ".txz", ".tzst", ".tbz2", ".tbz",
                                         ".zip", ".gz",  ".xz",  ".zst",  ".bz2",  NULL};
    for (int i = 0; suffix[i]; i++)
        if (st_name_ends(name, suffix[i])) return true;
    return false;
}

void st_picture_free(st_picture *p)
{
    free(p->name);
    free(p->data);
    *p = (st_picture){0};
}

const char *st_picture_folder(const st_picture *p, size_t *n)
{
    const char *slash = strrchr(p->name, '/'), *base = slash ? slash + 1 : p->name;
    const char *member = NULL;
    for (const char *at = base; p->packed && (at = strstr(at, ": ")); at += 2) {
        if (member) base = member + 2; /* archives in each other: the innermost */
        member = at;
    }
    if (member) { /* right in the archive, whose name is the folder's */
        const char *dot = memchr(base, '.', (size_t)(member - base));
        *n = (size_t)((dot && dot > base ? dot : member) - base);
        return base;
    }
    const char *end = slash ? slash : p->name, *from = end;
    while (from > p->name && from[-1] != '/' &&
           !(p->packed && from[-1] == ' ' && from - p->name > 1 && from[-2] == ':'))
        from--;
    *n = (size_t)(end - from);
    return from;
}

st_status st_gallery_open(st_gallery **out, const char *const *paths, int n, st_err *e)
{
    st_gallery *g = *out = st_calloc(1, sizeof *g);
    if (!g) return ST_NOMEM(e, NULL);
    g->path = st_calloc(n + 1, sizeof *g->path);
    bool ok = g->path != NULL;
    for (g->paths = 0; ok && g->paths < n; g->paths++)
        ok = (g->path[g->paths] = strdup(paths[g->paths])) != NULL;
    st_status s =
        ok ? st_walk_open(&g->walk, (const char *const *)g->path, n, e) : ST_NOMEM(e, NULL);
    if (!s) return ST_OK;
    st_gallery_close(g);
    *out = NULL;
    return s;
}

void st_gallery_close(st_gallery *g)
{
    if (!g) return;
    st_unpack_close(g->file);
    st_walk_close(g->walk);
    for (int i = 0; i < g->paths; i++)
        free(g->path[i]);
    free(g->path);
    free(g);
}

/* The current stream of g->file, whole. */
static st_status gallery_bytes(st_gallery *g, st_picture *p, st_err *e)
{
    size_t cap = GALLERY_FIRST, got;
    p->data = malloc(cap);
    while (p->data) {
        if (p->n > GALLERY_BYTES) {
            ST_FAIL(e, ST_EFORMAT, "%s: more than %d MiB, expected a picture", p->name,
                    GALLERY_BYTES >> 20);
        }
        ST_TRY(st_unpack_read(g->file, (char *)p->data + p->n, cap - p->n, &got, e));
        if (got == 0) return ST_OK;
        p->n += got;
        if (p->n < cap) continue;
        uint8_t *more = realloc(p->data, cap *= 2);
        if (!more) break;
        p->data = more;
    }
    return ST_NOMEM(e, p->name);
}

/* The next picture inside g->file; p->name NULL: none. */
static st_status gallery_inside(st_gallery *g, st_picture *p, bool bytes, st_err *e)
{
    for (;;) {
        const char *name;
        ST_TRY(st_unpack_next(g->file, &name, e));
        if (!name) return ST_OK;
        bool itself = strcmp(name, g->from) == 0;
        if (!gallery_is(name) && !(itself && g->named)) continue;
        *p = (st_picture){.name = strdup(name), .packed = !itself};
        if (!p->name) ST_FAIL(e, ST_ENOMEM, "out of memory for a file name");
        return bytes ? gallery_bytes(g, p, e) : ST_OK;
    }
}

st_status st_gallery_next(st_gallery *g, st_picture *p, bool bytes, st_err *e)
{
    st_status s = ST_OK;
    *p = (st_picture){0};
    while (!s && !p->name) {
        struct stat st;
        if (g->file) {
            s = gallery_inside(g, p, bytes, e);
            if (s || p->name) break;
            st_unpack_close(g->file);
            g->file = NULL;
        }
        s = st_walk_next(g->walk, &g->from, e);
        if (s || !g->from) break;
        g->named = st_walk_named(g->walk);
        bool plain = stat(g->from, &st) || S_ISREG(st.st_mode);
        if (plain && gallery_is(g->from)) {
            p->name = strdup(g->from);
            if (!p->name) s = ST_NOMEM(e, NULL);
        } else if (g->named || gallery_packed(g->from)) {
            s = st_unpack_open(&g->file, g->from, e);
        }
    }
    if (s) st_picture_free(p);
    return s;
}
