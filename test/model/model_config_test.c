/* config.json into a model: exact parameter totals of published layouts, names, the round trip, and
 * every kind of wrong, hostile or unsupported configuration. */
/* Long: tables of configurations and what is said of each. */
/* SPDX-License-Identifier: MIT */
#include "rig.h"

/* ---- totals ---------------------------------------------------------------------------------- */

#define MEDIUM "\"n_layer\": 24, \"n_head\": 16, \"n_embd\": 1024"
#define LARGE  "\"n_layer\": 36, \"n_head\": 20, \"n_embd\": 1280"
#define MLP(x) "\"h.*.mlp.*\": \"" x "\""
/* A Kronecker sum in the MLP; d1 divides the width, d2 the inner width. */
#define KRON(f, d1, d2)                                                                            \
    "\"h.*.mlp.c_fc\": \"kron:terms=" #f ",m1=" #d1 ",n1=" #d2 "\", \"h.*.mlp.c_proj\":"           \
    " \"kron:terms=" #f ",m1=" #d2 ",n1=" #d1 "\""

static const struct {
    const char *keys, *maps;
    int64_t total;
} totals[] = {
    {"", "", 124439808},
    {"\"n_layer\": 6", "", 81912576}, /* DistilGPT2 */
    {MEDIUM, "", 354823168},
    {LARGE, "", 774030080},
    {"\"n_layer\": 48, \"n_head\": 25, \"n_embd\": 1600", "", 1557611200},
    /* Krony-PT's layouts: code order (768 side, 3072 side) */
    {"", KRON(1, 32, 64), 67893504},
    {"", KRON(1, 24, 64), 67890432},
    {"", KRON(1, 32, 48), 67890432},
    {"", KRON(1, 32, 128), 67928832},
    {"", KRON(1, 768, 768), 81972576},
    {"", KRON(1, 384, 1536), 81972576},
    {"", KRON(1, 256, 1024), 74108376},
    {"", KRON(2, 256, 1024), 80400048},
    {"", KRON(3, 256, 1024), 86691720},
    {"", KRON(4, 256, 1024), 92983392},
    {"", KRON(1, 768, 1024), 86691144},
    {"", KRON(1, 384, 3072), 96128304},
    {"", KRON(1, 768, 1536), 96128304},
    {"", KRON(10, 256, 64), 71783424},
    {"", MLP("kron:terms=1,m1=768,n1=768"), 81972576},
    /* with learned scalars */
    {"",
     "\"h.*.mlp.c_fc\": \"kron:terms=4,m1=256,n1=1024,scalars=1\","
     "\"h.*.mlp.c_proj\": \"kron:terms=4,m1=1024,n1=256,scalars=1\"",
     92983488},
    /* the paper's table I, (3072 side, 768 side) there */
    {"", KRON(1, 48, 64), 67908864},
    {"", KRON(1, 32, 96), 67908864},
    {"", KRON(1, 64, 64), 67928832},
    {"", KRON(1, 48, 96), 67939584},
    {"", KRON(1, 64, 96), 67973376},
    {"", KRON(1, 48, 128), 67973376},
    {"", KRON(1, 64, 128), 68020224},
    {"", KRON(1, 96, 96), 68044032},
    {"", KRON(1, 48, 192), 68044032},
    {"", KRON(1, 96, 128), 68116224},
    {"", KRON(1, 64, 192), 68116224},
    {"", KRON(1, 128, 128), 68213376},
    {"", KRON(1, 64, 256), 68213376},
    {"", KRON(1, 384, 768), 74894784},
    {"", KRON(1, 384, 1024), 77254032},
    /* SS1 in the MLP */
    {"", MLP("ss1:factor=2"), 96128256},
    {"", MLP("ss1:factor=4"), 81972480},
    {"", MLP("ss1:factor=8"), 74894592},
    {MEDIUM, MLP("ss1:factor=2"), 254159872},
    {MEDIUM, MLP("ss1:factor=4"), 203828224},
    {MEDIUM, MLP("ss1:factor=8"), 178662400},
    {LARGE, MLP("ss1:factor=2"), 538100480},
    {LARGE, MLP("ss1:factor=4"), 420135680},
    {LARGE, MLP("ss1:factor=8"), 361153280},
    /* fly and its fork: MLP only, then attention too */
    {"", MLP("monarch:blocks=4"), 85511424},
    {"", "\"h.*\": \"monarch:blocks=4\"", 67816704},
    {"", "\"*\": \"monarch:blocks=4\"", 67816704}, /* a tied head stays the embedding */
    {"", "\"h.*\": \"ss1:factor=4\"", 60738816},
    {"", MLP("blockdiag:blocks=4"), 81972480},
    {"",
     "\"h.*.attn.c_attn\": \"lowrank:rank=72\", \"h.*.attn.c_proj\": \"lowrank:rank=48\", " MLP(
         "lowrank:rank=76"),
     50048256},
    {MEDIUM, MLP("monarch:blocks=4"), 216411136},
    {MEDIUM, "\"h.*\": \"monarch:blocks=4\"", 153496576},
    {MEDIUM, "\"h.*\": \"ss1:factor=4\"", 128330752},
    {MEDIUM,
     "\"h.*.attn.c_attn\": \"lowrank:rank=96\", \"h.*.attn.c_proj\": \"lowrank:rank=64\", " MLP(
         "lowrank:rank=102"),
     90483712},
    /* a head of its own */
    {"\"tie_word_embeddings\": false", "", 124439808 + 50257 * 768},
    {"\"tie_word_embeddings\": false", "\"*\": \"lowrank:rank=8\"",
     39505152 + 12 * 8 * (4 + 2 + 5 + 5) * 768 + 8 * (50257 + 768)},
    {"", "\"lm_head\": \"lowrank:rank=64\"", 124439808 + 64 * (50257 + 768)},
    /* embeddings, the head tied to them: KnGPT2's saves 19,298,686 (kronecker.md 8.7) */
    {"", "\"wte\": \"kron:m1=384,n1=50257\"", 124439808 - 19298686},
    {"", "\"wte\": \"lowrank:rank=384\"", 124439808 - 19003776},
    {"", "\"wte\": \"lowrank:rank=256\"", 124439808 - 25534976},
    {"", "\"wte\": \"lowrank:rank=192\"", 124439808 - 28800576},
    {"", "\"*\": \"lowrank:rank=8\"", 124439808 - 12 * 7077888 + 12 * 8 * (4 + 2 + 5 + 5) * 768},
};

