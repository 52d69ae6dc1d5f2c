/* What a result may not be written over: what the same run reads, and files of another kind. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "files/temp.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Whether the existing `out` (real: its resolved path) is, holds or lies in what `in` names. */
static bool output_meets(const struct stat *out, const char *real, const char *in)
{
    struct stat st;
    if (!in || stat(in, &st)) return false; /* a name of a set or of the Hub, or nothing */
    if (st.st_dev == out->st_dev && st.st_ino == out->st_ino) return true;
    char *other = realpath(in, NULL);
    bool meets = other && (st_temp_within(other, real) || st_temp_within(real, other));
    free(other);
    return meets;
}

st_status st_output_apart(const char *out, const char *const *reads, int n, st_err *e)
{
    struct stat st;
    if (stat(out, &st)) return ST_OK; /* nothing is there that could be lost */
    char *real = realpath(out, NULL);
    if (!real) return ST_NOMEM(e, out);
    const char *met = NULL;
    for (int i = 0; i < n && !met; i++)
        if (output_meets(&st, real, reads[i])) met = reads[i];
    free(real);
    if (!met) return ST_OK;
    if (strcmp(met, out) == 0)
        ST_FAIL(e, ST_EARG, "%s: is read here, so it is not written over; choose another name",
                out);
    ST_FAIL(e, ST_EARG,
            "%s: is part of what is read here (%s), or holds it, so it is not written over; choose "
            "another name",
            out, met);
}

st_status st_output_file(const char *out, bool replace, const char *kind,
                         bool (*ours)(const char *path), st_err *e)
{
    struct stat st;
    if (stat(out, &st)) return ST_OK;
    if (S_ISDIR(st.st_mode))
        ST_FAIL(e, ST_EARG, "%s: is a folder, expected the name of a file for %s", out, kind);
    if (!S_ISREG(st.st_mode))
        ST_FAIL(e, ST_EARG, "%s: is no plain file, expected a new name for %s", out, kind);
    if (!replace) ST_FAIL(e, ST_EARG, "%s: exists; --force replaces it if it is %s", out, kind);
    if (st.st_size == 0 || ours(out)) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "%s: is there and not %s, so --force does not replace it; choose another name, or "
            "remove it yourself",
            out, kind);
}
