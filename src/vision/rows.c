/* The results of an evaluation, a row for each picture and seed, and going on after an
 * interruption. The file grows by whole batches. Rows are found again by their pictures' names, so
 * one that a crash or an editor has spoilt costs its own picture and no other. */
/* Long: what is written is read back, by the same columns. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "vision/inner.h"
#include <assert.h>
#include <csv.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
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

/* ---- writing --------------------------------------------------------------------------------- */

static st_status rows_failed(const st_class_rows *r, st_err *e)
{
    ST_FAIL(e, ST_EIO, "%s: cannot be written: %s%s", r->path, strerror(errno),
            errno == ENOSPC ? "; make room, and the same command goes on" : "");
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
    free(r->have);
    free(r->path);
    *r = (st_class_rows){0};
}

/* ---- reading back ---------------------------------------------------------------------------- */

/* The end of the row at `text`, or NULL if it is not whole. With `field` its fields are unquoted in
 * place. */
static char *rows_walk(char *text, char **field)
{
    char *p = text;
    for (int i = 0; i < ROWS_FIELDS; i++) {
        char *to = p;
        if (field) field[i] = p;
        if (*p == '"') {
            for (p++; *p && (*p != '"' || p[1] == '"'); p++) {
                if (*p == '"') p++;
                if (field) *to++ = *p;
            }
            if (*p++ != '"') return NULL;
        } else {
            p += strcspn(p, ",\n");
            to = p;
        }
        if (*p != (i == ROWS_FIELDS - 1 ? '\n' : ',')) return NULL;
        p++;
        if (field) *to = '\0';
    }
    return p;
}

/* The row's fields, and its end; NULL, and nothing is changed, if it is not whole. */
static char *rows_cut(char *text, char *field[ROWS_FIELDS])
{
    return rows_walk(text, NULL) ? rows_walk(text, field) : NULL;
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
    int64_t prediction;
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
    if (!st_parse_int(field[3], &prediction) || prediction != r->best[0]) return false;
    if (!r->tops || *p || !rows_number(field[5], 0, 1, &probability) ||
        !rows_number(field[6], 0, INFINITY, &loss))
        return false;
    r->probability = (float)probability;
    r->loss = (float)loss;
    return true;
}

/* Where a row is in the file; n 0: there is none. */
typedef struct {
    size_t from, n;
} rows_span;

typedef struct {
    st_class_rows *r;
    char *text, *copy; /* the file; the same, to cut up */
    size_t size;
    rows_span *at;            /* of each picture and seed */
    int64_t *by_name;         /* pictures sorted so, or NULL */
    int64_t rows, bad, first; /* read; of no use, and the number of the first of these */
    const char *why;          /* that is */
} rows_reading;

static int rows_by_name(const void *a, const void *b, void *ctx)
{
    const st_truth *t = ctx;
    return strcmp(t->name[*(const int64_t *)a], t->name[*(const int64_t *)b]);
}

/* The picture of that name, -1 for none, -2 out of memory. Rows are nearly always in order. */
static int64_t rows_image(rows_reading *d, const char *name, int64_t guess)
{
    const st_truth *t = d->r->truth;
    if (guess < t->n && strcmp(t->name[guess], name) == 0) return guess;
    if (!d->by_name) {
        d->by_name = st_calloc(t->n, sizeof *d->by_name);
        for (int64_t i = 0; d->by_name && i < t->n; i++)
            d->by_name[i] = i;
        if (!d->by_name) return -2;
        qsort_r(d->by_name, (size_t)t->n, sizeof *d->by_name, rows_by_name, (void *)(uintptr_t)t);
    }
    for (int64_t lo = 0, hi = t->n; lo < hi;) {
        int64_t mid = lo + (hi - lo) / 2, i = d->by_name[mid];
        int order = strcmp(name, t->name[i]);
        if (order == 0) return i;
        *(order < 0 ? &hi : &lo) = order < 0 ? mid : mid + 1;
    }
    return -1;
}

static void rows_useless(rows_reading *d, const char *why)
{
    if (d->bad++) return;
    d->first = d->rows;
    d->why = why;
}

/* A row of eight fields at `from`. One of other pictures or labels is of another evaluation. */
static st_status rows_place(rows_reading *d, char *const *field, rows_span at, int64_t *guess,
                            st_err *e)
{
    st_class_row row;
    const st_class_rows *r = d->r;
    if (!rows_parse(field, &row)) {
        rows_useless(d, "a number is none");
        return ST_OK;
    }
    int64_t image = rows_image(d, field[0], *guess), seed = row.seed - r->seed;
    if (image == -2) return ST_NOMEM(e, r->path);
    if (image < 0 || row.label != r->truth->label[image] || seed < 0 || seed >= r->seeds) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: row %lld is of %.100s with label %lld and seed %lld, which is none of these; "
                "give another name or --replace, or delete the row to have that picture again",
                r->path, (long long)d->rows, field[0], (long long)row.label, (long long)row.seed);
    }
    *guess = image + (seed == r->seeds - 1);
    rows_span *to = &d->at[image * r->seeds + seed];
    if (to->n)
        rows_useless(d, "it is there twice");
    else
        *to = at;
    return ST_OK;
}

