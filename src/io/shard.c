/* Token shards as nanoGPT reads them: headerless little-endian uint16, mapped. */
/* SPDX-License-Identifier: MIT */
#include "io/io.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARD_BLOCK = 1 << 16, LLMC_MAGIC = 20240520, LLMC_HEADER = 1024 };

/* Does the file begin as llm.c's shards do (256 int32: magic, version, tokens, zeros)? */
static bool shard_is_llmc(const void *map, size_t bytes)
{
    int32_t head[3];
    if (bytes < LLMC_HEADER) return false;
    memcpy(head, map, sizeof head);
    return head[0] == LLMC_MAGIC && LLMC_HEADER + 2 * (int64_t)head[2] == (int64_t)bytes;
}

st_status st_shard_open(st_shard *out, const char *path, st_err *e)
{
    *out = (st_shard){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    struct stat st;
    st_status s = ST_OK;
    void *map = MAP_FAILED;
    size_t bytes = 0;
    if (fstat(fd, &st)) {
        s = st_fail(e, ST_EIO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        s = st_fail(e, ST_EARG, __FILE__, __LINE__, "%s: not a plain file, expected token shards",
                    path);
    } else if (st.st_size == 0 || st.st_size % 2) {
        s = st_fail(e, ST_EFORMAT, __FILE__, __LINE__,
                    "%s: %lld bytes, expected two for each token and at least one token; write it "
                    "anew with strut prepare",
                    path, (long long)st.st_size);
    } else {
        bytes = (size_t)st.st_size;
        map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            s = st_fail(e, ST_EIO, __FILE__, __LINE__, "%s: cannot be mapped: %s", path,
                        strerror(errno));
        }
    }
    close(fd);
    if (!s && shard_is_llmc(map, bytes)) {
        munmap(map, bytes);
        ST_FAIL(e, ST_EFORMAT,
                "%s: has llm.c's header of 1024 bytes, expected nanoGPT's bare tokens; "
                "take it off with tail -c +1025",
                path);
    }
    if (s) return s;
    *out = (st_shard){.token = map, .n = (int64_t)(bytes / 2), .map = map, .bytes = bytes};
    return ST_OK;
}

void st_shard_close(st_shard *s)
{
    if (s->map) munmap(s->map, s->bytes);
    *s = (st_shard){0};
}

st_status st_shard_check(const st_shard *s, int64_t vocab, const char *path, st_err *e)
{
    for (int64_t i = 0; i < s->n; i += SHARD_BLOCK) {
        int64_t end = s->n - i < SHARD_BLOCK ? s->n : i + SHARD_BLOCK;
        uint16_t most = 0;
        for (int64_t k = i; k < end; k++)
            most = s->token[k] > most ? s->token[k] : most;
        if (most < vocab) continue;
        while (s->token[i] < vocab)
            i++;
        ST_FAIL(e, ST_EFORMAT,
                "%s: token %lld is %d, but the vocabulary has %lld ids; was it prepared "
                "with another tokenizer?",
                path, (long long)i, s->token[i], (long long)vocab);
    }
    return ST_OK;
}
