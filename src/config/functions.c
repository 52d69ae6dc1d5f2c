/* What an interpolation may call: the environment, the clock and sums of numbers. Nothing runs
 * code: ${eval:...} is refused. */
/* SPDX-License-Identifier: MIT */
#include "config/resolve.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static st_status call_refuse(const call *c, const char *what)
{
    ST_FAIL(c->e, ST_EARG, "%s: %.100s: %s", c->where, c->text, what);
}

static st_status call_text(const call *c, const char *text, st_node **out)
{
    *out = node_new(ST_NODE_SCALAR, text, c->where);
    if (!*out) return ST_NOMEM(c->e, c->where);
    (*out)->quoted = true;
    return ST_OK;
}

static st_status call_copy(const call *c, const st_node *n, st_node **out)
{
    *out = node_copy(n, c->where);
    if (!*out) return ST_NOMEM(c->e, c->where);
    return ST_OK;
}

/* oc.env:VAR, oc.env:VAR,default: always text, or null. */
static st_status call_env(const call *c, st_node *const *arg, int64_t n, st_node **out)
{
    char text[64];
    const char *found = NULL;
    if (n < 1 || n > 2 || arg[0]->kind != ST_NODE_SCALAR)
        return call_refuse(c, "expected ${oc.env:NAME} or ${oc.env:NAME,default}");
    found = getenv(arg[0]->text);
    if (found) return call_text(c, found, out);
    if (n < 2) {
        ST_FAIL(c->e, ST_EARG,
                "%s: %.100s: the environment has no %.60s; set it, or write "
                "${oc.env:%.60s,default}",
                c->where, c->text, arg[0]->text, arg[0]->text);
    }
    if (node_is_null(arg[1])) return call_copy(c, arg[1], out);
    ST_TRY(scalar_str(arg[1], text, sizeof text, &found, c->e));
    return call_text(c, found, out);
}

static st_status call_decode(const call *c, st_node *const *arg, int64_t n, st_node **out)
{
    if (n != 1 || arg[0]->kind != ST_NODE_SCALAR) return call_refuse(c, "expected one text");
    if (node_is_null(arg[0])) return call_copy(c, arg[0], out);
    return override_element(out, arg[0]->text, c->where, c->e);
}

/* One conversion of strftime's; false: one that is not here. */
static bool put_time(FILE *f, char letter, time_t now, const struct tm *t)
{
    switch (letter) {
    case 'Y': fprintf(f, "%04d", t->tm_year + 1900); break;
    case 'y': fprintf(f, "%02d", t->tm_year % 100); break;
    case 'm': fprintf(f, "%02d", t->tm_mon + 1); break;
    case 'd': fprintf(f, "%02d", t->tm_mday); break;
    case 'j': fprintf(f, "%03d", t->tm_yday + 1); break;
    case 'H': fprintf(f, "%02d", t->tm_hour); break;
    case 'M': fprintf(f, "%02d", t->tm_min); break;
    case 'S': fprintf(f, "%02d", t->tm_sec); break;
    case 's': fprintf(f, "%lld", (long long)now); break;
    case '%': fputc('%', f); break;
    default: return false;
    }
    return true;
}

static st_status call_now(const call *c, st_node *const *arg, int64_t n, st_node **out)
{
    char *text = NULL;
    size_t size = 0;
    time_t now = time(NULL);
    struct tm tm = {0};
    bool ok = n == 1 && arg[0]->kind == ST_NODE_SCALAR && localtime_r(&now, &tm);
    FILE *f = open_memstream(&text, &size);
    for (const char *p = ok ? arg[0]->text : ""; f && ok && *p; p++) {
        if (*p != '%')
            fputc(*p, f);
        else
            ok = put_time(f, *++p, now, &tm);
    }
    if (!f || fclose(f) != 0) ok = false;
    st_status s = ok ? call_text(c, text, out)
                     : call_refuse(c, "expected ${now:FORMAT} of %Y %m %d %H %M %S %y %j %s");
    free(text);
    return s;
}

