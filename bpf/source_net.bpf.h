/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's structs on the way from a socket to its routes and addresses, by CO-RE: only members
 * that are read. The suffix, which CO-RE ignores, keeps them apart from other declarations.
 */
#pragma once

#include <stdbool.h>

#include <linux/in6.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "cast.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct atomic___src {
	int counter;
};

struct hlist_node___src {
	struct hlist_node___src *next;
};

struct hlist_head___src {
	struct hlist_node___src *first;
};

struct list_head___src {
	struct list_head___src *next;
};

struct ipv4_devconf___src {
	int data[32]; /* by IPV4_DEVCONF_* - 1 */
};

struct ipv6_devconf___src {
	__s32 forwarding;
	__s32 use_tempaddr;
	__s32 ignore_routes_with_linkdown;
};

struct in_device___src {
	struct in_ifaddr___src *ifa_list;
	struct ipv4_devconf___src cnf;
};

struct inet6_dev___src {
	struct list_head___src addr_list;
	struct ipv6_devconf___src cnf;
};

struct net_device___src {
	int ifindex;
	struct in_device___src *ip_ptr;
	struct inet6_dev___src *ip6_ptr;
};

struct netns_ipv4___src {
	struct ipv4_devconf___src *devconf_all;
	struct fib_table___src *fib_main;
	_Bool fib_has_custom_rules;
	struct atomic___src dev_addr_genid;
};

struct address_labels___src {
	struct hlist_head___src head;
};

struct netns_ipv6___src {
	struct ipv6_devconf___src *devconf_all;
	struct fib6_info___src *fib6_null_entry;
	struct fib6_table___src *fib6_main_tbl;
	struct fib6_table___src *fib6_local_tbl;
	_Bool fib6_has_custom_rules;
	struct address_labels___src ip6addrlbl_table;
};

struct net___src {
	struct netns_ipv4___src ipv4;
	struct netns_ipv6___src ipv6;
};

struct possible_net___src {
	struct net___src *net;
};

struct sock_common___src {
	unsigned long skc_flags;
	int skc_bound_dev_if;
	struct possible_net___src skc_net;
};

struct sock___src {
	struct sock_common___src __sk_common;
};

enum sock_flags___src {
	SOCK_LOCALROUTE___src = 13,
};

struct in6_pktinfo___src {
	int ipi6_ifindex;
};

struct ipv6_pinfo___src {
	void *opt;
	int ucast_oif;
	struct in6_pktinfo___src sticky_pktinfo;
	__u8 srcprefs;
};

struct inet_sock___src {
	struct sock___src sk;
	struct ipv6_pinfo___src *pinet6;
	void *inet_opt;
	__u8 tos;
	int uc_index;
};

/* A nexthop of either family: the beginning of struct fib_nh and of struct fib6_nh. */
struct fib_nh_common___src {
	struct net_device___src *nhc_dev;
	unsigned char nhc_gw_family;
	unsigned char nhc_flags;
	union {
		__be32 ipv4;
	} nhc_gw;
};

#pragma clang attribute pop

/* container_of() with the kernel's own offset. */
#define SOURCE_ENTRY(pointer, type, member) \
	((const type *)((__u64)(pointer)-bpf_core_field_offset(type, member)))

/* A member of the kernel's struct at @pointer, which may be any number. */
#define SOURCE_READ(pointer, member)                                          \
	CAST_LOAD(__typeof__((void)0, (pointer)->member), /* without const */ \
		  (const char *)(pointer) + bpf_core_field_offset((pointer)->member))

/*
 * Where the kernel does not cast, a read costs far more than what it copies, so members that lie
 * together are read together there: SOURCE_COPY() reads a struct from the member @first on, as much
 * as @copy holds. SOURCE_PART() takes a member out of @copy, or reads it on its own if this kernel
 * keeps it elsewhere. All the offsets are constants once the program is loaded.
 */
#define SOURCE_BEGIN(pointer, first) (bpf_core_field_offset((pointer)->first) & ~7ULL)

#define SOURCE_COPY(copy, pointer, first)                                            \
	({                                                                           \
		if (!cast_available())                                               \
			bpf_probe_read_kernel(&(copy), sizeof(copy),                 \
					      (const char *)(pointer) +              \
						      SOURCE_BEGIN(pointer, first)); \
	})

#define SOURCE_PART(copy, pointer, first, member)                                                \
	({                                                                                       \
		__typeof__((void)0, (pointer)->member) part_; /* without const */                \
		__u64 offset_ =                                                                  \
			bpf_core_field_offset((pointer)->member) - SOURCE_BEGIN(pointer, first); \
                                                                                                 \
		barrier_var(offset_); /* or clang adds it to the stack pointer by an OR */       \
		if (!cast_available() && offset_ <= sizeof(copy) - sizeof(part_))                \
			part_ = *(__typeof__(part_) *)((char *)&(copy) + offset_);               \
		else                                                                             \
			part_ = SOURCE_READ(pointer, member);                                    \
		part_;                                                                           \
	})

/* What source_foretell() wants to know a socket of the BPF context by. */
static __always_inline __u64 source_sock(struct bpf_sock *sk)
{
	/* The verifier lets nobody compute with the pointer, but what is loaded is a number. */
	struct bpf_sock *volatile stored = sk;

	return CAST_LOAD(__u64, &stored);
}

/* The socket's network namespace. 0: the socket is told which way to go. */
__weak __noinline __u64 source_namespace(__u64 sk_address)
{
	const struct sock___src *sk = (const struct sock___src *)sk_address;
	__u64 unrouted = 1ULL << bpf_core_enum_value(enum sock_flags___src, SOCK_LOCALROUTE___src);
	__u64 copy[12];

	SOURCE_COPY(copy, sk, __sk_common.skc_bound_dev_if);
	if (SOURCE_PART(copy, sk, __sk_common.skc_bound_dev_if, __sk_common.skc_bound_dev_if) ||
	    SOURCE_PART(copy, sk, __sk_common.skc_bound_dev_if, __sk_common.skc_flags) & unrouted)
		return 0;
	return (__u64)SOURCE_PART(copy, sk, __sk_common.skc_bound_dev_if, __sk_common.skc_net.net);
}
