/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What /proc says of a process, and its files. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
	char *cgroup; /* in the cgroup2 hierarchy; the caller frees */
	uint32_t uid; /* real, as the kernel half sees it */
	uint32_t gid;
};

/* 0; -ENOENT: no such process. */
int process_read(pid_t pid, struct process *ret);
/* The inode number of its network namespace. 0 or negative errno. */
int process_netns(pid_t pid, uint32_t *ret);
/* The name of its program, cut to what @ret holds. 0 or negative errno. */
int process_comm(pid_t pid, char *ret, size_t size);
/* A process in the cgroup, or 0 if there is none. */
pid_t process_first_in_cgroup(const char *cgroup_root, const char *path);
/* Calls @visit for every process in the cgroup itself that is of the caller's PID namespace. */
void process_each_in_cgroup(const char *cgroup_root, const char *path,
			    void (*visit)(void *user, pid_t pid), void *user);

/* What a thread of a process has open as @fd, as a file descriptor for the caller to close soon:
 * while it is open a close() of the process does not end it. @thread: a process's own number is
 * that of its first thread; others are known since Linux 6.9. Negative errno; -ENOENT: there is no
 * such thread, or it has nothing open there. Takes CAP_SYS_PTRACE. */
int process_borrow(pid_t thread, int fd);

/* Is the caller in the host's PID namespace, by whose numbers the kernel half calls processes? */
bool process_in_host_pidns(void);
