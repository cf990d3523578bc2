/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The self-test's connections, and what is tried with them. Never what could do the kernel harm.
 * Reads from: sockets of its own, the maps of a trial.
 * Writes to: these, and the result.
 */
#include "selftest_tries.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "process.h"
#include "util/cleanup.h"
#include "util/table.h"
#include "visit.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55 /* asm-generic/socket.h */
#endif

#define TRIES_BUFFER   65536	 /* SO_RCVBUF and SO_SNDBUF: small, so that they are full soon */
#define TRIES_MESSAGE  4096	 /* bytes; fits what may be queued several times */
#define TRIES_SMALL    100	 /* bytes */
#define TRIES_BOUND    (1 << 20) /* bytes, several times what both buffers hold */
#define TRIES_MESSAGES 64	 /* before a writer has spilled */
#define TRIES_TALK     16 /* messages there and back, from which the walk sees that it alternates */
#define TRIES_WALKS    20
#define TRIES_WAIT_MS  200 /* for what is to happen */
#define TRIES_WALK_MS  5   /* between walks */
#define TRIES_STOP_MS  20  /* without progress: a writer has stopped */

/* One direction of a connection. Which byte stands where follows from its place alone. */
struct tries_stream {
	int from;
	int to;
	size_t sent;
	size_t read;
	bool wrong; /* something else was read */
};

struct tries_link {
	uint16_t port; /* of the client, in network byte order */
	struct tries_stream up;
	struct tries_stream down; /* from the server to the client */
};

struct tries {
	const struct selftest_tries *given;
	const struct maps *maps;
	struct visit *visit;
	int listener;
	struct sockaddr_in address;
};

static unsigned char tries_byte(size_t place)
{
	return place * 7 + (place >> 8) * 13 + (place >> 16);
}

static bool tries_await(int fd, short event, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = event};

	return poll(&poll_fd, 1, timeout_ms) == 1 && poll_fd.revents & event;
}

/* How many bytes were taken, or -1. */
static ssize_t tries_write(struct tries_stream *stream, size_t size)
{
	unsigned char message[TRIES_MESSAGE];
	ssize_t n;

	for (size_t i = 0; i < size; i++)
		message[i] = tries_byte(stream->sent + i);
	n = send(stream->from, message, size, MSG_NOSIGNAL);
	if (n > 0)
		stream->sent += n;
	return n;
}

/* Reads @size bytes; false if they are not the right ones, or do not come. */
static bool tries_read(struct tries_stream *stream, size_t size)
{
	unsigned char message[TRIES_MESSAGE];

	while (size) {
		ssize_t n;

		if (!tries_await(stream->to, POLLIN, TRIES_WAIT_MS))
			return false;
		n = recv(stream->to, message, size < sizeof(message) ? size : sizeof(message), 0);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			stream->wrong |= message[i] != tries_byte(stream->read + i);
		stream->read += n;
		size -= n;
	}
	return !stream->wrong;
}

static bool tries_send(struct tries_stream *stream, size_t size)
{
	return tries_write(stream, size) == (ssize_t)size && tries_read(stream, size);
}

/* What FIONREAD says; -1: nothing. */
static int tries_readable(int fd)
{
	int n = -1;

	return ioctl(fd, FIONREAD, &n) ? -1 : n;
}

/* Connections stay open until the process ends: none of the rows goes while they are read. */
static bool tries_find_pair(const struct tries *tries, const struct tries_link *link,
			    struct shunt_pair *ret)
{
	struct table pairs = TABLE_INIT(struct shunt_pair_key, struct shunt_pair);
	bool found = false;

	if (!maps_read(tries->maps->pairs, &pairs)) {
		for (size_t i = 0; i < pairs.n && !found; i++) {
			memcpy(ret, table_value(&pairs, i), sizeof(*ret));
			found = ret->source.port == link->port;
		}
	}
	table_deinit(&pairs);
	return found;
}

static bool tries_has_members(const struct tries *tries, const struct tries_link *link,
			      unsigned wanted)
{
	struct shunt_pair pair;

	return tries_find_pair(tries, link, &pair) &&
	       (pair.flags & (SHUNT_PAIR_MEMBER | SHUNT_PAIR_MEMBER << 1)) == wanted;
}

/* The scan says who the agent is: this process. */
static int tries_scan(const struct tries *tries)
{
	_cleanup_close_ int fd = loader_trial_open_scan(tries->given->trial);
	char nothing[64];
	ssize_t n;

	if (fd < 0)
		return fd;
	do /* EAGAIN: a million objects, and none of them told (bpf_seq_read()) */
		n = read(fd, nothing, sizeof(nothing));
	while (n > 0 || (n < 0 && errno == EAGAIN));
	return n < 0 ? -errno : 0;
}

