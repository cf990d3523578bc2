/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all processes of a run share: the connections, with what each of their ends knows, and the
 * totals. What one end must have seen is what the other says here that it sent.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOWS_MAX (1u << 20)

/* The first tell the story; a thousand more do not. */
#define FAILURES_TOLD 20

enum { CLIENT, SERVER };

/* The writer's reason not to write. */
enum writer_state { WRITER_IDLE, WRITER_WANTS_BYTES, WRITER_PAUSES, WRITER_BLOCKED, WRITER_DONE };

enum end_state { END_NONE, END_CONNECTING, END_OPEN, END_CLOSED };

/* One end of a connection, written by the process that has it. */
struct side {
	_Atomic uint64_t sent, received;
	_Atomic uint64_t wanted;  /* bytes to be received before the writer goes on */
	_Atomic uint64_t touched; /* when it last came on, in ns */
	_Atomic uint64_t told;	  /* when an event last said that there is something to read */
	_Atomic uint64_t dry;	  /* when a read last found nothing */
	_Atomic uint64_t fin_at;  /* when it said that it has sent all, in ns */
	atomic_int state, writer_state;
	atomic_bool stalled, eof;
	atomic_int pid, fd;
	/* Literals: at the same address in all processes, as none executes another program. */
	_Atomic(const char *) reader_habit, writer_habit, crew;
};

struct flow {
	uint64_t seed;
	unsigned int route;
	bool brief;
	/* 1 + the number of the last phase, once the client has decided on it. */
	_Atomic uint64_t closing;
	struct side sides[2];
};

struct peak {
	_Atomic uint64_t bytes;
	atomic_uint flow;
};

struct board {
	atomic_bool stop; /* no new connections, and those that there are come to their end */
	atomic_uint failures;
	_Atomic(const struct flow *) failed[FAILURES_TOLD]; /* NULL: another kind of failure */
	atomic_uint flows;				    /* how many of @flow were begun */
	atomic_uint dropped; /* of these, never established, where that may be */
	atomic_uint brief, half_closes, resizes;
	_Atomic uint64_t bytes, messages, stalls, pauses, peeks, blocked;
	_Atomic uint64_t eof_delay; /* the longest wait for an EOF that was due, in ns */
	struct peak peak;	    /* the most that was on its way to a reader that had stalled */
	struct flow flow[FLOWS_MAX];
};

extern struct board *board;

void board_new(void);

/* A flow for @seed, or NULL if there were FLOWS_MAX. */
struct flow *flow_new(uint64_t seed, unsigned int route, bool brief);
unsigned int flow_index(const struct flow *flow);
bool flow_over(const struct flow *flow);

/* Counts a failure, and says on stderr what it is and how the ends of @flow, if not NULL, are. */
__attribute__((format(printf, 2, 3))) void board_fail(const struct flow *flow, const char *format,
						      ...);
void atomic_raise(_Atomic uint64_t *maximum, uint64_t value);
uint64_t now_ns(void);
