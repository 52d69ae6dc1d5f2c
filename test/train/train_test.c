/* Training: it learns; it is what PyTorch does; parts make the whole (accumulation, resume,
 * Ctrl-C); it stops on NaN; a step allocates nothing. */
/* Long: what a run is held against, a section each, over one tiny run. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"
#include "store/store.h"
#include "weights/weights.h"
#include <signal.h>
#include <spawn.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- allocations: every one of the process is counted (glibc's own allocator stays under it)  */

#if !defined(__SANITIZE_ADDRESS__)
#define COUNTS_ALLOCATIONS 1
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);

static _Atomic int64_t allocations;

void *malloc(size_t n)
{
    allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    allocations++;
    return __libc_realloc(p, n);
}
#endif

/* ---- learning -------------------------------------------------------------------------------- */

static void test_learns(void **state)
{
    (void)state;
    json_t *r = runs_good("learns", "train.steps=20 train.decay_steps=20 eval.every=20");
    const json_t *loss = json_object_get(json_object_get(r, "curve"), "loss");
    assert_int_equal(json_array_size(loss), 20);
    double first = json_number_value(json_array_get(loss, 0));
    assert_true(fabs(first - log(RUN_VOCAB)) < 0.1); /* knows nothing yet */
    assert_true(runs_number(r, "loss") < first - 0.5);
    assert_true(runs_number(r, "val_loss") < first - 0.5);
    assert_true(fabs(runs_number(r, "val_perplexity") / exp(runs_number(r, "val_loss")) - 1) <
                1e-9);
    assert_int_equal(runs_number(r, "step"), 20);
    assert_int_equal(runs_number(r, "tokens"), 20 * 4 * 16);
    json_decref(r);
}

