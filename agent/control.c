/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control: who may be a client, and how many.
 * Reads from: the control socket.
 * Writes to: its clients.
 */
#include "control_client.h"

#include <errno.h>
#include <sys/socket.h>

#include "control_answer.h"
#include "util/cleanup.h"

#define RETRY_MS 1000 /* until the next try when a connection could not be accepted */

void control_unref(struct control *control)
{
	if (--control->refs == 0)
		free(control);
}

/* The socket of a new connection is empty: one short line always fits. */
static void refuse(int fd, const char *error)
{
	size_t len;
	_cleanup_free_ char *answer = control_answer_error(error, &len);

	if (answer)
		send(fd, answer, len, MSG_NOSIGNAL);
	close(fd);
}

static void control_admit(struct control *control, int fd)
{
	size_t i = 0;

	if (!control_socket_admits(&control->socket, fd)) {
		refuse(fd, "permission denied: root and group " SHUNT_GROUP " may");
		return;
	}
	while (i < ARRAY_SIZE(control->clients) && control->clients[i])
		i++;
	if (i == ARRAY_SIZE(control->clients))
		refuse(fd, "too many connections are open; try again");
	else if (control_client_new(control, &control->clients[i], fd) < 0)
		close(fd);
}

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_retry(uv_timer_t *timer)
{
	struct control *control = container_of(timer, struct control, retry);

	uv_poll_start(&control->poll, UV_READABLE, on_connection);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct control *control = container_of(poll, struct control, poll);
	int fd = accept4(control->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)status;
	(void)events;
	if (fd >= 0) {
		control_admit(control, fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* Out of files or memory. The connection stays in the queue and would wake the loop
		 * again and again; that files are free makes no event. */
		uv_poll_stop(poll);
		uv_timer_start(&control->retry, on_retry, RETRY_MS, 0);
	}
}

int control_new(uv_loop_t *loop, const char *path, const struct control_verb *verbs, void *user,
		struct control **ret)
{
	_cleanup_free_ struct control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	r = control_socket_init(&control->socket, path);
	if (r < 0)
		return r;
	r = uv_poll_init(loop, &control->poll, control->socket.fd);
	if (r < 0) {
		control_socket_deinit(&control->socket);
		return r;
	}
	uv_timer_init(loop, &control->retry);
	control->verbs = verbs;
	control->user = user;
	control->refs = 1;
	r = uv_poll_start(&control->poll, UV_READABLE, on_connection);
	if (r < 0) {
		control_close(TAKE_PTR(control));
		return r;
	}
	*ret = TAKE_PTR(control);
	return 0;
}

bool control_is_reachable(const struct control *control)
{
	return control_socket_is_there(&control->socket);
}

static void on_retry_closed(uv_handle_t *handle)
{
	control_unref(container_of((uv_timer_t *)handle, struct control, retry));
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct control *control = container_of((uv_poll_t *)handle, struct control, poll);

	uv_close((uv_handle_t *)&control->retry, on_retry_closed);
}

void control_close(struct control *control)
{
	control->closing = true;
	uv_timer_stop(&control->retry);
	uv_close((uv_handle_t *)&control->poll, on_poll_closed);
	control_socket_deinit(&control->socket);
	for (size_t i = 0; i < ARRAY_SIZE(control->clients); i++)
		if (control->clients[i])
			control_client_end(control->clients[i]);
}
