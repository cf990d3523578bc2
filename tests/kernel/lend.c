/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Preloaded into shuntd where valgrind does not know pidfd_open() and pidfd_getfd(): both are asked
 * of somebody outside.
 * Reads from: the Unix socket that SHUNT_LENDER names: an errno, and with 0 a file descriptor.
 * Writes to: the same: a thread and the number of one of its files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../preload.h"

static int lend_thread; /* of the last pidfd_open() */

static int lend_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("SHUNT_LENDER");
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path ? path : "");
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int lend_receive(int from)
{
	char control[CMSG_SPACE(sizeof(int))];
	int error = EPROTO, fd = -1;
	struct iovec answer = {.iov_base = &error, .iov_len = sizeof(error)};
	struct msghdr message = {
		.msg_iov = &answer,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *part;

	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) < 0)
		return -1;
	part = CMSG_FIRSTHDR(&message);
	if (part && part->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(part), sizeof(fd));
	errno = error;
	return fd;
}

static int lend_getfd(int thread, int fd)
{
	int question[] = {thread, fd}, lender = lend_connect(), borrowed = -1, error;

	if (lender < 0)
		return -1;
	if (send(lender, question, sizeof(question), 0) == sizeof(question))
		borrowed = lend_receive(lender);
	error = errno;
	close(lender);
	errno = error;
	return borrowed;
}

long syscall(long number, ...)
{
	long a[PRELOAD_ARGUMENTS];

	PRELOAD_TAKE(a, number);
	if (number == SYS_pidfd_open) {
		lend_thread = a[0];
		return open("/dev/null", O_RDONLY | O_CLOEXEC); /* stands for it */
	}
	if (number == SYS_pidfd_getfd)
		return lend_getfd(lend_thread, a[1]);
	return preload_syscall(number, a);
}
