/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What shuntctl prints: alignment, JSON, and that names cannot speak to the terminal.
 * Reads from: nothing.
 * Writes to: memory.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "capture.h"
#include "ctl/out.h"
#include "util/cleanup.h"

CLEANUP_DEFINE(json_t *, json_decref)
CLEANUP_DEFINE(struct out_table *, out_table_free)

#define _cleanup_json_	    _cleanup_(cleanup_json_decref)
#define _cleanup_out_table_ _cleanup_(cleanup_out_table_free)

static void assert_prints(const struct out_table *table, const char *expected)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	out_table_print(table, stream);
	fclose(stream);
	assert_string_equal(text, expected);
}

static void test_alignment(void **state)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("lrl");

	(void)state;
	out_table_row(table, "NAME", "VALUE", "MEANING");
	out_table_row(table, "a_long_name", "7", "few");
	out_table_text(table, "%s", "b");
	out_table_text(table, "%d", 123456);
	out_table_text(table, "%s", "");
	assert_prints(table, "NAME          VALUE  MEANING\n"
			     "a_long_name       7  few\n"
			     "b            123456  -\n");
}

static void test_right_at_the_end(void **state)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("lr");

	(void)state;
	out_table_row(table, "x", "1");
	out_table_row(table, "yy", "10");
	assert_prints(table, "x    1\n"
			     "yy  10\n");
}

static void test_empty(void **state)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("ll");

	(void)state;
	assert_prints(table, "");
}

static void test_characters_are_counted_not_bytes(void **state)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("ll");

	(void)state;
	out_table_row(table, "größe", "1");
	out_table_row(table, "abcde", "2");
	assert_prints(table, "größe  1\n"
			     "abcde  2\n");
}

static void test_control_characters(void **state)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("ll");

	(void)state;
	out_table_row(table, "/a\033]0;x\007", "1");
	out_table_row(table, "/b\nc\xc2\x9b\xe9", "2");
	assert_prints(table, "/a\\x1b]0;x\\x07       1\n"
			     "/b\\x0ac\\xc2\\x9b\\xe9  2\n");
}

static void test_members(void **state)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("llllll");
	_cleanup_json_ json_t *object =
		json_pack("{s:s, s:I, s:[s,s], s:[], s:n}", "text", "t", "number",
			  (json_int_t)INT64_MIN, "list", "a", "b", "empty", "null");

	(void)state;
	out_table_members(table, object, "text", "number", "list", "empty", "null", "absent");
	/* Nor does an answer of another shape end the program. */
	out_table_members(table, json_object_get(object, "list"), "text", "number", "list", "empty",
			  "null", "absent");
	assert_prints(table, "t  -9223372036854775808  a, b  -  -  -\n"
			     "-  -                     -     -  -  -\n");
	assert_string_equal(out_string(object, "text"), "t");
	assert_string_equal(out_string(object, "number"), "-");
	assert_string_equal(out_string(NULL, "text"), "-");
}

static void test_json(void **state)
{
	_cleanup_json_ json_t *value = json_pack("{s:i, s:[s]}", "b", 1, "a", "\033\xc2\x9b");
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	(void)state;
	out_json(stream, value);
	out_json(stream, json_null());
	fclose(stream);
	assert_string_equal(text,
			    "{\n  \"a\": [\n    \"\\u001B\\u009B\"\n  ],\n  \"b\": 1\n}\nnull\n");
}

static void test_error(void **state)
{
	struct capture capture;

	(void)state;
	capture_begin(&capture);
	out_error("%s: %d", "no", 7);
	out_error("trailing\n");
	out_error("x.ini:1: a\nx.ini:2: \033b\n");
	assert_string_equal(capture_end(&capture), "shuntctl: no: 7\n"
						   "shuntctl: trailing\n"
						   "x.ini:1: a\n"
						   "x.ini:2: \\x1bb\n");
}

static void *say_elsewhere(void *stream)
{
	out_errors_to(stream);
	out_error("kept");
	return NULL;
}

/* Whoever keeps errors from stderr, in a thread, keeps no other's. */
static void test_errors_of_a_thread(void **state)
{
	_cleanup_free_ char *kept = NULL;
	struct capture capture;
	pthread_t thread;
	size_t len;
	FILE *stream = open_memstream(&kept, &len);

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, say_elsewhere, stream), 0);
	pthread_join(thread, NULL);
	capture_begin(&capture);
	out_error("told");
	assert_string_equal(capture_end(&capture), "shuntctl: told\n");
	fclose(stream);
	assert_string_equal(kept, "shuntctl: kept\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_right_at_the_end),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_characters_are_counted_not_bytes),
		cmocka_unit_test(test_control_characters),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_errors_of_a_thread),
	};

	return cmocka_run_group_tests_name("out", tests, NULL, NULL);
}