static void test_totals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"model_type\": \"gpt2\", %s%s \"strut\": {\"format\": 1, \"maps\": {%s}}}",
                 totals[i].keys, *totals[i].keys ? "," : "", totals[i].maps);
        st_model *m = rig_model(text);
        st_model_count c = st_model_counts(m);
        if (c.parameters != totals[i].total) {
            fail_msg("%s: %lld parameters, expected %lld", text, (long long)c.parameters,
                     (long long)totals[i].total);
        }
        int64_t rows = (50257 + 1024) * st_model_lm(m).width;
        bool wte = strstr(totals[i].maps, "\"wte\"") != NULL; /* all else is gpt2's */
        assert_int_equal(c.embedding_parameters, wte ? totals[i].total - 85056000 : rows);
        st_model_close(m);
    }
}

/* ---- the list of parameters ------------------------------------------------------------------ */

typedef struct {
    int64_t end, count;
    char names[4096];
} listed;

static void list_param(void *ctx, const st_param *p)
{
    listed *l = ctx;
    size_t n = strlen(l->names);
    assert_int_equal(p->offset % 32, 0); /* 64 bytes in bfloat16 */
    assert_true(p->offset >= l->end && p->offset - l->end < 32);
    l->end = p->offset + st_numel(p->w);
    l->count++;
    snprintf(l->names + n, sizeof l->names - n, "%s %lld %g %g %u %s\n", p->name,
             (long long)st_numel(p->w), (double)p->init_mean, (double)p->init_std, p->flags,
             p->matrix ? p->matrix : "-");
}