/* Every row to its place. After one that is none it goes on with the next line. */
static st_status rows_read(rows_reading *d, st_err *e)
{
    char *field[ROWS_FIELDS];
    int64_t guess = 0;
    size_t from = sizeof rows_head - 1;
    while (from < d->size) {
        char *end = rows_cut(d->copy + from, field);
        size_t next = end ? (size_t)(end - d->copy) : from;
        const char *line = memchr(d->text + from, '\n', d->size - from);
        d->rows++;
        if (!end && !line) return ST_OK; /* the last one, cut short */
        if (end && memchr(d->text + from, '\0', next - from)) {
            rows_useless(d, "it has a zero byte");
        } else if (end) {
            ST_TRY(rows_place(d, field, (rows_span){from, next - from}, &guess, e));
        } else {
            rows_useless(d, "it has not 8 fields");
            next = (size_t)(line + 1 - d->text);
        }
        from = next;
    }
    return ST_OK;
}

/* Has the picture a row for each seed? */
static bool rows_whole(const rows_reading *d, int64_t image)
{
    for (int64_t k = 0; k < d->r->seeds; k++)
        if (!d->at[image * d->r->seeds + k].n) return false;
    return true;
}

/* Counts the rows of whole pictures in their order and writes the file with these alone, unless
 * that is what it is. *holes: pictures without rows before others with some. */
static st_status rows_keep(rows_reading *d, int64_t *holes, st_err *e)
{
    st_class_rows *r = d->r;
    char *out = malloc(d->size + 1), *field[ROWS_FIELDS];
    size_t n = sizeof rows_head - 1;
    int64_t last = 0;
    if (!out) return ST_NOMEM(e, r->path);
    memcpy(out, d->text, n);
    memset(r->tally, 0, (size_t)r->seeds * sizeof *r->tally);
    r->images = 0;
    for (int64_t i = 0; i < r->truth->n; i++) {
        r->have[i] = rows_whole(d, i);
        if (!r->have[i]) continue;
        r->images++;
        last = i + 1;
        for (int64_t k = 0; k < r->seeds; k++) {
            st_class_row row;
            const rows_span *at = &d->at[i * r->seeds + k];
            memcpy(out + n, d->text + at->from, at->n);
            memcpy(d->copy, d->text + at->from, at->n);
            bool fine = rows_cut(d->copy, field) && rows_parse(field, &row);
            assert(fine); /* as when it was placed */
            if (fine) st_class_count(&r->tally[k], &row);
            n += at->n;
        }
    }
    *holes = last - r->images;
    st_status s = ST_OK;
    if (n != d->size || memcmp(out, d->text, n) != 0) s = st_write_file(r->path, out, n, e);
    free(out);
    return s;
}

static void rows_say(const rows_reading *d, int64_t holes)
{
    char why[80] = "";
    if (d->bad)
        snprintf(why, sizeof why, ": %lld row%s of no use, the first is row %lld (%s)",
                 (long long)d->bad, d->bad == 1 ? " is" : "s are", (long long)d->first, d->why);
    if (holes || d->bad)
        st_log(
            ST_LOG_WARN,
            "%s%s; %lld picture%s between others %s no rows and %s classified again; %lld %s kept",
            d->r->path, why, (long long)holes, holes == 1 ? "" : "s", holes == 1 ? "has" : "have",
            holes == 1 ? "is" : "are", (long long)d->r->images, d->r->images == 1 ? "is" : "are");
}

/* Reads the file, and leaves in it what is of use; says what was not, if that is `news`. */
static st_status rows_tidy(st_class_rows *r, bool news, st_err *e)
{
    rows_reading d = {.r = r};
    int64_t holes = 0;
    ST_TRY(st_read_file(r->path, ROWS_MOST, &d.text, &d.size, e));
    d.at = st_calloc(r->truth->n * r->seeds, sizeof *d.at);
    d.copy = malloc(d.size + 1);
    st_status s = d.at && d.copy ? ST_OK : ST_ENOMEM;
    if (s) ST_ERR(e, s, "%s: out of memory", r->path);
    for (size_t i = 0; !s && i <= d.size; i++) /* a 0 within ends no text */
        d.copy[i] = d.text[i] || i == d.size ? d.text[i] : 1;
    if (!s && (d.size < sizeof rows_head - 1 || memcmp(d.text, rows_head, sizeof rows_head - 1))) {
        s = ST_ERR(e, ST_EFORMAT,
                   "%s: does not begin with the line of an evaluation; give another name", r->path);
    }
    if (!s) s = rows_read(&d, e);
    if (!s) s = rows_keep(&d, &holes, e);
    if (!s && news) rows_say(&d, holes);
    free(d.by_name);
    free(d.at);
    free(d.copy);
    free(d.text);
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
        s = ST_ERR(e, ST_EARG,
                   "%s: was made with %s %.150s, not %.150s; give another name or --replace",
                   r->path, key, a ? a : "unknown", b ? b : "this");
        free(a);
        free(b);
        break;
    }
    json_decref(found);
    return s;
}

