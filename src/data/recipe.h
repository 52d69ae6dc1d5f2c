/* recipe: the inside of the named data sets of strut prepare. Inside data only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DATA_RECIPE_H
#define ST_DATA_RECIPE_H

#include "data/data.h"
#include "data/prepare.h"

typedef st_status st_recipe_fn(const st_recipe *r, const char *const *inputs, int n,
                               const char *out, const st_recipe_opts *o, json_t **result,
                               st_err *e);
st_recipe_fn st_recipe_owt;         /* recipe.c */
st_recipe_fn st_recipe_shakespeare; /* recipe_text.c; of characters if the recipe says so */
st_recipe_fn st_recipe_sets;        /* recipe_sets.c: wikitext and lambada */

/* recipe_pickle.c: nanoGPT's meta.pkl, the bytes that Python's pickle.dump makes of
 * {"vocab_size": n, "itos": {id: character}, "stoi": {character: id}}. */
st_status st_pickle_chars(const st_bpe *b, const char *path, st_err *e);

#endif
