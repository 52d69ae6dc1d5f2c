/* A forward in pieces is the forward, and a tap sees what matrices are fed. */
/* SPDX-License-Identifier: MIT */
#include "rig.h"

static const char *const tiny =
    "{\"vocab_size\": 40, \"n_positions\": 8, \"n_embd\": 12, \"n_layer\": 3, \"n_head\": 2,"
    " \"initializer_range\": 0.3, \"strut\": {\"format\": 1, \"maps\": "
    "{\"h.1.mlp.c_fc\": \"lowrank:rank=3\"}}}";

enum { BATCH = 2, LEN = 7, ROWS = BATCH * LEN, VOCAB = 40, WIDTH = 12 };

static void tiny_open(rig *r)
{
    json_t *config = rig_json(tiny);
    rig_open(r, "ref", ST_F32, config);
    json_decref(config);
    rig_random(r);
}

static void test_pieces_are_the_whole(void **state)
{
    (void)state;
    rig r;
    tiny_open(&r);
    st_lm_args a = rig_batch(&r, BATCH, LEN, 4);
    a.logits = st_take2(&r.mem, ST_F32, ROWS, VOCAB);
    rig_run(&r, &a, false);
    float *loss = rig_get(&r, a.loss), *logits = rig_get(&r, a.logits);
    st_lm_args part = a;
    part.hidden = st_take2(&r.mem, ST_F32, ROWS, WIDTH);
    static const struct {
        int64_t first, blocks;
    } pieces[] = {{0, 1}, {1, 1}, {2, 0}};
    for (int i = 0; i < 3; i++) {
        rig_spoil(&r, a.loss);
        rig_spoil(&r, a.logits);
        part.first = pieces[i].first;
        part.blocks = pieces[i].blocks;
        rig_run(&r, &part, false);
        float *now = rig_get(&r, a.loss);
        assert_true(isnan(now[0]) == (i < 2)); /* no head before the end */
        test_free(now);
    }
    float *again = rig_get(&r, a.loss), *out = rig_get(&r, a.logits);
    assert_memory_equal(again, loss, ROWS * sizeof *loss);
    assert_memory_equal(out, logits, ROWS * VOCAB * sizeof *out);
    /* the head alone: all blocks done */
    part.first = 0;
    part.blocks = 3;
    rig_run(&r, &part, false);
    rig_spoil(&r, a.loss);
    part.first = 3;
    part.blocks = 0;
    rig_run(&r, &part, false);
    float *head = rig_get(&r, a.loss);
    assert_memory_equal(head, loss, ROWS * sizeof *loss);
    test_free(head);
    test_free(again);
    test_free(out);
    test_free(loss);
    test_free(logits);
    rig_close(&r);
}

typedef struct {
    char seen[1024];
    float x[ROWS * WIDTH]; /* of the head */
} watched;

static void watch(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    watched *w = ctx;
    strcat(w->seen, matrix);
    strcat(w->seen, " ");
    assert_int_equal(x.dim[0], ROWS);
    assert_int_equal(x.dim[1], strcmp(matrix + 4, "mlp.c_proj") == 0 ? 4 * WIDTH : WIDTH);
    if (strcmp(matrix, "lm_head") == 0) st_download(q, w->x, x);
}

typedef struct {
    const char *name;
    st_tensor w;
} wanted;

static void want(void *ctx, const st_param *p)
{
    wanted *t = ctx;
    if (strcmp(p->name, t->name) == 0) t->w = p->w;
}

static void test_a_tap_sees_every_input_once(void **state)
{
    (void)state;
    rig r;
    st_err e = {0};
    watched w = {.seen = ""};
    tiny_open(&r);
    st_lm_args a = rig_batch(&r, BATCH, LEN, 4);
    a.logits = st_take2(&r.mem, ST_F32, ROWS, VOCAB);
    st_model_tap(r.m, watch, &w);
    size_t bytes;
    assert_ok(st_model_plan(r.m, r.q, ST_F32, &a, false, &bytes, NULL, &e), &e);
    assert_string_equal(w.seen, ""); /* nothing runs in a plan */
    rig_run(&r, &a, false);
    char expect[1024] = "";
    for (int i = 0; i < 3; i++) {
        char line[256];
        snprintf(line, sizeof line,
                 "h.%d.attn.c_attn h.%d.attn.c_proj h.%d.mlp.c_fc h.%d.mlp.c_proj ", i, i, i, i);
        strcat(expect, line);
    }
    strcat(expect, "lm_head ");
    assert_string_equal(w.seen, expect);
    /* the head's input times the head is the logits */
    float *logits = rig_get(&r, a.logits), mine[VOCAB];
    wanted wte = {.name = "wte.weight"};
    st_model_params(r.m, want, &wte);
    float *table = rig_get(&r, wte.w);
    for (int row = 0; row < ROWS; row++) {
        for (int v = 0; v < VOCAB; v++) {
            double sum = 0;
            for (int i = 0; i < WIDTH; i++)
                sum += (double)w.x[row * WIDTH + i] * (double)table[v * WIDTH + i];
            mine[v] = (float)sum;
        }
        assert_close("logits", logits + row * VOCAB, mine, VOCAB, 1e-5);
    }
    test_free(table);
    test_free(logits);
    w.seen[0] = '\0';
    st_model_tap(r.m, NULL, NULL);
    rig_run(&r, &a, false);
    assert_string_equal(w.seen, "");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_the_whole),
        cmocka_unit_test(test_a_tap_sees_every_input_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
