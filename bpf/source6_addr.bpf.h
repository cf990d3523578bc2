/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which address of a device the kernel would use as the source for an IPv6 destination: what
 * ipv6_dev_get_saddr() comes to. Addresses of the outgoing device come before all others, unless it
 * has none that will do: then there is no answer. Two kinds would come first on any device, and are
 * not looked for on others: home addresses of Mobile IPv6, and the destination itself where it is
 * an address of this host's that is not routed to (yet, or its device lacks a carrier).
 */
#pragma once

#include <stdbool.h>

#include <linux/errno.h>
#include <linux/if_addr.h>
#include <linux/in6.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "source_net.bpf.h"

#define SOURCE6_ADDRESSES 64 /* addresses of a device looked at … */
#define SOURCE6_RIVALS	  8  /* … and of those, how many may be fit as a source */
#define SOURCE6_LABELS	  64 /* entries of the policy table looked at (ip addrlabel) */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inet6_ifaddr___src {
	struct in6_addr addr;
	__u32 prefix_len;
	__u32 flags;
	struct list_head___src if_list;
};

struct ip6addrlbl_entry___src {
	struct in6_addr prefix;
	int prefixlen;
	int ifindex;
	int addrtype;
	__u32 label;
	struct hlist_node___src list;
};

#pragma clang attribute pop

/*
 * Does this kernel have IPv6 and the table local? Each global function has to ask before it reads,
 * for the verifier looks at each whether it is called or not.
 */
static __always_inline bool source6_is_known(void)
{
	const struct net___src *net = NULL;

	return bpf_core_field_exists(net->ipv6.fib6_local_tbl);
}

/* In host byte order, so that one can calculate with it. */
struct source6_addr {
	__u64 high;
	__u64 low;
};

static __always_inline struct source6_addr source6_read(const void *address)
{
	struct source6_addr addr;

	if (cast_available()) {
		addr.high = CAST_LOAD(__u64, address);
		addr.low = CAST_LOAD(__u64, (const char *)address + sizeof(addr.high));
	} else {
		bpf_probe_read_kernel(&addr, sizeof(addr), address);
	}
	addr.high = bpf_be64_to_cpu(addr.high);
	addr.low = bpf_be64_to_cpu(addr.low);
	return addr;
}

static __always_inline bool source6_equal(const struct source6_addr *a,
					  const struct source6_addr *b)
{
	return a->high == b->high && a->low == b->low;
}

/* How many of 64 bits come before the first that is set; without branches, for the verifier. */
static __always_inline __u32 source6_zeros(__u64 bits)
{
	bits |= bits >> 1;
	bits |= bits >> 2;
	bits |= bits >> 4;
	bits |= bits >> 8;
	bits |= bits >> 16;
	bits |= bits >> 32;
	/* Now to count the bits that are not set: in pairs, fours, bytes, and all. */
	bits = ~bits;
	bits -= bits >> 1 & 0x5555555555555555;
	bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return bits * 0x0101010101010101 >> 56;
}

/* The length of the longest prefix that both have. */
static __always_inline __u32 source6_common(const struct source6_addr *a,
					    const struct source6_addr *b)
{
	if (a->high != b->high)
		return source6_zeros(a->high ^ b->high);
	return 64 + source6_zeros(a->low ^ b->low);
}

/* fe80::/10 and fec0::/10 (link-local and site-local), ::1: too narrow a scope for a source. */
static __always_inline bool source6_is_narrow(const struct source6_addr *addr)
{
	return addr->high >> 55 == 0xfe80 >> 7 || (!addr->high && addr->low == 1);
}

/* 2001:10::/28 (RFC 4843) */
static __always_inline bool source6_is_orchid(const struct source6_addr *addr)
{
	return addr->high >> 36 == 0x2001001;
}

struct source6_label {
	struct source6_addr addr;
	const struct hlist_node___src *entry; /* to look at next */
	int ifindex;
	__u32 label; /* the answer */
};

/* Looks at one entry of the policy table. 0, or 1 after the one that matters. */
__weak __noinline int source6_match_label(struct source6_label *query)
{
	const struct ip6addrlbl_entry___src *entry;
	struct source6_addr prefix;
	__u64 copy[2];
	__u32 length;
	int ifindex;

	if (!source6_is_known() || !query || !query->entry)
		return 1;
	entry = SOURCE_ENTRY(query->entry, struct ip6addrlbl_entry___src, list);
	query->entry = SOURCE_READ(entry, list.next);
	SOURCE_COPY(copy, entry, prefixlen);
	ifindex = SOURCE_PART(copy, entry, prefixlen, ifindex);
	/* Entries with an addrtype are for addresses that do not come here: mapped, loopback … */
	if (SOURCE_PART(copy, entry, prefixlen, addrtype) || (ifindex && ifindex != query->ifindex))
		return 0;
	length = SOURCE_PART(copy, entry, prefixlen, prefixlen);
	prefix = source6_read(&entry->prefix);
	if (source6_common(&prefix, &query->addr) < length)
		return 0;
	query->label = SOURCE_PART(copy, entry, prefixlen, label);
	return 1;
}

/* What the parts tell each other. */
struct source6_query {
	struct source6_addr dst;
	__u64 net;    /* struct net */
	__u64 device; /* struct net_device: where all routes lead that the kernel may take */
	__u64 source; /* the answer, where the kernel keeps it: struct in6_addr */
	__u32 label;  /* of the destination, once it is needed */
	__u32 pad;
};

/*
 * The label of an address: that of the longest prefix in the policy table that it has. @address is
 * where the kernel keeps it; 0: of the destination.
 */
