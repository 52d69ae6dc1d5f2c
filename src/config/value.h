/* What reading settings shares between its files. Inside config only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_VALUE_H
#define ST_CONFIG_VALUE_H

#include "config/config.h"

/* ---- unknown.c ------------------------------------------------------------------------------- */

bool config_is_section(const char *key);
/* Adds to an error about a word "group/sub=option" which of our groups does what theirs did. */
void config_hint_group(const char *word, st_err *e);
/* ST_EARG for a key that is not in the table, with the one, or the group of `c` (may be NULL), that
 * was meant; `where` is the key's place. */
st_status config_unknown(const char *key, const st_node *v, const char *where, const st_configs *c,
                         st_err *e);

/* ---- value.c --------------------------------------------------------------------------------- */

bool config_is_null(const st_node *v); /* nothing, ~ or null, without quotes */
/* "found X": what stands there, for messages; in `text`. */
const char *config_found(const st_node *v, char *text, size_t n);
/* The value into its row's place; `base`: the struct that the row's offset is in. */
st_status config_value(void *base, const set_row *r, const st_node *v, st_err *e);
void config_null(const set_row *r, char *field);

#endif
