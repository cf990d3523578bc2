/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses, endpoints, networks as text; networks against bits compared one by one.
 * Reads from: an input, as the text.
 * Writes to: nothing.
 */
#include <arpa/inet.h>
#include <errno.h>

#include "fuzz.h"
#include "util/addr.h"
#include "util/cleanup.h"

/* The C library's opinion; it has no other idea of an address. */
static bool is_address(const char *text)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;
}

static void check_addr(const char *text)
{
	__be32 addr[4], again[4];
	char buf[ADDR_STRLEN];
	int r = addr_parse(text, addr);

	fuzz_check(r == (is_address(text) ? 0 : -EINVAL));
	if (r)
		return;
	fuzz_check(!addr_parse(addr_format(addr, buf), again));
	fuzz_check(!memcmp(addr, again, sizeof(addr)));
	fuzz_check(addr_is_v4(addr) == !strchr(buf, ':'));
}

static void check_endpoint(const char *text)
{
	struct shunt_endpoint endpoint = {}, again = {};
	char buf[ADDR_STRLEN];

	if (addr_parse_endpoint(text, &endpoint))
		return;
	fuzz_check(endpoint.port);
	fuzz_check(!addr_parse_endpoint(addr_format_endpoint(&endpoint, buf), &again));
	fuzz_check(!memcmp(endpoint.addr, again.addr, sizeof(again.addr)));
	fuzz_check(endpoint.port == again.port);
}

static bool bit(const __be32 addr[4], uint32_t i)
{
	return ntohl(addr[i / 32]) >> (31 - i % 32) & 1;
}

static void check_network(const char *text)
{
	__be32 addr[4], exact[4];
	uint32_t prefix, exact_prefix;
	char buf[ADDR_STRLEN];
	int r = addr_parse_network(text, addr, &prefix);
	int exact_r = addr_parse_cidr(text, exact, &exact_prefix);

	fuzz_check(r == 0 || r == -EINVAL);
	fuzz_check(exact_r == 0 || exact_r == (r ? -EINVAL : -ERANGE));
	if (r)
		return;
	fuzz_check(prefix <= 128);
	for (uint32_t i = prefix; i < 128; i++)
		fuzz_check(!bit(addr, i));
	if (!exact_r)
		fuzz_check(prefix == exact_prefix && !memcmp(addr, exact, sizeof(addr)));
	fuzz_check(!addr_parse_cidr(addr_format_cidr(addr, prefix, buf), exact, &exact_prefix));
	fuzz_check(prefix == exact_prefix && !memcmp(addr, exact, sizeof(addr)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = fuzz_text(data, size);
	uint16_t port;

	check_addr(text);
	check_endpoint(text);
	check_network(text);
	if (!addr_parse_port(text, &port))
		fuzz_check(port && strtol(text, NULL, 10) == port);
	return 0;
}
