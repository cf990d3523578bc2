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
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64
#define BACKLOG 128
#define US	1e-3 /* in ns */

struct options {
	size_t connections;
	int client_cpu, server_cpu;
	const char *client_cgroup, *server_cgroup;
	struct sockaddr_in listen, dial;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		err(1, "clock_gettime");
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* A socket belongs to the cgroup in which it is made, so this comes first. */
static void settle(const char *cgroup, int cpu)
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
static void serve(const struct options *options, int report)
{
	char message[MESSAGE];
	uint64_t cpu = 0;
	int listener;

	settle(options->server_cgroup, options->server_cpu);
	listener = listener_open(&options->listen);
	write_full(report, &cpu, sizeof(cpu));

	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (size_t i = 0; i < options->connections; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			err(1, "accept");
		if (read_full(fd, message, sizeof(message)) != sizeof(message))
			errx(1, "a request is too short");
		write_full(fd, message, sizeof(message));
		close(fd);
	}
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
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

/* The server dies with its client, and the client with its server: neither waits for ever. */
static void server_start(const struct options *options, int *ret_report)
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
	*ret_report = report[0];
}

static uint64_t server_reported(int report)
{
	uint64_t cpu;

	if (read_full(report, (char *)&cpu, sizeof(cpu)) != sizeof(cpu))
		errx(1, "the server ended early");
	return cpu;
}

static int compare_times(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void run(const struct options *options)
{
	size_t n = options->connections;
	uint64_t *times, begin, start, now, cpu;
	int report;

	server_start(options, &report);
	server_reported(report);
	settle(options->client_cgroup, options->client_cpu);
	times = calloc(n, sizeof(*times));
	if (!times)
		err(1, "calloc");

	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	begin = now = clock_ns(CLOCK_MONOTONIC);
	for (size_t i = 0; i < n; i++) {
		start = now;
		exchange(&options->dial);
		now = clock_ns(CLOCK_MONOTONIC);
		times[i] = now - start;
	}
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu + server_reported(report);
	wait(NULL); /* the next round's server needs the address */

	qsort(times, n, sizeof(*times), compare_times);
	printf("%.0f,%.2f,%.2f,%.2f\n", n * 1e9 / (now - begin), times[n / 2] * US,
	       times[n * 99 / 100] * US, (double)cpu / n * US);
	free(times);
}

static void parse_endpoint(const char *text, struct sockaddr_in *ret)
{
	char address[INET_ADDRSTRLEN];
	unsigned short port;

	ret->sin_family = AF_INET;
	if (sscanf(text, "%15[^:]:%hu", address, &port) != 2 ||
	    inet_pton(AF_INET, address, &ret->sin_addr) != 1)
		errx(2, "%s: not ADDRESS:PORT", text);
	ret->sin_port = htons(port);
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
	parse_endpoint(argv[optind + 2], &options.listen);
	parse_endpoint(argv[optind + 3], &options.dial);
	run(&options);
	return 0;
}
