/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One round of a benchmark: two processes and one connection between them, both ends non-blocking
 * and driven by epoll, as those of proxies are. Either the client sends a message and waits for as
 * long a one, again and again, or it sends one message after the other and the server only reads.
 * Reads from: the clocks; with -i stdin: for each line of it one round, all on one connection.
 * Writes to: cgroup.procs of the two cgroups; stdout, a line of comma-separated numbers: exchanges
 * (of a stream: 10^6 bytes) a second, the median and the 99th percentile of an exchange's time in
 * us (of a stream: nothing), and the CPU time that client and server together used, in ns a byte
 * (less what the kernel does in softirqs, if it keeps these apart).
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "round.h"

#define WARM_UP	       100	  /* exchanges that do not count */
#define SAMPLES	       (1 << 20)  /* exchanges whose times are kept */
#define READ_AT_LEAST  (64 << 10) /* bytes that the reader of a stream has room for */
#define STALL_MS       10000	  /* after so long without an event, something hangs */
#define WRITES_A_CLOCK 16	  /* writes to a stream for each look at the clock */
#define US	       1e-3	  /* in ns */

struct endpoint {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	};
	socklen_t length;
};

struct options {
	bool stream, nodelay, interactive;
	size_t size;
	double seconds;
	int client_cpu, server_cpu;
	const char *client_cgroup, *server_cgroup, *server_netns;
	struct endpoint listen, dial;
};

/* One end of the connection, and the events that its epoll waits for. */
struct end {
	int fd, epoll;
	uint32_t events;
};

struct report {
	uint64_t cpu, time, bytes;
};

static uint64_t timeval_ns(const struct timeval *time)
{
	return time->tv_sec * 1000000000ull + time->tv_usec * 1000ull;
}

static uint64_t cpu_ns(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		err(1, "getrusage");
	return timeval_ns(&usage.ru_utime) + timeval_ns(&usage.ru_stime);
}

/* Of another process. */
static uint64_t cpu_ns_of(pid_t pid)
{
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock))
		errx(1, "no clock of process %d", (int)pid);
	return round_clock_ns(clock);
}

static void netns_enter(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "%s", path);
	close(fd);
}

static void *buffer_new(size_t size)
{
	void *buffer = malloc(size);

	if (!buffer)
		err(1, "malloc");
	memset(buffer, 'x', size); /* no page of it is to be missing later */
	return buffer;
}

static void end_init(struct end *end, int fd, const struct options *options, uint32_t events)
{
	struct epoll_event event = {.events = events};

	end->fd = fd;
	end->events = events;
	end->epoll = epoll_create1(0);
	if (end->epoll < 0 || epoll_ctl(end->epoll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll");
	if (options->dial.any.sa_family == AF_INET &&
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){options->nodelay}, sizeof(int)))
		err(1, "TCP_NODELAY");
}

static void end_await(struct end *end, uint32_t events)
{
	struct epoll_event event = {.events = events};
	int n;

	if (end->events != events && epoll_ctl(end->epoll, EPOLL_CTL_MOD, end->fd, &event))
		err(1, "epoll_ctl");
	end->events = events;
	n = epoll_wait(end->epoll, &event, 1, STALL_MS);
	if (n < 0)
		err(1, "epoll_wait");
	if (n == 0)
		errx(1, "nothing came of %s in %d s", events & EPOLLIN ? "reading" : "writing",
		     STALL_MS / 1000);
}

/* What there is, when there is something: 0 at the end. */
static size_t end_read(struct end *end, char *buffer, size_t size)
{
	ssize_t n;

	do {
		end_await(end, EPOLLIN);
		n = read(end->fd, buffer, size);
	} while (n < 0 && errno == EAGAIN);
	if (n < 0)
		err(1, "read");
	return n;
}

/* A whole message, or false at the end. */
static bool message_read(struct end *end, char *buffer, size_t size)
{
	size_t done = 0, n;

	while (done < size) {
		n = end_read(end, buffer + done, size - done);
		if (n == 0 && done > 0)
			errx(1, "a message ends early");
		if (n == 0)
			return false;
		done += n;
	}
	return true;
}

static void message_write(struct end *end, const char *buffer, size_t size)
{
	size_t done = 0;
	ssize_t n;

	while (done < size) {
		n = write(end->fd, buffer + done, size - done);
		if (n >= 0)
			done += n;
		else if (errno == EAGAIN)
			end_await(end, EPOLLOUT);
		else
			err(1, "write");
	}
}

