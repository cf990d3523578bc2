/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Foretells the source address that the kernel would choose for a destination. No helper answers
 * that in a connect hook, so the kernel's own tables are read: the route, then the addresses of its
 * device. Hooks run under rcu_read_lock(), which keeps what is reached from the tables in memory; a
 * read of anything else does not fault.
 *
 * The rule is never to answer wrongly. What is not followed here to its end (rules of policy
 * routing, nexthop objects, several routes of equal rank, options of the socket that have a say)
 * cannot be foretold.
 *
 * The parts are global functions, which the verifier checks once and not again on every path of the
 * program that calls them. So are the bodies of the loops: with bpf_loop() kernels before 6.8 take
 * what its callback sees the first time for constant, and drop the code for what comes later. What
 * the parts tell each other lies with the caller of them all, for their stack frames add up.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/errno.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.bpf.h"
#include "source4.bpf.h"
#include "source6_addr.bpf.h"
#include "source6_route.bpf.h"
#include "source_net.bpf.h"

/*
 * @sk comes from source_sock(); the socket is not bound. Addresses are in network byte order, IPv4
 * mapped into IPv6. 0, or negative if it cannot be foretold.
 */
static __always_inline int source_foretell(__u64 sk, const __be32 dst[4], __be32 ret[4])
{
	struct source6_query query = {};
	struct source6_addr source;
	int r;

	if (addr_v4_mapped(dst)) {
		r = source4_foretell(sk, dst[3], &ret[3]);
		if (r)
			return r;
		ret[0] = 0;
		ret[1] = 0;
		ret[2] = dst[2];
		return 0;
	}
	query.dst.high = (__u64)bpf_ntohl(dst[0]) << 32 | bpf_ntohl(dst[1]);
	query.dst.low = (__u64)bpf_ntohl(dst[2]) << 32 | bpf_ntohl(dst[3]);
	r = source6_route(sk, &query);
	if (!r && !query.source)
		r = source6_choose(&query);
	if (r)
		return r;
	source = source6_read((const void *)query.source);
	ret[0] = bpf_htonl(source.high >> 32);
	ret[1] = bpf_htonl(source.high);
	ret[2] = bpf_htonl(source.low >> 32);
	ret[3] = bpf_htonl(source.low);
	return 0;
}
