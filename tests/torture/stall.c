/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much a writer gets accepted whose reader does not read, and how soon it can go on when the
 * reader does. Two processes, in a cgroup each, and between them a connection for each size of
 * write. Reads from: the clock. Writes to: cgroup.procs of the two cgroups; stdout, a line
 * "BUFFER,WRITE,ACCEPTED,RESUMED_US" for each buffer size (0 is the default) and size of write.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE (64 << 10)
#define SETTLE_NS 500000000ull /* EAGAIN for so long means that it stays */
#define REFILL_NS 50000000ull  /* the same, where it is known to be near */
#define RESUMES	  7
#define FILLS	  4 /* plain TCP accepts now less, now more */
#define REPEATED  1 /* index in @sizes: smaller writes take seconds to fill a buffer */

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const int buffers[] = {0, 16 << 10, 64 << 10, 256 << 10, 1 << 20};
static const size_t sizes[] = {1, 100, 512, 4096, 65536, 1 << 20};

/* What the writer and the reader of a connection tell each other. */
struct wire {
	_Atomic uint64_t accepted, received;
	_Atomic uint64_t resumed_at;
	atomic_bool reads; /* the reader is to read until it has all that was accepted */
};

static struct wire *wires; /* one for each of @sizes */
static char scratch[1 << 20];

static uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		err(1, "clock_gettime");
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void enter_cgroup(const char *cgroup)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		err(1, "%s", path);
	close(fd);
}

static void set_buffers(int fd, int size)
{
	if (size == 0)
		return;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)))
		err(1, "setsockopt");
}

static void await(int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};

	while (poll(&poll_fd, 1, -1) != 1) {
		if (errno != EINTR)
			err(1, "poll");
	}
}

/* A byte there and a byte back: both ends are accepted, awake, and known to be. */
static void greet(int fd, bool first)
{
	char byte = 0;

	if (first && write(fd, &byte, 1) != 1)
		err(1, "write");
	await(fd, POLLIN);
	if (read(fd, &byte, 1) != 1)
		err(1, "read");
	if (!first && write(fd, &byte, 1) != 1)
		err(1, "write");
}

/* Reads what there is, and what comes, until told that this is all. */
static void drain(int fd, struct wire *wire)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	static char buffer[READ_SIZE];
	ssize_t n;

	wire->resumed_at = now_ns();
	while (wire->reads || wire->received < wire->accepted) {
		n = read(fd, buffer, sizeof(buffer));
		if (n > 0)
			wire->received += n;
		else if (n == 0 || errno != EAGAIN)
			err(1, "read");
		else
			poll(&poll_fd, 1, 1);
	}
}

static int listener_open(int buffer, struct sockaddr_in *ret_address)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(address);

	set_buffers(fd, buffer);
	if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, COUNT(sizes)) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		err(1, "listen");
	*ret_address = address;
	return fd;
}

/*
 * Says on @done where it listens, and greets; then reads a connection whenever its number comes on
 * @orders, and says on @done when it has all.
 */
static void reader_run(int buffer, const char *cgroup, int orders, int done)
{
	struct sockaddr_in address;
	unsigned char number;
	int fds[COUNT(sizes)], listener;

	enter_cgroup(cgroup);
	listener = listener_open(buffer, &address);
	if (write(done, &address, sizeof(address)) != sizeof(address))
		err(1, "write");
	for (size_t i = 0; i < COUNT(sizes); i++) {
		await(listener, POLLIN);
		fds[i] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fds[i] < 0)
			err(1, "accept");
		greet(fds[i], false);
	}
	while (read(orders, &number, 1) == 1) {
		drain(fds[number], &wires[number]);
		if (write(done, &number, 1) != 1)
			err(1, "write");
	}
}

/* Returns whether anything was accepted. */
static bool fill(int fd, size_t i)
{
	bool any = false;
	ssize_t n;

	while ((n = write(fd, scratch, sizes[i])) >= 0) {
		wires[i].accepted += n;
		any = true;
	}
	if (errno != EAGAIN)
		err(1, "write");
	return any;
}

/* Fills the connections @from to @to, until none has accepted a byte for @settle ns. */
static void fill_all(const int *fds, size_t from, size_t to, uint64_t settle)
{
	struct pollfd poll_fds[COUNT(sizes)];
	uint64_t last = now_ns(), now;

	for (size_t i = from; i < to; i++)
		poll_fds[i] = (struct pollfd){.fd = fds[i], .events = POLLOUT};
	while ((now = now_ns()) < last + settle) {
		for (size_t i = from; i < to; i++) {
			if (fill(fds[i], i))
				last = now_ns();
		}
		poll(poll_fds + from, to - from, 1 + (last + settle - now) / 1000000);
	}
}

