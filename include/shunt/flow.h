/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the iterators of bpf/flows.bpf.c write, one record after the other, when the agent reads
 * them; and what the ring buffer shunt_watch carries (bpf/watch.bpf.h), which is about the same.
 */
#pragma once

#include "abi.h"

/* What TCP itself counts at one end. The numbers are those of tcp_info: they hold the SYN of the
 * end that dialled, and FINs. */
struct shunt_flow_tcp {
	__u64 bytes_acked;
	__u64 bytes_received;
	__u32 rtt_us; /* smoothed */
	__u8 state;   /* TCP_ESTABLISHED, …; 0: the socket is not there, or another's by now */
	__u8 fin_received;
	__u16 pad;
};
_Static_assert(sizeof(struct shunt_flow_tcp) == 24, "ABI");

/* shunt_flows: one for each entry of shunt_pairs. */
struct shunt_flow {
	struct shunt_pair_key key;
	struct shunt_pair pair;
	struct shunt_flow_tcp tcp[SHUNT_ENDS];
};
_Static_assert(sizeof(struct shunt_flow) == 8 + sizeof(struct shunt_pair) + 48, "ABI");

/* shunt_users: one for each TCP socket that each process has open. */
struct shunt_user {
	__u64 sock; /* kernel address, as in struct shunt_end */
	__u32 pid;
	__u32 pad;
};
_Static_assert(sizeof(struct shunt_user) == 16, "ABI");

/* shunt_watch: something has happened to .flow. What is not known, or does not apply, is 0. */
struct shunt_notice {
	__u64 at;	/* CLOCK_MONOTONIC, in ns */
	__u32 kind;	/* enum shunt_notice_kind */
	__u32 lost;	/* events of this kind that were not told before this one */
	__u32 end;	/* whose direction it is about; SHUNT_ENDS: of none, or of both */
	__u32 outcome;	/* enum shunt_outcome; SHUNT_OUTCOME_MAX: it was not about that */
	__u32 protocol; /* IPPROTO_… */
	__u32 pad;
	struct shunt_flow flow; /* .dialled and the client's end alone, if it never was one */
};
_Static_assert(sizeof(struct shunt_notice) == 32 + sizeof(struct shunt_flow), "ABI");
