/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ring buffer of the kernel half.
 * Reads from: shunt_events.
 * Writes to: whoever listens.
 */
#include "events.h"

#include <errno.h>
#include <stdlib.h>

#include <bpf/libbpf.h>

struct events {
	uv_poll_t poll;
	struct ring_buffer *ring;
	void (*receive)(void *user, const struct shunt_event *event);
	void *user;
};

static int events_on_record(void *user, void *data, size_t size)
{
	struct events *events = user;

	if (size >= sizeof(struct shunt_event))
		events->receive(events->user, data);
	return 0;
}

static void events_on_readable(uv_poll_t *poll, int status, int flags)
{
	struct events *events = poll->data;

	ring_buffer__consume(events->ring);
}

static void events_free(struct events *events)
{
	ring_buffer__free(events->ring);
	free(events);
}

int events_new(uv_loop_t *loop, int fd,
	       void (*receive)(void *user, const struct shunt_event *event), void *user,
	       struct events **ret)
{
	struct events *events = calloc(1, sizeof(*events));
	int r = -ENOMEM;

	if (!events)
		return -ENOMEM;
	events->receive = receive;
	events->user = user;
	events->poll.data = events;
	events->ring = ring_buffer__new(fd, events_on_record, events, NULL);
	if (events->ring)
		r = uv_poll_init(loop, &events->poll, ring_buffer__epoll_fd(events->ring));
	else
		r = -errno;
	if (r) {
		events_free(events);
		return r;
	}
	uv_poll_start(&events->poll, UV_READABLE, events_on_readable);
	*ret = events;
	return 0;
}

static void events_on_closed(uv_handle_t *handle)
{
	events_free(handle->data);
}

void events_close(struct events *events)
{
	if (events)
		uv_close((uv_handle_t *)&events->poll, events_on_closed);
}
