/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all connections come to: sums, edges, the busiest, and that limits hold.
 * Reads from: nothing.
 * Writes to: memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sums.h"

#define SECOND 1000000000ull

static struct sums begin(uint64_t now)
{
	struct sums sums;

	assert_int_equal(sums_init(&sums, now), 0);
	return sums;
}

/* The client has written so much; number and port tell connections and destinations apart. */
static struct shunt_flow flow_of(uint32_t number, uint16_t port, uint64_t spliced, uint64_t plain)
{
	struct shunt_flow flow = {
		.key = {.client = number, .server = ~number},
		.pair =
			{
				.dialled = {.addr = {0, 0, 0xffff, 7}, .port = port},
				.flags = SHUNT_PAIR_REDIRECTED,
				.opened_at = 5 * SECOND,
				.end[SHUNT_CLIENT] =
					{
						.cgroup = 11,
						.pid = 4711,
						.state = spliced ? SHUNT_STATE_SPLICED
								 : SHUNT_STATE_LEFT,
						.spliced_bytes = spliced,
						.plain_bytes = plain,
						.spills = 1,
					},
				.end[SHUNT_SERVER] = {.cgroup = 12},
			},
	};

	return flow;
}

static void add(struct sums *sums, const struct sums *before, struct shunt_flow flow,
		const char *mesh)
{
	assert_int_equal(sums_add(sums, before, &flow, mesh), 0);
}

static void test_alone(void **state)
{
	struct sums sums = begin(10 * SECOND);

	(void)state;
	add(&sums, NULL, flow_of(1, 80, 1000, 50), "m");
	add(&sums, NULL, flow_of(2, 80, 0, 7), NULL);
	sums_finish(&sums);
	assert_int_equal(sums.all.flows, 2);
	assert_int_equal(sums.all.flows_spliced, 1);
	assert_int_equal(sums.all.bytes_spliced, 1000);
	assert_int_equal(sums.all.bytes_tcp, 57);
	assert_int_equal(sums.all.spills, 2);
	assert_int_equal(sums.all.moved_spliced, 0);
	assert_int_equal(sums.n_flows, 2);
	assert_false(sums.flows[0].known);
	assert_int_equal(sums.flows[0].record.key.client, 1);
	assert_int_equal(sums.n_meshes, 2);
	assert_int_equal(sums.n_edges, 2); /* of two meshes */
	sums_deinit(&sums);
}

static void test_differences(void **state)
{
	struct sums before = begin(10 * SECOND), now = begin(12 * SECOND);

	(void)state;
	add(&before, NULL, flow_of(1, 80, 1000, 50), "m");
	add(&before, NULL, flow_of(2, 81, 10, 500), "m");
	add(&now, &before, flow_of(1, 80, 1400, 50), "m");
	add(&now, &before, flow_of(2, 81, 10, 5500), "m");
	sums_finish(&now);
	assert_true(now.flows[0].known);
	assert_int_equal(now.flows[0].record.key.client, 2);
	assert_int_equal(now.flows[0].count.moved_tcp, 5000);
	assert_int_equal(now.flows[1].count.moved_spliced, 400);
	assert_int_equal(now.flows[1].count.moved_tcp, 0);
	assert_int_equal(now.all.moved_spliced, 400);
	assert_int_equal(now.meshes[0].count.moved_tcp, 5000);
	assert_int_equal(now.edges[0].count.moved_tcp, 5000);
	assert_int_equal(now.edges[0].dialled.port, 81);
	sums_deinit(&before);
	sums_deinit(&now);
}

/* One that began since has moved all of its bytes; of one that was missed nobody knows. What seems
 * to go backwards stands still. */
