/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The limits of the control: clients, bytes, seconds, and the last second.
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

static void test_too_many_clients(void **state)
{
	int fds[SHUNT_PROTO_CLIENTS_MAX];
	_cleanup_close_ int late = -1, later = -1;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(*state);
		assert_alive(fds[i]);
	}
	late = dial(*state);
	assert_refused(late, "too many connections");
	assert_null(hear(late));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		assert_alive(fds[i]);
	close(fds[5]);
	later = dial(*state);
	assert_alive(later);
	fds[5] = fds[0];
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void test_slow_reader(void **state)
{
	_cleanup_close_ int fd = dial(*state), other = dial(*state);

	for (int i = 0; i < 20; i++)
		ask(fd, "{\"verb\":\"big\",\"size\":1048576}\n");
	assert_alive(other);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(strlen(hear(fd)), MIB + strlen("{\"ok\":true,\"result\":\"\"}"));
		assert_alive(other);
	}
	assert_alive(fd);
}

static void test_answer_too_long(void **state)
{
	_cleanup_close_ int fd = dial(*state);
	char question[64];

	snprintf(question, sizeof(question), "{\"verb\":\"big\",\"size\":%d}\n",
		 SHUNT_PROTO_PENDING_MAX);
	ask(fd, question);
	assert_refused(fd, "too long");
	assert_alive(fd);
}

/* Timers that are due within *@arg milliseconds are due now. */
static void walk_hurry(uv_handle_t *handle, void *arg)
{
	uv_timer_t *timer = (uv_timer_t *)handle;
	const uint64_t *within = arg;

	if (handle->type == UV_TIMER && uv_is_active(handle) &&
	    uv_timer_get_due_in(timer) <= *within)
		uv_timer_start(timer, timer->timer_cb, 0, 0);
}

static void job_hurry(struct server *server)
{
	uv_walk(&server->loop, walk_hurry, &(uint64_t){UINT64_MAX});
}

static void job_hurry_retry(struct server *server)
{
	uv_walk(&server->loop, walk_hurry, &(uint64_t){1000});
}

static void walk_halve(uv_handle_t *handle, void *arg)
{
	uv_timer_t *timer = (uv_timer_t *)handle;

	(void)arg;
	if (handle->type == UV_TIMER && uv_is_active(handle))
		uv_timer_start(timer, timer->timer_cb, SHUNT_PROTO_IDLE_SECONDS * 500, 0);
}

static void job_halve(struct server *server)
{
	uv_walk(&server->loop, walk_halve, NULL);
}

static void walk_timeout(uv_handle_t *handle, void *arg)
{
	long *timeout = arg, due;

	if (handle->type != UV_TIMER || !uv_is_active(handle))
		return;
	due = uv_timer_get_due_in((uv_timer_t *)handle);
	if (*timeout < 0 || due < *timeout)
		*timeout = due;
}

/* Milliseconds until the loop wakes up by itself, -1 for never. */
static void job_timeout(struct server *server)
{
	server->value = -1;
	uv_update_time(&server->loop);
	uv_walk(&server->loop, walk_timeout, &server->value);
}

static void test_idle_client(void **state)
{
	const long all = SHUNT_PROTO_IDLE_SECONDS * 1000;
	struct server *server = *state;
	_cleanup_close_ int fd = -1;
	long left;

	assert_int_equal(server_call(server, job_timeout), -1);
	fd = dial(server);
	assert_alive(fd);
	left = server_call(server, job_timeout);
	assert_in_range(left, all * 9 / 10, all);
	/* Half a question is nothing said, a whole one is. */
	server_call(server, job_halve);
	ask(fd, "{\"verb\":");
	for (int i = 0; i < 3; i++)
		assert_in_range(server_call(server, job_timeout), 1, all / 2);
	assert_answers(fd, "\"echo\"}\n", "{\"ok\":true,\"result\":null}");
	assert_in_range(server_call(server, job_timeout), all * 9 / 10, all);

	server_call(server, job_hurry);
	assert_null(hear(fd));
	assert_int_equal(server_call(server, job_timeout), -1);
}

