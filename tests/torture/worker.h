/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A thread of a place: an epoll set, timers, and what other threads want it to look at. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define WORKERS 2

struct worker;

/*
 * What can be looked at: because of an event, a timer or another thread. It never goes away, so
 * that an event which is late finds it, and then finds nothing to do.
 */
struct source {
	void (*run)(struct source *source, struct worker *worker, uint32_t events);
	atomic_bool posted;
	struct source *next_posted;
};

struct timer {
	uint64_t at;
	struct source *source;
};

struct worker {
	unsigned int index;
	int epoll, wake;
	uint64_t random;
	unsigned int dozes; /* at one in so many places where it may; 0: never */
	char *in, *out;	    /* of max_message bytes, for one call each */
	size_t max_message;
	struct timer *timers; /* a heap */
	size_t timers_count, timers_size;
	pthread_mutex_t lock;
	struct source *posts;
};

void worker_init(struct worker *worker, unsigned int index, uint64_t seed, size_t max_message);
void worker_run(struct worker *worker) __attribute__((noreturn));

/* Looks at @source at the time @at; only from @worker's own thread, or before that runs. */
void worker_timer(struct worker *worker, uint64_t at, struct source *source);

/* Lets other threads be faster now and then, where @worker holds no lock. */
void worker_doze(struct worker *worker);

/* Looks at @source soon, from any thread. */
void worker_post(struct worker *worker, struct source *source);
