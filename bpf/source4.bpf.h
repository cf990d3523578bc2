/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The source address that the kernel would choose for an IPv4 destination: what fib_lookup(),
 * fib_select_path() and inet_select_addr() come to, read from the trie and the device.
 *
 * A route lies in the leaf of its prefix with zeros behind, together with the other routes whose
 * prefixes look the same that way, longest first. So the leaves that may hold a route for a
 * destination are that of the destination itself, that of the destination without its lowest set
 * bit, and so on down to 0.0.0.0; and this order is that of the longest prefix. Each of them is
 * looked for from the root, but those that cannot be there are passed over.
 */
#pragma once

#include <stdbool.h>

#include <linux/errno.h>
#include <linux/if_addr.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "source_net.bpf.h"

#define SOURCE4_STEPS	  256 /* nodes of the trie and routes in leaves looked at */
#define SOURCE4_ADDRESSES 64  /* addresses of a device looked at */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct fib_table___src {
	unsigned long *tb_data;
};

struct key_vector___src {
	__u32 key;		      /* host byte order */
	unsigned char pos;	      /* bits below those that index the children */
	unsigned char bits;	      /* 2^bits children; 0: a leaf */
	unsigned char slen;	      /* of all the routes below, the longest fa_slen */
	struct hlist_head___src leaf; /* routes of a leaf; the array of children begins here too */
};

struct fib_nh___src {
	struct fib_nh_common___src nh_common;
	__be32 nh_saddr;
	int nh_saddr_genid;
};

struct fib_info___src {
	unsigned int fib_flags;
	unsigned char fib_dead;
	unsigned char fib_scope;
	__be32 fib_prefsrc;
	__u32 fib_priority;
	int fib_nhs;
	void *nh;
	struct fib_nh___src fib_nh[];
};

struct fib_alias___src {
	struct hlist_node___src fa_list;
	struct fib_info___src *fa_info;
	__u8 fa_dscp;
	__u8 fa_type;
	__u8 fa_slen; /* bits behind the prefix */
	__u32 tb_id;
};

struct in_ifaddr___src {
	struct in_ifaddr___src *ifa_next;
	__be32 ifa_local;
	__be32 ifa_address;
	__be32 ifa_mask;
	unsigned char ifa_scope;
	__u32 ifa_flags;
};

#pragma clang attribute pop

/* What the parts tell each other. */
struct source4_query {
	__u64 net;     /* struct net */
	__u64 route;   /* the answer: struct fib_info */
	__u32 dst;     /* host byte order */
	__be32 source; /* which the route says to use, or 0 */
	__u8 has_tos;  /* the socket's type of service is not 0 */
	__u8 local;    /* the answer is a route to this host */
	__u8 unknown;  /* there is no answer */
	__u8 pad;
};

struct source4_lookup {
	const struct key_vector___src *root;
	const struct key_vector___src *node;  /* to look at next … */
	const struct hlist_node___src *alias; /* … but this first, if any */
	__u32 prefix;			      /* whose leaf is looked for */
	__u32 below; /* bits that do not matter for how the node was come to */
};

static __always_inline const struct key_vector___src *
source4_child(const struct key_vector___src *node, __u64 index)
{
	return CAST_LOAD(const struct key_vector___src *,
			 (const char *)&node->leaf + index * sizeof(void *));
}

/*
 * Goes on to the next shorter prefix. Those that differ only in bits of @low would end where this
 * one did, and are passed over. 0, or 1 if there is none left.
 */
static __always_inline int source4_shorten(struct source4_lookup *lookup, __u32 low)
{
	lookup->prefix &= ~low;
	if (!lookup->prefix)
		return 1;
	lookup->prefix &= lookup->prefix - 1;
	lookup->node = lookup->root;
	lookup->below = ~0u;
	return 0;
}

static __always_inline int source4_visit_node(struct source4_lookup *lookup,
					      const struct source4_query *query)
{
	const struct key_vector___src *node = lookup->node;
	__u32 lost = query->dst ^ lookup->prefix;
	__u32 key, differ, above, copy[2];
	__u8 pos, bits, slen;

	SOURCE_COPY(copy, node, key);
	key = SOURCE_PART(copy, node, key, key);
	pos = SOURCE_PART(copy, node, key, pos);
	bits = SOURCE_PART(copy, node, key, bits);
	slen = SOURCE_PART(copy, node, key, slen);
	differ = lookup->prefix ^ key;
	if ((__u64)differ >> pos >> bits) {
		/* The highest bit that differs and all below would have to go. */
		differ |= differ >> 1;
		differ |= differ >> 2;
		differ |= differ >> 4;
		differ |= differ >> 8;
		differ |= differ >> 16;
		above = differ ^ differ >> 1;
		if (key & above || (__u64)(lost | differ) >> slen)
			return source4_shorten(lookup, lookup->below);
		return source4_shorten(lookup, differ ^ above);
	}
	if ((__u64)lost >> slen)
		return source4_shorten(lookup, lookup->below);
	if (!bits) {
		lookup->alias = SOURCE_READ(node, leaf.first);
		return lookup->alias ? 0 : source4_shorten(lookup, 0);
	}
	lookup->below = (1ULL << pos) - 1;
	lookup->node = source4_child(node, differ >> pos);
	return lookup->node ? 0 : source4_shorten(lookup, lookup->below);
}

