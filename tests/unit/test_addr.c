/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses, ports and CIDRs as text.
 * Reads from: agent/util/addr.h and the tables below.
 * Writes to: nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/addr.h"
#include "util/cleanup.h"

static void test_addr_round_trip(void **state)
{
	static const struct {
		const char *text;
		const char *formatted;
		bool v4;
		bool loopback;
		bool unspecified;
	} cases[] = {
		{"0.0.0.0", "0.0.0.0", true, false, true},
		{"127.0.0.1", "127.0.0.1", true, true, false},
		{"127.255.0.3", "127.255.0.3", true, true, false},
		{"128.0.0.1", "128.0.0.1", true, false, false},
		{"126.255.255.255", "126.255.255.255", true, false, false},
		{"255.255.255.255", "255.255.255.255", true, false, false},
		{"::", "::", false, false, true},
		{"::1", "::1", false, true, false},
		{"::2", "::2", false, false, false},
		{"::1:0:0:1", "::1:0:0:1", false, false, false},
		{"::1:0:0", "::1:0:0", false, false, false},
		{"fd00::1", "fd00::1", false, false, false},
		{"FD00:0:0::1", "fd00::1", false, false, false},
		{"::ffff:127.0.0.1", "127.0.0.1", true, true, false},
		{"::ffff:0:0", "0.0.0.0", true, false, true},
		{"::fffe:127.0.0.1", "::fffe:7f00:1", false, false, false},
		{"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", false, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char buf[ADDR_STRLEN];
		__be32 addr[4];

		assert_int_equal(addr_parse(cases[i].text, addr), 0);
		assert_string_equal(addr_format(addr, buf), cases[i].formatted);
		assert_int_equal(addr_is_v4(addr), cases[i].v4);
		assert_int_equal(addr_is_loopback(addr), cases[i].loopback);
		assert_int_equal(addr_is_unspecified(addr), cases[i].unspecified);
	}
}

static void test_addr_bytes(void **state)
{
	static const uint8_t v4[16] = {[10] = 0xff, 0xff, 10, 0, 0, 7};
	static const uint8_t v6[16] = {0xfd, [15] = 9};
	__be32 addr[4];

	assert_int_equal(addr_parse("10.0.0.7", addr), 0);
	assert_memory_equal(addr, v4, sizeof(v4));
	assert_int_equal(addr_parse("fd00::9", addr), 0);
	assert_memory_equal(addr, v6, sizeof(v6));
}

static void test_addr_refuses(void **state)
{
	static const char *const texts[] = {
		"",	 "x",	"1.2.3", "1.2.3.4.5",  "1.2.3.256", " 1.2.3.4",	  "1.2.3.4 ",
		"[::1]", ":::", "1",	 "fe80::1%lo", "localhost", "1.2.3.4:80",
	};
	__be32 before[4] = {1, 2, 3, 4}, addr[4] = {1, 2, 3, 4};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(addr_parse(texts[i], addr), -EINVAL);
	assert_memory_equal(addr, before, sizeof(addr));
}

static void test_port(void **state)
{
	static const char *const wrong[] = {
		"", "0", "65536", "-1", "+1", " 1", "1 ", "0x1", "99999999999999999999999", "http",
	};
	uint16_t port = 7;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(addr_parse_port(wrong[i], &port), -EINVAL);
	assert_int_equal(port, 7);
	assert_int_equal(addr_parse_port("1", &port), 0);
	assert_int_equal(port, 1);
	assert_int_equal(addr_parse_port("65535", &port), 0);
	assert_int_equal(port, 65535);
}

static void test_endpoint_round_trip(void **state)
{
	static const char *const texts[] = {
		"127.0.0.1:15001", "[::1]:15001",	   "1.2.3.4:1",
		"[fd00::1]:65535", "[1:2:3:4:5:6:7:8]:53",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct shunt_endpoint endpoint;
		char buf[ADDR_STRLEN];

		assert_int_equal(addr_parse_endpoint(texts[i], &endpoint), 0);
		assert_string_equal(addr_format_endpoint(&endpoint, buf), texts[i]);
		assert_int_equal(endpoint.pad, 0);
	}
}

static void test_endpoint_bytes(void **state)
{
	struct shunt_endpoint endpoint;
	char buf[ADDR_STRLEN];

	assert_int_equal(addr_parse_endpoint("[::ffff:1.2.3.4]:258", &endpoint), 0);
	assert_memory_equal(&endpoint.port, "\x01\x02", 2);
	assert_true(addr_is_v4(endpoint.addr));
	assert_string_equal(addr_format_endpoint(&endpoint, buf), "1.2.3.4:258");
}

static void test_endpoint_refuses(void **state)
{
	static const char *const texts[] = {
		"",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:0",
		"127.0.0.1:65536",
		":80",
		"[::1]",
		"[::1]:",
		"[::1]80",
		"::1:80",
		"[1.2.3.4]:80",
		"[]:80",
		"[:80",
		"]:80",
		"[::1:80",
		"::1]:80",
		"[[::1]]:80",
		"1.2.3.4:80 ",
		"localhost:80",
		"[::1]:-1",
		"[fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00:fd00]:80",
	};
	struct shunt_endpoint endpoint = {.port = 9};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(addr_parse_endpoint(texts[i], &endpoint), -EINVAL);
	assert_int_equal(endpoint.port, 9);
}

static void test_cidr(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint32_t prefix;
		const char *network;
	} cases[] = {
		{"0.0.0.0/0", 0, 96, "0.0.0.0/0"},
		{"10.0.0.0/8", 0, 104, "10.0.0.0/8"},
		{"169.254.169.254/32", 0, 128, "169.254.169.254/32"},
		{"128.0.0.0/1", 0, 97, "128.0.0.0/1"},
		{"10.1.2.3", 0, 128, "10.1.2.3/32"},
		{"::/0", 0, 0, "::/0"},
		{"fd00::/8", 0, 8, "fd00::/8"},
		{"8000::/1", 0, 1, "8000::/1"},
		{"fd00:1::/32", 0, 32, "fd00:1::/32"},
		{"fd00:1:8000::/33", 0, 33, "fd00:1:8000::/33"},
		{"::1/128", 0, 128, "::1/128"},
		{"::1", 0, 128, "::1/128"},
		{"::ffff:0:0/96", 0, 96, "0.0.0.0/0"},
		{"::ffff:10.0.0.0/104", 0, 104, "10.0.0.0/8"},
		{"10.0.0.1/8", -ERANGE, 104, "10.0.0.0/8"},
		{"10.0.0.1/31", -ERANGE, 127, "10.0.0.0/31"},
		{"0.0.0.1/0", -ERANGE, 96, "0.0.0.0/0"},
		{"fd00::1/64", -ERANGE, 64, "fd00::/64"},
		{"::ffff:10.0.0.0/95", -ERANGE, 95, "::fffe:0:0/95"},
		{"fd00::8000:0/96", -ERANGE, 96, "fd00::/96"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t prefix = 999;
		char buf[ADDR_STRLEN];
		__be32 addr[4];

		assert_int_equal(addr_parse_cidr(cases[i].text, addr, &prefix), cases[i].r);
		assert_int_equal(prefix, cases[i].r ? 999 : cases[i].prefix);
		assert_int_equal(addr_parse_network(cases[i].text, addr, &prefix), 0);
		assert_int_equal(prefix, cases[i].prefix);
		assert_string_equal(addr_format_cidr(addr, prefix, buf), cases[i].network);
	}
}

static void test_cidr_refuses(void **state)
{
	static const char *const texts[] = {
		"",
		"/8",
		"10.0.0.0/",
		"10.0.0.0/33",
		"10.0.0.0/-1",
		"10.0.0.0/ 8",
		"fd00::/129",
		"10.0.0.0/8/8",
		"10/8",
		"[fd00::]/8",
		"all",
		"10.0.0.0/255.0.0.0",
	};
	uint32_t prefix = 9;
	__be32 addr[4] = {9};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(addr_parse_cidr(texts[i], addr, &prefix), -EINVAL);
		assert_int_equal(addr_parse_network(texts[i], addr, &prefix), -EINVAL);
	}
	assert_int_equal(prefix, 9);
	assert_int_equal(addr[0], 9);
}

