/* The results of an evaluation, a row for each picture and seed, and going on after an
 * interruption. The file grows by whole batches; what a killed process left of a row is cut off. */
/* SPDX-License-Identifier: MIT */
#include "job/classify.h"
#include <csv.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char rows_head[] = "path,label,seed,prediction,top5,probability,loss,error\n";
enum { ROWS_FIELDS = 8, ROWS_TOP = 5 };
static const size_t ROWS_MOST = (size_t)4 << 30;

void st_class_count(st_class_tally *t, const st_class_row *r)
{
    if (r->error) {
        t->broken++;
        return;
    }
    t->images++;
    t->loss += (double)r->loss;
    t->right += r->best[0] == r->label;
    for (int k = 0; k < r->tops; k++)
        t->right5 += r->best[k] == r->label;
}

/* ---- writing -------------------------------------------------------------------------------- */

static st_status rows_failed(const st_class_rows *r, st_err *e)
{
    ST_FAIL(e, ST_EIO, "%s: cannot be written: %s", r->path, strerror(errno));
}

st_status st_class_rows_add(st_class_rows *r, const char *name, const st_class_row *row, st_err *e)
{
    FILE *f = r->f;
    if (!f) return ST_OK;
    csv_fwrite(f, name, strlen(name));
    fprintf(f, ",%lld,%lld,", (long long)row->label, (long long)row->seed);
    if (row->error) {
        fputs(",,,,", f);
        csv_fwrite(f, row->error, strlen(row->error));
    } else {
        fprintf(f, "%lld,", (long long)row->best[0]);
        for (int k = 0; k < row->tops; k++)
            fprintf(f, k ? " %lld" : "%lld", (long long)row->best[k]);
        fprintf(f, ",%.9g,%.9g,", (double)row->probability, (double)row->loss);
    }
    putc('\n', f);
    return ferror(f) ? rows_failed(r, e) : ST_OK;
}

st_status st_class_rows_flush(st_class_rows *r, st_err *e)
{
    return r->f && fflush(r->f) ? rows_failed(r, e) : ST_OK;
}

void st_class_rows_close(st_class_rows *r)
{
    if (r->f) fclose(r->f);
    free(r->path);
    *r = (st_class_rows){0};
}

/* ---- reading back --------------------------------------------------------------------------- */

/* The fields of the row at `text`, unquoted in place; its end, or NULL if it is not whole. */
static char *rows_cut(char *text, char *field[ROWS_FIELDS])
{
    char *p = text;
    for (int i = 0; i < ROWS_FIELDS; i++) {
        char *to = field[i] = p;
        if (*p == '"') {
            for (p++; *p && (*p != '"' || p[1] == '"'); p++) {
                if (*p == '"') p++;
                *to++ = *p;
            }
            if (*p++ != '"') return NULL;
        } else {
            p += strcspn(p, ",\n");
            to = p;
        }
        if (*p != (i == ROWS_FIELDS - 1 ? '\n' : ',')) return NULL;
        p++;
        *to = '\0';
    }
    return p;
}

static bool rows_number(const char *text, double lo, double hi, double *out)
{
    return st_parse_num(text, out) && *out >= lo && *out <= hi;
}

/* The numbers of a row; false: they are none of ours. */
static bool rows_parse(char *const *field, st_class_row *r)
{
    double probability = 0, loss = 0;
    *r = (st_class_row){.best = {-1, -1, -1, -1, -1}};
    if (!st_parse_int(field[1], &r->label) || !st_parse_int(field[2], &r->seed)) return false;
    if (*field[7]) {
        r->error = field[7];
        return true;
    }
    char *p = field[4];
    for (; *p && r->tops < ROWS_TOP; r->tops++) {
        char *end = p + strcspn(p, " "), *next = *end ? end + 1 : end;
        *end = '\0';
        if (!st_parse_int(p, &r->best[r->tops])) return false;
        p = next;
    }
    if (!r->tops || *p || !rows_number(field[5], 0, 1, &probability) ||
        !rows_number(field[6], 0, INFINITY, &loss))
        return false;
    r->probability = (float)probability;
    r->loss = (float)loss;
    return true;
}

