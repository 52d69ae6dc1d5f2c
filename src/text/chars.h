/* text inside: characters in UTF-8 and what they are in Unicode 15 (utf8proc). Inside text only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_CHARS_H
#define ST_TEXT_CHARS_H

#include "base/base.h"

/* The character at s[i], i < n: its bytes, 0 if they are no UTF-8. */
size_t st_char_at(const char *s, size_t n, size_t i, uint32_t *code);
/* UTF-8 of a character; its length, at most 4. */
size_t st_char_put(uint32_t code, char *out);

bool st_char_space(uint32_t c);  /* White_Space */
bool st_char_number(uint32_t c); /* N: Nd, Nl, No */
bool st_char_punct(uint32_t c);  /* P, and what ASCII calls punctuation */
bool st_char_mark(uint32_t c);   /* Mn */
int st_char_order(uint32_t c);   /* its canonical combining class */

#endif
