/* A model with every type of matrix in every place: gradients by finite differences, decoding with
 * a cache, batches, chunks of the head, dropout, bfloat16. */
/* SPDX-License-Identifier: MIT */
#include "slope.h"

static const char *const tiny =
    "{\"vocab_size\": 96, \"n_positions\": 16, \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 2,"
    " \"n_inner\": 64, \"initializer_range\": 0.15, \"resid_pdrop\": 0, \"embd_pdrop\": 0, "
    "\"attn_pdrop\": 0}";

typedef struct {
    const char *type;
    json_t *maps;
} filled;

/* About half as many weights as dense, or what else the type can do at this shape. */
static void fill_matrix(void *ctx, const char *name, const st_spec *spec)
{
    filled *f = ctx;
    if (strcmp(name, "wte") == 0) return; /* only where it is what is looked at: config_of */
    char text[ST_SPEC_TEXT];
    st_spec s;
    st_err e;
    static const int percent[] = {50, 35, 70, 25, 100, 15, 10, 5, 150};
    st_status status = ST_ESHAPE;
    for (size_t i = 0; i < sizeof percent / sizeof *percent && status; i++) {
        status = st_spec_fit(&s, f->type, spec->in, spec->out,
                             spec->in * spec->out * percent[i] / 100, &e);
    }
    if (status) fail_msg("%s at %s: %s", f->type, name, e.msg);
    st_spec_print(&s, text);
    json_object_set_new(f->maps, name, json_string(text));
}

/* What the models are made of: each row of st_map_types, and embeddings of the types that have row
 * look-up (with a tied head, and beside a head of its own). NULL: no more. */
static const char *kind_at(int i)
{
    static const char *const embeddings[] = {"wte=lowrank:rank=9", "wte=kron:terms=1,m1=16,n1=96",
                                             "wte=kron:terms=2,m1=8,n1=96,scalars=1",
                                             "untied wte=kron:terms=1,m1=32,n1=96", NULL};
    int types = 0;
    while (st_map_types[types])
        types++;
    if (i >= types) return embeddings[i - types];
    const char *type = st_map_types[i]->name;
    return strcmp(type, "sum") == 0 ? "lowrank+blockdiag+gate" : type;
}

/* The tiny model with every matrix of `type`, or dense with that embedding; heads of their own have
 * a bias. */
static json_t *config_of(const char *type)
{
    st_model *m;
    st_err e;
    json_t *config = rig_json(tiny);
    const char *wte = strstr(type, "wte=");
    filled f = {type, json_object()};
    if (wte) {
        json_object_set_new(f.maps, "wte", json_string(wte + 4));
        json_object_set_new(config, "tie_word_embeddings", json_boolean(wte == type));
        json_object_set_new(config, "lm_head_bias", json_boolean(wte != type));
        json_object_set_new(config, "strut", json_pack("{s:i, s:o}", "format", 1, "maps", f.maps));
        return config;
    }
    assert_ok(st_model_open(&m, config, &e), &e);
    st_model_matrices(m, fill_matrix, &f);
    st_model_close(m);
    json_object_set_new(config, "lm_head_bias", json_boolean(strcmp(type, "dense") != 0));
    json_object_set_new(config, "strut", json_pack("{s:i, s:o}", "format", 1, "maps", f.maps));
    return config;
}

/* Calls `test` for each row of st_map_types on each device. */
static void for_types(void (*test)(rig *r, const char *type))
{
    static const char *const devices[] = {"ref", "cpu"};
    const char *type;
    for (int i = 0; (type = kind_at(i)); i++) {
        for (int d = 0; d < 2; d++) {
            rig r;
            json_t *config = config_of(type);
            rig_open(&r, devices[d], ST_F32, config);
            json_decref(config);
            rig_random(&r);
            test(&r, type);
            rig_close(&r);
        }
    }
}

/* ---- gradients ------------------------------------------------------------------------------- */

static void gradients(rig *r, const char *type)
{
    slope_check(r, type, false);
}

static void test_gradients(void **state)
{
    (void)state;
    for_types(gradients);
}

static void test_dropout(void **state)
{
    (void)state;
    rig r;
    json_t *config = rig_json(tiny);
    json_object_set_new(config, "resid_pdrop", json_real(0.2));
    json_object_set_new(config, "embd_pdrop", json_real(0.1));
    json_object_set_new(config, "attn_pdrop", json_real(0.3));
    rig_open(&r, "cpu", ST_F32, config);
    json_decref(config);
    rig_random(&r);
    slope_check(&r, "dropout", true);

    st_lm_args a = rig_batch(&r, 2, 7, 3);
    slope s = {.r = &r, .a = &a, .train = true};
    double one = slope_loss(&s), again = slope_loss(&s);
    a.seed++;
    double other = slope_loss(&s);
    s.train = false;
    double none = slope_loss(&s);
    assert_true(one == again);
    assert_true(one != other && one != none);
    rig_close(&r);
}

