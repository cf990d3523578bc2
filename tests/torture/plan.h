/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The conversation on a connection. Both ends draw it from the same seed, phase after phase, so
 * each knows what it has to send, what it has to have received first, and what it will have
 * received in the end. Each phase begins with a message of the client's: by then the client has
 * decided whether it is the last.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DEPTH_MAX 16

enum message_then { THEN_GO_ON, THEN_SHUTDOWN, THEN_CLOSE };

struct message {
	int sender;
	uint64_t size;	   /* 0: only what is to be done then */
	uint64_t need;	   /* what the sender has to have received of the other's bytes before */
	uint64_t pause_us; /* and for how long it then waits */
	enum message_then then;
};

/* In bytes; 0: leave it as it is. */
struct buffers {
	int receive, send;
};

enum pace { PACE_EXCHANGE, PACE_CLIENT_STREAMS, PACE_SERVER_STREAMS, PACE_DUPLEX };

enum farewell {
	FAREWELL_CLIENT_CLOSES, /* right after its last byte */
	FAREWELL_SERVER_CLOSES,
	FAREWELL_CLIENT_HALF, /* the client shuts down, the server goes on, then closes */
	FAREWELL_SERVER_HALF,
	FAREWELL_BOTH_HALF, /* both stream, both shut down */
	FAREWELLS,
};

struct plan {
	uint64_t random, max_message;
	uint64_t planned[2]; /* bytes that each end sends up to here */
	unsigned int phase;  /* how many were begun */
	bool wait;	     /* the next phase begins when the client has all bytes of this one */
	bool closing;	     /* this phase is the last */
	struct buffers buffers; /* to be set by @resizer as this phase begins */
	int resizer;
	bool cramped; /* some receive buffer is small, and TCP slow */

	/* This phase. */
	enum pace pace;
	enum farewell farewell;
	bool half_closed, farewell_said;
	uint64_t budget;      /* bytes that it may still have */
	uint64_t sizes[2][2]; /* the smallest and the largest message of each end */
	unsigned int step, steps;
	unsigned int depth;	      /* requests in one go */
	uint64_t requests[DEPTH_MAX]; /* where they end */
	bool hasty;		      /* after a half-close the other end does not wait for it */
};

void plan_init(struct plan *plan, uint64_t seed, uint64_t max_message);

/* Begins a phase; the one before is over. */
void plan_phase(struct plan *plan, bool closing);

/* The next message of either end; false if the phase is over. */
bool plan_next(struct plan *plan, struct message *ret);