/* What is formatted parses to the same again; network by network, from any address. */
static void test_random_round_trips(void **state)
{
	srandom(1);
	srand48(1);
	for (int i = 0; i < 20000; i++) {
		struct shunt_endpoint endpoint = {.port = htons(1 + random() % 65535)}, endpoint2;
		__be32 network[4], network2[4];
		uint32_t prefix, prefix2;
		char buf[ADDR_STRLEN];

		for (int word = 0; word < 4; word++)
			endpoint.addr[word] = random() % 3 ? mrand48() : 0;
		if (i % 2) {
			endpoint.addr[0] = endpoint.addr[1] = 0;
			endpoint.addr[2] = htonl(0xffff);
		}
		addr_format_endpoint(&endpoint, buf);
		assert_int_equal(addr_parse_endpoint(buf, &endpoint2), 0);
		assert_memory_equal(&endpoint, &endpoint2, sizeof(endpoint));

		prefix = i % 2 ? 96 + random() % 33 : random() % 129;
		addr_format_cidr(endpoint.addr, prefix, buf);
		assert_int_equal(addr_parse_network(buf, network, &prefix2), 0);
		assert_int_equal(prefix2, prefix);
		addr_format_cidr(network, prefix, buf);
		assert_int_equal(addr_parse_cidr(buf, network2, &prefix2), 0);
		assert_int_equal(prefix2, prefix);
		assert_memory_equal(network, network2, sizeof(network));
		for (uint32_t bit = 0; bit < 128; bit++) {
			uint8_t mask = 0x80 >> bit % 8;
			uint8_t was = ((uint8_t *)endpoint.addr)[bit / 8] & mask;
			uint8_t is = ((uint8_t *)network)[bit / 8] & mask;

			assert_int_equal(is, bit < prefix ? was : 0);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr_round_trip),
		cmocka_unit_test(test_addr_bytes),
		cmocka_unit_test(test_addr_refuses),
		cmocka_unit_test(test_port),
		cmocka_unit_test(test_endpoint_round_trip),
		cmocka_unit_test(test_endpoint_bytes),
		cmocka_unit_test(test_endpoint_refuses),
		cmocka_unit_test(test_cidr),
		cmocka_unit_test(test_cidr_refuses),
		cmocka_unit_test(test_random_round_trips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
