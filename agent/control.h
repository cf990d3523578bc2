/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control socket: accepts shuntctl, checks who it is, reads questions, sends answers. What the
 * answers are is the business of the verbs it is given.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

struct control;

/*
 * Answers one question. @request is the whole object, borrowed. On success returns 0 and
 * *@ret_result (a new reference; NULL means null). Otherwise negative errno and *@ret_error, a text
 * that the caller frees and that says what the person at the other end can do.
 */
typedef int (*control_verb_fn)(void *user, const json_t *request, json_t **ret_result,
			       char **ret_error);

struct control_verb {
	const char *name;
	control_verb_fn run;
};

/*
 * Listens on @path (mode 0660, group SHUNT_GROUP if there is one, directory made if it is not
 * there). A stale socket file is replaced; one that an agent answers on is -EADDRINUSE. @verbs ends
 * with a NULL name and outlives the control.
 */
int control_new(uv_loop_t *loop, const char *path, const struct control_verb *verbs, void *user,
		struct control **ret);
/* Removes the socket file. Answers already given are still sent, as far as clients read them
 * within a second. Handles are closed in later turns of the loop, and freed then. */
void control_close(struct control *control);
