/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Compares what is known of the cgroup tree with what is there. Private to cgroup*.c.
 *
 * A directory is compared by name and inode number, which cgroup2 never gives twice. So to look
 * once more, or late, or for nothing does no harm: events only say where, and when events were lost
 * it is enough to look everywhere.
 *
 * The watch of a cgroup does not hear that this cgroup is removed, only its parent's does. So all
 * ancestors of a watched path that are there are watched too, for the one entry that leads to it.
 */
#pragma once

#include "cgroup_dir.h"

#define CGROUP_ERRNO_LIMIT 256

struct cgroup_scan {
	int root_fd; /* this and the next are borrowed */
	int inotify_fd;
	void *wants; /* cgroup_wants_*() */
	struct cgroup_dirs dirs;
	bool failed;		       /* since the latest look at everything began */
	bool told[CGROUP_ERRNO_LIMIT]; /* failures that the listener knows of */
};

void cgroup_scan_init(struct cgroup_scan *scan, int root_fd, int inotify_fd,
		      const struct cgroup_listener *listener);
void cgroup_scan_deinit(struct cgroup_scan *scan); /* reports nothing */

/* Replaces the set of watched paths, and looks at everything. 0, -EINVAL or -ENOMEM: as before. */
int cgroup_scan_watch(struct cgroup_scan *scan, const char *const *paths, size_t n);
void cgroup_scan_all(struct cgroup_scan *scan);
/* Looks at one entry of @dir, which may then be gone; what is new stands in the queue. */
void cgroup_scan_entry(struct cgroup_scan *scan, struct cgroup_dir *dir, const char *name);
/* Reads the directories in the queue, and those found in them. */
void cgroup_scan_queue(struct cgroup_scan *scan);

/* Tells the listener, but only once of each errno until everything could be read again. */
void cgroup_scan_fail(struct cgroup_scan *scan, const char *path, int error);
