/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which bucket of a histogram a number belongs to. Calls no helper; unit tests compile it too. */
#pragma once

#include <linux/types.h>

/* The exponent of the least power of two that is not below @value; 0 for 0. */
static inline __attribute__((always_inline)) __u32 histogram_log2(__u64 value)
{
	__u32 bits = 0, step;

	if (value < 2)
		return 0;
	value--;
	step = (value > 0xffffffff) << 5;
	value >>= step;
	bits += step;
	step = (value > 0xffff) << 4;
	value >>= step;
	bits += step;
	step = (value > 0xff) << 3;
	value >>= step;
	bits += step;
	step = (value > 0xf) << 2;
	value >>= step;
	bits += step;
	step = (value > 0x3) << 1;
	value >>= step;
	bits += step;
	return bits + (value >> 1) + 1;
}

/* The bucket of @n whose bounds begin with 2^@shift. */
static inline __attribute__((always_inline)) __u32 histogram_bucket(__u64 value, __u32 shift,
								    __u32 n)
{
	__u32 bits = histogram_log2(value);

	if (bits <= shift)
		return 0;
	return bits - shift < n ? bits - shift : n - 1;
}