static void test_list(void **state)
{
    (void)state;
    listed l = {0};
    st_model *m = rig_model(
        "{\"vocab_size\": 7, \"n_positions\": 5, \"n_embd\": 6, \"n_layer\": 2, \"n_head\": 2,"
        " \"initializer_range\": 0.5, \"strut\": {\"format\": 1, \"maps\":"
        " {\"h.1.*\": \"lowrank:rank=2\", \"h.1.attn.*\": \"dense\"}}}");
    st_model_params(m, list_param, &l);
    assert_int_equal(st_model_elements(m) % 32, 0);
    assert_true(st_model_elements(m) >= l.end);
    const char *head = "wte.weight 42 0 0.5 3 wte\n"
                       "wpe.weight 30 0 0.5 3 -\n"
                       "h.0.ln_1.weight 6 1 0 4 -\n"
                       "h.0.ln_1.bias 6 0 0 12 -\n"
                       "h.0.attn.c_attn.weight 108 0 0.5 33 h.0.attn.c_attn\n"
                       "h.0.attn.c_attn.bias 18 0 0 8 h.0.attn.c_attn\n"
                       "h.0.attn.c_proj.weight 36 0 0.25 33 h.0.attn.c_proj\n"
                       "h.0.attn.c_proj.bias 6 0 0 8 h.0.attn.c_proj\n"
                       "h.0.ln_2.weight 6 1 0 4 -\n"
                       "h.0.ln_2.bias 6 0 0 12 -\n"
                       "h.0.mlp.c_fc.weight 144 0 0.5 33 h.0.mlp.c_fc\n"
                       "h.0.mlp.c_fc.bias 24 0 0 8 h.0.mlp.c_fc\n"
                       "h.0.mlp.c_proj.weight 144 0 0.25 33 h.0.mlp.c_proj\n"
                       "h.0.mlp.c_proj.bias 6 0 0 8 h.0.mlp.c_proj\n";
    if (strncmp(l.names, head, strlen(head))) fail_msg("%s", l.names);
    assert_non_null(strstr(l.names, "h.1.attn.c_attn.weight 108"));
    assert_non_null(strstr(l.names, "h.1.mlp.c_proj.u 12 "));
    assert_non_null(strstr(l.names, "h.1.mlp.c_proj.v 48 "));
    assert_non_null(strstr(l.names, " 17 h.1.mlp.c_fc\n")); /* factor, decayed, not flipped */
    assert_non_null(strstr(l.names, "ln_f.bias 6 0 0 12 -\n"));
    st_model_close(m);
}

static void list_matrix(void *ctx, const char *name, const st_spec *spec)
{
    listed *l = ctx;
    size_t n = strlen(l->names);
    char text[ST_SPEC_TEXT];
    st_spec_print(spec, text);
    snprintf(l->names + n, sizeof l->names - n, "%s %lld %lld %s\n", name, (long long)spec->in,
             (long long)spec->out, text);
}

static const char *const mixed =
    "{\"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 5, \"hidden_size\": 6,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 3, \"n_inner\": 10, \"eos_token_id\": 10, "
    "\"bos_token_id\": 9, \"reorder_and_upcast_attn\": true,"
    " \"activation_function\": \"gelu\", \"layer_norm_epsilon\": 1e-3, \"attn_pdrop\": 0.25,"
    " \"scale_attn_weights\": false, \"scale_attn_by_inverse_layer_idx\": true, \"n_ctx\": 5,"
    " \"made_up_key\": [1], \"strut\": {\"format\": 1, \"maps\": {\"*\": \"lowrank:rank=2\","
    " \"h.[0-9].attn.c_attn\": \"dense\", \"h.1.mlp.c_?c\": \"lowrank:rank=3\","
    " \"lm_head\": \"lowrank:rank=4\"}}}";

