/* strut prepare: text -> token shards that nanoGPT reads, split into training and validation. */
/* SPDX-License-Identifier: MIT */
#include "job/encode.h"
#include "job/job.h"
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PREPARE_PIECE = 1 << 20, PREPARE_BLOCK = 1 << 14, PREPARE_CONTEXT = 1024 };
/* What val.bin has at least if no fraction was asked for: ten contexts, or a tenth of a small text.
 */
enum { PREPARE_FLOOR = 10 * PREPARE_CONTEXT + 1 };
enum { TRAIN, VAL };

/* One of the two files, as it grows. */
typedef struct {
    const char *name;
    char *path;
    FILE *f;
    int64_t tokens, documents;
} prepare_file;

typedef struct {
    const st_prepare_opts *o;
    double fraction;
    int32_t eos;
    prepare_file file[2];
    int64_t documents; /* begun */
    bool within;       /* the next ids go on with a document */
    int side;          /* where they go */
    bool by_tokens;
    int64_t bytes; /* of text */
} prepare_state;

/* ---- writing -------------------------------------------------------------------------------- */

static st_status prepare_failed(const prepare_file *f, st_err *e)
{
    int why = errno ? errno : EIO;
    ST_FAIL(e, ST_EIO, "%s: cannot be written: %s%s", f->name, strerror(why),
            why == ENOSPC || why == EDQUOT ? "; make room and run again, nothing was kept" : "");
}

static st_status prepare_create(prepare_file *f, const char *dir, const char *name, st_err *e)
{
    f->name = name;
    f->path = st_path_join(dir, name);
    if (!f->path) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", name);
    errno = 0;
    f->f = fopen(f->path, "w+be");
    return f->f ? ST_OK : prepare_failed(f, e);
}

static st_status prepare_put(prepare_file *f, const int32_t *id, int64_t n, st_err *e)
{
    uint16_t token[PREPARE_BLOCK]; /* ids are < 65536: the vocabulary is checked */
    for (int64_t i = 0; i < n; i += PREPARE_BLOCK) {
        size_t k = n - i < PREPARE_BLOCK ? (size_t)(n - i) : PREPARE_BLOCK;
        for (size_t j = 0; j < k; j++)
            token[j] = (uint16_t)id[i + (int64_t)j];
        errno = 0;
        if (fwrite(token, sizeof *token, k, f->f) != k) return prepare_failed(f, e);
    }
    f->tokens += n;
    return ST_OK;
}

/* Where document number `doc` goes: a number in [0, 1) of its own, whatever the others are. */
static int prepare_side(const prepare_state *p, int64_t doc)
{
    st_rng r = {.seed = p->o->seed, .stream = st_hash_name("prepare"), .pos = 4 * (uint64_t)doc};
    return !p->by_tokens && doc > 0 && st_rng_uniform(&r) < p->fraction ? VAL : TRAIN;
}

static st_status prepare_ids(void *ctx, const int32_t *id, int64_t n, bool more, st_err *e)
{
    prepare_state *p = ctx;
    if (!p->within) {
        p->side = prepare_side(p, p->documents++);
        p->file[p->side].documents++;
    }
    prepare_file *f = &p->file[p->side];
    p->within = more;
    ST_TRY(prepare_put(f, id, n, e));
    return more ? ST_OK : prepare_put(f, &p->eos, 1, e);
}

/* ---- the split ------------------------------------------------------------------------------ */

/* The last place <= at in train.bin where a document begins. */
static st_status prepare_boundary(prepare_state *p, int64_t at, int64_t *found, st_err *e)
{
    prepare_file *f = &p->file[TRAIN];
    uint16_t token[PREPARE_BLOCK];
    for (int64_t end = at, begin; end > 0; end = begin) {
        begin = end > PREPARE_BLOCK ? end - PREPARE_BLOCK : 0;
        size_t k = (size_t)(end - begin);
        errno = 0;
        if (fseeko(f->f, 2 * begin, SEEK_SET) || fread(token, sizeof *token, k, f->f) != k)
            return prepare_failed(f, e);
        while (k && token[k - 1] != p->eos)
            k--;
        *found = begin + (int64_t)k;
        if (k) return ST_OK;
    }
    *found = 0;
    return ST_OK;
}

/* Moves what is behind the first `left` tokens of train.bin to the end of val.bin. */
static st_status prepare_move(prepare_state *p, int64_t left, st_err *e)
{
    prepare_file *from = &p->file[TRAIN], *to = &p->file[VAL];
    uint16_t token[PREPARE_BLOCK];
    int64_t documents = 0;
    errno = 0;
    if (fseeko(from->f, 2 * left, SEEK_SET)) return prepare_failed(from, e);
    for (int64_t i = left; i < from->tokens; i += PREPARE_BLOCK) {
        size_t k = from->tokens - i < PREPARE_BLOCK ? (size_t)(from->tokens - i) : PREPARE_BLOCK;
        if (fread(token, sizeof *token, k, from->f) != k) return prepare_failed(from, e);
        if (fwrite(token, sizeof *token, k, to->f) != k) return prepare_failed(to, e);
        for (size_t j = 0; j < k; j++)
            documents += token[j] == p->eos;
    }
    if (fseeko(from->f, 0, SEEK_SET) || ftruncate(fileno(from->f), 2 * left))
        return prepare_failed(from, e);
    to->tokens += from->tokens - left;
    from->tokens = left;
    to->documents += documents;
    from->documents -= documents;
    return ST_OK;
}

