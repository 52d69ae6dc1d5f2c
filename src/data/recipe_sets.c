/* WikiText and LAMBADA: data sets with splits of their own, told by the names of the files, whose
 * rows become train.bin, val.bin and test.bin in one of these forms:
 *
 *   krony      rows joined with two newlines, one stream: the text of krony-PT's perplexities
 *   fly        every row tokenized by itself, one after the other
 *   fly-eos    the same with <|endoftext|> after every row that is not empty
 *   articles   a document from one " = Title = " to the next, <|endoftext|> after each
 *   docs       a row a document, <|endoftext|> after each
 *
 * A row of WikiText is a line with its newline, or "" if the line is blank, as Hugging Face's
 * loader has it; one of LAMBADA is a line without. */
/* SPDX-License-Identifier: MIT */
#include "data/encode.h"
#include "data/recipe.h"
#include <stdlib.h>
#include <string.h>

enum { SETS_PIECE = 1 << 20, SETS = 3 };
typedef enum { KRONY, FLY, FLY_EOS, ARTICLES, DOCS } sets_form;
static const char *const sets_forms[] = {"krony", "fly", "fly-eos", "articles", "docs"};

typedef struct {
    sets_form form;
    bool wiki, detokenize;
    st_encoder *c;
    int32_t eos;
    st_bin file[SETS];
    bool open[SETS];
    int side;        /* the split that is read, -1: none yet */
    bool done[SETS]; /* another came after it */
    char *s;         /* text that is not yet with the encoder */
    size_t n, cap;
    int64_t rows, documents, bytes; /* rows of this split; documents of all */
} sets_state;

static const char *const sets_names[SETS] = {"train.bin", "val.bin", "test.bin"};
static const char *const sets_keys[SETS] = {"train", "val", "test"};

/* ---- which split ----------------------------------------------------------------------------- */

/* The split that a name's part says, -1: none. */
static int sets_word(const char *s, size_t n)
{
    static const struct {
        const char *word;
        int side;
    } known[] = {{"train", 0}, {"training", 0}, {"valid", 1}, {"validation", 1},
                 {"val", 1},   {"dev", 1},      {"test", 2},  {"development", 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].word) == n && !strncmp(known[i].word, s, n)) return known[i].side;
    return -1;
}

/* Of "DIR/SUB/FILE" or "a.zip: SUB/FILE": as FILE says, else as SUB does. */
static int sets_side(const char *name)
{
    size_t end = strlen(name);
    for (int level = 0; level < 2; level++) {
        size_t begin = end;
        while (begin && name[begin - 1] != '/' && name[begin - 1] != ' ')
            begin--;
        for (size_t i = begin, k; i < end; i += k + 1) {
            k = strcspn(name + i, "._- /");
            int side = sets_word(name + i, i + k < end ? k : end - i);
            if (side >= 0) return side;
        }
        end = begin ? begin - 1 : 0;
    }
    return -1;
}

static bool sets_wanted(void *ctx, const char *name)
{
    (void)ctx;
    if (sets_side(name) >= 0) return true;
    st_log(ST_LOG_WARN, "%s: left out, its name says neither train, valid nor test", name);
    return false;
}

/* ---- ids ------------------------------------------------------------------------------------- */

static st_status sets_ids(void *ctx, const int32_t *id, int64_t n, bool more, st_err *e)
{
    sets_state *p = ctx;
    st_bin *f = &p->file[p->side];
    bool ends = !more && p->form != KRONY && p->form != FLY;
    f->documents += !more;
    ST_TRY(st_bin_put(f, id, n, e));
    return ends ? st_bin_put(f, &p->eos, 1, e) : ST_OK;
}

/* Appends text; what is a piece and can be cut goes to the encoder. */
static st_status sets_put(sets_state *p, const char *text, size_t n, st_err *e)
{
    if (p->n + n > p->cap) {
        size_t cap = p->n + n + p->cap / 2 + SETS_PIECE;
        char *more = realloc(p->s, cap);
        if (!more) ST_FAIL(e, ST_ENOMEM, "out of memory for a text of %zu bytes", cap);
        p->s = more;
        p->cap = cap;
    }
    memcpy(p->s + p->n, text, n);
    p->n += n;
    p->bytes += (int64_t)n;
    if (p->n < SETS_PIECE) return ST_OK;
    size_t cut = st_text_cut(p->s, p->n);
    if (!cut) return ST_OK;
    ST_TRY(st_encoder_add(p->c, p->s, cut, true, e));
    memmove(p->s, p->s + cut, p->n - cut);
    p->n -= cut;
    return ST_OK;
}

