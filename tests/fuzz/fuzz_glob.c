/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Patterns of cgroup paths, against a simple matcher.
 * Reads from: an input: two patterns and a path, a line each.
 * Writes to: nothing.
 */
#include "fuzz.h"
#include "util/cleanup.h"
#include "util/glob.h"

#define MODEL_MAX 48 /* characters; the model's time grows with powers of them */

static size_t part_len(const char *part)
{
	return strcspn(part, "/");
}

static bool model_part(const char *pattern, size_t n, const char *text, size_t m)
{
	if (!n)
		return !m;
	if (*pattern == '*')
		return model_part(pattern + 1, n - 1, text, m) ||
		       (m && model_part(pattern, n, text + 1, m - 1));
	return m && (*pattern == '?' || *pattern == *text) &&
	       model_part(pattern + 1, n - 1, text + 1, m - 1);
}

/* Both begin with a '/' or are at their end. */
static bool model_match(const char *pattern, const char *path)
{
	size_t n, m;

	if (!*pattern)
		return !*path;
	n = part_len(++pattern);
	if (n == 2 && !strncmp(pattern, "**", 2)) {
		if (model_match(pattern + n, path))
			return true;
		return *path && model_match(pattern - 1, path + 1 + part_len(path + 1));
	}
	if (!*path)
		return false;
	m = part_len(++path);
	return model_part(pattern, n, path, m) && model_match(pattern + n, path + m);
}

/* The root has no parts. */
static const char *parts(const char *path)
{
	return strcmp(path, "/") ? path : "";
}

static size_t stars(const char *pattern)
{
	size_t n = 0;

	for (; *pattern; pattern++)
		n += *pattern == '*';
	return n;
}

static bool is_path(const char *path)
{
	size_t len = strlen(path);

	return *path == '/' && !strstr(path, "//") && (len == 1 || path[len - 1] != '/');
}

static void check_match(const char *pattern, const char *path)
{
	if (strlen(pattern) <= MODEL_MAX && strlen(path) <= MODEL_MAX && stars(pattern) <= 6)
		fuzz_check(glob_match(pattern, path) == model_match(parts(pattern), parts(path)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = fuzz_text(data, size);
	char *rest = text, *a = strsep(&rest, "\n"), *b = strsep(&rest, "\n");
	char *path = strsep(&rest, "\n");

	if (glob_check(a))
		return 0;
	fuzz_check(strlen(a) <= GLOB_MAX && glob_prefix_len(a) <= strlen(a));
	fuzz_check(glob_prefix_len(a) > 0);
	if (!b || glob_check(b))
		return 0;
	fuzz_check(glob_overlap(a, b) == glob_overlap(b, a));
	fuzz_check(glob_overlap(a, a));
	if (!path || !is_path(path))
		return 0;
	check_match(a, path);
	check_match(b, path);
	if (glob_match(a, path) && glob_match(b, path))
		fuzz_check(glob_overlap(a, b));
	/* All that it matches is below its literal beginning. */
	if (glob_match(a, path) && glob_prefix_len(a) > 1)
		fuzz_check(!strncmp(a, path, glob_prefix_len(a)));
	return 0;
}
