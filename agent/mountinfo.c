/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The mount table, as far as one needs it to find a file system.
 * Reads from: a stream in the format of /proc/self/mountinfo, proc(5).
 * Writes to: nothing. */
#include "mountinfo.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "util/cleanup.h"

static bool octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	while (*text) {
		if (text[0] == '\\' && octal(text[1]) && octal(text[2]) && octal(text[3])) {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
				       (text[3] - '0'));
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

/* Line: id, parent, device, root, mount point, options, optional fields, "-", type, … */
static bool parse(char *line, char **ret_root, char **ret_point, const char **ret_fstype)
{
	enum { ROOT = 3, POINT, FIXED = 6 };
	char *field, *save = NULL;
	char *root = NULL, *point = NULL;
	int n = 0;

	for (field = strtok_r(line, " \n", &save); field; field = strtok_r(NULL, " \n", &save)) {
		if (n == ROOT)
			root = field;
		else if (n == POINT)
			point = field;
		else if (n >= FIXED && !strcmp(field, "-"))
			break;
		n++;
	}
	field = strtok_r(NULL, " \n", &save);
	if (!field || !root || !point)
		return false;

	*ret_root = root;
	*ret_point = point;
	*ret_fstype = field;
	return true;
}

int mountinfo_find(FILE *mountinfo, const char *fstype, char **ret)
{
	_cleanup_free_ char *line = NULL, *found = NULL;
	size_t size = 0;

	while (getline(&line, &size, mountinfo) >= 0) {
		char *root, *point;
		const char *type;
		bool whole;

		if (!parse(line, &root, &point, &type) || strcmp(type, fstype))
			continue;
		whole = !strcmp(root, "/");
		if (found && !whole)
			continue;

		unescape(point);
		free(found);
		found = strdup(point);
		if (!found)
			return -ENOMEM;
		if (whole)
			break;
	}
	if (!found)
		return feof(mountinfo) ? -ENOENT : -errno;

	*ret = TAKE_PTR(found);
	return 0;
}

/* What of @path is below @point, from its '/' on; NULL: it is elsewhere. */
static const char *below(const char *path, const char *point)
{
	size_t len = strcmp(point, "/") ? strlen(point) : 0;

	if (strncmp(path, point, len) || (path[len] && path[len] != '/'))
		return NULL;
	return path + len;
}

int mountinfo_find_inner(FILE *mountinfo, const char *fstype, const char *path, char **ret)
{
	_cleanup_free_ char *line = NULL, *found = NULL;
	size_t size = 0, longest = 0;

	while (getline(&line, &size, mountinfo) >= 0) {
		char *root, *point, *inner;
		const char *type, *rest;

		if (!parse(line, &root, &point, &type) || strcmp(type, fstype))
			continue;
		unescape(root);
		unescape(point);
		rest = below(path, point);
		/* Of two at one place the later one is seen. */
		if (!rest || strlen(point) < longest)
			continue;
		longest = strlen(point);
		if (asprintf(&inner, "%s%s", strcmp(root, "/") || !*rest ? root : "", rest) < 0)
			return -ENOMEM;
		free(found);
		found = inner;
	}
	if (!found)
		return feof(mountinfo) ? -ENOENT : -errno;

	*ret = TAKE_PTR(found);
	return 0;
}