static void tries_on_again(void *user, uint32_t pid)
{
}

/* Visits the sockets of this process. */
static void tries_walk(const struct tries *tries)
{
	struct visit_result result = {.again = tries_on_again};

	visit_walk(tries->visit, getpid(), true, &result);
}

static int tries_connect(const struct tries *tries, struct tries_link *ret)
{
	int size = TRIES_BUFFER, client, server;
	struct sockaddr_in own;
	socklen_t len = sizeof(own);

	*ret = (struct tries_link){};
	client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (client < 0 || setsockopt(client, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)))
		return -errno;
	if (connect(client, (const struct sockaddr *)&tries->address, sizeof(tries->address)) &&
	    errno != EINPROGRESS)
		return -errno;
	if (!tries_await(client, POLLOUT, TRIES_WAIT_MS) ||
	    !tries_await(tries->listener, POLLIN, TRIES_WAIT_MS))
		return -ETIMEDOUT;
	server = accept4(tries->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (server < 0 || getsockname(client, (struct sockaddr *)&own, &len))
		return -errno;
	*ret = (struct tries_link){
		.port = own.sin_port,
		.up = {.from = client, .to = server},
		.down = {.from = server, .to = client},
	};
	return 0;
}

static void tries_note(const struct tries *tries, enum selftest_check check, bool passed)
{
	tries->given->result->outcome[check] = passed ? SELFTEST_PASSED : SELFTEST_FAILED;
}

static bool tries_is_charged(int reader)
{
	unsigned info[SK_MEMINFO_VARS] = {};
	socklen_t len = sizeof(info);

	return !getsockopt(reader, SOL_SOCKET, SO_MEMINFO, info, &len) &&
	       info[SK_MEMINFO_RMEM_ALLOC] >= TRIES_MESSAGE;
}

/* Has the socket received nothing by TCP? The kernel half counts what it meant to splice. */
static bool tries_is_passed_by(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	return !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) && !info.tcpi_bytes_received;
}

/* Is exactly this what has been spliced, and nothing else sent? */
static bool tries_has_spliced(const struct tries *tries, const struct tries_link *link, size_t up,
			      size_t down)
{
	struct shunt_pair pair;

	if (!tries_find_pair(tries, link, &pair))
		return false;
	return tries_is_passed_by(link->up.to) && tries_is_passed_by(link->down.to) &&
	       pair.end[SHUNT_CLIENT].spliced_bytes == up &&
	       pair.end[SHUNT_SERVER].spliced_bytes == down &&
	       !pair.end[SHUNT_CLIENT].plain_bytes && !pair.end[SHUNT_SERVER].plain_bytes;
}

/* A message there, one back, and the end. False: nothing is spliced, so there is no more to try. */
static bool tries_talk(const struct tries *tries)
{
	struct tries_link link;
	bool passed;
	char byte;

	passed = !tries_connect(tries, &link) &&
		 tries_has_members(tries, &link, SHUNT_PAIR_MEMBER | SHUNT_PAIR_MEMBER << 1) &&
		 tries_write(&link.up, TRIES_MESSAGE) == TRIES_MESSAGE &&
		 tries_await(link.up.to, POLLIN, TRIES_WAIT_MS) &&
		 tries_has_spliced(tries, &link, TRIES_MESSAGE, 0);
	if (passed) {
		tries_note(tries, SELFTEST_charge, tries_is_charged(link.up.to));
		tries_note(tries, SELFTEST_fionread, tries_readable(link.up.to) == TRIES_MESSAGE);
		passed = tries_read(&link.up, TRIES_MESSAGE) &&
			 tries_send(&link.down, TRIES_SMALL) &&
			 tries_has_spliced(tries, &link, TRIES_MESSAGE, TRIES_SMALL);
	}
	tries_note(tries, SELFTEST_pair, passed);
	if (!passed)
		return false;

	tries_note(tries, SELFTEST_eof,
		   tries_write(&link.up, TRIES_SMALL) == TRIES_SMALL &&
			   !shutdown(link.up.from, SHUT_WR) && tries_read(&link.up, TRIES_SMALL) &&
			   tries_await(link.up.to, POLLIN, TRIES_WAIT_MS) &&
			   recv(link.up.to, &byte, sizeof(byte), 0) == 0);
	tries_note(tries, SELFTEST_shutdown,
		   tries_write(&link.up, TRIES_SMALL) < 0 && errno == EPIPE);
	return true;
}

