/* Helpers of the tests. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include <dirent.h>
#include <ftw.h>
#include <unistd.h>

const char *st_test_dir(void)
{
    static char dir[4][512];
    static int turn;
    char *d = dir[turn++ % 4];
    const char *base = getenv("TMPDIR");
    snprintf(d, sizeof dir[0], "%s/strut-test-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(d));
    return d;
}

const char *st_test_path(const char *dir, const char *name)
{
    static char path[16][1024];
    static int turn;
    char *p = path[turn++ % 16];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int testing_remove(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void st_test_remove(const char *dir)
{
    nftw(dir, testing_remove, 16, FTW_DEPTH | FTW_PHYS);
}

int st_test_entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) return -1;
    for (struct dirent *x; (x = readdir(d));)
        n += strcmp(x->d_name, ".") && strcmp(x->d_name, "..");
    closedir(d);
    return n;
}

const char *st_test_data(const char *name)
{
    const char *base = getenv("STRUT_DATA");
    const char *path = st_test_path(base && *base ? base : "../shared/data", name);
    if (access(path, R_OK) == 0) return path;
    print_message("no test data %s: set STRUT_DATA to the folder that has it\n", path);
    return NULL;
}

void st_test_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

char *st_test_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, size, f), size);
    text[size] = '\0';
    fclose(f);
    if (n) *n = size;
    return text;
}

void st_test_same(const char *a, const char *b, const char *file, int line)
{
    size_t n = 0, m = 0, at = 0;
    char *x = st_test_read(a, &n), *y = st_test_read(b, &m);
    while (x && y && at < n && at < m && x[at] == y[at])
        at++;
    bool same = x && y && n == m && at == n;
    if (!x || !y)
        print_error("%s is missing\n", x ? b : a);
    else if (!same)
        print_error("%s (%zu bytes) and %s (%zu) differ from byte %zu on\n", a, n, b, m, at);
    free(x);
    free(y);
    if (!same) _fail(file, line);
}

void st_test_status(st_status got, st_status want, const st_err *e, const char *file, int line)
{
    if (got == want) return;
    print_error("status %d, expected %d: %s\n", got, want, got && e ? e->msg : "");
    _fail(file, line);
}

void st_test_says(const st_err *e, const char *text, const char *file, int line)
{
    if (strstr(e->msg, text)) return;
    print_error("the message \"%s\" does not say \"%s\"\n", e->msg, text);
    _fail(file, line);
}
