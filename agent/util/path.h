/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Paths of files. */
#pragma once

#include <stdbool.h>
#include <string.h>

/* Takes away the slashes that @path ends with, but for that of the root. */
static inline void path_trim(char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
}

/* Absolute, and without parts that are empty, "." or "..": it can be read in one way only. */
static inline bool path_is_plain(const char *path)
{
	if (!strcmp(path, "/"))
		return true;
	if (*path != '/')
		return false;
	while (*path) {
		const char *part = path + 1;
		size_t len = strcspn(part, "/");

		if (len <= 2 && !strncmp(part, "..", len))
			return false;
		path = part + len;
	}
	return true;
}
