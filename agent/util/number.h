/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Numbers as text. */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Decimal digits and nothing else: strtoull() would take signs and blanks too. 0, -EINVAL (it is no
 * number) or -ERANGE (above @max). */
static inline int number_parse(const char *text, uint32_t max, uint32_t *ret)
{
	unsigned long long value;

	if (!*text || text[strspn(text, "0123456789")])
		return -EINVAL;
	value = strtoull(text, NULL, 10);
	if (value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}