static int listener_open(const struct endpoint *endpoint)
{
	int fd = socket(endpoint->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (endpoint->any.sa_family == AF_UNIX)
		unlink(endpoint->un.sun_path);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) ||
	    bind(fd, &endpoint->any, endpoint->length) || listen(fd, 1))
		err(1, "listen");
	return fd;
}

static int socket_await(int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};

	if (poll(&poll_fd, 1, STALL_MS) != 1)
		errx(1, "no connection comes about");
	return fd;
}

static int socket_accept(int listener)
{
	int fd = accept4(socket_await(listener, POLLIN), NULL, NULL, SOCK_NONBLOCK);

	if (fd < 0)
		err(1, "accept");
	return fd;
}

static int socket_connect(const struct endpoint *endpoint)
{
	int fd = socket(endpoint->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0), error;

	if (!connect(fd, &endpoint->any, endpoint->length))
		return fd;
	if (errno != EINPROGRESS)
		err(1, "connect");
	if (getsockopt(socket_await(fd, POLLOUT), SOL_SOCKET, SO_ERROR, &error,
		       &(socklen_t){sizeof(error)}))
		err(1, "SO_ERROR");
	if (error)
		errx(1, "connect: %s", strerror(error));
	return fd;
}

static void report_write(int fd, const struct report *report)
{
	if (write(fd, report, sizeof(*report)) != sizeof(*report))
		err(1, "write");
}

static void report_read(int fd, struct report *ret)
{
	if (read(fd, ret, sizeof(*ret)) != sizeof(*ret))
		errx(1, "the server ended early");
}

static void exchanges_serve(struct end *end, const struct options *options, struct report *ret)
{
	char *buffer = buffer_new(options->size);
	uint64_t count = 0;

	while (message_read(end, buffer, options->size)) {
		message_write(end, buffer, options->size);
		if (++count == WARM_UP)
			ret->cpu = cpu_ns();
	}
	ret->cpu = cpu_ns() - ret->cpu;
	ret->bytes = 2 * options->size * (count - WARM_UP);
}

static void stream_serve(struct end *end, const struct options *options, struct report *ret)
{
	size_t room = options->size > READ_AT_LEAST ? options->size : READ_AT_LEAST, n;
	char *buffer = buffer_new(room);

	ret->cpu = cpu_ns();
	ret->time = round_clock_ns(CLOCK_MONOTONIC);
	while ((n = end_read(end, buffer, room)) > 0)
		ret->bytes += n;
	ret->time = round_clock_ns(CLOCK_MONOTONIC) - ret->time;
	ret->cpu = cpu_ns() - ret->cpu;
}

/* Says on @fd that it listens, and at the end what it took. */
static void serve(const void *given, int fd)
{
	const struct options *options = given;
	struct report report = {};
	struct end end;
	int listener;

	if (options->server_netns)
		netns_enter(options->server_netns);
	round_settle(options->server_cgroup, options->server_cpu);
	listener = listener_open(&options->listen);
	report_write(fd, &report);
	end_init(&end, socket_accept(listener), options, EPOLLIN);
	if (options->stream)
		stream_serve(&end, options, &report);
	else
		exchanges_serve(&end, options, &report);
	report_write(fd, &report);
}

static void exchange(struct end *end, char *buffer, size_t size)
{
	message_write(end, buffer, size);
	if (!message_read(end, buffer, size))
		errx(1, "the server closed");
}

/* One round; returns how many. */
static size_t exchanges_measure(struct end *end, const struct options *options, char *buffer,
				uint64_t *times, uint64_t *ret_took)
{
	uint64_t begin = round_clock_ns(CLOCK_MONOTONIC), now = begin, start;
	uint64_t end_at = begin + options->seconds * 1e9;
	size_t n = 0;

	while (now < end_at && n < SAMPLES) {
		start = now;
		exchange(end, buffer, options->size);
		now = round_clock_ns(CLOCK_MONOTONIC);
		times[n++] = now - start;
	}
	*ret_took = now - begin;
	return n;
}

static void exchanges_print(size_t n, uint64_t took, uint64_t *times, double cpu_a_byte)
{
	qsort(times, n, sizeof(*times), round_compare_times);
	printf("%.1f,%.2f,%.2f,%.4f\n", n * 1e9 / took, times[n / 2] * US, times[n * 99 / 100] * US,
	       cpu_a_byte);
	fflush(stdout);
}

