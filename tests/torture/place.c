/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Listeners, and the connections that come and go.
 * Reads from: the routes.
 * Writes to: cgroup.procs.
 */
#include "place.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "board.h"
#include "end.h"
#include "random.h"
#include "worker.h"

#define BACKLOG		1024
#define LATE_BACKLOG	1
#define LATE_NS_MAX	200000000
/* More, and those that are turned away meet each other again each time that they try. */
#define LATE_SLOTS	5
#define REST_NS_MIN	10000
#define REST_NS_MAX	100000000
#define BRIEF_PHASES	4
#define LASTING_PHASES	200
#define ACCEPTS_AT_ONCE 16

struct listener {
	struct source source;
	const struct route *route;
	int fd;
};

/* Where one connection follows the other. */
struct slot {
	struct source source;
	unsigned int route;
	bool brief;
	struct end *end;
};

static struct worker workers[WORKERS];
static pthread_mutex_t free_lock = PTHREAD_MUTEX_INITIALIZER;
static struct end *free_ends;

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

static void enter_netns(const char *netns)
{
	int fd = open(netns, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "%s", netns);
	close(fd);
}

static struct end *end_take(void)
{
	struct end *end;

	pthread_mutex_lock(&free_lock);
	end = free_ends;
	if (end)
		free_ends = end->next_free;
	pthread_mutex_unlock(&free_lock);
	if (!end) {
		end = calloc(1, sizeof(*end));
		if (!end)
			err(1, "calloc");
		end_init(end, workers);
	}
	return end;
}

static void end_give(struct end *end)
{
	pthread_mutex_lock(&free_lock);
	end->next_free = free_ends;
	free_ends = end;
	pthread_mutex_unlock(&free_lock);
}

static void served(struct end *end, struct worker *worker)
{
	(void)worker;
	end_give(end);
}

static void accept_one(struct listener *listener, struct worker *worker, bool *ret_more)
{
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct end *end;

	*ret_more = fd >= 0;
	if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
		err(1, "accept");
	if (fd < 0)
		return;
	end = end_take();
	end->route = listener->route;
	end->over = served;
	end_accept(end, worker, fd);
}

static void listener_arm(struct listener *listener, struct worker *worker, int op)
{
	struct epoll_event event = {
		.events = EPOLLIN | (listener->route->late ? EPOLLONESHOT : 0),
		.data.ptr = &listener->source,
	};

	if (epoll_ctl(worker->epoll, op, listener->fd, &event))
		err(1, "epoll_ctl");
}

/* One that is late accepts one connection, and looks for the next some time after. */
static void listener_run(struct source *source, struct worker *worker, uint32_t events)
{
	struct listener *listener = (struct listener *)source;
	bool more = true;

	if (listener->route->late) {
		if (events) {
			worker_timer(worker, now_ns() + random_log(&worker->random, 1, LATE_NS_MAX),
				     source);
			return;
		}
		accept_one(listener, worker, &more);
		listener_arm(listener, worker, EPOLL_CTL_MOD);
		return;
	}
	for (int i = 0; i < ACCEPTS_AT_ONCE && more; i++)
		accept_one(listener, worker, &more);
}

static void listener_start(const struct route *route, struct worker *worker)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int on = 1;

	if (!listener)
		err(1, "calloc");
	listener->source.run = listener_run;
	listener->route = route;
	listener->fd =
		socket(route->listen.sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0 ||
	    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(listener->fd, (const struct sockaddr *)&route->listen,
		 address_size(&route->listen)) ||
	    listen(listener->fd, route->late ? LATE_BACKLOG : BACKLOG))
		err(1, "%s: listen", route->name);
	listener_arm(listener, worker, EPOLL_CTL_ADD);
}

static void slot_over(struct end *end, struct worker *worker)
{
	struct slot *slot = end->owner;

	worker_timer(worker, now_ns() + random_log(&worker->random, REST_NS_MIN, REST_NS_MAX),
		     &slot->source);
}

static void slot_run(struct source *source, struct worker *worker, uint32_t events)
{
	struct slot *slot = (struct slot *)source;
	uint64_t phases = UINT64_MAX;
	struct flow *flow;

	(void)events;
	if (board->stop)
		return;
	flow = flow_new(random_next(&worker->random), slot->route, slot->brief);
	if (!flow)
		return;
	if (slot->brief)
		phases = random_log(&worker->random, 1, BRIEF_PHASES);
	else if (random_one_in(&worker->random, 4))
		phases = random_log(&worker->random, 1, LASTING_PHASES);
	end_connect(slot->end, worker, flow, phases);
}

static void slot_start(unsigned int route, bool brief, struct worker *worker)
{
	struct slot *slot = calloc(1, sizeof(*slot));

	if (!slot)
		err(1, "calloc");
	slot->source.run = slot_run;
	slot->route = route;
	slot->brief = brief;
	slot->end = end_take();
	slot->end->route = &routes[route];
	slot->end->over = slot_over;
	slot->end->owner = slot;
	worker_timer(worker, now_ns() + random_log(&worker->random, REST_NS_MIN, REST_NS_MAX),
		     &slot->source);
}

/* In turn, but for no more than LATE_SLOTS on one that is late. */
static unsigned int slot_route(unsigned int slot)
{
	unsigned int route = slot % routes_count;

	if (slot / routes_count < LATE_SLOTS)
		return route;
	for (unsigned int i = 0; i < routes_count && routes[route].late; i++)
		route = (route + 1) % routes_count;
	return route;
}

static void slots_start(unsigned int index, unsigned int count, bool brief)
{
	for (unsigned int i = 0; i < count; i++) {
		unsigned int route = slot_route(i);

		if (routes[route].client == index)
			slot_start(route, brief, &workers[i / routes_count % WORKERS]);
	}
}

static void *worker_main(void *worker)
{
	worker_run(worker);
}

void place_run(unsigned int index, const struct place_options *options, int ready, int go)
{
	const struct site *site = &sites[index];
	pthread_t thread;
	char byte = 0;

	signal(SIGPIPE, SIG_IGN);
	if (site->cgroup)
		enter_cgroup(site->cgroup);
	if (site->netns)
		enter_netns(site->netns);
	for (unsigned int i = 0; i < WORKERS; i++) {
		worker_init(&workers[i], i, random_mix(options->seed + index * WORKERS + i),
			    options->max_message);
		workers[i].dozes = options->dozes;
	}
	for (unsigned int i = 0; i < routes_count; i++) {
		if (routes[i].server == index)
			listener_start(&routes[i], &workers[i % WORKERS]);
	}
	if (write(ready, &byte, 1) != 1)
		err(1, "write");
	if (read(go, &byte, 1) != 0)
		errx(1, "the run does not begin");
	slots_start(index, options->lasting, false);
	slots_start(index, options->brief, true);
	for (unsigned int i = 1; i < WORKERS; i++) {
		errno = pthread_create(&thread, NULL, worker_main, &workers[i]);
		if (errno)
			err(1, "pthread_create");
	}
	worker_run(&workers[0]);
}
