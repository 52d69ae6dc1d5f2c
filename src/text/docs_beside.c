/* What lies beside texts where data sets are published, and what is said of all that was left out.
 */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include <string.h>
#include <strings.h>

/* The beginnings of names, whatever their suffix: README.md, LICENSE-MIT, and whole names. */
static const char *const beside_first[] = {"readme",  "license", "licence",
                                           "copying", "notice",  "citation"};
static const char *const beside_whole[] = {"dataset_info.json", "dataset_infos.json",
                                           "dataset_dict.json", "state.json",
                                           "requirements.txt",  "makefile"};
static const char *const beside_code[] = {".py",   ".pyc", ".ipynb", ".sh",   ".bat",
                                          ".toml", ".cfg", ".lock",  ".yaml", ".yml"};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char *beside_base(const char *name)
{
    const char *base = strrchr(name, '/'), *inner = strstr(name, ": ");
    return base ? base + 1 : inner ? inner + 2 : name;
}

static void beside_count(st_docs *d, const char *base)
{
    size_t n = strlen(d->names);
    if (!strstr(d->names, base) && n + strlen(base) + 3 < sizeof d->names)
        snprintf(d->names + n, sizeof d->names - n, "%s%s", n ? ", " : "", base);
    d->beside++;
}

bool docs_binary(st_docs *d)
{
    enum { LOOK = 8192 };
    size_t n = d->n - d->at < LOOK ? d->n - d->at : LOOK;
    bool text = d->o.wanted || d->wide || st_name_ends(d->name, ".txt");
    if (text || (d->form != DOCS_WHOLE && d->form != DOCS_LINES) || !memchr(d->data + d->at, 0, n))
        return false;
    beside_count(d, beside_base(d->name));
    return true;
}

bool docs_beside(st_docs *d, const char *name)
{
    const char *base = beside_base(name);
    bool is = false;
    for (size_t i = 0; i < COUNT(beside_first); i++) {
        size_t n = strlen(beside_first[i]);
        is |= strncasecmp(base, beside_first[i], n) == 0 && (!base[n] || strchr(".-_", base[n]));
    }
    for (size_t i = 0; i < COUNT(beside_whole); i++)
        is |= strcasecmp(base, beside_whole[i]) == 0;
    for (size_t i = 0; i < COUNT(beside_code); i++)
        is |= st_name_ends(base, beside_code[i]);
    if (is) beside_count(d, base);
    return is;
}

st_status docs_remark(const st_docs *d, st_err *e)
{
    if (!d->given && d->bad) ST_FAIL(e, ST_EFORMAT, "%s", d->why);
    if (!d->given && d->beside) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: only cards, licences, code and files that are no text (%s), which are left "
                "out of folders and "
                "archives; name the files that are texts",
                d->path[0], d->names);
    }
    char rows[480] = "", files[240] = "";
    if (d->bad) {
        snprintf(rows, sizeof rows, "%lld row%s without a text (the first: %s)", (long long)d->bad,
                 d->bad == 1 ? "" : "s", d->why);
    }
    if (d->beside) {
        snprintf(files, sizeof files, "%s%lld file%s beside the texts (%s): name them to have them",
                 d->bad ? "; " : "", (long long)d->beside, d->beside == 1 ? "" : "s", d->names);
    }
    if (d->bad || d->beside) st_log(ST_LOG_WARN, "left out: %s%s", rows, files);
    return ST_OK;
}
