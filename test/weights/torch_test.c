/* PyTorch archives: files that PyTorch wrote (test/fixtures/torch, tools/fixtures_torch.py),
 * hostile pickles, every truncation, flipped bits, pickles without end. */
/* Long: one format under everything that can break it. */
/* SPDX-License-Identifier: MIT */
#include "rig/json.h"
#include "weights/weights.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#define TORCH "test/fixtures/torch/"

/* Element i of tensor k of the fixtures. */
static int64_t whole(int64_t k, int64_t i)
{
    return (i * 37 + k * 11) % 101;
}

static float real(int64_t k, int64_t i)
{
    return (float)(whole(k, i) - 50) / 8;
}

/* ---- a model --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int ndim;
    int64_t dim[3];
} model[] = {
    {"transformer.wte.weight", 2, {7, 4}},
    {"transformer.wpe.weight", 2, {5, 4}},
    {"transformer.h.0.ln_1.weight", 1, {4}},
    {"transformer.h.0.ln_1.bias", 1, {4}},
    {"transformer.h.0.attn.c_attn.weight", 2, {12, 4}},
    {"transformer.h.0.attn.c_attn.bias", 1, {12}},
    {"transformer.h.0.attn.c_proj.weight", 2, {4, 4}},
    {"transformer.h.0.attn.c_proj.bias", 1, {4}},
    {"transformer.h.0.ln_2.weight", 1, {4}},
    {"transformer.h.0.ln_2.bias", 1, {4}},
    {"transformer.h.0.mlp.c_fc_0", 3, {1, 2, 8}},
    {"transformer.h.0.mlp.c_fc_1", 3, {1, 2, 2}},
    {"transformer.h.0.mlp.c_fc_bias", 1, {16}},
    {"transformer.h.0.mlp.c_proj_0", 3, {1, 8, 2}},
    {"transformer.h.0.mlp.c_proj_1", 3, {1, 2, 2}},
    {"transformer.h.0.mlp.c_proj_bias", 1, {4}},
    {"transformer.ln_f.weight", 1, {4}},
    {"transformer.ln_f.bias", 1, {4}},
    {"lm_head.weight", 2, {7, 4}},
};
enum { MODEL = sizeof model / sizeof *model };

static void check_model(const st_weights *w, const char *prefix)
{
    st_err e;
    assert_int_equal(st_weights_count(w), MODEL);
    for (int64_t k = 0; k < MODEL; k++) {
        char name[100];
        snprintf(name, sizeof name, "%s%s", prefix, model[k].name);
        const st_stored *t = st_weights_at(w, k);
        assert_string_equal(t->name, name);
        assert_ptr_equal(st_weights_find(w, name), t);
        assert_string_equal(t->dtype, "F32");
        assert_int_equal(t->ndim, model[k].ndim);
        int64_t n = 1;
        for (int d = 0; d < t->ndim; d++) {
            assert_int_equal(t->dim[d], model[k].dim[d]);
            n *= t->dim[d];
        }
        assert_int_equal(t->bytes, n * 4);
        float value[48];
        assert_ok(st_stored_read(t, st_view1(value, ST_F32, n), &e), &e);
        for (int64_t i = 0; i < n; i++)
            assert_true(value[i] == real(k == MODEL - 1 ? 0 : k, i));
    }
    /* The tied head is the embedding, not a copy. */
    assert_int_equal(st_weights_at(w, 0)->offset, st_weights_at(w, MODEL - 1)->offset);
}

static void test_state_dict(void **state)
{
    (void)state;
    st_weights *w;
    st_err e;
    assert_ok(st_weights_open(&w, TORCH "krony.pt", &e), &e);
    assert_string_equal(st_weights_form(w), "torch");
    assert_null(st_weights_meta(w, "format"));
    same_json(st_weights_extra(w), "{}");
    check_model(w, "");
    st_weights_close(w);
}

