/* Real English for the demo: the King James Bible (1769), which Debian's bible-kjv prints. */
/* SPDX-License-Identifier: MIT */
#include "demo/inner.h"
#include "files/files.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXT_MOST = 64 << 20 };

/* All of fd, at most TEXT_MOST bytes, into new memory. */
static st_status text_drain(int fd, char **out, size_t *n, st_err *e)
{
    size_t cap = 1 << 20, used = 0;
    char *text = malloc(cap);
    while (text) {
        ssize_t got = read(fd, text + used, cap - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 || used + (size_t)got > TEXT_MOST) {
            free(text);
            ST_FAIL(e, ST_EIO, "bible: its output could not be read: %s",
                    got < 0 ? strerror(errno) : "more than 64 MiB, expected about 4");
        }
        if (got == 0) break;
        used += (size_t)got;
        if (used < cap) continue;
        char *more = realloc(text, cap * 2);
        if (!more) free(text);
        text = more;
        cap *= 2;
    }
    if (!text) ST_FAIL(e, ST_ENOMEM, "bible: no memory for its output");
    *out = text;
    *n = used;
    return ST_OK;
}

/* Runs `bible` without a shell and collects what it prints. */
static st_status text_run(char **out, size_t *n, st_err *e)
{
    char name[] = "bible", wide[] = "-l100000", all[] = "gen1:1-rev22:21";
    char *argv[] = {name, wide, all, NULL};
    int pipes[2], code = 0;
    pid_t pid;
    posix_spawn_file_actions_t files;
    if (pipe2(pipes, O_CLOEXEC)) ST_FAIL(e, ST_EIO, "bible: no pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, pipes[1], 1);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    int failed = posix_spawnp(&pid, "bible", &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    close(pipes[1]);
    if (failed) {
        close(pipes[0]);
        ST_FAIL(e, ST_EUNSUPPORTED,
                "bible: cannot be run (%s); install Debian's package bible-kjv or give --text FILE",
                strerror(failed));
    }
    st_status s = text_drain(pipes[0], out, n, e);
    close(pipes[0]);
    while (waitpid(pid, &code, 0) < 0 && errno == EINTR)
        continue;
    if (!s && (!WIFEXITED(code) || WEXITSTATUS(code))) {
        free(*out);
        *out = NULL;
        ST_FAIL(e, ST_EIO, "bible: ended with status %d, expected 0; try: bible %s %s", code, wide,
                all);
    }
    return s;
}

/* One chapter as a JSON line; empties `text`. */
static bool text_flush(FILE *out, const char *title, json_t *verses)
{
    size_t i, n = 0;
    const json_t *v;
    char *text = NULL;
    FILE *f = open_memstream(&text, &n);
    if (!f) return false;
    json_array_foreach(verses, i, v) fprintf(f, "%s%s", i ? "\n" : "", json_string_value(v));
    bool good = fclose(f) == 0;
    json_t *line = json_pack("{s:s, s:s}", "title", title, "text", text);
    good = good && line && json_dumpf(line, out, JSON_ENSURE_ASCII) == 0 && putc('\n', out) != EOF;
    json_decref(line);
    free(text);
    return json_array_clear(verses) == 0 && good;
}

/* "  12 Text" -> its text; NULL if the line is no verse. */
static char *text_verse(char *line)
{
    char *s = line;
    while (*s == ' ')
        s++;
    size_t digits = strspn(s, "0123456789");
    if (s == line || digits < 1 || digits > 3 || s[digits] != ' ' || !s[digits + 1]) return NULL;
    return s + digits + 1;
}

/* "Song of Solomon 3": letters and blanks, then a number. */
static bool text_heading(const char *line)
{
    const char *last = strrchr(line, ' ');
    if (!last || last == line || strlen(line) > 60 || !isalnum((unsigned char)line[0]))
        return false;
    size_t digits = strspn(last + 1, "0123456789");
    return digits > 0 && last[1 + digits] == 0;
}

st_status st_demo_chapters(const char *text, size_t n, FILE *out, int64_t *chapters,
                           int64_t *verses, st_err *e)
{
    char title[64] = "", *line = NULL;
    json_t *list = json_array();
    bool good = list != NULL;
    *chapters = *verses = 0;
    for (int64_t number = 1; n > 0 && good; number++) {
        const char *end = memchr(text, '\n', n);
        size_t len = end ? (size_t)(end - text) : n;
        free(line);
        line = strndup(text, len);
        text += len + (end != NULL);
        n -= len + (end != NULL);
        good = line != NULL;
        if (!good || !*line) continue;
        char *verse = text_verse(line);
        if (verse && *title) {
            good = json_array_append_new(list, json_string(verse)) == 0;
            ++*verses;
        } else if (!verse && text_heading(line)) {
            if (json_array_size(list)) good = text_flush(out, title, list);
            snprintf(title, sizeof title, "%s", line);
            ++*chapters;
        } else {
            ST_ERR(e, ST_EFORMAT,
                   "bible: line %lld is \"%.40s\", expected a chapter (\"Genesis 1\") or, after "
                   "one, a numbered verse",
                   (long long)number, line);
            free(line);
            json_decref(list);
            return ST_EFORMAT;
        }
    }
    if (good && json_array_size(list)) good = text_flush(out, title, list);
    free(line);
    json_decref(list);
    if (!good)
        ST_FAIL(e, ST_EIO,
                "bible: its chapters could not be written: not UTF-8, or memory or disk full");
    if (!*verses) ST_FAIL(e, ST_EFORMAT, "bible: no verse in its output");
    return ST_OK;
}

st_status st_demo_text(const char *path, st_err *e)
{
    char *text = NULL;
    size_t n = 0;
    int64_t chapters, verses;
    st_outfile file = {0};
    ST_TRY(text_run(&text, &n, e));
    st_status s = st_outfile_open(&file, path, e);
    if (!s) s = st_demo_chapters(text, n, file.f, &chapters, &verses, e);
    if (!s) s = st_outfile_commit(&file, e);
    st_outfile_discard(&file);
    free(text);
    return s;
}
