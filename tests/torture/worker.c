/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The event loop of one thread.
 * Reads from: epoll, the clock.
 * Writes to: nothing.
 */
#include "worker.h"

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "board.h"
#include "random.h"

#define EVENTS	    64
#define DOZE_US_MIN 100
#define DOZE_US_MAX 3000

void worker_init(struct worker *worker, unsigned int index, uint64_t seed, size_t max_message)
{
	struct epoll_event event = {.events = EPOLLIN};

	*worker = (struct worker){
		.index = index,
		.epoll = epoll_create1(EPOLL_CLOEXEC),
		.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.random = seed,
		.max_message = max_message,
		.in = malloc(max_message),
		.out = malloc(max_message),
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	if (!worker->in || !worker->out || worker->epoll < 0 || worker->wake < 0 ||
	    epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->wake, &event))
		err(1, "worker");
}

static void timers_swap(struct timer *a, struct timer *b)
{
	struct timer saved = *a;

	*a = *b;
	*b = saved;
}

void worker_timer(struct worker *worker, uint64_t at, struct source *source)
{
	size_t i = worker->timers_count++;

	if (i == worker->timers_size) {
		worker->timers_size = i ? 2 * i : 64;
		worker->timers =
			reallocarray(worker->timers, worker->timers_size, sizeof(*worker->timers));
		if (!worker->timers)
			err(1, "timers");
	}
	worker->timers[i] = (struct timer){.at = at, .source = source};
	for (; i > 0 && worker->timers[i].at < worker->timers[(i - 1) / 2].at; i = (i - 1) / 2)
		timers_swap(&worker->timers[i], &worker->timers[(i - 1) / 2]);
}

static struct source *timers_take(struct worker *worker)
{
	struct timer *timers = worker->timers;
	struct source *source = timers[0].source;
	size_t i = 0, child;

	timers[0] = timers[--worker->timers_count];
	while ((child = 2 * i + 1) < worker->timers_count) {
		if (child + 1 < worker->timers_count && timers[child + 1].at < timers[child].at)
			child++;
		if (timers[i].at <= timers[child].at)
			break;
		timers_swap(&timers[i], &timers[child]);
		i = child;
	}
	return source;
}

void worker_doze(struct worker *worker)
{
	if (worker->dozes && random_one_in(&worker->random, worker->dozes))
		usleep(random_log(&worker->random, DOZE_US_MIN, DOZE_US_MAX));
}

void worker_post(struct worker *worker, struct source *source)
{
	if (atomic_exchange(&source->posted, true))
		return;
	pthread_mutex_lock(&worker->lock);
	source->next_posted = worker->posts;
	worker->posts = source;
	pthread_mutex_unlock(&worker->lock);
	if (eventfd_write(worker->wake, 1))
		err(1, "eventfd");
}

static void run_posts(struct worker *worker)
{
	struct source *source, *next;
	eventfd_t ignored;

	eventfd_read(worker->wake, &ignored);
	pthread_mutex_lock(&worker->lock);
	source = worker->posts;
	worker->posts = NULL;
	pthread_mutex_unlock(&worker->lock);
	for (; source; source = next) {
		next = source->next_posted;
		/* What is posted from now on is looked at once more. */
		atomic_store(&source->posted, false);
		source->run(source, worker, 0);
	}
}

static int timeout_ms(const struct worker *worker)
{
	uint64_t now = now_ns();

	if (worker->timers_count == 0)
		return -1;
	if (worker->timers[0].at <= now)
		return 0;
	return (worker->timers[0].at - now + 999999) / 1000000;
}

void worker_run(struct worker *worker)
{
	struct epoll_event events[EVENTS];
	int count;

	for (;;) {
		count = epoll_wait(worker->epoll, events, EVENTS, timeout_ms(worker));
		if (count < 0 && errno != EINTR)
			err(1, "epoll_wait");
		for (int i = 0; i < count; i++) {
			struct source *source = events[i].data.ptr;

			if (source)
				source->run(source, worker, events[i].events);
			else
				run_posts(worker);
		}
		while (worker->timers_count && worker->timers[0].at <= now_ns()) {
			struct source *source = timers_take(worker);

			source->run(source, worker, 0);
		}
	}
}
