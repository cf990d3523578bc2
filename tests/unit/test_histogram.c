/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which bucket a number belongs to: each power of two and its neighbours, against a count that is
 * too simple to be wrong.
 * Reads from: bpf/histogram.bpf.h.
 * Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../bpf/histogram.bpf.h"
#include "shunt/abi.h"

static uint32_t log2_by_counting(uint64_t value)
{
	uint32_t n = 0;

	while (n < 64 && 1ull << n < value)
		n++;
	return n;
}

static void test_log2(void **state)
{
	assert_int_equal(histogram_log2(0), 0);
	for (int n = 0; n < 64; n++)
		for (int delta = -1; delta <= 1; delta++) {
			uint64_t value = (1ull << n) + delta;

			assert_int_equal(histogram_log2(value), log2_by_counting(value));
		}
	assert_int_equal(histogram_log2(UINT64_MAX), 64);
}

static void assert_bucket(uint64_t value, uint32_t shift, uint32_t n, uint32_t expected)
{
	assert_int_equal(histogram_bucket(value, shift, n), expected);
}

static void test_sizes(void **state)
{
	const uint32_t shift = SHUNT_SIZE_SHIFT, n = SHUNT_SIZE_BUCKETS;

	assert_bucket(0, shift, n, 0);
	assert_bucket(1, shift, n, 0);
	assert_bucket(64, shift, n, 0);
	assert_bucket(65, shift, n, 1);
	assert_bucket(128, shift, n, 1);
	assert_bucket(129, shift, n, 2);
	assert_bucket(1 << 20, shift, n, n - 2);
	assert_bucket((1 << 20) + 1, shift, n, n - 1);
	assert_bucket(UINT32_MAX, shift, n, n - 1);
	assert_bucket(UINT64_MAX, shift, n, n - 1);
}

/* A number is not above the bound of its bucket, and above the one before. */
static void test_latencies(void **state)
{
	const uint32_t shift = SHUNT_LATENCY_SHIFT, n = SHUNT_LATENCY_BUCKETS;

	for (uint64_t ns = 1; ns < 1ull << 40; ns += ns / 7 + 1) {
		uint32_t bucket = histogram_bucket(ns, shift, n);

		assert_true(bucket < n);
		assert_true(bucket == n - 1 || ns <= 1ull << (shift + bucket));
		assert_true(!bucket || ns > 1ull << (shift + bucket - 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log2),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_latencies),
	};

	return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
