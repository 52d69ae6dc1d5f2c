/* Numbers in text, the word the user probably meant, and files that are pointers. */
/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 63 };

/* Edit distance with adjacent transpositions (optimal string alignment). */
static int text_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX) return strcmp(a, b) ? WORD_MAX : 0;
    int d[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        d[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            row[j] = best;
        }
    }
    return d[n % 3][m];
}

const char *st_nearest(const char *word, const char *const *list)
{
    const char *best = NULL;
    int least = WORD_MAX;
    for (; *list; list++) {
        int d = text_distance(word, *list);
        if (d < least) {
            least = d;
            best = *list;
        }
    }
    int n = (int)strlen(word), limit = (n + 2) / 3; /* of two letters, another two say nothing */
    if (limit < 2 && n > 3) limit = 2;
    return best && least <= limit ? best : NULL;
}

/* Copies `text` without the underscores between digits; false if it does not fit. */
static bool text_plain(const char *text, char *out, size_t cap)
{
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '_' && p > text && isdigit((unsigned char)p[-1]) && isdigit((unsigned char)p[1]))
            continue;
        if (n + 1 >= cap) return false;
        out[n++] = *p;
    }
    out[n] = '\0';
    return n > 0;
}

bool st_parse_int(const char *text, int64_t *out)
{
    char plain[32], *end;
    if (!text_plain(text, plain, sizeof plain) || strchr(" \t\n\v\f\r", plain[0])) return false;
    errno = 0;
    long long v = strtoll(plain, &end, 10);
    if (errno || *end) return false;
    *out = v;
    return true;
}

bool st_parse_num(const char *text, double *out)
{
    char plain[64], *end;
    if (!text_plain(text, plain, sizeof plain) || strchr(" \t\n\v\f\r", plain[0])) return false;
    errno = 0;
    double v = strtod(plain, &end);
    if (*end || !isfinite(v) || strpbrk(plain, "xXpP")) return false;
    *out = v;
    return true;
}

bool st_buffer_put(st_buffer *b, const char *s, size_t n)
{
    if (!b->s || n > b->cap - b->n) {
        if (n > SIZE_MAX / 4 - b->n) return false;
        size_t cap = b->n + n < 4096 ? 4096 : (b->n + n) * 2;
        char *more = realloc(b->s, cap);
        if (!more) return false;
        b->s = more;
        b->cap = cap;
    }
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    return true;
}

st_count st_counted(int64_t n, const char *many)
{
    st_count out;
    size_t len = strlen(many);
    const char *one = "";
    if (n == 1 && len > 4 && strcmp(many + len - 4, "ices") == 0)
        len -= 4, one = "ix";
    else if (n == 1 && len > 2 && many[len - 1] == 's') /* "s" alone are seconds */
        len--;
    snprintf(out.s, sizeof out.s, "%lld %.*s%s", (long long)n, (int)len, many, one);
    return out;
}

size_t st_text_mark(const char *text, size_t n)
{
    return n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

bool st_lfs_pointer(const void *head, size_t n)
{
    static const char begins[] = "version https://git-lfs.github.com/spec/";
    return n >= sizeof begins - 1 && memcmp(head, begins, sizeof begins - 1) == 0;
}

st_status st_lfs_refuse(const char *path, const void *head, size_t n, st_err *e)
{
    if (!st_lfs_pointer(head, n)) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s: is a Git LFS pointer, not the data: fetch it with git lfs pull",
            path);
}