/* What is there under the names of a new file must be an evaluation's. */
static st_status rows_ours(const char *path, const char *settings_path, st_err *e)
{
    char head[sizeof rows_head] = "";
    json_t *about = NULL;
    const char *name = path, *format = "";
    bool ours = !st_path_exists(path) || st_path_is_file(path);
    FILE *f = ours ? fopen(path, "re") : NULL;
    size_t n = f ? fread(head, 1, sizeof head - 1, f) : 0;
    if (f) fclose(f);
    ours = ours && memcmp(head, rows_head, n) == 0; /* or its beginning */
    if (ours && st_path_exists(settings_path)) {
        name = settings_path;
        ours = !st_json_load(&about, settings_path, 1 << 24, NULL) &&
               !json_unpack(about, "{s:{s:s}}", "settings", "format", &format) &&
               strncmp(format, "strut classify", 14) == 0;
        json_decref(about);
    }
    if (ours) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: is no file of an evaluation, so it is not replaced; give another name",
            name);
}

static st_status rows_fresh(st_class_rows *r, int fd, const char *settings_path,
                            const json_t *settings, st_err *e)
{
    /* first: rows never stand under settings that are not theirs */
    if (ftruncate(fd, 0)) return rows_failed(r, e);
    json_t *about = json_pack("{s:O}", "settings", settings);
    st_status s = about ? st_write_json(settings_path, about, e) : ST_NOMEM(e, NULL);
    json_decref(about);
    ST_TRY(s);
    r->f = fdopen(dup(fd), "a");
    if (!r->f || fputs(rows_head, r->f) < 0 || fflush(r->f)) return rows_failed(r, e);
    return ST_OK;
}

/* The descriptor that the rows go through holds the lock: that of the file which is there now. */
static st_status rows_lock(const st_class_rows *r, int fd, st_err *e)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return ST_OK;
    if (errno != EWOULDBLOCK) return rows_failed(r, e);
    ST_FAIL(e, ST_EARG,
            "%s: another process is writing to it; wait for that one or give another name",
            r->path);
}

static st_status rows_resume(st_class_rows *r, int fd, st_err *e)
{
    struct stat was, now;
    ST_TRY(rows_tidy(r, true, e)); /* may put a new file in place */
    bool same = fstat(fd, &was) == 0 && stat(r->path, &now) == 0 && was.st_ino == now.st_ino;
    r->f = same ? fdopen(dup(fd), "a") : fopen(r->path, "ae");
    if (!r->f) return rows_failed(r, e);
    return same ? ST_OK : rows_lock(r, fileno(r->f), e);
}

st_status st_class_rows_end(st_class_rows *r, st_err *e)
{
    if (!r->f || !r->astray) return ST_OK;
    int failed = fclose(r->f);
    r->f = NULL;
    return failed ? rows_failed(r, e) : rows_tidy(r, false, e);
}

st_status st_class_rows_open(st_class_rows *r, const char *path, bool replace,
                             const json_t *settings, st_err *e)
{
    char *about = NULL;
    if (!path) return ST_OK;
    r->path = strdup(path);
    r->have = st_calloc(r->truth->n, sizeof *r->have);
    st_status s = r->path && r->have && asprintf(&about, "%s.json", path) >= 0 ? ST_OK : ST_ENOMEM;
    if (s) {
        st_class_rows_close(r);
        return ST_NOMEM(e, path);
    }
    struct stat st;
    bool there = !replace && !stat(path, &st) && st.st_size > 0; /* none: a start that was killed */
    if (there) s = rows_same(r, about, settings, e);
    if (!there) s = rows_ours(path, about, e);
    int fd = s ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (!s) s = fd < 0 ? rows_failed(r, e) : rows_lock(r, fd, e);
    if (!s) s = there ? rows_resume(r, fd, e) : rows_fresh(r, fd, about, settings, e);
    if (fd >= 0) close(fd);
    free(about);
    if (s) st_class_rows_close(r);
    return s;
}
