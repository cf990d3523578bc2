/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control socket: accepts shuntctl, checks who it is, reads questions, sends answers. What the
 * answers are is the business of the verbs it is given.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "util/writer.h"

struct control;
struct control_stream;

/*
 * Answers one question. @request is the whole object, borrowed. On success returns 0 and
 * *@ret_result (a new reference; NULL means null). Otherwise negative errno and *@ret_error, a text
 * that the caller frees and that says what the person at the other end can do.
 */
typedef int (*control_verb_fn)(void *user, const json_t *request, json_t **ret_result,
			       char **ret_error);

/* The same for a long answer: @result gets it as text. */
typedef int (*control_write_fn)(void *user, const json_t *request, struct writer *result,
				char **ret_error);
/*
 * The same for an answer that does not end. If it returns 0, @stream may be written to from the
 * next turn of the loop on, until control_stream_write() fails or the function given to
 * control_stream_on_end() is called, whichever is first.
 */
typedef int (*control_stream_fn)(void *user, const json_t *request, struct control_stream *stream,
				 char **ret_error);

/* One of the three. */
struct control_verb {
	const char *name;
	control_verb_fn run;
	control_write_fn write;
	control_stream_fn stream;
};

/*
 * Listens on @path (mode 0660, group SHUNT_GROUP if there is one, directory made if it is not
 * there). A stale socket file is replaced; one that an agent answers on is -EADDRINUSE. @verbs ends
 * with a NULL name and outlives the control.
 */
int control_new(uv_loop_t *loop, const char *path, const struct control_verb *verbs, void *user,
		struct control **ret);
/* Can a client find it? */
bool control_is_reachable(const struct control *control);
/* Removes the socket file. Answers already given are still sent, as far as clients read them
 * within a second. Handles are closed in later turns of the loop, and freed then. */
void control_close(struct control *control);

/* @ended is called when the client is gone, or the control closes. */
void control_stream_on_end(struct control_stream *stream, void (*ended)(void *user), void *user);
/*
 * Sends a line, its newline included, to a client that may be slow: 0, or -ENOBUFS if it was too
 * slow, which is logged, or -ENOMEM. Then the stream is over, and its end is not told.
 */
int control_stream_write(struct control_stream *stream, const char *line, size_t len);
