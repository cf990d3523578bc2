/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What becomes of a connect() or a datagram: the decision itself, without a helper. The kernel
 * half, `shuntctl explain` and the unit tests compile this same text; who includes it answers the
 * three questions declared first, from BPF maps or from what the agent knows.
 */
#pragma once

#include <linux/in.h>

#include "addr.bpf.h"

#define DECIDE_DNS_PORT 53

struct decide_query {
	struct shunt_endpoint destination;
	__u32 protocol; /* IPPROTO_… */
	__u32 uid;	/* of the task that calls */
	__u32 gid;
	__u32 device;	      /* that the socket is bound to, 0: none */
	bool source_loopback; /* the socket is bound to a loopback address */
	bool connected;	      /* the socket is, to the destination: what that decided stands */
};

/* Does an entry of this kind hold the address? @asker is what was given to decide(). */
static __always_inline bool decide_cidr(void *asker, __u32 mesh, enum shunt_cidr_kind kind,
					const __be32 addr[4]);
/* Is there an entry of this kind for the user or group? */
static __always_inline bool decide_owner(void *asker, __u32 mesh, enum shunt_owner_kind kind,
					 __u32 id);
/* Does anything listen there, in the network namespace of the socket? */
static __always_inline bool decide_listening(void *asker, const struct shunt_endpoint *endpoint,
					     __u32 protocol);

static __always_inline bool decide_is_dns(const struct decide_query *query)
{
	return query->destination.port == bpf_htons(DECIDE_DNS_PORT);
}

static __always_inline bool decide_port(const __u64 ports[SHUNT_PORT_WORDS], __be16 port)
{
	__u16 p = bpf_ntohs(port);

	return ports[p >> 6] & 1ull << (p & 63);
}

static __always_inline bool decide_sidecar_owner(void *asker, __u32 slot,
						 const struct decide_query *query)
{
	return decide_owner(asker, slot, SHUNT_OWNER_SIDECAR_UID, query->uid) ||
	       decide_owner(asker, slot, SHUNT_OWNER_SIDECAR_GID, query->gid);
}

static __always_inline bool decide_excluded_owner(void *asker, __u32 slot,
						  const struct decide_query *query)
{
	return decide_owner(asker, slot, SHUNT_OWNER_EXCLUDED_UID, query->uid) ||
	       decide_owner(asker, slot, SHUNT_OWNER_EXCLUDED_GID, query->gid);
}

static __always_inline bool decide_included(void *asker, __u32 slot, const struct shunt_mesh *mesh,
					    const struct decide_query *query)
{
	if (!decide_port(mesh->included_ports, query->destination.port))
		return false;
	return mesh->flags & SHUNT_MESH_INCLUDES_ALL ||
	       decide_cidr(asker, slot, SHUNT_CIDR_INCLUDE, query->destination.addr);
}

/* The redirect address for @query, or NULL: the one for DNS if it is DNS and there is one. */
static __always_inline const struct shunt_endpoint *decide_target(const struct shunt_mesh *mesh,
								  const struct decide_query *query)
{
	/* Not an index: the verifier could not follow how clang computes the address then. */
	bool v4 = addr_v4_mapped(query->destination.addr);
	const struct shunt_endpoint *dns = v4 ? &mesh->dns[SHUNT_V4] : &mesh->dns[SHUNT_V6];
	const struct shunt_endpoint *tcp = v4 ? &mesh->tcp[SHUNT_V4] : &mesh->tcp[SHUNT_V6];

	if (decide_is_dns(query) && dns->port)
		return dns;
	if (query->protocol == IPPROTO_TCP && tcp->port)
		return tcp;
	return NULL;
}

/*
 * What needs no mesh to be decided. Returns SHUNT_OUTCOME_MAX if it is open yet. @cgroup: what the
 * socket's cgroup is enrolled as, NULL if nobody has classified it.
 */
static __always_inline enum shunt_outcome decide_early(const struct shunt_cgroup *cgroup)
{
	if (!cgroup)
		return SHUNT_OUTCOME_unclassified;
	if (cgroup->role == SHUNT_ROLE_NONE)
		return SHUNT_OUTCOME_not_enrolled;
	if (cgroup->role == SHUNT_ROLE_SIDECAR)
		return SHUNT_OUTCOME_sidecar;
	return SHUNT_OUTCOME_MAX;
}

/* What needs not even the cgroup: most datagrams of the host end here. */
static __always_inline enum shunt_outcome decide_protocol(const struct decide_query *query)
{
	if (query->protocol == IPPROTO_TCP)
		return SHUNT_OUTCOME_MAX;
	if (query->protocol != IPPROTO_UDP)
		return SHUNT_OUTCOME_other_protocol;
	return decide_is_dns(query) ? SHUNT_OUTCOME_MAX : SHUNT_OUTCOME_not_dns;
}

/*
 * The decision for a member of mesh @slot. If it is SHUNT_OUTCOME_redirected, *@ret_target is where
 * to. In this order: who calls, what is left alone, is the sidecar there.
 */
static __always_inline enum shunt_outcome decide(void *asker, __u32 slot,
						 const struct shunt_mesh *mesh,
						 const struct decide_query *query,
						 struct shunt_endpoint *ret_target)
{
	const __be32 *addr = query->destination.addr;
	const struct shunt_endpoint *target;

	if (mesh->flags & SHUNT_MESH_OWNERS && decide_sidecar_owner(asker, slot, query))
		return SHUNT_OUTCOME_sidecar;
	if (addr_loopback(addr) || addr_unspecified(addr))
		return SHUNT_OUTCOME_loopback;
	if (addr_link_local(addr)) /* SO_ORIGINAL_DST could not say of which interface */
		return SHUNT_OUTCOME_link_local;
	if (mesh->flags & SHUNT_MESH_EXCLUDES_CIDRS &&
	    decide_cidr(asker, slot, SHUNT_CIDR_EXCLUDE, addr))
		return SHUNT_OUTCOME_excluded_cidr;
	if (decide_port(mesh->excluded_ports, query->destination.port))
		return SHUNT_OUTCOME_excluded_port;
	if (mesh->flags & SHUNT_MESH_OWNERS && decide_excluded_owner(asker, slot, query))
		return SHUNT_OUTCOME_excluded_owner;
	if (!decide_included(asker, slot, mesh, query))
		return SHUNT_OUTCOME_not_included;
	if (query->device)
		return SHUNT_OUTCOME_bound_device;
	if (query->source_loopback)
		return SHUNT_OUTCOME_bound_loopback;

	target = decide_target(mesh, query);
	if (!target)
		return SHUNT_OUTCOME_no_address;
	if (query->connected || endpoint_equal(target, &query->destination))
		return SHUNT_OUTCOME_already;
	if (!decide_listening(asker, target, query->protocol))
		return mesh->flags & SHUNT_MESH_DOWN_BYPASS ? SHUNT_OUTCOME_bypassed_sidecar_down
							    : SHUNT_OUTCOME_refused_sidecar_down;
	*ret_target = *target;
	return SHUNT_OUTCOME_redirected;
}
