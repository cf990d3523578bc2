/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The cgroup tree in the event loop.
 * Reads from: inotify, /proc/self/mountinfo.
 * Writes to: the listener, through cgroup_scan. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "cgroup_scan.h"
#include "mountinfo.h"
#include "util/cleanup.h"

/* Bounds what is done in one turn of the loop: later events wait for the next. */
#define EVENTS_SIZE (16 * 1024)

struct cgroup_tree {
	uv_poll_t poll; /* of inotify_fd */
	int inotify_fd;
	int root_fd;
	struct cgroup_scan scan;
	uint64_t resyncs;
};

static void on_event(struct cgroup_tree *tree, const struct inotify_event *event)
{
	struct cgroup_dirs *dirs = &tree->scan.dirs;
	struct cgroup_dir *dir;

	if (event->mask & IN_Q_OVERFLOW) {
		tree->resyncs++;
		if (dirs->listener.overflowed)
			dirs->listener.overflowed(dirs->listener.user);
		cgroup_scan_all(&tree->scan);
		return;
	}
	dir = cgroup_dirs_find_wd(dirs, event->wd);
	if (!dir)
		return; /* an event of one that is forgotten */

	if (event->mask & IN_IGNORED) {
		cgroup_dirs_unbind(dirs, dir);
		cgroup_dirs_enqueue(dirs, dir);
	} else if (event->mask & IN_ISDIR && event->len) {
		cgroup_scan_entry(&tree->scan, dir, event->name);
	}
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct cgroup_tree *tree = container_of(poll, struct cgroup_tree, poll);
	char buffer[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
	const struct inotify_event *event;
	ssize_t n, at;

	n = read(tree->inotify_fd, buffer, sizeof(buffer));
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		cgroup_scan_fail(&tree->scan, "/", -errno);

	for (at = 0; at < n; at += (ssize_t)(sizeof(*event) + event->len)) {
		event = (const struct inotify_event *)(buffer + at);
		on_event(tree, event);
	}
	cgroup_scan_queue(&tree->scan);
}

int cgroup_tree_watch(struct cgroup_tree *tree, const char *const *paths, size_t n)
{
	return cgroup_scan_watch(&tree->scan, paths, n);
}

bool cgroup_tree_rescan(struct cgroup_tree *tree)
{
	cgroup_scan_all(&tree->scan);
	return !tree->scan.failed;
}

void cgroup_tree_look(struct cgroup_tree *tree, const char *path)
{
	const char *name = path + 1;
	char part[PATH_MAX];

	if (strlen(path) >= sizeof(part))
		return;
	while (*name) {
		size_t parent = name - path - 1, len = strcspn(name, "/");
		struct cgroup_dir *dir;

		snprintf(part, sizeof(part), "%.*s", parent ? (int)parent : 1, path);
		dir = cgroup_dirs_find(&tree->scan.dirs, part);
		snprintf(part, sizeof(part), "%.*s", (int)len, name);
		/* Other names of a directory that has one. */
		if (!strcmp(part, ".") || !strcmp(part, ".."))
			return;
		if (dir && len)
			cgroup_scan_entry(&tree->scan, dir, part);
		cgroup_scan_queue(&tree->scan);
		name += len + (name[len] == '/');
	}
}

struct cgroup_node *cgroup_tree_find(struct cgroup_tree *tree, const char *path)
{
	struct cgroup_dir *dir = cgroup_dirs_find(&tree->scan.dirs, path);

	return dir && dir->reported ? &dir->node : NULL;
}

void cgroup_tree_each(struct cgroup_tree *tree, void (*visit)(void *user, struct cgroup_node *node),
		      void *user)
{
	struct cgroup_dir *dir;

	for (dir = tree->scan.dirs.root; dir; dir = cgroup_dir_next(dir, tree->scan.dirs.root))
		if (dir->reported)
			visit(user, &dir->node);
}

size_t cgroup_tree_count(const struct cgroup_tree *tree)
{
	return tree->scan.dirs.reported;
}

uint64_t cgroup_tree_resyncs(const struct cgroup_tree *tree)
{
	return tree->resyncs;
}

int cgroup_tree_new(uv_loop_t *loop, const char *root, const struct cgroup_listener *listener,
		    struct cgroup_tree **ret)
{
	_cleanup_free_ struct cgroup_tree *tree = NULL;
	_cleanup_close_ int root_fd = -1, inotify_fd = -1;
	int r;

	tree = calloc(1, sizeof(*tree));
	if (!tree)
		return -ENOMEM;
	root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return -errno;
	inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (inotify_fd < 0)
		return -errno;
	r = uv_poll_init(loop, &tree->poll, inotify_fd);
	if (r < 0)
		return r;

	/* From here on the handle belongs to the loop, and only closing it frees the tree. */
	tree->root_fd = TAKE_FD(root_fd);
	tree->inotify_fd = TAKE_FD(inotify_fd);
	cgroup_scan_init(&tree->scan, tree->root_fd, tree->inotify_fd, listener);
	r = uv_poll_start(&tree->poll, UV_READABLE, on_readable);
	if (r < 0) {
		cgroup_tree_close(TAKE_PTR(tree));
		return r;
	}
	*ret = TAKE_PTR(tree);
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(container_of((uv_poll_t *)handle, struct cgroup_tree, poll));
}

void cgroup_tree_close(struct cgroup_tree *tree)
{
	uv_close((uv_handle_t *)&tree->poll, on_closed);
	cgroup_scan_deinit(&tree->scan);
	close(tree->inotify_fd);
	close(tree->root_fd);
}

int cgroup_find_mount(char **ret)
{
	_cleanup_fclose_ FILE *mountinfo = fopen("/proc/self/mountinfo", "re");

	if (!mountinfo)
		return -errno;
	return mountinfo_find(mountinfo, "cgroup2", ret);
}

/* The kernel writes a cgroup outside of the reader's namespace as one above its root. */
static bool is_outside(const char *path)
{
	return !strncmp(path, "/..", 3) && (!path[3] || path[3] == '/');
}

/* The length of what leads both, in whole parts. */
static size_t common_len(const char *a, const char *b)
{
	size_t len = 0;

	for (size_t i = 0;; i++) {
		if ((!a[i] || a[i] == '/') && (!b[i] || b[i] == '/'))
			len = i;
		if (!a[i] || a[i] != b[i])
			return len;
	}
}

int cgroup_find_below(const char *root, const char *path, char **ret)
{
	_cleanup_fclose_ FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *directory = realpath(root, NULL), *inner = NULL;
	size_t common, levels = 0;
	char *end;
	int r;

	if (!mountinfo || !directory)
		return -errno;
	r = mountinfo_find_inner(mountinfo, "cgroup2", directory, &inner);
	if (r)
		return r;
	if (is_outside(path) || is_outside(inner))
		return -EXDEV;
	common = common_len(inner, path);
	for (const char *up = inner + common; *up; up++)
		levels += *up == '/' && up[1];
	path += common;
	*ret = malloc(strlen("/..") * levels + strlen(path) + sizeof("/"));
	if (!*ret)
		return -ENOMEM;
	end = *ret;
	while (levels--)
		end = stpcpy(end, "/..");
	/* What is left of the root itself is a '/' or nothing. */
	stpcpy(end, path[0] && !path[1] ? "" : path);
	if (!**ret)
		strcpy(*ret, "/");
	return 0;
}

int cgroup_depth(int fd)
{
	_cleanup_close_ int dir = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat here, above;
	int depth = 0;

	if (dir < 0 || fstat(dir, &here))
		return -errno;
	for (;; depth++) {
		int parent = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (parent < 0)
			return -errno;
		close(dir);
		dir = parent;
		if (fstat(dir, &above))
			return -errno;
		/* Out of the mount, or at the root of all. */
		if (above.st_dev != here.st_dev || above.st_ino == here.st_ino)
			return depth;
		here = above;
	}
}
