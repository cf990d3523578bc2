/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The memory that all processes of a run share, and how failures are told.
 * Reads from: the clock.
 * Writes to: stderr.
 */
#include "board.h"

#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "route.h"

struct board *board;

void board_new(void)
{
	/* Pages of flows that are never begun are never touched. */
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (board == MAP_FAILED)
		err(1, "mmap");
}

struct flow *flow_new(uint64_t seed, unsigned int route, bool brief)
{
	unsigned int index = atomic_load(&board->flows);
	struct flow *flow;

	do {
		if (index == FLOWS_MAX)
			return NULL;
		flow = &board->flow[index];
	} while (!atomic_compare_exchange_weak(&board->flows, &index, index + 1));
	flow->seed = seed;
	flow->route = route;
	flow->brief = brief;
	flow->sides[CLIENT].touched = now_ns();
	flow->sides[CLIENT].state = END_CONNECTING;
	if (brief)
		atomic_fetch_add(&board->brief, 1);
	return flow;
}

unsigned int flow_index(const struct flow *flow)
{
	return flow - board->flow;
}

bool flow_over(const struct flow *flow)
{
	return flow->sides[CLIENT].state == END_CLOSED && flow->sides[SERVER].state == END_CLOSED;
}

static const char *word(const char *text)
{
	return text ? text : "-";
}

static const char *print_ago(char *text, size_t size, uint64_t then)
{
	uint64_t now = now_ns();

	if (then == 0)
		return "never";
	snprintf(text, size, "%ju ms ago", (uintmax_t)(now > then ? (now - then) / 1000000 : 0));
	return text;
}

static int print_side(char *text, size_t size, const char *name, const struct side *side)
{
	static const char *const states[] = {"not there", "connecting", "open", "closed"};
	static const char *const writers[] = {"idle", "wants bytes", "pauses", "blocked", "done"};
	char touched[40], told[40], dry[40];

	return snprintf(text, size,
			"\n    %s: %s, sent %ju, received %ju%s%s, writer %s (wants %ju), "
			"reads %s, writes %s, %s, last came on %s, was told of bytes %s, "
			"found none %s",
			name, states[side->state], (uintmax_t)side->sent, (uintmax_t)side->received,
			side->eof ? " and EOF" : "", side->stalled ? ", stalled" : "",
			writers[side->writer_state], (uintmax_t)side->wanted,
			word(side->reader_habit), word(side->writer_habit), word(side->crew),
			print_ago(touched, sizeof(touched), side->touched),
			print_ago(told, sizeof(told), side->told),
			print_ago(dry, sizeof(dry), side->dry));
}

void board_fail(const struct flow *flow, const char *format, ...)
{
	char text[4096];
	size_t len = 0;
	va_list args;

	unsigned int number = atomic_fetch_add(&board->failures, 1);

	if (number >= FAILURES_TOLD)
		return;
	board->failed[number] = flow;
	if (flow)
		len = snprintf(text, sizeof(text), "FAIL: connection %u (%s): ", flow_index(flow),
			       routes[flow->route].name);
	else
		len = snprintf(text, sizeof(text), "FAIL: ");
	va_start(args, format);
	len += vsnprintf(text + len, sizeof(text) - len, format, args);
	va_end(args);
	if (flow) {
		len += print_side(text + len, sizeof(text) - len, "client", &flow->sides[CLIENT]);
		len += print_side(text + len, sizeof(text) - len, "server", &flow->sides[SERVER]);
	}
	fprintf(stderr, "%s\n", text);
}

void atomic_raise(_Atomic uint64_t *maximum, uint64_t value)
{
	uint64_t old = *maximum;

	while (old < value && !atomic_compare_exchange_weak(maximum, &old, value))
		;
}

uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		err(1, "clock_gettime");
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}
