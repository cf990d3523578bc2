/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A client of the control: one conversation, a question and its answer at a time.
 * Reads from: its connection.
 * Writes to: its connection; what the answers are is the business of the verbs.
 *
 * A client is listened to only when its last answer is out. So a client that asks and does not read
 * stops itself, no more than one question and one answer are kept for it, and a turn of the loop
 * spends no more than one question on it. A stream cannot be stopped so: what happens, happens. Its
 * client is cut off when too much waits for it.
 */
#include "control_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "control_answer.h"
#include "log.h"
#include "shunt/proto.h"
#include "util/cleanup.h"

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

CLEANUP_DEFINE(json_t *, json_decref)

static const struct control_verb *control_find(const struct control *control, const char *name)
{
	for (const struct control_verb *verb = control->verbs; verb->name; verb++) {
		if (strcmp(verb->name, name) == 0)
			return verb;
	}
	return NULL;
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
		return control_answer_error("a question is a JSON object", ret_len);
	if (!name)
		return control_answer_error("a question has a \"verb\", a string", ret_len);
	verb = control_find(control, name);
	if (!verb)
		return control_answer_error("this agent does not know that verb", ret_len);
	if (verb->stream)
		r = verb->stream(control->user, request, &client->stream, &error);
	else if (verb->write)
		r = verb->write(control->user, request, &text, &error);
	else
		r = verb->run(control->user, request, &result, &error);
	if (r < 0)
		return control_answer_error(error ? error : strerror(-r), ret_len);
	client->streams = client->stream.open = verb->stream;
	return verb->write ? control_answer_text(&text, ret_len)
			   : control_answer_result(result, ret_len);
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
		client->answer =
			control_answer_error("the question is too long", &client->answer_len);
		return client->answer;
	}
	client->begin = newline + 1 - client->buffer;
	request = json_loadb(line, newline - line, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (!request) {
		client->last = true;
		client->answer =
			control_answer_error("the question is not JSON", &client->answer_len);
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
	error = control_answer_error("cut off: the stream was not read as fast as it came", &len);
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

int control_client_new(struct control *control, struct client **slot, int fd)
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

void control_client_end(struct client *client)
{
	client_end_stream(client);
	if (client->answer || client->asking || client->stream.lines.len)
		uv_timer_start(&client->timer, on_client_timer, GOODBYE_MS, 0);
	else
		client_close(client);
}
