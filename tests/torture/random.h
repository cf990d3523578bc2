/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Random numbers that a seed repeats: splitmix64. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint64_t random_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static inline uint64_t random_next(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15;
	return random_mix(*state);
}

/* From 0 to @n - 1. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

static inline bool random_one_in(uint64_t *state, uint64_t n)
{
	return random_below(state, n) == 0;
}

/* From @low to @high, each order of magnitude as likely as any other; 0 < @low <= @high. */
static inline uint64_t random_log(uint64_t *state, uint64_t low, uint64_t high)
{
	unsigned int shift, shifts = 1;
	uint64_t from, to;

	while (low << shifts <= high)
		shifts++;
	shift = random_below(state, shifts);
	from = low << shift;
	to = shift + 1 < shifts ? from * 2 - 1 : high;
	return from + random_below(state, to - from + 1);
}
