/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables and their difference: apply(diff(a, b), a) == b for random a and b.
 * Reads from: agent/sync.c, agent/util/table.c.
 * Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync.h"

#define ROUNDS 2000

static struct table random_table(unsigned int n, unsigned int keys)
{
	struct table table = TABLE_INIT(uint32_t, uint32_t);

	for (unsigned int i = 0; i < n; i++) {
		uint32_t key = rand() % keys, value = rand() % 3;

		assert_int_equal(table_add(&table, &key, &value), 0);
	}
	table_sort(&table);
	return table;
}

static void assert_tables_equal(const struct table *a, const struct table *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_memory_equal(table_key(a, i), table_key(b, i), a->key_size);
		assert_memory_equal(table_value(a, i), table_value(b, i), a->value_size);
	}
}

/* What maps_apply() does to a map. */
static struct table apply(const struct sync_plan *plan, const struct table *have)
{
	struct table result = TABLE_INIT(uint32_t, uint32_t);

	for (size_t i = 0; i < plan->put.n; i++)
		table_add(&result, table_key(&plan->put, i), table_value(&plan->put, i));
	for (size_t i = 0; i < have->n; i++)
		if (!table_find(&plan->del, table_key(have, i)))
			table_add(&result, table_key(have, i), table_value(have, i));
	table_sort(&result);
	return result;
}

static void test_sync_reaches_what_is_wanted(void **state)
{
	for (int round = 0; round < ROUNDS; round++) {
		struct table have = random_table(rand() % 40, 30);
		struct table want = random_table(rand() % 40, 30);
		struct table result;
		struct sync_plan plan;

		assert_int_equal(sync_diff(&have, &want, &plan), 0);
		result = apply(&plan, &have);
		assert_tables_equal(&result, &want);
		/* Nothing is both written and removed: a reader would see it vanish. */
		for (size_t i = 0; i < plan.put.n; i++)
			assert_null(table_find(&plan.del, table_key(&plan.put, i)));
		sync_plan_deinit(&plan);
		table_deinit(&result);
		table_deinit(&want);
		table_deinit(&have);
	}
}

static void test_sync_of_equals_is_empty(void **state)
{
	for (int round = 0; round < 100; round++) {
		struct table table = random_table(20, 100);
		struct sync_plan plan;

		assert_int_equal(sync_diff(&table, &table, &plan), 0);
		assert_int_equal(plan.put.n, 0);
		assert_int_equal(plan.del.n, 0);
		sync_plan_deinit(&plan);
		table_deinit(&table);
	}
}

static void test_table_keeps_the_first_of_equal_keys(void **state)
{
	struct table table = TABLE_INIT(uint32_t, uint32_t);
	uint32_t keys[] = {3, 1, 3, 2, 1}, absent = 4;

	for (uint32_t i = 0; i < 5; i++)
		table_add(&table, &keys[i], &i);
	table_sort(&table);
	assert_int_equal(table.n, 3);
	assert_int_equal(*(const uint32_t *)table_find(&table, &keys[0]), 0);
	assert_int_equal(*(const uint32_t *)table_find(&table, &keys[1]), 1);
	assert_int_equal(*(const uint32_t *)table_find(&table, &keys[3]), 3);
	assert_null(table_find(&table, &absent));
	table_deinit(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sync_reaches_what_is_wanted),
		cmocka_unit_test(test_sync_of_equals_is_empty),
		cmocka_unit_test(test_table_keeps_the_first_of_equal_keys),
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
