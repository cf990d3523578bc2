/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What holds is told once, and no longer than it does.
 * Reads from: agent/warnings.h.
 * Writes to: stderr, which it reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "log.h"
#include "warnings.h"

static int teardown(void **state)
{
	(void)state;
	log_flush(true);
	return 0;
}

/* Returns whether something was logged. */
__attribute__((format(printf, 3, 4))) static bool
add(struct warnings *warnings, enum warning_kind kind, const char *format, ...)
{
	struct capture capture;
	va_list args;

	capture_begin(&capture);
	va_start(args, format);
	warnings_add(warnings, kind, format, args);
	va_end(args);
	return *capture_end(&capture);
}

static void test_told_once(void **state)
{
	struct warnings warnings = {};

	(void)state;
	assert_true(add(&warnings, WARNING_STANDING, "mesh %s", "a"));
	assert_true(add(&warnings, WARNING_STANDING, "mesh %s", "b"));
	assert_false(add(&warnings, WARNING_STANDING, "mesh %s", "a"));
	assert_int_equal(warnings.n, 2);
	assert_string_equal(warnings.texts[0], "mesh a");
	assert_string_equal(warnings.texts[1], "mesh b");
	assert_null(warnings.texts[2]);
	warnings_clear(&warnings);
	assert_int_equal(warnings.n, 0);
	assert_null(warnings.texts[0]);
	assert_true(add(&warnings, WARNING_STANDING, "mesh %s", "a"));
	warnings_clear(&warnings);
}

/* What is said again while it is tried again stays, and is not logged again; the rest goes. */
static void test_mended(void **state)
{
	struct warnings warnings = {};

	(void)state;
	add(&warnings, WARNING_STANDING, "stands");
	add(&warnings, WARNING_FAULT, "is mended");
	add(&warnings, WARNING_UNWATCHED, "is not watched");
	add(&warnings, WARNING_FAULT, "fails again");
	warnings_review(&warnings, WARNING_FAULT);
	assert_false(add(&warnings, WARNING_FAULT, "fails again"));
	warnings_drop_mended(&warnings);
	assert_int_equal(warnings.n, 3);
	assert_string_equal(warnings.texts[0], "stands");
	assert_string_equal(warnings.texts[1], "is not watched");
	assert_string_equal(warnings.texts[2], "fails again");
	assert_null(warnings.texts[3]);
	warnings_review(&warnings, WARNING_UNWATCHED);
	warnings_review(&warnings, WARNING_FAULT);
	warnings_drop_mended(&warnings);
	assert_int_equal(warnings.n, 1);
	assert_string_equal(warnings.texts[0], "stands");
	assert_null(warnings.texts[1]);
	assert_true(add(&warnings, WARNING_FAULT, "is mended"));
	assert_string_equal(warnings.texts[1], "is mended");
	assert_null(warnings.texts[2]);
	warnings_clear(&warnings);
}

static void test_too_many(void **state)
{
	struct warnings warnings = {};
	char last[16];

	(void)state;
	for (int i = 0; i < WARNINGS_MAX + 8; i++)
		add(&warnings, WARNING_FAULT, "number %d", i);
	assert_int_equal(warnings.n, WARNINGS_MAX);
	snprintf(last, sizeof(last), "number %d", WARNINGS_MAX - 1);
	assert_string_equal(warnings.texts[WARNINGS_MAX - 1], last);
	assert_null(warnings.texts[WARNINGS_MAX]);
	warnings_review(&warnings, WARNING_FAULT);
	warnings_drop_mended(&warnings);
	assert_int_equal(warnings.n, 0);
	assert_null(warnings.texts[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_told_once),
		TEST(test_mended),
		TEST(test_too_many),
	};

	return cmocka_run_group_tests_name("warnings", tests, NULL, NULL);
}
