/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is made of the numbers of a connection.
 * Reads from: records made up here.
 * Writes to: nothing.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "flow.h"

static void test_states(void **state)
{
	(void)state;
	assert_int_equal(flow_parse_state("plain"), SHUNT_STATE_PLAIN);
	assert_int_equal(flow_parse_state("ready"), SHUNT_STATE_READY);
	assert_int_equal(flow_parse_state("spliced"), SHUNT_STATE_SPLICED);
	assert_int_equal(flow_parse_state("spilled"), SHUNT_STATE_SPILLED);
	assert_int_equal(flow_parse_state("left"), SHUNT_STATE_LEFT);
	assert_int_equal(flow_parse_state("lef"), -EINVAL);
	assert_int_equal(flow_parse_state(""), -EINVAL);
}

/* The reader's count says what has arrived; its FIN is in it. */
static void test_bytes_of_reader(void **state)
{
	struct shunt_flow flow = {
		.tcp[SHUNT_CLIENT] = {.state = TCP_ESTABLISHED,
				      .bytes_acked = 8,
				      .bytes_received = 70},
		.tcp[SHUNT_SERVER] = {.state = TCP_CLOSE_WAIT,
				      .bytes_acked = 69,
				      .bytes_received = 11,
				      .fin_received = 1},
	};

	(void)state;
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_CLIENT), 10);
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_SERVER), 70);
}

/* A reader that is gone: what it has acknowledged, which holds the SYN of who dialled, and the FIN.
 */
static void test_bytes_of_writer(void **state)
{
	struct shunt_flow flow = {
		.tcp[SHUNT_CLIENT] = {.state = TCP_ESTABLISHED, .bytes_acked = 11},
	};

	(void)state;
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_CLIENT), 10);
	flow.tcp[SHUNT_CLIENT].state = TCP_FIN_WAIT1;
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_CLIENT), 10);
	flow.tcp[SHUNT_CLIENT].state = TCP_FIN_WAIT2;
	flow.tcp[SHUNT_CLIENT].bytes_acked = 12;
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_CLIENT), 10);

	flow = (struct shunt_flow){
		.tcp[SHUNT_SERVER] = {.state = TCP_ESTABLISHED, .bytes_acked = 10},
	};
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_SERVER), 10);
}

static void test_bytes_of_neither(void **state)
{
	struct shunt_flow flow = {.pair.end[SHUNT_SERVER].plain_bytes = 5};

	(void)state;
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_SERVER), 5);
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_CLIENT), 0);
}

/* A FIN that came after its count was read. */
static void test_bytes_never_less_than_none(void **state)
{
	struct shunt_flow flow = {
		.tcp[SHUNT_SERVER] = {.state = TCP_CLOSE_WAIT, .fin_received = 1},
	};

	(void)state;
	assert_int_equal(flow_tcp_bytes(&flow, SHUNT_CLIENT), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_bytes_of_reader),
		cmocka_unit_test(test_bytes_of_writer),
		cmocka_unit_test(test_bytes_of_neither),
		cmocka_unit_test(test_bytes_never_less_than_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
