/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map of Shunt. They are __weak because each hook is an object of its own and the linker
 * would otherwise refuse the second definition. Sizes marked "agent" are set before loading.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shunt/abi.h"

/* Written by the agent; read by connect, sendmsg. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64); /* cgroup id */
	__type(value, struct shunt_cgroup);
} shunt_cgroups SEC(".maps") __weak;

/* Written by the agent; read by connect, sendmsg. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHUNT_MESH_SLOTS);
	__type(key, __u32);
	__type(value, struct shunt_mesh);
} shunt_meshes SEC(".maps") __weak;

/* Written by the agent; read by connect, sendmsg. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct shunt_cidr_key);
	__type(value, __u32);
} shunt_cidrs SEC(".maps") __weak;

/* Written by the agent; read by connect, sendmsg. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct shunt_owner_key);
	__type(value, __u32);
} shunt_owners SEC(".maps") __weak;

/* Written by every hook; read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHUNT_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} shunt_counters SEC(".maps") __weak;

/* Written by connect (the program's socket) and sockops (the sidecar's); read by both, getpeername,
 * getsockname, recvmsg and getsockopt. The kernel frees an entry with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct shunt_sock);
} shunt_socks SEC(".maps") __weak;

/* Written by sendmsg; read by recvmsg. The kernel frees an entry with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct shunt_resolvers);
} shunt_resolvers SEC(".maps") __weak;

/* Written and read by sockops: put in at the client's end, taken out at the sidecar's, or at the
 * client's when the connection ends before that. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct shunt_handover_key);
	__type(value, struct shunt_handover);
} shunt_handover SEC(".maps") __weak;
