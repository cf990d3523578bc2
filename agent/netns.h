/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Network namespaces of other processes: finding one, and doing something in it. */
#pragma once

#include <stdint.h>

/*
 * The network namespace with inode number @inum: the agent's own, that of process @pid_hint (0:
 * none), or that of any process. The main thread of a process counts, and a namespace without
 * processes is not found. Returns a file descriptor for the caller to close, or -ENOENT if there is
 * none among those that may be looked at: those of other processes take CAP_SYS_PTRACE.
 */
int netns_open(uint32_t inum, uint32_t pid_hint);

/*
 * Calls @call with @arg in the network namespace of @ns_fd, and comes back. Returns what it
 * returned, or the errno of entering, which takes CAP_SYS_ADMIN unless it is the namespace that the
 * caller is in. Does not return if there is no way back: all that the agent did next would be done
 * in a namespace where it does not belong.
 */
int netns_enter_and(int ns_fd, int (*call)(void *arg), void *arg);
