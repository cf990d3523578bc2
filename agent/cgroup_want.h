/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which part of the cgroup tree is of interest. Private to cgroup*.c. */
#pragma once

enum cgroup_interest {
	CGROUP_INTEREST_NONE,
	CGROUP_INTEREST_WAY, /* leads to a watched path; only what leads there is looked at */
	CGROUP_INTEREST_ALL, /* a watched path */
};

/*
 * The set is a search tree of tsearch(3): NULL when empty. Adding a watched path adds the way to
 * it. -EINVAL: not a plain absolute path, or one inside another. After a failure only deinit is
 * left.
 */
int cgroup_wants_add(void **wants, const char *path);
enum cgroup_interest cgroup_wants_find(void *const *wants, const char *path);
void cgroup_wants_deinit(void **wants);
