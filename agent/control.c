/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control: one conversation per client, a question and its answer at a time.
 * Reads from: the control socket.
 * Writes to: the control socket; what the answers are is the business of the verbs.
 *
 * A client is listened to only when its last answer is out. So a client that asks and does not read
 * stops itself, no more than one question and one answer are kept for it, and a turn of the loop
 * spends no more than one question on it. A stream cannot be stopped so: what happens, happens. Its
 * client is cut off when too much waits for it.
 */
#include "control.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "control_socket.h"
#include "log.h"
#include "shunt/proto.h"
#include "util/cleanup.h"

#define RETRY_MS   1000 /* until the next try when a connection could not be accepted */
#define GOODBYE_MS 1000 /* for what is still to be sent when the control closes */

/* Lines on their way to a client that has asked for all that come. */
struct control_stream {
	bool open; /* more may come */
	void (*ended)(void *user);
	void *user;
	struct writer lines; /* those before .sent are out */
	size_t sent;
};

struct client {
	struct control *control;
	struct client **slot; /* its place in control->clients */
	uv_poll_t poll;
	uv_timer_t timer; /* idle, or the last second */
	int fd;
	bool asking;  /* its verb is running: it must outlive control_close() */
	bool last;    /* nothing follows the answer */
	bool streams; /* its last question was for a stream: nobody listens to it any more */
	struct control_stream stream;
	char *answer; /* NULL: none is on its way */
	size_t answer_len;
	size_t answer_sent;
	size_t begin; /* buffer[begin … end) is read and not answered */
	size_t end;
	char buffer[SHUNT_PROTO_REQUEST_MAX];
};

struct control {
	struct control_socket socket;
	uv_poll_t poll;
	uv_timer_t retry;
	const struct control_verb *verbs;
	void *user;
	struct client *clients[SHUNT_PROTO_CLIENTS_MAX];
	unsigned int refs; /* one for itself until its handles are closed, one for each client */
	bool closing;
};

CLEANUP_DEFINE(json_t *, json_decref)

static void control_unref(struct control *control)
{
	if (--control->refs == 0)
		free(control);
}

/* Steals @answer. The text has no NUL at its end but the newline that ends an answer. */
static char *answer_format(json_t *answer, size_t *ret_len)
{
	_cleanup_(cleanup_json_decref) json_t *owned = answer;
	char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;

	if (!text) /* no memory, or bytes that are not UTF-8 */
		text = strdup("{\"ok\":false,\"error\":\"the answer cannot be put into JSON\"}");
	if (!text)
		return NULL;
	*ret_len = strlen(text);
	text[(*ret_len)++] = '\n';
	return text;
}

/* @error: of any bytes. */
static char *answer_error(const char *error, size_t *ret_len)
{
	struct writer answer = {};

	writer_object(&answer, NULL);
	writer_bool(&answer, "ok", false);
	writer_string(&answer, "error", error);
	writer_object_end(&answer);
	writer_raw(&answer, "\n", 1);
	*ret_len = answer.len;
	if (answer.failed)
		writer_deinit(&answer);
	return answer.text;
}

static char *answer_result(json_t *result, size_t *ret_len)
{
	size_t len = 0;
	_cleanup_free_ char *text = answer_format(
		json_pack("{s:b, s:o}", "ok", 1, "result", result ? result : json_null()), &len);

	if (text && len > SHUNT_PROTO_PENDING_MAX)
		return answer_error("the answer is too long to be sent", ret_len);
	*ret_len = len;
	return TAKE_PTR(text);
}

static const struct control_verb *control_find(const struct control *control, const char *name)
{
	for (const struct control_verb *verb = control->verbs; verb->name; verb++) {
		if (strcmp(verb->name, name) == 0)
			return verb;
	}
	return NULL;
}

static char *answer_text(struct writer *result, size_t *ret_len)
{
	static const char before[] = "{\"ok\":true,\"result\":", after[] = {'}', '\n'};
	size_t len = sizeof(before) - 1 + result->len + sizeof(after);
	const char *written = writer_text(result);
	char *text;

	if (!written)
		return answer_error(strerror(ENOMEM), ret_len);
	if (len > SHUNT_PROTO_PENDING_MAX)
		return answer_error("the answer is too long to be sent", ret_len);
	text = malloc(len);
	if (!text)
		return NULL;
	*ret_len = len;
	memcpy(mempcpy(mempcpy(text, before, sizeof(before) - 1), written, result->len), after,
	       sizeof(after));
	return text;
}