static void test_new_and_backwards(void **state)
{
	struct sums before = begin(10 * SECOND), now = begin(12 * SECOND);
	struct shunt_flow young = flow_of(2, 80, 300, 0);

	(void)state;
	young.pair.opened_at = 11 * SECOND;
	add(&before, NULL, flow_of(3, 80, 1000, 1000), "m");
	add(&now, &before, flow_of(1, 80, 900, 0), "m");
	add(&now, &before, young, "m");
	add(&now, &before, flow_of(3, 80, 1000, 10), "m");
	sums_finish(&now);
	assert_int_equal(now.flows[0].record.key.client, 2);
	assert_int_equal(now.flows[0].count.moved_spliced, 300);
	assert_int_equal(now.all.moved_spliced, 300);
	assert_int_equal(now.all.moved_tcp, 0);
	for (size_t i = 0; i < now.n_flows; i++)
		assert_int_equal(now.flows[i].known, now.flows[i].record.key.client != 1);
	sums_deinit(&before);
	sums_deinit(&now);
}

/* An iterator may tell of one connection twice. */
static void test_twice(void **state)
{
	struct sums sums = begin(SECOND);

	(void)state;
	add(&sums, NULL, flow_of(1, 80, 10, 0), "m");
	add(&sums, NULL, flow_of(1, 80, 12, 0), "m");
	assert_int_equal(sums.all.flows, 1);
	assert_int_equal(sums.all.bytes_spliced, 10);
	sums_deinit(&sums);
}

static void test_edges(void **state)
{
	struct shunt_flow direct = flow_of(4, 80, 1, 1), other = flow_of(5, 80, 1, 1);
	struct sums sums = begin(SECOND);

	(void)state;
	direct.pair.flags = 0;
	other.pair.end[SHUNT_CLIENT].cgroup = 99;
	add(&sums, NULL, flow_of(1, 80, 10, 0), "m");
	add(&sums, NULL, flow_of(2, 80, 0, 30), "m");
	add(&sums, NULL, flow_of(3, 81, 1, 1), "m");
	add(&sums, NULL, direct, "m");
	add(&sums, NULL, other, "m");
	sums_finish(&sums);
	assert_int_equal(sums.n_edges, 4);
	assert_int_equal(sums.edges[0].count.flows, 2);
	assert_int_equal(sums.edges[0].count.flows_spliced, 1);
	assert_int_equal(sums.edges[0].count.bytes_tcp, 30);
	assert_int_equal(sums.edges[0].pid, 4711);
	sums_deinit(&sums);
}

/* More than is kept: the busiest flows are the right ones, and the rest is counted. */
static void test_limits(void **state)
{
	const uint32_t n = SUMS_SEEN + 5000;
	struct sums before = begin(10 * SECOND), now = begin(12 * SECOND);

	(void)state;
	for (uint32_t i = 0; i < n; i++)
		add(&before, NULL, flow_of(i + 1, 80, 100, 0), "m");
	assert_int_equal(before.all.flows, n);
	for (uint32_t i = 0; i < n; i++)
		add(&now, &before, flow_of(i + 1, i % 4000, 100 + (uint64_t)i * 7919 % 65537, 0),
		    "m");
	sums_finish(&now);
	assert_int_equal(now.all.flows, n);
	assert_int_equal(now.n_seen, SUMS_SEEN);
	assert_int_equal(now.n_flows, SUMS_FLOWS);
	assert_int_equal(now.flows[0].count.moved_spliced, 65536);
	for (size_t i = 1; i < SUMS_FLOWS; i++)
		assert_in_range(now.flows[i].count.moved_spliced, 65536 - SUMS_FLOWS,
				now.flows[i - 1].count.moved_spliced);
	assert_int_equal(now.n_edges, SUMS_EDGES);
	assert_true(now.flows_without_edge > 0);
	for (size_t i = 0, flows = 0; i < now.n_edges; i++) {
		flows += now.edges[i].count.flows;
		if (i == now.n_edges - 1)
			assert_int_equal(flows + now.flows_without_edge, n);
	}
	sums_deinit(&before);
	sums_deinit(&now);
}

static void test_empty(void **state)
{
	struct sums sums = begin(SECOND);

	(void)state;
	sums_finish(&sums);
	assert_int_equal(sums.n_flows, 0);
	sums_deinit(&sums);
	sums_deinit(&sums);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_new_and_backwards),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
