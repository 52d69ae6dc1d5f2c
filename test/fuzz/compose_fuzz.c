/* Any bytes as config files (NUL bytes between them) of which the first has the others in its
 * defaults list, and as words of a command line. */
/* SPDX-License-Identifier: MIT */
#include "config/config.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { PARTS = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char dir[] = "/tmp/compose_fuzz_XXXXXX";
    static const char *const name[] = {"h.yaml", "g/a.yaml", "g/b.yaml"};
    char *part[PARTS] = {0}, path[64];
    const uint8_t *end = data + n;
    st_err e;
    if (strchr(dir, 'X') && strstr(dir, "XXXXXX")) {
        if (!mkdtemp(dir)) abort();
        snprintf(path, sizeof path, "%s/g", dir);
        if (st_make_dirs(path, &e)) abort();
    }
    for (int i = 0; i < PARTS; i++) {
        const uint8_t *cut = data < end ? memchr(data, 0, (size_t)(end - data)) : NULL;
        size_t length = data < end ? (size_t)((cut ? cut : end) - data) : 0;
        part[i] = calloc(1, length + 1);
        if (!part[i]) abort();
        if (length) memcpy(part[i], data, length);
        data = cut ? cut + 1 : end;
        if (i >= 3) continue;
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        FILE *f = fopen(path, "w");
        if (!f || fputs(part[i], f) < 0 || fclose(f)) abort();
    }
    const char *where = dir, *const *word = (const char *const *)(void *)(part + 3);
    st_configs *c;
    st_node *root = NULL;
    json_t *info = NULL;
    st_sweep s;
    if (!st_configs_open(&c, &where, 1, false, &e)) {
        st_compose_how how = {.name = "h", .override = word, .n = PARTS - 3};
        while (how.n && !*word[how.n - 1])
            how.n--;
        how.open = n & 1;
        if (!st_compose(&root, &info, c, &how, &e)) {
            free(st_node_yaml(root));
            json_decref(st_node_json(root));
            json_decref(info);
            st_node_free(root);
        }
        st_configs_close(c);
        if (!st_sweep_open(&s, word, how.n, &e)) st_sweep_close(&s);
    }
    for (int i = 0; i < PARTS; i++)
        free(part[i]);
    return 0;
}
