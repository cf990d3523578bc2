/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A process of a run: it serves the routes that end in it and dials those that begin there. */
#pragma once

#include <stdint.h>

struct place_options {
	uint64_t seed, max_message;
	unsigned int lasting, brief; /* connections at a time, of all routes together */
	unsigned int dozes;	     /* see struct worker */
};

/*
 * Runs the place number @index: says on @ready that it listens, and dials once @go ends. Ends with
 * its parent.
 */
void place_run(unsigned int index, const struct place_options *options, int ready, int go)
	__attribute__((noreturn));
