/* Pre-tokenizers: Split, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer,
 * CharDelimiterSplit, Metaspace, ByteLevel. What matches and what does not are ranges in turn, of
 * which pieces are made in one of five ways. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include "text/chars.h"
#include "text/flow.h"
#include <stdlib.h>
#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */

void st_split_close(st_split *k)
{
    st_regex_close(k->regex);
}

bool st_flow_is_gpt2(const char *pattern, size_t n)
{
    static const char *const known[] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"};
    for (int i = 0; i < 2; i++)
        if (n == strlen(known[i]) && !memcmp(pattern, known[i], n)) return true;
    return false;
}

/* "behavior"; `way` where there is none. */
static st_status split_way(const json_t *part, st_split_way way, st_split *k, const char *where,
                           st_err *e)
{
    static const char *const names[] = {[ST_APART] = "Isolated",
                                        [ST_GONE] = "Removed",
                                        [ST_TOGETHER] = "Contiguous",
                                        [ST_TO_PREVIOUS] = "MergedWithPrevious",
                                        [ST_TO_NEXT] = "MergedWithNext"};
    const json_t *behavior = json_object_get(part, "behavior");
    k->way = way;
    if (!behavior) return ST_OK;
    for (int i = ST_APART; i <= ST_TO_NEXT; i++) {
        k->way = (st_split_way)i;
        if (json_is_string(behavior) && !strcmp(json_string_value(behavior), names[i]))
            return ST_OK;
    }
    return st_flow_refuse(part, "behavior", where, e);
}

static st_status split_read_split(st_split *k, const json_t *part, const char *where, st_err *e)
{
    k->kind = ST_SPLIT_TEXT;
    ST_TRY(split_way(part, ST_APART, k, where, e));
    ST_TRY(st_json_flag(part, "invert", &k->invert, where, e));
    ST_TRY(st_flow_pattern(part, where, &k->text, &k->n, &k->regex, e));
    if (k->regex) k->kind = ST_SPLIT_REGEX;
    if (k->regex && !k->invert && st_flow_is_gpt2(k->text, k->n)) k->kind = ST_SPLIT_GPT2;
    return ST_OK;
}

static st_status split_read_metaspace(st_split *k, const json_t *part, const char *where, st_err *e)
{
    static const char *const schemes[] = {"never", "first", "always"};
    const json_t *mark = json_object_get(part, "replacement"),
                 *scheme = json_object_get(part, "prepend_scheme");
    uint32_t code;
    k->kind = ST_SPLIT_METASPACE;
    k->way = ST_TO_NEXT;
    k->text = json_string_value(mark);
    k->n = json_string_length(mark);
    if (!k->n || st_char_at(k->text, k->n, 0, &code) != k->n)
        return st_flow_refuse(part, "replacement", where, e);
    k->split = true;
    ST_TRY(st_json_flag(part, "split", &k->split, where, e));
    bool prefix = true;
    ST_TRY(st_json_flag(part, "add_prefix_space", &prefix, where, e));
    k->prefix = prefix ? ST_PREFIX_ALWAYS : ST_PREFIX_NEVER;
    if (!scheme) return ST_OK;
    int i = 0;
    while (i < 3 && (!json_is_string(scheme) || strcmp(json_string_value(scheme), schemes[i])))
        i++;
    if (i == 3 || (!prefix && i)) return st_flow_refuse(part, "prepend_scheme", where, e);
    k->prefix = (st_prefix)i;
    return ST_OK;
}

static st_status split_read_bytes(st_split *k, const json_t *part, const char *where, st_err *e)
{
    bool prefix = true;
    k->kind = ST_SPLIT_BYTES;
    k->split = true;
    ST_TRY(st_json_flag(part, "add_prefix_space", &prefix, where, e));
    ST_TRY(st_json_flag(part, "use_regex", &k->split, where, e));
    k->prefix = prefix ? ST_PREFIX_ALWAYS : ST_PREFIX_NEVER;
    return ST_OK;
}

