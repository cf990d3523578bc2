/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Streams of the control: several at once, slow ones, and how they end.
 * Reads from: the control socket.
 * Writes to: the control socket.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "control_server.h"
#include "shunt/proto.h"
#include "util/cleanup.h"

#define LINE_SIZE 10000

/* One line to each stream: its number, and much to fill it. */
static void job_tell(struct server *server)
{
	char line[LINE_SIZE];

	memset(line, 'x', sizeof(line));
	line[snprintf(line, sizeof(line), "%ld ", server->value)] = ' ';
	line[sizeof(line) - 1] = '\n';
	for (int i = 0; i < SERVER_STREAMS; i++)
		if (server->streams[i] &&
		    control_stream_write(server->streams[i], line, sizeof(line)) < 0)
			server->streams[i] = NULL;
	server->value++;
}

static void job_count(struct server *server)
{
	server->value = 0;
	for (int i = 0; i < SERVER_STREAMS; i++)
		server->value += server->streams[i] != NULL;
}

static void job_ended(struct server *server)
{
	server->value = server->ended;
}

static void job_reset(struct server *server)
{
	server->value = 0;
}

static int listen_to(struct server *server)
{
	int fd = dial(server);

	assert_answers(fd, "{\"verb\":\"stream\"}\n", "{\"ok\":true,\"result\":null}");
	return fd;
}

static void assert_hears(int fd, long number)
{
	const char *line = hear(fd);

	assert_non_null(line);
	assert_int_equal(strlen(line), LINE_SIZE - 1);
	assert_int_equal(atol(line), number);
}

static void await_streams(struct server *server, long number)
{
	while (server_call(server, job_count) != number)
		sched_yield();
}

static void test_written_answer(void **state)
{
	_cleanup_close_ int fd = dial(*state);

	assert_answers(fd, "{\"verb\":\"write\"}\n",
		       "{\"ok\":true,\"result\":{\"text\":\"of its own\"}}");
	assert_alive(fd);
}

static void test_several(void **state)
{
	struct server *server = *state;
	int fds[3];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = listen_to(server);
	server_call(server, job_reset);
	for (long n = 0; n < 500; n++) {
		server_call(server, job_tell);
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			assert_hears(fds[i], n);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	await_streams(server, 0);
	assert_int_equal(server_call(server, job_ended), 3);
}

/* The others go on, and it hears why: after the last whole line that it was sent. */
static void test_slow(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int slow = listen_to(server), fast = listen_to(server);
	long n = 0, heard = 0;
	const char *line;

	server_call(server, job_reset);
	while (server_call(server, job_count) == 2) {
		server->value = n;
		server_call(server, job_tell);
		assert_hears(fast, n++);
		assert_true(n * LINE_SIZE < 4 * SHUNT_PROTO_STREAM_MAX);
	}
	assert_true(n * LINE_SIZE > SHUNT_PROTO_STREAM_MAX);
	server->value = n;
	server_call(server, job_tell);
	assert_hears(fast, n);
	while ((line = hear(slow)) && *line != '{')
		assert_int_equal(atol(line), heard++);
	assert_non_null(line);
	assert_non_null(strstr(line, "\"ok\":false"));
	assert_non_null(strstr(line, "cut off"));
	assert_null(hear(slow));
	assert_true(heard > 0 && heard < n);
	assert_int_equal(server_call(server, job_ended), 0); /* the writer knows already */
}

/*
 * It takes more than is kept, and then no more: wherever it stops, it hears no part of a line. What
 * was sent is forgotten at one of these places, and nothing is sent after that.
 */
static void test_slow_in_mid_line(void **state)
{
	const long enough = SHUNT_PROTO_STREAM_MAX / LINE_SIZE;
	struct server *server = *state;

	for (long stop = enough - 100; stop < enough + 20; stop += 3) {
		_cleanup_close_ int fd = listen_to(server);
		const char *line;
		long n = 0;

		server_call(server, job_reset);
		while (n < 50)
			n = server_call(server, job_tell);
		for (long heard = 0; heard < stop; heard++) {
			assert_hears(fd, heard);
			n = server_call(server, job_tell);
		}
		while (server_call(server, job_count)) {
			assert_true(n < 3 * enough);
			server->value = n;
			n = server_call(server, job_tell);
		}
		for (long heard = stop; (line = hear(fd)) && *line != '{'; heard++) {
			assert_int_equal(strlen(line), LINE_SIZE - 1);
			assert_int_equal(atol(line), heard);
		}
		assert_non_null(line);
		assert_null(hear(fd));
	}
}

/* Whoever listens has nothing to say: neither later nor in the same breath. */
static void test_listener_that_speaks(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int later = listen_to(server), at_once = dial(server);

	ask(later, "{\"verb\":\"echo\"}\n");
	assert_null(hear(later));
	ask(at_once, "{\"verb\":\"stream\"}\n{\"verb\":\"echo\"}\n");
	assert_string_equal(hear(at_once), "{\"ok\":true,\"result\":null}");
	assert_null(hear(at_once));
	await_streams(server, 0);
	assert_int_equal(server_call(server, job_ended), 2);
}

static void test_refused(void **state)
{
	struct server *server = *state;
	int fds[SERVER_STREAMS];
	_cleanup_close_ int fd = -1;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = listen_to(server);
	fd = dial(server);
	ask(fd, "{\"verb\":\"stream\"}\n");
	assert_refused(fd, "Too many open files");
	assert_alive(fd); /* it may ask for something else */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void walk_count_timers(uv_handle_t *handle, void *arg)
{
	long *n = arg;

	*n += handle->type == UV_TIMER && uv_is_active(handle);
}

static void job_timers(struct server *server)
{
	server->value = 0;
	uv_walk(&server->loop, walk_count_timers, &server->value);
}

/* Nothing may happen for a long time; but who is told something is to take it. */
static void test_idle(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = listen_to(server);

	while (server_call(server, job_timers))
		sched_yield();
	server_call(server, job_reset);
	for (long n = 0; n < 50; n++)
		server_call(server, job_tell);
	assert_int_equal(server_call(server, job_timers), 1);
	for (long n = 0; n < 50; n++)
		assert_hears(fd, n);
	while (server_call(server, job_timers))
		sched_yield();
}

/* What was told is still sent, and that is the end. */
static void test_close(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = listen_to(server), idle = listen_to(server);

	server_call(server, job_reset);
	for (long n = 0; n < 50; n++)
		server_call(server, job_tell);
	for (long n = 0; n < 50; n++)
		assert_hears(idle, n);
	server_call(server, job_close);
	assert_int_equal(server_call(server, job_ended), 2);
	assert_int_equal(server_call(server, job_count), 0);
	for (long n = 0; n < 50; n++)
		assert_hears(fd, n);
	assert_null(hear(fd));
	assert_null(hear(idle));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_written_answer),
		TEST(test_several),
		TEST(test_slow),
		TEST(test_slow_in_mid_line),
		TEST(test_listener_that_speaks),
		TEST(test_refused),
		TEST(test_idle),
		TEST(test_close),
	};

	return cmocka_run_group_tests_name("control_stream", tests, NULL, NULL);
}
