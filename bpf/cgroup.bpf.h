/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the cgroup of a socket is enrolled as. */
#pragma once

#include <stdbool.h>

#include "kernel.bpf.h"
#include "maps.bpf.h"

#define CGROUP_UNCLASSIFIED (~0ull)

/*
 * What a cgroup that the agent has not seen yet is in: what its nearest seen ancestor is in, so
 * that children of an enrolled cgroup are covered from their first instant. If that ancestor is in
 * nothing the new cgroup is unclassified: it may match a pattern of its own. Returns mesh << 32 |
 * role. A global function, which the verifier checks once and not on every path of each caller.
 */
__weak __noinline __u64 cgroup_inherit(__u64 address)
{
	struct cgroup *cgroup = (struct cgroup *)address;

	for (int i = 0; i < SHUNT_CGROUP_DEPTH; i++) {
		struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
		struct shunt_cgroup *entry;
		__u64 id;

		if (!parent)
			break;
		cgroup = BPF_CORE_READ(parent, cgroup);
		id = BPF_CORE_READ(cgroup, kn, id);
		entry = bpf_map_lookup_elem(&shunt_cgroups, &id);
		if (entry && entry->role == SHUNT_ROLE_NONE)
			break;
		if (entry)
			return (__u64)entry->mesh << 32 | entry->role;
	}
	return CGROUP_UNCLASSIFIED;
}

/*
 * What the cgroup that @sk was made in is enrolled as (not that of the task that runs: a socket may
 * have been inherited or passed). False: nobody has classified it.
 */
static __always_inline bool cgroup_classify(struct bpf_sock *sk, struct shunt_cgroup *ret)
{
	/* The verifier knows the type behind this pointer, so it may be followed by plain loads,
	 * each a tenth of a call of bpf_probe_read_kernel(). There is no such helper for UDP over
	 * IPv4. */
	struct sock *known = (struct sock *)bpf_skc_to_tcp_sock(sk), *plain;
	struct shunt_cgroup *entry;
	__u64 id, cgroup, inherited;

	if (known) {
		id = known->sk_cgrp_data.cgroup->kn->id;
	} else {
		plain = kernel_sock(sk);
		id = BPF_CORE_READ(plain, sk_cgrp_data.cgroup, kn, id);
	}
	entry = bpf_map_lookup_elem(&shunt_cgroups, &id);
	if (entry) {
		*ret = *entry;
		return true;
	}
	plain = kernel_sock(sk);
	cgroup = (__u64)BPF_CORE_READ(plain, sk_cgrp_data.cgroup);
	inherited = cgroup_inherit(cgroup);
	ret->mesh = inherited >> 32;
	ret->role = inherited;
	return inherited != CGROUP_UNCLASSIFIED;
}
