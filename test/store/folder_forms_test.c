/* Weights without a config.json: what is made of their shapes, orientation, heads, GELU, biases and
 * heads that are not there, Krony-PT's names old and new. */
/* Long: tables of forms that one loader must tell apart. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "rig/said.h"
#include "rig/tensors.h"
#include "store/store.h"

static const char *const fixture = "test/fixtures/gpt2_tanh";
static const st_read_how three = {.heads = 3};

/* PATH must read as `want` in `m`'s layout. */
static void reads(const char *path, const st_read_how *how, const st_model *m, const float *want)
{
    st_model *got;
    float *flat;
    st_err e;
    assert_ok(st_folder_read_as(path, how, &got, &flat, NULL, &e), &e);
    json_t *a = st_model_config(got), *b = st_model_config(m);
    static const char *const keys[] = {
        "n_embd",     "n_layer",     "n_head", "n_inner",
        "vocab_size", "n_positions", "strut",  "tie_word_embeddings"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *x = json_object_get(a, keys[i]), *y = json_object_get(b, keys[i]);
        if (x || y) assert_true(json_equal(x, y));
    }
    json_decref(a);
    json_decref(b);
    assert_int_equal(st_model_elements(got), st_model_elements(m));
    assert_memory_equal(flat, want, (size_t)st_model_elements(m) * sizeof *flat);
    free(flat);
    st_model_close(got);
    st_loaded l;
    assert_ok(st_loaded_open_as(&l, path, how, "ref", ST_F32, &e), &e);
    float *on_device = st_calloc(st_numel(l.flat), sizeof *on_device);
    st_download(l.stream, on_device, l.flat);
    assert_memory_equal(on_device, want, st_bytes(l.flat));
    free(on_device);
    st_loaded_close(&l);
}

static void refused(const char *path, const st_read_how *how, st_status code, const char *says)
{
    st_model *m;
    float *flat;
    st_err e;
    assert_st(st_folder_read_as(path, how, &m, &flat, NULL, &e), code, &e);
    assert_says(&e, says);
}

/* Matrices of the blocks from (in, out) to (out, in). */
static void turn_all(tensors *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        st_store_item *it = &t->item[i];
        if (!strstr(it->name, ".h.") || it->ndim != 2) continue;
        int64_t rows = it->dim[0], cols = it->dim[1];
        float *to = calloc((size_t)(rows * cols), sizeof *to);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < cols; c++)
                to[c * rows + r] = t->data[i][r * cols + c];
        }
        free(t->data[i]);
        t->data[i] = to;
        it->dim[0] = cols;
        it->dim[1] = rows;
    }
}

