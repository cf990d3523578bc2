/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What /proc says of a process, and its files.
 * Reads from: /proc/PID/cgroup, /proc/PID/status, /proc/PID/comm, cgroup.procs, open files.
 * Writes to: nothing.
 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* <linux/pidfd.h> of newer kernels */
#endif

static FILE *process_open(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return fopen(path, "re");
}

static int process_read_cgroup(pid_t pid, char **ret)
{
	_cleanup_fclose_ FILE *file = process_open(pid, "cgroup");
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t len;

	if (!file)
		return -errno;
	while ((len = getline(&line, &size, file)) > 0) {
		if (strncmp(line, "0::/", 4))
			continue;
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		*ret = strdup(line + 3);
		return *ret ? 0 : -ENOMEM;
	}
	return -ENODATA;
}

static int process_read_owner(pid_t pid, uint32_t *ret_uid, uint32_t *ret_gid)
{
	_cleanup_fclose_ FILE *file = process_open(pid, "status");
	unsigned int uid, gid;
	char line[256];
	int found = 0;

	if (!file)
		return -errno;
	while (found < 2 && fgets(line, sizeof(line), file)) {
		found += sscanf(line, "Uid: %u", &uid) == 1;
		found += sscanf(line, "Gid: %u", &gid) == 1;
	}
	if (found < 2)
		return -ENODATA;
	*ret_uid = uid;
	*ret_gid = gid;
	return 0;
}

int process_read(pid_t pid, struct process *ret)
{
	struct process process = {};
	int r;

	r = process_read_owner(pid, &process.uid, &process.gid);
	r = r ?: process_read_cgroup(pid, &process.cgroup);
	if (!r)
		*ret = process;
	return r;
}

int process_netns(pid_t pid, uint32_t *ret)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	if (stat(path, &st))
		return -errno;
	*ret = st.st_ino;
	return 0;
}

int process_comm(pid_t pid, char *ret, size_t size)
{
	_cleanup_fclose_ FILE *file = process_open(pid, "comm");

	if (!file || !fgets(ret, size, file))
		return -ESRCH;
	ret[strcspn(ret, "\n")] = '\0';
	return 0;
}

static FILE *process_open_cgroup(const char *cgroup_root, const char *path)
{
	_cleanup_free_ char *file_path = NULL;

	if (asprintf(&file_path, "%s%s/cgroup.procs", cgroup_root, path) < 0) {
		file_path = NULL;
		return NULL;
	}
	return fopen(file_path, "re");
}

pid_t process_first_in_cgroup(const char *cgroup_root, const char *path)
{
	_cleanup_fclose_ FILE *file = process_open_cgroup(cgroup_root, path);
	int pid;

	return file && fscanf(file, "%d", &pid) == 1 ? pid : 0;
}

void process_each_in_cgroup(const char *cgroup_root, const char *path,
			    void (*visit)(void *user, pid_t pid), void *user)
{
	_cleanup_fclose_ FILE *file = process_open_cgroup(cgroup_root, path);
	int pid;

	while (file && fscanf(file, "%d", &pid) == 1)
		if (pid > 0)
			visit(user, pid);
}

static int process_open_thread(pid_t thread)
{
	int fd = syscall(SYS_pidfd_open, thread, PIDFD_THREAD);

	/* A kernel that does not know the flag. */
	return fd < 0 && errno == EINVAL ? (int)syscall(SYS_pidfd_open, thread, 0) : fd;
}

int process_borrow(pid_t thread, int fd)
{
	_cleanup_close_ int lender = process_open_thread(thread);
	int borrowed = lender < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, lender, fd, 0);

	if (borrowed >= 0)
		return borrowed;
	return errno == ESRCH || errno == EBADF || errno == EINVAL ? -ENOENT : -errno;
}

bool process_in_host_pidns(void)
{
	/* PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h: the same on every host. */
	static const ino_t host = 0xeffffffc;
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == host;
}
