/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the walk and the visits have in common: may a pair be let in, and what a socket says of a
 * connection that is older than the agent.
 */
#pragma once

#include "scope.bpf.h"
#include "settle.bpf.h"

/* Why the pair cannot be let in: enum shunt_reason, 0 if it can. */
static __always_inline __u32 adopt_veto(const struct pair_view *view, struct tcp_sock *me,
					struct tcp_sock *peer)
{
	const struct shunt_end *client = &view->pair->end[SHUNT_CLIENT];
	const struct shunt_end *server = &view->pair->end[SHUNT_SERVER];
	__u8 state = tcp_sk(me)->__sk_common.skc_state;
	__u32 veto;

	if (state != BPF_TCP_ESTABLISHED || tcp_sk(peer)->__sk_common.skc_state != state)
		return SHUNT_REASON_closing;
	veto = tcp_veto_at(kernel_address(me));
	if (!veto)
		veto = tcp_veto_at(kernel_address(peer));
	if (!veto)
		veto = scope_program_veto(client->program);
	if (!veto)
		veto = scope_program_veto(server->program);
	if (!veto)
		veto = scope_veto(client->cgroup, server->cgroup, client->netns == server->netns,
				  view->pair->flags & SHUNT_PAIR_SIDECAR);
	return veto;
}

/*
 * May the socket be in the sockhash although nothing says so? An agent was killed when it had just
 * let it in, and it had called that off meanwhile. Nothing was spliced to it. For the first walks
 * of an agent: whether it is in is not known, only that it is in some sockhash. One that is over
 * may have spliced bytes to read, and is no stray (walk_strand).
 */
static __always_inline bool adopt_is_stray(const struct pair_view *view, struct tcp_sock *me)
{
	struct shunt_control *control = pair_control();
	__u32 known = SHUNT_PAIR_MEMBER << view->end | SHUNT_PAIR_CLOSED << view->end;

	return control && control->discover && tcp_users(me) &&
	       !(pair_flags(view->pair) & (known | SHUNT_PAIR_ADOPT));
}

/*
 * One end of a connection that is older than the agent, if it is one: its numbers name the pair.
 * Which end dialled can only be guessed, but both guess alike: they find each other's note or none.
 */
static __always_inline bool adopt_describe(struct tcp_sock *me, __u64 sock, struct shunt_half *ret,
					   struct shunt_pair_key *ret_key)
{
	__u64 cookie = tcp_sk(me)->__sk_common.skc_cookie.counter;
	__u64 id = tcp_sk(me)->sk_cgrp_data.cgroup->kn->id;
	struct shunt_cgroup *cgroup = bpf_map_lookup_elem(&shunt_cgroups, &id);
	struct shunt_listener *user;

	if (!cgroup || cgroup->role == SHUNT_ROLE_NONE ||
	    tcp_sk(me)->__sk_common.skc_state != BPF_TCP_ESTABLISHED)
		return false;
	ret->sock = sock;
	ret->cgroup = id;
	ret->netns = tcp_sk(me)->__sk_common.skc_net.net->ns.inum;
	ret->end = tcp_likely_end(me);
	user = bpf_map_lookup_elem(&shunt_listeners, &cookie);
	if (user) {
		ret->program = user->program;
		ret->pid = user->pid;
	}
	*ret_key = tcp_pair_key(tcp_numbers(me), ret->end);
	return true;
}
