/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Network namespaces of other processes.
 * Reads from: /proc/PID/ns/net.
 * Writes to: nothing; for the time of a call, the network namespace of this thread.
 */
#include "netns.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "log.h"
#include "util/cleanup.h"

#define OWN "thread-self" /* in /proc */

CLEANUP_DEFINE(DIR *, closedir)

static int netns_open_of(const char *process)
{
	_cleanup_free_ char *path = NULL;
	int fd;

	if (asprintf(&path, "/proc/%s/ns/net", process) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* -ENOENT: it is in another one. */
static int netns_open_if(const char *process, uint32_t inum)
{
	_cleanup_close_ int fd = netns_open_of(process);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	return st.st_ino == inum ? TAKE_FD(fd) : -ENOENT;
}

int netns_open(uint32_t inum, uint32_t pid_hint)
{
	_cleanup_(cleanup_closedir) DIR *proc = NULL;
	const struct dirent *entry;
	char hint[16];
	int fd;

	fd = netns_open_if(OWN, inum);
	if (fd < 0 && pid_hint) {
		snprintf(hint, sizeof(hint), "%u", pid_hint);
		fd = netns_open_if(hint, inum);
	}
	if (fd >= 0)
		return fd;

	proc = opendir("/proc");
	if (!proc)
		return -errno;
	while ((entry = readdir(proc))) {
		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		fd = netns_open_if(entry->d_name, inum);
		if (fd != -ENOENT && fd != -ESRCH && fd != -EACCES)
			return fd;
	}
	return -ENOENT;
}

static bool netns_is_same(int a, int b)
{
	struct stat st_a, st_b;

	return !fstat(a, &st_a) && !fstat(b, &st_b) && st_a.st_dev == st_b.st_dev &&
	       st_a.st_ino == st_b.st_ino;
}

int netns_enter_and(int ns_fd, int (*call)(void *arg), void *arg)
{
	_cleanup_close_ int own = netns_open_of(OWN);
	int r;

	if (own < 0)
		return own;
	if (netns_is_same(own, ns_fd))
		return call(arg);
	if (setns(ns_fd, CLONE_NEWNET))
		return -errno;
	r = call(arg);
	if (setns(own, CLONE_NEWNET)) {
		log_errno(-errno, "no way back into the agent's own network namespace");
		abort();
	}
	return r;
}
