/* Decoding step by step, played from a recording where the device keeps them, gives the logits of
 * reading the whole text anew, on every device, for matrices of all kinds, also when the cache is
 * begun again. */
/* SPDX-License-Identifier: MIT */
#include "rig.h"

enum { VOCAB = 61, CONTEXT = 24, START = 5, STEPS = 12, MOST = 2 };

static int32_t token(int64_t item, int64_t at)
{
    return (int32_t)((item * 17 + at * at * 7 + 3 * at + 1) % VOCAB);
}

/* A GPT-2 whose blocks' matrices are `spec`, or, where it begins with a comma, what is shaped like
 * a Llama with these keys. */
static void open_model(rig *r, const char *device, st_dtype t, const char *spec)
{
    char text[640];
    int n = snprintf(text, sizeof text,
                     "{\"model_type\":\"gpt2\",\"vocab_size\":%d,\"n_positions\":%d,"
                     "\"n_embd\":256,\"n_layer\":2,\"n_head\":4,\"n_inner\":512,\"strut\":"
                     "{\"format\":1,\"maps\":{\"h.*.mlp.*\":\"%s\",\"h.*.attn.*\":\"%s\"}}}",
                     VOCAB, CONTEXT, spec, spec);
    if (spec[0] == ',')
        n = snprintf(text, sizeof text,
                     "{\"vocab_size\":%d,\"max_position_embeddings\":%d,\"hidden_size\":128,"
                     "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"intermediate_size\":320"
                     "%s}",
                     VOCAB, CONTEXT, spec);
    assert_true(n < (int)sizeof text);
    json_t *config = rig_json(text);
    rig_open(r, device, t, config);
    json_decref(config);
    rig_random(r);
}

/* Logits after token `last` of all texts, read from the beginning. */
static float *anew(rig *r, int64_t batch, int64_t last)
{
    int32_t ids[MOST * CONTEXT];
    for (int64_t i = 0; i < batch; i++)
        for (int64_t t = 0; t <= last; t++)
            ids[i * (last + 1) + t] = token(i, t);
    size_t mark = st_arena_mark(&r->mem);
    st_lm_args a = {.batch = batch, .len = last + 1, .last_only = 1};
    a.ids = rig_ints(r, ids, batch * (last + 1));
    a.logits = st_take2(&r->mem, ST_F32, batch, VOCAB);
    st_model_forward(r->m, r->q, &a, &r->tmp);
    float *x = rig_get(r, a.logits);
    st_arena_rewind(&r->mem, mark);
    return x;
}

static void read_start(rig *r, st_kv *kv, st_tensor logits)
{
    int64_t batch = kv->batch;
    int32_t ids[MOST * START];
    for (int64_t i = 0; i < batch; i++)
        for (int64_t t = 0; t < START; t++)
            ids[i * START + t] = token(i, t);
    st_lm_args a = {.batch = batch, .len = START, .last_only = 1, .kv = kv, .logits = logits};
    a.ids = rig_ints(r, ids, batch * START);
    st_model_forward(r->m, r->q, &a, &r->tmp);
}

static void decode_as(const char *device, st_dtype t, const char *spec, int64_t batch)
{
    rig r;
    st_kv kv;
    st_decode d;
    open_model(&r, device, t, spec);
    st_kv_take(&kv, r.m, t, batch, CONTEXT, &r.mem);
    rig_spoil(&r, kv.k);
    rig_spoil(&r, kv.v);
    st_lm_args a = {.batch = batch, .last_only = 1, .kv = &kv};
    a.logits = st_take2(&r.mem, ST_F32, batch, VOCAB);
    st_decode_start(&d, r.m, r.q, &a, &r.mem);
    for (int round = 0; round < 2; round++) {
        kv.used = 0;
        read_start(&r, &kv, a.logits);
        for (int64_t at = START; at < START + STEPS; at++) {
            int32_t ids[MOST] = {token(0, at), token(1, at)};
            st_decode_step(&d, ids, &r.tmp);
            assert_int_equal(kv.used, at + 1);
            float *want = anew(&r, batch, at), *got = rig_get(&r, a.logits);
            assert_close(spec, got, want, batch * VOCAB, t == ST_F32 ? 2e-5 : 0.04);
            test_free(want);
            test_free(got);
        }
    }
    st_decode_end(&d);
    rig_close(&r);
}

static void decode_on(const char *device)
{
    static const char *const spec[] = {"dense",
                                       "lowrank:rank=16",
                                       "monarch:blocks=4",
                                       "ss1:factor=4",
                                       "blockdiag:blocks=4",
                                       ",\"model_type\":\"llama\",\"num_key_value_heads\":2",
                                       ",\"model_type\":\"mistral\",\"num_key_value_heads\":1,"
                                       "\"sliding_window\":7",
                                       ",\"model_type\":\"qwen3\",\"num_key_value_heads\":4,"
                                       "\"head_dim\":24",
                                       ",\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":"
                                       "\"dynamic\",\"factor\":2.0}"};
    for (size_t i = 0; i < sizeof spec / sizeof *spec; i++) {
        for (int64_t batch = 1; batch <= MOST; batch++) {
            decode_as(device, ST_F32, spec[i], batch);
            decode_as(device, ST_BF16, spec[i], batch);
        }
    }
}

static void test_ref(void **state)
{
    (void)state;
    decode_on("ref");
}

static void test_cpu(void **state)
{
    (void)state;
    decode_on("cpu");
}

static void test_cuda(void **state)
{
    st_stream *q;
    (void)state;
    if (st_stream_open(&q, "cuda", 0, NULL)) skip();
    st_stream_close(q);
    decode_on("cuda");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_cuda)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
