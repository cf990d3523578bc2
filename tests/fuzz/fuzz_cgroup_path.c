/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Paths of cgroups: those that are watched, and those that people ask for.
 * Reads from: an input, a path a line.
 * Writes to: nothing.
 */
#include <errno.h>

#include "cgroup_want.h"
#include "fuzz.h"
#include "util/cleanup.h"
#include "verbs.h"

#define PATHS 64

static bool is_above(const char *path, const char *other)
{
	size_t len = strlen(path);

	if (!strcmp(path, "/"))
		return strcmp(other, "/") != 0;
	return !strncmp(path, other, len) && other[len] == '/';
}

/* Of each path what the whole set says, by comparing it with each of the set. */
static void check_wants(void *const *wants, char *const *paths, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fuzz_check(cgroup_wants_find(wants, paths[i]) == CGROUP_INTEREST_ALL);
		for (size_t j = 0; j < n; j++)
			fuzz_check(!is_above(paths[i], paths[j]));
	}
}

static void check_asked(const char *path)
{
	char root[] = "/sys/fs/cgroup";
	struct agent agent = {.cgroup_root = root};
	_cleanup_free_ char *found = verbs_cgroup_path(&agent, path);
	size_t len;

	fuzz_check(found);
	len = strlen(found);
	fuzz_check(*found == '/' && (len == 1 || found[len - 1] != '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = fuzz_text(data, size);
	char *rest = text, *path, *paths[PATHS];
	void *wants = NULL;
	size_t n = 0;
	int r = 0;

	while (!r && n < PATHS && (path = strsep(&rest, "\n"))) {
		if (*path == '/')
			check_asked(path);
		r = cgroup_wants_add(&wants, path);
		fuzz_check(r == 0 || r == -EINVAL);
		if (!r)
			paths[n++] = path;
	}
	/* After a failure it is neither the one set nor the other. */
	if (!r)
		check_wants(&wants, paths, n);
	cgroup_wants_deinit(&wants);
	return 0;
}