/* Writes on and on to who does not read. False: nothing makes the writer stop or go by TCP. */
static bool tries_fill(const struct tries *tries, bool *ret_in_order)
{
	struct tries_link link;
	struct shunt_pair pair;
	bool bound;

	if (tries_connect(tries, &link))
		return false;
	while (link.up.sent < TRIES_BOUND && tries_await(link.up.from, POLLOUT, TRIES_STOP_MS))
		while (link.up.sent < TRIES_BOUND && tries_write(&link.up, TRIES_MESSAGE) > 0)
			;
	bound = link.up.sent < TRIES_BOUND && tries_find_pair(tries, &link, &pair) &&
		pair.end[SHUNT_CLIENT].spills && pair.end[SHUNT_CLIENT].spliced_bytes;
	tries_note(tries, SELFTEST_bound, bound);
	*ret_in_order = bound && tries_read(&link.up, link.up.sent);
	return bound;
}

/* Splices until one message has gone by TCP, behind those that were spliced. */
static bool tries_spill(const struct tries *tries, struct tries_link *link, size_t *ret_spliced)
{
	struct shunt_pair pair;

	for (int i = 0; i < TRIES_MESSAGES; i++) {
		if (tries_write(&link->up, TRIES_MESSAGE) != TRIES_MESSAGE ||
		    !tries_find_pair(tries, link, &pair))
			return false;
		*ret_spliced = pair.end[SHUNT_CLIENT].spliced_bytes;
		if (pair.end[SHUNT_CLIENT].plain_bytes)
			return *ret_spliced > 0;
	}
	return false;
}

/* Can the program read just what was sent and not read yet, by its own question? */
static bool tries_counts_unread(const struct tries_stream *stream)
{
	return tries_readable(stream->to) == (int)(stream->sent - stream->read);
}

/*
 * As a reader of an event loop that takes edges: an edge for all, a read up to the boundary, and
 * then?
 */
static bool tries_boundary(const struct tries *tries, struct tries_link *link, int epoll)
{
	unsigned members = SHUNT_PAIR_MEMBER | SHUNT_PAIR_MEMBER << 1;
	bool told = false, counted, out = false;
	struct epoll_event event;
	size_t spliced;

	if (!tries_spill(tries, link, &spliced) ||
	    epoll_wait(epoll, &event, 1, TRIES_WAIT_MS) != 1 || !tries_read(&link->up, spliced) ||
	    !tries_await(link->up.to, POLLIN, TRIES_WAIT_MS))
		return false;
	counted = tries_counts_unread(&link->up);
	if (tries_has_members(tries, link, members))
		tries_note(tries, SELFTEST_fionread_tcp, counted);

	for (int i = 0; i < TRIES_WALKS && !(told && out); i++) {
		tries_walk(tries);
		told |= epoll_wait(epoll, &event, 1, told ? 0 : TRIES_WALK_MS) == 1;
		out = tries_has_members(tries, link, 0) && tries_counts_unread(&link->up);
	}
	tries_note(tries, SELFTEST_kick, told);
	tries_note(tries, SELFTEST_leave, out);
	return tries_read(&link->up, link->up.sent - link->up.read);
}

/* A writer that goes on when its reader has come to the boundary: what it writes must not be read
 * before the bytes of TCP that lie there already. */
static bool tries_overtake(const struct tries *tries)
{
	struct tries_link link;
	size_t spliced;

	return !tries_connect(tries, &link) && tries_spill(tries, &link, &spliced) &&
	       tries_read(&link.up, spliced) &&
	       tries_write(&link.up, TRIES_MESSAGE) == TRIES_MESSAGE &&
	       tries_read(&link.up, link.up.sent - link.up.read);
}

/* Talks by TCP until both ends are let in again, and then past it. */
static bool tries_come_back(const struct tries *tries, struct tries_link *link)
{
	struct shunt_pair before, after;

	for (int i = 0; i < TRIES_WALKS; i++) {
		if (!tries_find_pair(tries, link, &before))
			return false;
		if (before.end[SHUNT_CLIENT].state == SHUNT_STATE_READY)
			break;
		for (int j = 0; j < TRIES_TALK; j++)
			if (!tries_send(&link->up, TRIES_SMALL) ||
			    !tries_send(&link->down, TRIES_SMALL))
				return false;
		tries_walk(tries);
	}
	return tries_send(&link->up, TRIES_MESSAGE) && tries_find_pair(tries, link, &after) &&
	       after.end[SHUNT_CLIENT].spliced_bytes ==
		       before.end[SHUNT_CLIENT].spliced_bytes + TRIES_MESSAGE;
}

