/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How shuntctl asks: what it says when there is no agent, or one that is of no help.
 * Reads from: a socket on which a thread plays the agent.
 * Writes to: that socket, in a directory of its own below /tmp.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "capture.h"
#include "ctl/client.h"
#include "util/cleanup.h"

CLEANUP_DEFINE(json_t *, json_decref)

#define MANY (8 << 20)

struct agent {
	char dir[64];
	char path[96];
	int fd;
	const char *answer; /* NULL: none, and the question is not read either */
	char question[128];
};

static int setup(void **state)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(agent->dir, "/tmp/shunt-test-client-XXXXXX");
	assert_non_null(mkdtemp(agent->dir));
	snprintf(agent->path, sizeof(agent->path), "%s/control.sock", agent->dir);
	agent->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, agent->path);
	assert_int_equal(bind(agent->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(agent->fd, 1), 0);
	*state = agent;
	return 0;
}

static int teardown(void **state)
{
	struct agent *agent = *state;

	if (agent->fd >= 0)
		close(agent->fd);
	unlink(agent->path);
	rmdir(agent->dir);
	free(agent);
	return 0;
}

static void *play(void *arg)
{
	struct agent *agent = arg;
	_cleanup_close_ int fd = accept(agent->fd, NULL, NULL);
	ssize_t n;

	if (!agent->answer)
		return NULL;
	n = recv(fd, agent->question, sizeof(agent->question) - 1, 0);
	agent->question[n > 0 ? n : 0] = '\0';
	send(fd, agent->answer, strlen(agent->answer), MSG_NOSIGNAL);
	return NULL;
}

/* Asks the agent, which answers so. Returns what shuntctl says on stderr. */
static const char *ask(struct agent *agent, const char *answer, json_t *request, int *ret,
		       json_t **ret_result)
{
	static struct capture capture;
	pthread_t thread;

	agent->answer = answer;
	assert_int_equal(pthread_create(&thread, NULL, play, agent), 0);
	capture_begin(&capture);
	*ret = client_ask(agent->path, request, ret_result);
	capture_end(&capture);
	pthread_join(thread, NULL);
	return capture.text;
}

static json_t *question(void)
{
	return json_pack("{s:s}", "verb", "status");
}

static void test_answer(void **state)
{
	_cleanup_(cleanup_json_decref) json_t *result = NULL;
	struct agent *agent = *state;
	int r;

	assert_string_equal(ask(agent, "{\"ok\":true,\"result\":[7]}\n", question(), &r, &result),
			    "");
	assert_int_equal(r, 0);
	assert_int_equal(json_integer_value(json_array_get(result, 0)), 7);
	assert_string_equal(agent->question, "{\"verb\":\"status\"}\n");
	json_decref(result);
	assert_string_equal(ask(agent, "{\"ok\":true}\n", question(), &r, &result), "");
	assert_true(json_is_null(result));
}

static void test_refusals(void **state)
{
	static const struct {
		const char *answer;
		const char *says;
	} cases[] = {
		{"{\"ok\":false,\"error\":\"no such cgroup\"}\n", "shuntctl: no such cgroup\n"},
		{"{\"ok\":false,\"error\":\"a:1: x\\na:2: %s\"}\n", "a:1: x\na:2: %s\n"},
		{"{\"ok\":false}\n", "shuntctl: what the agent answers is not understood\n"},
		{"[1]\n", "shuntctl: what the agent answers is not understood\n"},
		{"hello\n", "shuntctl: what the agent answers is not understood\n"},
		{"{\"ok\":true,\"result\":1}",
		 "shuntctl: the agent closed the connection without an answer\n"},
		{"", "shuntctl: the agent closed the connection without an answer\n"},
		{NULL, "shuntctl: the agent closed the connection without an answer\n"},
	};
	json_t *result = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r;

		assert_string_equal(ask(*state, cases[i].answer, question(), &r, &result),
				    cases[i].says);
		assert_true(r < 0);
		assert_null(result);
	}
}

/* The agent has said why and closed the connection before it read the question. */
static void test_refused_before_asking(void **state)
{
	struct agent *agent = *state;
	_cleanup_free_ char *padding = malloc(MANY);
	json_t *result = NULL;
	int r;

	memset(padding, 'x', MANY - 1);
	padding[MANY - 1] = '\0';
	assert_string_equal(ask(agent, "{\"ok\":false,\"error\":\"too many\"}\n",
				json_pack("{s:s}", "verb", padding), &r, &result),
			    "shuntctl: too many\n");
	assert_true(r < 0);
}

static void test_no_agent(void **state)
{
	struct agent *agent = *state;
	struct capture capture;
	json_t *result = NULL;
	char expected[256];

	close(TAKE_FD(agent->fd));
	capture_begin(&capture);
	assert_int_equal(client_ask(agent->path, question(), &result), -ECONNREFUSED);
	snprintf(expected, sizeof(expected),
		 "shuntctl: %s: Connection refused; is shuntd running?\n", agent->path);
	assert_string_equal(capture_end(&capture), expected);

	unlink(agent->path);
	capture_begin(&capture);
	assert_int_equal(client_ask(agent->path, question(), &result), -ENOENT);
	snprintf(expected, sizeof(expected),
		 "shuntctl: %s: No such file or directory; is shuntd running?\n", agent->path);
	assert_string_equal(capture_end(&capture), expected);

	memset(expected, 'x', sizeof(expected) - 1);
	expected[sizeof(expected) - 1] = '\0';
	capture_begin(&capture);
	assert_int_equal(client_ask(expected, question(), &result), -ENAMETOOLONG);
	assert_non_null(strstr(capture_end(&capture), "name too long"));
}

static void test_not_utf8(void **state)
{
	struct agent *agent = *state;
	struct capture capture;
	json_t *result = NULL;

	capture_begin(&capture);
	assert_int_equal(client_ask(agent->path, json_pack("{s:s}", "verb", "\xe9"), &result),
			 -EINVAL);
	assert_string_equal(capture_end(&capture), "shuntctl: an argument is not UTF-8\n");
}

/* Root is let in everywhere, so root asks as somebody else. */
static void test_permission_denied(void **state)
{
	struct agent *agent = *state;
	struct capture capture;
	json_t *result = NULL;
	char expected[256];
	int r;

	assert_int_equal(chmod(agent->path, 0), 0);
	capture_begin(&capture);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	r = client_ask(agent->path, question(), &result);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	capture_end(&capture);
	assert_int_equal(r, -EACCES);
	snprintf(expected, sizeof(expected),
		 "shuntctl: %s: permission denied; root and group shunt may\n", agent->path);
	assert_string_equal(capture.text, expected);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_answer),   TEST(test_refusals), TEST(test_refused_before_asking),
		TEST(test_no_agent), TEST(test_not_utf8), TEST(test_permission_denied),
	};

	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