static void test_client_that_never_reads(void **state)
{
	const long all = SHUNT_PROTO_IDLE_SECONDS * 1000;
	struct server *server = *state;
	_cleanup_close_ int fd = dial(server);
	size_t got = 0;
	char rest[65536];
	ssize_t n;

	for (int i = 0; i < 10; i++)
		ask(fd, "{\"verb\":\"big\",\"size\":4194304}\n");
	assert_int_equal(recv(fd, rest, 1, 0), 1);
	/* To take some of the answer is not to be idle … */
	server_call(server, job_halve);
	while (got < MIB) {
		n = recv(fd, rest, sizeof(rest), 0);
		assert_true(n > 0);
		got += n;
	}
	assert_in_range(server_call(server, job_timeout), all * 9 / 10, all);
	/* … to take nothing is. */
	server_call(server, job_hurry);
	while ((n = recv(fd, rest, sizeof(rest), 0)) > 0)
		got += n;
	assert_true(got < 4 * MIB);
	assert_int_equal(server_call(server, job_timeout), -1);
}

static void test_out_of_files(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = -1;

	out_of_files = true;
	fd = dial(server);
	while (server_call(server, job_timeout) < 0)
		sched_yield();
	/* It tries again, but not at once; and no client has so short a time. */
	assert_in_range(server->value, 0, 1000);
	for (int i = 0; i < 20; i++)
		server_call(server, job_timeout);
	assert_in_range(out_of_files_times, 1, 5);
	out_of_files = false;
	server_call(server, job_hurry_retry);
	assert_alive(fd);
}

static void test_close_lets_readers_end(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = dial(server);
	static char part[MIB];

	ask(fd, "{\"verb\":\"big\",\"size\":4194304}\n{\"verb\":\"echo\"}\n");
	assert_int_equal(recv(fd, part, 1, MSG_PEEK), 1);
	server_call(server, job_close);
	assert_in_range(server_call(server, job_timeout), 0, 1000);
	assert_int_equal(recv(fd, part, MIB, MSG_WAITALL), MIB);
	assert_in_range(server_call(server, job_timeout), 0, 1000); /* reading wins no time */
	assert_int_equal(strlen(hear(fd)), 3 * MIB + strlen("{\"ok\":true,\"result\":\"\"}"));
	assert_null(hear(fd));
	assert_int_equal(server_call(server, job_timeout), -1);
}

static void test_close_does_not_wait_for_others(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = dial(server);
	char byte;

	ask(fd, "{\"verb\":\"big\",\"size\":4194304}\n");
	assert_int_equal(recv(fd, &byte, 1, MSG_PEEK), 1);
	server_call(server, job_close);
	server_call(server, job_hurry);
	assert_int_equal(server_call(server, job_timeout), -1);
}

static void on_closer(uv_timer_t *timer)
{
	job_close(timer->data);
	uv_close((uv_handle_t *)timer, NULL);
}

static void job_start_closer(struct server *server)
{
	static uv_timer_t closer;

	uv_timer_init(&server->loop, &closer);
	closer.data = server;
	uv_timer_start(&closer, on_closer, 1000000, 0);
}

/* The control closes the client, and the client's time is up before its timer is closed. */
static void test_close_as_time_is_up(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = -1;

	server_call(server, job_start_closer); /* the first of the timers */
	fd = dial(server);
	assert_alive(fd);
	server_call(server, job_hurry);
	assert_null(hear(fd));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_too_many_clients),	    TEST(test_slow_reader),
		TEST(test_answer_too_long),	    TEST(test_idle_client),
		TEST(test_client_that_never_reads), TEST(test_out_of_files),
		TEST(test_close_lets_readers_end),  TEST(test_close_does_not_wait_for_others),
		TEST(test_close_as_time_is_up),
	};

	return cmocka_run_group_tests_name("control_limits", tests, NULL, NULL);
}
