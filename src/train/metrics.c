/* Metrics of a run: OUT/metrics.jsonl and OUT/metrics.csv, one row a line, and the same rows in
 * memory. A resumed run goes on in the same files: rows later than its checkpoint are cut off
 * first, so that no step stands there twice. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { METRIC_LINE = 4096, METRIC_CURVE = 1 << 16 };

/* Columns: these, the parts of the loss, then what the caller adds. */
enum { COL_STEP, COL_TOKENS, COL_LOSS, COL_LR, COL_NORM, COL_SPEED, COL_SECONDS, COL_VAL, COL_PPL };
enum { COL_PARTS = COL_PPL + 1, COL_MORE = COL_PARTS + ST_PARTS_OF_LOSS };
static const char *const metrics_base[COL_MORE] = {
    "step",     "tokens",         "loss", "lr", "grad_norm", "tokens_per_second", "seconds",
    "val_loss", "val_perplexity", "ce",   "kl", "hidden",    "embedding"};

static const char *metrics_name(const st_metrics *m, int column)
{
    return column < COL_MORE ? metrics_base[column] : m->name[column - COL_MORE];
}

/* Value of a column of a row; NAN: it has none. */
static double metrics_value(const st_metrics *m, const st_metric *row, int column)
{
    bool val = !isnan(row->val_loss);
    switch (column) {
    case COL_STEP: return (double)row->step;
    case COL_SECONDS: return row->seconds;
    case COL_VAL: return row->val_loss;
    case COL_PPL: return val ? fmin(exp(row->val_loss), 1e300) : (double)NAN;
    default: break;
    }
    if (val) return (double)NAN;
    switch (column) {
    case COL_TOKENS: return (double)row->tokens;
    case COL_LOSS: return row->loss;
    case COL_LR: return row->lr;
    case COL_NORM: return row->grad_norm;
    case COL_SPEED: return row->tokens_per_second;
    default: break;
    }
    if (column < COL_MORE) return m->parts ? row->part[column - COL_PARTS] : (double)NAN;
    return row->more ? row->more[column - COL_MORE] : (double)NAN;
}

static void metrics_print(char number[40], int column, double x)
{
    if (column == COL_STEP || column == COL_TOKENS)
        snprintf(number, 40, "%.0f", x);
    else if (column == COL_SECONDS)
        snprintf(number, 40, "%.3f", x);
    else if (column == COL_SPEED || column >= COL_MORE)
        snprintf(number, 40, "%.6g", x);
    else
        snprintf(number, 40, "%.9g", x);
}

static st_status curve_open(struct st_curve *c, int64_t rows, st_err *e)
{
    *c = (struct st_curve){.stride = rows / METRIC_CURVE + 1};
    c->cap = rows / c->stride + 2;
    c->row = st_calloc(c->cap, sizeof *c->row);
    if (!c->row) ST_FAIL(e, ST_ENOMEM, "metrics: out of memory for %lld rows", (long long)rows);
    return ST_OK;
}

static void curve_add(struct st_curve *c, const st_metric *row)
{
    if (c->seen++ % c->stride == 0 && c->n < c->cap) c->row[c->n++] = *row;
}

static void metrics_keep(st_metrics *m, const st_metric *row)
{
    curve_add(isnan(row->val_loss) ? &m->train : &m->val, row);
}

/* ---- reading back ---------------------------------------------------------------------------- */

/* A row of metrics.jsonl; false for anything else. */
static bool metrics_parse(const char *line, size_t n, st_metric *row)
{
    json_t *j;
    double step = -1, tokens = 0;
    if (st_json_parse(&j, line, n, "metrics", NULL)) return false;
    *row = (st_metric){.val_loss = (double)NAN};
    const struct {
        const char *key;
        double *at;
    } field[] = {{"step", &step},
                 {"tokens", &tokens},
                 {"loss", &row->loss},
                 {"lr", &row->lr},
                 {"grad_norm", &row->grad_norm},
                 {"tokens_per_second", &row->tokens_per_second},
                 {"seconds", &row->seconds},
                 {"val_loss", &row->val_loss}};
    for (size_t i = 0; json_is_object(j) && i < sizeof field / sizeof field[0]; i++)
        st_json_num(j, field[i].key, -1e300, 1e300, field[i].at, "metrics", NULL);
    for (int i = 0; json_is_object(j) && i < ST_PARTS_OF_LOSS; i++)
        st_json_num(j, metrics_base[COL_PARTS + i], -1e300, 1e300, &row->part[i], "metrics", NULL);
    json_decref(j);
    row->step = (int64_t)step;
    row->tokens = (int64_t)tokens;
    return step >= 0;
}