/* Counts the rows of pictures that have one for each seed; *size: bytes of them with the head. */
static st_status rows_read(st_class_rows *r, const st_truth *truth, int64_t seeds,
                           st_class_tally *tally, size_t *size, st_err *e)
{
    char *text, *field[ROWS_FIELDS];
    size_t n, head = sizeof rows_head - 1;
    ST_TRY(st_read_file(r->path, ROWS_MOST, &text, &n, e));
    st_class_row *seed = st_calloc(seeds, sizeof *seed);
    st_status s = seed ? ST_OK : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    *size = head;
    if (!s && (n < head || memcmp(text, rows_head, head) != 0)) {
        s = st_fail(e, ST_EFORMAT, __FILE__, __LINE__,
                    "%s: does not begin with the line of an evaluation; give another name or "
                    "--replace",
                    r->path);
    }
    for (char *p = text + *size; !s && *p;) {
        st_class_row row;
        int64_t image = r->rows / seeds;
        char *end = rows_cut(p, field);
        if (!end) break; /* the last one, cut short */
        if (image >= truth->n || strcmp(field[0], truth->name[image]) != 0 ||
            !rows_parse(field, &row) || row.label != truth->label[image]) {
            s = st_fail(e, ST_EFORMAT, __FILE__, __LINE__,
                        "%s: row %lld is not of picture %lld of these (%.100s); give another name "
                        "or --replace",
                        r->path, (long long)r->rows + 1, (long long)image + 1,
                        image < truth->n ? truth->name[image] : "there are fewer");
            break;
        }
        seed[r->rows++ % seeds] = row;
        p = end;
        if (r->rows % seeds) continue;
        for (int64_t k = 0; k < seeds; k++)
            st_class_count(&tally[k], &seed[k]);
        *size = (size_t)(p - text);
    }
    r->rows -= r->rows % seeds;
    free(seed);
    free(text);
    return s;
}

/* Are these the settings of the rows that are there? */
static st_status rows_same(const st_class_rows *r, const char *path, const json_t *settings,
                           st_err *e)
{
    json_t *found = NULL, *was;
    const char *key;
    const json_t *now;
    if (!st_path_exists(path)) {
        ST_FAIL(e, ST_EARG,
                "%s: is there, but not %s, which says how it was made; give another name or "
                "--replace",
                r->path, path);
    }
    ST_TRY(st_json_load(&found, path, 1 << 24, e));
    st_status s = ST_OK;
    json_object_foreach((json_t *)(uintptr_t)settings, key, now)
    {
        was = json_object_get(json_object_get(found, "settings"), key);
        if (was && json_equal(was, now)) continue;
        char *a =
            was ? json_dumps(was, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
        char *b = json_dumps(now, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
        s = st_fail(e, ST_EARG, __FILE__, __LINE__,
                    "%s: was made with %s %.150s, not %.150s; give another name or --replace",
                    r->path, key, a ? a : "unknown", b ? b : "this");
        free(a);
        free(b);
        break;
    }
    json_decref(found);
    return s;
}

static st_status rows_fresh(st_class_rows *r, const char *settings_path, const json_t *settings,
                            st_err *e)
{
    json_t *about = json_pack("{s:O}", "settings", settings);
    st_status s = about ? st_write_json(settings_path, about, e)
                        : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    json_decref(about);
    ST_TRY(s);
    r->f = fopen(r->path, "we");
    if (!r->f || fputs(rows_head, r->f) < 0 || fflush(r->f)) return rows_failed(r, e);
    return ST_OK;
}

static st_status rows_resume(st_class_rows *r, const st_truth *truth, int64_t seeds,
                             st_class_tally *tally, st_err *e)
{
    size_t size;
    ST_TRY(rows_read(r, truth, seeds, tally, &size, e));
    if (truncate(r->path, (off_t)size) || !(r->f = fopen(r->path, "ae"))) return rows_failed(r, e);
    return ST_OK;
}

st_status st_class_rows_open(st_class_rows *r, const char *path, bool replace,
                             const json_t *settings, const st_truth *truth, int64_t seeds,
                             st_class_tally *tally, st_err *e)
{
    char *about = NULL;
    *r = (st_class_rows){0};
    if (!path) return ST_OK;
    r->path = strdup(path);
    if (!r->path || asprintf(&about, "%s.json", path) < 0) {
        about = NULL;
        st_class_rows_close(r);
        ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    }
    st_status s = ST_OK;
    bool there = !replace && st_path_exists(path);
    if (there) s = rows_same(r, about, settings, e);
    if (!s) s = there ? rows_resume(r, truth, seeds, tally, e) : rows_fresh(r, about, settings, e);
    free(about);
    if (s) st_class_rows_close(r);
    return s;
}
