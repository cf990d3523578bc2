/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Many connections at once, of all kinds, whose every byte, end and wake-up is checked.
 * Reads from: the command line.
 * Writes to: stdout, a summary; stderr, what went wrong. The exit status is 1 if anything did.
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board.h"
#include "place.h"
#include "route.h"
#include "watch.h"

#define SECOND	 1000000000ull
#define WATCH_US 200000
#define MIB	 (1024.0 * 1024.0)

struct options {
	struct place_options place;
	uint64_t seconds, patience;
	const char *teller; /* a command that knows more of a port, or NULL */
};

static void usage(FILE *file)
{
	fprintf(file,
		"usage: shunt-torture [-d SECONDS] [-c CONNECTIONS] [-b BRIEF] [-s SEED]\n"
		"         [-m MESSAGE] [-w SECONDS] [-y ONE_IN] [-x COMMAND] [-p PLACE]... [-r ROUTE]...\n"
		"  -d  how long connections are made (10), or until SIGTERM\n"
		"  -c  lasting connections at a time (200)\n"
		"  -b  brief ones beside them, one after the other (40)\n"
		"  -s  seed of all that is random (1)\n"
		"  -m  the largest message in bytes (1048576)\n"
		"  -w  how long a connection may stand still (20)\n"
		"  -y  threads doze at one in so many places where they may lose the CPU (0)\n"
		"  -x  run with the client's port, it tells more of a connection that failed\n"
		"  -p  a process: NAME[=CGROUP_DIRECTORY[,NETNS_FILE]]\n"
		"  -r  a way from one to another:\n"
		"      NAME=CLIENT,SERVER,LISTEN_ADDRESS:PORT,DIAL_ADDRESS:PORT[,late]\n"
		"      late: the server accepts late, one by one, with a backlog of 1\n"
		"Without -p and -r: two processes, and loopback over IPv4, IPv6 and mapped.\n");
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (end == text || *end || value < least || value > most)
		errx(2, "'%s' is not a number from %ju to %ju", text, (uintmax_t)least,
		     (uintmax_t)most);
	return value;
}

static void routes_default(void)
{
	static char client[] = "client", server[] = "server";
	static char texts[][80] = {
		"ipv4=client,server,127.0.0.1:17001,127.0.0.1:17001",
		"ipv6=client,server,[::1]:17002,[::1]:17002",
		"mapped=client,server,[::]:17003,[::ffff:127.0.0.1]:17003",
	};

	site_parse(client);
	site_parse(server);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		route_parse(texts[i]);
}

static void parse(int argc, char **argv, struct options *ret)
{
	struct place_options *place = &ret->place;
	int option;

	*ret = (struct options){
		.seconds = 10,
		.patience = 20,
		.place = {.seed = 1, .max_message = 1 << 20, .lasting = 200, .brief = 40},
	};
	while ((option = getopt(argc, argv, "d:c:b:s:m:w:y:x:p:r:h")) != -1) {
		switch (option) {
		case 'd':
			ret->seconds = number(optarg, 1, 1000000);
			break;
		case 'c':
			place->lasting = number(optarg, 0, 10000);
			break;
		case 'b':
			place->brief = number(optarg, 0, 10000);
			break;
		case 's':
			place->seed = number(optarg, 0, UINT64_MAX);
			break;
		case 'm':
			place->max_message = number(optarg, 1024, 64 << 20);
			break;
		case 'w':
			ret->patience = number(optarg, 1, 1000000);
			break;
		case 'y':
			place->dozes = number(optarg, 0, 1000000);
			break;
		case 'x':
			ret->teller = optarg;
			break;
		case 'p':
			site_parse(optarg);
			break;
		case 'r':
			route_parse(optarg);
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(2);
	}
	if (routes_count == 0)
		routes_default();
}

static void places_start(const struct place_options *options)
{
	int ready[2], go[2];
	pid_t parent = getpid();
	char byte;

	if (pipe(ready) || pipe(go))
		err(1, "pipe");
	for (unsigned int i = 0; i < sites_count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			close(ready[0]);
			close(go[1]);
			place_run(i, options, ready[1], go[0]);
		}
	}
	close(ready[1]);
	close(go[0]);
	for (unsigned int i = 0; i < sites_count; i++) {
		if (read(ready[0], &byte, 1) != 1)
			errx(1, "a place ended early");
	}
	close(ready[0]);
	close(go[1]);
}

static volatile sig_atomic_t told_to_stop;

static void see_signal(int signal)
{
	(void)signal;
	told_to_stop = true;
}

/* Returns false if it failed. */
static bool watch(const struct options *options)
{
	uint64_t end = now_ns() + options->seconds * SECOND;
	bool any = true;

	while (any && board->failures == 0) {
		usleep(WATCH_US);
		if (now_ns() >= end || told_to_stop)
			board->stop = true;
		any = watch_flows(options->patience * SECOND) || !board->stop;
		if (waitpid(-1, NULL, WNOHANG) != 0)
			board_fail(NULL, "a place ended");
	}
	return board->failures == 0;
}

static void summarise(uint64_t began)
{
	const struct flow *peak = &board->flow[board->peak.flow];

	printf("connections       %u, of which %u brief\n", board->flows, board->brief);
	printf("never established %u, where the server accepts late\n", board->dropped);
	printf("bytes             %ju, all of them right\n", (uintmax_t)board->bytes);
	printf("messages          %ju\n", (uintmax_t)board->messages);
	printf("writers blocked   %ju times\n", (uintmax_t)board->blocked);
	printf("readers stalled   %ju times\n", (uintmax_t)board->stalls);
	printf("writers paused    %ju times\n", (uintmax_t)board->pauses);
	printf("peeks             %ju\n", (uintmax_t)board->peeks);
	printf("half-closes       %u\n", board->half_closes);
	printf("buffers resized   %u times\n", board->resizes);
	printf("slowest EOF       %.3f ms after it was due\n", board->eof_delay / 1e6);
	printf("most on its way   %.2f MiB to a reader that had stalled (%s)\n",
	       board->peak.bytes / MIB, routes[peak->route].name);
	printf("seconds           %.1f\n", (now_ns() - began) / 1e9);
}

int main(int argc, char **argv)
{
	struct rlimit files = {20000, 20000};
	struct options options;
	uint64_t began;
	bool right;

	parse(argc, argv, &options);
	setrlimit(RLIMIT_NOFILE, &files);
	board_new();
	places_start(&options.place);
	signal(SIGTERM, see_signal);
	began = now_ns();
	right = watch(&options);
	if (right)
		summarise(began);
	else
		watch_report(options.teller);
	fflush(stdout);
	return right ? 0 : 1;
}
