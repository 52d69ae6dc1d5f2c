/* Interpolations in a composed tree, as OmegaConf has them, resolved in place and each once. Work
 * is bounded: a config that doubles itself is refused before it is large. */
/* Long: one grammar; references, calls and texts hold each other. */
/* SPDX-License-Identifier: MIT */
#include "config/resolve.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RESOLVE_TRAIL = 256,     /* levels of a tree */
    RESOLVE_DEPTH = 64,      /* of references to references, and of nesting in one text */
    RESOLVE_BYTES = 1 << 16, /* of one value */
    RESOLVE_NODES = 50000,   /* copied in all */
    RESOLVE_ARGUMENTS = 16,
    RESOLVE_NAME = 512
};

/* The nodes from the root to one node. */
typedef struct {
    st_node *node[RESOLVE_TRAIL];
    int n;
} trail;

/* Values being resolved, innermost first. */
typedef struct frame {
    const st_node *node;
    const struct frame *up;
    int depth;
} frame;

typedef struct {
    st_node *root;
    int64_t copied;
    st_err *e;
} resolver;

/* One text of interpolations and where it stands. */
typedef struct {
    resolver *r;
    const trail *at;
    const frame *in;
    const char *where, *whole;
    int level;
} scan;

static st_status resolve_below(resolver *r, trail *t, const frame *in);
static st_status scan_text(scan *s, const char *text, size_t n, st_node **out);

static st_status scan_refuse(const scan *s, const char *what)
{
    ST_FAIL(s->r->e, ST_EARG, "%s: %.100s: %s", s->where, s->whole, what);
}

static st_status scan_nomem(const scan *s)
{
    return ST_NOMEM(s->r->e, s->where);
}

static bool is_open(const st_node *n)
{
    return n->kind == ST_NODE_SCALAR && !n->done && strstr(n->text, "${");
}

/* ---- references ------------------------------------------------------------------------------ */

/* The item called part[0..n) of a map, or with that number of a list. */
static st_node *child(const st_node *n, const char *part, size_t length)
{
    int64_t i = -1;
    if (n->kind == ST_NODE_LIST && length && length < 10 && strspn(part, "0123456789") >= length)
        i = strtol(part, NULL, 10);
    else
        i = node_index(n, part, length);
    return i < 0 || i >= n->n ? NULL : n->item[i];
}

static st_status reference_missing(const scan *s, const st_node *in, const char *part, size_t n)
{
    char word[128];
    const char *near = NULL;
    snprintf(word, sizeof word, "%.*s", (int)n, part);
    const char **keys = in->kind == ST_NODE_MAP ? st_calloc(in->n + 1, sizeof *keys) : NULL;
    for (int64_t i = 0; keys && i < in->n; i++)
        keys[i] = in->key[i];
    if (keys) near = st_nearest(word, keys);
    st_status status = ST_ERR(s->r->e, ST_EARG, "%s: %.100s: there is no %s%s%s%s", s->where,
                              s->whole, *word ? word : "such key", near ? "; did you mean " : "",
                              near ? near : "", near ? "?" : "");
    free(keys);
    return status;
}

/* Follows "a.b", ".x", "..x"; `t` is then the trail of what it names. *found false: not there. */
static st_status reference_find(const scan *s, const char *name, trail *t, bool *found)
{
    size_t up = strspn(name, ".");
    const char *p = name + up;
    *found = true;
    *t = *s->at;
    if (up == 0) t->n = 1;
    if (up >= (size_t)s->at->n) return scan_refuse(s, "more dots than there are levels above");
    if (up) t->n -= (int)up;
    for (;; p++) {
        size_t n = strcspn(p, ".");
        st_node *in = t->node[t->n - 1], *next;
        if (is_open(in)) ST_TRY(resolve_below(s->r, t, s->in));
        next = child(in, p, n);
        if (!next || t->n >= RESOLVE_TRAIL) {
            *found = false;
            return reference_missing(s, in, p, n);
        }
        t->node[t->n++] = next;
        p += n;
        if (!*p) return ST_OK;
    }
}

