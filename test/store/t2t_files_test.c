/* T2T-ViT's files (test/fixtures/t2t, tools/fixtures_t2t.py): every form that is in use gives the
 * same model, going there and back the same bytes; positions for other sizes; refusals. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include "model/t2t.h"

#define FILES "test/fixtures/t2t/"

struct same {
    const float *flat;
    bool positions; /* they are the script's, too */
};

static void same_param(void *ctx, const st_param *p)
{
    const struct same *s = ctx;
    int64_t n = st_numel(p->w);
    float *want = test_malloc((size_t)n * sizeof *want);
    t2t_fill(p, want);
    bool left_out = strcmp(p->name, "pos_embed") == 0 && !s->positions;
    if (left_out) p->fill(p, 0, want);
    for (int64_t i = 0; i < n; i++) {
        /* sin and cos of two libraries may differ in the last place */
        bool same = left_out ? fabsf(s->flat[p->offset + i] - want[i]) < 1e-6f
                             : s->flat[p->offset + i] == want[i];
        if (!same) fail_msg("%s[%lld] differs", p->name, (long long)i);
    }
    test_free(want);
}

static void reads(const char *path, const char *dict, bool performer, bool positions)
{
    st_err e = {0};
    st_model *m = NULL;
    float *flat = NULL;
    st_read_how how = {.heads = 2, .dict = dict};
    assert_ok(st_folder_read_as(path, &how, &m, &flat, NULL, &e), &e);
    st_vision_shape v = st_model_vision_shape(m);
    assert_int_equal(v.size, 32);
    assert_int_equal(v.classes, 10);
    assert_int_equal(v.layers, 2);
    assert_int_equal(v.heads, 2);
    assert_int_equal(v.inner, 32);
    assert_int_equal(v.performer, performer);
    st_model_params(m, same_param, &(struct same){flat, positions});
    double off = st_positions_off(m, flat);
    assert_true(positions ? off > 0.1 : off < 1e-6);
    st_model_close(m);
    free(flat);
}

static void test_forms(void **state)
{
    (void)state;
    reads(FILES "ema-legacy.pth.tar", NULL, false, true);
    reads(FILES "ema.pth.tar", NULL, false, true);
    reads(FILES "bare.pth", NULL, false, false);
    reads(FILES "fly.pth", NULL, false, true);
    reads(FILES "timm-legacy.pth.tar", NULL, false, true);
    reads(FILES "performer-model.pth", NULL, true, true);
    reads(FILES "timm-both.pth.tar", NULL, true, true); /* the moving average */
    reads(FILES "timm-both.pth.tar", "state_dict", false, true);
}

/* OUT of `in` as its name says; 0 or the size that is asked for. */
static json_t *convert(const char *in, const char *out, const char *to, int64_t size)
{
    st_err e = {0};
    json_t *r = NULL;
    st_convert_opts o = {.to = to, .how = {.heads = 2}, .image_size = size};
    assert_ok(st_convert_model(in, out, &o, &r, &e), &e);
    return r;
}

static void test_there_and_back(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static const char *const files[] = {"bare.pth", "performer-model.pth"};
    for (int i = 0; i < 2; i++) {
        static const char *const ends[] = {"-folder/",
                                           ".pth.tar",
                                           ".safetensors",
                                           "-again/",
                                           "-folder/model.safetensors",
                                           "-again/model.safetensors"};
        char in[128], name[6][512];
        snprintf(in, sizeof in, FILES "%s", files[i]);
        for (int k = 0; k < 6; k++)
            snprintf(name[k], sizeof name[k], "%s/%d%s", dir, i, ends[k]);
        json_decref(convert(in, name[0], NULL, 0));
        json_decref(convert(name[0], name[1], NULL, 0));
        json_decref(convert(name[1], name[2], NULL, 0));
        json_decref(convert(name[2], name[3], NULL, 0));
        assert_same_files(name[4], name[5]);
        reads(name[1], "state_dict_ema", i == 1, i == 1);
    }
    st_test_remove(dir);
}

static void test_positions(void **state)
{
    (void)state;
    static const int pair[][2] = {{2, 3}, {3, 2}, {14, 24}, {24, 14}};
    stored s = stored_open(FILES "grid.safetensors");
    for (int i = 0; i < 4; i++) {
        char name[32];
        int64_t n, old = pair[i][0], new = pair[i][1];
        snprintf(name, sizeof name, "grid%d", pair[i][0]);
        uint64_t seed = st_hash_name(name);
        float *from = test_malloc((size_t)(old * old * 4) * sizeof *from);
        float *to = test_malloc((size_t)(new *new * 4) * sizeof *to);
        for (int64_t k = 0; k < old * old * 4; k++)
            from[k] = (float)t2t_uniform(seed, k);
        st_positions_grid(from, old, to, new, 4);
        snprintf(name, sizeof name, "%d-%d", pair[i][0], pair[i][1]);
        const float *want = stored_find(&s, name, &n);
        assert_int_equal(n, new *new * 4);
        assert_close(name, to, want, n, 3e-6);
        test_free(from);
        test_free(to);
    }
    stored_close(&s);
}

