/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A ring buffer through which the kernel half asks the agent for something, or tells it. */
#pragma once

#include <stddef.h>
#include <uv.h>

struct events;

struct events_listener {
	size_t size; /* of a record, at the least */
	void (*receive)(void *user, const void *record);
	void (*finish)(void *user); /* after some were received; may be NULL */
	unsigned int gather_ms;	    /* who can wait for so long is woken once for all that comes */
};

/*
 * Calls @listener, which outlives it, for each record, in turns of @loop. @fd: of the map,
 * borrowed. Returns 0 or -errno.
 */
int events_new(uv_loop_t *loop, int fd, const struct events_listener *listener, void *user,
	       struct events **ret);
/* NULL-safe. The handle is closed in a later turn of the loop; nothing is received any more. */
void events_close(struct events *events);