/* The result and the files say the same; best is the checkpoint of the lowest validation loss. */
static void test_files(void **state)
{
    (void)state;
    json_t *r = runs_good("files", "");
    assert_true(st_path_exists(runs_file("files", "config.yaml")));
    char *jsonl = st_test_read(runs_file("files", "metrics.jsonl"), NULL);
    assert_non_null(jsonl);
    const json_t *loss = json_object_get(json_object_get(r, "curve"), "loss");
    int rows = 0, validations = 0;
    for (char *line = strtok(jsonl, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        if (json_object_get(row, "val_loss")) {
            assert_int_equal(runs_number(row, "step"), validations++ * 4);
        } else {
            double want = json_number_value(json_array_get(loss, (size_t)rows++));
            assert_int_equal(runs_number(row, "step"), rows);
            assert_true(fabs(runs_number(row, "loss") - want) < 1e-6);
        }
        json_decref(row);
    }
    assert_int_equal(rows, 12);
    assert_int_equal(validations, 4);
    json_t *best = json_object_get(r, "best");
    assert_true(fabs(runs_number(best, "val_loss") - runs_number(r, "val_loss")) < 1e-12);
    runs_same(runs_file("files", "ckpt/best/model.safetensors"),
              runs_file("files", "ckpt/last/model.safetensors"));
    free(jsonl);
    json_decref(r);
}

/* ---- PyTorch --------------------------------------------------------------------------------- */

/* Numbers of `name` in PyTorch's run; false: it has none. */
static bool torch_five(const char *folder, const char *name, float x[5])
{
    char path[256];
    st_weights *f;
    st_err e = {0};
    snprintf(path, sizeof path, "%s/expect.safetensors", folder);
    assert_ok(st_weights_open(&f, path, &e), &e);
    const st_stored *stored = st_weights_find(f, name);
    if (stored) assert_ok(st_stored_read(stored, st_view1(x, ST_F32, 5), &e), &e);
    st_weights_close(f);
    return stored != NULL;
}

/* The parts of the loss, where there is a teacher. */
static void same_parts(const char *folder, const json_t *curve)
{
    static const char *const part[] = {"ce", "kl", "hidden", "embedding"};
    for (int k = 0; k < 4; k++) {
        float want[5];
        const json_t *is = json_object_get(curve, part[k]);
        assert_int_equal(torch_five(folder, part[k], want), is != NULL);
        for (size_t i = 0; is && i < 5; i++) {
            double x = json_number_value(json_array_get(is, i));
            if (fabs(x - (double)want[i]) > 1e-5 * fmax(1, x))
                fail_msg("%s step %zu: %s %.7f %.7f", folder, i, part[k], x, (double)want[i]);
        }
    }
}

static void against_torch(const char *folder, const char *recipe)
{
    char path[256], more[512];
    st_model *m, *want_m;
    float *flat, *want;
    st_bpe *none;
    st_err e = {0};
    st_weights *f;
    snprintf(path, sizeof path, "%s/expect.safetensors", folder);
    assert_ok(st_weights_open(&f, path, &e), &e);
    const st_stored *stored = st_weights_find(f, "tokens");
    int32_t token[1024];
    uint16_t half[1024];
    float loss[5], norm[5], lr[5];
    assert_in_range(stored->dim[0], 1, 1024);
    assert_ok(st_stored_read(stored, st_view1(token, ST_I32, stored->dim[0]), &e), &e);
    for (int64_t i = 0; i < stored->dim[0]; i++)
        half[i] = (uint16_t)token[i];
    st_test_write(st_test_path(runs_dir, "torch.bin"), half, (size_t)stored->dim[0] * 2);
    assert_ok(st_stored_read(st_weights_find(f, "loss"), st_view1(loss, ST_F32, 5), &e), &e);
    assert_ok(st_stored_read(st_weights_find(f, "norm"), st_view1(norm, ST_F32, 5), &e), &e);
    assert_ok(st_stored_read(st_weights_find(f, "lr"), st_view1(lr, ST_F32, 5), &e), &e);
    st_weights_close(f);

    assert_ok(st_folder_read("test/fixtures/gpt2_tanh", &m, &flat, &none, &e), &e);
    assert_ok(st_folder_read(folder, &want_m, &want, &none, &e), &e);
    snprintf(
        more, sizeof more,
        "data.train=%s data.order=sequential train.steps=5 train.decay_steps=5 train.context=13 "
        "train.micro_batch=2 train.tokens_per_step=52 train.warmup=2 train.eps=1e-4 eval.every=0 "
        "%s",
        st_test_path(runs_dir, "torch.bin"), recipe);
    st_settings set;
    json_t *r;
    assert_ok(runs_settings(&set, "torch", more, &e), &e);
    free(set.out);
    set.out = NULL; /* in memory */
    assert_ok(st_train_run(&(st_train_opts){.set = &set, .model = m, .flat = flat}, &r, &e), &e);
    for (size_t i = 0; i < 5; i++) {
        const json_t *curve = json_object_get(r, "curve");
        double x = json_number_value(json_array_get(json_object_get(curve, "loss"), i));
        double n = json_number_value(json_array_get(json_object_get(curve, "grad_norm"), i));
        double l = json_number_value(json_array_get(json_object_get(curve, "lr"), i));
        if (fabs(x - (double)loss[i]) > 2e-5 || fabs(n - (double)norm[i]) > 2e-4 * n ||
            fabs(l - (double)lr[i]) > 1e-8)
            fail_msg("%s step %zu: loss %.7f %.7f norm %.6f %.6f lr %g %g", folder, i, x,
                     (double)loss[i], n, (double)norm[i], l, (double)lr[i]);
    }
    same_parts(folder, json_object_get(r, "curve"));
    double worst = 0;
    for (int64_t i = 0; i < st_model_elements(m); i++)
        worst = fmax(worst, fabs((double)flat[i] - (double)want[i]));
    if (worst > 2e-5) fail_msg("%s: a weight differs by %g after five steps", folder, worst);
    json_decref(r);
    st_settings_close(&set);
    st_model_close(m);
    st_model_close(want_m);
    free(flat);
    free(want);
}

static void test_torch(void **state)
{
    (void)state;
    against_torch("test/fixtures/train_nanogpt", "train.schedule=cosine train.min_lr=1e-3");
    against_torch("test/fixtures/train_fly",
                  "train.schedule=linear train.beta2=0.999 train.decay_embeddings=false");
    against_torch("test/fixtures/train_ema",
                  "train.schedule=linear train.beta2=0.999 train.decay_embeddings=false "
                  "train.ema=0.3 train.ema_warmup=true");
    against_torch("test/fixtures/train_groups",
                  "train.min_lr=1e-3 train.groups={h.0.attn.*:{freeze:true},biases:{lr:"
                  "3e-2,decay:0.5},wte.weight:{schedule:false},"
                  "h.1.mlp.*.weight:{lr:2e-3}}");
}

static void test_torch_distills(void **state)
{
    (void)state;
    against_torch("test/fixtures/train_distill",
                  "train.min_lr=1e-3 distill=test/fixtures/train_fly distill.ce=0.4 distill.kl=0.6 "
                  "distill.hidden=0.3 distill.embedding=0.2");
}

/* ---- validation ------------------------------------------------------------------------------ */

/* Random windows are other ones at every step, the same ones in every run, and of the same text. */
static void test_random_windows(void **state)
{
    (void)state;
    const char still[] = "train.lr=0 train.min_lr=0 eval.batches=3";
    char drawn[128];
    snprintf(drawn, sizeof drawn, "%s eval.order=random", still);
    json_t *a = runs_good("spread", still), *b = runs_good("drawn", drawn),
           *c = runs_good("drawn-again", drawn);
    const json_t *x = json_object_get(json_object_get(a, "validation"), "loss");
    const json_t *y = json_object_get(json_object_get(b, "validation"), "loss");
    const json_t *z = json_object_get(json_object_get(c, "validation"), "loss");
    assert_true(json_equal(y, z));
    double first = json_number_value(json_array_get(y, 0));
    for (size_t i = 1; i < 4; i++) {
        double p = json_number_value(json_array_get(x, i)),
               q = json_number_value(json_array_get(y, i));
        assert_true(p == json_number_value(json_array_get(x, 0)));
        if (q == first || fabs(q - p) > 0.1) fail_msg("windows: %.6f and %.6f", p, q);
    }
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_t *none;
    st_err e;
    assert_st(runs_train("endless", "eval.order=random eval.batches=0", &none, &e), ST_EARG, &e);
    assert_says(&e, "eval.batches");
}

/* A best checkpoint above the bound is none. */
static void test_best_below(void **state)
{
    (void)state;
    json_t *r = runs_good("below", "ckpt.best_below=0.1");
    assert_null(json_object_get(r, "best"));
    assert_false(st_path_exists(runs_file("below", "ckpt/best")));
    assert_true(st_path_exists(runs_file("below", "ckpt/last")));
    json_decref(r);
    r = runs_good("below2", "ckpt.best_below=3.12");
    assert_non_null(json_object_get(r, "best"));
    assert_true(st_path_exists(runs_file("below2", "ckpt/best")));
    json_decref(r);
}

/* ---- the parts make the whole ---------------------------------------------------------------- */

/* One micro-batch of four rows, or four of one: the same rows, the same gradient. */
static void test_accumulation(void **state)
{
    (void)state;
    json_t *a = runs_good("whole", "train.micro_batch=4 train.tokens_per_step=64");
    json_t *b = runs_good("pieces", "train.micro_batch=1 train.tokens_per_step=64");
    assert_int_equal(runs_number(a, "tokens_per_step"), runs_number(b, "tokens_per_step"));
    const json_t *x = json_object_get(json_object_get(a, "curve"), "loss");
    const json_t *y = json_object_get(json_object_get(b, "curve"), "loss");
    for (size_t i = 0; i < json_array_size(x); i++) {
        double p = json_number_value(json_array_get(x, i)),
               q = json_number_value(json_array_get(y, i));
        if (fabs(p - q) > 1e-4 * p)
            fail_msg("step %zu: loss %.8f in one, %.8f in four", i + 1, p, q);
    }
    json_decref(a);
    json_decref(b);
}

static void resumes(const char *name, const char *more)
{
    char whole[64], part[64], text[512];
    snprintf(whole, sizeof whole, "%s-whole", name);
    snprintf(part, sizeof part, "%s-part", name);
    json_decref(runs_good(whole, more));
    snprintf(text, sizeof text, "%s train.steps=8", more); /* 8: a step that is validated anyway */
    json_decref(runs_good(part, text));
    json_t *r = runs_good(part, more);
    assert_int_equal(runs_number(r, "step"), 12);
    assert_int_equal(json_array_size(json_object_get(json_object_get(r, "curve"), "loss")), 12);
    json_decref(r);
    runs_same_ckpt(whole, part);
    runs_same_metrics(whole, part);
}

static void test_resume(void **state)
{
    (void)state;
    resumes("random", "train.dropout=0.2");
    resumes("shuffle", "data.order=shuffle train.micro_batch=2 train.tokens_per_step=96");
    resumes("order", "data.order=sequential train.schedule=linear threads=2");
}

static void test_bf16(void **state)
{
    (void)state;
    resumes("bf16", "dtype=bfloat16 train.dropout=0.1");
    json_t *a = runs_good("bf16-a", "dtype=bf16"), *b = runs_good("bf16-b", "dtype=float32");
    double x = runs_number(a, "loss"), y = runs_number(b, "loss");
    assert_true(fabs(x - y) < 0.05 && fabs(x - y) > 0);
    const json_t *m = json_object_get(a, "memory"), *n = json_object_get(b, "memory");
    assert_int_equal(2 * runs_number(m, "weights"), runs_number(n, "weights"));
    assert_int_equal(2 * runs_number(m, "optimizer"), 3 * runs_number(n, "optimizer"));
    json_decref(a);
    json_decref(b);
}

/* ---- Ctrl-C ---------------------------------------------------------------------------------- */

#define STORM                                                                                      \
    "train.dropout=0.2 train.tokens_per_step=256 train.ema=0.9 train.ema_warmup=true "             \
    "ckpt.top_k=2 log.norms=3 stop.patience=9 data.order=shuffle data.last=short"

static void alarm_handler(int sig)
{
    (void)sig;
    st_interrupt();
}

static void interrupt_at(void *ctx, const st_progress *p)
{
    if (strcmp(p->what, "train") == 0 && p->done == *(const int64_t *)ctx) st_interrupt();
}

/* The program run as `train_test --child DIR STEP|-USEC NAME`: trains until step STEP, or until
 * USEC microseconds are over, is interrupted there, and exits with the status. */
static int child(char **argv)
{
    int64_t when = 0;
    json_t *result;
    st_err e;
    snprintf(runs_dir, sizeof runs_dir, "%s", argv[2]);
    st_parse_int(argv[3], &when);
    if (when < 0) {
        signal(SIGALRM, alarm_handler);
        setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = -when}}, NULL);
    } else {
        st_sink_set(&(st_sink){.progress = interrupt_at, .ctx = &when});
    }
    st_status s = runs_train(argv[4], STORM, &result, &e);
    char says[64] = "interrupted";
    if (when > 0)
        snprintf(says, sizeof says, "ckpt/last holds step %s of 12: run the same", argv[3]);
    if (s == ST_EINTR && !strstr(e.msg, says)) {
        fprintf(stderr, "%s\n", e.msg);
        return 99;
    }
    if (s && s != ST_EINTR) fprintf(stderr, "%s\n", e.msg);
    json_decref(result);
    return (int)s;
}