static st_status reference(const scan *s, const char *name, st_node **out)
{
    trail t;
    bool found;
    ST_TRY(reference_find(s, name, &t, &found));
    st_node *n = t.node[t.n - 1];
    ST_TRY(resolve_below(s->r, &t, s->in));
    s->r->copied += node_size(n);
    if (s->r->copied > RESOLVE_NODES) return scan_refuse(s, "the config grows without end");
    *out = node_copy(n, s->where);
    return *out ? ST_OK : scan_nomem(s);
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* Length of an argument: up to a ',' or the '}' that is not its own. 0-terminated text. */
static size_t argument_length(const char *p)
{
    char quote = 0;
    int open = 0;
    for (size_t i = 0; p[i]; i++) {
        const char c = p[i];
        if (c == '\\' && p[i + 1]) {
            i++;
        } else if (quote) {
            if (c == quote) quote = 0;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (c == '{' || c == '[') {
            open++;
        } else if ((c == '}' || c == ']' || c == ',') && open == 0) {
            return i;
        } else if (c == '}' || c == ']') {
            open--;
        }
    }
    return strlen(p);
}

/* One argument: an interpolation, text with some in it, or a value of the override grammar. */
static st_status argument(scan *s, const char *p, size_t n, st_node **out)
{
    while (n && strchr(" \t", *p))
        p++, n--;
    while (n && strchr(" \t", p[n - 1]))
        n--;
    char *text = strndup(p, n);
    if (!text) return scan_nomem(s);
    st_status status;
    bool quoted = n > 1 && (*p == '\'' || *p == '"') && p[n - 1] == *p;
    if (!strstr(text, "${") && n) {
        status = override_element(out, text, s->where, s->r->e);
    } else if (n && strchr("[{", *p)) {
        status = scan_refuse(s, "an interpolation inside brackets inside an interpolation");
    } else {
        status = scan_text(s, p + quoted, n - 2 * (size_t)quoted, out);
    }
    free(text);
    return status;
}

/* oc.select:key,default */
static st_status select_or(const scan *s, st_node *const *arg, int64_t n, st_node **out)
{
    st_err ignored;
    resolver quiet = *s->r;
    scan look = *s;
    trail t;
    bool found = true;
    if (n < 1 || n > 2 || arg[0]->kind != ST_NODE_SCALAR)
        return scan_refuse(s, "expected ${oc.select:KEY,default}");
    quiet.e = &ignored;
    look.r = &quiet;
    st_status status = reference_find(&look, arg[0]->text, &t, &found);
    if (found && status && s->r->e) *s->r->e = ignored; /* not missing: broken */
    if (found && status) return status;
    s->r->copied = quiet.copied;
    if (found) return reference(s, arg[0]->text, out);
    *out = n == 2 ? node_copy(arg[1], s->where) : node_new(ST_NODE_SCALAR, "null", s->where);
    return *out ? ST_OK : scan_nomem(s);
}

/* NAME:a,b,c} from behind the colon; moves on behind the brace. */
static st_status scan_call(scan *s, const char *name, const char **p, st_node **out)
{
    st_node *arg[RESOLVE_ARGUMENTS] = {0};
    int64_t n = 0;
    st_status status = ST_OK;
    call c = {.where = s->where, .text = s->whole, .e = s->r->e};
    bool raw = !strcmp(name, "now") || !strcmp(name, "eval") || !strcmp(name, "hydra");
    while (!status && **p && **p != '}') {
        size_t length = raw ? strcspn(*p, "}") : argument_length(*p);
        if (n == RESOLVE_ARGUMENTS) {
            status = scan_refuse(s, "more than 16 arguments");
        } else if (raw) { /* "%Y-%m-%d %H:%M" is no value of the grammar */
            char *text = strndup(*p, length);
            arg[n] = text ? node_new(ST_NODE_SCALAR, text, s->where) : NULL;
            if (!arg[n]) status = scan_nomem(s);
            free(text);
        } else {
            status = argument(s, *p, length, &arg[n]);
        }
        n += !status;
        *p += length;
        if (**p == ',') ++*p;
    }
    if (!status && **p != '}') status = scan_refuse(s, "a ${ that is not closed");
    if (!status) ++*p;
    if (!status && !strcmp(name, "oc.select"))
        status = select_or(s, arg, n, out);
    else if (!status)
        status = function_call(&c, name, arg, n, out);
    for (int64_t i = 0; i < RESOLVE_ARGUMENTS; i++)
        st_node_free(arg[i]);
    return status;
}

/* ---- one interpolation ----------------------------------------------------------------------- */

static st_status scan_one(scan *s, const char **p, st_node **out);

/* Appends a piece of a name: characters, or what an interpolation inside it gives. */
static st_status name_add(scan *s, char *name, size_t *n, const char **p)
{
    char text[64];
    const char *more = text;
    st_node *inner = NULL;
    if ((*p)[0] == '$' && (*p)[1] == '{') {
        ST_TRY(scan_one(s, p, &inner));
        st_status status = scalar_str(inner, text, sizeof text, &more, s->r->e);
        size_t length = status ? 0 : strlen(more);
        if (!status && *n + length >= RESOLVE_NAME) status = scan_refuse(s, "too long a name");
        if (!status) memcpy(name + *n, more, length), *n += length;
        st_node_free(inner);
        return status;
    }
    if (*n + 2 >= RESOLVE_NAME) return scan_refuse(s, "too long a name");
    if (**p == '[') { /* a[b] is a.b */
        if (strspn(name, ".") < *n) name[(*n)++] = '.';
    } else if (**p != ']') {
        name[(*n)++] = **p;
    }
    ++*p;
    return ST_OK;
}

/* "${...}" at *p; moves on. */
static st_status scan_one(scan *s, const char **p, st_node **out)
{
    char name[RESOLVE_NAME + 1] = "";
    size_t n = 0;
    if (++s->level > RESOLVE_DEPTH) return scan_refuse(s, "too deep");
    *p += 2;
    *p += strspn(*p, " \t");
    while (**p && **p != '}' && **p != ':')
        ST_TRY(name_add(s, name, &n, p));
    while (n && strchr(" \t", name[n - 1]))
        n--;
    name[n] = '\0';
    s->level--;
    if (!**p) return scan_refuse(s, "a ${ that is not closed");
    if (n == 0) return scan_refuse(s, "an empty ${}");
    if (*(*p)++ == '}') return reference(s, name, out);
    s->level++;
    st_status status = scan_call(s, name, p, out);
    s->level--;
    return status;
}

typedef struct {
    char *text;
    size_t n;
} buffer;

static st_status buffer_add(const scan *s, buffer *b, const char *text, size_t n)
{
    if (b->n + n > RESOLVE_BYTES) return scan_refuse(s, "a text of more than 65536 bytes");
    char *more = realloc(b->text, b->n + n + 1);
    if (!more) return scan_nomem(s);
    b->text = more;
    memcpy(b->text + b->n, text, n);
    b->n += n;
    b->text[b->n] = '\0';
    return ST_OK;
}

/* The pieces of a text up to `end`: a lone interpolation is a value, else text is joined. */
static st_status scan_pieces(scan *s, const char *text, const char *end, buffer *b, st_node **lone)
{
    for (const char *p = text; p < end;) {
        const char *at = strstr(p, "${");
        char str[64];
        const char *piece = NULL;
        st_node *value = NULL;
        if (!at || at >= end) return buffer_add(s, b, p, (size_t)(end - p));
        size_t slashes = 0;
        while (at - slashes > p && at[-1 - (int64_t)slashes] == '\\')
            slashes++;
        ST_TRY(buffer_add(s, b, p, (size_t)(at - p) - slashes + slashes / 2));
        p = at;
        if (slashes % 2) { /* \${ is a plain ${ */
            ST_TRY(buffer_add(s, b, "${", 2));
            p += 2;
            continue;
        }
        ST_TRY(scan_one(s, &p, &value));
        if (at == text && p == end) {
            *lone = value;
            return ST_OK;
        }
        st_status status = scalar_str(value, str, sizeof str, &piece, s->r->e);
        if (!status) status = buffer_add(s, b, piece, strlen(piece));
        st_node_free(value);
        ST_TRY(status);
    }
    return ST_OK;
}

static st_status scan_text(scan *s, const char *text, size_t n, st_node **out)
{
    buffer b = {0};
    char *copy = strndup(text, n);
    st_status status = copy ? buffer_add(s, &b, "", 0) : scan_nomem(s);
    *out = NULL;
    if (!status && ++s->level > RESOLVE_DEPTH) status = scan_refuse(s, "too deep");
    if (!status) status = scan_pieces(s, copy, copy + n, &b, out);
    s->level--;
    s->r->copied += 1 + (int64_t)b.n / NODE_BYTES;
    if (!status && s->r->copied > RESOLVE_NODES)
        status = scan_refuse(s, "the config grows without end");
    if (!status && !*out) {
        *out = node_new(ST_NODE_SCALAR, b.text, s->where);
        if (*out)
            (*out)->quoted = true;
        else
            status = scan_nomem(s);
    }
    free(copy);
    free(b.text);
    return status;
}

/* ---- the tree -------------------------------------------------------------------------------- */

static st_status resolve_cycle(const resolver *r, const st_node *n, const frame *in)
{
    char path[300] = "";
    for (const frame *f = in; f; f = f->up) {
        size_t used = strlen(path);
        snprintf(path + used, sizeof path - used, "%s%.60s (%s)", used ? " <- " : "",
                 f->node->text ? f->node->text : "", f->node->where);
        if (f->node == n) break;
    }
    ST_FAIL(r->e, ST_EARG, "%s: interpolations that lead back to themselves: %s", n->where, path);
}

static st_status resolve_scalar(resolver *r, trail *t, const frame *in)
{
    st_node *n = t->node[t->n - 1], *value = NULL;
    frame here = {n, in, in ? in->depth + 1 : 0};
    for (const frame *f = in; f; f = f->up)
        if (f->node == n || f->depth >= RESOLVE_DEPTH) return resolve_cycle(r, n, in);
    scan s = {.r = r, .at = t, .in = &here, .where = n->where, .whole = n->text};
    ST_TRY(scan_text(&s, n->text, strlen(n->text), &value));
    node_become(n, value);
    n->done = true;
    return ST_OK;
}

/* The last node of the trail is ???: names its key. */
static st_status resolve_open(const resolver *r, const trail *t)
{
    char key[256] = "";
    size_t n = 0;
    for (int64_t k = 1; k < t->n && n < sizeof key - 80; k++) {
        const st_node *up = t->node[k - 1];
        for (int64_t i = 0; i < up->n; i++) {
            if (up->item[i] != t->node[k]) continue;
            const char *dot = n ? "." : "";
            n += (size_t)(up->kind == ST_NODE_MAP
                              ? snprintf(key + n, 80, "%s%.70s", dot, up->key[i])
                              : snprintf(key + n, 80, "%s%lld", dot, (long long)i));
        }
    }
    ST_FAIL(r->e, ST_EARG, "%s: %s is left open (%s); give it on the command line: %s=VALUE",
            t->node[t->n - 1]->where, key, t->node[t->n - 1]->text, key);
}

/* The last node of the trail and all below it. */
static st_status resolve_below(resolver *r, trail *t, const frame *in)
{
    st_node *n = t->node[t->n - 1];
    if (is_open(n)) ST_TRY(resolve_scalar(r, t, in));
    if (n->kind == ST_NODE_SCALAR && !n->done && !strcmp(n->text, "???")) return resolve_open(r, t);
    for (int64_t i = 0; i < n->n; i++) {
        if (t->n >= RESOLVE_TRAIL) ST_FAIL(r->e, ST_EARG, "%s: too many levels", n->where);
        t->node[t->n++] = n->item[i];
        st_status s = resolve_below(r, t, in);
        t->n--;
        ST_TRY(s);
    }
    return ST_OK;
}

st_status resolve_tree(st_node *root, st_err *e)
{
    resolver r = {.root = root, .e = e};
    trail t = {.node = {root}, .n = 1};
    return resolve_below(&r, &t, NULL);
}