__weak __noinline __u32 source6_label(struct source6_query *query, __u64 address)
{
	struct source6_label label = {.label = ~0u};
	const struct net_device___src *device;
	const struct net___src *net;
	int i;

	if (!source6_is_known() || !query)
		return 0;
	label.addr = address ? source6_read((const void *)address) : query->dst;
	net = (const struct net___src *)query->net;
	label.entry = SOURCE_READ(net, ipv6.ip6addrlbl_table.head.first);
	device = (const struct net_device___src *)query->device;
	label.ifindex = SOURCE_READ(device, ifindex);
	for (i = 0; i < SOURCE6_LABELS; i++)
		if (source6_match_label(&label))
			break;
	return label.label;
}

/* How good a source an address of the device is by rules 1 and 6 to 8 of RFC 6724; at least 1. */
__weak __noinline __u32 source6_rank(struct source6_query *query, __u64 address, __u32 label)
{
	const struct inet6_ifaddr___src *ifa = (const struct inet6_ifaddr___src *)address;
	const struct net_device___src *device;
	const struct inet6_dev___src *config;
	__u32 rank = 1, common, prefix_len;
	struct source6_addr addr;
	bool temporary, wanted;

	if (!source6_is_known() || !query)
		return rank;
	addr = source6_read(&ifa->addr);
	if (source6_equal(&addr, &query->dst))
		return ~0u;
	device = (const struct net_device___src *)query->device;
	temporary = SOURCE_READ(ifa, flags) & IFA_F_TEMPORARY;
	config = SOURCE_READ(device, ip6_ptr);
	wanted = SOURCE_READ(config, cnf.use_tempaddr) >= 2;
	rank = rank << 1 | (label == query->label);
	rank = rank << 1 | (temporary == wanted);
	rank = rank << 1 | (source6_is_orchid(&addr) == source6_is_orchid(&query->dst));
	prefix_len = SOURCE_READ(ifa, prefix_len);
	common = source6_common(&addr, &query->dst);
	return rank << 8 | (common < prefix_len ? common : prefix_len);
}

struct source6_search {
	const struct list_head___src *at; /* the address looked at, in the end the answer … */
	const struct list_head___src *end;
	bool unknown; /* … unless there is none */
};

/* Looks at one address. 0, or 1 if the search ends with it. */
__weak __noinline int source6_consider(struct source6_search *search,
				       const struct source6_query *query)
{
	const struct list_head___src *at;
	const struct inet6_ifaddr___src *address;
	struct source6_addr addr;
	__u32 flags;

	if (!source6_is_known() || !search || !query)
		return 1;
	at = search->at;
	at = SOURCE_READ(at, next);
	search->at = at;
	if (at == search->end)
		return 1;
	address = SOURCE_ENTRY(at, struct inet6_ifaddr___src, if_list);
	flags = SOURCE_READ(address, flags);
	if (flags & IFA_F_TENTATIVE && !(flags & IFA_F_OPTIMISTIC))
		return 0;
	addr = source6_read(&address->addr);
	if (source6_equal(&addr, &query->dst))
		return 1;
	if (source6_is_narrow(&addr))
		return 0;
	/* Rare, and treated in ways of their own. */
	if (flags & (IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS) || !(addr.high >> 61)) {
		search->unknown = true;
		return 1;
	}
	return !(flags & IFA_F_DEPRECATED);
}

/*
 * The next address behind @after, a place in the list with the head @end, that will do as a source.
 * @end: there is none. 0: it cannot be foretold.
 */
__weak __noinline __u64 source6_next(struct source6_query *query, __u64 after, __u64 end)
{
	struct source6_search search = {
		.at = (const struct list_head___src *)after,
		.end = (const struct list_head___src *)end,
	};
	int i;

	if (!query)
		return 0;
	for (i = 0; i < SOURCE6_ADDRESSES; i++)
		if (source6_consider(&search, query))
			break;
	return i == SOURCE6_ADDRESSES || search.unknown ? 0 : (__u64)search.at;
}

/* Not in source6_rank(), for the sake of the stack. */
static __always_inline __u32 source6_rank_labelled(struct source6_query *query,
						   const struct inet6_ifaddr___src *address)
{
	return source6_rank(query, (__u64)address, source6_label(query, (__u64)&address->addr));
}

/* Fills in the source. 0, or negative if it cannot be foretold. */
__weak __noinline int source6_choose(struct source6_query *query)
{
	const struct inet6_ifaddr___src *address, *best = NULL;
	const struct net_device___src *device;
	const struct inet6_dev___src *config;
	__u32 rank, best_rank = 0;
	__u64 at, end;

	if (!source6_is_known() || !query)
		return -EOPNOTSUPP;
	device = (const struct net_device___src *)query->device;
	config = SOURCE_READ(device, ip6_ptr);
	if (!config)
		return -EADDRNOTAVAIL;
	end = (__u64)&config->addr_list;
	at = end;
	for (int i = 0; i < SOURCE6_RIVALS; i++) {
		at = source6_next(query, at, end);
		if (!at)
			return -EADDRNOTAVAIL;
		if (at == end) {
			if (!best)
				return -EADDRNOTAVAIL;
			query->source = (__u64)&best->addr;
			return 0;
		}
		address = SOURCE_ENTRY(at, struct inet6_ifaddr___src, if_list);
		/* Most often there is but one, which need not be compared. */
		rank = 0;
		if (best) {
			if (!best_rank) {
				query->label = source6_label(query, 0);
				best_rank = source6_rank_labelled(query, best);
			}
			rank = source6_rank_labelled(query, address);
			if (rank <= best_rank)
				continue;
		}
		best = address;
		best_rank = rank;
	}
	return -EADDRNOTAVAIL;
}
