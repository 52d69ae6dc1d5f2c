/* demo: pieces of the comparison that `strut demo` runs. Inner header of job. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DEMO_H
#define ST_DEMO_H

#include "job/job.h"

/* ---- text (demo_text.c) ------------------------------------------------------------------------
 */

/* Writes the King James Bible as JSON lines, one chapter a line, {"title", "text"}, verses without
 * their numbers on lines of their own, from the program `bible` (Debian package bible-kjv).
 * ST_EUNSUPPORTED if that is not installed. */
st_status st_demo_text(const char *path, st_err *e);
/* The same from what `bible` prints: "Genesis 1", blank lines, "  1 In the beginning ...". Anything
 * else is ST_EFORMAT with the line. */
st_status st_demo_chapters(const char *text, size_t n, FILE *out, int64_t *chapters,
                           int64_t *verses, st_err *e);

#endif
