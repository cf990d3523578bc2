/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The watchdog.
 * Reads from: the board; sockets of other processes, borrowed; /proc/PID/net, fdinfo.
 * Writes to: stderr.
 */
#include "watch.h"

#include <dirent.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "board.h"

static uint64_t last_touched(const struct flow *flow)
{
	uint64_t client = flow->sides[CLIENT].touched, server = flow->sides[SERVER].touched;

	return client > server ? client : server;
}

/* A handshake that lost packets was one long round trip: until others are measured TCP waits for
 * three times as long before it sends again what is lost then. Returns for how long, in ns. */
static uint64_t retransmit_ns(const struct side *side)
{
	int process = pidfd_open(side->pid, 0), fd = pidfd_getfd(process, side->fd, 0);
	struct tcp_info info = {};
	socklen_t size = sizeof(info);

	close(process);
	if (fd < 0)
		return 0;
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
	close(fd);
	return info.tcpi_state == TCP_SYN_SENT || !info.tcpi_unacked ? 0 : info.tcpi_rto * 1000ull;
}

static bool is_stuck(const struct flow *flow, uint64_t idle_ns, uint64_t patience_ns)
{
	return idle_ns > patience_ns && idle_ns > patience_ns +
							  retransmit_ns(&flow->sides[CLIENT]) +
							  retransmit_ns(&flow->sides[SERVER]);
}

bool watch_flows(uint64_t patience_ns)
{
	static unsigned int first;
	unsigned int count = board->flows;
	uint64_t now = now_ns(), touched;
	bool all_over = true;

	for (unsigned int i = first; i < count; i++) {
		const struct flow *flow = &board->flow[i];

		if (flow_over(flow)) {
			if (i == first)
				first++;
			continue;
		}
		all_over = false;
		touched = last_touched(flow);
		/* Zero: it is being made. */
		if (touched && now > touched && is_stuck(flow, now - touched, patience_ns))
			board_fail(flow, "nothing came on for %ju s",
				   (uintmax_t)((now - touched) / 1000000000));
	}
	return !all_over;
}

/* The row of the socket in /proc/PID/net/tcp or tcp6, and that of the other end if it is there. */
static void report_rows(const struct side *side, const char *table, ino_t inode)
{
	char path[64], row[512], ours[80], theirs[80] = "", local[40], remote[40];
	unsigned long row_inode;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/net/%s", side->pid, table);
	for (int pass = 0; pass < 2; pass++) {
		file = fopen(path, "re");
		if (!file)
			return;
		while (fgets(row, sizeof(row), file)) {
			if (sscanf(row, "%*s %39s %39s %*s %*s %*s %*s %*s %*s %lu", local, remote,
				   &row_inode) != 3)
				continue;
			snprintf(ours, sizeof(ours), "%s %s", local, remote);
			if (pass == 0 && row_inode == inode)
				snprintf(theirs, sizeof(theirs), "%s %s", remote, local);
			if (pass == 0 ? row_inode == inode : strcmp(ours, theirs) == 0)
				fprintf(stderr, "      %s: %s", table, row);
		}
		fclose(file);
	}
}

/* What the epoll sets of its process wait for at the socket. */
static void report_epolls(const struct side *side)
{
	char path[64], target[64], info[320], row[256];
	struct dirent *entry;
	ssize_t len;
	FILE *file;
	DIR *fds;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd", side->pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds))) {
		len = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = 0;
		if (strcmp(target, "anon_inode:[eventpoll]") != 0)
			continue;
		snprintf(info, sizeof(info), "/proc/%d/fdinfo/%s", side->pid, entry->d_name);
		file = fopen(info, "re");
		while (file && fgets(row, sizeof(row), file)) {
			if (sscanf(row, "tfd: %d", &fd) == 1 && fd == side->fd)
				fprintf(stderr, "      epoll %s: %s", entry->d_name, row);
		}
		if (file)
			fclose(file);
	}
	if (fds)
		closedir(fds);
}