/* Ends the document in work, if there is one: an article of nothing but white space is none. */
static st_status sets_end(sets_state *p, st_err *e)
{
    const char *begin = p->s ? p->s : "", *end = begin + p->n;
    if (p->form == ARTICLES) st_space_trim(&begin, &end);
    if (begin < end) {
        ST_TRY(st_encoder_add(p->c, p->s, p->n, false, e));
        p->documents++;
    } else {
        p->bytes -= (int64_t)p->n;
    }
    p->n = 0;
    return ST_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* " = Title = " and not " = = Section = = ". */
static bool sets_is_title(const char *s, size_t n)
{
    const char *end = s + n;
    st_space_trim(&s, &end);
    return end - s > 3 && s[0] == '=' && s[1] == ' ' && s[2] != '=' && end[-1] == '=' &&
           end[-2] == ' ' && end[-3] != '=';
}

/* A row without the spaces round its tokens, as fly has it if asked to; `bare`: it lacks its
 * newline, which the spaces before it go with. */
static st_status sets_put_plain(sets_state *p, const char *text, size_t n, bool bare, st_err *e)
{
    char *row = malloc(n + 1), *plain = NULL;
    size_t len = 0;
    if (!row) ST_FAIL(e, ST_ENOMEM, "out of memory for a row of %zu bytes", n);
    memcpy(row, text, n);
    row[n] = '\n';
    st_status s = st_detokenize(row, n + bare, &plain, &len, e);
    if (!s) s = sets_put(p, plain, len, e);
    free(plain);
    free(row);
    return s;
}

static st_status sets_row(sets_state *p, const char *text, size_t n, st_err *e)
{
    const char *begin = text, *end = text + n;
    st_space_trim(&begin, &end);
    bool blank = p->wiki && begin == end, bare = p->wiki && !blank && text[n - 1] != '\n';
    if (p->form == ARTICLES) {
        if (sets_is_title(text, n)) ST_TRY(sets_end(p, e));
        if (blank) return sets_put(p, " \n", 2, e); /* as the files have it */
    }
    if (p->form == KRONY && p->rows++) ST_TRY(sets_put(p, "\n\n", 2, e));
    if (blank) return ST_OK;
    if (p->detokenize) {
        ST_TRY(sets_put_plain(p, text, n, bare, e));
    } else {
        ST_TRY(sets_put(p, text, n, e));
        if (bare) ST_TRY(sets_put(p, "\n", 1, e));
    }
    return p->form == KRONY || p->form == ARTICLES ? ST_OK : sets_end(p, e);
}

/* Goes on with the split that the file belongs to. */
static st_status sets_turn(sets_state *p, const char *name, st_outdir *dir, st_err *e)
{
    int side = sets_side(name);
    if (side == p->side) return ST_OK;
    if (p->side >= 0) {
        ST_TRY(sets_end(p, e));
        ST_TRY(st_encoder_finish(p->c, e)); /* ids go to the file of their split */
        p->done[p->side] = true;
    }
    if (p->done[side]) {
        ST_FAIL(e, ST_EARG,
                "%s: the %s split once more; give the files of one configuration, those of a split "
                "one after the other",
                name, sets_keys[side]);
    }
    p->side = side;
    p->rows = 0;
    p->open[side] = true;
    return st_bin_open(&p->file[side], dir->temp, sets_names[side], 2, e);
}

static st_status sets_stream(sets_state *p, st_docs *d, st_outdir *dir, st_err *e)
{
    st_progress report = {.what = "prepare", .total = st_docs_total(d), .unit = "bytes"};
    const char *text;
    size_t n;
    do {
        ST_TRY(st_docs_next(d, &text, &n, e));
        if (text) ST_TRY(sets_turn(p, st_docs_name(d), dir, e));
        if (text) ST_TRY(sets_row(p, text, n, e));
        report.done = st_docs_done(d);
        report.last = !text;
        st_report(&report);
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    } while (text);
    if (p->side < 0) ST_FAIL(e, ST_EARG, "no file is named train, valid or test");
    ST_TRY(sets_end(p, e));
    return st_encoder_finish(p->c, e);
}

/* ---- the job --------------------------------------------------------------------------------- */

static json_t *sets_meta(const st_recipe *r, const sets_state *p, const st_bpe *b,
                         const char *const *inputs, int n)
{
    json_t *meta = st_prepare_meta(b, inputs, n);
    int64_t tokens = 0;
    json_object_set_new(meta, "recipe", json_string(r->name));
    json_object_set_new(meta, "form", json_string(sets_forms[p->form]));
    json_object_set_new(meta, "split", json_string("files"));
    json_object_set_new(meta, "detokenized", json_boolean(p->detokenize));
    for (int i = 0; i < SETS; i++) {
        char key[32];
        if (!p->open[i]) continue;
        tokens += p->file[i].tokens;
        snprintf(key, sizeof key, "%s_tokens", sets_keys[i]);
        json_object_set_new(meta, key, json_integer(p->file[i].tokens));
        snprintf(key, sizeof key, "%s_documents", sets_keys[i]);
        json_object_set_new(meta, key, json_integer(p->file[i].documents));
    }
    json_object_set_new(meta, "documents", json_integer(p->documents));
    json_object_set_new(meta, "tokens", json_integer(tokens));
    json_object_set_new(meta, "bytes", json_integer(p->bytes));
    return meta;
}

static st_status sets_close(const st_recipe *r, sets_state *p, const st_bpe *b,
                            const char *const *inputs, int n, st_outdir *dir, json_t **meta,
                            st_err *e)
{
    for (int i = 0; i < SETS; i++)
        ST_TRY(st_bin_close(&p->file[i], e));
    *meta = sets_meta(r, p, b, inputs, n);
    return st_prepare_finish(dir, b, *meta, e);
}

static st_status sets_form_of(const st_recipe *r, const char *name, sets_form *form, st_err *e)
{
    size_t n = strlen(name);
    bool known = false;
    for (const char *f = r->forms; f && !known; f = strchr(f, '|') ? strchr(f, '|') + 1 : NULL)
        known = !strncmp(f, name, n) && (f[n] == '|' || !f[n]);
    for (int i = 0; i <= DOCS && known; i++)
        if (!strcmp(sets_forms[i], name)) *form = (sets_form)i;
    if (known) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: form \"%.40s\" is not one of %s", r->name, name, r->forms);
}

