/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The HTTP server in a loop of its own: pages, refusals, clients that are slow, many or talk
 * nonsense, and that nothing is left when it is closed.
 * Reads from: agent/http.c.
 * Writes to: connections to 127.0.0.1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "http.h"
#include "util/addr.h"
#include "util/cleanup.h"

#define DEADLINE_SECONDS 30
#define LARGE		 (8 << 20) /* more than the buffers of a connection take */

struct world {
	uv_loop_t loop;
	struct http *http;
	struct shunt_endpoint address;
	unsigned int pages; /* made */
};

static int page_hello(void *user, const struct http_request *request, struct http_answer *ret)
{
	static const struct http_field fields[] = {{"X-Test", "yes"}, {}};
	const char *accept = http_header(request, "accept");
	struct world *world = user;

	world->pages++;
	ret->fields = fields;
	ret->type = "text/x-hello";
	if (asprintf(&ret->body, "hello, %s", accept ?: "anything") < 0)
		return -ENOMEM;
	ret->len = strlen(ret->body);
	return 0;
}

static int page_static(void *user, const struct http_request *request, struct http_answer *ret)
{
	ret->body = (char *)"static";
	ret->len = strlen("static");
	ret->borrowed = true;
	return 0;
}

static int page_large(void *user, const struct http_request *request, struct http_answer *ret)
{
	ret->body = calloc(1, LARGE);
	ret->len = LARGE;
	return ret->body ? 0 : -ENOMEM;
}

static int page_wrong(void *user, const struct http_request *request, struct http_answer *ret)
{
	return -EINVAL;
}

static int page_off(void *user, const struct http_request *request, struct http_answer *ret)
{
	return -ENOTCONN;
}

static const struct http_page pages[] = {
	{"/hello", page_hello}, {"/static", page_static}, {"/large", page_large},
	{"/wrong", page_wrong}, {"/off", page_off},	  {},
};

static int setup(void **state)
{
	static struct world world;
	uint16_t port = 20000 + (unsigned int)getpid() % 20000;
	int r;

	memset(&world, 0, sizeof(world));
	uv_loop_init(&world.loop);
	addr_parse("127.0.0.1", world.address.addr);
	do {
		world.address.port = htons(++port);
		r = http_new(&world.loop, &world.address, pages, &world, &world.http);
	} while (r == -EADDRINUSE && port < 60000);
	*state = &world;
	return r;
}

static int teardown(void **state)
{
	struct world *world = *state;

	http_close(world->http);
	http_close(NULL);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	return uv_loop_close(&world->loop);
}

static int dial(const struct world *world)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = world->address.port,
		.sin_addr.s_addr = world->address.addr[3],
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void on_tick(uv_timer_t *timer)
{
}

