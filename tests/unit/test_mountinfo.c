/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finding a mount point in the text of /proc/self/mountinfo.
 * Reads from: texts in this file.
 * Writes to: nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mountinfo.h"
#include "util/cleanup.h"

#define TMPFS  "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
#define HYBRID "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
#define SHARED "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:3 - cgroup2 none rw\n"
#define PART   "50 23 0:26 /a/b /run/part rw - cgroup2 cgroup2 rw\n"
#define V1     "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup2 rw,cpu\n"
#define SPACED "60 23 0:26 / /my\\040cgroups\\134x\\0 rw - cgroup2 cgroup2 rw\n"

static void expect(const char *text, int expected, const char *expected_point)
{
	_cleanup_fclose_ FILE *stream = fmemopen((void *)text, strlen(text), "r");
	_cleanup_free_ char *point = NULL;

	assert_non_null(stream);
	assert_int_equal(mountinfo_find(stream, "cgroup2", &point), expected);
	if (expected_point)
		assert_string_equal(point, expected_point);
	else
		assert_null(point);
}

static void test_finds(void **state)
{
	expect(TMPFS V1 HYBRID, 0, "/sys/fs/cgroup/unified");
	expect(TMPFS SHARED, 0, "/sys/fs/cgroup");
	expect(SHARED HYBRID, 0, "/sys/fs/cgroup");
}

static void test_whole_tree_is_preferred(void **state)
{
	expect(PART SHARED, 0, "/sys/fs/cgroup");
	expect(SHARED PART, 0, "/sys/fs/cgroup");
	expect(TMPFS PART, 0, "/run/part");
}

static void test_escapes(void **state)
{
	expect(SPACED, 0, "/my cgroups\\x\\0");
}

static void expect_inner(const char *text, const char *path, const char *expected)
{
	_cleanup_fclose_ FILE *stream = fmemopen((void *)text, strlen(text), "r");
	_cleanup_free_ char *inner = NULL;

	assert_non_null(stream);
	assert_int_equal(mountinfo_find_inner(stream, "cgroup2", path, &inner),
			 expected ? 0 : -ENOENT);
	if (expected)
		assert_string_equal(inner, expected);
}

static void test_inner(void **state)
{
	expect_inner(TMPFS V1 HYBRID, "/sys/fs/cgroup/unified", "/");
	expect_inner(TMPFS V1 HYBRID, "/sys/fs/cgroup/unified/x/y", "/x/y");
	expect_inner(TMPFS V1 HYBRID, "/sys/fs/cgroup/unifiedx", NULL);
	expect_inner(TMPFS V1 HYBRID, "/sys/fs/cgroup/cpu/x", NULL);
	expect_inner(SHARED PART, "/run/part", "/a/b");
	expect_inner(SHARED PART, "/run/part/c", "/a/b/c");
	expect_inner(SPACED, "/my cgroups\\x\\0/c", "/c");
	/* The deepest mount point counts, and of those at one place the last. */
	expect_inner(SHARED "61 30 0:26 /a /sys/fs/cgroup/m rw - cgroup2 none rw\n",
		     "/sys/fs/cgroup/m/c", "/a/c");
	expect_inner("61 30 0:26 /a /sys/fs/cgroup/m rw - cgroup2 none rw\n" SHARED,
		     "/sys/fs/cgroup/m/c", "/a/c");
	expect_inner(SHARED "62 30 0:26 /b /sys/fs/cgroup rw - cgroup2 none rw\n",
		     "/sys/fs/cgroup/c", "/b/c");
	expect_inner("1 1 0:26 / / rw - cgroup2 none rw\n", "/x", "/x");
	expect_inner("1 1 0:26 / / rw - cgroup2 none rw\n", "/", "/");
}

static void test_absent(void **state)
{
	expect("\n", -ENOENT, NULL);
	expect(TMPFS V1, -ENOENT, NULL);
}

static void test_malformed_lines_are_passed_over(void **state)
{
	expect("cgroup2\n1 2 3\n1 2 3 / /x rw -\n- - - - - - -\n" HYBRID, 0,
	       "/sys/fs/cgroup/unified");
	/* A mount point or an option may be a dash. */
	expect("41 31 0:38 / - - - cgroup2 cgroup2 rw\n", 0, "-");
	expect("41 31 0:38 / /cut rw shared:1", -ENOENT, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds),
		cmocka_unit_test(test_whole_tree_is_preferred),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_inner),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_malformed_lines_are_passed_over),
	};

	return cmocka_run_group_tests_name("mountinfo", tests, NULL, NULL);
}
