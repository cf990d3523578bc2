/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the cgroup of a socket is enrolled as. */
#pragma once

#include "kernel.bpf.h"
#include "maps.bpf.h"

/* @id is that of @cgroup. */
static __always_inline struct shunt_cgroup *cgroup_inherit(struct cgroup *cgroup, __u64 id)
{
	struct shunt_cgroup *entry = bpf_map_lookup_elem(&shunt_cgroups, &id);

	for (int i = 0; !entry && i < SHUNT_CGROUP_DEPTH; i++) {
		struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);

		if (!parent)
			return NULL;
		cgroup = BPF_CORE_READ(parent, cgroup);
		id = BPF_CORE_READ(cgroup, kn, id);
		entry = bpf_map_lookup_elem(&shunt_cgroups, &id);
		if (entry && entry->role == SHUNT_ROLE_NONE)
			return NULL;
	}
	return entry;
}

/*
 * The entry of the cgroup that @sk was made in (not of the task that runs: a socket may have been
 * inherited or passed). A cgroup that the agent has not seen yet is in what its nearest seen
 * ancestor is in, so children of an enrolled cgroup are covered from their first instant. If that
 * ancestor is in nothing, the answer is NULL: the new cgroup may match a pattern of its own.
 */
static __always_inline struct shunt_cgroup *cgroup_classify(struct bpf_sock *sk)
{
	/* The verifier knows the type behind this pointer, so it may be followed by plain loads,
	 * each a tenth of a call of bpf_probe_read_kernel(). There is no such helper for UDP over
	 * IPv4. */
	struct sock *known = (struct sock *)bpf_skc_to_tcp_sock(sk), *plain;
	struct cgroup *cgroup;

	if (known) {
		cgroup = known->sk_cgrp_data.cgroup;
		return cgroup_inherit(cgroup, cgroup->kn->id);
	}
	plain = kernel_sock(sk);
	cgroup = BPF_CORE_READ(plain, sk_cgrp_data.cgroup);
	return cgroup_inherit(cgroup, BPF_CORE_READ(cgroup, kn, id));
}
