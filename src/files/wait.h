/* wait: reading what may be a pipe that keeps silent, waiting where Ctrl-C is seen. Inside files
 * only.
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FILES_WAIT_H
#define ST_FILES_WAIT_H

#include <sys/types.h>

/* open(2) for reading, which does not wait for a named pipe's writer; -1 with errno. */
int st_wait_open(const char *path);
/* read(2) that waits for data (and for a named pipe's first writer); -1 with errno, EINTR only if
 * the user has interrupted. */
ssize_t st_wait_read(int fd, void *data, size_t n);

#endif