/* What IPv4 knows of the nexthop's device. */
static __always_inline const struct in_device___src *
source4_config(const struct fib_nh___src *nexthop)
{
	const struct net_device___src *device = SOURCE_READ(nexthop, nh_common.nhc_dev);

	return SOURCE_READ(device, ip_ptr);
}

/* Is the nexthop's carrier gone, on a device that is told to mind? */
static __always_inline bool source4_nexthop_down(const struct source4_query *query,
						 const struct fib_nh___src *nexthop)
{
	enum { MINDS = IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN - 1 };
	const struct net___src *net = (const struct net___src *)query->net;
	const struct ipv4_devconf___src *all;
	const struct in_device___src *config;

	if (!(SOURCE_READ(nexthop, nh_common.nhc_flags) & RTNH_F_LINKDOWN))
		return false;
	all = SOURCE_READ(net, ipv4.devconf_all);
	config = source4_config(nexthop);
	return SOURCE_READ(all, data[MINDS]) || SOURCE_READ(config, cnf.data[MINDS]);
}

/*
 * Of several default routes of one rank the kernel takes one whose gateway is known to answer. They
 * lie next to each other.
 */
static __always_inline bool source4_default_has_rival(const struct fib_alias___src *alias)
{
	const struct hlist_node___src *next = SOURCE_READ(alias, fa_list.next);
	const struct fib_alias___src *rival = SOURCE_ENTRY(next, struct fib_alias___src, fa_list);
	const struct fib_info___src *route, *rival_route;

	if (!next || SOURCE_READ(rival, fa_slen) != 32 ||
	    SOURCE_READ(rival, tb_id) != SOURCE_READ(alias, tb_id))
		return false;
	route = SOURCE_READ(alias, fa_info);
	rival_route = SOURCE_READ(rival, fa_info);
	return SOURCE_READ(rival_route, fib_priority) == SOURCE_READ(route, fib_priority);
}

/* Does the lookup end with this route? */
static __always_inline bool source4_match_alias(const struct source4_lookup *lookup,
						struct source4_query *query,
						const struct fib_alias___src *alias)
{
	__u32 lost = query->dst ^ lookup->prefix;
	const struct fib_info___src *route;
	__u64 copy[2], route_copy[6];
	__u8 type, slen;

	SOURCE_COPY(copy, alias, fa_info);
	slen = SOURCE_PART(copy, alias, fa_info, fa_slen);
	route = SOURCE_PART(copy, alias, fa_info, fa_info);
	if ((__u64)lost >> slen)
		return false;
	SOURCE_COPY(route_copy, route, fib_flags);
	if (SOURCE_PART(route_copy, route, fib_flags, fib_dead))
		return false;
	if (SOURCE_PART(copy, alias, fa_info, fa_dscp)) {
		query->unknown = query->has_tos;
		return query->has_tos;
	}
	type = SOURCE_PART(copy, alias, fa_info, fa_type);
	if (type == RTN_UNICAST || type == RTN_LOCAL) {
		if (SOURCE_PART(route_copy, route, fib_flags, fib_flags) & RTNH_F_DEAD)
			return false;
		if (!SOURCE_PART(route_copy, route, fib_flags, nh) &&
		    SOURCE_PART(route_copy, route, fib_flags, fib_nhs) == 1) {
			if (source4_nexthop_down(query, (const void *)&route->fib_nh))
				return false;
			query->local = type == RTN_LOCAL;
			query->source = SOURCE_PART(route_copy, route, fib_flags, fib_prefsrc);
			query->unknown = slen == 32 && source4_default_has_rival(alias);
			query->route = (__u64)route;
			return true;
		}
	}
	query->unknown = true;
	return true;
}

/* One step of the lookup. 0, or 1 after the last. */
__weak __noinline int source4_step(struct source4_lookup *lookup, struct source4_query *query)
{
	const struct fib_alias___src *alias;

	if (!lookup || !query)
		return 1;
	if (!lookup->alias)
		return source4_visit_node(lookup, query);
	alias = SOURCE_ENTRY(lookup->alias, struct fib_alias___src, fa_list);
	if (source4_match_alias(lookup, query, alias))
		return 1;
	lookup->alias = SOURCE_READ(alias, fa_list.next);
	return lookup->alias ? 0 : source4_shorten(lookup, 0);
}

/* Does the socket have options that have a say in the route? Notes another that may have one. */
static __noinline bool source4_has_options(const struct inet_sock___src *inet,
					   struct source4_query *query)
{
	__u64 copy[4];

	SOURCE_COPY(copy, inet, inet_opt);
	query->has_tos = SOURCE_PART(copy, inet, inet_opt, tos) != 0;
	return SOURCE_PART(copy, inet, inet_opt, inet_opt) ||
	       SOURCE_PART(copy, inet, inet_opt, uc_index);
}