/* Later globs win; a config written by strut opens the same model. */
static void test_round_trip(void **state)
{
    (void)state;
    const char *want =
        "wte 6 11 dense\nh.0.attn.c_attn 6 18 dense\nh.0.attn.c_proj 6 6 lowrank:rank=2\n"
        "h.0.mlp.c_fc 6 10 lowrank:rank=2\nh.0.mlp.c_proj 10 6 lowrank:rank=2\n"
        "h.1.attn.c_attn 6 18 dense\nh.1.attn.c_proj 6 6 lowrank:rank=2\n"
        "h.1.mlp.c_fc 6 10 lowrank:rank=3\nh.1.mlp.c_proj 10 6 lowrank:rank=2\n"
        "lm_head 6 11 lowrank:rank=4\n";
    st_err e;
    st_model *m = rig_model(mixed), *again;
    json_t *config = st_model_config(m), *config2;
    assert_non_null(config);
    assert_ok(st_model_open(&again, config, &e), &e);
    for (int i = 0; i < 2; i++) {
        const st_model *x = i ? again : m;
        listed l = {0};
        st_model_matrices(x, list_matrix, &l);
        if (strcmp(l.names, want)) fail_msg("%s: %s", i ? "again" : "first", l.names);
        st_lm_shape s = st_model_lm(x);
        assert_int_equal(s.vocab, 11);
        assert_int_equal(s.context, 5);
        assert_int_equal(s.width, 6);
        assert_int_equal(s.layers, 2);
        assert_int_equal(s.heads, 3);
        assert_int_equal(s.inner, 10);
        assert_int_equal(s.eos, 10);
        assert_int_equal(s.bos, 9);
        assert_int_equal(s.gelu, ST_GELU_ERF);
        assert_false(s.tied);
        assert_true(s.drop_attn == 0.25f && s.drop_resid == 0.1f && s.drop_embed == 0.1f);
    }
    config2 = st_model_config(again);
    assert_true(json_equal(config, config2));
    assert_int_equal(st_model_elements(m), st_model_elements(again));
    assert_true(json_is_false(json_object_get(config, "tie_word_embeddings")));
    assert_true(json_is_true(json_object_get(config, "scale_attn_by_inverse_layer_idx")));
    assert_true(json_is_false(json_object_get(config, "scale_attn_weights")));
    json_decref(config);
    json_decref(config2);
    st_model_close(m);
    st_model_close(again);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static const struct {
    const char *config;
    st_status code;
    const char *says[3]; /* the key, what was found, what was expected */
} wrong[] = {
    {"[]", ST_EFORMAT, {"config.json", "object"}},
    {"{\"model_type\": \"bert\"}", ST_EUNSUPPORTED, {"model_type", "bert", "gpt2"}},
    {"{\"model_type\": 3}", ST_EFORMAT, {"model_type", "a whole number", "a string"}},
    {"{\"vocab_size\": 0}", ST_EFORMAT, {"vocab_size", "is 0", "1 to"}},
    {"{\"vocab_size\": -5}", ST_EFORMAT, {"vocab_size", "-5", "1 to"}},
    {"{\"vocab_size\": 9223372036854775807}", ST_EFORMAT, {"vocab_size", "9223372036854775807"}},
    {"{\"vocab_size\": 50257.5}", ST_EFORMAT, {"vocab_size", "a number", "whole"}},
    {"{\"vocab_size\": \"many\"}", ST_EFORMAT, {"vocab_size", "a string", "whole"}},
    {"{\"n_positions\": 0}", ST_EFORMAT, {"n_positions", "is 0", "1 to"}},
    {"{\"n_embd\": 100000000}", ST_EFORMAT, {"n_embd", "100000000", "1 to"}},
    {"{\"n_layer\": 0}", ST_EFORMAT, {"n_layer", "is 0", "1 to"}},
    {"{\"n_layer\": 1000000000}", ST_EFORMAT, {"n_layer", "1000000000", "1 to"}},
    {"{\"n_head\": 0}", ST_EFORMAT, {"n_head", "is 0", "1 to"}},
    {"{\"n_head\": 7}", ST_EFORMAT, {"n_head", "is 7", "768"}},
    {"{\"n_inner\": -1}", ST_EFORMAT, {"n_inner", "-1", "1 to"}},
    {"{\"n_embd\": 768, \"hidden_size\": 512}", ST_EFORMAT, {"n_embd", "hidden_size", "512"}},
    {"{\"activation_function\": \"relu\"}",
     ST_EUNSUPPORTED,
     {"activation_function", "relu", "gelu_new"}},
    {"{\"resid_pdrop\": 1.5}", ST_EFORMAT, {"resid_pdrop", "1.5", "0 to"}},
    {"{\"embd_pdrop\": -0.1}", ST_EFORMAT, {"embd_pdrop", "-0.1", "0 to"}},
    {"{\"attn_pdrop\": 1}", ST_EFORMAT, {"attn_pdrop", "is 1", "0 to"}},
    {"{\"attn_pdrop\": true}", ST_EFORMAT, {"attn_pdrop", "true", "a number"}},
    {"{\"layer_norm_epsilon\": -1}", ST_EFORMAT, {"layer_norm_epsilon", "is -1"}},
    {"{\"initializer_range\": 1e300}", ST_EFORMAT, {"initializer_range", "1e+300", "0 to"}},
    {"{\"scale_attn_weights\": 1}", ST_EFORMAT, {"scale_attn_weights", "a whole number", "true"}},
    {"{\"tie_word_embeddings\": \"no\"}", ST_EFORMAT, {"tie_word_embeddings", "string", "true"}},
    {"{\"add_cross_attention\": true}", ST_EUNSUPPORTED, {"add_cross_attention", "true", "false"}},
    {"{\"pruned_heads\": {\"0\": [1]}}", ST_EUNSUPPORTED, {"pruned_heads"}},
    {"{\"quantization_config\": {}}", ST_EUNSUPPORTED, {"quantization_config"}},
    {"{\"strut\": 1}", ST_EFORMAT, {"strut", "object"}},
    {"{\"strut\": {}}", ST_EFORMAT, {"strut", "format", "expected 1"}},
    {"{\"strut\": {\"format\": 2}}", ST_EUNSUPPORTED, {"format is 2", "expected 1", "newer"}},
    {"{\"strut\": {\"format\": 1, \"map\": {}}}", ST_EFORMAT, {"'map'", "maps"}},
    {"{\"strut\": {\"format\": 1, \"maps\": []}}", ST_EFORMAT, {"maps", "object"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"*\": 4}}}", ST_EFORMAT, {"maps", "'*'", "quotes"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"h.*.mlp.fc\": \"dense\"}}}",
     ST_EARG,
     {"h.*.mlp.fc", "none of 50", "mlp.c_fc"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"h.12.mlp.c_fc\": \"dense\"}}}",
     ST_EARG,
     {"h.12.mlp.c_fc", "none", "h.1"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"h.3.*\": \"lowrnk:rank=4\"}}}",
     ST_EARG,
     {"h.3.attn.c_attn", "lowrnk", "lowrank"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"h.3.*\": \"lowrank:rank=100000\"}}}",
     ST_ESHAPE,
     {"h.3.attn.c_attn", "100000", "768"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"wte\": \"monarch:blocks=4\"}}}",
     ST_EUNSUPPORTED,
     {"wte", "monarch has no row look-up", "dense, lowrank, kron"}},
    {"{\"strut\": {\"format\": 1, \"maps\": {\"wte\": \"kron:m1=768,n1=1733\"}}}",
     ST_ESHAPE,
     {"wte", "n1=1733", "n1=50257"}},
    /* more than any machine holds */
    {"{\"n_embd\": 1048576, \"n_inner\": 4194304, \"n_head\": 1, \"n_layer\": 1024}",
     ST_ENOMEM,
     {"parameters", "sizes"}},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        st_model *m = (st_model *)1;
        st_err e = {0};
        json_t *config = rig_json(wrong[i].config);
        if (!json_object_get(config, "model_type"))
            json_object_set_new(config, "model_type", json_string("gpt2"));
        st_status got = st_model_open(&m, config, &e);
        if (got != wrong[i].code) {
            fail_msg("%s: status %d, expected %d: %s", wrong[i].config, got, wrong[i].code, e.msg);
        }
        assert_null(m);
        assert_says(&e, "config.json");
        for (int k = 0; k < 3 && wrong[i].says[k]; k++)
            assert_says(&e, wrong[i].says[k]);
        json_decref(config);
    }
}

/* What says nothing of a GPT-2 is not one of 124 million parameters. */
static void test_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *config, *says;
    } rows[] = {
        {"{}", "(n_embd, n_layer ...): it is empty"},
        {"{\"scripts\": {}, \"name\": \"x\"}", ", but begins with "},
        {"{\"initializer_range\": 0.02}", "config.json: says no model_type"},
        {"{\"n_embd\": 768}", NULL}, /* of before model_type */
        {"{\"model_type\": \"gpt2\"}", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_model *m;
        st_err e = {0};
        json_t *config = rig_json(rows[i].config);
        st_status s = st_model_open(&m, config, &e);
        assert_int_equal(s, rows[i].says ? ST_EFORMAT : ST_OK);
        if (rows[i].says) assert_says(&e, rows[i].says);
        st_model_close(m);
        json_decref(config);
    }
}

/* Thousands of maps, and patterns made to be slow. */
static void test_hostile_maps(void **state)
{
    (void)state;
    st_err e = {0};
    st_model *m;
    json_t *maps = json_object(), *config;
    char glob[512];
    for (int i = 0; i < 500; i++) {
        snprintf(glob, sizeof glob, "%.*sb%d", 300,
                 "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a", i);
        json_object_set_new(maps, glob, json_string("dense"));
    }
    config = json_pack("{s:i, s:{s:i, s:o}}", "n_layer", 1024, "strut", "format", 1, "maps", maps);
    double start = st_now();
    assert_st(st_model_open(&m, config, &e), ST_EARG, &e);
    assert_true(st_now() - start < 20.0);
    json_decref(config);
    maps = json_object();
    for (int i = 0; i < 20000; i++) {
        snprintf(glob, sizeof glob, "h.%d.*", i);
        json_object_set_new(maps, glob, json_string("dense"));
    }
    config =
        json_pack("{s:s, s:{s:i, s:o}}", "model_type", "gpt2", "strut", "format", 1, "maps", maps);
    assert_st(st_model_open(&m, config, &e), ST_EFORMAT, &e);
    assert_says(&e, "20000 entries");
    json_decref(config);
}

/* Plans of impossible calls are errors, of huge ones memory errors, of usual ones cheap. */
static void test_plan_limits(void **state)
{
    (void)state;
    st_err e = {0};
    size_t bytes;
    st_cost cost;
    st_stream *q;
    st_model *m = rig_model("{\"model_type\": \"gpt2\"}");
    assert_ok(st_stream_open(&q, "ref", 1, &e), &e);
    st_lm_args a = {.batch = 1, .len = 1025};
    assert_st(st_model_plan(m, q, ST_F32, &a, true, &bytes, &cost, &e), ST_EARG, &e);
    assert_says(&e, "1025");
    assert_says(&e, "1024");
    a.len = 0;
    assert_st(st_model_plan(m, q, ST_F32, &a, true, &bytes, &cost, &e), ST_EARG, &e);
    a.len = 1024;
    a.batch = -1;
    assert_st(st_model_plan(m, q, ST_F32, &a, true, &bytes, &cost, &e), ST_EARG, &e);
    a.batch = INT64_MAX;
    assert_st(st_model_plan(m, q, ST_F32, &a, true, &bytes, &cost, &e), ST_EARG, &e);
    assert_says(&e, "batch");
    a.batch = 2000000;
    assert_st(st_model_plan(m, q, ST_F32, &a, true, &bytes, &cost, &e), ST_ENOMEM, &e);
    assert_says(&e, "smaller batch");
    a.batch = 1;
    assert_ok(st_model_plan(m, q, ST_F32, &a, true, &bytes, &cost, &e), &e);
    assert_true(bytes < (size_t)1 << 30);
    /* 3 * (weights of matrices + tied head) * tokens + 7 attention products of 12 * 768 * T(T+1)/2
     */
    int64_t matrices = 12 * 12 * 768 * 768 + 50257 * 768, pairs = 1024 * 1025 / 2;
    assert_int_equal(cost.macs, 3 * matrices * 1024 + 7 * 12 * 768 * pairs);
    st_stream_close(q);
    st_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_totals),      cmocka_unit_test(test_list),
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_nothing),     cmocka_unit_test(test_hostile_maps),
        cmocka_unit_test(test_plan_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
