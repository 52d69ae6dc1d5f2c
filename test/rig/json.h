/* JSON as a test writes it. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_RIG_JSON_H
#define ST_RIG_JSON_H

#include "testing.h"
#include <jansson.h>

static void same_json(const json_t *got, const char *want)
{
    json_error_t error;
    json_t *j = json_loads(want, 0, &error);
    assert_non_null(j);
    char *shown = json_dumps(got, 0);
    if (!json_equal(got, j)) print_message("got %s\nwant %s\n", shown, want);
    assert_true(json_equal(got, j));
    free(shown);
    json_decref(j);
}

#endif