/* ---- one text, many ways to run it ----------------------------------------------------------- */

/* A prompt and then one token at a time gives the logits of the whole. */
static void decoding(rig *r, const char *type)
{
    (void)type;
    enum { BATCH = 3, LEN = 11, PROMPT = 4 };
    int64_t vocab = st_model_lm(r->m).vocab;
    st_lm_args a = rig_batch(r, BATCH, LEN, 9);
    float *whole = rig_logits(r, &a);
    int32_t ids[BATCH * LEN], part[BATCH * LEN];
    st_download(r->q, ids, a.ids);
    st_kv kv;
    st_kv_take(&kv, r->m, ST_F32, BATCH, 12, &r->mem);
    st_lm_args step = {.batch = BATCH, .kv = &kv};
    for (int64_t at = 0; at < LEN; at += step.len) {
        step.len = at == 0 ? PROMPT : at == PROMPT ? 2 : 1;
        step.last_only = at == PROMPT || at % 2;
        for (int64_t i = 0; i < BATCH; i++) {
            memcpy(part + i * step.len, ids + i * LEN + at, (size_t)step.len * sizeof *ids);
        }
        step.ids = rig_ints(r, part, BATCH * step.len);
        float *got = rig_logits(r, &step);
        int64_t rows = step.last_only ? 1 : step.len;
        for (int64_t i = 0; i < BATCH; i++) {
            const float *want = whole + (i * LEN + at + step.len - rows) * vocab;
            assert_close("logits", got + i * rows * vocab, want, rows * vocab, 1e-5);
        }
        test_free(got);
    }
    assert_int_equal(kv.used, LEN);
    test_free(whole);
}

static void test_decoding(void **state)
{
    (void)state;
    for_types(decoding);
}

/* More rows than the head takes at a time: losses and gradients are those of the halves. */
static void test_chunks(void **state)
{
    (void)state;
    enum { BATCH = 90, LEN = 16, HALF = BATCH * LEN / 2 };
    rig r;
    json_t *config = config_of("lowrank");
    json_object_del(json_object_get(json_object_get(config, "strut"), "maps"), "h.0.mlp.c_fc");
    rig_open(&r, "cpu", ST_F32, config);
    json_decref(config);
    rig_random(&r);
    st_lm_args a = rig_batch(&r, BATCH, LEN, 4), half = a;
    rig_zero_grads(&r);
    rig_run(&r, &a, true);
    float *nll = rig_get(&r, a.loss), *grad = rig_get(&r, r.g);
    rig_run(&r, &a, false);
    float *forward = rig_get(&r, a.loss);
    assert_close("forward nll", forward, nll, 2 * HALF, 1e-6);

    rig_zero_grads(&r);
    half.batch = BATCH / 2;
    for (int64_t i = 0; i < 2; i++) {
        half.ids = st_slice(a.ids, i * HALF, HALF);
        half.targets = st_slice(a.targets, i * HALF, HALF);
        half.loss = st_slice(a.loss, i * HALF, HALF);
        rig_run(&r, &half, true);
    }
    float *nll2 = rig_get(&r, a.loss), *grad2 = rig_get(&r, r.g);
    assert_close("nll", nll, nll2, 2 * HALF, 1e-6);
    assert_close("grad", grad, grad2, st_numel(r.g), 2e-6);
    test_free(nll), test_free(nll2), test_free(grad), test_free(grad2), test_free(forward);
    rig_close(&r);
}

/* What is in the batch beside it changes no sequence; no token sees a later one. */
static void independence(rig *r, const char *type)
{
    (void)type;
    enum { BATCH = 3, LEN = 9 };
    int64_t vocab = st_model_lm(r->m).vocab;
    st_lm_args a = rig_batch(r, BATCH, LEN, 6), one = {.batch = 1, .len = LEN - 2};
    float *all = rig_logits(r, &a);
    for (int64_t i = 0; i < BATCH; i++) {
        one.ids = st_slice(a.ids, i * LEN, one.len);
        float *x = rig_logits(r, &one);
        assert_close("logits", x, all + i * LEN * vocab, one.len * vocab, 1e-5);
        test_free(x);
    }
    test_free(all);
}

static void test_independence(void **state)
{
    (void)state;
    for_types(independence);
}

