/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How shuntctl asks: what it says when there is no agent, or one that is of no help.
 * Reads from: an agent that a thread plays.
 * Writes to: the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "capture.h"
#include "ctl/client.h"
#include "fake_agent.h"
#include "util/cleanup.h"

CLEANUP_DEFINE(json_t *, json_decref)

#define MANY (8 << 20)

/* Asks the agent, which answers so (NULL: not at all). Returns what shuntctl says on stderr. */
static const char *ask(struct fake_agent *agent, const char *answer, json_t *request, int *ret,
		       json_t **ret_result)
{
	const char *const answers[] = {answer, NULL};
	static struct capture capture;

	fake_agent_play(agent, answer ? answers : NULL);
	capture_begin(&capture);
	*ret = client_ask(agent->path, request, ret_result);
	capture_end(&capture);
	fake_agent_end(agent);
	return capture.text;
}

static json_t *question(void)
{
	return json_pack("{s:s}", "verb", "status");
}

static void test_answer(void **state)
{
	_cleanup_(cleanup_json_decref) json_t *result = NULL;
	struct fake_agent *agent = *state;
	int r;

	assert_string_equal(ask(agent, "{\"ok\":true,\"result\":[7]}\n", question(), &r, &result),
			    "");
	assert_int_equal(r, 0);
	assert_int_equal(json_integer_value(json_array_get(result, 0)), 7);
	assert_string_equal(agent->questions, "{\"verb\":\"status\"}\n");
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
	struct fake_agent *agent = *state;
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
	struct fake_agent *agent = *state;
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
	struct fake_agent *agent = *state;
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
	struct fake_agent *agent = *state;
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
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_agent_setup, fake_agent_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_answer),   TEST(test_refusals), TEST(test_refused_before_asking),
		TEST(test_no_agent), TEST(test_not_utf8), TEST(test_permission_denied),
	};

	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
