/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the cgroup of a socket is enrolled as. */
#pragma once

#include "kernel.bpf.h"
#include "maps.bpf.h"

static __always_inline struct shunt_cgroup *cgroup_entry(struct cgroup *cgroup)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);

	return bpf_map_lookup_elem(&shunt_cgroups, &id);
}

/*
 * The entry of the cgroup that @sk was made in (not of the task that runs: a socket may have been
 * inherited or passed). A cgroup that the agent has not seen yet is in what its nearest seen
 * ancestor is in, so children of an enrolled cgroup are covered from their first instant. If that
 * ancestor is in nothing, the answer is NULL: the new cgroup may match a pattern of its own.
 */
static __always_inline struct shunt_cgroup *cgroup_classify(struct sock *sk)
{
	struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	struct shunt_cgroup *entry = cgroup_entry(cgroup);

	for (int i = 0; !entry && i < SHUNT_CGROUP_DEPTH; i++) {
		struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);

		if (!parent)
			return NULL;
		cgroup = BPF_CORE_READ(parent, cgroup);
		entry = cgroup_entry(cgroup);
		if (entry && entry->role == SHUNT_ROLE_NONE)
			return NULL;
	}
	return entry;
}