/* bfloat16 gives float32's losses and gradients to its precision, for every type. */
static void test_bf16(void **state)
{
    (void)state;
    const char *type;
    for (int i = 0; (type = kind_at(i)); i++) {
        float *nll[2], *grad[2];
        int64_t n = 0, rows = 3 * 16;
        for (int k = 0; k < 2; k++) {
            rig r;
            json_t *config = config_of(type);
            rig_open(&r, "cpu", k ? ST_BF16 : ST_F32, config);
            json_decref(config);
            rig_random(&r);
            st_lm_args a = rig_batch(&r, 3, 16, 8);
            rig_zero_grads(&r);
            rig_run(&r, &a, true);
            nll[k] = rig_get(&r, a.loss);
            grad[k] = rig_get(&r, r.g);
            n = st_numel(r.g);
            rig_close(&r);
        }
        double diff = 0, size = 0;
        for (int64_t j = 0; j < n; j++) {
            diff += pow((double)(grad[1][j] - grad[0][j]), 2);
            size += pow((double)grad[0][j], 2);
        }
        if (!(diff < 4e-4 * size)) fail_msg("%s: gradient off by %g", type, sqrt(diff / size));
        assert_close("nll", nll[1], nll[0], rows, 2e-2);
        for (int k = 0; k < 2; k++)
            test_free(nll[k]), test_free(grad[k]);
    }
}

typedef struct {
    const char *name, *matrix;
    st_theta theta;
    int n;
    st_spec spec;
    int64_t offset;
    st_tensor w;
} looked;

static void look(void *ctx, const st_param *p)
{
    looked *l = ctx;
    if (l->name && strcmp(p->name, l->name) == 0) {
        l->offset = p->offset;
        l->w = p->w;
    }
    if (!l->matrix || !p->matrix || strcmp(p->matrix, l->matrix) != 0) return;
    l->theta.p[l->n++] = p->w;
    l->spec = *p->spec;
}

static void expand_wte(rig *from, rig *to)
{
    looked factors = {.matrix = "wte"}, dense = {.name = "wte.weight"};
    st_err e = {0};
    st_model_params(from->m, look, &factors);
    st_model_params(to->m, look, &dense);
    float *of[ST_PARAMS] = {0}, *full = test_malloc(st_bytes(dense.w));
    for (int i = 0; i < factors.n; i++) {
        of[i] = rig_get(from, factors.theta.p[i]);
        factors.theta.p[i].data = of[i];
    }
    st_tensor on_host = dense.w;
    on_host.data = full;
    assert_ok(st_map_expand(&factors.spec, &factors.theta, on_host, &e), &e);
    rig_set(to, dense.w, full);
    for (int i = 0; i < factors.n; i++)
        test_free(of[i]);
    test_free(full);
}

static float *grad_of(rig *r, const char *name)
{
    looked l = {.name = name};
    st_model_params(r->m, look, &l);
    return rig_get(r, st_slice(r->g, l.offset, st_numel(l.w)));
}

/* An embedding that is not formed does what the matrix it stands for does: logits, and the gradient
 * by everything else. */
static void test_embeddings_are_the_expanded(void **state)
{
    (void)state;
    static const char *const kinds[] = {"wte=lowrank:rank=9",
                                        "wte=kron:terms=2,m1=8,n1=96,scalars=1",
                                        "untied wte=kron:terms=1,m1=16,n1=96"};
    for (int i = 0; i < 3; i++) {
        rig r[2];
        float *logits[2], *grad[2];
        for (int k = 0; k < 2; k++) {
            json_t *config = config_of(kinds[i]);
            if (k) json_object_del(config, "strut");
            rig_open(&r[k], "ref", ST_F32, config);
            json_decref(config);
            rig_random(&r[k]);
            if (k) expand_wte(&r[0], &r[1]);
            st_lm_args a = rig_batch(&r[k], 3, 16, 8), b = a;
            a.logits = st_take2(&r[k].mem, ST_F32, 48, 96);
            rig_run(&r[k], &a, false);
            logits[k] = rig_get(&r[k], a.logits);
            rig_zero_grads(&r[k]);
            rig_run(&r[k], &b, true);
            grad[k] = grad_of(&r[k], "h.0.mlp.c_fc.weight");
        }
        assert_close(kinds[i], logits[0], logits[1], 48 * 96, 1e-5);
        assert_close(kinds[i], grad[0], grad[1], 32 * 64, 1e-4);
        for (int k = 0; k < 2; k++) {
            test_free(logits[k]);
            test_free(grad[k]);
            rig_close(&r[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_embeddings_are_the_expanded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
