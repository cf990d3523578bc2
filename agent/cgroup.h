/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cgroup2 tree as it is: finds every cgroup below the given roots, and says which come and go.
 *
 * A watch is set on a directory before its entries are read, so a cgroup made in between is found
 * by one or by the other, and reported once. When the kernel's queue overflows the whole tree is
 * read again and compared with what is known: nothing is lost.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct cgroup_tree;

struct cgroup_node {
	uint64_t id;	  /* inode number of its directory, which is what the kernel half sees */
	const char *path; /* below the cgroup root, "/" for itself */
	struct cgroup_node *parent; /* NULL for one whose parent is not watched */
	void *user;		    /* the listener's own */
};

struct cgroup_listener {
	/* A cgroup was found; its parent was reported before. */
	void (*added)(void *user, struct cgroup_node *node);
	/* It is gone; its children were reported before. @node dies when this returns. */
	void (*removed)(void *user, struct cgroup_node *node);
	/* A failure that the operator should know of; watching goes on. @error: negative errno. */
	void (*failed)(void *user, const char *path, int error);
	/* More happened than the kernel kept; what is there now is reported as above. Or NULL. */
	void (*overflowed)(void *user);
	void *user;
};

/*
 * @root is the mount (or a directory in it) that paths are relative to; @watch the paths below it
 * whose subtrees are of interest, whether they exist yet or not, none inside another. Nothing else
 * is walked; of the ancestors of a watched path those that exist are watched for the one entry that
 * leads to it.
 */
int cgroup_tree_new(uv_loop_t *loop, const char *root, const struct cgroup_listener *listener,
		    struct cgroup_tree **ret);
/* Replaces the set of watched paths: reports what is new and what falls out of it; what stays keeps
 * its node. -EINVAL if one is inside another: then the set before stays. */
int cgroup_tree_watch(struct cgroup_tree *tree, const char *const *paths, size_t n);
/* Looks at the tree now, without waiting for an event; reports as above. False: not all of it could
 * be looked at or is watched; what has been reported as failed before is not reported again. */
bool cgroup_tree_rescan(struct cgroup_tree *tree);
/* The same for one path and what leads to it. */
void cgroup_tree_look(struct cgroup_tree *tree, const char *path);
struct cgroup_node *cgroup_tree_find(struct cgroup_tree *tree, const char *path);
/* Calls @visit for every known cgroup, parents first. */
void cgroup_tree_each(struct cgroup_tree *tree, void (*visit)(void *user, struct cgroup_node *node),
		      void *user);
size_t cgroup_tree_count(const struct cgroup_tree *tree);
/* How often the kernel's queue overflowed and everything was read again. */
uint64_t cgroup_tree_resyncs(const struct cgroup_tree *tree);
/* Reports nothing. Its handles are closed in later turns of the loop, and freed then. */
void cgroup_tree_close(struct cgroup_tree *tree);

/* Where the cgroup2 hierarchy is mounted, from /proc/self/mountinfo. Caller frees. 0, -ENOENT. */
int cgroup_find_mount(char **ret);
/*
 * @path, as /proc/PID/cgroup has it, as a path below the directory @root of the hierarchy; what is
 * elsewhere begins with "/..", as it does there. Caller frees. 0; -EXDEV: one of them is outside of
 * our cgroup namespace, and the way between them cannot be told; or another negative errno.
 */
int cgroup_find_below(const char *root, const char *path, char **ret);
/* How many levels below the root of the hierarchy the cgroup is whose directory is @fd; needs its
 * mount to show the hierarchy whole. Or negative errno. */
int cgroup_depth(int fd);
