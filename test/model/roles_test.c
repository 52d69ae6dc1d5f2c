/* What each matrix is for, by family, and what follows from it: which sides are the residual stream
 * and the hidden units, which matrices hold rows of tokens. */
/* SPDX-License-Identifier: MIT */
#include "model/model.h"
#include "testing.h"

static const char *const role_name[] = {"other",    "embedding", "position", "patch", "norm-attn",
                                        "norm-mlp", "norm-head", "norm-out", "qkv",   "attn-out",
                                        "mlp-in",   "mlp-gate",  "mlp-out",  "head"};
static const char side_name[] = {'-', 'i', 'o'};

static st_model *opened(const char *text)
{
    st_err e = {0};
    st_model *m = NULL;
    json_t *config = NULL;
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    return m;
}

enum { TEXT = 4096 };

static void print_param(void *ctx, const st_param *p)
{
    char *text = ctx;
    size_t n = strlen(text);
    snprintf(text + n, TEXT - n, "%s %s %lld %c%c\n", p->name, role_name[p->role],
             (long long)p->layer, side_name[st_role_residual(p->role)],
             side_name[st_role_hidden(p->role)]);
}

static void check_params(const st_model *m, const char *want)
{
    char text[TEXT] = "";
    st_model_params(m, print_param, text);
    if (strcmp(text, want) != 0) fail_msg("%s", text);
}

static const char gpt2[] = "{\"model_type\":\"gpt2\",\"vocab_size\":9,\"n_positions\":4,"
                           "\"n_embd\":4,\"n_layer\":1,\"n_head\":2";

static void test_gpt2(void **state)
{
    (void)state;
    char config[256];
    snprintf(config, sizeof config, "%s,\"tie_word_embeddings\":false}", gpt2);
    st_model *m = opened(config);
    check_params(m, "wte.weight embedding -1 i-\n"
                    "wpe.weight position -1 i-\n"
                    "h.0.ln_1.weight norm-attn 0 o-\n"
                    "h.0.ln_1.bias norm-attn 0 o-\n"
                    "h.0.attn.c_attn.weight qkv 0 i-\n"
                    "h.0.attn.c_attn.bias qkv 0 i-\n"
                    "h.0.attn.c_proj.weight attn-out 0 o-\n"
                    "h.0.attn.c_proj.bias attn-out 0 o-\n"
                    "h.0.ln_2.weight norm-mlp 0 o-\n"
                    "h.0.ln_2.bias norm-mlp 0 o-\n"
                    "h.0.mlp.c_fc.weight mlp-in 0 io\n"
                    "h.0.mlp.c_fc.bias mlp-in 0 io\n"
                    "h.0.mlp.c_proj.weight mlp-out 0 oi\n"
                    "h.0.mlp.c_proj.bias mlp-out 0 oi\n"
                    "ln_f.weight norm-head -1 o-\n"
                    "ln_f.bias norm-head -1 o-\n"
                    "lm_head.weight head -1 i-\n");
    assert_string_equal(st_model_role(m, ST_ROLE_MLP_OUT, 0)->name, "h.0.mlp.c_proj");
    assert_null(st_model_role(m, ST_ROLE_MLP_OUT, 1));
    assert_null(st_model_role(m, ST_ROLE_MLP_OUT, -1));
    assert_null(st_model_role(m, ST_ROLE_MLP_GATE, 0));
    assert_null(st_model_slot(m, "h.0.mlp"));
    assert_string_equal(st_model_globs(m).mlp, "h.*.mlp.*");
    st_model_close(m);
}

/* The rows of tokens: wte always, the head where it is tied and no map parts it. */
static void test_table(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        bool head;
    } row[] = {{"}", true},
               {",\"tie_word_embeddings\":false}", false},
               {",\"strut\":{\"format\":1,\"maps\":{\"lm_head\":\"lowrank:rank=2\"}}}", false}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char config[320];
        snprintf(config, sizeof config, "%s%s", gpt2, row[i].more);
        st_model *m = opened(config);
        assert_true(st_model_table(m, "wte"));
        assert_int_equal(st_model_table(m, "lm_head"), row[i].head);
        assert_false(st_model_table(m, "h.0.mlp.c_fc"));
        st_model_close(m);
    }
}

/* Of a classifier's matrices those of its blocks have blocks' roles; its token modules are patches.
 */
static void test_t2t(void **state)
{
    (void)state;
    st_model *m = opened("{\"model_type\":\"t2t_vit\",\"tokens_type\":\"transformer\","
                         "\"img_size\":32,\"embed_dim\":16,\"depth\":2,\"num_heads\":2,"
                         "\"mlp_dim\":32,\"token_dim\":4,\"num_classes\":10}");
    int64_t n, patches = 0;
    const st_slot *slot = st_model_slots(m, &n);
    for (int64_t i = 0; i < n; i++)
        patches += slot[i].role == ST_ROLE_PATCH && slot[i].layer == -1;
    assert_int_equal(patches, 9);
    assert_string_equal(st_model_role(m, ST_ROLE_QKV, 1)->name, "blocks.1.attn.qkv");
    assert_string_equal(st_model_role(m, ST_ROLE_MLP_IN, 0)->name, "blocks.0.mlp.fc1");
    assert_string_equal(st_model_role(m, ST_ROLE_HEAD, -1)->name, "head");
    assert_null(st_model_role(m, ST_ROLE_EMBEDDING, -1));
    assert_false(st_model_table(m, "head"));
    assert_string_equal(st_model_globs(m).attention, "blocks.*.attn.*");
    st_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gpt2), cmocka_unit_test(test_table),
                                       cmocka_unit_test(test_t2t)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
