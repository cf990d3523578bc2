/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few kernel structs that are read, by CO-RE: only the members named here matter. */
#pragma once

#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct kernfs_node {
	__u64 id;
} __attribute__((preserve_access_index));

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} __attribute__((preserve_access_index));

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} __attribute__((preserve_access_index));

struct sock_cgroup_data {
	struct cgroup *cgroup;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_cgroup_data sk_cgrp_data;
} __attribute__((preserve_access_index));

/*
 * The kernel's struct sock behind a socket of the BPF context. The verifier lets nobody compute
 * with the pointer itself, but it may be stored, and what is read back from memory is a plain
 * number.
 */
static __always_inline struct sock *kernel_sock(struct bpf_sock *sk)
{
	struct bpf_sock *volatile stored = sk;
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), (const void *)&stored);
	return (struct sock *)address;
}