static void test_single(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m.safetensors");
    st_model *m;
    float *flat;
    st_err e;
    assert_ok(st_folder_read(fixture, &m, &flat, NULL, &e), &e);
    tensors *t = tensors_read(fixture);
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    reads(path, &three, m, flat);
    assert_string_equal(said, ""); /* (in, out): tanh, as GPT-2 */
    refused(path, NULL, ST_EARG, "give --heads, a divisor of the width 24");
    refused(path, &(st_read_how){.heads = 5}, ST_EARG, "--heads 5 is no divisor of the width 24");
    refused(fixture, &(st_read_how){.heads = 2}, ST_EARG, "has 3 heads by its config.json");
    reads(fixture, &three, m, flat);
    /* a folder without config.json, and its file by name; with one, the file has it */
    tensors_write(t, 0, t->n, dir, "model.safetensors");
    reads(dir, &three, m, flat);
    assert_ok(
        st_copy_file(st_test_path(fixture, "config.json"), st_test_path(dir, "config.json"), &e),
        &e);
    reads(st_test_path(dir, "model.safetensors"), NULL, m, flat);
    /* nanoGPT's orientation; the square attn.c_proj with the others */
    said[0] = '\0';
    turn_all(t);
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    reads(path, &three, m, flat);
    assert_non_null(strstr(said, "--gelu erf"));
    tensors_free(t);
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

static void test_gelu(void **state)
{
    (void)state;
    static const struct {
        const char *path, *gelu;
        st_gelu_kind kind;
    } cases[] = {{"test/fixtures/gpt2_erf", NULL, ST_GELU_ERF},
                 {"test/fixtures/gpt2_erf", "tanh", ST_GELU_TANH},
                 {"test/fixtures/gpt2_tanh", NULL, ST_GELU_TANH},
                 {"test/fixtures/gpt2_tanh", "erf", ST_GELU_ERF}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        st_model *m;
        st_err e;
        assert_ok(
            st_folder_look(cases[i].path, &(st_read_how){.gelu = cases[i].gelu}, &m, NULL, &e), &e);
        assert_int_equal(st_model_lm(m).gelu, cases[i].kind);
        st_model_close(m);
    }
}

/* Width 64 k has k heads, and it is said. */
static void test_heads_assumed(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    json_t *config = json_pack("{s:i, s:i, s:i, s:i, s:i}", "vocab_size", 11, "n_positions", 4,
                               "n_embd", 128, "n_layer", 1, "n_head", 2);
    st_model *m;
    st_err e;
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    float *flat = calloc((size_t)st_model_elements(m), sizeof *flat);
    assert_int_equal(st_fresh_weights(m, 3, flat, NULL), ST_OK);
    assert_ok(st_folder_save(st_test_path(dir, "f"), false, m, flat, ST_F32, NULL, &e), &e);
    tensors *t = tensors_read(st_test_path(dir, "f"));
    tensors_write(t, 0, t->n, dir, "x.st");
    reads(st_test_path(dir, "x.st"), NULL, m, flat);
    assert_non_null(strstr(said, "nothing says the number of heads: 2 is taken"));
    tensors_free(t);
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

/* bias=False leaves out every bias; one that is missing alone is an error. */
static void test_no_bias(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m.safetensors");
    st_model *m;
    float *flat;
    st_err e;
    assert_ok(st_folder_read(fixture, &m, &flat, NULL, &e), &e);
    tensors *t = tensors_read(fixture);
    turn_all(t);
    int64_t one = tensors_find(t, "transformer.h.1.ln_2.bias");
    strcpy(t->name[one], "h.1.attn.bias"); /* ignored */
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    refused(path, &three, ST_EFORMAT, "no tensor h.1.ln_2.bias, which a GPT-2 of this shape has");
    for (int64_t i = 0; i < t->n; i++) {
        if (strstr(t->name[i], ".bias")) snprintf(t->name[i], 160, "h.%d.attn.bias", (int)i);
    }
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    tensors_free(t);
    float *got;
    st_model *bare;
    assert_ok(st_folder_read_as(path, &three, &bare, &got, NULL, &e), &e);
    int64_t n = st_model_elements(bare), kept = 0, gone = 0;
    assert_int_equal(n, st_model_elements(m));
    for (int64_t i = 0; i < n; i++) {
        kept += got[i] != 0.0f && got[i] == flat[i];
        gone += got[i] == 0.0f && flat[i] != 0.0f;
        assert_true(got[i] == flat[i] || got[i] == 0.0f);
    }
    int64_t biases = 2 * (2 * 24 + 3 * 24 + 24 + 96 + 24) + 24;
    assert_int_equal(gone, biases);
    assert_int_equal(kept, st_model_counts(m).parameters - biases);
    free(got);
    free(flat);
    st_model_close(bare);
    st_model_close(m);
    st_test_remove(dir);
}

/* A head with wte's numbers is tied, with others it is the model's own. */
static void test_head(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m.safetensors");
    st_model *m;
    float *flat;
    st_err e;
    tensors *t = tensors_read(fixture);
    int64_t wte = tensors_find(t, "transformer.wte.weight");
    int64_t i = tensors_add(t, "lm_head.weight", ST_F32, 2, t->item[wte].dim);
    memcpy(t->data[i], t->data[wte], 97 * 24 * sizeof(float));
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    assert_ok(st_folder_read(fixture, &m, &flat, NULL, &e), &e);
    reads(path, &three, m, flat);
    int64_t tied = st_model_counts(m).parameters;
    free(flat);
    st_model_close(m);
    t->data[i][5] += 1;
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    assert_ok(st_folder_look(path, &three, &m, NULL, &e), &e);
    assert_false(st_model_lm(m).tied);
    assert_int_equal(st_model_counts(m).parameters, tied + 97 * 24);
    st_model_close(m);
    tensors_free(t);
    st_test_remove(dir);
}

/* ---- Krony-PT -------------------------------------------------------------------------------- */

/* The fixture's model with Kronecker MLPs: 2 terms with scalars in layer 0, 1 without in layer 1.
 */
static float *krony_model(st_model **m)
{
    json_t *config, *maps = json_pack("{s:s, s:s, s:s, s:s}", "h.0.mlp.c_fc",
                                      "kron:terms=2,m1=8,n1=12,scalars=1", "h.0.mlp.c_proj",
                                      "kron:terms=2,m1=12,n1=8,scalars=1", "h.1.mlp.c_fc",
                                      "kron:m1=24,n1=24", "h.1.mlp.c_proj", "kron:m1=24,n1=24");
    st_err e;
    assert_ok(st_json_load(&config, st_test_path(fixture, "config.json"), 65536, &e), &e);
    json_object_set_new(config, "strut", json_pack("{s:i, s:o}", "format", 1, "maps", maps));
    assert_ok(st_model_open(m, config, &e), &e);
    json_decref(config);
    float *flat = calloc((size_t)st_model_elements(*m), sizeof *flat);
    assert_int_equal(st_fresh_weights(*m, 7, flat, NULL), ST_OK);
    return flat;
}

struct krony {
    tensors *t;
    const float *flat;
    bool old;
};

/* One parameter under Krony-PT's name; in the old form a tensor a term, transposed. */
static void krony_param(void *ctx, const st_param *p)
{
    struct krony *k = ctx;
    static const char *const ours[] = {".a", ".b", ".s", ".bias"}, *const theirs[] = {"_0", "_1",
                                                                                      "", "_bias"};
    char name[160];
    const float *w = k->flat + p->offset;
    const char *mlp = strstr(p->name, ".mlp.");
    if (!mlp) {
        int64_t i;
        snprintf(name, sizeof name, "module.transformer.%s", p->name);
        i = tensors_add(k->t, name, ST_F32, p->w.ndim, p->w.dim);
        memcpy(k->t->data[i], w, (size_t)st_numel(p->w) * sizeof *w);
        return;
    }
    int layer = p->name[2] - '0', which = 0;
    const char *matrix = strncmp(mlp + 5, "c_fc", 4) == 0 ? "c_fc" : "c_proj";
    while (strcmp(p->name + strlen(p->name) - strlen(ours[which]), ours[which]) != 0)
        which++;
    snprintf(name, sizeof name, "module.transformer.h.%d.mlp.%s%s", layer, matrix, theirs[which]);
    if (which == 2)
        snprintf(name, sizeof name, "module.transformer.h.%d.mlp.scalers%s", layer,
                 strchr(matrix, '_'));
    if (!k->old || p->w.ndim != 3) {
        int64_t i = tensors_add(k->t, name, ST_F32, p->w.ndim, p->w.dim);
        memcpy(k->t->data[i], w, (size_t)st_numel(p->w) * sizeof *w);
        return;
    }
    int64_t rows = p->w.dim[1], cols = p->w.dim[2];
    for (int64_t f = p->w.dim[0] - 1; f >= 0; f--) {
        snprintf(name, sizeof name, "h.%d.mlp.%s_%d%s", layer, matrix, (int)f, theirs[which]);
        int64_t i = tensors_add(k->t, name, ST_F32, 2, (int64_t[]){cols, rows});
        for (int64_t at = 0; at < rows * cols; at++)
            k->t->data[i][at % cols * rows + at / cols] = w[f * rows * cols + at];
    }
}

static void test_krony(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m.safetensors");
    st_model *m;
    float *flat = krony_model(&m);
    for (int old = 0; old < 2; old++) {
        struct krony k = {.t = calloc(1, sizeof *k.t), .flat = flat, .old = old};
        st_model_params(m, krony_param, &k);
        tensors_write(k.t, 0, k.t->n, dir, "m.safetensors");
        reads(path, &three, m, flat);
        if (old) { /* a term that is missing, and one of another shape */
            int64_t i = tensors_find(k.t, "h.0.mlp.c_fc_0_0");
            strcpy(k.t->name[i], "h.0.mlp.c_fc_2_0");
            tensors_write(k.t, 0, k.t->n, dir, "m.safetensors");
            refused(path, &three, ST_ESHAPE, "c_fc_1_0 is term 1 of h.0.mlp.c_fc.a");
            strcpy(k.t->name[i], "h.0.mlp.c_fc_0_0");
            k.t->item[i].dim[0] = 4;
            k.t->item[i].dim[1] = 24;
            tensors_write(k.t, 0, k.t->n, dir, "m.safetensors");
            refused(path, &three, ST_ESHAPE, "c_fc_");
        } else {
            int64_t i = tensors_find(k.t, "module.transformer.h.0.mlp.c_fc_1");
            k.t->item[i].dim[1] = 1;
            k.t->item[i].dim[2] = 24;
            tensors_write(k.t, 0, k.t->n, dir, "m.safetensors");
            refused(path, &three, ST_ESHAPE, "c_fc_1 has shape [2, 1, 24], expected [2, 3, 8]");
        }
        tensors_free(k.t);
    }
    free(flat);
    st_model_close(m);
    st_test_remove(dir);
}

/* Weights of another kind, and shapes that make no model. */
static void test_no_model(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "m.safetensors");
    tensors *t = calloc(1, sizeof *t);
    tensors_add(t, "encoder.project.weight", ST_F32, 2, (int64_t[]){3, 4});
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    refused(path, NULL, ST_EFORMAT, "no tensor wte.weight, which every GPT-2 has");
    tensors_add(t, "wte.weight", ST_F32, 2, (int64_t[]){0, 64});
    tensors_add(t, "wpe.weight", ST_F32, 2, (int64_t[]){8, 64});
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    refused(path, NULL, ST_EFORMAT, "no tensor of a block");
    tensors_add(t, "h.99999999999999999999.ln_1.weight", ST_F32, 1, (int64_t[]){64});
    tensors_add(t, "h.0.mlp.c_fc.a", ST_F32, 3, (int64_t[]){0, 0, 5});
    tensors_add(t, "h.1000.mlp.c_fc_0", ST_F32, 2, (int64_t[]){2, 2});
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    refused(path, NULL, ST_ESHAPE, "h.1000.mlp.c_fc_0 has 2 dimensions, expected 3");
    free(t->data[--t->n]);
    tensors_write(t, 0, t->n, dir, "m.safetensors");
    refused(path, NULL, ST_EFORMAT, "vocab_size");
    tensors_free(t);
    st_test_remove(dir);
}

static st_status zeros(void *ctx, int64_t i, void *data, size_t bytes, st_err *e)
{
    (void)ctx, (void)i, (void)e;
    memset(data, 0, bytes);
    return ST_OK;
}

/* A small archive whose tensors are views of one storage: gigabytes, if they were read. */
static void test_views(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    static st_store_item item[MANY];
    static char name[MANY][32];
    static int64_t same[MANY];
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.pt");
    for (int i = 0; i < MANY; i++) {
        snprintf(name[i], sizeof name[i], "h.%d.mlp.c_fc.weight", i);
        item[i] = (st_store_item){.name = name[i], .dtype = ST_F32, .dim = {100, 400}, .ndim = 2};
        same[i] = i ? 0 : -1;
    }
    st_torch_how how = {.same = same};
    st_err e;
    assert_ok(st_torch_write(path, item, MANY, &how, zeros, NULL, &e), &e);
    refused(path, NULL, ST_EFORMAT, "so that many are the same numbers");
    assert_ok(st_torch_write(path, item, 9, &how, zeros, NULL, &e), &e);
    refused(path, NULL, ST_EFORMAT, "no tensor wte.weight");
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_single, said_open),
        cmocka_unit_test_setup(test_gelu, said_open),
        cmocka_unit_test_setup(test_heads_assumed, said_open),
        cmocka_unit_test_setup(test_no_bias, said_open),
        cmocka_unit_test_setup(test_head, said_open),
        cmocka_unit_test_setup(test_krony, said_open),
        cmocka_unit_test_setup(test_no_model, said_open),
        cmocka_unit_test_setup(test_views, said_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
