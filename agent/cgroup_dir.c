/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The directories that a cgroup tree knows.
 * Reads from: memory.
 * Writes to: the listener; ends watches in the kernel. */
#include "cgroup_dir.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

static int compare_path(const void *a, const void *b)
{
	const struct cgroup_dir *x = a, *y = b;

	return strcmp(x->node.path, y->node.path);
}

static int compare_wd(const void *a, const void *b)
{
	const struct cgroup_dir *x = a, *y = b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

struct cgroup_dir *cgroup_dirs_find(struct cgroup_dirs *dirs, const char *path)
{
	const struct cgroup_dir key = {.node.path = path};
	struct cgroup_dir **slot = tfind(&key, &dirs->by_path, compare_path);

	return slot ? *slot : NULL;
}

struct cgroup_dir *cgroup_dirs_find_wd(struct cgroup_dirs *dirs, int wd)
{
	const struct cgroup_dir key = {.wd = wd};
	struct cgroup_dir **slot = tfind(&key, &dirs->by_wd, compare_wd);

	return slot ? *slot : NULL;
}

struct cgroup_dir *cgroup_dir_next(struct cgroup_dir *dir, const struct cgroup_dir *top)
{
	if (!LIST_EMPTY(&dir->below))
		return LIST_FIRST(&dir->below);
	while (dir != top && !LIST_NEXT(dir, beside))
		dir = dir->up;
	return dir != top ? LIST_NEXT(dir, beside) : NULL;
}

/* The other order, children first, begins with the deepest below @top. */
static struct cgroup_dir *deepest(struct cgroup_dir *top)
{
	while (!LIST_EMPTY(&top->below))
		top = LIST_FIRST(&top->below);
	return top;
}

static struct cgroup_dir *next_up(struct cgroup_dir *dir, const struct cgroup_dir *top)
{
	if (dir == top)
		return NULL;
	return LIST_NEXT(dir, beside) ? deepest(LIST_NEXT(dir, beside)) : dir->up;
}

/* When the set of watched paths changes, a cgroup may come or go between ones that stay. */
static void report(struct cgroup_dirs *dirs, struct cgroup_dir *dir)
{
	struct cgroup_dir *child;

	dir->reported = true;
	dirs->reported++;
	for (child = LIST_FIRST(&dir->below); child; child = LIST_NEXT(child, beside))
		child->node.parent = &dir->node;
	dirs->listener.added(dirs->listener.user, &dir->node);
}

static void retract(struct cgroup_dirs *dirs, struct cgroup_dir *dir)
{
	struct cgroup_dir *child;

	dir->reported = false;
	dirs->reported--;
	for (child = LIST_FIRST(&dir->below); child; child = LIST_NEXT(child, beside))
		child->node.parent = NULL;
	dirs->listener.removed(dirs->listener.user, &dir->node);
}

int cgroup_dirs_add(struct cgroup_dirs *dirs, struct cgroup_dir *up, const char *path, uint64_t id,
		    enum cgroup_interest interest, struct cgroup_dir **ret)
{
	size_t size = strlen(path) + 1;
	struct cgroup_dir *dir;

	dir = calloc(1, sizeof(*dir) + size);
	if (!dir)
		return -ENOMEM;
	dir->node.id = id;
	dir->node.path = memcpy(dir->path, path, size);
	dir->node.parent = up && up->reported ? &up->node : NULL;
	dir->interest = interest;
	dir->wd = -1;
	dir->up = up;
	LIST_INIT(&dir->below);
	if (!tsearch(dir, &dirs->by_path, compare_path)) {
		free(dir);
		return -ENOMEM;
	}

	if (up)
		LIST_INSERT_HEAD(&up->below, dir, beside);
	else
		dirs->root = dir;
	cgroup_dirs_enqueue(dirs, dir);
	if (interest == CGROUP_INTEREST_ALL)
		report(dirs, dir);
	*ret = dir;
	return 0;
}

static void unqueue(struct cgroup_dirs *dirs, struct cgroup_dir *dir)
{
	if (dir->unread)
		TAILQ_REMOVE(&dirs->unread, dir, queue);
	dir->unread = false;
}

/* Has no children any more. */
static void forget(struct cgroup_dirs *dirs, struct cgroup_dir *dir)
{
	/* Left alone, the kernel keeps watch and inode of a cgroup that is gone. */
	if (dir->wd >= 0)
		inotify_rm_watch(dirs->inotify_fd, dir->wd);
	cgroup_dirs_unbind(dirs, dir);
	unqueue(dirs, dir);
	tdelete(dir, &dirs->by_path, compare_path);
	if (dir->up)
		LIST_REMOVE(dir, beside);
	else
		dirs->root = NULL;
	if (dir->reported)
		retract(dirs, dir);
	free(dir);
}

void cgroup_dirs_remove(struct cgroup_dirs *dirs, struct cgroup_dir *top)
{
	struct cgroup_dir *dir, *next;

	for (dir = deepest(top); dir; dir = next) {
		next = next_up(dir, top);
		forget(dirs, dir);
	}
}

void cgroup_dirs_init(struct cgroup_dirs *dirs, int inotify_fd,
		      const struct cgroup_listener *listener)
{
	*dirs = (struct cgroup_dirs){.inotify_fd = inotify_fd, .listener = *listener};
	TAILQ_INIT(&dirs->unread);
}

void cgroup_dirs_deinit(struct cgroup_dirs *dirs)
{
	struct cgroup_dir *dir;

	for (dir = dirs->root; dir; dir = cgroup_dir_next(dir, dirs->root))
		dir->reported = false;
	if (dirs->root)
		cgroup_dirs_remove(dirs, dirs->root);
}

int cgroup_dirs_bind(struct cgroup_dirs *dirs, struct cgroup_dir *dir, int wd,
		     struct cgroup_dir **ret_other)
{
	struct cgroup_dir **slot;

	dir->wd = wd;
	slot = tsearch(dir, &dirs->by_wd, compare_wd);
	if (slot && *slot == dir)
		return 0;

	dir->wd = -1;
	if (!slot)
		return -ENOMEM;
	*ret_other = *slot;
	return -EEXIST;
}

void cgroup_dirs_unbind(struct cgroup_dirs *dirs, struct cgroup_dir *dir)
{
	if (dir->wd < 0)
		return;
	tdelete(dir, &dirs->by_wd, compare_wd);
	dir->wd = -1;
}

void cgroup_dirs_judge(struct cgroup_dirs *dirs, void *const *wants)
{
	struct cgroup_dir *dir, *next;

	for (dir = dirs->root; dir; dir = cgroup_dir_next(dir, dirs->root)) {
		if (dir->up && dir->up->interest == CGROUP_INTEREST_ALL)
			dir->interest = CGROUP_INTEREST_ALL;
		else
			dir->interest = cgroup_wants_find(wants, dir->path);
	}
	for (dir = dirs->root ? deepest(dirs->root) : NULL; dir; dir = next) {
		next = next_up(dir, dirs->root);
		if (dir->interest == CGROUP_INTEREST_NONE)
			forget(dirs, dir);
		else if (dir->interest == CGROUP_INTEREST_WAY && dir->reported)
			retract(dirs, dir);
	}
	for (dir = dirs->root; dir; dir = cgroup_dir_next(dir, dirs->root))
		if (dir->interest == CGROUP_INTEREST_ALL && !dir->reported)
			report(dirs, dir);
}

void cgroup_dirs_enqueue(struct cgroup_dirs *dirs, struct cgroup_dir *dir)
{
	const struct cgroup_dir *top = dir;

	for (; dir; dir = cgroup_dir_next(dir, top)) {
		if (!dir->unread)
			TAILQ_INSERT_TAIL(&dirs->unread, dir, queue);
		dir->unread = true;
	}
}

struct cgroup_dir *cgroup_dirs_dequeue(struct cgroup_dirs *dirs)
{
	struct cgroup_dir *dir = TAILQ_FIRST(&dirs->unread);

	if (dir)
		unqueue(dirs, dir);
	return dir;
}
