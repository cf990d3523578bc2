/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which device the kernel would send to an IPv6 destination by: what fib6_table_lookup() comes to,
 * read from the routing tree.
 *
 * Which of several routes the kernel takes may depend on whether it believes their gateways to be
 * alive. So every route that it might take is looked at, and there is an answer only if all of
 * them lead to the same device.
 */
#pragma once

#include <stdbool.h>

#include <linux/errno.h>
#include <linux/in6.h>
#include <linux/ipv6_route.h>
#include <linux/rtnetlink.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "source6_addr.bpf.h"
#include "source_net.bpf.h"

#define SOURCE6_STEPS 512 /* nodes of both trees (the way down and up) and routes looked at */

/* struct fib6_node, fn_flags: no part of any header for programs */
#define SOURCE6_NODE_ROOT   0x2
#define SOURCE6_NODE_ROUTES 0x4

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rt6key___src {
	struct in6_addr addr;
	int plen;
};

struct fib6_node___src {
	struct fib6_node___src *parent;
	struct fib6_node___src *left;
	struct fib6_node___src *right;
	struct fib6_node___src *subtree;
	struct fib6_info___src *leaf;
	__u16 fn_bit;
	__u16 fn_flags;
};

struct fib6_table___src {
	struct fib6_node___src tb6_root;
};

struct fib6_nh___src {
	struct fib_nh_common___src nh_common;
};

struct fib6_info___src {
	struct fib6_info___src *fib6_next;
	unsigned int fib6_nsiblings;
	unsigned long expires;
	struct rt6key___src fib6_dst;
	__u32 fib6_flags;
	struct rt6key___src fib6_prefsrc;
	__u32 fib6_metric;
	__u8 fib6_type;
	void *nh;
	struct fib6_nh___src fib6_nh[];
};

#pragma clang attribute pop

struct source6_lookup {
	const struct fib6_node___src *node;	  /* to visit next, if any */
	const struct fib6_node___src *above;	  /* node above the last match, for afterwards */
	const struct fib6_info___src *leaf;	  /* the last match's routes, not looked at yet */
	const struct fib6_info___src *route;	  /* to look at next, if any */
	const struct fib6_node___src *next_root;  /* of the table to look at after this one */
	const struct fib6_info___src *null_entry; /* stands for no route */
	__u32 metric;				  /* of the node's first route … */
	bool fresh;				  /* … which is yet to be seen */
	bool rising;				  /* from a match to those with shorter prefixes */
	bool settled;				  /* the kernel takes one of the routes seen */
	bool unknown;				  /* there is no answer */
};

static __always_inline int source6_fail(struct source6_lookup *lookup)
{
	lookup->unknown = true;
	return 1;
}

/* Is the destination below the prefix of this leaf, and is it @bit long? */
static __always_inline bool source6_matches(const struct source6_query *query,
					    const struct fib6_info___src *leaf, __u16 bit)
{
	struct source6_addr prefix;

	if (!bit)
		return true;
	prefix = source6_read(&leaf->fib6_dst.addr);
	return source6_common(&prefix, &query->dst) >= bit;
}

static __always_inline int source6_visit(struct source6_lookup *lookup,
					 const struct source6_query *query)
{
	const struct fib6_node___src *node = lookup->node;
	const struct fib6_info___src *leaf;
	__u64 copy[6], half;
	__u16 bit, flags;

	lookup->node = NULL;
	SOURCE_COPY(copy, node, parent);
	/* Routes that depend on the source. */
	if (bpf_core_field_exists(node->subtree) && SOURCE_PART(copy, node, parent, subtree))
		return source6_fail(lookup);
	bit = SOURCE_PART(copy, node, parent, fn_bit);
	flags = SOURCE_PART(copy, node, parent, fn_flags);
	if (flags & SOURCE6_NODE_ROUTES) {
		leaf = SOURCE_PART(copy, node, parent, leaf);
		if (!source6_matches(query, leaf, bit))
			return 0;
		lookup->leaf = leaf;
	}
	if (flags & SOURCE6_NODE_ROUTES || lookup->rising) {
		lookup->above = NULL;
		if (!(flags & SOURCE6_NODE_ROOT))
			lookup->above = SOURCE_PART(copy, node, parent, parent);
	}
	if (lookup->rising || bit >= 128)
		return 0;
	half = bit < 64 ? query->dst.high : query->dst.low;
	if (half >> (63 - bit % 64) & 1)
		lookup->node = SOURCE_PART(copy, node, parent, right);
	else
		lookup->node = SOURCE_PART(copy, node, parent, left);
	return 0;
}

/* Turns to what is next to do when there is no node to visit. */
static __always_inline int source6_turn(struct source6_lookup *lookup,
					const struct source6_query *query)
{
	const struct fib6_info___src *leaf = lookup->leaf;

	lookup->leaf = NULL;
	if (leaf && leaf != lookup->null_entry) {
		lookup->route = leaf;
		lookup->fresh = true;
	} else if (lookup->above) {
		lookup->node = lookup->above;
		lookup->rising = true;
	} else {
		if (query->device || !lookup->next_root)
			return 1;
		lookup->node = lookup->next_root;
		lookup->next_root = NULL;
		lookup->rising = false;
	}
	return 0;
}

/* Is it out of the question that the kernel takes this route? */
static __always_inline bool source6_route_dead(const struct fib6_info___src *route, __u8 flags,
					       const struct net_device___src *device)
{
	const struct inet6_dev___src *config;

	if (SOURCE_READ(route, fib6_flags) & RTF_EXPIRES &&
	    (long)(SOURCE_READ(route, expires) - bpf_jiffies64()) < 0)
		return true;
	if (flags & RTNH_F_DEAD)
		return true;
	if (!(flags & RTNH_F_LINKDOWN))
		return false;
	config = SOURCE_READ(device, ip6_ptr);
	return SOURCE_READ(config, cnf.ignore_routes_with_linkdown);
}

