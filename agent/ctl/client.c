/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One question to the agent, and its answer or a stream: blocking, one connection each.
 * Reads from: the control socket.
 * Writes to: the control socket; stderr.
 */
#include "client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "out.h"
#include "shunt/proto.h"
#include "util/cleanup.h"

#define PATIENCE_SECONDS 30 /* for the agent to accept, to read, to answer */

CLEANUP_DEFINE(json_t *, json_decref)

static int client_connect_error(const char *path, int error)
{
	if (error == ENOENT || error == ECONNREFUSED)
		out_error("%s: %s; is shuntd running?", path, strerror(error));
	else if (error == EACCES || error == EPERM)
		out_error("%s: permission denied; root and group " SHUNT_GROUP " may", path);
	else
		out_error("%s: %s", path, strerror(error));
	return -error;
}

static int client_try(const char *path, int *ret_fd)
{
	const struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int client_connect(const char *path, int *ret_fd)
{
	int r = client_try(path, ret_fd);

	return r ? client_connect_error(path, -r) : 0;
}

bool client_reaches(const char *socket_path)
{
	_cleanup_close_ int fd = -1;

	return client_try(socket_path, &fd) == 0;
}

/* Fails in silence: an agent that refuses the connection has said why, and closed it. */
static void client_send(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0)
			return;
		text += n;
		len -= n;
	}
}

static int client_receive(FILE *stream, char **ret_line)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t len;

	len = getline(&line, &size, stream);
	if (len > 0 && line[len - 1] == '\n') {
		*ret_line = TAKE_PTR(line);
		return 0;
	}
	if (ferror(stream) && errno == EAGAIN) {
		out_error("the agent does not answer");
		return -ETIMEDOUT;
	}
	out_error("the agent closed the connection without an answer");
	return -ECONNRESET;
}

static int client_understand(const char *line, json_t **ret_result)
{
	_cleanup_(cleanup_json_decref) json_t *answer = json_loads(line, 0, NULL);
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (json_is_true(json_object_get(answer, "ok"))) {
		json_t *result = json_object_get(answer, "result");

		*ret_result = result ? json_incref(result) : json_null();
		return 0;
	}
	out_error("%s", error ? error : "what the agent answers is not understood");
	return -EREMOTEIO;
}

int client_ask_text(const char *socket_path, json_t *request, FILE **ret_stream)
{
	_cleanup_(cleanup_json_decref) json_t *owned = request;
	_cleanup_free_ char *question = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
	_cleanup_close_ int fd = -1;
	FILE *stream;
	size_t len;
	int r;

	if (!question) {
		out_error("an argument is not UTF-8");
		return -EINVAL;
	}
	r = client_connect(socket_path, &fd);
	if (r < 0)
		return r;
	len = strlen(question);
	question[len] = '\n'; /* instead of the NUL */
	client_send(fd, question, len + 1);
	stream = fdopen(fd, "r");
	if (!stream)
		return client_connect_error(socket_path, ENOMEM);
	fd = -1;
	*ret_stream = stream;
	return 0;
}

static int client_begin(const char *socket_path, json_t *request, json_t **ret_result,
			FILE **ret_stream)
{
	_cleanup_fclose_ FILE *stream = NULL;
	_cleanup_free_ char *line = NULL;
	int r = client_ask_text(socket_path, request, &stream);

	if (r == 0)
		r = client_receive(stream, &line);
	if (r == 0)
		r = client_understand(line, ret_result);
	if (r == 0)
		*ret_stream = TAKE_PTR(stream);
	return r;
}

int client_take_text(FILE *stream, char **ret_line)
{
	_cleanup_(cleanup_json_decref) json_t *result = NULL;
	_cleanup_fclose_ FILE *owned = stream;
	_cleanup_free_ char *line = NULL;
	int r = client_receive(owned, &line);

	/* Within a string the quotes would be escaped. */
	if (r == 0 && !strstr(line, "\"ok\":true"))
		r = client_understand(line, &result);
	if (r == 0)
		*ret_line = TAKE_PTR(line);
	return r;
}

int client_ask(const char *socket_path, json_t *request, json_t **ret_result)
{
	_cleanup_fclose_ FILE *stream = NULL;

	return client_begin(socket_path, request, ret_result, &stream);
}

int client_ask_last(const char *socket_path, json_t *request, json_t **ret_result)
{
	_cleanup_fclose_ FILE *stream = NULL;
	int r = client_begin(socket_path, request, ret_result, &stream);

	/* The answer is the last word, and it holds when the agent has closed the connection. */
	while (r == 0 && fgetc(stream) != EOF)
		;
	return r;
}

static int client_receive_object(FILE *stream,
				 int (*receive)(void *user, const char *line, const json_t *object),
				 void *user)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t len = getline(&line, &size, stream);
	_cleanup_(cleanup_json_decref) json_t *object = NULL;
	const char *error;

	if (len <= 0 || line[len - 1] != '\n') {
		out_error("the agent has ended the stream");
		return -ECONNRESET;
	}
	object = json_loads(line, 0, NULL);
	error = json_string_value(json_object_get(object, "error"));
	if (object && !error)
		return receive(user, line, object);
	out_error("%s", error ? error : "what the agent tells is not understood");
	return -EREMOTEIO;
}

int client_listen(const char *socket_path, json_t *request,
		  int (*receive)(void *user, const char *line, const json_t *object), void *user)
{
	_cleanup_(cleanup_json_decref) json_t *result = NULL;
	const struct timeval for_ever = {};
	_cleanup_fclose_ FILE *stream = NULL;
	int r = client_begin(socket_path, request, &result, &stream);

	if (r == 0 &&
	    setsockopt(fileno(stream), SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever)) < 0)
		r = -errno;
	while (r == 0)
		r = client_receive_object(stream, receive, user);
	return r;
}
