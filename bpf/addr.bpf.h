/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses and what is known of them without a helper; compiled natively too, by the agent and by
 * tests. The one format is that of struct shunt_endpoint: 16 bytes, IPv4 mapped, network byte
 * order.
 */
#pragma once

#include <stdbool.h>

#include <linux/types.h>

#include <bpf/bpf_endian.h>

#include "shunt/abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/*
 * Words are compared in one expression here, not one after the other: each branch would double the
 * ways through the hooks, and the verifier walks most of them.
 */
static __always_inline bool addr_v4_mapped(const __be32 addr[4])
{
	return !(addr[0] | addr[1] | (addr[2] ^ bpf_htonl(0xffff)));
}

static __always_inline enum shunt_family addr_family(const __be32 addr[4])
{
	return addr_v4_mapped(addr) ? SHUNT_V4 : SHUNT_V6;
}

static __always_inline void addr_set_v4(__be32 addr[4], __be32 v4)
{
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = v4;
}

static __always_inline bool addr_unspecified(const __be32 addr[4])
{
	return !(addr[0] | addr[1] | addr[3]) && (!addr[2] || addr[2] == bpf_htonl(0xffff));
}

static __always_inline bool addr_loopback(const __be32 addr[4])
{
	if (addr_v4_mapped(addr))
		return (addr[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !(addr[0] | addr[1] | addr[2] | (addr[3] ^ bpf_htonl(1)));
}

static __always_inline bool addr_link_local(const __be32 addr[4])
{
	return (addr[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool addr_equal(const __be32 a[4], const __be32 b[4])
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline void addr_copy(__be32 to[4], const __be32 from[4])
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline bool endpoint_equal(const struct shunt_endpoint *a,
					   const struct shunt_endpoint *b)
{
	return a->port == b->port && addr_equal(a->addr, b->addr);
}

/* The address that stands for DNS server @number of a socket: abi.h, shunt_resolvers. */
static __always_inline void addr_set_token(__be32 addr[4], enum shunt_family family, __u32 number)
{
	if (family == SHUNT_V4) {
		addr_set_v4(addr, bpf_htonl(SHUNT_TOKEN_V4 + number));
		return;
	}
	addr[0] = bpf_htonl(SHUNT_TOKEN_V6);
	addr[1] = 0;
	addr[2] = 0;
	addr[3] = bpf_htonl(SHUNT_TOKEN_V6_TAIL + number);
}

/* The number that @addr stands for, or 0 if it is no such address. */
static __always_inline __u32 addr_token(const __be32 addr[4])
{
	__u32 tail = bpf_ntohl(addr[3]);

	if (addr_v4_mapped(addr) && (tail & SHUNT_TOKEN_MASK) == SHUNT_TOKEN_V4)
		return tail & ~SHUNT_TOKEN_MASK;
	if (addr[0] == bpf_htonl(SHUNT_TOKEN_V6) && !addr[1] && !addr[2] &&
	    (tail & SHUNT_TOKEN_MASK) == SHUNT_TOKEN_V6_TAIL)
		return tail & ~SHUNT_TOKEN_MASK;
	return 0;
}
