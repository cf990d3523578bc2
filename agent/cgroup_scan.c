/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Compares what is known of the cgroup tree with what is there.
 * Reads from: the directories below the cgroup root.
 * Writes to: the known directories, and so to the listener; sets inotify watches. */
#include "cgroup_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "util/cleanup.h"

#define EVENTS (IN_CREATE | IN_DELETE | IN_MOVE | IN_ONLYDIR)

/* A directory that loses children while it is read is read again, but not for ever. */
#define READINGS_MAX 3

CLEANUP_DEFINE(DIR *, closedir)

/* Where there are no watches left, or no file descriptors, thousands fail: one of them is told. */
void cgroup_scan_fail(struct cgroup_scan *scan, const char *path, int error)
{
	bool *told = &scan->told[-error < CGROUP_ERRNO_LIMIT ? -error : 0];

	scan->failed = true;
	if (*told)
		return;
	*told = true;
	scan->dirs.listener.failed(scan->dirs.listener.user, path, error);
}

static const char *below_root(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static bool is_gone(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ENODEV;
}

/* Inode number of the directory at @path; 0 if there is none. */
static int stat_dir(struct cgroup_scan *scan, const char *path, uint64_t *ret_id)
{
	struct stat st;

	if (fstatat(scan->root_fd, below_root(path), &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (!is_gone(-errno))
			return -errno;
		*ret_id = 0;
		return 0;
	}
	*ret_id = S_ISDIR(st.st_mode) ? st.st_ino : 0;
	return 0;
}

static enum cgroup_interest interest_of(struct cgroup_scan *scan, const struct cgroup_dir *dir,
					const char *path)
{
	if (dir && dir->interest == CGROUP_INTEREST_ALL)
		return CGROUP_INTEREST_ALL;
	return cgroup_wants_find(&scan->wants, path);
}

/* The path of an entry of @dir; false if nobody wants to know of it. */
static bool entry_path(struct cgroup_scan *scan, const struct cgroup_dir *dir, const char *name,
		       char path[PATH_MAX])
{
	if (snprintf(path, PATH_MAX, "%s/%s", dir->path[1] ? dir->path : "", name) >= PATH_MAX) {
		cgroup_scan_fail(scan, dir->path, -ENAMETOOLONG);
		return false;
	}
	return interest_of(scan, dir, path) != CGROUP_INTEREST_NONE;
}

/* At @path in directory @up (NULL: the root itself) there is inode @id, or nothing if it is 0. */
static void entry_settle(struct cgroup_scan *scan, struct cgroup_dir *up, const char *path,
			 uint64_t id)
{
	struct cgroup_dir *dir = cgroup_dirs_find(&scan->dirs, path);
	int r;

	if (dir && dir->node.id != id) {
		cgroup_dirs_remove(&scan->dirs, dir);
		dir = NULL;
	}
	if (!dir && id) {
		r = cgroup_dirs_add(&scan->dirs, up, path, id, interest_of(scan, up, path), &dir);
		if (r < 0)
			cgroup_scan_fail(scan, path, r);
	}
}

/* @fd, not the path, says which directory: by now another one may have the path. */
static int dir_watch(struct cgroup_scan *scan, struct cgroup_dir *dir, int fd)
{
	struct cgroup_dir *other;
	char link[64];
	int r, wd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	do {
		wd = inotify_add_watch(scan->inotify_fd, link, EVENTS);
		if (wd < 0)
			return -errno;
		r = cgroup_dirs_bind(&scan->dirs, dir, wd, &other);
		/* It was renamed (cgroup v1 can), and is still known under its old name. */
		if (r == -EEXIST)
			cgroup_dirs_remove(&scan->dirs, other);
	} while (r == -EEXIST);
	if (r < 0)
		inotify_rm_watch(scan->inotify_fd, wd);
	return r;
}

static int dir_list(struct cgroup_scan *scan, struct cgroup_dir *dir, DIR *stream, nlink_t *ret_n)
{
	char path[PATH_MAX];
	nlink_t n = 0;

	rewinddir(stream);
	for (;;) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(stream);
		if (!entry)
			break;
		if (entry->d_type != DT_DIR)
			continue;
		n++;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (entry_path(scan, dir, entry->d_name, path))
			entry_settle(scan, dir, path, entry->d_ino);
	}
	*ret_n = n;
	return -errno;
}

/*
 * Kernels before 6.15 may leave out a child when a file beside it is removed at that moment, as is
 * done when a controller is switched off. The number of links says how many there should be.
 */
static int dir_list_all(struct cgroup_scan *scan, struct cgroup_dir *dir, DIR *stream)
{
	int i, r = 0;

	for (i = 0; i < READINGS_MAX; i++) {
		struct stat st;
		nlink_t n;

		if (fstat(dirfd(stream), &st) < 0)
			return -errno;
		r = dir_list(scan, dir, stream, &n);
		if (r < 0 || n >= st.st_nlink)
			break;
	}
	return r;
}

/* Watches @dir, then adds what is in it. A child that is gone is noticed when it is read itself. */
static int dir_read(struct cgroup_scan *scan, struct cgroup_dir *dir)
{
	_cleanup_(cleanup_closedir) DIR *stream = NULL;
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	fd = openat(scan->root_fd, below_root(dir->path),
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_ino != dir->node.id)
		return -ENOENT;

	if (dir->wd < 0) {
		r = dir_watch(scan, dir, fd);
		if (r < 0)
			cgroup_scan_fail(scan, dir->path, r);
	}

	stream = fdopendir(fd);
	if (!stream)
		return -errno;
	TAKE_FD(fd);
	return dir_list_all(scan, dir, stream);
}

void cgroup_scan_queue(struct cgroup_scan *scan)
{
	struct cgroup_dir *dir;
	int r;

	while ((dir = cgroup_dirs_dequeue(&scan->dirs))) {
		r = dir_read(scan, dir);
		if (is_gone(r))
			cgroup_dirs_remove(&scan->dirs, dir);
		else if (r < 0)
			cgroup_scan_fail(scan, dir->path, r);
	}
}

void cgroup_scan_entry(struct cgroup_scan *scan, struct cgroup_dir *dir, const char *name)
{
	char path[PATH_MAX];
	uint64_t id = 0, dir_id = 0;
	int r;

	if (!entry_path(scan, dir, name, path))
		return;
	/* In this order: if @dir still is where it was, then the entry looked at was in it. */
	r = stat_dir(scan, path, &id);
	if (!r)
		r = stat_dir(scan, dir->path, &dir_id);
	if (r < 0)
		cgroup_scan_fail(scan, path, r);
	else if (dir_id != dir->node.id)
		cgroup_dirs_remove(&scan->dirs, dir);
	else
		entry_settle(scan, dir, path, id);
}

void cgroup_scan_all(struct cgroup_scan *scan)
{
	struct stat st;

	scan->failed = false;
	if (fstat(scan->root_fd, &st) < 0)
		cgroup_scan_fail(scan, "/", -errno);
	else if (!scan->dirs.root && interest_of(scan, NULL, "/") != CGROUP_INTEREST_NONE)
		entry_settle(scan, NULL, "/", st.st_ino);

	if (scan->dirs.root)
		cgroup_dirs_enqueue(&scan->dirs, scan->dirs.root);
	cgroup_scan_queue(scan);

	if (!scan->failed)
		memset(scan->told, 0, sizeof(scan->told));
}

int cgroup_scan_watch(struct cgroup_scan *scan, const char *const *paths, size_t n)
{
	void *wants = NULL;
	size_t i;
	int r;

	for (i = 0; i < n; i++) {
		r = cgroup_wants_add(&wants, paths[i]);
		if (r < 0) {
			cgroup_wants_deinit(&wants);
			return r;
		}
	}
	cgroup_wants_deinit(&scan->wants);
	scan->wants = wants;

	/* Whoever watches anew is told anew what still fails. */
	memset(scan->told, 0, sizeof(scan->told));
	cgroup_dirs_judge(&scan->dirs, &scan->wants);
	cgroup_scan_all(scan);
	return 0;
}

void cgroup_scan_init(struct cgroup_scan *scan, int root_fd, int inotify_fd,
		      const struct cgroup_listener *listener)
{
	*scan = (struct cgroup_scan){.root_fd = root_fd, .inotify_fd = inotify_fd};
	cgroup_dirs_init(&scan->dirs, inotify_fd, listener);
}

void cgroup_scan_deinit(struct cgroup_scan *scan)
{
	cgroup_dirs_deinit(&scan->dirs);
	cgroup_wants_deinit(&scan->wants);
}