/* Where the socket is bound to. 0: not to be had. */
static unsigned int local_port(int fd)
{
	struct sockaddr_in6 address = {}; /* the port is where struct sockaddr_in has it */
	socklen_t size = sizeof(address);

	getsockname(fd, (struct sockaddr *)&address, &size);
	return ntohs(address.sin6_port);
}

/* Is it this connection, or whatever goes this way? */
static void report_route(const struct flow *of)
{
	unsigned int open = 0, connecting = 0;
	uint64_t now = now_ns(), newest = 0;

	for (unsigned int i = 0; i < board->flows; i++) {
		const struct flow *flow = &board->flow[i];

		if (flow == of || flow->route != of->route)
			continue;
		open += flow->sides[CLIENT].state == END_OPEN;
		connecting += flow->sides[CLIENT].state == END_CONNECTING;
		if (last_touched(flow) > newest)
			newest = last_touched(flow);
	}
	fprintf(stderr,
		"    on its route %u others are open, %u connecting, the last came on %ju ms ago\n",
		open, connecting, (uintmax_t)(now > newest ? (now - newest) / 1000000 : 0));
}

/* Returns its port. */
static unsigned int report_socket(const char *name, const struct side *side)
{
	int process = pidfd_open(side->pid, 0), fd = pidfd_getfd(process, side->fd, 0);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI};
	int readable = -1, unacknowledged = -1, unsent = -1, receive = -1, send = -1;
	socklen_t int_size = sizeof(int), info_size;
	struct tcp_info info = {};
	struct stat stat = {};
	unsigned int port;

	close(process);
	if (fd < 0) {
		fprintf(stderr, "    %s: no socket\n", name);
		return 0;
	}
	port = local_port(fd);
	ioctl(fd, SIOCINQ, &readable);
	ioctl(fd, SIOCOUTQ, &unacknowledged);
	ioctl(fd, SIOCOUTQNSD, &unsent);
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, &int_size);
	getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, &int_size);
	info_size = sizeof(info);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_size);
	poll(&poll_fd, 1, 0);
	fstat(fd, &stat);
	close(fd);
	fprintf(stderr,
		"    %s: poll%s%s%s%s%s, FIONREAD %d, SIOCOUTQ %d (%d not sent), SO_RCVBUF %d, "
		"SO_SNDBUF %d, state %u, unacked %u, backoff %u, probes %u, rto %u us, "
		"last data sent %u ms ago, received %u ms ago, last ack %u ms ago\n",
		name, poll_fd.revents & POLLIN ? " IN" : "",
		poll_fd.revents & POLLOUT ? " OUT" : "",
		poll_fd.revents & POLLRDHUP ? " RDHUP" : "",
		poll_fd.revents & POLLHUP ? " HUP" : "", poll_fd.revents & POLLERR ? " ERR" : "",
		readable, unacknowledged, unsent, receive, send, info.tcpi_state, info.tcpi_unacked,
		info.tcpi_backoff, info.tcpi_probes, info.tcpi_rto, info.tcpi_last_data_sent,
		info.tcpi_last_data_recv, info.tcpi_last_ack_recv);
	report_rows(side, "tcp", stat.st_ino);
	report_rows(side, "tcp6", stat.st_ino);
	report_epolls(side);
	return port;
}

static void report_tale(const char *teller, unsigned int port)
{
	char command[4096];

	snprintf(command, sizeof(command), "%s %u >&2", teller, port);
	if (system(command))
		fprintf(stderr, "    %s: failed\n", command);
}

void watch_report(const char *teller)
{
	unsigned int port;
	const struct flow *flow;

	for (unsigned int i = 0; i < FAILURES_TOLD; i++) {
		flow = board->failed[i];
		if (!flow)
			continue;
		fprintf(stderr, "connection %u, as the kernel has it:\n", flow_index(flow));
		port = report_socket("client", &flow->sides[CLIENT]);
		report_socket("server", &flow->sides[SERVER]);
		report_route(flow);
		if (teller && port)
			report_tale(teller, port);
	}
}
