/* A judge of what a power cut would leave. disk.c takes the place of fsync, of renaming and of
 * removing in the program that it is linked to (or loaded before: LD_PRELOAD), does what was asked,
 * and notes what came in the wrong order:
 *   - a file or folder that gets a visible name with bytes or entries not synced since they
 * changed;
 *   - something removed while the folder of an earlier rename is not synced;
 *   - such a folder that is not synced when disk_broken asks or the program ends.
 * A loaded judge appends its notes to the file $ST_DISK_LOG when the program ends, "early PATH",
 * "removed PATH" and "unsynced FOLDER", and "renames N" in the end; absolute paths that do not
 * begin with $ST_DISK_UNDER, if that is set, are not its business. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_DISK_H
#define ST_TEST_DISK_H

/* What was done in the wrong order since the last call, a line each; "" if nothing was. */
const char *disk_broken(void);
/* Visible names given since the program began. */
int disk_renames(void);

#endif