/* The columns of a CSV that is there, those of older and of other runs too; false: it is no CSV of
 * metrics. */
static bool metrics_columns(st_metrics *m, char *line)
{
    char *at = line, *word;
    m->columns = 0;
    line[strcspn(line, "\n")] = '\0';
    while ((word = strsep(&at, ",")) && m->columns < ST_METRIC_COLUMNS) {
        int c = 0;
        while (c < COL_MORE + m->names && strcmp(word, metrics_name(m, c)) != 0)
            c++;
        if (m->columns < COL_PARTS && c != m->columns) return false;
        m->column[m->columns++] = c < COL_MORE + m->names ? c : -1;
    }
    return m->columns >= COL_PARTS;
}

/* Those of a new CSV, and its first line. */
static bool metrics_head(st_metrics *m)
{
    m->columns = 0;
    for (int c = 0; c < COL_MORE + m->names; c++) {
        if (!m->parts && c >= COL_PARTS && c < COL_MORE) continue;
        if (fprintf(m->csv, "%s%s", c ? "," : "", metrics_name(m, c)) < 0) return false;
        m->column[m->columns++] = c;
    }
    return fputc('\n', m->csv) != EOF;
}

/* Length of the part of `f` whose rows are not later than `step` and `evaluated`: rows are in
 * order, so what is to be dropped is at the end, a line that a crash cut short included. */
static long metrics_prefix(st_metrics *m, FILE *f, bool csv, int64_t step, int64_t evaluated)
{
    char line[METRIC_LINE];
    long good = 0;
    while (fgets(line, sizeof line, f)) {
        size_t n = strlen(line);
        bool head = csv && good == 0;
        st_metric row;
        if (n == 0 || line[n - 1] != '\n') break;
        if (csv && !head) {
            char *comma;
            row.step = strtoll(line, &comma, 10);
            bool val = strncmp(comma, ",,", 2) == 0;
            if (*comma != ',' || row.step > (val ? evaluated : step)) break;
        } else if (head) {
            if (!metrics_columns(m, line)) break;
        } else if (!metrics_parse(line, n, &row)) {
            break;
        } else {
            if (row.step > (isnan(row.val_loss) ? step : evaluated)) break;
            metrics_keep(m, &row);
        }
        good += (long)n;
    }
    return good;
}

