/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One round of a benchmark: a client, and a server in a process of its own.
 * Reads from: the clocks.
 * Writes to: cgroup.procs of the cgroups that it is given.
 */
#include "round.h"

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

uint64_t round_clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		err(1, "clock_gettime");
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void round_settle(const char *cgroup, int cpu)
{
	char path[PATH_MAX];
	cpu_set_t cpus;
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1)
		err(1, "%s", path);
	close(fd);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "cpu %d", cpu);
}

/* The server dies with its client, and the client with its server: neither waits for ever. */
int round_start_server(void (*serve)(const void *options, int report), const void *options,
		       pid_t *ret_pid)
{
	int report[2];
	pid_t parent = getpid(), pid;

	if (pipe(report))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		serve(options, report[1]);
		_exit(0);
	}
	close(report[1]);
	if (ret_pid)
		*ret_pid = pid;
	return report[0];
}

int round_compare_times(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

bool round_parse_address(const char *text, struct sockaddr_in *ret)
{
	char address[INET_ADDRSTRLEN];
	unsigned short port;

	ret->sin_family = AF_INET;
	if (sscanf(text, "%15[^:]:%hu", address, &port) != 2 ||
	    inet_pton(AF_INET, address, &ret->sin_addr) != 1)
		return false;
	ret->sin_port = htons(port);
	return true;
}