static void tries_go_to_and_fro(const struct tries *tries)
{
	_cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	struct tries_link link;
	bool passed;

	if (!tries_fill(tries, &passed) || epoll < 0 || tries_connect(tries, &link) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, link.up.to, &event))
		return;
	passed &= tries_overtake(tries);
	passed &= tries_boundary(tries, &link, epoll);
	if (passed)
		tries_note(tries, SELFTEST_adopt, tries_come_back(tries, &link));
	tries_note(tries, SELFTEST_order, passed && !link.up.wrong && !link.down.wrong);
}

static int tries_bring_up_loopback(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo"};

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request))
		return -errno;
	request.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
}

static int tries_listen(struct tries *tries)
{
	socklen_t len = sizeof(tries->address);
	int size = TRIES_BUFFER;

	tries->address = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	tries->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return tries->listener < 0 ||
			       setsockopt(tries->listener, SOL_SOCKET, SO_RCVBUF, &size,
					  sizeof(size)) ||
			       bind(tries->listener, (struct sockaddr *)&tries->address, len) ||
			       getsockname(tries->listener, (struct sockaddr *)&tries->address,
					   &len) ||
			       listen(tries->listener, SOMAXCONN)
		       ? -errno
		       : 0;
}

/* The kernel half has noted who listens: that is how it names the agent's own executable. */
static int tries_know_program(const struct tries *tries)
{
	struct table listeners = TABLE_INIT(__u64, struct shunt_listener);
	int r = maps_read(loader_trial_listeners(tries->given->trial), &listeners);

	if (!r && listeners.n != 1)
		r = -ENODATA;
	if (!r) {
		const struct shunt_listener *listener = table_value(&listeners, 0);

		r = maps_put_program(tries->maps, listener->program, SHUNT_PROGRAM_FINE);
	}
	table_deinit(&listeners);
	return r;
}

static int tries_enrol(const struct tries *tries)
{
	volatile struct shunt_control *control = loader_trial_control(tries->given->trial);
	const struct shunt_cgroup cgroup = {.mesh = 0, .role = SHUNT_ROLE_SIDECAR};
	const struct shunt_mesh mesh = {.splice = SHUNT_SCOPE_NODE};
	struct table meshes = TABLE_INIT(__u32, struct shunt_mesh);
	const __u32 slot = 0;
	int r;

	r = table_add(&meshes, &slot, &mesh);
	r = r ?: maps_write(tries->maps->meshes, &meshes);
	table_deinit(&meshes);
	r = r ?: maps_put_cgroup(tries->maps, tries->given->cgroup_id, &cgroup);
	r = r ?: tries_know_program(tries);
	control->queue_max = TRIES_BOUND;
	control->splice = 1;
	control->generation = 1;
	control->announce = 1;
	return r ?: tries_scan(tries);
}

static int tries_enter_cgroup(const struct tries *tries)
{
	_cleanup_close_ int fd = openat(tries->given->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "0", 1) != 1 ? -errno : 0;
}

/* From the process that made this one, which has the cgroup open too. False: nobody could be
 * visited, so there is no more to try. */
static bool tries_borrow(const struct tries *tries)
{
	_cleanup_close_ int fd = process_borrow(getppid(), tries->given->cgroup);
	bool can = fd >= 0 && process_in_host_pidns();

	tries_note(tries, SELFTEST_borrow, can);
	return can;
}

static int tries_prepare_visits(struct tries *tries)
{
	const struct selftest_tries *given = tries->given;
	int r = visit_new(loader_trial_visits(given->trial), tries->maps, &tries->visit);

	return r ?: visit_attach(tries->visit, given->cgroup_id, given->cgroup);
}

int selftest_tries_main(void *given)
{
	struct tries tries = {.given = given};
	struct selftest *result = tries.given->result;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	result->error = -ETIMEDOUT; /* if it comes no further */
	tries.maps = loader_trial_maps(tries.given->trial);
	result->obstacle = "its cgroup cannot be entered";
	r = tries_enter_cgroup(&tries);
	if (!r) {
		result->obstacle = "its loopback device cannot be brought up";
		r = tries_bring_up_loopback();
	}
	if (!r) {
		result->obstacle = "its sockets cannot be visited";
		r = tries_prepare_visits(&tries);
	}
	if (!r) {
		result->obstacle = "it cannot listen";
		r = tries_listen(&tries);
	}
	if (!r) {
		result->obstacle = "its cgroup cannot be enrolled";
		r = tries_enrol(&tries);
	}
	result->error = r;
	if (r)
		return 0;
	result->obstacle = NULL;
	if (tries_borrow(&tries) && tries_talk(&tries))
		tries_go_to_and_fro(&tries);
	return 0;
}
