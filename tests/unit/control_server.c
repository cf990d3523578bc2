/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A control that a thread of its own runs, and a client of few words.
 * Reads from: the control socket.
 * Writes to: the control socket, in a directory of its own below /tmp.
 */
#include "control_server.h"

#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cmocka.h>

#include "shunt/proto.h"
#include "util/cleanup.h"

bool group_is_foreign;
static struct server *server_of_stream;
atomic_bool out_of_files;
atomic_int out_of_files_times;

struct group *getgrnam(const char *name)
{
	static struct group group = {.gr_name = SHUNT_GROUP, .gr_gid = TEST_GROUP};

	if (strcmp(name, SHUNT_GROUP) != 0)
		return NULL;
	return geteuid() == 0 || group_is_foreign ? &group : NULL;
}

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *len, int flags)
{
	(void)address, (void)len;
	if (!out_of_files)
		return syscall(SYS_accept4, fd, NULL, NULL, flags);
	out_of_files_times++;
	errno = ENFILE;
	return -1;
}

static int verb_echo(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	(void)user, (void)ret_error;
	*ret_result = json_incref(json_object_get(request, "say"));
	return 0;
}

static int verb_big(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	size_t size = json_integer_value(json_object_get(request, "size"));
	char *text = malloc(size);

	(void)user, (void)ret_error;
	memset(text, 'x', size);
	*ret_result = json_stringn_nocheck(text, size);
	free(text);
	return 0;
}

static int verb_refuse(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	(void)user, (void)request, (void)ret_result;
	*ret_error = strdup("line 1\n\"line\" 2");
	return -EPERM;
}

static int verb_fail(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	(void)user, (void)request, (void)ret_result, (void)ret_error;
	return -ENOSPC;
}

static int verb_latin(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	(void)user, (void)request, (void)ret_result;
	*ret_error = strdup("caf\xe9");
	return -EINVAL;
}

static int verb_close(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct server *server = user;

	(void)request, (void)ret_error;
	control_close(TAKE_PTR(server->control));
	*ret_result = json_string("bye");
	return 0;
}

static int verb_write(void *user, const json_t *request, struct writer *result, char **ret_error)
{
	(void)user, (void)request, (void)ret_error;
	writer_object(result, NULL);
	writer_string(result, "text", "of its own");
	writer_object_end(result);
	return 0;
}

static void on_stream_end(void *user)
{
	struct control_stream **slot = user;
	struct server *server = server_of_stream;

	*slot = NULL;
	server->ended++;
}

static int verb_stream(void *user, const json_t *request, struct control_stream *stream,
		       char **ret_error)
{
	struct server *server = user;
	int i = 0;

	(void)request, (void)ret_error;
	server_of_stream = server;
	while (i < SERVER_STREAMS && server->streams[i])
		i++;
	if (i == SERVER_STREAMS)
		return -EMFILE;
	server->streams[i] = stream;
	control_stream_on_end(stream, on_stream_end, &server->streams[i]);
	return 0;
}

const struct control_verb server_verbs[] = {
	{"echo", .run = verb_echo},
	{"big", .run = verb_big},
	{"refuse", .run = verb_refuse},
	{"fail", .run = verb_fail},
	{"latin", .run = verb_latin},
	{"close", .run = verb_close},
	{"write", .write = verb_write},
	{"stream", .stream = verb_stream},
	{.name = NULL},
};

static void on_call(uv_async_t *async)
{
	struct server *server = container_of(async, struct server, call);

	server->job(server);
	sem_post(&server->called);
}

long server_call(struct server *server, void (*job)(struct server *server))
{
	server->job = job;
	uv_async_send(&server->call);
	sem_wait(&server->called);
	return server->value;
}

static void *serve(void *arg)
{
	struct server *server = arg;

	uv_run(&server->loop, UV_RUN_DEFAULT);
	server->loop_close = uv_loop_close(&server->loop);
	return NULL;
}

int server_setup(void **state)
{
	struct server *server = calloc(1, sizeof(*server));

	strcpy(server->dir, "/tmp/shunt-test-control-XXXXXX");
	assert_non_null(mkdtemp(server->dir));
	snprintf(server->path, sizeof(server->path), "%s/run/control.sock", server->dir);
	sem_init(&server->called, 0, 0);
	assert_int_equal(uv_loop_init(&server->loop), 0);
	uv_async_init(&server->loop, &server->call, on_call);
	assert_int_equal(
		control_new(&server->loop, server->path, server_verbs, server, &server->control),
		0);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
	*state = server;
	return 0;
}

void job_close(struct server *server)
{
	if (server->control)
		control_close(TAKE_PTR(server->control));
}

static void job_end(struct server *server)
{
	job_close(server);
	uv_close((uv_handle_t *)&server->call, NULL);
}

int server_teardown(void **state)
{
	struct server *server = *state;
	_cleanup_free_ char *run = NULL;
	bool gone;

	server_call(server, job_end);
	pthread_join(server->thread, NULL);
	sem_destroy(&server->called);
	gone = access(server->path, F_OK) < 0 && errno == ENOENT;
	unlink(server->path);
	assert_true(asprintf(&run, "%s/run", server->dir) > 0);
	rmdir(run);
	gone = gone && rmdir(server->dir) == 0; /* not even a temporary name is left */
	assert_int_equal(server->loop_close, 0);
	free(server);
	return gone ? 0 : -1;
}

int dial_path(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 60}; /* a test that fails does not hang */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

int dial(const struct server *server)
{
	int fd = dial_path(server->path);

	assert_true(fd >= 0);
	return fd;
}

void say(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

void ask(int fd, const char *question)
{
	say(fd, question, strlen(question));
}

const char *hear(int fd)
{
	static char *line;
	static size_t size;
	size_t len = 0;

	for (;;) {
		ssize_t n;

		if (len + 1 >= size) {
			size = size ? 2 * size : 4096;
			line = realloc(line, size);
			assert_non_null(line);
		}
		/* Peeked at first, so as not to take what follows the newline. */
		n = recv(fd, line + len, size - len - 1, MSG_PEEK);
		if (n < 0 && errno == ECONNRESET)
			n = 0;
		assert_true(n >= 0);
		if (n == 0) {
			assert_int_equal(len, 0);
			return NULL;
		}
		if (memchr(line + len, '\n', n))
			n = (char *)memchr(line + len, '\n', n) - (line + len) + 1;
		assert_int_equal(recv(fd, line + len, n, 0), n);
		len += n;
		if (line[len - 1] == '\n') {
			line[len - 1] = '\0';
			return line;
		}
	}
}

void assert_answers(int fd, const char *question, const char *answer)
{
	const char *got;

	ask(fd, question);
	got = hear(fd);
	assert_non_null(got);
	assert_string_equal(got, answer);
}

void assert_alive(int fd)
{
	assert_answers(fd, "{\"verb\": \"echo\", \"say\": [1, \"zwei\"]}\n",
		       "{\"ok\":true,\"result\":[1,\"zwei\"]}");
}

void assert_refused(int fd, const char *error)
{
	const char *answer = hear(fd);

	assert_non_null(answer);
	if (!strstr(answer, "\"ok\":false") || !strstr(answer, error))
		fail_msg("%s does not say %s", answer, error);
}
