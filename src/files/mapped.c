/* Files in memory, and which of them an address is of: who reads one that was cut meanwhile gets
 * SIGBUS, and the program's handler can say which file it was. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAPPED_NAME = 240 };

/* Rows are never freed, a handler may walk them at any time; those of no bytes are free. */
typedef struct mapped {
    struct mapped *next;
    _Atomic size_t bytes;
    const char *at;
    char name[MAPPED_NAME];
} mapped;

static _Atomic(mapped *) mapped_list;
static pthread_mutex_t mapped_lock = PTHREAD_MUTEX_INITIALIZER;

static bool mapped_add(const void *at, size_t bytes, const char *path)
{
    pthread_mutex_lock(&mapped_lock);
    mapped *m = mapped_list;
    while (m && m->bytes)
        m = m->next;
    bool fresh = !m;
    if (fresh) m = st_calloc(1, sizeof *m);
    if (m) {
        size_t n = strlen(path), cut = n < MAPPED_NAME ? 0 : n - MAPPED_NAME + 1;
        memcpy(m->name, path + cut, n - cut + 1);
        for (char *p = m->name; *p; p++)
            if ((unsigned char)*p < 0x20) *p = '?';
        m->at = at;
        m->bytes = bytes;
        if (fresh) {
            m->next = mapped_list;
            mapped_list = m;
        }
    }
    pthread_mutex_unlock(&mapped_lock);
    return m;
}

static mapped *mapped_find(const void *address)
{
    for (mapped *m = mapped_list; m; m = m->next) {
        size_t n = m->bytes;
        if (n && (const char *)address >= m->at && (const char *)address < m->at + n) return m;
    }
    return NULL;
}

const char *st_mapped_name(const void *address)
{
    const mapped *m = mapped_find(address);
    return m ? m->name : NULL;
}

st_status st_mapped_open(void **out, int fd, size_t bytes, const char *path, st_err *e)
{
    *out = NULL;
    void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) ST_FAIL(e, ST_EIO, "%s: cannot be mapped: %s", path, strerror(errno));
    if (!mapped_add(at, bytes, path)) {
        munmap(at, bytes);
        return ST_NOMEM(e, path);
    }
    *out = at;
    return ST_OK;
}

void st_mapped_close(void *at, size_t bytes)
{
    if (!at) return;
    pthread_mutex_lock(&mapped_lock);
    mapped *m = mapped_find(at);
    if (m) m->bytes = 0;
    pthread_mutex_unlock(&mapped_lock);
    munmap(at, bytes);
}
