/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ring buffer through which the kernel half asks the agent for something. */
#pragma once

#include <uv.h>

#include "shunt/abi.h"

struct events;

/*
 * Calls @receive for each event, in turns of @loop. @fd: of the map shunt_events, borrowed. Returns
 * 0 or -errno.
 */
int events_new(uv_loop_t *loop, int fd,
	       void (*receive)(void *user, const struct shunt_event *event), void *user,
	       struct events **ret);
/* NULL-safe. The handle is closed in a later turn of the loop; @receive is not called any more. */
void events_close(struct events *events);
