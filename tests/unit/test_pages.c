/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers that come page after page, and are not made objects of.
 * Reads from: an agent that a thread plays.
 * Writes to: the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "capture.h"
#include "ctl/pages.h"
#include "fake_agent.h"
#include "util/cleanup.h"

/* Notes where the items of an answer end that was told of as it came. */
struct taken {
	size_t n;
	char ends[16];
};

static void take(void *user, const struct pages_item *item)
{
	struct taken *taken = user;

	assert_true(taken->n < sizeof(taken->ends));
	taken->ends[taken->n++] = item->text[item->len - 2];
}

/* Returns what shuntctl says on stderr. */
static const char *fetch_taking(struct fake_agent *agent, const char *const *answers,
				struct taken *taken, int *ret, struct pages *pages)
{
	static struct capture capture;

	fake_agent_play(agent, answers);
	capture_begin(&capture);
	*ret = pages_fetch(agent->path, "list", "items", json_pack("{s:i}", "pid", 1),
			   taken ? take : NULL, taken, pages);
	capture_end(&capture);
	fake_agent_end(agent);
	return capture.text;
}

static const char *fetch(struct fake_agent *agent, const char *const *answers, int *ret,
			 struct pages *pages)
{
	return fetch_taking(agent, answers, NULL, ret, pages);
}

static void assert_item(const struct pages *pages, size_t i, const char *text)
{
	assert_true(i < pages->n);
	assert_int_equal(pages->items[i].len, strlen(text));
	assert_memory_equal(pages->items[i].text, text, strlen(text));
}

static void test_pages(void **state)
{
	static const char *const answers[] = {
		"{\"ok\":true,\"result\":{\"items\":[{\"a\":1},{\"b\":{\"c\":[{}]}}],\"next\":7}}\n",
		"{\"ok\":true,\"result\":{\"items\":[],\"next\":8}}\n",
		"{\"ok\":true,\"result\":{\"items\":[{\"d\":\"}\\\"]\\\\\"}],\"next\":null}}\n",
		NULL,
	};
	_cleanup_(pages_deinit) struct pages pages;
	struct fake_agent *agent = *state;
	int r;

	assert_string_equal(fetch(agent, answers, &r, &pages), "");
	assert_int_equal(r, 0);
	assert_int_equal(pages.n, 3);
	assert_item(&pages, 0, "{\"a\":1}");
	assert_item(&pages, 1, "{\"b\":{\"c\":[{}]}}");
	assert_item(&pages, 2, "{\"d\":\"}\\\"]\\\\\"}");
	assert_string_equal(agent->questions, "{\"pid\":1,\"verb\":\"list\"}\n"
					      "{\"verb\":\"list\",\"next\":7}\n"
					      "{\"verb\":\"list\",\"next\":8}\n");
}

static void test_taken_as_they_come(void **state)
{
	static const char *const answers[] = {
		"{\"ok\":true,\"result\":{\"items\":[{\"a\":1},{\"b\":2}],\"next\":7}}\n",
		"{\"ok\":true,\"result\":{\"items\":[{\"c\":3}],\"next\":8}}\n",
		"{\"ok\":true,\"result\":{\"items\":[{\"d\":4}\n",
		NULL,
	};
	_cleanup_(pages_deinit) struct pages pages;
	struct taken taken = {};
	int r;

	assert_string_equal(fetch_taking(*state, answers, &taken, &r, &pages),
			    "shuntctl: what the agent answers is not understood\n");
	assert_true(r < 0);
	assert_int_equal(taken.n, 3);
	assert_memory_equal(taken.ends, "123", 3);
}

static void test_none(void **state)
{
	static const char *const answers[] = {
		"{\"ok\":true,\"result\":{\"items\":[],\"next\":null}}\n",
		NULL,
	};
	_cleanup_(pages_deinit) struct pages pages;
	int r;

	assert_string_equal(fetch(*state, answers, &r, &pages), "");
	assert_int_equal(r, 0);
	assert_int_equal(pages.n, 0);
}

static void test_refused(void **state)
{
	static const char *const answers[] = {
		"{\"ok\":true,\"result\":{\"items\":[{}],\"next\":7}}\n",
		"{\"ok\":false,\"error\":\"ask \\\"ok\\\":true again\"}\n",
		NULL,
	};
	_cleanup_(pages_deinit) struct pages pages;
	int r;

	assert_string_equal(fetch(*state, answers, &r, &pages),
			    "shuntctl: ask \"ok\":true again\n");
	assert_true(r < 0);
}

static void test_not_understood(void **state)
{
	static const char *const answers[][2] = {
		{"{\"ok\":true,\"result\":null}\n"},
		{"{\"ok\":true,\"result\":{\"others\":[],\"next\":null}}\n"},
		{"{\"ok\":true,\"result\":{\"items\":[7],\"next\":null}}\n"},
		{"{\"ok\":true,\"result\":{\"items\":[{],\"next\":null}}\n"},
		{"{\"ok\":true,\"result\":{\"items\":[{\"a\":\"}],\"next\":null}}\n"},
		{"{\"ok\":true,\"result\":{\"items\":[{\"a\":\"\\\n"},
		{"{\"ok\":true,\"result\":{\"items\":[{}]}}\n"},
		{"{\"ok\":true,\"result\":{\"items\":[{}],\"next\":x}}\n"},
		{"{\"ok\":true,\"result\":{\"items\":[{}],\"next\":7\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		_cleanup_(pages_deinit) struct pages pages;
		int r;

		assert_string_equal(fetch(*state, answers[i], &r, &pages),
				    "shuntctl: what the agent answers is not understood\n");
		assert_true(r < 0);
	}
}

static void test_sum(void **state)
{
	static const char text[] = "{\"n\":5,\"s\":\"\\\"n\\\":7\",\"o\":{\"n\":6,\"nn\":8},"
				   "\"m\":9}{\"n\":100}";
	struct pages_item item = {text, strlen(text) - strlen("{\"n\":100}")};

	(void)state;
	assert_int_equal(pages_sum(&item, "n"), 11);
	assert_int_equal(pages_sum(&item, "m"), 9);
	assert_int_equal(pages_sum(&item, "k"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_agent_setup, fake_agent_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_pages),
		TEST(test_none),
		TEST(test_refused),
		TEST(test_not_understood),
		TEST(test_taken_as_they_come),
		cmocka_unit_test(test_sum),
	};

	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
