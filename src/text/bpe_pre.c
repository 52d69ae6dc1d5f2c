/* How byte-level tokenizers of GGUF files cut text: tokenizer.ggml.pre is one of llama.cpp's names
 * for the patterns of a family of models, each applied to the pieces of the one before. Where the
 * family's own tokenizer.json normalizes, so do these, which llama.cpp does not. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_gguf.h"
#include <string.h>

#define PRE_GPT2                                                                                   \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PRE_ENDS          "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define PRE_TAIL          "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PRE_LETTERS       "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define PRE_SIGNS         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define PRE_WORDS(digits) PRE_ENDS "|" PRE_LETTERS digits PRE_SIGNS PRE_TAIL
#define PRE_UPPER         "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define PRE_LOWER         "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define PRE_CASED(ends, digits)                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[" PRE_UPPER "]*[" PRE_LOWER "]+" ends                                  \
    "|[^\\r\\n\\p{L}\\p{N}]?[" PRE_UPPER "]+[" PRE_LOWER "]*" ends "|" digits                      \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" PRE_TAIL
#define PRE_CJK "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"
#define PRE_MARKED                                                                                 \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                                        \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
#define PRE_BLOOM " ?[^(\\s|[.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C])]+"

static const st_bpe_pre pre_rows[] = {
    {"gpt-2 gpt2 phi-2 mpt olmo jais trillion granite-docling exaone4 jina-es jina-de jina-v2-es "
     "jina-v2-de gigachat a.x-4.0 mellum modern-bert",
     NULL,
     {PRE_GPT2},
     false,
     false},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     NULL,
     {PRE_WORDS("\\p{N}{1,3}")},
     true,
     true},
    {"dbrx smaug-bpe chatglm-bpe", NULL, {PRE_WORDS("\\p{N}{1,3}")}, false, false},
    {"glm4 glm5", NULL, {PRE_WORDS("\\p{N}{1,3}")}, true, false},
    {"minicpm5", NULL, {"\\p{N}{1,3}", PRE_WORDS("\\p{N}+")}, true, false},
    {"laguna", NULL, {"[^\\n]+|[\\n]+", PRE_WORDS("\\p{N}")}, false, false},
    {"ufakzeka", NULL, {PRE_LETTERS "\\p{N}" PRE_SIGNS PRE_TAIL}, false, false},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 megrez", "NFC", {PRE_WORDS("\\p{N}")}, false, false},
    {"stablelm2 hunyuan solar-open grok-2", NULL, {PRE_WORDS("\\p{N}")}, false, false},
    {"qwen35",
     "NFC",
     {PRE_ENDS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
               "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" PRE_TAIL},
     false,
     false},
    {"smollm starcoder refact codeshell exaone minerva-7b mellum2",
     NULL,
     {"\\p{N}", PRE_GPT2},
     false,
     false},
    {"command-r", "NFC", {"\\p{N}", PRE_GPT2}, false, false},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     NULL,
     {"\\p{N}{1,3}", PRE_CJK, PRE_MARKED "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" PRE_TAIL},
     false,
     false},
    {"deepseek-coder",
     NULL,
     {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
      "\\p{N}"},
     false,
     false},
    {"falcon", NULL, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", PRE_GPT2, "[0-9][0-9][0-9]"}, false, false},
    {"default",
     NULL,
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", PRE_GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
     false,
     false},
    {"bloom poro-chat gpt3-finnish", NULL, {PRE_BLOOM}, false, false},
    {"viking", NULL, {PRE_BLOOM, "\\p{N}"}, false, false},
    {"tekken", NULL, {PRE_CASED("", "\\p{N}")}, true, true},
    {"gpt-4o llama4 kanana2 talkie minimax-m2",
     NULL,
     {PRE_CASED(PRE_ENDS "?", "\\p{N}{1,3}")},
     false,
     false},
    {"tiny_aya cohere2moe",
     NULL,
     {"\\d{1,3}(?=(?:\\d{3})*\\b)", PRE_CASED(PRE_ENDS "?", "\\p{N}{1,3}")},
     false,
     false},
    {"bailingmoe bailingmoe2 llada-moe",
     NULL,
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|"
      "\\s+(?!\\S)|\\s+"},
     false,
     false},
    {"seed-coder",
     NULL,
     {PRE_ENDS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" PRE_TAIL},
     false,
     false},
    {"jais-2",
     NULL,
     {PRE_ENDS "|" PRE_LETTERS "\\p{N}{1,3}" PRE_SIGNS
               "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|"
               "\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"},
     false,
     false},
    {"exaone-moe",
     NULL,
     {PRE_ENDS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| "
               "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     false,
     false},
    {"granite-embed-multi-97m", NULL, {PRE_CASED(PRE_ENDS "?", "\\p{N}{1,3}")}, true, false},
    {"youtu",
     NULL,
     {"[\uAC00-\uD7A3\u3131-\u318E]+|[\uFF01\u2026\u201C\u201D\u2018\u2019\u2014\uFF1A\uFF1B"
      "\uFF0C\u3001-\u303F\uFE30-\uFE4F]+|[\u3105-\u312F]+|" PRE_CJK,
      PRE_CASED(PRE_ENDS "?", "\\p{N}")},
     true,
     false},
    {"spark2_5",
     NULL,
     {"\\p{N}{1,3}", PRE_CJK, PRE_MARKED "| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+", "\\p{N}"},
     false,
     false},
};
enum { PRE_ROWS = sizeof pre_rows / sizeof *pre_rows };

static bool pre_has(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = names; n && (at = strstr(at, name)); at += n)
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    return false;
}

const st_bpe_pre *st_bpe_pre_find(const char *name)
{
    for (int i = 0; i < PRE_ROWS; i++)
        if (!strchr(name, ' ') && pre_has(pre_rows[i].names, name)) return &pre_rows[i];
    return NULL;
}

json_t *st_bpe_pre_json(const st_bpe_pre *row)
{
    bool plain = !row->pattern[1] && st_flow_is_gpt2(row->pattern[0], strlen(row->pattern[0]));
    json_t *steps = json_array();
    for (int i = 0; i < ST_PRE_PATTERNS && row->pattern[i] && !plain; i++) {
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                               "pattern", "Regex", row->pattern[i], "behavior",
                                               "Isolated", "invert", 0));
    }
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", plain, "use_regex", plain);
    if (plain) {
        json_decref(steps);
        return bytes;
    }
    json_array_append_new(steps, bytes);
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* The next byte of a pattern, whichever way it is escaped. */
static int pre_next(const char *s, size_t n, size_t *i)
{
    static const char names[] = "rnt\"", are[] = "\r\n\t\"";
    const char *at = *i + 1 < n && s[*i] == '\\' ? memchr(names, s[*i + 1], 4) : NULL;
    int c = at ? are[at - names] : (uint8_t)s[*i];
    *i += at ? 2 : 1;
    return c;
}