/* A model for 48 pixels and back: another grid, the class token's row and all else as it was. */
static void test_sizes(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char large[512], small[512];
    snprintf(large, sizeof large, "%s/48/", dir);
    snprintf(small, sizeof small, "%s/32/", dir);
    json_t *r = convert(FILES "ema.pth.tar", large, NULL, 48);
    assert_int_equal(json_array_size(json_object_get(r, "notes")), 2);
    json_decref(r);
    json_decref(convert(large, small, NULL, 32));
    st_err e = {0};
    st_model *m = NULL;
    float *flat = NULL;
    assert_ok(st_folder_read(large, &m, &flat, NULL, &e), &e);
    assert_int_equal(st_model_vision_shape(m).tokens[2], 10);
    st_model_close(m);
    free(flat);
    st_convert_opts o = {.to = "strut", .how = {.heads = 2}, .image_size = 40};
    assert_st(st_convert_model(large, small, &o, &r, &e), ST_EARG, &e);
    o.replace = true;
    assert_st(st_convert_model(large, small, &o, &r, &e), ST_EFORMAT, &e);
    assert_says(&e, "a multiple of 16");
    st_test_remove(dir);
}

static void refused(const char *in, const char *out, const st_convert_opts *o, st_status code,
                    const char *says)
{
    st_err e = {0};
    json_t *r = NULL;
    assert_st(st_convert_model(in, out, o, &r, &e), code, &e);
    assert_says(&e, says);
}

static void test_refusals(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *bad = st_test_path(dir, "bad.pth.tar");
    const char *out = st_test_path(dir, "out");
    st_convert_opts o = {.to = "strut", .how = {.heads = 2}};
    char tar[1024] = "archive/data.pkl";
    memcpy(tar + 257, "ustar", 5);
    st_test_write(bad, tar, sizeof tar);
    refused(bad, out, &o, ST_EFORMAT, "what torch.save writes");
    size_t n;
    char *bytes = st_test_read(FILES "ema-legacy.pth.tar", &n);
    st_test_write(bad, bytes, n / 2);
    refused(bad, out, &o, ST_EFORMAT, "truncated");
    char *name = memmem(bytes, n, "cls_token", 9);
    memcpy(name, "cls_taken", 9);
    st_test_write(bad, bytes, n);
    refused(bad, out, &o, ST_EFORMAT, "no tensor cls_token, which a T2T-ViT of this shape has");
    memcpy(name, "cls_token", 9);
    name = memmem(bytes, n, "state_dict_ema", 14);
    memcpy(name, "state_dict_emu", 14);
    st_test_write(bad, bytes, n);
    refused(bad, out, &o, ST_EFORMAT, "which has: state_dict_emu; --dict state_dict_emu takes");
    free(bytes);
    o.how.heads = 0;
    refused(FILES "ema.pth.tar", out, &o, ST_EARG, "--heads, a divisor of the width 16");
    o.how.heads = 3;
    refused(FILES "ema.pth.tar", out, &o, ST_EARG, "--heads 3 is no divisor of the width 16");
    o.how.heads = 2;
    o.how.gelu = "tanh";
    refused(FILES "ema.pth.tar", out, &o, ST_EARG, "whose GELU is erf");
    o.how.gelu = NULL;
    o.how.dict = "modle";
    refused(FILES "ema.pth.tar", out, &o, ST_EARG, "it has: state_dict_ema");
    o.how.dict = NULL;
    static const char *const others[] = {"hf", "hf-code", "nanogpt", "krony", "llmc", "gguf"};
    for (int i = 0; i < 6; i++) {
        o.to = others[i];
        refused(FILES "ema.pth.tar", out, &o, ST_EUNSUPPORTED, "hold a T2T-ViT");
    }
    assert_int_equal(st_test_entries(dir), 1); /* nothing was left */
    st_test_remove(dir);
}

/* Every length of a file: an error, or (the end of a zip's comment) never a crash. */
static void test_cut(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *bad = st_test_path(dir, "bad.pth");
    static const char *const files[] = {FILES "timm-legacy.pth.tar", FILES "fly.pth"};
    for (int i = 0; i < 2; i++) {
        size_t n;
        char *bytes = st_test_read(files[i], &n);
        for (size_t cut = 0; cut < n; cut += 1 + n / 150) {
            st_model *m = NULL;
            st_err e = {0};
            st_test_write(bad, bytes, cut);
            assert_int_not_equal(st_folder_look(bad, &(st_read_how){.heads = 2}, &m, NULL, &e),
                                 ST_OK);
            assert_true(e.msg[0]);
        }
        free(bytes);
    }
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),     cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_positions), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
