/* generate MODEL TEXT: goes on after TEXT, as it appears. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <strut.h>

static int say(void *ctx, const char *text, size_t bytes)
{
    (void)ctx;
    return fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) return fprintf(stderr, "usage: %s MODEL TEXT\n", argv[0]), 1;
    strut_error error = {0};
    strut_model *model = NULL;
    strut_generate_options options = STRUT_GENERATE_OPTIONS;
    options.tokens = 32;
    options.say = say;
    int32_t *ids = NULL, *new = NULL;
    size_t count = 0, made = 0;
    int failed = strut_model_open(&model, argv[1], NULL, &error);
    if (!failed) failed = strut_encode(model, argv[2], strlen(argv[2]), &ids, &count, &error);
    if (!failed) failed = strut_generate(model, ids, count, &options, &new, &made, &error);
    if (failed)
        fprintf(stderr, "%s\n", error.message);
    else
        printf("\n(%zu tokens after %zu)\n", made, count);
    strut_free(ids);
    strut_free(new);
    strut_model_close(model);
    return failed;
}