static void test_checkpoint(void **state)
{
    (void)state;
    static const char *const file[] = {TORCH "nanogpt.pt", TORCH "nanogpt-legacy.pt"};
    for (int i = 0; i < 2; i++) {
        st_weights *w;
        st_err e;
        assert_ok(st_weights_open(&w, file[i], &e), &e);
        assert_string_equal(st_weights_form(w), i ? "torch-legacy" : "torch");
        check_model(w, "_orig_mod.");
        same_json(
            st_weights_extra(w),
            "{\"optimizer\": {\"state\": {\"0\": {\"step\": 1.0, \"exp_avg\": {\"tensor\": "
            "\"F32\", \"shape\": [2, 2]}, \"exp_avg_sq\": {\"tensor\": \"F32\", \"shape\": [2, "
            "2]}}}, \"param_groups\": [{\"lr\": 6e-4, \"betas\": [0.9, 0.999], \"eps\": 1e-8, "
            "\"weight_decay\": 0.01, \"amsgrad\": false, \"foreach\": null, \"maximize\": "
            "false, \"capturable\": false, \"params\": [0]}]}, \"model_args\": {\"n_layer\": "
            "1, \"n_head\": 2, \"n_embd\": 4, \"block_size\": 5, \"bias\": true, "
            "\"vocab_size\": 7, \"dropout\": 0.0}, \"iter_num\": 2000, \"best_val_loss\": "
            "2.5, \"config\": {\"out_dir\": \"out\", \"eval_only\": false, "
            "\"wandb_run_name\": \"gpt2-\\u00e9\", \"learning_rate\": 6e-4, \"init_from\": "
            "null, \"list\": [1, [2.5, \"x\"]], \"seed\": 2147483648, \"big\": "
            "\"0x400000000000000000\", \"nan\": \"nan\", \"minus\": -5}}");
        st_weights_close(w);
    }
}

static void test_choice(void **state)
{
    (void)state;
    static const char file[] = TORCH "images.pth.tar";
    st_weights *w;
    st_err e;
    float value[6];
    assert_ok(st_weights_open(&w, file, &e), &e);
    assert_int_equal(st_weights_count(w), 2);
    const st_stored *t = st_weights_find(w, "module.head.weight");
    assert_ok(st_stored_read(t, st_view1(value, ST_F32, 6), &e), &e);
    assert_true(value[5] == real(0, 5));
    same_json(
        st_weights_extra(w),
        "{\"epoch\": 309, \"arch\": \"t2t_vit_7\", \"state_dict_ema\": {\"head.weight\": "
        "{\"tensor\": \"F32\", \"shape\": [3, 2]}, \"head.bias\": {\"tensor\": \"F32\", "
        "\"shape\": [3]}}, \"args\": {\"lr\": 0.001, \"model\": \"t2t_vit_7\", \"mean\": "
        "[0.485, 0.456], \"cutmix\": null, \"path\": [\"/\", \"data\", \"imagenet\"]}, "
        "\"metric\": 71.75, \"numbers\": {\"f32\": 0.5, \"f16\": -2.0, \"i64\": -7, \"u8\": "
        "200, \"bool\": true, \"array\": null}, \"plain\": {\"set\": [3], \"complex\": [1.0, "
        "2.0], \"bytes\": null, \"dtype\": \"float16\", \"size\": [2, 3], \"device\": \"cpu\", "
        "\"none\": null, \"default\": {\"a\": [1]}}}");
    st_weights_close(w);
    assert_ok(st_weights_open_dict(&w, file, "state_dict_ema", &e), &e);
    t = st_weights_find(w, "head.weight");
    assert_non_null(t);
    assert_ok(st_stored_read(t, st_view1(value, ST_F32, 6), &e), &e);
    assert_true(value[5] == real(2, 5));
    assert_null(json_object_get(st_weights_extra(w), "state_dict_ema"));
    assert_non_null(json_object_get(st_weights_extra(w), "state_dict"));
    st_weights_close(w);
    assert_st(st_weights_open_dict(&w, file, "ema", &e), ST_EARG, &e);
    assert_says(&e, "no tensors under ema; it has: epoch, arch, state_dict, state_dict_ema");
    assert_st(st_weights_open_dict(&w, file, "args.lr", &e), ST_EARG, &e);
    assert_null(w);
}

/* ---- element types and views ----------------------------------------------------------------- */