static st_status metrics_file(st_metrics *m, FILE **f, const char *out, const char *name,
                              int64_t step, int64_t evaluated, st_err *e)
{
    bool csv = f == &m->csv;
    char *path = st_path_join(out, name);
    if (!path) return ST_NOMEM(e, out);
    st_status s = ST_OK;
    bool plain = !st_path_exists(path) || st_path_is_file(path); /* opening a pipe would wait */
    if (!plain) errno = EINVAL;
    *f = plain ? fopen(path, "a+e") : NULL;
    if (!*f) {
        s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (flock(fileno(*f), LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        s = ST_ERR(e, ST_EARG,
                   "%s: another process is training in this folder; wait for it or choose another "
                   "out=",
                   path);
        goto out;
    }
    setvbuf(*f, m->buffer[csv], _IOFBF, METRIC_BUFFER);
    rewind(*f);
    long good = metrics_prefix(m, *f, csv, step, evaluated);
    if (fseek(*f, 0, SEEK_END) || ftruncate(fileno(*f), good) ||
        (csv && good == 0 && !metrics_head(m)) || fflush(*f))
        s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
out:
    if (csv)
        free(path);
    else
        m->path = path;
    return s;
}

st_status st_metrics_open(st_metrics *m, const char *out, bool parts, int64_t step,
                          int64_t evaluated, int64_t train_rows, int64_t val_rows, st_err *e)
{
    m->parts = parts;
    st_status s = curve_open(&m->train, train_rows, e);
    if (!s) s = curve_open(&m->val, val_rows, e);
    if (!s && out) s = metrics_file(m, &m->json, out, "metrics.jsonl", step, evaluated, e);
    if (!s && out) s = metrics_file(m, &m->csv, out, "metrics.csv", step, evaluated, e);
    if (s) st_metrics_close(m);
    return s;
}

/* ---- writing --------------------------------------------------------------------------------- */

static st_status metrics_put(const st_metrics *m, FILE *f, const char *line, st_err *e)
{
    if (fputs(line, f) < 0 || fflush(f)) {
        bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
        ST_FAIL(e, ST_EIO, "%s (or metrics.csv beside it): cannot be written: %s%s", m->path,
                strerror(errno), full ? "; make room and run again" : "");
    }
    return ST_OK;
}

static st_status metrics_put_json(st_metrics *m, const st_metric *row, st_err *e)
{
    char line[METRIC_LINE], number[40];
    size_t n = 0;
    for (int c = 0; c < COL_MORE + m->names && n < sizeof line; c++) {
        double x = metrics_value(m, row, c);
        if (!isfinite(x)) continue;
        metrics_print(number, c, x);
        n += (size_t)snprintf(line + n, sizeof line - n, "%s\"%s\": %s", n ? ", " : "{",
                              metrics_name(m, c), number);
    }
    if (n < sizeof line) n += (size_t)snprintf(line + n, sizeof line - n, "}\n");
    return metrics_put(m, m->json, line, e);
}

static st_status metrics_put_csv(st_metrics *m, const st_metric *row, st_err *e)
{
    char line[METRIC_LINE], number[40];
    size_t n = 0;
    for (int i = 0; i < m->columns && n < sizeof line; i++) {
        int c = m->column[i];
        double x = c < 0 ? (double)NAN : metrics_value(m, row, c);
        number[0] = '\0';
        if (isfinite(x)) metrics_print(number, c, x);
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", i ? "," : "", number);
    }
    if (n < sizeof line) n += (size_t)snprintf(line + n, sizeof line - n, "\n");
    return metrics_put(m, m->csv, line, e);
}

bool st_metrics_lost(const st_metrics *m)
{
    struct stat at, open;
    if (!m->json || fstat(fileno(m->json), &open)) return false;
    return stat(m->path, &at) || at.st_dev != open.st_dev || at.st_ino != open.st_ino;
}

st_status st_metrics_add(st_metrics *m, const st_metric *row, st_err *e)
{
    metrics_keep(m, row);
    if (!m->json) return ST_OK;
    ST_TRY(metrics_put_json(m, row, e));
    return metrics_put_csv(m, row, e);
}

/* ---- the result ------------------------------------------------------------------------------ */

static json_t *curve_column(const struct st_curve *c, size_t at)
{
    json_t *list = json_array();
    for (int64_t i = 0; list && i < c->n; i++) {
        const void *field = (const char *)&c->row[i] + at;
        json_array_append_new(list, json_real(*(const double *)field));
    }
    return list;
}

static json_t *curve_steps(const struct st_curve *c)
{
    json_t *list = json_array();
    for (int64_t i = 0; list && i < c->n; i++)
        json_array_append_new(list, json_integer(c->row[i].step));
    return list;
}

void st_metrics_result(const st_metrics *m, json_t *result)
{
    json_object_set_new(result, "curve",
                        json_pack("{s:o, s:o, s:o, s:o, s:o}", "step", curve_steps(&m->train),
                                  "loss", curve_column(&m->train, offsetof(st_metric, loss)), "lr",
                                  curve_column(&m->train, offsetof(st_metric, lr)), "grad_norm",
                                  curve_column(&m->train, offsetof(st_metric, grad_norm)),
                                  "tokens_per_second",
                                  curve_column(&m->train, offsetof(st_metric, tokens_per_second))));
    for (int i = 0; m->parts && i < ST_PARTS_OF_LOSS; i++)
        json_object_set_new(json_object_get(result, "curve"), metrics_base[COL_PARTS + i],
                            curve_column(&m->train, offsetof(st_metric, part) +
                                                        (size_t)i * sizeof m->train.row->part[0]));
    json_object_set_new(result, "validation",
                        json_pack("{s:o, s:o}", "step", curve_steps(&m->val), "loss",
                                  curve_column(&m->val, offsetof(st_metric, val_loss))));
}

void st_metrics_close(st_metrics *m)
{
    if (m->json) fclose(m->json);
    if (m->csv) fclose(m->csv);
    free(m->path);
    free(m->train.row);
    free(m->val.row);
    m->path = NULL;
    m->json = m->csv = NULL;
    m->train = m->val = (struct st_curve){0};
}