/* Turns the loop until something has come for @fd. */
static ssize_t hear(struct world *world, int fd, char *buffer, size_t size)
{
	time_t end = time(NULL) + DEADLINE_SECONDS;
	uv_timer_t tick;
	ssize_t n;

	uv_timer_init(&world->loop, &tick);
	uv_timer_start(&tick, on_tick, 10, 10);
	while ((n = recv(fd, buffer, size, MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
		assert_true(time(NULL) < end);
		uv_run(&world->loop, UV_RUN_ONCE);
	}
	uv_close((uv_handle_t *)&tick, NULL);
	uv_run(&world->loop, UV_RUN_NOWAIT);
	return n;
}

/* The whole answer to one question, to the end of the connection. */
static const char *ask(struct world *world, const char *request)
{
	static char answer[4096];
	_cleanup_close_ int fd = dial(world);
	size_t len = 0;
	ssize_t n;

	say(fd, request);
	while (len < sizeof(answer) - 1 &&
	       (n = hear(world, fd, answer + len, sizeof(answer) - 1 - len)) > 0)
		len += n;
	answer[len] = '\0';
	return answer;
}

static void assert_status(struct world *world, const char *request, const char *status)
{
	const char *answer = ask(world, request);

	if (strncmp(answer, "HTTP/1.1 ", 9) || strncmp(answer + 9, status, 3))
		fail_msg("%s: expected status %s, got: %s", request, status, answer);
}

#define END " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

static void test_pages(void **state)
{
	const char *answer = ask(*state, "GET /hello?name=a%20b HTTP/1.1\r\nHost: localhost\r\n"
					 "Accept: x/y\r\nConnection: close\r\n\r\n");

	assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(answer, "\r\nContent-Type: text/x-hello\r\n"));
	assert_non_null(strstr(answer, "\r\nX-Test: yes\r\n"));
	assert_non_null(strstr(answer, "\r\nCache-Control: no-store\r\n"));
	assert_non_null(strstr(answer, "\r\n\r\nhello, x/y"));
	answer = ask(*state, "GET /static" END);
	assert_non_null(strstr(answer, "\r\n\r\nstatic"));
	answer = ask(*state, "HEAD /static" END);
	assert_non_null(strstr(answer, "\r\nContent-Length: 6\r\n"));
	assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}

static void test_refusals(void **state)
{
	assert_status(*state, "GET /" END, "404");
	assert_status(*state, "GET /hello/" END, "404");
	assert_status(*state, "GET /wrong" END, "400");
	assert_status(*state, "GET /off" END, "503");
	assert_status(*state, "DELETE /hello" END, "405");
	assert_status(*state,
		      "POST /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello",
		      "405");
	assert_status(*state,
		      "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello",
		      "400");
	assert_status(*state,
		      "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n"
		      "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		      "400");
	assert_status(*state,
		      "GET /hello HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
		      "403");
}

static void test_hosts(void **state)
{
	static const char *const local[] = {
		"127.0.0.1",	  "127.0.0.1:9464", "10.0.0.1:1", "localhost",
		"LocalHost:9464", "[::1]",	    "[::1]:9464", "[fd00::1]:1",
	};
	static const char *const others[] = {
		"",
		":9464",
		"evil.example",
		"evil.example:9464",
		"localhost.evil.example",
		"127.0.0.1.evil.example",
		"[::1",
		"[::1]evil",
		"[evil]",
		"::1x",
		"127.0.0.1x",
		"[1234567890123456789012345678901234567890123456789012345678901234567890]",
		"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
	};

	for (size_t i = 0; i < ARRAY_SIZE(local); i++)
		if (!http_host_is_local(local[i]))
			fail_msg("%s was refused", local[i]);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (http_host_is_local(others[i]))
			fail_msg("%s was taken", others[i]);
}

static void test_garbage(void **state)
{
	static const char *const garbage[] = {
		"\r\n\r\n\r\n\r\n",
		"nonsense\r\n\r\n",
		"GET\r\n\r\n",
		"\x16\x03\x01\x02\x01\x01\xfc\x03\x03 not TLS here\r\n\r\n",
		"GET /hello HTTP/9.9\r\n\r\n",
		"GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		_cleanup_close_ int fd = dial(*state);

		say(fd, garbage[i]);
		shutdown(fd, SHUT_WR);
		assert_status(*state, "GET /hello" END, "200");
	}
}

/* A header without an end costs no more than the memory of a connection. */
static void test_endless_header(void **state)
{
	_cleanup_close_ int fd = dial(*state);
	char buffer[1024];

	say(fd, "GET /hello HTTP/1.1\r\nX: ");
	memset(buffer, 'x', sizeof(buffer));
	for (size_t sent = 0; sent < HTTP_MEMORY_MAX; sent += sizeof(buffer))
		if (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) < 0)
			break;
	assert_true(hear(*state, fd, buffer, sizeof(buffer) - 1) <= 0 ||
		    !strncmp(buffer, "HTTP/1.1 4", 10));
}

/* One that does not read its answer, and those that do not even ask, keep nobody else waiting. */
static void test_slow(void **state)
{
	struct world *world = *state;
	_cleanup_close_ int large = dial(world), half = dial(world), silent = dial(world);
	char buffer[65536];
	size_t got = 0;
	ssize_t n;

	(void)silent; /* but for that it is there */
	say(large, "GET /large" END);
	say(half, "GET /hel");
	for (int i = 0; i < 5; i++)
		assert_status(world, "GET /hello" END, "200");
	say(half, "lo" END);
	assert_true(hear(world, half, buffer, sizeof(buffer)) > 0);
	say(silent, "GET /hello" END);
	assert_true(hear(world, silent, buffer, sizeof(buffer)) > 0);
	while ((n = hear(world, large, buffer, sizeof(buffer))) > 0)
		got += n;
	assert_true(got > LARGE);
}

/* Those beyond the limit are answered when others have gone, and do not keep the loop busy. */
static void test_many(void **state)
{
	struct world *world = *state;
	int fds[HTTP_CONNECTIONS_MAX + 8];
	char buffer[1024];
	clock_t before;
	uv_timer_t tick;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial(world);
	for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		say(fds[i], "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
		assert_true(hear(world, fds[i], buffer, sizeof(buffer)) > 0);
	}
	say(fds[HTTP_CONNECTIONS_MAX], "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
	uv_timer_init(&world->loop, &tick);
	uv_timer_start(&tick, on_tick, 300, 0);
	before = clock();
	while (uv_is_active((uv_handle_t *)&tick))
		uv_run(&world->loop, UV_RUN_ONCE);
	assert_true(clock() - before < CLOCKS_PER_SEC / 10);
	uv_close((uv_handle_t *)&tick, NULL);
	assert_int_equal(world->pages, HTTP_CONNECTIONS_MAX);

	close(fds[0]);
	assert_true(hear(world, fds[HTTP_CONNECTIONS_MAX], buffer, sizeof(buffer)) > 0);
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* With nobody connected nothing is left to do: no timer runs. */
static bool is_idle(struct world *world)
{
	uv_run(&world->loop, UV_RUN_NOWAIT);
	return uv_backend_timeout(&world->loop) == -1;
}

static void test_idle(void **state)
{
	struct world *world = *state;
	time_t end = time(NULL) + DEADLINE_SECONDS;

	assert_true(is_idle(world));
	assert_status(world, "GET /hello" END, "200");
	while (!is_idle(world)) {
		assert_true(time(NULL) < end);
		uv_run(&world->loop, UV_RUN_ONCE);
	}
}

static void test_taken(void **state)
{
	struct world *world = *state;
	struct shunt_endpoint elsewhere = {.port = htons(9464)};
	struct http *other = NULL;

	assert_int_equal(http_new(&world->loop, &world->address, pages, world, &other),
			 -EADDRINUSE);
	assert_int_equal(addr_parse("192.0.2.1", elsewhere.addr), 0);
	assert_int_equal(http_new(&world->loop, &elsewhere, pages, world, &other), -EADDRNOTAVAIL);
	assert_null(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endless_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