st_status st_recipe_sets(const st_recipe *r, const char *const *inputs, int n, const char *out,
                         const st_recipe_opts *o, json_t **result, st_err *e)
{
    double start = st_now();
    sets_state p = {.side = -1, .wiki = !strcmp(r->name, "wikitext"), .detokenize = o->detokenize};
    st_docs_opts docs = {.field = o->prepare.field,
                         .strict = o->prepare.strict,
                         .rows = true,
                         .empty = true,
                         .wanted = sets_wanted};
    const char *names[SETS + 2];
    int count = 0;
    st_outdir dir = {0};
    st_docs *d = NULL;
    st_bpe *b = NULL;
    json_t *meta = NULL;
    st_status s = sets_form_of(r, o->form, &p.form, e);
    if (!s && p.detokenize && p.form != FLY && p.form != FLY_EOS) {
        s = ST_ERR(e, ST_EARG, "%s: only the forms fly and fly-eos detokenize", r->name);
    }
    if (!s) s = st_bpe_open(&b, o->prepare.tokenizer, e);
    if (!s) s = st_bin_vocab(b, o->prepare.tokenizer, p.form != KRONY && p.form != FLY, e);
    if (!s) s = st_docs_open(&d, inputs, n, &docs, e);
    if (!s) s = st_prepare_open(&dir, out, &o->prepare, inputs, n, e);
    if (!s) s = st_encoder_open(&p.c, b, false, st_threads(o->prepare.threads), sets_ids, &p, e);
    if (!s) {
        p.eos = st_bpe_eos(b);
        s = sets_stream(&p, d, &dir, e);
    }
    if (!s) s = sets_close(r, &p, b, inputs, n, &dir, &meta, e);
    for (int i = 0; i < SETS; i++)
        if (p.open[i]) names[count++] = sets_names[i];
    names[count++] = "meta.json";
    names[count] = NULL;
    if (!s) *result = st_prepare_result(meta, out, names, st_now() - start);
    st_encoder_close(p.c);
    for (int i = 0; i < SETS; i++)
        st_bin_drop(&p.file[i]);
    free(p.s);
    json_decref(meta);
    st_docs_close(d);
    st_bpe_close(b);
    st_outdir_discard(&dir);
    return s;
}
