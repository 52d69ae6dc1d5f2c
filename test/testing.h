/* What every test shares: cmocka with its includes, a scratch folder, test data, small checks. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TESTING_H
#define ST_TESTING_H

#include "base/base.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A new empty folder under $TMPDIR or /tmp, and "FOLDER/NAME" in a static buffer (16 in turn). */
const char *st_test_dir(void);
const char *st_test_path(const char *dir, const char *name);
void st_test_remove(const char *dir); /* with all that is in it */
int st_test_entries(const char *dir); /* number of entries, hidden ones too */

/* $STRUT_DATA/NAME, or ../shared/data/NAME from the project root; NULL, after saying so, if the
 * file is not there: the test then calls skip(). */
const char *st_test_data(const char *name);

/* Writes and reads whole files with plain stdio, so that the library is not tested by itself. */
void st_test_write(const char *path, const void *data, size_t n);
char *st_test_read(const char *path, size_t *n); /* malloc, NUL added; NULL if absent */
void st_test_same(const char *a, const char *b, const char *file, int line);
#define assert_same_files(a, b) st_test_same((a), (b), __FILE__, __LINE__)

/* Status is as expected, showing the message if not; and the message contains a text. */
void st_test_status(st_status got, st_status want, const st_err *e, const char *file, int line);
void st_test_says(const st_err *e, const char *text, const char *file, int line);
#define assert_ok(call, e)       st_test_status((call), ST_OK, (e), __FILE__, __LINE__)
#define assert_st(call, code, e) st_test_status((call), (code), (e), __FILE__, __LINE__)
#define assert_says(e, text)     st_test_says((e), (text), __FILE__, __LINE__)

#endif
