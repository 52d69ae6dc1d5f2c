/* matrix SPEC ...: how near each structured matrix comes to a random one, at what size. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <strut.h>

enum { INPUTS = 96, OUTPUTS = 64 };

int main(int argc, char **argv)
{
    static float w[OUTPUTS * INPUTS], x[INPUTS], y[OUTPUTS];
    for (int i = 0; i < OUTPUTS * INPUTS; i++)
        w[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    for (int i = 0; i < INPUTS; i++)
        x[i] = 1.0f;
    for (int i = 1; i < argc; i++) {
        strut_error error = {0};
        strut_matrix *m = NULL;
        double off = 0;
        int failed = strut_matrix_open(&m, argv[i], INPUTS, OUTPUTS, 1, &error);
        if (!failed) failed = strut_matrix_project(m, w, NULL, &off, &error);
        if (!failed) failed = strut_matrix_apply(m, x, 1, y, &error);
        if (failed) {
            fprintf(stderr, "%s\n", error.message);
        } else {
            printf("%-40s %6lld of %d parameters, |W - W'| / |W| = %.4f, y[0] = %.4f\n",
                   strut_matrix_spec(m), (long long)strut_matrix_parameters(m), OUTPUTS * INPUTS,
                   off, (double)y[0]);
        }
        strut_matrix_close(m);
        if (failed) return 1;
    }
    return 0;
}
