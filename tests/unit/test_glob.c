/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Patterns of cgroup paths, against tables and against a reference that is slow and plain.
 * Reads from: agent/util/glob.h and the tables below.
 * Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/glob.h"

static void test_check(void **state)
{
	static const struct {
		const char *pattern;
		const char *wrong; /* NULL: nothing */
	} cases[] = {
		{"/", NULL},
		{"/a", NULL},
		{"/a/b.c/d-e_f", NULL},
		{"/**", NULL},
		{"/a/**/b", NULL},
		{"/a/**/**", NULL},
		{"/*/?", NULL},
		{"/...", NULL},
		{"/.a", NULL},
		{"/..a", NULL},
		{"/a\\x2db", NULL},
		{"", "does not begin with '/'"},
		{"a", "does not begin with '/'"},
		{"**", "does not begin with '/'"},
		{"/a/", "ends with '/'"},
		{"/**/", "ends with '/'"},
		{"//", "has an empty part ('//')"},
		{"/a//b", "has an empty part ('//')"},
		{"//a", "has an empty part ('//')"},
		{"/..", "has a part '.' or '..'"},
		{"/a/../b", "has a part '.' or '..'"},
		{"/./b", "has a part '.' or '..'"},
		{"/a**", "has '**' that is not a whole part"},
		{"/**a/b", "has '**' that is not a whole part"},
		{"/***", "has '**' that is not a whole part"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *wrong = glob_check(cases[i].pattern);

		if (cases[i].wrong) {
			assert_non_null(wrong);
			assert_string_equal(wrong, cases[i].wrong);
		} else if (wrong) {
			fail_msg("%s %s", cases[i].pattern, wrong);
		}
	}
}

static void test_check_length(void **state)
{
	char pattern[GLOB_MAX + 2];

	memset(pattern, 'a', sizeof(pattern));
	pattern[0] = '/';
	pattern[GLOB_MAX + 1] = '\0';
	assert_string_equal(glob_check(pattern), "is longer than 4095 characters");
	pattern[GLOB_MAX] = '\0';
	assert_null(glob_check(pattern));
}

static void test_match(void **state)
{
	static const struct {
		const char *pattern;
		const char *path;
		bool matches;
	} cases[] = {
		{"/", "/", true},
		{"/", "/a", false},
		{"/a", "/", false},
		{"/*", "/", false},
		{"/**", "/", true},
		{"/**", "/a/b/c", true},
		{"/a", "/a", true},
		{"/a", "/ab", false},
		{"/ab", "/a", false},
		{"/a/b", "/a", false},
		{"/a", "/a/b", false},
		{"/a/*", "/a/b", true},
		{"/a/*", "/a", false},
		{"/a/*", "/a/b/c", false},
		{"/a*", "/a/b", false},
		{"/a*b", "/aXbXb", true},
		{"/a*b", "/aXbXc", false},
		{"/a?c", "/abc", true},
		{"/a?c", "/a/c", false},
		{"/a?", "/a", false},
		{"/a/**", "/a", true},
		{"/a/**", "/ab", false},
		{"/a/**/b", "/a/b", true},
		{"/a/**/b", "/a/x/y/b", true},
		{"/a/**/b", "/a/x/y/b/c", false},
		{"/a/**/b", "/ab", false},
		{"/**/b", "/b", true},
		{"/**/a/b", "/a/a/a/b", true},
		{"/**/a/*/b", "/a/a/a/a/b", true},
		{"/**/a/*/b", "/a/a/b/a", false},
		{"/kubepods.slice/**/app-*", "/kubepods.slice/pod1.slice/app-1.scope", true},
		{"/kubepods.slice/**/app-*", "/kubepods.slice/app-1.scope/child", false},
		{"/*", "/*", true},
		{"/a", "/*", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (glob_match(cases[i].pattern, cases[i].path) != cases[i].matches)
			fail_msg("%s on %s is not %d", cases[i].pattern, cases[i].path,
				 cases[i].matches);
}

static void test_prefix_len(void **state)
{
	static const struct {
		const char *pattern;
		size_t n;
	} cases[] = {
		{"/", 1},	{"/*", 1},     {"/**", 1},	 {"/?", 1},
		{"/a*", 1},	{"/a", 2},     {"/a/b", 4},	 {"/a/b*", 2},
		{"/a/b/c*", 4}, {"/a/b/*", 4}, {"/a/b/**/c", 4}, {"/a/b?/c", 2},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(glob_prefix_len(cases[i].pattern), cases[i].n);
}

static void test_overlap(void **state)
{
	static const struct {
		const char *a;
		const char *b;
		bool overlaps;
	} cases[] = {
		{"/", "/", true},
		{"/", "/**", true},
		{"/", "/*", false},
		{"/a", "/a", true},
		{"/a", "/b", false},
		{"/a/*", "/a/b", true},
		{"/a/*", "/a/b/c", false},
		{"/a/**", "/a/b/c", true},
		{"/*a", "/b*", true},
		{"/*ab", "/a*c", false},
		{"/a?", "/a", false},
		{"/a?", "/*b", true},
		{"/a/**/x", "/a/*/y", false},
		{"/a/**/x", "/**/b/*", true},
		{"/**/a", "/**/b", false},
		{"/**/a/**", "/**/b/**", true},
		{"/a/**", "/b/**", false},
		{"/**/a/b", "/a/**/?", true},
		{"/pods/**/app-*", "/pods/*/proxy-*", false},
		{"/pods/**/app-*", "/pods/**/*-debug", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (glob_overlap(cases[i].a, cases[i].b) != cases[i].overlaps ||
		    glob_overlap(cases[i].b, cases[i].a) != cases[i].overlaps)
			fail_msg("%s and %s are not %d", cases[i].a, cases[i].b, cases[i].overlaps);
}

/* What the header promises, as literally as can be, and exponential. "" stands for the root. */
static bool reference(const char *p, const char *s)
{
	if (!strncmp(p, "/**", 3)) {
		const char *next = s;

		if (reference(p + 3, s))
			return true;
		if (*next == '/')
			next += 1 + strcspn(next + 1, "/");
		return next > s && reference(p, next);
	}
	switch (*p) {
	case '\0':
		return !*s;
	case '*':
		return reference(p + 1, s) || (*s && *s != '/' && reference(p, s + 1));
	case '?':
		return *s && *s != '/' && reference(p + 1, s + 1);
	default:
		return *p == *s && reference(p + 1, s + 1);
	}
}

static const char *rootless(const char *path)
{
	return path[1] ? path : "";
}

static void random_parts(char *buf, const char *alphabet, int parts_max, int chars_max, bool any)
{
	int parts = random() % (parts_max + 1);
	char *p = buf;

	for (int i = 0; i < parts; i++) {
		*p++ = '/';
		if (any && random() % 4 == 0) {
			p = stpcpy(p, "**");
			continue;
		}
		for (int n = 1 + random() % chars_max; n; n--) {
			char c = alphabet[random() % strlen(alphabet)];

			if (c != '*' || p[-1] != '*')
				*p++ = c;
		}
	}
	strcpy(p, parts ? "" : "/");
}

static void test_match_random(void **state)
{
	size_t matched = 0;

	srandom(2);
	for (int i = 0; i < 50000; i++) {
		char pattern[64], path[64];

		random_parts(pattern, "ab*?", 5, 4, true);
		random_parts(path, "ab", 5, 3, false);
		assert_null(glob_check(pattern));
		if (glob_match(pattern, path) != reference(rootless(pattern), rootless(path)))
			fail_msg("%s on %s", pattern, path);
		matched += glob_match(pattern, path);
	}
	/* Or the inputs would say little. */
	assert_in_range(matched, 2500, 47500);
}

/*
 * All paths of at most 4 parts of at most 2 characters. Patterns of at most 2 parts beside '**',
 * with at most 2 characters each, that overlap at all do so in one of them.
 */
static size_t all_paths(char (*ret)[16])
{
	static const char *const parts[] = {"/a", "/b", "/aa", "/ab", "/ba", "/bb"};
	size_t begin = 0, n = 1;

	strcpy(ret[0], "/");
	for (int depth = 0; depth < 4; depth++) {
		size_t end = n;

		for (size_t i = begin; i < end; i++)
			for (size_t k = 0; k < ARRAY_SIZE(parts); k++)
				sprintf(ret[n++], "%s%s", rootless(ret[i]), parts[k]);
		begin = end;
	}
	return n;
}

#define PATHS	 1555
#define PATTERNS 300

static void test_overlap_random(void **state)
{
	static bool matches[PATTERNS][PATHS];
	static char paths[PATHS][16];
	char patterns[PATTERNS][64];
	size_t n_overlaps = 0;

	assert_int_equal(all_paths(paths), PATHS);
	srandom(3);
	for (int i = 0; i < PATTERNS; i++) {
		char left[16], right[16];

		/* At most 2 parts beside '**': one on each side of it. */
		random_parts(left, "ab*?", 1, 2, false);
		random_parts(right, "ab*?", 1, 2, false);
		sprintf(patterns[i], "%s%s%s", rootless(left), random() % 2 ? "/**" : "",
			rootless(right));
		if (!*patterns[i])
			strcpy(patterns[i], "/");
		for (int k = 0; k < PATHS; k++)
			matches[i][k] = reference(rootless(patterns[i]), rootless(paths[k]));
	}
	for (int i = 0; i < PATTERNS; i++) {
		for (int j = 0; j < PATTERNS; j++) {
			bool both = false;

			for (int k = 0; k < PATHS && !both; k++)
				both = matches[i][k] && matches[j][k];
			if (glob_overlap(patterns[i], patterns[j]) != both)
				fail_msg("%s and %s", patterns[i], patterns[j]);
			n_overlaps += both;
		}
	}
	assert_in_range(n_overlaps, PATTERNS * PATTERNS / 10, PATTERNS * PATTERNS * 9 / 10);
}

/* Without wildcards on one side, to overlap is to match. */
static void test_overlap_is_match(void **state)
{
	srandom(4);
	for (int i = 0; i < 20000; i++) {
		char pattern[64], path[64];

		random_parts(pattern, "ab*?", 5, 4, true);
		random_parts(path, "ab", 5, 3, false);
		assert_int_equal(glob_overlap(pattern, path), glob_match(pattern, path));
		assert_int_equal(glob_overlap(path, pattern), glob_match(pattern, path));
	}
}

static char *repeat(char *to, const char *text, int n)
{
	while (n--)
		to = stpcpy(to, text);
	return to;
}

/* Each of these takes a naive matcher longer than the age of the universe. */
static void test_no_blow_up(void **state)
{
	char pattern[GLOB_MAX + 1], path[GLOB_MAX + 1];

	/* Many '**'. */
	strcpy(repeat(pattern, "/**/a", 500), "/b");
	repeat(path, "/a", 2000);
	assert_null(glob_check(pattern));
	assert_false(glob_match(pattern, path));
	assert_false(glob_overlap(pattern, path));
	strcpy(path + strlen(path) - 1, "b");
	assert_true(glob_match(pattern, path));
	assert_true(glob_overlap(pattern, path));

	/* Many '*'. */
	strcpy(pattern, "/");
	strcpy(repeat(pattern + 1, "a*", 1000), "b");
	strcpy(path, "/");
	repeat(path + 1, "a", 4000);
	assert_null(glob_check(pattern));
	assert_false(glob_match(pattern, path));
	assert_false(glob_overlap(pattern, path));
	strcpy(path + strlen(path) - 1, "b");
	assert_true(glob_match(pattern, path));
	assert_true(glob_overlap(pattern, path));

	/* Both at once, on both sides. */
	strcpy(repeat(pattern, "/**/*a*", 400), "/b");
	repeat(path, "/**/a*a", 500);
	assert_false(glob_overlap(pattern, path));
	strcpy(path + strlen(path) - 3, "?");
	assert_true(glob_overlap(pattern, path));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),	       cmocka_unit_test(test_check_length),
		cmocka_unit_test(test_match),	       cmocka_unit_test(test_prefix_len),
		cmocka_unit_test(test_overlap),	       cmocka_unit_test(test_match_random),
		cmocka_unit_test(test_overlap_random), cmocka_unit_test(test_overlap_is_match),
		cmocka_unit_test(test_no_blow_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
