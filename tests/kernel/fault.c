/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Preloaded into shuntd: ends it before the nth step that changes something in the kernel or in
 * pin_dir, or has that step fail. A child of it counts steps of its own, and is not ended.
 * Reads from: the file that SHUNT_FAULT names: "kill N" or "fail N"; steps count from when it is
 * there. Without it nothing happens.
 * Writes to: the same: it is gone when that step is.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../preload.h"

static unsigned int fault_steps;
static struct timespec fault_since; /* when the file was written */
static pid_t fault_agent;

__attribute__((constructor)) static void fault_begin(void)
{
	fault_agent = getpid();
}

/* Is this step to fail? */
static bool fault_step(void)
{
	const char *path = getenv("SHUNT_FAULT");
	FILE *file = path ? fopen(path, "re") : NULL;
	struct stat about = {};
	unsigned int at = 0;
	char how[8] = "";

	if (!file)
		return false;
	if (fscanf(file, "%7s %u", how, &at) != 2 || fstat(fileno(file), &about))
		at = 0;
	fclose(file);
	if (memcmp(&about.st_mtim, &fault_since, sizeof(fault_since)))
		fault_steps = 0;
	fault_since = about.st_mtim;
	if (++fault_steps != at || (!strcmp(how, "kill") && getpid() != fault_agent))
		return false;
	/* That it is gone says that the step is. Who else removes it calls it off. */
	if (remove(path))
		return false;
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	errno = EPERM;
	return true;
}

static bool fault_changes(long number, long command)
{
	if (number != SYS_bpf)
		return false;
	switch (command) {
	case BPF_MAP_CREATE:
	case BPF_MAP_UPDATE_ELEM:
	case BPF_MAP_DELETE_ELEM:
	case BPF_OBJ_PIN:
	case BPF_PROG_ATTACH:
	case BPF_LINK_CREATE:
	case BPF_LINK_UPDATE:
		return true;
	default:
		return false;
	}
}

long syscall(long number, ...)
{
	long a[PRELOAD_ARGUMENTS];

	PRELOAD_TAKE(a, number);
	return fault_changes(number, a[0]) && fault_step() ? -1 : preload_syscall(number, a);
}

/* The control socket, made once everything is in force, and logs are neither. */
static bool fault_counts(const char *path)
{
	return !strstr(path, ".sock") && !strstr(path, ".shuntd-") && !strstr(path, ".log");
}

int unlink(const char *path)
{
	return fault_counts(path) && fault_step() ? -1 : PRELOAD_NEXT(unlink)(path);
}

int unlinkat(int dir, const char *path, int flags)
{
	return fault_counts(path) && fault_step() ? -1 : PRELOAD_NEXT(unlinkat)(dir, path, flags);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	return fault_step() ? -1 : PRELOAD_NEXT(mkdirat)(dir, path, mode);
}

int rmdir(const char *path)
{
	return fault_step() ? -1 : PRELOAD_NEXT(rmdir)(path);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	return fault_step() ? -1 : PRELOAD_NEXT(renameat2)(from_dir, from, to_dir, to, flags);
}
