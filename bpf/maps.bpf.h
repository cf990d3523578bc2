/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map of Shunt. Sizes marked "agent" are set before loading. */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shunt/abi.h"

/* Written by the agent; read by connect, sendmsg, sockops, sk_msg, the walk, the visit and the
 * scan. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64); /* cgroup id */
	__type(value, struct shunt_cgroup);
} shunt_cgroups SEC(".maps");

/* Written by the agent; read by connect, sendmsg, sockops, sk_msg, the walk and the visit. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHUNT_MESH_SLOTS);
	__type(key, __u32);
	__type(value, struct shunt_mesh);
} shunt_meshes SEC(".maps");

/* Written by the agent; read by connect, sendmsg. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct shunt_cidr_key);
	__type(value, __u32);
} shunt_cidrs SEC(".maps");

/* Written by the agent; read by connect, sendmsg. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct shunt_owner_key);
	__type(value, __u32);
} shunt_owners SEC(".maps");

/* Written by every hook; read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHUNT_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} shunt_counters SEC(".maps");

/* Written by connect, sendmsg, sockops, sk_msg, the walk and the visit; read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHUNT_STATS_ROWS);
	__type(key, __u32);
	__type(value, struct shunt_stats);
} shunt_stats SEC(".maps");

/* Written and read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHUNT_STATS_ROWS);
	__type(key, __u32);
	__type(value, struct shunt_row);
} shunt_rows SEC(".maps");

/* Written by connect, and by sockops of a connection that was reset; read by both, sendmsg,
 * recvmsg, getpeername, getsockname and getsockopt. The kernel frees an entry with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct shunt_sock);
} shunt_socks SEC(".maps");

/* Written by sendmsg; read by recvmsg. The kernel frees an entry with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct shunt_resolvers);
} shunt_resolvers SEC(".maps");

/* Written and read by sockops, sk_msg, the walk, the visit and the reads; read by getsockopt, the
 * flows and the agent. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct shunt_pair_key);
	__type(value, struct shunt_pair);
} shunt_pairs SEC(".maps");

/* The ends that may be spliced. Written by sockops and the agent. Size: agent. The value is what
 * the agent may look up: a socket's cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1);
	__type(key, struct shunt_end_key);
	__type(value, __u64);
} shunt_ends SEC(".maps");

/* Written and read by sockops. An entry that is pushed out costs a connection its splicing. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SHUNT_SYNS);
	__type(key, struct shunt_pair_key);
	__type(value, struct shunt_syn);
} shunt_syns SEC(".maps");

/* Written by sockops, the scan and the walk; read by sockops, the walk and the visit. What is
 * pushed out is found again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SHUNT_LISTENERS);
	__type(key, __u64); /* cookie of the listener's socket */
	__type(value, struct shunt_listener);
} shunt_listeners SEC(".maps");

/* Written by the walk; read by it and the visit. What is pushed out waits for the next one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SHUNT_SYNS);
	__type(key, struct shunt_pair_key);
	__type(value, struct shunt_half);
} shunt_halves SEC(".maps");

/* Written by the agent; read by sockops, sk_msg, the walk, the visit and the scan. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SHUNT_PROGRAMS_MAX);
	__type(key, __u64);   /* SHUNT_PROGRAM_KEY() */
	__type(value, __u32); /* enum shunt_program */
} shunt_programs SEC(".maps");

/* Written by the agent, but for .spilled (sockops, sk_msg, the visit), .opened (sockops) and who
 * the agent is (the scan); read by all who splice, and by who writes shunt_watch. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shunt_control);
} shunt_control SEC(".maps");

/* Written by sockops, sk_msg, the visit, the reads and the scan; read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SHUNT_EVENTS_SIZE);
} shunt_events SEC(".maps");

/* Written by sockops, sk_msg, the walk, the visit, connect and sendmsg; read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SHUNT_WATCH_SIZE);
} shunt_watch SEC(".maps");

/* Written and read by whoever writes shunt_watch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHUNT_NOTICE_MAX);
	__type(key, __u32);
	__type(value, struct shunt_pace);
} shunt_paces SEC(".maps");
