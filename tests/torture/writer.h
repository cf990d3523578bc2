/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes what the plan says, by habit, in all the ways that there are. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct end;
struct worker;

/*
 * With @writing held, the socket open and the flow known; @events are what epoll said, 0 for
 * anything else. Returns whether the connection is over at this end.
 */
bool writer_run(struct end *end, struct worker *worker, uint32_t events);

/* Is there news for the writer in what was read? From any thread. */
bool writer_wakes(const struct end *end);