static void order(int orders, size_t i)
{
	unsigned char number = i;

	wires[i].reads = true;
	if (write(orders, &number, 1) != 1)
		err(1, "write");
}

/* Returns whether it was the reader's first read that let a write succeed, and how long that took:
 * what TCP had put off, a retransmission, may have made room before. */
static bool resume(int fd, size_t i, int orders, int done, uint64_t *ret_time)
{
	unsigned char number;
	uint64_t resumed;
	ssize_t n;

	order(orders, i);
	do {
		await(fd, POLLOUT);
		n = write(fd, scratch, sizes[i]);
	} while (n < 0 && errno == EAGAIN);
	if (n < 0)
		err(1, "write");
	resumed = now_ns();
	wires[i].accepted += n;
	wires[i].reads = false;
	if (read(done, &number, 1) != 1)
		errx(1, "the reader ended");
	*ret_time = resumed - wires[i].resumed_at;
	return resumed >= wires[i].resumed_at;
}

static int compare_times(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static double resume_median(const int *fds, size_t i, int orders, int done)
{
	size_t count = i < REPEATED ? 1 : RESUMES;
	uint64_t times[RESUMES];

	for (size_t k = 0; k < count; k++) {
		if (k > 0)
			fill_all(fds, i, i + 1, REFILL_NS);
		while (!resume(fds[i], i, orders, done, &times[k]))
			fill_all(fds, i, i + 1, SETTLE_NS);
	}
	qsort(times, count, sizeof(*times), compare_times);
	return times[count / 2] / 1e3;
}

static int dial(const struct sockaddr_in *address, int buffer)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	set_buffers(fd, buffer);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) && errno != EINPROGRESS)
		err(1, "connect");
	await(fd, POLLOUT);
	greet(fd, true);
	return fd;
}

/* The reader dies with its writer, and ends when there are no more orders. */
static void reader_start(int buffer, const char *cgroup, int *ret_orders, int *ret_done)
{
	int orders[2], done[2];
	pid_t parent = getpid(), pid;

	if (pipe2(orders, O_CLOEXEC) || pipe2(done, O_CLOEXEC))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(orders[1]);
		close(done[0]);
		reader_run(buffer, cgroup, orders[0], done[1]);
		_exit(0);
	}
	close(orders[0]);
	close(done[1]);
	*ret_orders = orders[1];
	*ret_done = done[0];
}

/* Opens a connection for each of @sizes, and fills those from @from on. */
static void measure(int buffer, const char *reader_cgroup, size_t from, bool resumes)
{
	int fds[COUNT(sizes)], orders, done;
	uint64_t accepted[COUNT(sizes)];
	struct sockaddr_in address;

	memset(wires, 0, COUNT(sizes) * sizeof(*wires));
	reader_start(buffer, reader_cgroup, &orders, &done);
	if (read(done, &address, sizeof(address)) != sizeof(address))
		errx(1, "the reader does not listen");
	for (size_t i = 0; i < COUNT(sizes); i++)
		fds[i] = dial(&address, buffer);
	fill_all(fds, from, COUNT(sizes), SETTLE_NS);
	for (size_t i = from; i < COUNT(sizes); i++)
		accepted[i] = wires[i].accepted;
	for (size_t i = from; i < COUNT(sizes); i++) {
		printf("%d,%zu,%ju,", buffer, sizes[i], (uintmax_t)accepted[i]);
		if (resumes)
			printf("%.1f", resume_median(fds, i, orders, done));
		printf("\n");
	}
	for (size_t i = 0; i < COUNT(sizes); i++)
		close(fds[i]);
	close(orders);
	close(done);
	wait(NULL);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: shunt-stall WRITER_CGROUP READER_CGROUP");
	wires = mmap(NULL, COUNT(sizes) * sizeof(*wires), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (wires == MAP_FAILED)
		err(1, "mmap");
	enter_cgroup(argv[1]);
	for (size_t i = 0; i < COUNT(buffers); i++) {
		measure(buffers[i], argv[2], 0, true);
		for (int k = 1; k < FILLS; k++)
			measure(buffers[i], argv[2], REPEATED, false);
	}
	return 0;
}