/* Where train.bin must end so that neither file is empty nor val.bin smaller than it should be. */
static st_status prepare_end(prepare_state *p, int64_t *left, st_err *e)
{
    int64_t total = p->file[TRAIN].tokens + p->file[VAL].tokens, floor = 1;
    if (p->o->val_fraction == 0) floor = total / 10 < PREPARE_FLOOR ? total / 10 : PREPARE_FLOOR;
    if (p->by_tokens) {
        int64_t n = llround(p->fraction * (double)total);
        n = n < floor ? floor : n;
        *left = n < 1 ? total - 1 : n >= total ? 1 : total - n;
        return ST_OK;
    }
    *left = p->file[TRAIN].tokens;
    if (p->file[VAL].documents > 0 && p->file[VAL].tokens >= floor) return ST_OK;
    int64_t want = floor > p->file[VAL].tokens ? floor - p->file[VAL].tokens : 1, last;
    ST_TRY(prepare_boundary(p, *left - 1, &last, e)); /* of the last document */
    if (want < *left)
        ST_TRY(prepare_boundary(p, *left - want, left, e));
    else
        *left = 0;
    if (*left == 0) *left = last ? last : p->file[TRAIN].tokens; /* the first one stays */
    return ST_OK;
}

static st_status prepare_split(prepare_state *p, const char *input, st_err *e)
{
    int64_t left;
    if (p->documents == 0) ST_FAIL(e, ST_EARG, "%s: no text in it", input);
    if (p->documents == 1) p->by_tokens = true;
    errno = 0;
    if (fflush(p->file[TRAIN].f)) return prepare_failed(&p->file[TRAIN], e);
    ST_TRY(prepare_end(p, &left, e));
    ST_TRY(prepare_move(p, left, e));
    if (p->file[VAL].tokens <= PREPARE_CONTEXT) {
        st_log(ST_LOG_WARN,
               "val.bin has only %lld tokens, less than a context of %d; for more, say "
               "--val-fraction",
               (long long)p->file[VAL].tokens, PREPARE_CONTEXT);
    }
    return ST_OK;
}

/* ---- the job -------------------------------------------------------------------------------- */

static int prepare_threads(const st_prepare_opts *o)
{
    int64_t n = o->threads;
    const char *text = getenv("OMP_NUM_THREADS");
    cpu_set_t set;
    if (n < 1 && (!text || !st_parse_int(text, &n) || n < 1))
        n = sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN)
                                                   : CPU_COUNT(&set);
    return n < 1 ? 1 : n > 512 ? 512 : (int)n;
}

static st_status prepare_check(const st_bpe *b, const st_prepare_opts *o, st_err *e)
{
    if (st_bpe_size(b) > 65536) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: %lld tokens, but shards hold 16-bit ids: at most 65536",
                o->tokenizer, (long long)st_bpe_size(b));
    }
    if (st_bpe_eos(b) < 0) {
        ST_FAIL(e, ST_EARG, "%s: has no <|endoftext|>, which ends documents", o->tokenizer);
    }
    return ST_OK;
}

/* Documents -> ids -> files. */
static st_status prepare_stream(prepare_state *p, st_docs *d, st_encoder *c, st_err *e)
{
    char detail[96];
    st_progress report = {
        .what = "prepare", .total = st_docs_total(d), .unit = "bytes", .detail = detail};
    const char *text;
    size_t n;
    do {
        ST_TRY(st_docs_next(d, &text, &n, e));
        if (text)
            ST_TRY(st_encoder_add(c, text, n, st_docs_more(d), e));
        else
            ST_TRY(st_encoder_finish(c, e));
        p->bytes += (int64_t)n;
        report.done = st_docs_done(d);
        report.last = !text;
        snprintf(detail, sizeof detail, "%.1f M tokens, %lld documents",
                 1e-6 * (double)(p->file[TRAIN].tokens + p->file[VAL].tokens),
                 (long long)p->documents);
        st_report(&report);
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    } while (text);
    return ST_OK;
}

