/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a kind of file system is mounted, from a stream in the format of /proc/self/mountinfo. */
#pragma once

#include <stdio.h>

/*
 * The mount point of the first file system of type @fstype that shows its whole tree, otherwise of
 * the first at all (in a container only a part may be visible). Caller frees. 0, -ENOENT, -ENOMEM,
 * or the errno of reading.
 */
int mountinfo_find(FILE *mountinfo, const char *fstype, char **ret);
/*
 * The path of the directory @path in the tree of the file system of type @fstype that it is in, by
 * its name alone: mount points are compared as they are written. Caller frees. As above.
 */
int mountinfo_find_inner(FILE *mountinfo, const char *fstype, const char *path, char **ret);
