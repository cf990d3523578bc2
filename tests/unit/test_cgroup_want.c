/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The set of watched paths.
 * Reads from: nothing.
 * Writes to: nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cgroup_want.h"

static int add(const char *path)
{
	void *wants = NULL;
	int r = cgroup_wants_add(&wants, path);

	cgroup_wants_deinit(&wants);
	return r;
}

static void test_way_and_watched(void **state)
{
	void *wants = NULL;

	assert_int_equal(cgroup_wants_find(&wants, "/"), CGROUP_INTEREST_NONE);
	assert_int_equal(cgroup_wants_add(&wants, "/a/bc/d"), 0);
	assert_int_equal(cgroup_wants_add(&wants, "/a/x"), 0);
	assert_int_equal(cgroup_wants_add(&wants, "/a/x"), 0);

	assert_int_equal(cgroup_wants_find(&wants, "/"), CGROUP_INTEREST_WAY);
	assert_int_equal(cgroup_wants_find(&wants, "/a"), CGROUP_INTEREST_WAY);
	assert_int_equal(cgroup_wants_find(&wants, "/a/bc"), CGROUP_INTEREST_WAY);
	assert_int_equal(cgroup_wants_find(&wants, "/a/bc/d"), CGROUP_INTEREST_ALL);
	assert_int_equal(cgroup_wants_find(&wants, "/a/x"), CGROUP_INTEREST_ALL);

	assert_int_equal(cgroup_wants_find(&wants, "/a/b"), CGROUP_INTEREST_NONE);
	assert_int_equal(cgroup_wants_find(&wants, "/a/bc/d/e"), CGROUP_INTEREST_NONE);
	assert_int_equal(cgroup_wants_find(&wants, "/b"), CGROUP_INTEREST_NONE);

	cgroup_wants_deinit(&wants);
	assert_null(wants);
}

static void test_root(void **state)
{
	void *wants = NULL;

	assert_int_equal(cgroup_wants_add(&wants, "/"), 0);
	assert_int_equal(cgroup_wants_find(&wants, "/"), CGROUP_INTEREST_ALL);
	cgroup_wants_deinit(&wants);
}

static void test_plain_paths_only(void **state)
{
	static const char *const bad[] = {"",	"a",   "a/b",  "/a/",  "//",	"//a",	  "/a//b",
					  "/.", "/..", "/./a", "/a/.", "/a/..", "/a/../b"};
	static const char *const good[] = {"/", "/a", "/.a", "/..a", "/...", "/a./b..", "/ /\n"};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(add(bad[i]), -EINVAL);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(add(good[i]), 0);
}

static void expect_nested(const char *first, const char *second)
{
	void *wants = NULL;

	assert_int_equal(cgroup_wants_add(&wants, first), 0);
	assert_int_equal(cgroup_wants_add(&wants, second), -EINVAL);
	cgroup_wants_deinit(&wants);
}

static void test_none_inside_another(void **state)
{
	expect_nested("/a", "/a/b/c");
	expect_nested("/a/b/c", "/a");
	expect_nested("/", "/a");
	expect_nested("/a", "/");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_way_and_watched),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_plain_paths_only),
		cmocka_unit_test(test_none_inside_another),
	};

	return cmocka_run_group_tests_name("cgroup_want", tests, NULL, NULL);
}