/* Where to begin: the root of the table main. False if there is more to it than that. */
static __noinline bool source4_begin(struct source4_lookup *lookup, const struct net___src *net)
{
	const struct fib_table___src *table;
	__u64 copy[3];

	if (!bpf_core_field_exists(net->ipv4.fib_main))
		return false;
	SOURCE_COPY(copy, net, ipv4.fib_main);
	/* With rules of the operator's the local routes are elsewhere, and maybe others too. */
	if (SOURCE_PART(copy, net, ipv4.fib_main, ipv4.fib_has_custom_rules))
		return false;
	table = SOURCE_PART(copy, net, ipv4.fib_main, ipv4.fib_main);
	lookup->root = source4_child((const void *)SOURCE_READ(table, tb_data), 0);
	lookup->node = lookup->root;
	return lookup->root != NULL;
}

/* Fills in the route and what it says of the source. 0, or negative if it cannot be foretold. */
__weak __noinline int source4_route(__u64 sk, struct source4_query *query)
{
	struct source4_lookup lookup = {.below = ~0u};
	int i;

	/* 0.0.0.0/8; multicast, broadcast and the reserved rest */
	if (!query || query->dst >> 24 == 0 || query->dst >> 29 == 7)
		return -EOPNOTSUPP;
	query->net = source_namespace(sk);
	if (!query->net || source4_has_options((const struct inet_sock___src *)sk, query) ||
	    !source4_begin(&lookup, (const struct net___src *)query->net))
		return -EOPNOTSUPP;
	lookup.prefix = query->dst;
	for (i = 0; i < SOURCE4_STEPS; i++)
		if (source4_step(&lookup, query))
			break;
	if (!query->route || query->unknown)
		return -ENETUNREACH;
	if (!query->source && query->local)
		query->source = bpf_htonl(query->dst);
	return 0;
}

struct source4_choice {
	const struct in_ifaddr___src *address; /* to look at next */
	__be32 gateway;			       /* 0: none */
	__u8 scope;			       /* of the route */
	bool unknown;			       /* there is no answer */
	__be32 source;			       /* the answer */
};

/* Looks at one address. 0, or 1 after the last that matters. */
__weak __noinline int source4_consider(struct source4_choice *choice)
{
	const struct in_ifaddr___src *address;
	__be32 local;
	__u8 scope;

	if (!choice || !choice->address)
		return 1;
	address = choice->address;
	choice->address = SOURCE_READ(address, ifa_next);
	if (SOURCE_READ(address, ifa_flags) & IFA_F_SECONDARY)
		return 0;
	scope = SOURCE_READ(address, ifa_scope);
	if (scope > choice->scope) {
		/* The route_localnet sysctl widens the scope of a host's own address. */
		choice->unknown |= scope >= RT_SCOPE_HOST;
		return 0;
	}
	local = SOURCE_READ(address, ifa_local);
	if (!choice->gateway || !((choice->gateway ^ SOURCE_READ(address, ifa_address)) &
				  SOURCE_READ(address, ifa_mask))) {
		choice->source = local;
		return 1;
	}
	if (!choice->source)
		choice->source = local;
	return 0;
}

/* Chooses among the addresses of the route's device. 0: it cannot be foretold. */
__weak __noinline __u64 source4_choose(__u64 net_address, __u64 route_address)
{
	const struct net___src *net = (const struct net___src *)net_address;
	const struct fib_info___src *route = (const struct fib_info___src *)route_address;
	const struct fib_nh___src *nexthop = (const void *)&route->fib_nh;
	const struct in_device___src *config;
	struct source4_choice choice = {};
	__u64 copy;
	int i;

	/* The kernel keeps its choice until any address of the namespace changes. */
	SOURCE_COPY(copy, nexthop, nh_saddr);
	if (SOURCE_PART(copy, nexthop, nh_saddr, nh_saddr_genid) ==
	    SOURCE_READ(net, ipv4.dev_addr_genid.counter))
		return SOURCE_PART(copy, nexthop, nh_saddr, nh_saddr);
	config = source4_config(nexthop);
	choice.address = SOURCE_READ(config, ifa_list);
	choice.gateway = SOURCE_READ(nexthop, nh_common.nhc_gw.ipv4);
	choice.scope = SOURCE_READ(route, fib_scope);
	for (i = 0; i < SOURCE4_ADDRESSES; i++)
		if (source4_consider(&choice))
			break;
	return i == SOURCE4_ADDRESSES || choice.unknown ? 0 : choice.source;
}

static __always_inline int source4_foretell(__u64 sk, __be32 dst, __be32 *ret)
{
	struct source4_query query = {.dst = bpf_ntohl(dst)};
	__be32 source;
	int r;

	r = source4_route(sk, &query);
	if (r)
		return r;
	source = query.source;
	if (!source)
		source = source4_choose(query.net, query.route);
	/* The kernel lets no loopback address out. */
	if (!source || (!query.local && (source & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)))
		return -EADDRNOTAVAIL;
	*ret = source;
	return 0;
}
