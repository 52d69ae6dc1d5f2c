/* Chats: how a question is put to a model that was tuned to answer. The form is recognised by marks
 * that a chat template has (a Jinja program, which is not run), from which its own literals are
 * taken, or, where there is no template, by the tokens that only that form uses. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHAT_PART = 4096 };

/* Which white space is left out: none, that round either text, round the user's, round both
 * together. */
enum chat_trim { CHAT_AS_IS, CHAT_BOTH, CHAT_USER, CHAT_WHOLE };

/* A form: all of `marks` are in its templates and `tokens` in its vocabularies (spaces between). */
typedef struct {
    const char *name, *marks, *without, *tokens;
    const char *system[2], *user[2],
        *answer; /* what stands round the system's and the user's text */
    enum chat_trim trim;
    bool inside; /* the system's text stands at the head of the user's */
    int bos;     /* 1: bos begins, 0: if the template says so */
    const char *stops;
} chat_form;

static const chat_form chat_forms[] = {
    {"Llama 3.1",
     "<|start_header_id|> Cutting",
     NULL,
     NULL,
     {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
     {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     CHAT_BOTH,
     false,
     1,
     "<|eot_id|> <|eom_id|> <|end_of_text|>"},
    {"Llama 3",
     "<|start_header_id|>",
     NULL,
     "<|start_header_id|> <|end_header_id|> <|eot_id|>",
     {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
     {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     CHAT_BOTH,
     false,
     1,
     "<|eot_id|> <|eom_id|> <|end_of_text|>"},
    {"ChatML",
     "<|im_start|>",
     "strftime_now",
     "<|im_start|> <|im_end|>",
     {"<|im_start|>system\n", "<|im_end|>\n"},
     {"<|im_start|>user\n", "<|im_end|>\n"},
     "<|im_start|>assistant\n",
     CHAT_AS_IS,
     false,
     0,
     "<|im_end|> <|endoftext|>"},
    {"Gemma",
     "<start_of_turn>",
     NULL,
     "<start_of_turn> <end_of_turn>",
     {"", "\n\n"},
     {"<start_of_turn>user\n", "<end_of_turn>\n"},
     "<start_of_turn>model\n",
     CHAT_USER,
     true,
     1,
     "<end_of_turn> <eos>"},
    {"Llama 2",
     "[INST] <<SYS>>",
     NULL,
     NULL,
     {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     {"[INST] ", " [/INST]"},
     "",
     CHAT_WHOLE,
     true,
     1,
     "</s>"},
    {"Mistral",
     "[INST]",
     "[SYSTEM_PROMPT]",
     "[INST] [/INST]",
     {"", "\n\n"},
     {"[INST] ", "[/INST]"},
     "",
     CHAT_AS_IS,
     true,
     1,
     "</s>"},
    {"Phi-3",
     "<|user|> <|end|>",
     NULL,
     "<|user|> <|assistant|> <|end|>",
     {"<|system|>\n", "<|end|>\n"},
     {"<|user|>\n", "<|end|>\n"},
     "<|assistant|>\n",
     CHAT_AS_IS,
     false,
     0,
     "<|end|> <|endoftext|>"},
    {"Zephyr",
     "<|user|> <|assistant|> eos_token",
     NULL,
     NULL,
     {"<|system|>\n", "</s>\n"},
     {"<|user|>\n", "</s>\n"},
     "<|assistant|>\n",
     CHAT_AS_IS,
     false,
     0,
     "</s>"},
};
enum { CHAT_FORMS = sizeof chat_forms / sizeof *chat_forms };

struct st_chat {
    const chat_form *form;
    char user[2][CHAT_PART], preset[CHAT_PART]; /* preset: the system's text if none is given */
    bool has_preset, bos;
    int32_t stop[8];
    int stops;
};

/* ---- recognising ----------------------------------------------------------------------------- */

/* Is every word of a list (spaces between) found? */
static bool chat_all(const char *list, const st_bpe *b, const char *template)
{
    char word[64];
    bool all = list != NULL;
    for (const char *s = list; all && *s;) {
        size_t n = strcspn(s, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, s);
        all = template ? strstr(template, word) != NULL : st_bpe_named(b, word, n) >= 0;
        s += n + (s[n] == ' ');
    }
    return all;
}

static const chat_form *chat_find(const st_bpe *b)
{
    for (int i = 0; i < CHAT_FORMS; i++) {
        const chat_form *f = &chat_forms[i];
        if (!chat_all(b->chat ? f->marks : f->tokens, b, b->chat)) continue;
        if (b->chat && f->without && strstr(b->chat, f->without)) return NULL;
        return f;
    }
    return NULL;
}

/* A piece of a literal in a template, with its \n, into out; false if it does not fit. */
static bool chat_literal(const char *s, size_t n, char out[CHAT_PART])
{
    size_t k = 0;
    for (size_t i = 0; i < n && k + 1 < CHAT_PART; i++) {
        bool escaped = s[i] == '\\' && i + 1 < n;
        char c = escaped ? s[++i] : s[i];
        out[k++] = escaped && c == 'n' ? '\n' : escaped && c == 't' ? '\t' : c;
    }
    out[k] = '\0';
    return k + 1 < CHAT_PART;
}

/* The literal round the first `mark` that stands in one. */
static void chat_around(const char *template, const char *mark, char out[CHAT_PART])
{
    const char *at = strstr(template, mark);
    if (!at) return;
    const char *from = at, *end = at + strlen(mark);
    while (from > template && from[-1] != '\'' && from[-1] != '"' && from[-1] != '}' &&
           from[-1] != '\n')
        from--;
    end += strcspn(end, "'\"{\n");
    char literal[CHAT_PART];
    if (chat_literal(from, (size_t)(end - from), literal)) memcpy(out, literal, sizeof literal);
}

/* The system's text that a ChatML template puts where none is given: it stands in one literal. */
static void chat_preset(st_chat *c, const char *template)
{
    static const char head[] = "<|im_start|>system", tail[] = "<|im_end|>";
    for (const char *at = template; (at = strstr(at, head)); at++) {
        const char *s = at + strlen(head);
        s += s[0] == '\\' && s[1] == 'n' ? 2 : s[0] == '\n' ? 1 : 0;
        const char *end = strstr(s, tail);
        if (!end || s == at + strlen(head)) continue;
        if (strcspn(s, "'\"{") < (size_t)(end - s)) continue;
        c->has_preset = chat_literal(s, (size_t)(end - s), c->preset);
        return;
    }
}

/* Llama 3.1 always says which day it is: a fixed one, or today where its template asks for it. */
static void chat_date(const char *template, char out[32])
{
    time_t now = time(NULL);
    struct tm tm;
    snprintf(out, 32, "26 Jul 2024");
    if (strstr(template, "strftime_now") && localtime_r(&now, &tm))
        strftime(out, 32, "%d %b %Y", &tm);
}

static void chat_stops(st_chat *c, const st_bpe *b)
{
    for (const char *s = c->form->stops; *s;) {
        size_t n = strcspn(s, " ");
        int32_t id = st_bpe_named(b, s, n);
        if (id >= 0) c->stop[c->stops++] = id;
        s += n + (s[n] == ' ');
    }
    if (st_bpe_eos(b) >= 0) c->stop[c->stops++] = st_bpe_eos(b);
}

st_status st_chat_open(st_chat **out, const st_bpe *b, st_err *e)
{
    const chat_form *form = chat_find(b);
    *out = NULL;
    if (!form && b->chat) {
        ST_FAIL(
            e, ST_EUNSUPPORTED,
            "its chat template is of none of the forms that are known (ChatML, Llama 2, Llama 3, "
            "Mistral, Gemma, Phi-3, Zephyr); write the whole prompt (--prompt)");
    }
    if (!form) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "it has no chat template, and no tokens that only chats use: a model of plain "
                "text? Give it "
                "the beginning of one (--prompt)");
    }
    st_chat *c = *out = st_calloc(1, sizeof *c);
    if (!c) return ST_NOMEM(e, NULL);
    c->form = form;
    c->bos = form->bos || (b->chat && strstr(b->chat, "bos_token"));
    for (int i = 0; i < 2; i++)
        snprintf(c->user[i], CHAT_PART, "%s", form->user[i]);
    bool instructed = b->chat && strstr(form->marks, "[INST]");
    if (instructed) chat_around(b->chat, "[INST]", c->user[0]);
    if (instructed) chat_around(b->chat, "[/INST]", c->user[1]);
    if (b->chat && strstr(form->marks, "<|im_start|>")) chat_preset(c, b->chat);
    if (b->chat && strstr(form->marks, "Cutting")) {
        char date[32];
        chat_date(b->chat, date);
        snprintf(c->preset, CHAT_PART, "Cutting Knowledge Date: December 2023\nToday Date: %s\n\n",
                 date);
    }
    chat_stops(c, b);
    return ST_OK;
}

void st_chat_close(st_chat *c)
{
    free(c);
}

const char *st_chat_name(const st_chat *c)
{
    return c->form->name;
}

const char *st_chat_system(const st_chat *c)
{
    return c->has_preset ? c->preset : NULL;
}

bool st_chat_stop(const st_chat *c, int32_t id)
{
    for (int i = 0; i < c->stops; i++)
        if (c->stop[i] == id) return true;
    return false;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static bool chat_put(st_buffer *out, const char *s)
{
    return st_buffer_put(out, s, strlen(s));
}

/* A text without the white space before and after it. */
static bool chat_said(const char *s, bool before, bool after, st_buffer *out)
{
    static const char space[] = " \t\r\n\v\f";
    if (before) s += strspn(s, space);
    size_t n = strlen(s);
    while (after && n && strchr(space, s[n - 1]))
        n--;
    return st_buffer_put(out, s, n);
}

static bool chat_system(const st_chat *c, const char *system, st_buffer *out)
{
    const chat_form *f = c->form;
    bool dated = c->preset[0] && !c->has_preset; /* Llama 3.1: with or without a text of its own */
    if (!system && c->has_preset) system = c->preset;
    if (!system && !dated) return true;
    bool bare = f->trim == CHAT_BOTH;
    return chat_put(out, f->system[0]) && (!dated || chat_put(out, c->preset)) &&
           (!system || chat_said(system, bare, bare, out)) && chat_put(out, f->system[1]);
}

st_status st_chat_text(const st_chat *c, const st_bpe *b, const char *system, const char *user,
                       st_buffer *out, st_err *e)
{
    size_t n = 0;
    char *bos = c->bos && st_bpe_bos(b) >= 0 ? st_bpe_name(b, st_bpe_bos(b), &n) : NULL;
    bool good = !bos || st_buffer_put(out, bos, n);
    free(bos);
    if (!c->form->inside) good = good && chat_system(c, system, out);
    good = good && chat_put(out, c->user[0]);
    if (c->form->inside) good = good && chat_system(c, system, out);
    bool after = c->form->trim != CHAT_AS_IS,
         before = c->form->trim == CHAT_WHOLE ? !system : after;
    good = good && chat_said(user, before, after, out) && chat_put(out, c->user[1]) &&
           chat_put(out, c->form->answer);
    if (good) return ST_OK;
    return ST_NOMEM(e, NULL);
}

st_status st_chat_ids(const st_chat *c, const st_bpe *b, const char *system, const char *user,
                      st_ids *out, st_err *e)
{
    st_buffer text = {0};
    st_status s = st_chat_text(c, b, system, user, &text, e);
    if (!s) s = st_bpe_encode_with(b, text.s, text.n, true, out, e);
    free(text.s);
    return s;
}
