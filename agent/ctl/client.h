/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One question to the agent, and its answer, or all that it tells from then on. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/*
 * Asks the agent that listens on @socket_path; steals @request, of which NULL is one that could not
 * be put together. Returns 0 and a new reference, or negative errno after it has said on stderr
 * what is wrong: no agent, not allowed, or what the agent gave as the reason.
 */
int client_ask(const char *socket_path, json_t *request, json_t **ret_result);
/*
 * The same in two parts, for a long answer: the question, and the line that it was answered by as
 * it came, which the caller frees. *@ret_stream, which client_take_text() closes, is a connection.
 */
int client_ask_text(const char *socket_path, json_t *request, FILE **ret_stream);
int client_take_text(FILE *stream, char **ret_line);
/* The same, and returns when the agent has ended the connection as well: it is done by then. */
int client_ask_last(const char *socket_path, json_t *request, json_t **ret_result);
/* Does anybody listen there? Says nothing. */
bool client_reaches(const char *socket_path);
/*
 * Asks for a stream and calls @receive for each of its lines, the newline included, until it
 * returns other than 0 (then that is returned) or the stream ends, which is negative errno after it
 * has been said on stderr.
 */
int client_listen(const char *socket_path, json_t *request,
		  int (*receive)(void *user, const char *line, const json_t *object), void *user);