st_status st_flow_read_split(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    static const char words[] = "[\\w\\u200C\\u200D]+|[^\\w\\s\\u200C\\u200D]+";
    const char *type = st_flow_type(part);
    if (f->splits > 60) return st_flow_refuse(part, "type", where, e);
    bool bytes = false;
    for (int i = 0; i < f->splits; i++)
        bytes |= f->split[i].kind == ST_SPLIT_BYTES;
    if (bytes && (!strcmp(type, "ByteLevel") || !strcmp(type, "Metaspace"))) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: %s after ByteLevel cannot be used", where, type);
    }
    st_split *k = &f->split[f->splits++];
    if (!strcmp(type, "ByteLevel")) return split_read_bytes(k, part, where, e);
    if (!strcmp(type, "Metaspace")) return split_read_metaspace(k, part, where, e);
    if (!strcmp(type, "Split")) return split_read_split(k, part, where, e);
    if (!strcmp(type, "Digits")) {
        bool single = false;
        k->kind = ST_SPLIT_DIGITS;
        ST_TRY(st_json_flag(part, "individual_digits", &single, where, e));
        k->way = single ? ST_APART : ST_TOGETHER;
        return ST_OK;
    }
    if (!strcmp(type, "Punctuation")) {
        k->kind = ST_SPLIT_PUNCT;
        return split_way(part, ST_APART, k, where, e);
    }
    if (!strcmp(type, "CharDelimiterSplit")) {
        const json_t *mark = json_object_get(part, "delimiter");
        *k = (st_split){ST_SPLIT_TEXT,
                        ST_GONE,
                        false,
                        NULL,
                        json_string_value(mark),
                        json_string_length(mark),
                        ST_PREFIX_NEVER,
                        false};
        return k->n ? ST_OK : st_flow_refuse(part, "delimiter", where, e);
    }
    if (!strcmp(type, "Whitespace")) {
        *k = (st_split){.kind = ST_SPLIT_REGEX, .way = ST_GONE, .invert = true};
        return st_regex_open(&k->regex, words, strlen(words), where, e);
    }
    bool bert = !strcmp(type, "BertPreTokenizer");
    if (!bert && strcmp(type, "WhitespaceSplit")) return st_flow_refuse(part, "type", where, e);
    *k = (st_split){.kind = ST_SPLIT_SPACE, .way = ST_GONE};
    if (bert) f->split[f->splits++] = (st_split){.kind = ST_SPLIT_PUNCT, .way = ST_APART};
    return ST_OK;
}

/* ---- pieces of ranges ------------------------------------------------------------------------ */

typedef struct {
    const st_split *k;
    st_pieces *out;
    size_t at, end;     /* a range that waits for what follows; empty: none */
    bool waits, before; /* before: the last range was a match */
} split_join;

static st_status split_push(st_pieces *p, size_t at, size_t end, st_err *e)
{
    if (at == end) return ST_OK;
    if (p->n == p->cap) {
        int64_t cap = p->cap ? 2 * p->cap : 64;
        struct st_piece *more = realloc(p->piece, (size_t)cap * sizeof *more);
        if (!more) return ST_NOMEM(e, NULL);
        p->piece = more;
        p->cap = cap;
    }
    p->piece[p->n++] = (struct st_piece){at, end};
    return ST_OK;
}

static st_status split_flush(split_join *j, st_err *e)
{
    bool waits = j->waits;
    j->waits = false;
    return waits ? split_push(j->out, j->at, j->end, e) : ST_OK;
}

/* The next range of a piece. */
static st_status split_range(split_join *j, size_t at, size_t end, bool match, st_err *e)
{
    match ^= j->k->invert;
    bool before = j->before, joins = false;
    j->before = match;
    switch (j->k->way) {
    case ST_GONE: return match ? ST_OK : split_push(j->out, at, end, e);
    case ST_APART: return split_push(j->out, at, end, e);
    case ST_TOGETHER: joins = before == match; break;
    case ST_TO_PREVIOUS: joins = match && !before; break;
    case ST_TO_NEXT: joins = before && !match; break;
    }
    if (j->waits && joins) {
        j->end = end;
        return ST_OK;
    }
    ST_TRY(split_flush(j, e));
    j->at = at;
    j->end = end;
    j->waits = true;
    return ST_OK;
}

/* ---- what matches ---------------------------------------------------------------------------- */

static bool split_is(st_split_kind kind, uint32_t c)
{
    if (kind == ST_SPLIT_DIGITS) return st_char_number(c);
    return kind == ST_SPLIT_PUNCT ? st_char_punct(c) : st_char_space(c);
}

/* Of single characters; those in a row that are no match are one range. */
static st_status split_chars(split_join *j, const char *s, size_t at, size_t end, st_err *e)
{
    size_t from = at;
    for (size_t len; at < end; at += len) {
        uint32_t code = 0;
        len = st_char_at(s, end, at, &code);
        bool match = len && split_is(j->k->kind, code);
        if (!len) len = 1;
        if (!match) continue;
        if (from < at) ST_TRY(split_range(j, from, at, false, e));
        ST_TRY(split_range(j, at, at + len, true, e));
        from = at + len;
    }
    return from < end ? split_range(j, from, end, false, e) : ST_OK;
}

static st_status split_text(split_join *j, const char *s, size_t at, size_t end, st_err *e)
{
    const st_split *k = j->k;
    for (const char *hit; k->n && (hit = memmem(s + at, end - at, k->text, k->n));) {
        size_t to = (size_t)(hit - s);
        if (at < to) ST_TRY(split_range(j, at, to, false, e));
        ST_TRY(split_range(j, to, to + k->n, true, e));
        at = to + k->n;
    }
    return at < end ? split_range(j, at, end, false, e) : ST_OK;
}