static bool pre_equal(const char *a, size_t an, const char *b, size_t bn)
{
    size_t i = 0, k = 0;
    while (i < an && k < bn)
        if (pre_next(a, an, &i) != pre_next(b, bn, &k)) return false;
    return i == an && k == bn;
}

/* Does the step cut as the pattern does? */
static bool pre_same(const st_split *k, const char *pattern)
{
    if (!pattern || k->way != ST_APART || k->invert) return false;
    bool gpt2 = st_flow_is_gpt2(pattern, strlen(pattern));
    switch (k->kind) {
    case ST_SPLIT_GPT2: return gpt2;
    case ST_SPLIT_BYTES: return gpt2 && k->split && !k->prefix;
    case ST_SPLIT_DIGITS: return !strcmp(pattern, "\\p{N}");
    case ST_SPLIT_REGEX: return pre_equal(k->text, k->n, pattern, strlen(pattern));
    default: return false;
    }
}

const st_bpe_pre *st_bpe_pre_of(const st_flow *f, bool ignore_merges)
{
    static const char *const form[] = {[ST_NORMAL_NFC] = "NFC"};
    const char *normal = f->normals == 1 && f->normal->kind == ST_NORMAL_NFC ? form[0] : NULL;
    const st_split *last = f->splits ? &f->split[f->splits - 1] : NULL;
    if (!last || last->kind != ST_SPLIT_BYTES || last->prefix) return NULL;
    int n = f->splits - !last->split;
    if (f->normals && !normal) return NULL;
    for (int i = 0; i < PRE_ROWS; i++) {
        const st_bpe_pre *row = &pre_rows[i];
        int k = 0;
        while (k < n && k < ST_PRE_PATTERNS && pre_same(&f->split[k], row->pattern[k]))
            k++;
        bool whole = k == n && (k == ST_PRE_PATTERNS || !row->pattern[k]);
        if (whole && row->ignore_merges == ignore_merges && !row->normal == !normal) return row;
    }
    return NULL;
}
