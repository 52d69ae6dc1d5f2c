/* What lies beside texts where data sets are published, and what is said of all that was left out.
 */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include <string.h>
#include <strings.h>

/* The beginnings of names, whatever their suffix: README.md, LICENSE-MIT; names without one or with
 * that of a text: CHANGELOG.md; and whole names. */
static const char *const beside_first[] = {"readme",  "license", "licence",
                                           "copying", "notice",  "citation"};
static const char *const beside_stem[] = {
    "changelog", "changes",      "authors",  "contributing", "contributors", "code_of_conduct",
    "security",  "dataset_card", "datacard", "data_card",    "model_card",   "datasheet",
    "version",   "dockerfile",   "makefile", "checksum",     "checksums",    "md5sum",
    "md5sums",   "sha1sum",      "sha1sums", "sha256sum",    "sha256sums",   "sha512sums"};
static const char *const beside_whole[] = {"dataset_info.json", "dataset_infos.json",
                                           "dataset_dict.json", "state.json",
                                           "requirements.txt",  "croissant.json"};
static const char *const beside_code[] = {
    ".py",  ".pyc",  ".ipynb", ".sh",   ".bat", ".ps1", ".c",      ".h",     ".cc",   ".cpp",
    ".cu",  ".hpp",  ".java",  ".go",   ".rs",  ".rb",  ".pl",     ".lua",   ".r",    ".jl",
    ".js",  ".ts",   ".css",   ".toml", ".cfg", ".ini", ".log",    ".lock",  ".yaml", ".yml",
    ".md5", ".sha1", ".asc",   ".sig",  ".idx", ".crc", ".sha256", ".sha512"};
/* What is no text whatever is in it, beside what st_unpack_closed knows. */
static const char *const beside_closed[] = {
    ".arrow", ".feather", ".pdf",  ".png",  ".jpg", ".jpeg",   ".gif",  ".webp", ".bmp",
    ".tiff",  ".mp3",     ".wav",  ".flac", ".ogg", ".mp4",    ".webm", ".npy",  ".safetensors",
    ".gguf",  ".pkl",     ".onnx", ".h5",   ".db",  ".sqlite", ".so",   ".o",    ".exe"};

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

st_status docs_closed(st_docs *d, bool found, bool *is, st_err *e)
{
    *is = st_unpack_closed(d->name);
    for (size_t i = 0; i < COUNT(beside_closed); i++)
        *is |= st_name_ends(d->name, beside_closed[i]);
    if (!*is) return ST_OK;
    if (!found) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: files of this kind cannot be read; expected text or JSON lines, plain or in "
                ".gz .xz .zst .bz2 .tar .zip, or parquet",
                d->name);
    }
    beside_count(d, beside_base(d->name));
    return ST_OK;
}

bool docs_binary(st_docs *d, bool found)
{
    enum { LOOK = 8192 };
    size_t n = d->n - d->at < LOOK ? d->n - d->at : LOOK;
    bool text = d->o.wanted || d->wide || st_name_ends(d->name, ".txt");
    if (text || (d->form != DOCS_WHOLE && d->form != DOCS_LINES) || !memchr(d->data + d->at, 0, n))
        return false;
    if (found)
        beside_count(d, beside_base(d->name));
    else
        st_log(ST_LOG_WARN, "%s: has zero bytes, as no text has; it is read as it is", d->name);
    return found;
}

bool docs_beside(st_docs *d, const char *name)
{
    const char *base = beside_base(name);
    bool is = false;
    for (size_t i = 0; i < COUNT(beside_first); i++) {
        size_t n = strlen(beside_first[i]);
        is |= strncasecmp(base, beside_first[i], n) == 0 && (!base[n] || strchr(".-_", base[n]));
    }
    for (size_t i = 0; i < COUNT(beside_stem); i++) {
        size_t n = strlen(beside_stem[i]);
        const char *end = strncasecmp(base, beside_stem[i], n) == 0 ? base + n : "?";
        is |= !*end || !strcasecmp(end, ".md") || !strcasecmp(end, ".txt") ||
              !strcasecmp(end, ".rst");
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
                "out of folders and archives; name the files that are texts",
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
