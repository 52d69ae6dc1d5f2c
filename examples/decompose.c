/* decompose MODEL OUT GLOB=SPEC ...: writes a smaller model and says what it kept. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <strut.h>

static void say(void *ctx, int warning, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%s%s\n", warning ? "warning: " : "", text);
}

int main(int argc, char **argv)
{
    if (argc < 4) return fprintf(stderr, "usage: %s MODEL OUT GLOB=SPEC ...\n", argv[0]), 1;
    strut_error error = {0};
    strut_model *model = NULL;
    strut_model_info info = STRUT_MODEL_INFO;
    double energy = 0;
    strut_log(say, NULL);
    int failed = strut_decompose(argv[1], argv[2], (const char *const *)(argv + 3),
                                 (size_t)argc - 3, NULL, &energy, &error);
    if (!failed) failed = strut_model_open(&model, argv[2], NULL, &error);
    if (!failed) failed = strut_model_describe(model, &info, &error);
    if (failed)
        fprintf(stderr, "%s\n", error.message);
    else
        printf("%s: %lld parameters, %.1f %% of the replaced matrices' energy kept\n", argv[2],
               (long long)info.parameters, 100 * energy);
    strut_model_close(model);
    return failed;
}
