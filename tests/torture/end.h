/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One end of a connection: a socket, a reader and a writer with habits of real programs. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "board.h"
#include "plan.h"
#include "route.h"
#include "stream.h"
#include "worker.h"

enum reader_habit {
	READS_ON_LEVEL,
	READS_TO_EAGAIN,
	READS_TO_SHORT,	   /* a read that is less than was asked for is the last; as tokio */
	READS_TO_FIONREAD, /* and one that is not is the last too if FIONREAD says so; as nginx */
	READER_HABITS,
};

enum writer_habit { WRITES_ON_LEVEL, WRITES_TO_EAGAIN, WRITES_TO_SHORT };

enum crew {
	CREW_ONE,   /* a thread reads and writes */
	CREW_SPLIT, /* one reads, another writes */
	CREW_ALL,   /* all do both */
	CREWS,
};

struct reader {
	enum reader_habit habit;
	bool ready, rdhup, broken;
	atomic_bool stalled, eof;
	int available; /* what nginx calls so: -1 is unknown */
	size_t buffer;
	uint64_t stall_until, stall_at, stall_span; /* ns; bytes */
	uint64_t last;				    /* when it last got something, or woke */
	struct stream stream;
	char hello[sizeof(struct hello)];
};

struct writer {
	enum writer_habit habit;
	atomic_bool writable;
	bool message_taken, over, close_due, broken;
	struct plan plan;
	struct message message;
	uint64_t done, attempt, pause_until;
	uint64_t phases; /* after which the client says farewell */
	struct stream stream;
};

struct end {
	struct source source; /* first, for the way back */
	struct end *next_free;
	const struct route *route;
	_Atomic(struct flow *) flow; /* a server learns it from the first bytes */
	struct side *me, *peer;
	int role;
	atomic_int fd;
	atomic_bool connecting, refused;
	_Atomic uint64_t received; /* also before the flow is known */
	uint64_t max_message;
	enum crew crew;
	struct worker *workers;		 /* of the place, all of them */
	atomic_uint reads_on, writes_on; /* bits: of which threads */
	/* Whoever takes several takes them in this order. */
	pthread_mutex_t reading, writing, arming;
	uint32_t armed[WORKERS];
	struct reader reader;
	struct writer writer;
	/* Called once, when the socket is closed. */
	void (*over)(struct end *end, struct worker *worker);
	void *owner;
};

/* Of memory that is zero. */
void end_init(struct end *end, struct worker *workers);

/* Begins the client's end of @flow: connects. */
void end_connect(struct end *end, struct worker *worker, struct flow *flow, uint64_t phases);

/* Begins a server's end: @fd was accepted. */
void end_accept(struct end *end, struct worker *worker, int fd);

/* A server's end has learnt which connection it is; with @reading held. */
void end_attach(struct end *end, struct flow *flow);

/*
 * Something that must not be, unless the listener may refuse: tells it, and leaves the socket as it
 * is for the watch to look at.
 */
__attribute__((format(printf, 2, 3))) void end_fail(struct end *end, const char *format, ...);
