/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The directories that a cgroup tree knows, in memory: found by path and by watch, walked in order,
 * told to the listener. Private to cgroup*.c.
 */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>

#include "cgroup.h"
#include "cgroup_want.h"

struct cgroup_dir {
	struct cgroup_node node;
	enum cgroup_interest interest; /* ALL is inherited from the one above it */
	bool reported;
	bool unread;	       /* stands in the queue */
	int wd;		       /* -1: not watched */
	struct cgroup_dir *up; /* NULL: the root */
	LIST_HEAD(, cgroup_dir) below;
	LIST_ENTRY(cgroup_dir) beside;
	TAILQ_ENTRY(cgroup_dir) queue;
	char path[];
};

struct cgroup_dirs {
	struct cgroup_listener listener;
	int inotify_fd;			 /* borrowed: a watch ends with its directory */
	struct cgroup_dir *root;	 /* or NULL */
	TAILQ_HEAD(, cgroup_dir) unread; /* directories to be read */
	size_t reported;
	void *by_path; /* search trees of tsearch(3) */
	void *by_wd;
};

void cgroup_dirs_init(struct cgroup_dirs *dirs, int inotify_fd,
		      const struct cgroup_listener *listener);
/* Forgets everything without a word to the listener. */
void cgroup_dirs_deinit(struct cgroup_dirs *dirs);

struct cgroup_dir *cgroup_dirs_find(struct cgroup_dirs *dirs, const char *path);
struct cgroup_dir *cgroup_dirs_find_wd(struct cgroup_dirs *dirs, int wd);

/* Makes a directory known, and has it read. @up: NULL for the root. 0 or -ENOMEM. */
int cgroup_dirs_add(struct cgroup_dirs *dirs, struct cgroup_dir *up, const char *path, uint64_t id,
		    enum cgroup_interest interest, struct cgroup_dir **ret);
/* Forgets a directory and all below it, and frees them. */
void cgroup_dirs_remove(struct cgroup_dirs *dirs, struct cgroup_dir *dir);

/* Binds watch @wd to @dir. -EEXIST and *@ret_other: it is the watch of another one; or -ENOMEM. */
int cgroup_dirs_bind(struct cgroup_dirs *dirs, struct cgroup_dir *dir, int wd,
		     struct cgroup_dir **ret_other);
void cgroup_dirs_unbind(struct cgroup_dirs *dirs, struct cgroup_dir *dir);

/* Looks up every directory's interest again, and reports what follows. */
void cgroup_dirs_judge(struct cgroup_dirs *dirs, void *const *wants);

/* Has @dir and all that is known below it read (again). */
void cgroup_dirs_enqueue(struct cgroup_dirs *dirs, struct cgroup_dir *dir);
struct cgroup_dir *cgroup_dirs_dequeue(struct cgroup_dirs *dirs); /* NULL: none left */

/* The one after @dir in a walk of @top and all below it that visits parents first. */
struct cgroup_dir *cgroup_dir_next(struct cgroup_dir *dir, const struct cgroup_dir *top);
