/* README.md of an exported folder: the model card that Hugging Face's Hub shows. */
/* SPDX-License-Identifier: MIT */
#include "convert/inner.h"
#include "files/files.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void card_matrix(FILE *f, const char *name, const json_t *spec)
{
    fprintf(f, "| `%s` | `%s` |\n", name, json_string_value(spec));
}

static void card_code(FILE *f, const st_conversion *c)
{
    const char *name;
    json_t *spec, *maps = json_object_get(json_object_get(c->config, "strut"), "maps");
    fprintf(f, "\n`modeling_strut.py` computes it in transformers:\n\n"
               "```python\n"
               "from transformers import AutoModelForCausalLM\n"
               "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\", "
               "trust_remote_code=True)\n"
               "```\n");
    if (!json_object_size(maps)) return;
    fprintf(f, "\n| structured matrix | spec |\n|---|---|\n");
    json_object_foreach(maps, name, spec) card_matrix(f, name, spec);
}

/* The last part of OUT. */
static void card_name(FILE *f, const char *path)
{
    size_t end = strlen(path), start;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start && path[start - 1] != '/';)
        start--;
    fprintf(f, "# %.*s\n\n", (int)(end - start), path + start);
}

st_status st_convert_card(const st_conversion *c, const char *dir, bool code)
{
    st_lm_shape lm = st_model_lm(c->model);
    char *text = NULL, *path = st_path_join(dir, "README.md");
    size_t n = 0, dense = json_array_size(c->dense);
    FILE *f = path ? open_memstream(&text, &n) : NULL;
    if (!f) {
        free(path);
        return ST_NOMEM(c->e, NULL);
    }
    const char *type = json_string_value(json_object_get(c->config, "model_type"));
    fprintf(f,
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- %s\n"
            "- strut\n---\n\n",
            type);
    card_name(f, c->out);
    fprintf(f,
            "%s with %s, %s, width %lld and a context of %s: %lld parameters in %s, written by "
            "strut %s.\n",
            strcmp(type, "gpt2") ? type : "GPT-2", st_counted(lm.layers, "layers").s,
            st_counted(lm.heads, "heads").s, (long long)lm.width,
            st_counted(lm.context, "tokens").s, (long long)st_model_counts(c->model).parameters,
            st_dtype_name(c->dtype), ST_VERSION);
    if (dense)
        fprintf(f, "\nDense here, but structured where it was made: %s.\n",
                st_counted((int64_t)dense, "matrices").s);
    if (code) card_code(f, c);
    bool whole = !ferror(f);
    whole &= fclose(f) == 0;
    st_status s = whole ? st_write_file(path, text, n, c->e) : ST_NOMEM(c->e, NULL);
    free(text);
    free(path);
    return s;
}
