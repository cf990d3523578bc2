/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the results of the self-test come to: whether anything is spliced, and what the operator is
 * told is missing.
 * Reads from: nothing.
 * Writes to: nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "selftest.h"
#include "util/cleanup.h"

static struct selftest all(enum selftest_outcome outcome)
{
	struct selftest selftest = {};

	for (int i = 0; i < SELFTEST_MAX; i++)
		selftest.outcome[i] = outcome;
	return selftest;
}

/* @lacks: a part of the text; NULL: it splices. */
static void expect(const struct selftest *selftest, const char *lacks)
{
	_cleanup_free_ char *text = selftest_lacks(selftest);

	assert_int_equal(selftest_allows(selftest), !lacks);
	if (!lacks)
		assert_null(text);
	else if (!text || !strstr(text, lacks))
		fail_msg("'%s' is not in '%s'", lacks, text ?: "");
}

static void test_all_passed(void **state)
{
	struct selftest selftest = all(SELFTEST_PASSED);

	(void)state;
	expect(&selftest, NULL);
}

static void test_not_made(void **state)
{
	struct selftest selftest = {};

	(void)state;
	expect(&selftest, "not come to: borrow (");
}

static void test_each_that_is_needed(void **state)
{
	(void)state;
	for (int i = 0; i < SELFTEST_MAX; i++) {
		struct selftest selftest = all(SELFTEST_PASSED);

		selftest.outcome[i] = SELFTEST_FAILED;
		expect(&selftest, selftest_needed(i) ? selftest_name(i) : NULL);
		expect(&selftest, selftest_needed(i) ? selftest_text(i) : NULL);
		selftest.outcome[i] = SELFTEST_UNTRIED;
		expect(&selftest, selftest_needed(i) ? selftest_name(i) : NULL);
	}
}

static void test_what_is_needed(void **state)
{
	struct selftest selftest = all(SELFTEST_FAILED);

	(void)state;
	for (int i = SELFTEST_borrow; i <= SELFTEST_leave; i++)
		selftest.outcome[i] = SELFTEST_PASSED;
	expect(&selftest, NULL);
}

static void test_names_only_what_is_missing(void **state)
{
	struct selftest selftest = all(SELFTEST_PASSED);
	_cleanup_free_ char *text = NULL;

	(void)state;
	selftest.outcome[SELFTEST_kick] = SELFTEST_FAILED;
	selftest.outcome[SELFTEST_charge] = SELFTEST_FAILED;
	selftest.outcome[SELFTEST_order] = SELFTEST_UNTRIED;
	selftest.outcome[SELFTEST_adopt] = SELFTEST_FAILED;
	text = selftest_lacks(&selftest);
	assert_string_equal(
		text,
		"failed in the self-test: charge (spliced bytes are charged to the receive buffer "
		"of their reader), kick (a reader is told of TCP's bytes behind those that were "
		"spliced); not come to: order (bytes that go partly past TCP and partly by it "
		"arrive in order)");
}

static void test_obstacle(void **state)
{
	struct selftest selftest = all(SELFTEST_PASSED);

	(void)state;
	selftest.obstacle = "no network namespace can be made";
	selftest.error = -EPERM;
	expect(&selftest, "the self-test could not be made: no network namespace can be made: "
			  "Operation not permitted");
}

static void test_no_such_place(void **state)
{
	struct selftest selftest = all(SELFTEST_PASSED);

	(void)state;
	selftest_run("/nonexistent/cgroup", &selftest);
	for (int i = 0; i < SELFTEST_MAX; i++)
		assert_int_equal(selftest.outcome[i], SELFTEST_UNTRIED);
	expect(&selftest, "no cgroup can be made below cgroup_root: No such file or directory");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_passed),
		cmocka_unit_test(test_not_made),
		cmocka_unit_test(test_each_that_is_needed),
		cmocka_unit_test(test_what_is_needed),
		cmocka_unit_test(test_names_only_what_is_missing),
		cmocka_unit_test(test_obstacle),
		cmocka_unit_test(test_no_such_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
