/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses, ports and CIDRs: text in and out.
 * Reads from: the caller's text.
 * Writes to: the caller's buffers.
 */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "number.h"

#define ADDR_BITS 128

/* Clears the host bits; says if there were any. */
static bool mask_host_bits(__be32 addr[4], uint32_t prefix)
{
	bool any = false;

	for (uint32_t i = 0; i < 4; i++) {
		uint32_t skip = 32 * i;
		uint32_t bits = prefix <= skip ? 0 : prefix - skip;
		__be32 mask = bits >= 32 ? htonl(~0u) : htonl(~(~0u >> bits));

		any |= addr[i] & ~mask;
		addr[i] &= mask;
	}
	return any;
}

bool addr_is_v4(const __be32 addr[4])
{
	return !addr[0] && !addr[1] && addr[2] == htonl(0xffff);
}

bool addr_is_loopback(const __be32 addr[4])
{
	if (addr_is_v4(addr))
		return ntohl(addr[3]) >> 24 == 127;
	return !addr[0] && !addr[1] && !addr[2] && addr[3] == htonl(1);
}

bool addr_is_unspecified(const __be32 addr[4])
{
	return !addr[3] && (addr_is_v4(addr) || (!addr[0] && !addr[1] && !addr[2]));
}

bool addr_is_multicast(const __be32 addr[4])
{
	if (addr_is_v4(addr))
		return ntohl(addr[3]) >> 28 == 0xe || !~addr[3];
	return ntohl(addr[0]) >> 24 == 0xff;
}

bool addr_is_link_local(const __be32 addr[4])
{
	return ntohl(addr[0]) >> 22 == 0xfe80 >> 6;
}

int addr_parse(const char *text, __be32 ret[4])
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		ret[0] = ret[1] = 0;
		ret[2] = htonl(0xffff);
		ret[3] = v4.s_addr;
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return -EINVAL;
	memcpy(ret, &v6, sizeof(v6));
	return 0;
}

int addr_parse_port(const char *text, uint16_t *ret)
{
	uint32_t port;

	if (number_parse(text, UINT16_MAX, &port) < 0 || !port)
		return -EINVAL;
	*ret = port;
	return 0;
}

int addr_parse_endpoint(const char *text, struct shunt_endpoint *ret)
{
	struct shunt_endpoint endpoint = {0};
	char buf[ADDR_STRLEN], *host = buf, *colon;
	uint16_t port;
	int r;

	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	strcpy(buf, text);

	colon = strrchr(buf, ':');
	if (!colon)
		return -EINVAL;
	*colon = '\0';
	r = addr_parse_port(colon + 1, &port);
	if (r < 0)
		return r;

	/* Brackets and an inner colon come together: without them "::1:80" would be two things. */
	if (*host == '[') {
		if (colon[-1] != ']')
			return -EINVAL;
		colon[-1] = '\0';
		host++;
	}
	if ((host > buf) != !!strchr(host, ':'))
		return -EINVAL;
	r = addr_parse(host, endpoint.addr);
	if (r < 0)
		return r;
	endpoint.port = htons(port);
	*ret = endpoint;
	return 0;
}

/* The same as addr_parse_cidr(), but host bits may be set. */
static int parse_host_cidr(const char *text, __be32 ret_addr[4], uint32_t *ret_prefix)
{
	const char *slash = strchrnul(text, '/');
	uint32_t prefix = ADDR_BITS;
	char host[ADDR_STRLEN];
	__be32 addr[4];
	size_t n = slash - text;
	int r;

	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	r = addr_parse(host, addr);
	if (r < 0)
		return r;
	if (*slash) {
		/* Of what is written as IPv6, mapped IPv4 too, the prefix counts in 128 bits. */
		uint32_t skipped = strchr(host, ':') ? 0 : ADDR_V4_BITS;

		if (number_parse(slash + 1, ADDR_BITS - skipped, &prefix) < 0)
			return -EINVAL;
		prefix += skipped;
	}
	memcpy(ret_addr, addr, sizeof(addr));
	*ret_prefix = prefix;
	return 0;
}

int addr_parse_cidr(const char *text, __be32 ret_addr[4], uint32_t *ret_prefix)
{
	__be32 addr[4];
	uint32_t prefix;
	int r;

	r = parse_host_cidr(text, addr, &prefix);
	if (r < 0)
		return r;
	if (mask_host_bits(addr, prefix))
		return -ERANGE;
	memcpy(ret_addr, addr, sizeof(addr));
	*ret_prefix = prefix;
	return 0;
}

int addr_parse_network(const char *text, __be32 ret_addr[4], uint32_t *ret_prefix)
{
	int r;

	r = parse_host_cidr(text, ret_addr, ret_prefix);
	if (r < 0)
		return r;
	mask_host_bits(ret_addr, *ret_prefix);
	return 0;
}

const char *addr_format(const __be32 addr[4], char buf[ADDR_STRLEN])
{
	if (addr_is_v4(addr))
		inet_ntop(AF_INET, &addr[3], buf, ADDR_STRLEN);
	else
		inet_ntop(AF_INET6, addr, buf, ADDR_STRLEN);
	return buf;
}

const char *addr_format_endpoint(const struct shunt_endpoint *endpoint, char buf[ADDR_STRLEN])
{
	const char *format = addr_is_v4(endpoint->addr) ? "%s:%u" : "[%s]:%u";
	char host[ADDR_STRLEN];

	addr_format(endpoint->addr, host);
	snprintf(buf, ADDR_STRLEN, format, host, ntohs(endpoint->port));
	return buf;
}

const char *addr_format_cidr(const __be32 addr[4], uint32_t prefix, char buf[ADDR_STRLEN])
{
	bool v4 = addr_is_v4(addr) && prefix >= ADDR_V4_BITS;
	size_t n;

	n = strlen(addr_format(addr, buf));
	snprintf(buf + n, ADDR_STRLEN - n, "/%u", v4 ? prefix - ADDR_V4_BITS : prefix);
	return buf;
}
