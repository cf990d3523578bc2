/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which pairs may be spliced, by what the agent wrote: meshes, programs, whether it lives. */
#pragma once

#include "cgroup.bpf.h"
#include "pair.bpf.h"
#include "splice_decide.bpf.h"

/*
 * An agent that is gone cannot take sockets out again, so none go in. Its task is read through the
 * address that it wrote: that may be another's by now, but not with the same start time.
 */
static __always_inline bool scope_agent_alive(const struct shunt_control *control)
{
	struct task_struct *task = bpf_rdonly_cast((void *)control->agent,
						   bpf_core_type_id_kernel(struct task_struct));

	return control->agent && task->start_boottime == control->agent_start && !task->exit_state;
}

/* What the agent has found out about an executable: enum shunt_program, 0 if nothing yet. */
static __always_inline __u32 scope_program(__u64 program)
{
	__u32 *class = program ? bpf_map_lookup_elem(&shunt_programs, &program) : NULL;

	return class ? *class : 0;
}

/* What speaks against splicing in what is known of a program. */
static __always_inline __u32 scope_program_veto(__u64 program)
{
	switch (scope_program(program)) {
	case SHUNT_PROGRAM_FINE:
	case SHUNT_PROGRAM_SUSPECT:
		return SHUNT_REASON_none;
	case SHUNT_PROGRAM_SPLICES:
		return SHUNT_REASON_splices;
	case SHUNT_PROGRAM_NEVER:
		return SHUNT_REASON_never;
	default:
		return SHUNT_REASON_unknown_program;
	}
}

/* By the mesh of one end alone: enum shunt_reason, 0 if nothing speaks against it. */
static __always_inline __u32 scope_of_cgroup(const struct shunt_cgroup *cgroup, bool same_netns,
					     bool sidecar)
{
	struct shunt_mesh *mesh;

	if (cgroup->role == SHUNT_ROLE_NONE)
		return SHUNT_REASON_scope;
	mesh = bpf_map_lookup_elem(&shunt_meshes, &cgroup->mesh);
	return mesh ? splice_scope(mesh->splice, sidecar, same_netns) : SHUNT_REASON_off;
}

/* Where the mesh of a cgroup counts; 0 if it is in none. */
static __always_inline __u32 scope_row(__u64 id)
{
	struct shunt_cgroup *cgroup = bpf_map_lookup_elem(&shunt_cgroups, &id);
	struct shunt_mesh *mesh;

	if (!cgroup || cgroup->role == SHUNT_ROLE_NONE)
		return 0;
	mesh = bpf_map_lookup_elem(&shunt_meshes, &cgroup->mesh);
	return mesh ? mesh->row : 0;
}

/* That of whichever end is in one. */
static __always_inline __u32 scope_row_of_pair(__u64 client, __u64 server)
{
	__u32 row = scope_row(client);

	return row ? row : scope_row(server);
}

/*
 * May a connection between these two be spliced, by the meshes of both? @sidecar: one of them is a
 * sidecar for another reason than its cgroup.
 */
static __always_inline __u32 scope_veto(__u64 client, __u64 server, bool same_netns, bool sidecar)
{
	struct shunt_cgroup *one = bpf_map_lookup_elem(&shunt_cgroups, &client);
	struct shunt_cgroup *two = bpf_map_lookup_elem(&shunt_cgroups, &server);
	__u32 veto;

	if (!one || !two)
		return SHUNT_REASON_scope;
	sidecar |= one->role == SHUNT_ROLE_SIDECAR || two->role == SHUNT_ROLE_SIDECAR;
	veto = scope_of_cgroup(one, same_netns, sidecar);
	return veto ? veto : scope_of_cgroup(two, same_netns, sidecar);
}
