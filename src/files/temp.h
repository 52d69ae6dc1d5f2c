/* temp: temporary files and folders beside the place they will take, and the removal of those that
 * killed processes left. Inside files only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FILES_TEMP_H
#define ST_FILES_TEMP_H

#include "base/base.h"

/* The path that a write to `path` must replace: without trailing slashes, symbolic links followed
 * to where they lead (a link to nothing is ST_EARG). New memory. */
st_status st_temp_target(char **out, const char *path, st_err *e);
/* The folder that `path` lies in ("." if it names none); new memory, NULL when out of memory. */
char *st_temp_parent(const char *path);
/* Removes what dead writers of `target` left beside it; a folder that one had set aside and not yet
 * replaced is put back. */
void st_temp_sweep(const char *target);
/* Makes an empty hidden file or folder beside `target`, ".NAME.strut-PID-N", locked (flock) through
 * *fd for as long as this process lives. Sweeps
 * first. */
st_status st_temp_make(char **temp, int *fd, const char *target, bool folder, st_err *e);
/* A free name ".NAME.strutold-PID-N" beside `target` for the folder that is being replaced. */
char *st_temp_aside(const char *target);
/* Removes a file or a folder with all that is in it; links are removed, not followed. */
void st_temp_remove(const char *path);
/* Whether `inner` is `outer` or lies in it (both absolute and resolved). */
bool st_temp_within(const char *inner, const char *outer);
/* fsync of a folder, so that a rename in it survives a power cut. */
st_status st_temp_sync_folder(const char *folder, st_err *e);
/* fsync of a folder and of every file below it. */
st_status st_temp_sync_tree(const char *folder, st_err *e);

#endif
