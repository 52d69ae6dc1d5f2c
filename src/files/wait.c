/* Reading what may be a pipe. open(2) and read(2) themselves go on waiting after Ctrl-C: handlers
 * are installed with SA_RESTART, so that no other call has to expect to be interrupted. */
/* SPDX-License-Identifier: MIT */
#include "files/wait.h"
#include "base/base.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum { WAIT_LOOK = 200 /* ms */ };

int st_wait_open(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

ssize_t st_wait_read(int fd, void *data, size_t n)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        while (!st_interrupted() && poll(&p, 1, WAIT_LOOK) <= 0)
            continue;
        if (st_interrupted()) {
            errno = EINTR;
            return -1;
        }
        ssize_t got = read(fd, data, n);
        if (got >= 0 || (errno != EINTR && errno != EAGAIN)) return got;
    }
}