static __always_inline bool source6_host_forwards(const struct net___src *net)
{
	const struct ipv6_devconf___src *all = SOURCE_READ(net, ipv6.devconf_all);

	return SOURCE_READ(all, forwarding);
}

/* Notes a route that the kernel may take. False if it leads elsewhere than those before. */
static __always_inline bool source6_agree(struct source6_query *query,
					  const struct fib6_info___src *route, bool preferred,
					  __u64 device)
{
	if (query->device)
		return query->device == device && !query->source && !preferred;
	query->device = device;
	if (preferred)
		query->source = (__u64)&route->fib6_prefsrc.addr;
	return true;
}

static __always_inline int source6_try_route(struct source6_lookup *lookup,
					     struct source6_query *query)
{
	const struct fib6_info___src *route = lookup->route;
	const struct fib6_nh___src *nexthop = (const void *)&route->fib6_nh;
	const struct net_device___src *device;
	__u64 copy[5], nexthop_copy[3];
	__u32 metric;
	__u8 type, flags;

	SOURCE_COPY(copy, route, fib6_prefsrc);
	metric = SOURCE_PART(copy, route, fib6_prefsrc, fib6_metric);
	if (lookup->fresh)
		lookup->metric = metric;
	lookup->fresh = false;
	if (metric != lookup->metric && lookup->settled)
		return 1;
	/* Of the routes to several gateways the kernel may take even one that is dead. */
	if (SOURCE_READ(route, nh) || SOURCE_READ(route, fib6_nsiblings))
		return source6_fail(lookup);
	SOURCE_COPY(nexthop_copy, nexthop, nh_common.nhc_dev);
	flags = SOURCE_PART(nexthop_copy, nexthop, nh_common.nhc_dev, nh_common.nhc_flags);
	device = SOURCE_PART(nexthop_copy, nexthop, nh_common.nhc_dev, nh_common.nhc_dev);
	if (!source6_route_dead(route, flags, device)) {
		type = SOURCE_PART(copy, route, fib6_prefsrc, fib6_type);
		if (type != RTN_UNICAST && type != RTN_LOCAL)
			return source6_fail(lookup);
		if (!source6_agree(query, route,
				   SOURCE_PART(copy, route, fib6_prefsrc, fib6_prefsrc.plen),
				   (__u64)device))
			return source6_fail(lookup);
		/* Only a host that does not forward minds whether a gateway is alive. */
		if (metric == lookup->metric &&
		    (!SOURCE_PART(nexthop_copy, nexthop, nh_common.nhc_dev,
				  nh_common.nhc_gw_family) ||
		     source6_host_forwards((const struct net___src *)query->net)))
			lookup->settled = true;
	}
	lookup->route = SOURCE_READ(route, fib6_next);
	return !lookup->route && lookup->settled;
}

/* One step of the lookup. 0, or 1 after the last. */
__weak __noinline int source6_step(struct source6_lookup *lookup, struct source6_query *query)
{
	if (!source6_is_known() || !lookup || !query)
		return 1;
	if (lookup->route)
		return source6_try_route(lookup, query);
	if (lookup->node)
		return source6_visit(lookup, query);
	return source6_turn(lookup, query);
}

/* Does the socket have options that have a say in the route or the source? */
static __noinline bool source6_has_options(const struct inet_sock___src *inet)
{
	const struct ipv6_pinfo___src *options = SOURCE_READ(inet, pinet6);
	__u64 copy[12];

	SOURCE_COPY(copy, options, opt);
	return SOURCE_PART(copy, options, opt, opt) || SOURCE_PART(copy, options, opt, ucast_oif) ||
	       SOURCE_PART(copy, options, opt, sticky_pktinfo.ipi6_ifindex) ||
	       BPF_CORE_READ_BITFIELD_PROBED(options, srcprefs);
}

/* Where to begin: the roots of the tables local and main. False if there is more to it. */
static __noinline bool source6_begin(struct source6_lookup *lookup, const struct net___src *net)
{
	const struct fib6_table___src *local, *main;
	__u64 copy[7];

	SOURCE_COPY(copy, net, ipv6.fib6_main_tbl);
	main = SOURCE_PART(copy, net, ipv6.fib6_main_tbl, ipv6.fib6_main_tbl);
	local = SOURCE_READ(net, ipv6.fib6_local_tbl);
	lookup->node = &local->tb6_root;
	lookup->next_root = &main->tb6_root;
	lookup->null_entry = SOURCE_READ(net, ipv6.fib6_null_entry);
	return local && main &&
	       !SOURCE_PART(copy, net, ipv6.fib6_main_tbl, ipv6.fib6_has_custom_rules);
}

/* Fills in the device and what the route says of the source. 0, or negative: unforeseeable. */
__weak __noinline int source6_route(__u64 sk, struct source6_query *query)
{
	struct source6_lookup lookup = {};
	int i;

	/* Unspecified, loopback, and what else has no meaning off this host; multicast */
	if (!source6_is_known() || !query || !query->dst.high || query->dst.high >> 56 == 0xff ||
	    source6_is_narrow(&query->dst))
		return -EOPNOTSUPP;
	query->net = source_namespace(sk);
	if (!query->net || source6_has_options((const struct inet_sock___src *)sk) ||
	    !source6_begin(&lookup, (const struct net___src *)query->net))
		return -EOPNOTSUPP;
	for (i = 0; i < SOURCE6_STEPS; i++)
		if (source6_step(&lookup, query))
			break;
	return i < SOURCE6_STEPS && query->device && !lookup.unknown ? 0 : -ENETUNREACH;
}