static void exchanges_run(struct end *end, const struct options *options, int server, pid_t pid)
{
	char *buffer = buffer_new(options->size);
	uint64_t *times = buffer_new(SAMPLES * sizeof(*times)), cpu, took;
	struct report report;
	char line[8];
	size_t n;

	for (size_t i = 0; i < WARM_UP; i++)
		exchange(end, buffer, options->size);
	while (options->interactive && fgets(line, sizeof(line), stdin)) {
		cpu = cpu_ns() + cpu_ns_of(pid);
		n = exchanges_measure(end, options, buffer, times, &took);
		cpu = cpu_ns() + cpu_ns_of(pid) - cpu;
		exchanges_print(n, took, times, (double)cpu / (2 * options->size * n));
	}
	if (options->interactive) {
		close(end->fd);
		report_read(server, &report);
		return;
	}
	cpu = cpu_ns();
	n = exchanges_measure(end, options, buffer, times, &took);
	cpu = cpu_ns() - cpu;
	close(end->fd);
	report_read(server, &report);
	exchanges_print(n, took, times, (double)(cpu + report.cpu) / report.bytes);
}

static void stream_run(struct end *end, const struct options *options, int server)
{
	char *buffer = buffer_new(options->size);
	uint64_t end_at = round_clock_ns(CLOCK_MONOTONIC) + options->seconds * 1e9, cpu = cpu_ns();
	struct report report;

	do {
		for (int i = 0; i < WRITES_A_CLOCK; i++)
			message_write(end, buffer, options->size);
	} while (round_clock_ns(CLOCK_MONOTONIC) < end_at);
	close(end->fd);
	cpu = cpu_ns() - cpu;
	report_read(server, &report);

	printf("%.2f,,,%.4f\n", report.bytes * 1e3 / report.time,
	       (double)(cpu + report.cpu) / report.bytes);
}

static void run(const struct options *options)
{
	pid_t pid;
	int server = round_start_server(serve, options, &pid);
	struct report listens;
	struct end end;

	report_read(server, &listens);
	round_settle(options->client_cgroup, options->client_cpu);
	if (options->stream) {
		end_init(&end, socket_connect(&options->dial), options, EPOLLOUT);
		stream_run(&end, options, server);
	} else {
		end_init(&end, socket_connect(&options->dial), options, EPOLLIN);
		exchanges_run(&end, options, server, pid);
	}
	wait(NULL); /* the next round's server needs the address */
}

static void parse_endpoint(const char *text, struct endpoint *ret)
{
	if (text[0] == '/') {
		ret->un.sun_family = AF_UNIX;
		ret->length = sizeof(ret->un);
		if (strlen(text) >= sizeof(ret->un.sun_path))
			errx(2, "%s: too long", text);
		strcpy(ret->un.sun_path, text);
		return;
	}
	ret->length = sizeof(ret->in);
	if (!round_parse_address(text, &ret->in))
		errx(2, "%s: neither ADDRESS:PORT nor a path", text);
}

int main(int argc, char **argv)
{
	struct options options = {.size = 64, .seconds = 0.3, .server_cpu = 1};
	int option;

	while ((option = getopt(argc, argv, "iwdm:t:c:s:n:")) != -1) {
		if (option == 'w')
			options.stream = true;
		else if (option == 'i')
			options.interactive = true;
		else if (option == 'd')
			options.nodelay = true;
		else if (option == 'm')
			options.size = strtoul(optarg, NULL, 10);
		else if (option == 't')
			options.seconds = strtod(optarg, NULL);
		else if (option == 'c')
			options.client_cpu = atoi(optarg);
		else if (option == 's')
			options.server_cpu = atoi(optarg);
		else if (option == 'n')
			options.server_netns = optarg;
		else
			return 2;
	}
	if (argc - optind != 4 || options.size == 0 || options.seconds <= 0)
		errx(2,
		     "usage: [-i (a round for each line of stdin)] [-w (only write)] "
		     "[-d (TCP_NODELAY)] [-m MESSAGE_SIZE] "
		     "[-t SECONDS] [-c CLIENT_CPU] [-s SERVER_CPU] [-n SERVER_NETNS] CLIENT_CGROUP "
		     "SERVER_CGROUP LISTEN_ADDRESS:PORT|PATH DIAL_ADDRESS:PORT|PATH");
	options.client_cgroup = argv[optind];
	options.server_cgroup = argv[optind + 1];
	parse_endpoint(argv[optind + 2], &options.listen);
	parse_endpoint(argv[optind + 3], &options.dial);
	run(&options);
	return 0;
}
