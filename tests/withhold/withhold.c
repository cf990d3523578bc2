/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stands between a program and the kernel (LD_PRELOAD), which it makes out to be a poorer one.
 * Reads from: SHUNT_WITHHOLD, words that are "map_type=N" (cannot be made), "prog_type=N" (cannot
 * be loaded), "attach_type=N" (no link of it can be made), numbers of linux/bpf.h, "pidfd_getfd",
 * or "netfilter". Writes to: nothing; it refuses.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../preload.h"

static bool withheld(const char *word)
{
	const char *list = getenv("SHUNT_WITHHOLD");
	size_t len = strlen(word);

	for (const char *at = list; at && (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

static bool withheld_number(const char *what, unsigned int number)
{
	char word[64];

	snprintf(word, sizeof(word), "%s=%u", what, number);
	return withheld(word);
}

/* An errno, or 0: let it pass. */
static int refuse_bpf(long command, const union bpf_attr *attr)
{
	if (command == BPF_MAP_CREATE && withheld_number("map_type", attr->map_type))
		return EINVAL;
	if (command == BPF_PROG_LOAD && withheld_number("prog_type", attr->prog_type))
		return EINVAL;
	if (command == BPF_LINK_CREATE &&
	    withheld_number("attach_type", attr->link_create.attach_type))
		return EPERM;
	return 0;
}

/* libbpf makes its calls by this. */
long syscall(long number, ...)
{
	long a[PRELOAD_ARGUMENTS];

	PRELOAD_TAKE(a, number);
	if (number == SYS_bpf && refuse_bpf(a[0], (const union bpf_attr *)a[1])) {
		errno = refuse_bpf(a[0], (const union bpf_attr *)a[1]);
		return -1;
	}
	if (number == SYS_pidfd_getfd && withheld("pidfd_getfd")) {
		errno = EPERM;
		return -1;
	}
	return preload_syscall(number, a);
}

int socket(int domain, int type, int protocol)
{
	if (domain == AF_NETLINK && protocol == NETLINK_NETFILTER && withheld("netfilter")) {
		errno = EPROTONOSUPPORT;
		return -1;
	}
	return syscall(SYS_socket, domain, type, protocol);
}