/* hydra:runtime.cwd is the one value of Hydra's own that has a meaning here. */
static st_status call_hydra(const call *c, st_node *const *arg, int64_t n, st_node **out)
{
    char cwd[4096];
    if (n != 1 || arg[0]->kind != ST_NODE_SCALAR || strcmp(arg[0]->text, "runtime.cwd") != 0)
        return call_refuse(c, "of Hydra's own values there is ${hydra:runtime.cwd} only");
    if (!getcwd(cwd, sizeof cwd)) return call_refuse(c, "the working folder is gone");
    return call_text(c, cwd, out);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static st_status call_number(const call *c, st_scalar v, st_node **out)
{
    char text[48];
    if (v.kind == ST_SCALAR_INT)
        snprintf(text, sizeof text, "%lld", (long long)v.i);
    else if (!isfinite(v.x))
        return call_refuse(c, "the result is not a number");
    else
        scalar_put_num(v.x, text, sizeof text);
    *out = node_new(ST_NODE_SCALAR, text, c->where);
    if (!*out) return ST_NOMEM(c->e, c->where);
    return ST_OK;
}

static st_status call_sum(const call *c, char op, st_node *const *arg, int64_t n, st_node **out)
{
    st_scalar sum = {0};
    for (int64_t i = 0; i < n; i++) {
        st_scalar v = st_node_scalar(arg[i]);
        bool over = false, whole = v.kind == ST_SCALAR_INT && sum.kind == ST_SCALAR_INT;
        if (v.kind != ST_SCALAR_INT && v.kind != ST_SCALAR_NUM)
            return call_refuse(c, "expected numbers");
        if (i == 0) {
            sum = v;
        } else if (whole) {
            over = op == '*'   ? __builtin_mul_overflow(sum.i, v.i, &sum.i)
                   : op == '+' ? __builtin_add_overflow(sum.i, v.i, &sum.i)
                               : __builtin_sub_overflow(sum.i, v.i, &sum.i);
            sum.x = (double)sum.i;
        } else {
            sum.kind = ST_SCALAR_NUM;
            sum.x = op == '*' ? sum.x * v.x : op == '+' ? sum.x + v.x : sum.x - v.x;
        }
        if (over) return call_refuse(c, "too large a number");
    }
    if (n < 2) return call_refuse(c, "expected two numbers or more");
    return call_number(c, sum, out);
}

/* a / b of whole numbers, rounded up or down. */
static st_status call_div(const call *c, bool up, st_node *const *arg, int64_t n, st_node **out)
{
    st_scalar a = {0}, b = {0};
    if (n == 2) a = st_node_scalar(arg[0]), b = st_node_scalar(arg[1]);
    if (n != 2 || a.kind != ST_SCALAR_INT || b.kind != ST_SCALAR_INT || b.i <= 0)
        return call_refuse(c, "expected two whole numbers, the second above 0");
    int64_t rest = a.i % b.i;
    a.i = a.i / b.i + (up && rest > 0) - (!up && rest < 0);
    return call_number(c, a, out);
}

st_status function_call(const call *c, const char *name, st_node *const *arg, int64_t n,
                        st_node **out)
{
    static const char *const names[] = {"oc.env", "oc.select", "oc.decode", "div",
                                        "div_up", "mul",       "add",       "sub",
                                        "now",    "hydra",     NULL};
    if (!strcmp(name, "oc.env")) return call_env(c, arg, n, out);
    if (!strcmp(name, "oc.decode")) return call_decode(c, arg, n, out);
    if (!strcmp(name, "div_up")) return call_div(c, true, arg, n, out);
    if (!strcmp(name, "div")) return call_div(c, false, arg, n, out);
    if (!strcmp(name, "mul")) return call_sum(c, '*', arg, n, out);
    if (!strcmp(name, "add")) return call_sum(c, '+', arg, n, out);
    if (!strcmp(name, "sub")) return call_sum(c, '-', arg, n, out);
    if (!strcmp(name, "now")) return call_now(c, arg, n, out);
    if (!strcmp(name, "hydra")) return call_hydra(c, arg, n, out);
    if (!strcmp(name, "eval"))
        return call_refuse(c, "eval runs code, which a config must not; write the number, or "
                              "${mul:A,B}, ${add:A,B}, ${sub:A,B}, ${div:A,B}, ${div_up:A,B}");
    const char *near = st_nearest(name, names);
    ST_FAIL(c->e, ST_EARG,
            "%s: %.100s: unknown resolver %.40s%s%s%s; there are oc.env, oc.select, oc.decode, "
            "div, div_up, mul, add, sub, now",
            c->where, c->text, name, near ? "; did you mean " : "", near ? near : "",
            near ? "?" : "");
}
