/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The set of watched paths and of the directories on the way to them.
 * Reads from: its arguments.
 * Writes to: memory. */
#include "cgroup_want.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "util/path.h"

struct want {
	const char *path;
	enum cgroup_interest interest;
	char text[];
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct want *)a)->path, ((const struct want *)b)->path);
}

static int add(void **wants, const char *path, size_t len, enum cgroup_interest interest)
{
	struct want *want, **slot;

	want = calloc(1, sizeof(*want) + len + 1);
	if (!want)
		return -ENOMEM;
	want->path = memcpy(want->text, path, len);
	want->interest = interest;

	slot = tsearch(want, wants, compare);
	if (slot && *slot == want)
		return 0;
	free(want);
	if (!slot)
		return -ENOMEM;
	return (*slot)->interest == interest ? 0 : -EINVAL;
}

int cgroup_wants_add(void **wants, const char *path)
{
	const char *slash;
	int r;

	if (!path_is_plain(path))
		return -EINVAL;
	r = add(wants, path, strlen(path), CGROUP_INTEREST_ALL);
	if (r < 0 || !path[1])
		return r;

	r = add(wants, "/", 1, CGROUP_INTEREST_WAY);
	for (slash = strchr(path + 1, '/'); slash && !r; slash = strchr(slash + 1, '/'))
		r = add(wants, path, (size_t)(slash - path), CGROUP_INTEREST_WAY);
	return r;
}

enum cgroup_interest cgroup_wants_find(void *const *wants, const char *path)
{
	const struct want key = {.path = path};
	struct want **slot = tfind(&key, wants, compare);

	return slot ? (*slot)->interest : CGROUP_INTEREST_NONE;
}

void cgroup_wants_deinit(void **wants)
{
	tdestroy(*wants, free);
	*wants = NULL;
}
