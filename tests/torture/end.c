/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of one end of a connection: who looks at it, when, and until when.
 * Reads from: the socket's state.
 * Writes to: the board.
 */
#include "end.h"

#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "random.h"
#include "reader.h"
#include "writer.h"

static const char *const reader_habits[] = {"on level", "to EAGAIN", "to a short read",
					    "to FIONREAD"};
static const char *const writer_habits[] = {"on level", "to EAGAIN", "to a short write"};
static const char *const crews[] = {"one thread", "a thread for each way", "all threads"};

static void draw_habits(struct end *end, struct worker *worker)
{
	uint64_t *random = &worker->random;
	unsigned int other = (worker->index + 1) % WORKERS;
	struct writer *writer = &end->writer;
	struct reader *reader = &end->reader;

	/* Both habits are of the edge or both of the level, where one registration serves both. */
	reader->habit = random_below(random, READER_HABITS);
	writer->habit = reader->habit == READS_ON_LEVEL ? WRITES_ON_LEVEL
			: random_one_in(random, 2)	? WRITES_TO_EAGAIN
							: WRITES_TO_SHORT;
	reader->buffer = random_log(random, 256, 256 << 10);
	reader->stall_span = random_one_in(random, 4) ? 1 << 20 : 4 << 20;
	if (reader->buffer > end->max_message)
		reader->buffer = end->max_message;

	end->crew = random_one_in(random, 2) ? CREW_ONE : random_below(random, CREWS);
	end->reads_on = end->writes_on = 1u << worker->index;
	if (end->crew == CREW_SPLIT) {
		end->writes_on = 1u << other;
		if (random_one_in(random, 4))
			writer->habit = WRITES_ON_LEVEL;
	} else if (end->crew == CREW_ALL) {
		end->reads_on = end->writes_on = (1u << WORKERS) - 1;
	}
}

void end_attach(struct end *end, struct flow *flow)
{
	end->me = &flow->sides[end->role];
	end->peer = &flow->sides[!end->role];
	end->me->reader_habit = reader_habits[end->reader.habit];
	end->me->writer_habit = writer_habits[end->writer.habit];
	end->me->crew = crews[end->crew];
	end->me->pid = getpid();
	end->me->fd = end->fd;
	end->me->touched = now_ns();
	if (end->role == SERVER)
		end->me->state = END_OPEN;
	stream_init(&end->reader.stream, flow_index(flow), flow->seed, !end->role);
	stream_init(&end->writer.stream, flow_index(flow), flow->seed, end->role);
	plan_init(&end->writer.plan, flow->seed, end->max_message);
	/* The writer's thread may be another; it has to be told, and from here on may begin. */
	end->me->writer_state = WRITER_WANTS_BYTES;
	end->flow = flow;
}

static uint32_t wanted_events(const struct end *end, unsigned int index)
{
	bool reads = end->reads_on & 1u << index, writes = end->writes_on & 1u << index;
	uint32_t events = 0;

	if (reads && end->reader.habit != READS_ON_LEVEL)
		events |= EPOLLIN | EPOLLRDHUP | EPOLLET;
	else if (reads && !end->reader.stalled && !end->reader.eof)
		events |= EPOLLIN;
	if (writes && end->writer.habit != WRITES_ON_LEVEL)
		events |= EPOLLOUT | EPOLLET;
	else if (writes && (end->connecting || !end->writer.writable))
		events |= EPOLLOUT;
	return events;
}

/* Has the events told that it waits for; none, where it waits for none. */
static void arm(struct end *end)
{
	pthread_mutex_lock(&end->arming);
	for (unsigned int i = 0; i < WORKERS && end->fd >= 0; i++) {
		uint32_t wanted = wanted_events(end, i), armed = end->armed[i];
		struct epoll_event event = {.events = wanted, .data.ptr = &end->source};
		int op = armed == 0 ? EPOLL_CTL_ADD : wanted ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

		if (wanted == armed)
			continue;
		if (epoll_ctl(end->workers[i].epoll, op, end->fd, &event))
			err(1, "epoll_ctl");
		end->armed[i] = wanted;
	}
	pthread_mutex_unlock(&end->arming);
}

static void end_lock(struct end *end)
{
	pthread_mutex_lock(&end->reading);
	pthread_mutex_lock(&end->writing);
	pthread_mutex_lock(&end->arming);
}

static void end_unlock(struct end *end)
{
	pthread_mutex_unlock(&end->arming);
	pthread_mutex_unlock(&end->writing);
	pthread_mutex_unlock(&end->reading);
}

static void end_close(struct end *end, struct worker *worker)
{
	struct writer *writer = &end->writer;
	bool is_over;

	end_lock(end);
	is_over = end->fd >= 0 && writer->over && (writer->close_due || end->reader.eof) &&
		  !writer->broken && !end->reader.broken;
	if (is_over && end->received != writer->plan.planned[!end->role])
		end_fail(end, "closes after %ju bytes of %ju", (uintmax_t)end->received,
			 (uintmax_t)writer->plan.planned[!end->role]);
	if (is_over) {
		if (end->me->fin_at == 0)
			end->me->fin_at = now_ns();
		end->me->fd = -1;
		close(end->fd);
		end->fd = -1;
		end->me->touched = now_ns();
		end->me->state = END_CLOSED;
		atomic_fetch_add(&board->bytes, end->received);
	}
	end_unlock(end);
	if (is_over)
		end->over(end, worker);
}

/* A listener whose queue is full may reset a client that believes to be connected. */
static bool may_be_refused(const struct end *end)
{
	return end->route->late && end->role == CLIENT && end->received == 0 &&
	       end->peer->state == END_NONE;
}

