/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Text of unknown origin (names of cgroups, files, errors) on its way to a terminal or a log. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Length in bytes of the character that @text begins with, which must not be empty. @ret_plain: it
 * may be shown as it is, for it is UTF-8 and no control character, which terminals obey.
 */
static inline size_t text_next(const char *text, bool *ret_plain)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t len = c[0] < 0x80 ? 1 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;

	*ret_plain = false;
	for (size_t i = 1; i < len; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 1;
	}
	if (len == 1)
		*ret_plain = c[0] >= ' ' && c[0] != 0x7f;
	else
		*ret_plain = c[0] >= 0xc2 && c[0] < 0xf5 && !(c[0] == 0xc2 && c[1] < 0xa0);
	return *ret_plain ? len : 1;
}