static int spawn(const char *when, const char *name)
{
    char self[512] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    char mark[] = "--child", time[32], run[64];
    snprintf(time, sizeof time, "%s", when);
    snprintf(run, sizeof run, "%s", name);
    char *argv[] = {self, mark, runs_dir, time, run, NULL};
    pid_t pid;
    int status = -1;
    assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_interrupt(void **state)
{
    (void)state;
    const char more[] = STORM;
    json_decref(runs_good("calm", more));
    assert_int_equal(spawn("5", "cut"), ST_EINTR);
    assert_true(st_path_exists(runs_file("cut", "ckpt/last/state.json")));
    assert_int_equal(spawn("8", "cut"), ST_EINTR); /* where a checkpoint and a validation are due */
    json_decref(runs_good("cut", more));
    runs_same_ckpt("calm", "cut");
    runs_same_metrics("calm", "cut");
    /* Anywhere: between micro-batches, in a validation, in a checkpoint. */
    int cuts = 0;
    for (int i = 0, s = ST_EINTR; s == ST_EINTR && i < 100; i++) {
        char when[32];
        snprintf(when, sizeof when, "-%d", 4000 + 9973 * i % 60000 + 4000 * i);
        s = spawn(when, "storm");
        cuts += s == ST_EINTR;
        assert_true(s == ST_EINTR || s == ST_OK);
    }
    json_decref(runs_good("storm", more));
    runs_same_ckpt("calm", "storm");
    runs_same_metrics("calm", "storm");
    char norms[600];
    snprintf(norms, sizeof norms, "%s", runs_file("calm", "norms.jsonl"));
    runs_same(norms, runs_file("storm", "norms.jsonl"));
    snprintf(norms, sizeof norms, "%s", runs_file("calm", "checkpoints.json"));
    runs_same(norms, runs_file("storm", "checkpoints.json"));
    print_message("interrupted %d times\n", cuts);
}

/* ---- NaN ------------------------------------------------------------------------------------- */

/* Every step multiplies the weights by -1e5. */
#define BLOW_UP                                                                                    \
    "train.lr=1000 train.weight_decay=100 train.schedule=constant train.warmup=0 train.clip=0 "    \
    "ckpt.every=0 eval.every=0"

static void test_nan(void **state)
{
    (void)state;
    json_t *r;
    st_err e;
    json_decref(runs_good("nan", "train.steps=4"));
    size_t n, m;
    char *before = st_test_read(runs_file("nan", "ckpt/last/model.safetensors"), &n);
    assert_st(runs_train("nan", BLOW_UP " ckpt.resume=yes train.steps=30", &r, &e), ST_EARG, &e);
    assert_null(r);
    assert_says(&e, "step ");
    assert_says(&e, "train.lr");
    char *after = st_test_read(runs_file("nan", "ckpt/last/model.safetensors"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    assert_st(runs_train("nan2", BLOW_UP " train.steps=30", &r, &e), ST_EARG, &e);
    assert_says(&e, "no checkpoint");
    assert_false(st_path_exists(runs_file("nan2", "ckpt/last")));
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int64_t seen[64];

static void count_at(void *ctx, const st_progress *p)
{
    (void)ctx;
#ifdef COUNTS_ALLOCATIONS
    if (p->done < 64) seen[p->done] = allocations;
#else
    (void)p;
#endif
}

/* From one step's report to the next (with its row of metrics) nothing is allocated. The first
 * steps may: libraries make their buffers then. */
static void test_no_allocation(void **state)
{
    (void)state;
#ifndef COUNTS_ALLOCATIONS
    print_message("allocations are not counted under the address sanitizer\n");
    skip();
#endif
    const char *const dtype[] = {"float32", "bfloat16"};
    for (int d = 0; d < 2; d++) {
        char name[16], more[256];
        snprintf(name, sizeof name, "alloc%d", d);
        snprintf(more, sizeof more,
                 "train.steps=20 eval.every=0 ckpt.every=0 train.dropout=0.1 "
                 "train.tokens_per_step=128 dtype=%s threads=%d",
                 dtype[d], d + 1);
        st_sink_set(&(st_sink){.progress = count_at});
        json_decref(runs_good(name, more));
        st_sink_set(NULL);
        for (int i = 3; i < 20; i++)
            if (seen[i + 1] != seen[i])
                fail_msg("%lld allocations in step %d", (long long)(seen[i + 1] - seen[i]), i + 1);
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--child") == 0) return child(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_torch),
        cmocka_unit_test(test_torch_distills),
        cmocka_unit_test(test_random_windows),
        cmocka_unit_test(test_best_below),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_no_allocation),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