static char *control_ask(struct client *client, const json_t *request, size_t *ret_len)
{
	struct control *control = client->control;
	_cleanup_(writer_deinit) struct writer text = {};
	const char *name = json_string_value(json_object_get(request, "verb"));
	const struct control_verb *verb;
	_cleanup_free_ char *error = NULL;
	json_t *result = NULL;
	int r;

	if (!json_is_object(request))
		return answer_error("a question is a JSON object", ret_len);
	if (!name)
		return answer_error("a question has a \"verb\", a string", ret_len);
	verb = control_find(control, name);
	if (!verb)
		return answer_error("this agent does not know that verb", ret_len);
	if (verb->stream)
		r = verb->stream(control->user, request, &client->stream, &error);
	else if (verb->write)
		r = verb->write(control->user, request, &text, &error);
	else
		r = verb->run(control->user, request, &result, &error);
	if (r < 0)
		return answer_error(error ? error : strerror(-r), ret_len);
	client->streams = client->stream.open = verb->stream;
	return verb->write ? answer_text(&text, ret_len) : answer_result(result, ret_len);
}

static void on_client_timer_closed(uv_handle_t *handle)
{
	struct client *client = container_of((uv_timer_t *)handle, struct client, timer);

	control_unref(client->control);
	free(client->answer);
	writer_deinit(&client->stream.lines);
	free(client);
}

static void on_client_poll_closed(uv_handle_t *handle)
{
	struct client *client = container_of((uv_poll_t *)handle, struct client, poll);

	uv_close((uv_handle_t *)&client->timer, on_client_timer_closed);
}

/* Nothing more is written to it. */
static void client_end_stream(struct client *client)
{
	if (!client->stream.open)
		return;
	client->stream.open = false;
	client->stream.ended(client->stream.user);
}

static void client_close(struct client *client)
{
	client_end_stream(client);
	*client->slot = NULL;
	uv_timer_stop(&client->timer);
	uv_close((uv_handle_t *)&client->poll, on_client_poll_closed);
	close(client->fd);
}

static void on_client_timer(uv_timer_t *timer)
{
	client_close(container_of(timer, struct client, timer));
}

/* It took an answer, or some of it: it is not idle. Half a question is nothing. */
static void client_touch(struct client *client)
{
	if (!client->control->closing)
		uv_timer_start(&client->timer, on_client_timer, SHUNT_PROTO_IDLE_SECONDS * 1000, 0);
}

static char *client_newline(struct client *client)
{
	return memchr(client->buffer + client->begin, '\n', client->end - client->begin);
}