/* What meta.json says, which is what was asked and what came out, and nothing of when and where. */
static json_t *prepare_meta(const prepare_state *p, const st_bpe *b, const char *const *inputs,
                            int n)
{
    const prepare_file *t = &p->file[TRAIN], *v = &p->file[VAL];
    json_t *list = json_array(), *meta;
    for (int i = 0; i < n; i++) {
        /* a path need not be UTF-8, JSON text must */
        json_t *path = json_string(inputs[i]);
        json_array_append_new(list, path ? path : json_string("(not UTF-8)"));
    }
    meta = json_pack("{s:s, s:s, s:I, s:i, s:o, s:s, s:f, s:I, s:s*, s:o}", "format",
                     "strut shards 1", "dtype", "uint16", "vocab_size", (json_int_t)st_bpe_size(b),
                     "eos_token_id", p->eos, "tokenizer_hash",
                     json_sprintf("%016llx", (unsigned long long)st_bpe_hash(b)), "split",
                     p->by_tokens ? "tokens" : "documents", "val_fraction", p->fraction, "seed",
                     (json_int_t)p->o->seed, "field", p->o->field, "inputs", list);
    json_t *counts = json_pack("{s:I, s:I, s:I, s:I}", "documents", (json_int_t)p->documents,
                               "tokens", (json_int_t)(t->tokens + v->tokens), "train_tokens",
                               (json_int_t)t->tokens, "val_tokens", (json_int_t)v->tokens);
    if (!p->by_tokens) {
        json_object_set_new(counts, "train_documents", json_integer(t->documents));
        json_object_set_new(counts, "val_documents", json_integer(v->documents));
    }
    json_object_set_new(counts, "bytes", json_integer(p->bytes));
    json_object_update(meta, counts);
    json_decref(counts);
    return meta;
}

static st_status prepare_close(prepare_file *f, st_err *e)
{
    if (!f->f) return ST_OK;
    errno = 0;
    int failed = fclose(f->f);
    f->f = NULL;
    return failed ? prepare_failed(f, e) : ST_OK;
}

/* Closes the files, adds the others and puts the folder in place. */
static st_status prepare_finish(prepare_state *p, const st_bpe *b, const json_t *meta,
                                st_outdir *dir, st_err *e)
{
    ST_TRY(prepare_close(&p->file[TRAIN], e));
    ST_TRY(prepare_close(&p->file[VAL], e));
    ST_TRY(st_bpe_save(b, dir->temp, e));
    char *path = st_path_join(dir->temp, "meta.json");
    if (!path || !meta) {
        free(path);
        ST_FAIL(e, ST_ENOMEM, "meta.json: out of memory");
    }
    st_status s = st_write_json(path, meta, e);
    free(path);
    return s ? s : st_outdir_commit(dir, e);
}

static json_t *prepare_result(json_t *meta, const char *out, double seconds)
{
    static const char *const names[] = {"train.bin", "val.bin", "meta.json"};
    json_t *files = json_array(), *result = json_pack("{s:s}", "out", out);
    for (int i = 0; i < 3; i++) {
        char *path = st_path_join(out, names[i]);
        json_array_append_new(files, json_string(path ? path : names[i]));
        free(path);
    }
    json_object_update(result, meta);
    json_object_set_new(result, "files", files);
    json_object_set_new(result, "seconds", json_real(seconds));
    return result;
}

st_status st_prepare(const char *const *inputs, int n, const char *out, const st_prepare_opts *o,
                     json_t **result, st_err *e)
{
    st_docs_opts docs = {.field = o->field, .piece_bytes = PREPARE_PIECE};
    prepare_state p = {.o = o,
                       .fraction = o->val_fraction == 0 ? 0.0005 : o->val_fraction,
                       .by_tokens = o->split_tokens};
    st_outdir dir = {0};
    st_docs *d = NULL;
    st_encoder *c = NULL;
    st_bpe *b = NULL;
    json_t *meta = NULL;
    double start = st_now();
    *result = NULL;
    if (!o->tokenizer) ST_FAIL(e, ST_EARG, "no tokenizer was given");
    if (!(p.fraction > 0 && p.fraction < 1)) {
        ST_FAIL(e, ST_EARG, "val_fraction is %g, expected more than 0 and less than 1", p.fraction);
    }
    st_status s = st_bpe_open(&b, o->tokenizer, e);
    if (!s) s = prepare_check(b, o, e);
    if (!s) s = st_docs_open(&d, inputs, n, &docs, e);
    if (!s) s = st_outdir_open(&dir, out, o->replace, e);
    if (!s) s = prepare_create(&p.file[TRAIN], dir.temp, "train.bin", e);
    if (!s) s = prepare_create(&p.file[VAL], dir.temp, "val.bin", e);
    if (!s) s = st_encoder_open(&c, b, prepare_threads(o), prepare_ids, &p, e);
    if (!s) {
        p.eos = st_bpe_eos(b);
        s = prepare_stream(&p, d, c, e);
    }
    if (!s) s = prepare_split(&p, inputs[0], e);
    if (!s) s = prepare_finish(&p, b, meta = prepare_meta(&p, b, inputs, n), &dir, e);
    if (!s) *result = prepare_result(meta, out, st_now() - start);
    st_encoder_close(c);
    for (int i = 0; i < 2; i++) {
        if (p.file[i].f) fclose(p.file[i].f);
        free(p.file[i].path);
    }
    json_decref(meta);
    st_docs_close(d);
    st_bpe_close(b);
    st_outdir_discard(&dir);
    return s;
}
