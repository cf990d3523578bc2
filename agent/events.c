/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A ring buffer of the kernel half.
 * Reads from: shunt_events, shunt_watch.
 * Writes to: whoever listens.
 */
#include "events.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <bpf/libbpf.h>

#define EVENTS_TURN 256 /* records taken in one turn of the loop */

struct events {
	uv_poll_t poll;
	uv_timer_t timer; /* it is gathered until then */
	int open;	  /* handles */
	struct ring_buffer *ring;
	const struct events_listener *listener;
	void *user;
	unsigned taken; /* in this turn */
};

static int events_on_record(void *user, void *data, size_t size)
{
	struct events *events = user;

	if (size >= events->listener->size)
		events->listener->receive(events->user, data);
	/* The record is taken all the same; what is left wakes the loop again. */
	return ++events->taken < EVENTS_TURN ? 0 : -EAGAIN;
}

static void events_take(struct events *events)
{
	events->taken = 0;
	ring_buffer__consume(events->ring);
	if (events->listener->finish)
		events->listener->finish(events->user);
}

static void events_on_readable(uv_poll_t *poll, int status, int flags);

static void events_on_timer(uv_timer_t *timer)
{
	struct events *events = timer->data;

	events_take(events);
	uv_poll_start(&events->poll, UV_READABLE, events_on_readable);
}

/* The kernel half wakes nobody while there is a record that was not taken: as long as they are left
 * where they are, more of them cost it no more than the writing. */
static void events_on_readable(uv_poll_t *poll, int status, int flags)
{
	struct events *events = poll->data;
	bool behind = events->taken >= EVENTS_TURN;

	if (!events->listener->gather_ms || behind) {
		events_take(events);
		return;
	}
	uv_poll_stop(poll);
	uv_timer_start(&events->timer, events_on_timer, events->listener->gather_ms, 0);
}

static void events_free(struct events *events)
{
	ring_buffer__free(events->ring);
	free(events);
}

int events_new(uv_loop_t *loop, int fd, const struct events_listener *listener, void *user,
	       struct events **ret)
{
	struct events *events = calloc(1, sizeof(*events));
	int r = -ENOMEM;

	if (!events)
		return -ENOMEM;
	events->listener = listener;
	events->user = user;
	events->poll.data = events;
	events->timer.data = events;
	events->ring = ring_buffer__new(fd, events_on_record, events, NULL);
	if (events->ring)
		r = uv_poll_init(loop, &events->poll, ring_buffer__epoll_fd(events->ring));
	else
		r = -errno;
	if (r) {
		events_free(events);
		return r;
	}
	uv_timer_init(loop, &events->timer);
	events->open = 2;
	uv_poll_start(&events->poll, UV_READABLE, events_on_readable);
	*ret = events;
	return 0;
}

static void events_on_closed(uv_handle_t *handle)
{
	struct events *events = handle->data;

	if (!--events->open)
		events_free(events);
}

void events_close(struct events *events)
{
	if (!events)
		return;
	uv_close((uv_handle_t *)&events->poll, events_on_closed);
	uv_close((uv_handle_t *)&events->timer, events_on_closed);
}
