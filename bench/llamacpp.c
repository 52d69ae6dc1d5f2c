/* The llama.cpp peer, over its own library, so that both programs do the same work:
 *
 *     llamacpp quantize IN.gguf OUT.gguf FTYPE       llama_ftype's number: 2 Q4_0, 7 Q8_0, 32 bf16
 *     llamacpp run MODEL.gguf THREADS PROMPT TOKENS  reads PROMPT tokens, then TOKENS one by one
 *
 * run prints "PREFILL DECODE", tokens a second. cc bench/llamacpp.c -I DIR/include
 * -I DIR/ggml/include -L LIB -lllama -lggml -lggml-base -lggml-cpu -o llamacpp */
/* SPDX-License-Identifier: MIT */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void errors_only(enum ggml_log_level level, const char *text, void *ctx)
{
    (void)ctx;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static int quantize(char **argv)
{
    struct llama_model_quantize_params p = llama_model_quantize_default_params();
    p.ftype = atoi(argv[4]);
    return (int)llama_model_quantize(argv[2], argv[3], &p);
}

static int run(char **argv)
{
    int threads = atoi(argv[3]), prompt = atoi(argv[4]), tokens = atoi(argv[5]);
    struct llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers = 0;
    struct llama_model *m = llama_model_load_from_file(argv[2], mp);
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = (uint32_t)(prompt + tokens);
    cp.n_batch = (uint32_t)prompt;
    cp.n_threads = cp.n_threads_batch = threads;
    struct llama_context *c = m ? llama_init_from_model(m, cp) : NULL;
    llama_token *id = calloc((size_t)(prompt + tokens), sizeof *id);
    if (!c || !id) return 1;
    for (int i = 0; i < prompt + tokens; i++)
        id[i] = 1 + i % 512;
    double start = now();
    if (llama_decode(c, llama_batch_get_one(id, prompt))) return 1;
    llama_synchronize(c);
    double read = now();
    for (int i = 0; i < tokens; i++) {
        if (llama_decode(c, llama_batch_get_one(id + prompt + i, 1))) return 1;
        llama_synchronize(c);
    }
    printf("%.2f %.2f\n", prompt / (read - start), tokens / (now() - read));
    return 0;
}

int main(int argc, char **argv)
{
    llama_log_set(errors_only, NULL);
    llama_backend_init();
    if (argc == 5 && strcmp(argv[1], "quantize") == 0) return quantize(argv);
    if (argc == 6 && strcmp(argv[1], "run") == 0) return run(argv);
    fprintf(stderr, "usage: %s quantize IN OUT FTYPE | run MODEL THREADS PROMPT TOKENS\n", argv[0]);
    return 1;
}
