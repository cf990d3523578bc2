/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What connect and sendmsg share: the question put to decide.bpf.h, from a struct bpf_sock_addr,
 * and the answers to the questions it asks back, from the maps.
 */
#pragma once

#include <linux/errno.h>

#include <linux/bpf.h>
#include <linux/in.h>

#include "cgroup.bpf.h"
#include "decide.bpf.h"
#include "maps.bpf.h"
#include "socket.bpf.h"
#include "stats.bpf.h"
#include "watch.bpf.h"

/* What the decision has found out beside the outcome. */
struct redirect_answer {
	struct shunt_endpoint target;
	__u32 slot;	       /* the mesh, if it came to ask for one */
	__u32 row;	       /* where that counts, once it is known */
	bool listener_covered; /* the hooks run for the socket that listens */
};

struct redirect_asker {
	struct bpf_sock_addr *ctx;
	struct redirect_answer *answer;
};

static __always_inline bool decide_cidr(void *asker, __u32 mesh, enum shunt_cidr_kind kind,
					const __be32 addr[4])
{
	struct shunt_cidr_key key = {
		.prefix_len = 32 + 128,
		.scope = bpf_htonl(SHUNT_CIDR_SCOPE(mesh, kind)),
	};

	addr_copy(key.addr, addr);
	return bpf_map_lookup_elem(&shunt_cidrs, &key) != NULL;
}

static __always_inline bool decide_owner(void *asker, __u32 mesh, enum shunt_owner_kind kind,
					 __u32 id)
{
	struct shunt_owner_key key = {.mesh = mesh, .kind = kind, .id = id};

	return bpf_map_lookup_elem(&shunt_owners, &key) != NULL;
}

