/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One round of a benchmark: a client connects, sends a request, reads the answer and the end, and
 * closes, again and again; a server in another process answers. Both do this in a cgroup each.
 * Reads from: the clocks.
 * Writes to: cgroup.procs of the two cgroups; stdout, a line of comma-separated numbers:
 * connections a second, the median and the 99th percentile of their times in us, and the CPU time
 * that client and server together used, in us a connection (less what the kernel does in softirqs,
 * if it keeps these apart).
 */
#include <err.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "round.h"

#define MESSAGE 64
#define BACKLOG 128
#define US	1e-3 /* in ns */

struct options {
	size_t connections;
	int client_cpu, server_cpu;
	const char *client_cgroup, *server_cgroup;
	struct sockaddr_in listen, dial;
};

/* Up to @size bytes, or to the end. */
static size_t read_full(int fd, char *buffer, size_t size)
{
	size_t done = 0;
	ssize_t n;

	while (done < size) {
		n = read(fd, buffer + done, size - done);
		if (n < 0)
			err(1, "read");
		if (n == 0)
			break;
		done += n;
	}
	return done;
}

static void write_full(int fd, const void *buffer, size_t size)
{
	if (write(fd, buffer, size) != (ssize_t)size)
		err(1, "write");
}

static int listener_open(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) ||
	    bind(fd, (const struct sockaddr *)address, sizeof(*address)) || listen(fd, BACKLOG))
		err(1, "listen");
	return fd;
}

/*
 * Says on @report that it listens, and at the end how much CPU time it used. It is the server that
 * closes first: TIME_WAIT stays at its end, where no port of the client's is used up by it.
 */
static void serve(const void *given, int report)
{
	const struct options *options = given;
	char message[MESSAGE];
	uint64_t cpu = 0;
	int listener;

	round_settle(options->server_cgroup, options->server_cpu);
	listener = listener_open(&options->listen);
	write_full(report, &cpu, sizeof(cpu));

	cpu = round_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (size_t i = 0; i < options->connections; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			err(1, "accept");
		if (read_full(fd, message, sizeof(message)) != sizeof(message))
			errx(1, "a request is too short");
		write_full(fd, message, sizeof(message));
		close(fd);
	}
	cpu = round_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	write_full(report, &cpu, sizeof(cpu));
}

static void exchange(const struct sockaddr_in *address)
{
	char message[MESSAGE + 1] = "request";
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		err(1, "connect");
	write_full(fd, message, MESSAGE);
	/* One more than there will be, so that this ends with the server's FIN. */
	if (read_full(fd, message, sizeof(message)) != MESSAGE)
		errx(1, "an answer is not as long as its request");
	close(fd);
}

static uint64_t server_reported(int report)
{
	uint64_t cpu;

	if (read_full(report, (char *)&cpu, sizeof(cpu)) != sizeof(cpu))
		errx(1, "the server ended early");
	return cpu;
}

static void run(const struct options *options)
{
	size_t n = options->connections;
	uint64_t *times, begin, start, now, cpu;
	int report = round_start_server(serve, options, NULL);

	server_reported(report);
	round_settle(options->client_cgroup, options->client_cpu);
	times = calloc(n, sizeof(*times));
	if (!times)
		err(1, "calloc");

	cpu = round_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	begin = now = round_clock_ns(CLOCK_MONOTONIC);
	for (size_t i = 0; i < n; i++) {
		start = now;
		exchange(&options->dial);
		now = round_clock_ns(CLOCK_MONOTONIC);
		times[i] = now - start;
	}
	cpu = round_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu + server_reported(report);
	wait(NULL); /* the next round's server needs the address */

	qsort(times, n, sizeof(*times), round_compare_times);
	printf("%.0f,%.2f,%.2f,%.2f\n", n * 1e9 / (now - begin), times[n / 2] * US,
	       times[n * 99 / 100] * US, (double)cpu / n * US);
	free(times);
}

static void parse_address(const char *text, struct sockaddr_in *ret)
{
	if (!round_parse_address(text, ret))
		errx(2, "%s: not ADDRESS:PORT", text);
}

int main(int argc, char **argv)
{
	struct options options = {.connections = 5000, .server_cpu = 1};
	int option;

	while ((option = getopt(argc, argv, "n:c:s:")) != -1) {
		if (option == 'n')
			options.connections = strtoul(optarg, NULL, 10);
		else if (option == 'c')
			options.client_cpu = atoi(optarg);
		else if (option == 's')
			options.server_cpu = atoi(optarg);
		else
			return 2;
	}
	if (argc - optind != 4 || options.connections == 0)
		errx(2, "usage: [-n CONNECTIONS] [-c CLIENT_CPU] [-s SERVER_CPU] CLIENT_CGROUP "
			"SERVER_CGROUP LISTEN_ADDRESS:PORT DIAL_ADDRESS:PORT");
	options.client_cgroup = argv[optind];
	options.server_cgroup = argv[optind + 1];
	parse_address(argv[optind + 2], &options.listen);
	parse_address(argv[optind + 3], &options.dial);
	run(&options);
	return 0;
}
