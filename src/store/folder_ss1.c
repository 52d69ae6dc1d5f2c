/* SS1 matrices as their authors' releases store them: (out, K') and, at best, four hash constants.
 * Tile sizes and constants are attributes of the layer there and not in a state_dict, so that the
 * reader has to be told: "version=3,seed=1024,block_k=32,block_n=32,vec=8", or r0=..,r1=..,... */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION, SEED, BLOCK_K, BLOCK_N, VEC, FACTOR, R0, R1, R2, R3, SS1_KEYS };
static const char *const ss1_key[] = {"version", "seed", "block_k", "block_n", "vec", "factor",
                                      "r0",      "r1",   "r2",      "r3",      NULL};

/* One "key=number" into `value`. */
static st_status ss1_option(char *item, int64_t value[SS1_KEYS], st_err *e)
{
    char *number = strchr(item, '=');
    if (number) *number++ = '\0';
    for (int k = 0; k < SS1_KEYS; k++) {
        if (strcmp(item, ss1_key[k]) != 0) continue;
        if (number && st_parse_int(number, &value[k]) && value[k] >= 0 && value[k] <= UINT32_MAX)
            return ST_OK;
        ST_FAIL(e, ST_EARG, "--ss1: %s is \"%.40s\", expected a whole number from 0 to 2^32 - 1",
                item, number ? number : "");
    }
    const char *near = st_nearest(item, ss1_key);
    ST_FAIL(e, ST_EARG,
            "--ss1: unknown \"%.40s\"%s%s%s; the choice is: version, seed, block_k, block_n, vec, "
            "factor, r0, r1, r2, r3",
            item, near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static st_status ss1_options(const char *text, int64_t value[SS1_KEYS], st_err *e)
{
    for (int k = 0; k < SS1_KEYS; k++)
        value[k] = -1;
    char *copy = strdup(text ? text : "");
    if (!copy) return ST_NOMEM(e, NULL);
    st_status s = ST_OK;
    for (char *save = NULL, *item = strtok_r(copy, ",", &save); item && !s;
         item = strtok_r(NULL, ",", &save))
        s = ss1_option(item, value, e);
    free(copy);
    ST_TRY(s);
    if (value[VERSION] < 0) value[VERSION] = 3;
    if (value[VERSION] < 1 || value[VERSION] > 3) {
        ST_FAIL(e, ST_EARG,
                "--ss1: version is %lld, expected 1 (May 2024), 2 (to 29 October 2024) "
                "or 3",
                (long long)value[VERSION]);
    }
    if (value[SEED] < 0) value[SEED] = 1024;
    if (value[BLOCK_K] < 0) value[BLOCK_K] = 32;
    if (value[BLOCK_N] < 0) value[BLOCK_N] = value[VERSION] == 1 ? 64 : 32;
    if (value[VEC] < 0) value[VEC] = 8;
    int given = 0;
    for (int k = R0; k <= R3; k++)
        given += value[k] >= 0;
    if (given != 0 && given != 4) ST_FAIL(e, ST_EARG, "--ss1: give all of r0, r1, r2, r3, or none");
    if (value[BLOCK_K] < 1 || value[BLOCK_N] < 1 || value[VEC] < 1 ||
        value[BLOCK_K] % value[VEC] != 0) {
        ST_FAIL(e, ST_EARG, "--ss1: vec=%lld must divide block_k=%lld, all from 1 on",
                (long long)value[VEC], (long long)value[BLOCK_K]);
    }
    return ST_OK;
}

/* [R0, R1, R2, R3] as stored beside a matrix, into `value`. */
static st_status ss1_stored(const st_folder *f, const st_stored *t, int64_t value[SS1_KEYS])
{
    int32_t r[4];
    if (t->ndim != 1 || t->dim[0] != 4) {
        ST_FAIL(f->e, ST_ESHAPE, "%s: tensor %.100s is not 4 hash constants", f->file, t->name);
    }
    ST_TRY(st_stored_read(t, st_view1(r, ST_I32, 4), f->e));
    for (int j = 0; j < 4; j++) {
        if (r[j] < 0) {
            ST_FAIL(f->e, ST_EFORMAT, "%s: tensor %.100s: constant %d is %d, expected 0 or more",
                    f->file, t->name, j, (int)r[j]);
        }
        value[R0 + j] = r[j];
    }
    return ST_OK;
}

/* Columns that the release keeps of `in` inputs. */
static int64_t ss1_width(int64_t in, int64_t factor, int64_t block)
{
    return (in / factor + block - 1) / block * block;
}

/* The factor, a power of two, that K' columns mean. */
static st_status ss1_factor(const st_folder *f, const st_stored *t, int64_t in,
                            int64_t value[SS1_KEYS])
{
    int64_t width = t->dim[1], block = value[BLOCK_K], found = 0, others = 0;
    if (value[FACTOR] > 0) return ST_OK;
    for (int64_t c = 2; c <= in; c *= 2) {
        if (ss1_width(in, c, block) != width) continue;
        others += found != 0;
        if (!found) found = c;
    }
    if (found && !others) {
        value[FACTOR] = found;
        return ST_OK;
    }
    ST_FAIL(f->e, ST_ESHAPE,
            "%s: tensor %.100s has %lld columns for %lld inputs, which is %s in blocks of %lld; "
            "--ss1 block_k=,factor= say what it is, if it is an SS1 matrix",
            f->file, t->name, (long long)width, (long long)in,
            found ? "more than one factor" : "no factor that is a power of two", (long long)block);
}

st_status st_folder_ss1(st_folder *f, st_folder_row *w, const st_folder_row *numbers,
                        const char *matrix, int64_t in, char spec[ST_SPEC_TEXT])
{
    const st_stored *t = w->stored;
    const char *asked = f->how ? f->how->ss1 : NULL;
    int64_t v[SS1_KEYS];
    ST_TRY(ss1_options(asked, v, f->e));
    if (numbers) ST_TRY(ss1_stored(f, numbers->stored, v));
    ST_TRY(ss1_factor(f, t, in, v));
    if (v[R0] < 0) st_ss1_constants((uint64_t)v[SEED], (int)v[VERSION], &v[R0]);
    int64_t whole = v[FACTOR] * v[BLOCK_K], width = (in + whole - 1) / whole * v[BLOCK_K];
    if (width != t->dim[1]) {
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: tensor %.100s has %lld columns, but %lld inputs need %lld with factor=%lld in "
                "blocks of %lld: the release leaves inputs out there",
                f->file, t->name, (long long)t->dim[1], (long long)in, (long long)width,
                (long long)v[FACTOR], (long long)v[BLOCK_K]);
    }
    if (in % whole != 0 && !f->ragged) {
        st_folder_note(f,
                       "%s: %lld inputs are no multiple of %lld: taken as padded with zeros; the "
                       "released kernels drop some of them there, so that they compute otherwise",
                       matrix, (long long)in, (long long)whole);
        f->ragged = true;
    }
    if (!asked && !f->ss1) {
        st_folder_note(f, "a state_dict says neither hash constants nor tiles of its SS1 matrices: "
                          "those of the release of October 2024 are taken, seed 1024; --ss1 "
                          "version=,seed=,block_k=,block_n=,vec=,r0=.. sets others");
    }
    f->ss1 = true;
    snprintf(spec, ST_SPEC_TEXT,
             "ss1:factor=%lld,bk=%lld,bn=%lld,vec=%lld,r0=%lld,r1=%lld,r2=%lld,"
             "r3=%lld,seed=%lld",
             (long long)v[FACTOR], (long long)v[BLOCK_K], (long long)v[BLOCK_N], (long long)v[VEC],
             (long long)v[R0], (long long)v[R1], (long long)v[R2], (long long)v[R3],
             (long long)v[SEED]);
    w->form = ST_ROW_SS1;
    return ST_OK;
}