static st_status split_regex(split_join *j, const char *s, size_t at, size_t end, st_err *e)
{
    st_regex_scan c;
    size_t from = 0, start = 0, stop = 0, n = end - at;
    bool found = true;
    ST_TRY(st_regex_scan_open(&c, j->k->regex, s + at, n, e));
    st_status status = ST_OK;
    while (!status && !(status = st_regex_next(&c, &start, &stop, &found, e)) && found) {
        if (from < start) status = split_range(j, at + from, at + start, false, e);
        if (!status) status = split_range(j, at + start, at + stop, true, e);
        from = stop;
    }
    st_regex_scan_close(&c);
    if (!status && from < n) status = split_range(j, at + from, end, false, e);
    return status;
}

static st_status split_gpt2(split_join *j, const char *s, size_t at, size_t end, st_err *e)
{
    for (size_t to; at < end; at = to) {
        to = at + st_pretoken_end(s + at, end - at, 0);
        ST_TRY(split_range(j, at, to, true, e));
    }
    return ST_OK;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static st_status split_pieces(const st_split *k, st_pieces *p, st_err *e)
{
    st_pieces out = {0};
    st_status status = ST_OK;
    const char *s = p->text.s;
    for (int64_t i = 0; i < p->n && !status; i++) {
        split_join j = {.k = k, .out = &out};
        size_t at = p->piece[i].at, end = p->piece[i].end;
        switch (k->kind) {
        case ST_SPLIT_TEXT:
        case ST_SPLIT_METASPACE: status = split_text(&j, s, at, end, e); break;
        case ST_SPLIT_REGEX: status = split_regex(&j, s, at, end, e); break;
        case ST_SPLIT_GPT2:
        case ST_SPLIT_BYTES: status = split_gpt2(&j, s, at, end, e); break;
        default: status = split_chars(&j, s, at, end, e);
        }
        if (!status) status = split_flush(&j, e);
    }
    if (status) {
        free(out.piece);
        return status;
    }
    /* is the first still where the text begins? */
    if (!out.n || out.piece[0].at != p->piece[0].at) p->start = false;
    free(p->piece);
    p->piece = out.piece;
    p->n = out.n;
    p->cap = out.cap;
    return ST_OK;
}

/* Writes every piece anew, by `put`. */
static st_status split_rewrite(const st_split *k, st_pieces *p,
                               bool (*put)(const st_split *k, const char *s, size_t n, bool first,
                                           st_buffer *out),
                               st_err *e)
{
    st_buffer text = {0};
    bool good = true;
    for (int64_t i = 0; i < p->n && good; i++) {
        struct st_piece *at = &p->piece[i];
        size_t from = text.n;
        good = put(k, p->text.s + at->at, at->end - at->at, i == 0 && p->start, &text);
        *at = (struct st_piece){from, text.n};
    }
    free(p->text.s);
    p->text = text;
    if (good) return ST_OK;
    return ST_NOMEM(e, NULL);
}

static bool split_put_metaspace(const st_split *k, const char *s, size_t n, bool first,
                                st_buffer *out)
{
    bool marked = n && (s[0] == ' ' || (n >= k->n && !memcmp(s, k->text, k->n)));
    bool good = true;
    if (!marked && (k->prefix == ST_PREFIX_ALWAYS || (k->prefix == ST_PREFIX_FIRST && first)))
        good = st_buffer_put(out, k->text, k->n);
    for (size_t i = 0, from = 0; i <= n && good; i++) {
        if (i < n && s[i] != ' ') continue;
        good = st_buffer_put(out, s + from, i - from);
        if (good && i < n) good = st_buffer_put(out, k->text, k->n);
        from = i + 1;
    }
    return good;
}

static bool split_put_space(const st_split *k, const char *s, size_t n, bool first, st_buffer *out)
{
    (void)k;
    (void)first;
    return (s[0] == ' ' || st_buffer_put(out, " ", 1)) && st_buffer_put(out, s, n);
}

static bool split_put_spelled(const st_split *k, const char *s, size_t n, bool first,
                              st_buffer *out)
{
    (void)k;
    (void)first;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        char two[2];
        good = st_buffer_put(out, two, st_bpe_spell(s + i, 1, two));
    }
    return good;
}

st_status st_split_run(const st_split *k, st_pieces *p, bool last, st_err *e)
{
    if (k->kind == ST_SPLIT_METASPACE) {
        ST_TRY(split_rewrite(k, p, split_put_metaspace, e));
        return k->split ? split_pieces(k, p, e) : ST_OK;
    }
    if (k->kind != ST_SPLIT_BYTES) return split_pieces(k, p, e);
    if (k->prefix) ST_TRY(split_rewrite(k, p, split_put_space, e));
    if (k->split) ST_TRY(split_pieces(k, p, e));
    if (last) return ST_OK;
    p->spelled = true;
    return split_rewrite(k, p, split_put_spelled, e);
}