static bool client_receive(struct client *client)
{
	ssize_t n;

	memmove(client->buffer, client->buffer + client->begin, client->end - client->begin);
	client->end -= client->begin;
	client->begin = 0;
	n = recv(client->fd, client->buffer + client->end, sizeof(client->buffer) - client->end, 0);
	if (n > 0)
		client->end += n;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Answers the first question in the buffer, if a whole one is there. */
static bool client_ask(struct client *client)
{
	const char *line = client->buffer + client->begin, *newline = client_newline(client);
	_cleanup_(cleanup_json_decref) json_t *request = NULL;

	if (!newline && client->end - client->begin < sizeof(client->buffer))
		return true;
	client->answer_sent = 0;
	if (!newline) {
		client->last = true;
		client->answer = answer_error("the question is too long", &client->answer_len);
		return client->answer;
	}
	client->begin = newline + 1 - client->buffer;
	request = json_loadb(line, newline - line, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (!request) {
		client->last = true;
		client->answer = answer_error("the question is not JSON", &client->answer_len);
		return client->answer;
	}
	client->asking = true;
	client->answer = control_ask(client, request, &client->answer_len);
	client->asking = false;
	return client->answer;
}

static bool client_send(struct client *client)
{
	ssize_t n = send(client->fd, client->answer + client->answer_sent,
			 client->answer_len - client->answer_sent, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	client_touch(client);
	client->answer_sent += n;
	if (client->answer_sent < client->answer_len)
		return true;
	free(TAKE_PTR(client->answer));
	return !client->last && !client->control->closing;
}

static void on_client(uv_poll_t *poll, int status, int events);

/* Whoever listens to a stream has nothing to say. */
static bool stream_receive(struct client *client)
{
	char byte;

	return recv(client->fd, &byte, 1, 0) < 0 && (errno == EAGAIN || errno == EINTR);
}

static bool stream_send(struct client *client)
{
	struct control_stream *stream = &client->stream;
	ssize_t n = send(client->fd, stream->lines.text + stream->sent,
			 stream->lines.len - stream->sent, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	stream->sent += n;
	if (stream->sent < stream->lines.len) {
		client_touch(client);
		return true;
	}
	/* To wait for something to happen is not to be idle. */
	writer_deinit(&stream->lines);
	stream->sent = 0;
	uv_timer_stop(&client->timer);
	return stream->open;
}

static bool stream_poll(struct client *client)
{
	int events = UV_READABLE | (client->stream.lines.len ? UV_WRITABLE : 0);

	return uv_poll_start(&client->poll, events, on_client) == 0;
}

static bool on_stream(struct client *client)
{
	return stream_receive(client) && (!client->stream.lines.len || stream_send(client)) &&
	       stream_poll(client);
}

/* The answer that promised the stream is out. */
static bool stream_begin(struct client *client)
{
	if (client->begin < client->end) /* it has something to say all the same */
		return false;
	if (!client->stream.lines.len)
		uv_timer_stop(&client->timer);
	return stream_poll(client);
}

/* Keeps the line that is under way, and says why it was the last. */
static void stream_cut_off(struct client *client)
{
	struct control_stream *stream = &client->stream;
	_cleanup_free_ char *error = NULL;
	char *line = stream->lines.text + stream->sent;
	size_t len = 0;

	if (stream->sent && line[-1] != '\n')
		len = strchrnul(line, '\n') + 1 - line;
	writer_truncate(&stream->lines, stream->sent + len);
	error = answer_error("cut off: the stream was not read as fast as it came", &len);
	if (error)
		writer_raw(&stream->lines, error, len);
	stream->open = false;
}

void control_stream_on_end(struct control_stream *stream, void (*ended)(void *user), void *user)
{
	stream->ended = ended;
	stream->user = user;
}

int control_stream_write(struct control_stream *stream, const char *line, size_t len)
{
	struct client *client = container_of(stream, struct client, stream);
	bool waits = stream->lines.len;

	if (stream->lines.len - stream->sent + len > SHUNT_PROTO_STREAM_MAX) {
		log_warning("a client reads its events too slowly: it is cut off");
		stream_cut_off(client);
		return -ENOBUFS;
	}
	/* All but the last byte, which says whether a line is under way. */
	if (stream->sent > SHUNT_PROTO_STREAM_MAX) {
		writer_drop(&stream->lines, stream->sent - 1);
		stream->sent = 1;
	}
	writer_raw(&stream->lines, line, len);
	if (stream->lines.failed) {
		stream->open = false;
		client_close(client);
		return -ENOMEM;
	}
	if (waits || client->answer)
		return 0;
	/* What else comes in this turn of the loop is sent with it. */
	client_touch(client);
	stream_poll(client);
	return 0;
}

static void on_client(uv_poll_t *poll, int status, int events)
{
	struct client *client = container_of(poll, struct client, poll);
	bool go_on = status == 0;

	(void)events;
	if (go_on && client->streams && !client->answer) {
		if (!on_stream(client))
			client_close(client);
		return;
	}
	if (go_on && !client->answer && !client_newline(client))
		go_on = client_receive(client);
	if (go_on && !client->answer)
		go_on = client_ask(client);
	if (go_on && client->answer)
		go_on = client_send(client);
	if (go_on) {
		/* A question that waits in the buffer makes no event of its own: to be writable is
		 * one, and it comes after everybody else had their turn. */
		events = client->answer || client_newline(client) ? UV_WRITABLE : UV_READABLE;
		go_on = client->streams && !client->answer
				? stream_begin(client)
				: uv_poll_start(poll, events, on_client) == 0;
	}
	if (!go_on)
		client_close(client);
}

static int client_new(struct control *control, struct client **slot, int fd)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	r = uv_poll_init(control->poll.loop, &client->poll, fd);
	if (r < 0) {
		free(client);
		return r;
	}
	uv_timer_init(control->poll.loop, &client->timer);
	client->control = control;
	client->slot = slot;
	client->fd = fd;
	control->refs++;
	*slot = client;
	client_touch(client);
	r = uv_poll_start(&client->poll, UV_READABLE, on_client);
	if (r < 0)
		client_close(client);
	return 0;
}

/* The socket of a new connection is empty: one short line always fits. */
static void refuse(int fd, const char *error)
{
	size_t len;
	_cleanup_free_ char *answer = answer_error(error, &len);

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
	else if (client_new(control, &control->clients[i], fd) < 0)
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
	for (size_t i = 0; i < ARRAY_SIZE(control->clients); i++) {
		struct client *client = control->clients[i];

		if (!client)
			continue;
		client_end_stream(client);
		if (client->answer || client->asking || client->stream.lines.len)
			uv_timer_start(&client->timer, on_client_timer, GOODBYE_MS, 0);
		else
			client_close(client);
	}
}
