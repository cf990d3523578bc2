/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Patterns of cgroup paths: '*' and '?' within one path part, '**' for any number of whole parts,
 * none included. Paths are absolute, without a trailing slash; the root is "/".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define GLOB_MAX 4095 /* characters in a pattern: those of the longest path the kernel takes */

/* NULL if @pattern is well-formed, otherwise what is wrong with it, a static text that
 * goes on after the pattern: "does not begin with '/'". */
const char *glob_check(const char *pattern);

/* Does the whole of @path match? Both must be well-formed. Never recurses per character. */
bool glob_match(const char *pattern, const char *path);

/* Length of the leading part of @pattern that has no wildcard and ends at a part's end: for
 * "/a/b/c*" that of "/a/b", for "/c*" that of "/" = 1, for "/a/b" that of "/a/b". */
size_t glob_prefix_len(const char *pattern);

/* Is there a path that both match? Used to warn of meshes that may claim the same cgroup. */
bool glob_overlap(const char *a, const char *b);
