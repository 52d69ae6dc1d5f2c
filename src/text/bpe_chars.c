/* A tokenizer of single characters, as nanoGPT's shakespeare_char uses: every character that may be
 * in a text has an id, others cannot be encoded. In tokenizer.json it is a WordLevel model behind a
 * Split that isolates every character, which Hugging Face's tokenizers runs as it is. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include "text/chars.h"
#include <stdlib.h>
#include <string.h>

static const char chars_pattern[] = "[\\s\\S]";

static int chars_compare(const void *a, const void *b)
{
    const st_bpe_letter *x = a, *y = b;
    return x->code < y->code ? -1 : x->code > y->code;
}

static int32_t chars_id(const st_bpe *b, uint32_t code)
{
    if (code < 128) return b->byte_id[code];
    const st_bpe_letter key = {.code = code},
                        *found = bsearch(&key, b->letter, (size_t)b->n, sizeof key, chars_compare);
    return found ? found->id : -1;
}

st_status st_bpe_link_chars(st_bpe *b, const char *what, st_err *e)
{
    b->chars = true;
    b->letter = st_calloc(b->n, sizeof *b->letter);
    if (!b->letter) return ST_NOMEM(e, what);
    for (int i = 0; i < 256; i++)
        b->byte_id[i] = -1;
    for (int32_t id = 0; id < b->n; id++) {
        const char *bytes = b->bytes + b->start[id];
        size_t n = b->start[id + 1] - b->start[id];
        uint32_t code = 0;
        if (st_char_at(bytes, n, 0, &code) != n) {
            ST_FAIL(e, ST_EUNSUPPORTED,
                    "%s: token %d is no single character; of WordLevel models "
                    "only those of characters can be used",
                    what, id);
        }
        b->letter[id] = (st_bpe_letter){.code = code, .id = id};
        if (code < 128) b->byte_id[code] = id;
        b->flags[id] = ST_BPE_RAW;
    }
    qsort(b->letter, (size_t)b->n, sizeof *b->letter, chars_compare);
    return ST_OK;
}

st_status st_bpe_encode_chars(const st_bpe *b, const char *text, size_t n, int32_t *id,
                              int64_t *count, st_err *e)
{
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t code = 0;
        k = st_char_at(text, n, i, &code);
        if (!k) {
            ST_FAIL(e, ST_EFORMAT,
                    "byte 0x%02X is not UTF-8, which a tokenizer of characters needs",
                    (uint8_t)text[i]);
        }
        int32_t v = chars_id(b, code);
        if (v < 0) {
            ST_FAIL(e, ST_EFORMAT,
                    "the character \"%.*s\" (U+%04X) is none of the %lld of this tokenizer",
                    code < 32 || code == 127 ? 0 : (int)k, text + i, (unsigned)code,
                    (long long)b->n);
        }
        id[(*count)++] = v;
    }
    return ST_OK;
}

/* Makes the tokenizer of the `count` characters that were seen, in the order of their codes. */
static st_status chars_make(st_bpe **out, const uint8_t *seen, int64_t count, st_err *e)
{
    st_bpe *b;
    ST_TRY(st_bpe_make(&b, count, 4 * (size_t)count, 0, e));
    int64_t id = 0;
    for (uint32_t code = 0; id < count; code++) {
        if (!seen[code]) continue;
        b->start[id + 1] = b->start[id] + st_char_put(code, b->bytes + b->start[id]);
        id++;
    }
    st_status s = st_bpe_link_chars(b, "the text's characters", e);
    if (s)
        st_bpe_close(b);
    else
        *out = b;
    return s;
}

st_status st_bpe_from_text(st_bpe **out, const char *text, size_t n, st_err *e)
{
    *out = NULL;
    uint8_t *seen = st_calloc(0x110000, 1);
    if (!seen) ST_FAIL(e, ST_ENOMEM, "out of memory for the characters of a text");
    st_status s = ST_OK;
    int64_t count = 0;
    for (size_t i = 0, k; i < n && !s; i += k) {
        uint32_t code = 0;
        k = st_char_at(text, n, i, &code);
        if (!k) {
            s = ST_ERR(e, ST_EFORMAT, "byte %zu, 0x%02X, is not UTF-8", i, (uint8_t)text[i]);
        }
        count += k && !seen[code];
        seen[code] = 1;
    }
    if (!s && !count) s = ST_ERR(e, ST_EARG, "no characters");
    if (!s) s = chars_make(out, seen, count, e);
    free(seen);
    return s;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static const char *chars_type(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "none";
}

bool st_bpe_is_chars(const json_t *root)
{
    return !strcmp(chars_type(json_object_get(root, "model")), "WordLevel");
}

st_status st_bpe_check_chars(const json_t *root, const char *what, st_err *e)
{
    const json_t *split = json_object_get(root, "pre_tokenizer"),
                 *normalizer = json_object_get(root, "normalizer");
    const char *pattern =
        json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior")),
               *decoder = chars_type(json_object_get(root, "decoder"));
    bool fine = !strcmp(chars_type(split), "Split") && pattern && !strcmp(pattern, chars_pattern) &&
                behavior && !strcmp(behavior, "Isolated") &&
                !json_is_true(json_object_get(split, "invert")) &&
                (!normalizer || json_is_null(normalizer)) &&
                (!strcmp(decoder, "Fuse") || !strcmp(decoder, "none"));
    if (fine) return ST_OK;
    ST_FAIL(e, ST_EUNSUPPORTED,
            "%s: model.type is WordLevel without a Split that isolates every character (%s): only "
            "byte-level BPE and characters can be used",
            what, chars_pattern);
}

json_t *st_bpe_chars_json(json_t *vocab)
{
    return json_pack("{s:s, s:n, s:n, s:[], s:n, s:{s:s, s:{s:s}, s:s, s:b}, s:n, s:{s:s}, "
                     "s:{s:s, s:o, s:s}}",
                     "version", "1.0", "truncation", "padding", "added_tokens", "normalizer",
                     "pre_tokenizer", "type", "Split", "pattern", "Regex", chars_pattern,
                     "behavior", "Isolated", "invert", 0, "post_processor", "decoder", "type",
                     "Fuse", "model", "type", "WordLevel", "vocab", vocab, "unk_token", "<unk>");
}
