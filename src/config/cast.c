/* Hydra's casts of values on a command line: int(x), float(x), bool(x), str(x), of a list or map of
 * each value in it. */
/* SPDX-License-Identifier: MIT */
#include "config/override.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const cast_names[] = {"int", "float", "bool", "str"};
enum { CAST_INT, CAST_FLOAT, CAST_BOOL, CAST_STR, CASTS };

int config_cast(const char *name, size_t n)
{
    for (int i = 0; i < CASTS; i++)
        if (strlen(cast_names[i]) == n && !strncmp(name, cast_names[i], n)) return i;
    return -1;
}

/* A scalar; quoted text is read as if it were plain, but by str(). */
static bool cast_scalar(st_node *n, int cast)
{
    char text[64];
    st_node plain = *n;
    plain.quoted = plain.word = false;
    st_scalar v = st_node_scalar(cast == CAST_STR ? n : &plain);
    bool number = v.kind == ST_SCALAR_INT || v.kind == ST_SCALAR_NUM,
         flag = v.kind == ST_SCALAR_FLAG;
    double x = flag ? (double)v.flag : v.x;
    if (cast == CAST_STR) {
        const char *as = v.kind == ST_SCALAR_NULL ? "null"
                         : flag                   ? v.flag ? "true" : "false"
                                                  : NULL;
        if (v.kind == ST_SCALAR_NUM) scalar_put_num(v.x, text, sizeof text);
        if (v.kind == ST_SCALAR_NUM) as = text;
        char *copy = strdup(as ? as : n->text);
        if (!copy) return false;
        free(n->text);
        n->text = copy;
        n->quoted = true;
        n->word = false;
        return true;
    }
    if (!number && !flag) return false;
    if (n->quoted && (cast == CAST_BOOL ? !flag : !number)) return false;       /* int('true') */
    if (n->quoted && cast == CAST_INT && v.kind != ST_SCALAR_INT) return false; /* int('1.5') */
    if (cast == CAST_BOOL) {
        strcpy(text, x < 0.0 || x > 0.0 || isnan(x) ? "true" : "false");
    } else if (cast == CAST_FLOAT) {
        scalar_put_num(x, text, sizeof text);
    } else {
        if (!(fabs(x) < 9e18)) return false;
        snprintf(text, sizeof text, "%lld",
                 v.kind == ST_SCALAR_INT ? (long long)v.i : (long long)x);
    }
    char *copy = strdup(text);
    if (!copy) return false;
    free(n->text);
    n->text = copy;
    n->quoted = n->word = false;
    return true;
}

bool config_cast_node(st_node *n, int cast)
{
    if (n->kind == ST_NODE_SCALAR) return cast_scalar(n, cast);
    bool fine = true;
    for (int64_t i = 0; i < n->n; i++)
        fine = config_cast_node(n->item[i], cast) && fine;
    return fine;
}