void end_fail(struct end *end, const char *format, ...)
{
	char text[1024];
	va_list args;

	if (may_be_refused(end)) {
		end->refused = true;
		return;
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (end->flow)
		board_fail(end->flow, "%s: %s", end->role == CLIENT ? "client" : "server", text);
	else
		board_fail(NULL, "%s: a server that does not know its client yet: %s",
			   end->route->name, text);
}

static void end_drop(struct end *end, struct worker *worker)
{
	struct flow *flow = end->flow;
	bool was_open;

	end_lock(end);
	was_open = end->fd >= 0 && end->refused;
	if (was_open) {
		close(end->fd);
		end->me->fd = end->fd = -1;
		atomic_fetch_add(&board->dropped, 1);
		flow->sides[CLIENT].state = flow->sides[SERVER].state = END_CLOSED;
	}
	end_unlock(end);
	if (was_open)
		end->over(end, worker);
}

/* Has the socket just become connected? */
static void end_see_connected(struct end *end, uint32_t events)
{
	socklen_t size = sizeof(int);
	int error = 0;
	bool now;

	if (!end->connecting || !(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		return;
	pthread_mutex_lock(&end->arming);
	now = end->connecting;
	if (now && getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &size))
		err(1, "SO_ERROR");
	if (now && error == 0) {
		end->me->touched = now_ns();
		end->me->state = END_OPEN;
		end->connecting = false;
	}
	pthread_mutex_unlock(&end->arming);
	if (error)
		end_fail(end, "connect: %s", strerror(error));
}

static bool is_connected(const struct end *end)
{
	return end->fd >= 0 && !end->connecting;
}

static bool reads(const struct end *end, const struct worker *worker)
{
	return is_connected(end) && end->reads_on & 1u << worker->index;
}

static bool writes(const struct end *end, const struct worker *worker)
{
	return is_connected(end) && end->flow && end->writes_on & 1u << worker->index;
}

/* Where it takes and gives locks: now and then lets others be faster, while an end is new or about
 * to be closed. */
static void doze(const struct end *end, struct worker *worker)
{
	if (end->received == 0 || end->reader.eof)
		worker_doze(worker);
}

/*
 * A thread that was slow to take the lock may find the next connection under it. So it asks again
 * whether this is for it: who wrote before it is known that the end is connected would have the
 * reader told of the answer before, and not again; who pauses or stalls in the other's place would
 * wake up for nothing.
 */
static void end_run(struct source *source, struct worker *worker, uint32_t events)
{
	struct end *end = (struct end *)source;
	bool closes = false;

	if (events & EPOLLIN && end->flow)
		end->me->told = now_ns();
	if (end->fd >= 0)
		end_see_connected(end, events);
	if (reads(end, worker)) {
		doze(end, worker);
		pthread_mutex_lock(&end->reading);
		if (reads(end, worker))
			reader_run(end, worker, events);
		pthread_mutex_unlock(&end->reading);
		doze(end, worker);
	}
	if (writes(end, worker)) {
		doze(end, worker);
		pthread_mutex_lock(&end->writing);
		if (writes(end, worker))
			closes = writer_run(end, worker, events);
		pthread_mutex_unlock(&end->writing);
		doze(end, worker);
	} else if (is_connected(end) && end->flow && writer_wakes(end)) {
		worker_post(&end->workers[__builtin_ctz(end->writes_on)], &end->source);
	}
	if (closes)
		end_close(end, worker);
	if (end->refused)
		end_drop(end, worker);
	arm(end);
}

void end_init(struct end *end, struct worker *workers)
{
	end->source.run = end_run;
	end->fd = -1;
	end->workers = workers;
	pthread_mutex_init(&end->reading, NULL);
	pthread_mutex_init(&end->writing, NULL);
	pthread_mutex_init(&end->arming, NULL);
}

/* An end is used again, and a thread may still look at it because of what it was before. */
static void end_reset(struct end *end, struct worker *worker, int role)
{
	end->flow = NULL;
	end->role = role;
	end->refused = false;
	end->received = 0;
	end->max_message = worker->max_message;
	memset(end->armed, 0, sizeof(end->armed));
	end->reader = (struct reader){.available = -1, .last = now_ns()};
	end->writer = (struct writer){.writable = true};
	draw_habits(end, worker);
	reader_draw_stall(end, worker);
}

static void set_nodelay(int fd, uint64_t *random)
{
	int on = random_below(random, 2);

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		err(1, "TCP_NODELAY");
}

void end_connect(struct end *end, struct worker *worker, struct flow *flow, uint64_t phases)
{
	const struct sockaddr_in6 *dial = &end->route->dial;
	int fd = socket(dial->sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		err(1, "socket");
	set_nodelay(fd, &worker->random);
	/* Before others see it: what they do to a socket that nobody connects yet is an error. */
	if (connect(fd, (const struct sockaddr *)dial, address_size(dial)) && errno != EINPROGRESS)
		error = errno;
	end_lock(end);
	end_reset(end, worker, CLIENT);
	end->writer.phases = phases;
	end->connecting = true;
	end->fd = fd;
	end_attach(end, flow);
	end_unlock(end);
	if (error)
		end_fail(end, "connect: %s", strerror(error));
	arm(end);
}

void end_accept(struct end *end, struct worker *worker, int fd)
{
	set_nodelay(fd, &worker->random);
	end_lock(end);
	end_reset(end, worker, SERVER);
	end->fd = fd;
	end_unlock(end);
	arm(end);
}