/* A tensor of the fixtures as a view of the numbers of tensor k. */
static const struct {
    const char *name, *dtype;
    int k, ndim;
    int64_t offset, dim[3], stride[3];
} kinds[] = {
    {"f64", "F64", 0, 2, 0, {2, 3}, {3, 1}},
    {"f32", "F32", 1, 2, 0, {2, 3}, {3, 1}},
    {"f16", "F16", 2, 2, 0, {2, 3}, {3, 1}},
    {"bf16", "BF16", 3, 2, 0, {2, 3}, {3, 1}},
    {"i64", "I64", 4, 2, 0, {2, 3}, {3, 1}},
    {"i32", "I32", 5, 2, 0, {2, 3}, {3, 1}},
    {"i16", "I16", 6, 2, 0, {2, 3}, {3, 1}},
    {"i8", "I8", 7, 2, 0, {2, 3}, {3, 1}},
    {"u8", "U8", 8, 2, 0, {2, 3}, {3, 1}},
    {"bool", "BOOL", 9, 2, 0, {2, 3}, {3, 1}},
    {"scalar", "F32", 10, 0, 0, {0}, {0}},
    {"empty", "F32", 11, 2, 0, {0, 4}, {4, 1}},
    {"parameter", "F32", 12, 2, 0, {2, 2}, {2, 1}},
    {"base", "F32", 20, 2, 0, {6, 5}, {5, 1}},
    {"turned", "F32", 20, 2, 0, {5, 6}, {1, 5}},
    {"column", "F32", 20, 1, 1, {6}, {5}},
    {"corner", "F32", 20, 2, 7, {2, 2}, {10, 1}},
    {"first", "F32", 21, 1, 0, {4}, {1}},
    {"rest", "F32", 21, 2, 4, {2, 4}, {4, 1}},
    {"expanded", "F32", 13, 2, 0, {3, 4}, {1, 0}},
    {"deep", "F32", 14, 3, 0, {4, 2, 3}, {1, 12, 4}},
    {"wide", "F64", 15, 2, 0, {2, 3}, {1, 2}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Element `at` (in C order) of row r as an index of tensor k's numbers. */
static int64_t kinds_place(int64_t r, int64_t at)
{
    int64_t from = kinds[r].offset;
    for (int d = kinds[r].ndim - 1; d >= 0; d--) {
        from += at % kinds[r].dim[d] * kinds[r].stride[d];
        at /= kinds[r].dim[d];
    }
    return from;
}

static void check_kind(const st_stored *t, int64_t r)
{
    int64_t n = 1;
    st_err e;
    assert_string_equal(t->name, kinds[r].name);
    assert_string_equal(t->dtype, kinds[r].dtype);
    assert_int_equal(t->ndim, kinds[r].ndim);
    for (int d = 0; d < t->ndim; d++) {
        assert_int_equal(t->dim[d], kinds[r].dim[d]);
        n *= t->dim[d];
    }
    float f[32];
    int32_t i32[32];
    uint16_t h[32];
    bool is_float = strchr(t->dtype, 'F') != NULL;
    assert_st(st_stored_read(t, st_view1(f, ST_F32, n), &e), is_float ? ST_OK : ST_EFORMAT, &e);
    assert_st(st_stored_read(t, st_view1(h, ST_BF16, n), &e), is_float ? ST_OK : ST_EFORMAT, &e);
    assert_st(st_stored_read(t, st_view1(i32, ST_I32, n), &e), is_float ? ST_EFORMAT : ST_OK, &e);
    for (int64_t i = 0; i < n; i++) {
        int64_t from = kinds_place(r, i), want = whole(kinds[r].k, from);
        if (is_float) assert_true(f[i] == real(kinds[r].k, from));
        if (is_float) assert_int_equal(h[i], st_f32_to_bf16(f[i]));
        if (!is_float) assert_int_equal(i32[i], strcmp(t->dtype, "BOOL") ? want : want % 2);
    }
    assert_st(st_stored_read(t, st_view1(f, ST_F32, n + 1), &e), ST_ESHAPE, &e);
}

static void test_kinds(void **state)
{
    (void)state;
    static const char *const file[] = {TORCH "kinds.pt", TORCH "kinds-legacy.pt",
                                       TORCH "kinds-4.pt"};
    for (int i = 0; i < 3; i++) {
        st_weights *w;
        st_err e;
        assert_ok(st_weights_open(&w, file[i], &e), &e);
        assert_int_equal(st_weights_count(w), KINDS);
        for (int64_t r = 0; r < KINDS; r++)
            check_kind(st_weights_at(w, r), r);
        uint8_t u8[6];
        assert_ok(st_stored_read(st_weights_find(w, "u8"), st_view1(u8, ST_U8, 6), &e), &e);
        assert_int_equal(u8[5], whole(8, 5));
        st_weights_close(w);
    }
}

static void test_newer(void **state)
{
    (void)state;
    st_weights *w;
    st_err e;
    float value[4];
    assert_ok(st_weights_open(&w, TORCH "newer.pt", &e), &e);
    assert_int_equal(st_weights_count(w), 4);
    assert_string_equal(st_weights_find(w, "a")->dtype, "U16");
    assert_string_equal(st_weights_find(w, "f8")->dtype, "F8_E4M3");
    for (int i = 0; i < 2; i++) {
        const st_stored *t = st_weights_find(w, i ? "p" : "w");
        assert_ok(st_stored_read(t, st_view1(value, ST_F32, 4), &e), &e);
        assert_true(value[0] == 1 && value[3] == 1);
    }
    same_json(st_weights_extra(w), "{\"score\": 0.25}");
    st_weights_close(w);
}

/* ---- hostile files --------------------------------------------------------------------------- */

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } rows[] = {
        {"system", "its a was made by posix.system, which is not read"},
        {"eval", "its a was made by builtins.eval, which is not read"},
        {"getattr", "its a was made by __builtin__.getattr, which is not read"},
        {"load", "its a was made by torch.storage._load_from_bytes, which is not read"},
        {"alias", "its a was made by evil.OrderedDict, which is not read"},
        {"stack", "its a was made by os.system, which is not read"},
        {"newobj", "its a was made by subprocess.Popen, which is not read"},
        {"dotted", "its a was made by torch.os.system, which is not read"},
        {"linear", "holds an object of torch.nn.modules.linear.Linear, which is not read"},
        {"inst", "opcode INST"},
        {"persistent", "opcode PERSID"},
        {"extension", "opcode EXT1"},
        {"typecall", "its a was made by torch.FloatStorage, which is not read"},
        {"nocall", "a call of what is no function"},
        {"badargs", "its a was made by torch._utils._rebuild_tensor_v2, which is not read"},
        {"module", "no tensors under model"},
        {"huge", "tensor a: its shape is far larger than its storage"},
        {"overflow", "tensor a: its shape has more than 2^63 elements"},
        {"far", "tensor a: its elements lie beyond its storage"},
        {"beyond", "tensor a: its elements lie beyond its storage"},
        {"offset", "tensor a: its elements lie beyond its storage"},
        {"negative", "tensor a: its shape is not of whole numbers from 0 on"},
        {"before", "tensor a: its elements lie beyond its storage"},
        {"dimensions", "tensor a: its dimensions are more than 8"},
        {"missing", "no entry data/7, which its pickle names"},
        {"upwards", "no entry data/../data.pkl"},
        {"length", "data/0 has 16 bytes, but its pickle says 20"},
        {"elements", "tensor a: its storage has more than 2^63 bytes"},
        {"twice", "two tensors are named a"},
        {"noname", "a tensor whose name is no text"},
        {"memo", "recalls a memo that was not made"},
        {"farmemo", "a memo number beyond 4194304"},
        {"longtext", "ends within a text"},
        {"longint", "more than 1024 bytes"},
        {"underflow", "a value is missing on its stack"},
        {"marks", "a mark in a tuple"},
        {"nomark", "a mark is missing"},
        {"odd", "a key without its value"},
        {"noitems", "items for what is no container"},
        {"opcode", "no opcode"},
        {"protocol", "no protocol from 2 to 5"},
        {"empty", "at its top, which has: nothing"},
        {"list", "holds no dict, expected a dict of named tensors"},
        {"single", "holds one tensor, expected a dict of named tensors"},
        {"tail", "data.pkl goes on after its end"},
        {"unstopped", "ends too early"},
        {"deflated", "entry hostile/data.pkl is compressed"},
        {"big", "big-endian"},
        {"script", "TorchScript"},
        {"nopickle", "a zip archive without NAME/data.pkl"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[128];
        st_weights *w;
        st_err e;
        snprintf(path, sizeof path, TORCH "hostile/%s.pt", rows[i].name);
        st_status s = st_weights_open(&w, path, &e);
        assert_null(w);
        assert_true(s == ST_EFORMAT || s == ST_EUNSUPPORTED);
        assert_says(&e, path);
        assert_says(&e, rows[i].says);
    }
    assert_int_equal(st_test_entries(TORCH "hostile"), sizeof rows / sizeof *rows + 3);
}

/* Values beside the tensors that are cyclic, deep, or huge as a tree: shortened, soon. */
static void test_shortened(void **state)
{
    (void)state;
    static const char *const name[] = {"cycle", "deep", "laughs"};
    for (int i = 0; i < 3; i++) {
        char path[128];
        st_weights *w;
        st_err e;
        float value[4];
        double start = st_now();
        snprintf(path, sizeof path, TORCH "hostile/%s.pt", name[i]);
        assert_ok(st_weights_open(&w, path, &e), &e);
        assert_ok(st_stored_read(st_weights_find(w, "a"), st_view1(value, ST_F32, 4), &e), &e);
        assert_true(value[3] == 1);
        assert_true(st_now() - start < 20);
        st_weights_close(w);
    }
}

/* A file of torch.save's legacy form: its first three pickles, and what is given. */
static void write_legacy(const char *path, const char *first, const char *again, int64_t times,
                         const char *last)
{
    static const char head[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
                               "\x80\x02M\xe9\x03."
                               "\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(head, 1, sizeof head - 1, f);
    fputs(first, f);
    for (int64_t i = 0; i < times; i++)
        fputs(again, f);
    fputs(last, f);
    assert_int_equal(fclose(f), 0);
}

/* A tensor of one element in a storage of two, without a NUL. */
#define TENSOR                                                                                     \
    "ctorch._utils\n_rebuild_tensor_v2\n(("                                                        \
    "\x8c\7storagectorch\nFloatStorage\n\x8c\1a\x8c\3cpuK\2tQ"                                     \
    "K\1K\1\x85K\1\x85tR"

/* Pickles that ask for much: each is refused soon, and in no more memory than is said. */
static void test_endless(void **state)
{
    (void)state;
    static const struct {
        const char *first, *again;
        int64_t times;
        const char *last, *says;
    } rows[] = {
        {"\x80\x02", "]", 6000000, ".", "values on its stack"},
        {"\x80\x02", "]0", 6000000, "N.", "more than 4194304 values"},
        {"\x80\x02(", "(", 3000000, "N.", "values on its stack"},
        {"\x80\x02]", "Na", 9000000, ".", "more than 8388608 items"},
        /* dict(pairs) of itself, doubled by copying */
        {"\x80\x02]q\1(NNNNNNNNNNNNNNNNe0c__builtin__\nlist\nq\2",
         "0h\2(h\1tRq\1(NNNNNNNNNNNNNNNNe", 2000000, ".", "more than 8388608 items"},
        /* one tensor under one name again and again, and one storage */
        {"\x80\x02}\x8c\1aq\1" TENSOR "q\2"
         "00",
         "h\1h\2s", 2000000, ".", "more than 1048576 tensors"},
        {"\x80\x02}.\x80\x02]\x8c\1aq\1"
         "0",
         "h\1a", 2000000, ".", "no list of at most"},
        /* a memo is replaced again and again: nothing grows */
        {"\x80\x02N", "q\1", 6000000, ".]", "holds no dict"},
        {"\x80\x02", "N0", 30000000, "].", "holds no dict"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    double start = st_now();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_weights *w;
        st_err e;
        write_legacy(path, rows[i].first, rows[i].again, rows[i].times, rows[i].last);
        FILE *f = fopen(path, "ab");
        if (strstr(rows[i].says, "no dict")) fputs("\x80\x02].", f); /* no storages */
        if (strstr(rows[i].says, "tensors")) {
            fputs("\x80\x02]\x8c\1aa.", f); /* one, of two elements */
            fwrite("\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 1, 16, f);
        }
        fclose(f);
        st_status s = st_weights_open(&w, path, &e);
        assert_int_equal(s, ST_EFORMAT);
        assert_says(&e, rows[i].says);
    }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    print_message("%.1f s, at most %ld MiB\n", st_now() - start, use.ru_maxrss / 1024);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(use.ru_maxrss < 420 * 1024); /* with the pickle of up to 64 MiB */
#endif
    assert_true(st_now() - start < 60);
    st_test_remove(dir);
}

static void test_every_truncation(void **state)
{
    (void)state;
    static const char *const file[] = {TORCH "krony.pt", TORCH "kinds-legacy.pt",
                                       TORCH "images.pth.tar", TORCH "kinds-4.pt"};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    for (int i = 0; i < 4; i++) {
        size_t n;
        char *all = st_test_read(file[i], &n);
        st_test_write(path, all, n);
        free(all);
        assert_int_equal(truncate(path, (off_t)n + 1), 0); /* one byte too many */
        for (size_t cut = n + 1; cut-- > 0;) {
            st_weights *w;
            st_err e;
            if (cut + 1 != n) {
                assert_st(st_weights_open(&w, path, &e), ST_EFORMAT, &e);
                assert_null(w);
                assert_says(&e, path);
            }
            assert_int_equal(truncate(path, (off_t)cut), 0);
        }
    }
    st_test_remove(dir);
}

/* Of each byte a bit is flipped: an error, or tensors that can be read. */
static void test_flips(void **state)
{
    (void)state;
    static const char *const file[] = {TORCH "kinds.pt", TORCH "kinds-legacy.pt"};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    for (int i = 0; i < 2; i++) {
        size_t n, opened = 0;
        char *all = st_test_read(file[i], &n);
        st_test_write(path, all, n);
        int fd = open(path, O_WRONLY);
        for (size_t at = 0; at < n; at++) {
            char flipped = (char)(all[at] ^ 1 << at % 7);
            st_weights *w;
            st_err e;
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
            st_status s = st_weights_open(&w, path, &e);
            assert_int_equal(pwrite(fd, &all[at], 1, (off_t)at), 1);
            if (s) continue;
            opened++;
            for (int64_t k = 0; k < st_weights_count(w); k++) {
                const st_stored *t = st_weights_at(w, k);
                float value[4096];
                int64_t count = 1;
                for (int d = 0; d < t->ndim; d++)
                    count *= t->dim[d];
                assert_true(count <= 4096);
                (void)st_stored_read(t, st_view1(value, ST_F32, count), &e);
            }
            st_weights_close(w);
        }
        assert_true(opened > 100);
        close(fd);
        free(all);
    }
    st_test_remove(dir);
}

static void test_what_it_is(void **state)
{
    (void)state;
    static char tar[1024] = "weights.pth";
    memcpy(tar + 257, "ustar", 5);
    const struct {
        const char *data;
        size_t n;
        const char *says;
    } rows[] = {
        {tar, sizeof tar, "a tar archive, while PyTorch's .pth.tar files are what torch.save"},
        {"\n <!DOCTYPE html><html>", 24, "a web page"},
        {"<HTML><body>Not found", 21, "a web page"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "git lfs pull"},
        {"\x1f\x8b\x08 and more", 12, "it is compressed"},
        {"\x89HDF\r\n\x1a\n....", 12, "HDF5"},
        {"\x80\x04\x95\x05\0\0\0\0\0\0\0}\x94.", 14, "a Python pickle, but none of torch.save"},
        {"PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22, "without NAME/data.pkl"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff no", 11, "no file of tensors that is known, or damaged"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.pth.tar");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_weights *w;
        st_err e;
        st_test_write(path, rows[i].data, rows[i].n);
        assert_st(st_weights_open(&w, path, &e), ST_EFORMAT, &e);
        assert_says(&e, rows[i].says);
    }
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_dict),
        cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_newer),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_shortened),
        cmocka_unit_test(test_endless),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
