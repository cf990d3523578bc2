/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The watchdog.
 * Reads from: the board; sockets of other processes, borrowed.
 * Writes to: stderr.
 */
#include "watch.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "board.h"

static uint64_t last_touched(const struct flow *flow)
{
	uint64_t client = flow->sides[CLIENT].touched, server = flow->sides[SERVER].touched;

	return client > server ? client : server;
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
		if (touched && now > touched && now - touched > patience_ns)
			board_fail(flow, "nothing came on for %ju s",
				   (uintmax_t)((now - touched) / 1000000000));
	}
	return !all_over;
}

static void report_socket(const char *name, const struct side *side)
{
	int process = pidfd_open(side->pid, 0), fd = pidfd_getfd(process, side->fd, 0);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI};
	int readable = -1, unacknowledged = -1, unsent = -1, receive = -1, send = -1;
	socklen_t int_size = sizeof(int), info_size;
	struct tcp_info info = {};

	close(process);
	if (fd < 0) {
		fprintf(stderr, "    %s: no socket\n", name);
		return;
	}
	ioctl(fd, SIOCINQ, &readable);
	ioctl(fd, SIOCOUTQ, &unacknowledged);
	ioctl(fd, SIOCOUTQNSD, &unsent);
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, &int_size);
	getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, &int_size);
	info_size = sizeof(info);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_size);
	poll(&poll_fd, 1, 0);
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
}

void watch_report(void)
{
	const struct flow *flow;

	for (unsigned int i = 0; i < FAILURES_TOLD; i++) {
		flow = board->failed[i];
		if (!flow)
			continue;
		fprintf(stderr, "connection %u, as the kernel has it:\n", flow_index(flow));
		report_socket("client", &flow->sides[CLIENT]);
		report_socket("server", &flow->sides[SERVER]);
	}
}
