/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One round of a benchmark: a client, and a server in a process of its own. What goes wrong ends
 * the process with a message.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

uint64_t round_clock_ns(clockid_t clock);

/* The calling process goes on in @cgroup, a directory, and on @cpu. A socket belongs to the cgroup
 * in which it is made, so this comes before any. */
void round_settle(const char *cgroup, int cpu);

/* Calls @serve in a new process, which ends with it; *@ret_pid, unless it is NULL, is its number.
 * Returns the fd from which what @serve writes to @report is read. */
int round_start_server(void (*serve)(const void *options, int report), const void *options,
		       pid_t *ret_pid);

/* For qsort() of uint64_t. */
int round_compare_times(const void *a, const void *b);

/* "127.0.0.1:80"; false if @text is none. */
bool round_parse_address(const char *text, struct sockaddr_in *ret);
