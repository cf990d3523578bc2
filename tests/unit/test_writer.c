/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * JSON written as text, against a library that reads it.
 * Reads from: agent/util/writer.h.
 * Writes to: nothing.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/writer.h"

static void test_values(void **state)
{
	_cleanup_(writer_deinit) struct writer writer = {};

	(void)state;
	writer_object(&writer, NULL);
	writer_number(&writer, "none", 0);
	writer_number(&writer, "most", UINT64_MAX);
	writer_bool(&writer, "yes", true);
	writer_bool(&writer, "no", false);
	writer_null(&writer, "null");
	writer_string(&writer, "text", "a b");
	writer_string(&writer, "nothing", NULL);
	writer_array(&writer, "empty");
	writer_array_end(&writer);
	writer_array(&writer, "array");
	writer_number(&writer, NULL, 1);
	writer_object(&writer, NULL);
	writer_object_end(&writer);
	writer_string(&writer, NULL, "");
	writer_array_end(&writer);
	writer_number(&writer, "last", 2);
	writer_object_end(&writer);
	assert_string_equal(writer_text(&writer),
			    "{\"none\":0,\"most\":9223372036854775807,\"yes\":true,\"no\":false,"
			    "\"null\":null,\"text\":\"a b\",\"nothing\":null,\"empty\":[],"
			    "\"array\":[1,{},\"\"],\"last\":2}");
	assert_int_equal(strlen(writer_text(&writer)), writer.len);
}

static void test_brief(void **state)
{
	_cleanup_(writer_deinit) struct writer writer = {.brief = true};

	(void)state;
	writer_object(&writer, NULL);
	writer_number(&writer, "none", 0);
	writer_string(&writer, "nothing", NULL);
	writer_bool(&writer, "no", false);
	writer_null(&writer, "null");
	writer_array(&writer, "array");
	writer_number(&writer, NULL, 0);
	writer_null(&writer, NULL);
	writer_array_end(&writer);
	writer_string(&writer, "empty", "");
	writer_number(&writer, "last", 1);
	writer_object_end(&writer);
	assert_string_equal(writer_text(&writer),
			    "{\"no\":false,\"array\":[0,null],\"empty\":\"\",\"last\":1}");
}

static void test_nothing(void **state)
{
	_cleanup_(writer_deinit) struct writer writer = {};

	(void)state;
	assert_string_equal(writer_text(&writer), "");
}

static void test_taken_back(void **state)
{
	_cleanup_(writer_deinit) struct writer writer = {};

	(void)state;
	writer_raw(&writer, "one two three", 13);
	writer_truncate(&writer, 7);
	writer_truncate(&writer, 100);
	assert_string_equal(writer_text(&writer), "one two");
	writer_drop(&writer, 4);
	assert_string_equal(writer_text(&writer), "two");
}

static void assert_reads(const char *text, const char *expected)
{
	_cleanup_(writer_deinit) struct writer writer = {};
	json_t *read;

	writer_string(&writer, NULL, text);
	for (const char *c = writer_text(&writer); *c; c++)
		assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
	read = json_loads(writer.text, JSON_DECODE_ANY, NULL);
	assert_non_null(read);
	assert_string_equal(json_string_value(read), expected);
	json_decref(read);
}

static void test_strings(void **state)
{
	(void)state;
	assert_reads("", "");
	assert_reads("\"\\/", "\"\\/");
	assert_reads("tab\t, newline\n, bell\a, \x7f.", "tab\t, newline\n, bell\a, \x7f.");
	assert_reads("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac "
								  "\xf0\x9f\x98\x80");
	/* A control character of two bytes is escaped, not shown. */
	assert_reads("\xc2\x9b"
		     "1m",
		     "\xc2\x9b"
		     "1m");
}

/* Names are made of any bytes, and none of them may make the answer unreadable. */
static void test_not_utf8(void **state)
{
	(void)state;
	assert_reads("caf\xe9", "caf\\xe9");
	assert_reads("\xff\xfe", "\\xff\\xfe");
	assert_reads("\xc0\x80", "\\xc0\\x80");
	assert_reads("\xc2", "\\xc2");
	assert_reads("\xe2\x82", "\\xe2\\x82");
	assert_reads("\xe0\x80\x80", "\\xe0\\x80\\x80");	  /* too long */
	assert_reads("\xed\xa0\x80", "\\xed\\xa0\\x80");	  /* a surrogate */
	assert_reads("\xf0\x80\x80\x80", "\\xf0\\x80\\x80\\x80"); /* too long */
	assert_reads("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond the last */
	assert_reads("\xf5\x80\x80\x80"
		     "a",
		     "\\xf5\\x80\\x80\\x80a"); /* no first byte */
}

static void test_every_two_bytes(void **state)
{
	char text[3] = "";

	(void)state;
	for (int i = 1; i < 0x10000; i++) {
		_cleanup_(writer_deinit) struct writer writer = {};
		json_t *read;

		text[0] = i & 0xff ?: 'a';
		text[1] = i >> 8;
		writer_string(&writer, NULL, text);
		read = json_loads(writer_text(&writer), JSON_DECODE_ANY, NULL);
		assert_non_null(read);
		json_decref(read);
	}
}

static void test_long(void **state)
{
	_cleanup_(writer_deinit) struct writer writer = {};
	static char text[100000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	writer_string(&writer, NULL, text);
	writer_raw(&writer, "\n", 1);
	assert_int_equal(writer.len, sizeof(text) + 2);
	assert_int_equal(strlen(writer_text(&writer)), sizeof(text) + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),	   cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_taken_back), cmocka_unit_test(test_strings),
		cmocka_unit_test(test_not_utf8),   cmocka_unit_test(test_every_two_bytes),
		cmocka_unit_test(test_long),	   cmocka_unit_test(test_brief),
	};

	return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
