/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rates of connections and meshes between two samples.
 * Reads from: nothing.
 * Writes to: memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "views.h"

static void test_one_sample(void **state)
{
	struct sample now = views_sample(100);
	struct rates rates;

	(void)state;
	views_flow(&now, "a", "m", 3, 1000, 50);
	assert_int_equal(rates_init(&rates, NULL, &now), 0);
	assert_true(rates.seconds == 0);
	assert_int_equal(rates.n_flows, 1);
	assert_false(rates.flows[0].known);
	assert_int_equal(rates.flows[0].bytes_spliced, 1000);
	assert_int_equal(rates.flows[0].bytes_tcp, 50);
	assert_true(rates_counter(&rates, "splice_bytes") < 0);
	rates_deinit(&rates);
	sample_deinit(&now);
}

static void test_differences(void **state)
{
	struct sample before = views_sample(100), now = views_sample(102);
	struct rates rates;

	(void)state;
	views_flow(&before, "b", "m", 60, 10, 10);
	views_flow(&before, "a", "m", 60, 1000, 50);
	views_flow(&now, "a", "m", 62, 5000, 50);
	views_flow(&now, "b", "m", 62, 10, 110);
	views_counter(&before, "splice_bytes", 7);
	views_counter(&now, "splice_bytes", 4007);
	assert_int_equal(rates_init(&rates, &before, &now), 0);
	assert_true(rates.seconds == 2);
	assert_true(rates.flows[0].known);
	assert_true(rates.flows[0].spliced == 2000);
	assert_true(rates.flows[0].tcp == 0);
	assert_true(rates.flows[1].spliced == 0);
	assert_true(rates.flows[1].tcp == 50);
	assert_true(rates_counter(&rates, "splice_bytes") == 2000);
	assert_true(rates_counter(&rates, "no_such_counter") < 0);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
}

/* One that has just begun has moved all of its bytes since; of one that was missed before nobody
 * knows. */
static void test_new_flows(void **state)
{
	struct sample before = views_sample(100), now = views_sample(102);
	struct rates rates;

	(void)state;
	views_flow(&now, "young", "m", 1, 400, 200);
	views_flow(&now, "missed", "m", 30, 400, 200);
	assert_int_equal(rates_init(&rates, &before, &now), 0);
	assert_true(rates.flows[0].known);
	assert_true(rates.flows[0].spliced == 200);
	assert_true(rates.flows[0].tcp == 100);
	assert_false(rates.flows[1].known);
	assert_true(rates.flows[1].spliced == 0);
	assert_true(rates.all.spliced == 200);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
}

/* TCP's numbers are not known of an end that is closing. */
static void test_backwards(void **state)
{
	struct sample before = views_sample(100), now = views_sample(101);
	struct rates rates;

	(void)state;
	views_flow(&before, "a", "m", 5, 100, 1000);
	views_flow(&now, "a", "m", 6, 100, 10);
	assert_int_equal(rates_init(&rates, &before, &now), 0);
	assert_true(rates.flows[0].known);
	assert_true(rates.flows[0].tcp == 0);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
}

/* Two looks at the same instant: no division by zero, and no rates. */
static void test_no_time_between(void **state)
{
	struct sample before = views_sample(100), now = views_sample(100);
	struct rates rates;

	(void)state;
	views_flow(&before, "a", "m", 5, 100, 1000);
	views_flow(&now, "a", "m", 5, 200, 1000);
	assert_int_equal(rates_init(&rates, &before, &now), 0);
	assert_true(rates.seconds == 0);
	assert_false(rates.flows[0].known);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
}

static void test_meshes(void **state)
{
	struct sample before = views_sample(100), now = views_sample(101);
	struct rates rates;

	(void)state;
	views_flow(&now, "a", "two", 0, 100, 0);
	views_flow(&now, "b", NULL, 0, 0, 10);
	views_flow(&now, "c", "one", 0, 0, 1);
	views_flow(&now, "d", "two", 0, 200, 5);
	assert_int_equal(rates_init(&rates, &before, &now), 0);
	assert_int_equal(rates.n_meshes, 3);
	assert_null(rates.meshes[0].name);
	assert_string_equal(rates.meshes[1].name, "one");
	assert_string_equal(rates.meshes[2].name, "two");
	assert_int_equal(rates.meshes[2].flows, 2);
	assert_int_equal(rates.meshes[2].flows_spliced, 2);
	assert_true(rates.meshes[2].spliced == 300);
	assert_true(rates.meshes[2].tcp == 5);
	assert_int_equal(rates.all.flows, 4);
	assert_true(rates.all.tcp == 16);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
}

/* What an agent of another version, or none, might say. */
static void test_what_is_missing(void **state)
{
	struct sample before = views_sample(100), now = views_sample(101);
	struct rates rates;

	(void)state;
	json_array_append_new(now.flows, json_object());
	json_array_append_new(now.flows, json_integer(7));
	json_array_append_new(before.flows, json_null());
	assert_int_equal(rates_init(&rates, &before, &now), 0);
	assert_int_equal(rates.n_flows, 2);
	assert_int_equal(rates.flows[0].bytes_tcp, 0);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_sample),	cmocka_unit_test(test_differences),
		cmocka_unit_test(test_new_flows),	cmocka_unit_test(test_backwards),
		cmocka_unit_test(test_no_time_between), cmocka_unit_test(test_meshes),
		cmocka_unit_test(test_what_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