/* Asks the kernel, not a health check: no delay, and nothing to remember or to go stale. */
static __always_inline bool decide_listening(void *asker, const struct shunt_endpoint *endpoint,
					     __u32 protocol)
{
	struct redirect_asker *a = asker;
	struct bpf_sock_tuple tuple = {};
	struct shunt_cgroup cgroup;
	struct bpf_sock *listener;
	__u32 size;

	if (addr_v4_mapped(endpoint->addr)) {
		tuple.ipv4.daddr = endpoint->addr[3];
		tuple.ipv4.dport = endpoint->port;
		size = sizeof(tuple.ipv4);
	} else {
		addr_copy(tuple.ipv6.daddr, endpoint->addr);
		tuple.ipv6.dport = endpoint->port;
		size = sizeof(tuple.ipv6);
	}
	if (protocol == IPPROTO_TCP)
		listener = bpf_sk_lookup_tcp(a->ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		listener = bpf_sk_lookup_udp(a->ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!listener)
		return false;
	if (protocol == IPPROTO_UDP)
		a->answer->listener_covered = cgroup_classify(listener, &cgroup);
	bpf_sk_release(listener);
	return true;
}

static __always_inline void redirect_read_v4(struct bpf_sock_addr *ctx, struct shunt_endpoint *ret)
{
	addr_set_v4(ret->addr, ctx->user_ip4);
	ret->port = ctx->user_port;
	ret->pad = 0;
}

static __always_inline void redirect_read_v6(struct bpf_sock_addr *ctx, struct shunt_endpoint *ret)
{
	ret->addr[0] = ctx->user_ip6[0];
	ret->addr[1] = ctx->user_ip6[1];
	ret->addr[2] = ctx->user_ip6[2];
	ret->addr[3] = ctx->user_ip6[3];
	ret->port = ctx->user_port;
	ret->pad = 0;
}

static __always_inline void redirect_write_v4(struct bpf_sock_addr *ctx,
					      const struct shunt_endpoint *endpoint)
{
	ctx->user_ip4 = endpoint->addr[3];
	ctx->user_port = endpoint->port;
}

static __always_inline void redirect_write_v6(struct bpf_sock_addr *ctx,
					      const struct shunt_endpoint *endpoint)
{
	ctx->user_ip6[0] = endpoint->addr[0];
	ctx->user_ip6[1] = endpoint->addr[1];
	ctx->user_ip6[2] = endpoint->addr[2];
	ctx->user_ip6[3] = endpoint->addr[3];
	ctx->user_port = endpoint->port;
}

/* The local address of the socket, as far as it is bound; unspecified otherwise. */
static __always_inline void redirect_read_source(struct bpf_sock *sk, __be32 ret[4])
{
	__be32 v4 = sk->src_ip4;

	/* Keeps clang from choosing one of two addresses in *sk first and loading after: the
	 * verifier forbids computing with the pointer. */
	barrier_var(v4);
	if (sk->family == AF_INET) {
		addr_set_v4(ret, v4);
		return;
	}
	ret[0] = sk->src_ip6[0];
	ret[1] = sk->src_ip6[1];
	ret[2] = sk->src_ip6[2];
	ret[3] = sk->src_ip6[3];
}

/* Whom the socket is, or was last, connected to; port 0: nobody. */
static __always_inline void redirect_read_peer(struct bpf_sock *sk, struct shunt_endpoint *ret)
{
	__be32 v4 = sk->dst_ip4;

	barrier_var(v4); /* as above */
	ret->port = sk->dst_port;
	ret->pad = 0;
	if (sk->family == AF_INET) {
		addr_set_v4(ret->addr, v4);
		return;
	}
	ret->addr[0] = sk->dst_ip6[0];
	ret->addr[1] = sk->dst_ip6[1];
	ret->addr[2] = sk->dst_ip6[2];
	ret->addr[3] = sk->dst_ip6[3];
}

/* Did the kernel choose the address of the socket for where Shunt sent it? Only a UDP socket can be
 * connected already when a hook sees it. */
static __always_inline bool redirect_chose_source(struct bpf_sock *sk,
						  const struct shunt_sock *state)
{
	return state && state->flags & SHUNT_SOCK_REDIRECTED && sk->state == BPF_TCP_ESTABLISHED;
}

/*
 * The device that what is sent has to leave by, 0: any. IP_UNICAST_IF and IPV6_UNICAST_IF name one
 * for datagrams, which on their way to the sidecar would leave by it all the same.
 */
static __always_inline __u32 redirect_device(struct bpf_sock *sk, const struct decide_query *query)
{
	struct inet_sock *inet = (struct inet_sock *)kernel_sock(sk);

	if (sk->bound_dev_if || query->protocol != IPPROTO_UDP)
		return sk->bound_dev_if;
	return addr_v4_mapped(query->destination.addr) ? BPF_CORE_READ(inet, uc_index)
						       : BPF_CORE_READ(inet, pinet6, ucast_oif);
}

/*
 * The whole decision: enum shunt_outcome. A global function, which the verifier checks once, and
 * not for all that its callers know; they go on from one unknown outcome.
 */
__weak __noinline int redirect_decide(struct bpf_sock_addr *ctx, struct decide_query *query,
				      struct redirect_answer *ret)
{
	struct redirect_asker asker = {.ctx = ctx, .answer = ret};
	struct bpf_sock *sk = ctx->sk;
	enum shunt_outcome outcome;
	struct shunt_cgroup cgroup;
	struct shunt_mesh *mesh;

	if (!query || !ret)
		return SHUNT_OUTCOME_unclassified;
	outcome = decide_protocol(query);
	if (outcome != SHUNT_OUTCOME_MAX)
		return outcome;
	outcome = decide_early(cgroup_classify(sk, &cgroup) ? &cgroup : NULL);
	if (outcome != SHUNT_OUTCOME_MAX)
		return outcome;

	ret->slot = cgroup.mesh;
	mesh = bpf_map_lookup_elem(&shunt_meshes, &cgroup.mesh);
	if (!mesh)
		return SHUNT_OUTCOME_unclassified;
	ret->row = mesh->row;
	if (mesh->flags & SHUNT_MESH_OWNERS) {
		__u64 owner = bpf_get_current_uid_gid();

		query->uid = owner;
		query->gid = owner >> 32;
	}
	query->device = redirect_device(sk, query);
	return decide(&asker, cgroup.mesh, mesh, query, &ret->target);
}

/* What the program gets when its call is refused: 0 makes the kernel fail it with this error. */
static __always_inline int redirect_refuse(int error)
{
	bpf_set_retval(error);
	return 0;
}

/* The outcome when there is no memory for the socket's state: as if the sidecar were down. */
static __always_inline enum shunt_outcome redirect_no_memory(__u32 slot)
{
	struct shunt_mesh *mesh = bpf_map_lookup_elem(&shunt_meshes, &slot);

	return mesh && mesh->flags & SHUNT_MESH_DOWN_BYPASS ? SHUNT_OUTCOME_bypassed_no_memory
							    : SHUNT_OUTCOME_refused_no_memory;
}

/* Tells who watches of what went wrong. */
static __always_inline void redirect_tell(struct bpf_sock_addr *ctx,
					  const struct decide_query *query,
					  enum shunt_outcome outcome)
{
	__u32 kind;

	switch (outcome) {
	case SHUNT_OUTCOME_refused_sidecar_down:
	case SHUNT_OUTCOME_refused_no_memory:
		kind = SHUNT_NOTICE_refused;
		break;
	case SHUNT_OUTCOME_unclassified:
	case SHUNT_OUTCOME_bypassed_sidecar_down:
	case SHUNT_OUTCOME_bypassed_no_memory:
		kind = SHUNT_NOTICE_error;
		break;
	default:
		return;
	}
	if (watch_wanted())
		watch_tell_outcome((__u64)kernel_sock(ctx->sk), &query->destination, kind, outcome,
				   query->protocol);
}

/* Counts @outcome in the group of counters that begins at @base, and by mesh; what the hook has to
 * return. */
static __always_inline int redirect_conclude(struct bpf_sock_addr *ctx,
					     const struct decide_query *query, __u32 base,
					     __u32 row, enum shunt_outcome outcome)
{
	struct shunt_stats *stats = stats_row(row);

	count(base + outcome);
	if (stats && outcome < SHUNT_OUTCOME_MAX && base == SHUNT_COUNTER_connect_redirected)
		stats_add(&stats->connect[outcome], 1);
	else if (stats && outcome < SHUNT_OUTCOME_MAX)
		stats_add(&stats->sendmsg[outcome], 1);
	redirect_tell(ctx, query, outcome);
	if (outcome == SHUNT_OUTCOME_refused_sidecar_down)
		return redirect_refuse(-ECONNREFUSED);
	if (outcome == SHUNT_OUTCOME_refused_no_memory)
		return redirect_refuse(-ENOMEM);
	return 1;
}
