/* Chats: questions in every known form are what transformers' apply_chat_template makes of them
 * (test/fixtures/chat.json, tools/fixtures_chat.py); unknown forms are said to be; forms known by
 * tokens. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"

#define TOKENS "test/fixtures/tokens/llama3.json"

/* A folder with the tokenizer of TOKENS, more special tokens and a chat template (or none). */
static st_bpe *chat_tokenizer(const char *const *tokens, const json_t *template)
{
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    st_err e;
    json_t *root;
    st_bpe *b;
    assert_ok(st_json_load(&root, TOKENS, 1 << 24, &e), &e);
    json_t *added = json_object_get(root, "added_tokens");
    for (int i = 0; tokens[i]; i++) {
        json_int_t id = 608 + i;
        json_array_append_new(added, json_pack("{s:I, s:s, s:b, s:b}", "id", id, "content",
                                               tokens[i], "special", 1, "normalized", 0));
    }
    assert_ok(st_write_json(path, root, &e), &e);
    json_decref(root);
    json_t *config = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    if (template) json_object_set(config, "chat_template", (json_t *)(uintptr_t) template);
    assert_ok(st_write_json(st_test_path(dir, "tokenizer_config.json"), config, &e), &e);
    json_decref(config);
    assert_ok(st_bpe_open(&b, dir, &e), &e);
    st_test_remove(dir);
    return b;
}

static void chat_rows(const st_chat *c, const st_bpe *b, const json_t *rows, size_t form)
{
    const json_t *row;
    size_t i;
    assert_true(json_array_size(rows) >= 5);
    json_array_foreach(rows, i, row)
    {
        st_buffer text = {0};
        st_ids ids = {0}, same = {0};
        st_err e;
        const char *system = json_string_value(json_array_get(row, 0)),
                   *user = json_string_value(json_array_get(row, 1)),
                   *want = json_string_value(json_array_get(row, 2));
        assert_ok(st_chat_text(c, b, system, user, &text, &e), &e);
        assert_true(st_buffer_put(&text, "", 1));
        if (strcmp(text.s, want))
            fail_msg("form %zu, row %zu: \"%s\", not \"%s\"", form, i, text.s, want);
        assert_ok(st_chat_ids(c, b, system, user, &ids, &e), &e);
        assert_ok(st_bpe_encode_with(b, want, strlen(want), true, &same, &e), &e);
        assert_int_equal(ids.n, same.n);
        assert_memory_equal(ids.id, same.id, (size_t)ids.n * sizeof *ids.id);
        st_ids_free(&ids);
        st_ids_free(&same);
        free(text.s);
    }
}

static void chat_as_transformers(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    st_err e;
    json_t *forms;
    const json_t *form;
    size_t i;
    assert_ok(st_json_load(&forms, "test/fixtures/chat.json", 1 << 20, &e), &e);
    json_array_foreach(forms, i, form)
    {
        const char *name = json_string_value(json_object_get(form, "name")),
                   *system = json_string_value(json_object_get(form, "system"));
        st_bpe *b = chat_tokenizer(none, json_object_get(form, "template"));
        st_chat *c;
        st_status s = st_chat_open(&c, b, &e);
        if (!name) {
            assert_st(s, ST_EUNSUPPORTED, &e);
            assert_says(&e, "of none of the forms that are known");
            assert_null(c);
        } else {
            assert_ok(s, &e);
            assert_string_equal(st_chat_name(c), name);
            if (system) assert_string_equal(st_chat_system(c), system);
            if (!system) assert_null(st_chat_system(c));
            chat_rows(c, b, json_object_get(form, "rows"), i);
        }
        st_chat_close(c);
        st_bpe_close(b);
    }
    json_decref(forms);
}

/* Of a list the one named "default" counts. */
static void chat_list(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    json_t *list = json_pack("[{s:s, s:s}, {s:s, s:s}]", "name", "rag", "template", "nothing known",
                             "name", "default", "template", "{{ '<|im_start|>' }}");
    st_bpe *b = chat_tokenizer(none, list);
    assert_string_equal(st_bpe_chat(b), "{{ '<|im_start|>' }}");
    st_bpe_close(b);
    json_decref(list);
}

/* Without a template the tokens say which it is, and which of them ends an answer. */
static void chat_by_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *token[4], *name, *stop;
    } rows[] = {
        {{"<|im_start|>"}, "ChatML", "<|im_end|>"},
        {{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, "Llama 3", "<|eot_id|>"},
        {{"<start_of_turn>", "<end_of_turn>"}, "Gemma", "<end_of_turn>"},
        {{"[INST]", "[/INST]"}, "Mistral", "</s>"},
        {{"<|user|>", "<|assistant|>", "<|end|>"}, "Phi-3", "<|end|>"},
        {{"<|user|>"}, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_bpe *b = chat_tokenizer(rows[i].token, NULL);
        st_chat *c;
        st_err e;
        st_status s = st_chat_open(&c, b, &e);
        if (rows[i].name) {
            assert_ok(s, &e);
            assert_string_equal(st_chat_name(c), rows[i].name);
            int32_t stop = st_bpe_find(b, rows[i].stop, strlen(rows[i].stop));
            assert_true(stop >= 0 && st_chat_stop(c, stop));
            assert_true(st_chat_stop(c, st_bpe_eos(b)));
            assert_false(st_chat_stop(c, 5));
        } else {
            assert_st(s, ST_EUNSUPPORTED, &e);
            assert_says(&e, "it has no chat template");
        }
        st_chat_close(c);
        st_bpe_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_as_transformers),
        cmocka_unit_test(chat_list),
        cmocka_unit_test(chat_by_tokens),
    };
    return cmocka_run_group_tests_name("chats", tests, NULL, NULL);
}
