/* The detokeniser and Python's white space, on any bytes. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char *prose = NULL;
    size_t n = 0;
    if (st_detokenize(text, size, &prose, &n, NULL)) return 0;
    /* No rule makes the text longer by more than "/' 1/" -> "/'[0-9]/" and " 1 " for " N ". */
    if (n > 2 * size || prose[n]) abort();
    free(prose);
    int64_t words = st_space_words(text, size), tokens = st_space_tokens(text, size);
    if (words < 1 || words > (int64_t)size + 1 || tokens < 1 || tokens > (int64_t)size + 1) abort();
    for (size_t i = 0; i < size; i++)
        if ((size_t)st_space_at(text + i, text + size) > size - i) abort();
    const char *a = text, *b = text + size;
    st_space_trim(&a, &b);
    if (a < text || b > text + size || a > b) abort();
    if (a < b && st_space_at(a, b)) abort();
    return 0;
}
