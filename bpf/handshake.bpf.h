/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Brings the two ends of a connection together by the handshake's own sequence numbers, and lets
 * them into the sockhash if they may be spliced.
 */
#pragma once

#include <linux/bpf.h>

#include "addr.bpf.h"
#include "caller.bpf.h"
#include "scope.bpf.h"
#include "socket.bpf.h"
#include "sockops.bpf.h"

static const struct shunt_pair handshake_no_pair = {};

/*
 * A listener of this host answers a SYN: the numbers of both ends are known, the client's end is
 * not done yet. The context has no socket here, but behind it is the address of the request's.
 */
static __always_inline void handshake_mark_syn(struct bpf_sock_ops *ctx)
{
	struct shunt_control *control = pair_control();
	struct tcp_request_sock *request;
	struct bpf_sock_ops_kern *kernel;
	struct shunt_listener *known;
	struct shunt_pair_key key;
	struct shunt_syn syn = {};
	struct tcp_sock *listener;

	if (!control || !control->splice || ctx->is_fullsock)
		return;
	kernel = bpf_rdonly_cast(ctx, bpf_core_type_id_kernel(struct bpf_sock_ops_kern));
	request = bpf_rdonly_cast(kernel->sk, bpf_core_type_id_kernel(struct tcp_request_sock));
	listener = tcp_at((__u64)((struct request_sock *)request)->__req_common.skc_listener);
	key.client = request->rcv_isn + 1;
	key.server = request->snt_isn + 1;
	syn.cgroup = tcp_sk(listener)->sk_cgrp_data.cgroup->kn->id;
	syn.netns = tcp_sk(listener)->__sk_common.skc_net.net->ns.inum;
	syn.blocking = !(tcp_sk(listener)->sk_socket->file->f_flags & TCP_O_NONBLOCK);
	syn.listener = tcp_sk(listener)->__sk_common.skc_cookie.counter;
	known = bpf_map_lookup_elem(&shunt_listeners, &syn.listener);
	if (known) {
		syn.program = known->program;
		syn.accepts = known->accepts;
	}
	bpf_map_update_elem(&shunt_syns, &key, &syn, BPF_ANY);
}

/* Why the two ends are not to be spliced from the start; 0: they may be. */
static __always_inline __u32 handshake_veto(const struct shunt_control *control,
					    const struct shunt_pair *pair,
					    const struct shunt_syn *syn, struct tcp_sock *client)
{
	__u32 veto;

	if (!control->splice)
		return control->reason;
	if (!syn->cgroup)
		return SHUNT_REASON_remote;
	veto = scope_veto(pair->end[SHUNT_CLIENT].cgroup, syn->cgroup,
			  pair->end[SHUNT_CLIENT].netns == syn->netns,
			  pair->flags & SHUNT_PAIR_SIDECAR);
	if (veto)
		return veto;
	if (!scope_agent_alive(control))
		return SHUNT_REASON_no_agent;
	if (syn->blocking || syn->accepts == SHUNT_ACCEPTS_BLOCKING)
		return SHUNT_REASON_blocking;
	veto = tcp_veto(client);
	return veto ? veto : scope_program_veto(syn->program);
}

/* Lets one end into the sockhash. enum shunt_reason, 0 if it is in. */
static __always_inline __u32 handshake_enter(struct bpf_sock_ops *ctx, const struct pair_view *view)
{
	struct shunt_end_key key = pair_end_key(view, view->end);
	long r = bpf_sock_hash_update(ctx, &shunt_ends, &key, BPF_NOEXIST);

	if (r == -E2BIG)
		return SHUNT_REASON_full;
	if (r)
		return SHUNT_REASON_refused;
	pair_set(view->pair, SHUNT_PAIR_MEMBER << view->end);
	return SHUNT_REASON_none;
}

static __always_inline void handshake_describe_end(struct tcp_sock *tp, struct shunt_end *ret)
{
	ret->sock = kernel_address(tp);
	ret->cgroup = tcp_sk(tp)->sk_cgrp_data.cgroup->kn->id;
	ret->netns = tcp_sk(tp)->__sk_common.skc_net.net->ns.inum;
}

static __always_inline void handshake_describe_client(struct bpf_sock_ops *ctx, struct tcp_sock *tp,
						      const struct shunt_sock *state,
						      struct shunt_pair *ret)
{
	handshake_describe_end(tp, &ret->end[SHUNT_CLIENT]);
	ret->established_at = bpf_ktime_get_ns();
	if (ctx->family == AF_INET) {
		addr_set_v4(ret->source.addr, ctx->local_ip4);
		addr_set_v4(ret->actual.addr, ctx->remote_ip4);
	} else {
		ret->source.addr[0] = ctx->local_ip6[0];
		ret->source.addr[1] = ctx->local_ip6[1];
		ret->source.addr[2] = ctx->local_ip6[2];
		ret->source.addr[3] = ctx->local_ip6[3];
		ret->actual.addr[0] = ctx->remote_ip6[0];
		ret->actual.addr[1] = ctx->remote_ip6[1];
		ret->actual.addr[2] = ctx->remote_ip6[2];
		ret->actual.addr[3] = ctx->remote_ip6[3];
	}
	ret->source.port = bpf_htons(ctx->local_port);
	ret->actual.port = ctx->remote_port >> 16;
	ret->dialled = ret->actual;
	if (state) {
		ret->dialled = state->dialled;
		if (state->flags & SHUNT_SOCK_SOURCE) /* as its program sees it */
			addr_copy(ret->source.addr, state->source);
		ret->mesh = state->mesh;
		ret->row = state->row;
		ret->opened_at = state->redirected_at;
		ret->dialler = state->pid;
		ret->flags = SHUNT_PAIR_REDIRECTED | SHUNT_PAIR_SIDECAR;
	}
}

/* Lets the client's end in if the pair may be spliced: enum shunt_reason, 0 if it is in. */
static __always_inline __u32 handshake_let_in(struct bpf_sock_ops *ctx, struct tcp_sock *client,
					      const struct shunt_control *control,
					      const struct shunt_syn *syn,
					      const struct pair_view *view)
{
	__u32 reason;

	if (syn->cgroup) {
		view->peer->program = syn->program;
		view->peer->cgroup = syn->cgroup;
		view->peer->netns = syn->netns;
		if (syn->accepts == SHUNT_ACCEPTS_UNKNOWN)
			view->pair->listener = syn->listener;
		if (!scope_program(syn->program))
			pair_event(SHUNT_EVENT_LISTENER, 0, 0);
	}
	reason = handshake_veto(control, view->pair, syn, client);
	/* Data went with the SYN (Fast Open): the server's end was done before there was a pair. */
	if (!reason && client->write_seq != view->key.client)
		reason = SHUNT_REASON_early;
	if (!reason)
		reason = handshake_enter(ctx, view);
	if (!reason)
		sockops_hear_sends(ctx, view);
	return reason;
}

/* What was noted of the SYN; of none .cgroup is 0. The entry itself may be another connection's at
 * any time, for the map is an LRU: a copy, of one that was this one's before and after. */
static __always_inline void handshake_read_syn(const struct shunt_pair_key *key,
					       struct shunt_syn *ret)
{
	struct shunt_syn *syn = bpf_map_lookup_elem(&shunt_syns, key);

	if (!syn)
		return;
	*ret = *syn;
	if (bpf_map_lookup_elem(&shunt_syns, key) != syn)
		ret->cgroup = 0;
}

/* There is no room for one more pair. @state: if it was redirected; else NULL. */
static __always_inline void handshake_full(struct bpf_sock *sk, const struct shunt_sock *state,
					   const struct shunt_control *control)
{
	__u64 cgroup = BPF_CORE_READ(kernel_sock(sk), sk_cgrp_data.cgroup, kn, id);

	stats_plain(state ? state->row : scope_row(cgroup),
		    control->splice ? SHUNT_REASON_full : control->reason);
	if (!state)
		return;
	count(SHUNT_COUNTER_origdst_full);
	if (watch_wanted()) {
		struct shunt_endpoint dialled = state->dialled;

		watch_tell_outcome((__u64)kernel_sock(sk), &dialled, SHUNT_NOTICE_error,
				   SHUNT_OUTCOME_redirected, IPPROTO_TCP);
	}
}

/*
 * The client's end is done first: on loopback its ACK, which completes the server's end, is sent
 * after this. If the sidecar's accept queue is full the server's end may be done much later, so the
 * entry stays until both are over.
 */
static __always_inline void handshake_client(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_sock *state = sockops_redirected(sk);
	struct shunt_control *control = pair_control();
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct shunt_pair *pair;
	struct shunt_end caller = {};
	struct pair_view view;
	struct shunt_syn syn = {};
	__u32 reason;

	if (!tp || !control || control->succeeded || (!state && !control->splice))
		return;
	if (sockops_splice)
		caller_take(ctx, state, &caller);
	/* Not ctx->snd_nxt: data that went with the SYN (Fast Open) counts there. */
	view.key = tcp_pair_key(tcp_numbers(tp), SHUNT_CLIENT);
	if (control->splice)
		handshake_read_syn(&view.key, &syn);
	if (!state && !syn.cgroup) {
		stats_plain(scope_row(tcp_sk(tp)->sk_cgrp_data.cgroup->kn->id),
			    SHUNT_REASON_remote);
		return;
	}
	/* Where attachments overlap this runs twice for one connection. */
	if (bpf_map_update_elem(&shunt_pairs, &view.key, &handshake_no_pair, BPF_NOEXIST)) {
		if (!bpf_map_lookup_elem(&shunt_pairs, &view.key))
			handshake_full(sk, state, control);
		return;
	}
	count(SHUNT_COUNTER_pairs_opened);
	pair = bpf_map_lookup_elem(&shunt_pairs, &view.key);
	if (!pair)
		return;
	pair_view_set(&view, pair, SHUNT_CLIENT);
	handshake_describe_client(ctx, tp, state, pair);
	view.me->program = caller.program;
	view.me->pid = caller.pid;
	sockops_subscribe(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	if (state) {
		count(SHUNT_COUNTER_origdst_offered);
		stats_latency(pair->row, pair->established_at - pair->opened_at);
	} else {
		pair->row = scope_row_of_pair(view.me->cgroup, syn.cgroup);
	}
	reason = control->reason;
	if (sockops_splice)
		reason = handshake_let_in(ctx, tp, control, &syn, &view);
	if (syn.cgroup)
		bpf_map_delete_elem(&shunt_syns, &view.key);
	pair->reason = reason;
	pair_watch(&view, SHUNT_NOTICE_opened, SHUNT_ENDS);
	if (reason)
		stats_plain(pair->row, reason);
}

/* The second end: has the client sent anything yet? Then its bytes are on their way by TCP. */
static __always_inline void handshake_pair_up(struct bpf_sock_ops *ctx,
					      const struct pair_view *view)
{
	struct shunt_pair *pair = view->pair;
	struct tcp_sock *client = tcp_at(view->peer->sock);
	__u32 reason = SHUNT_REASON_early;

	if (!(pair_flags(pair) & SHUNT_PAIR_MEMBER << SHUNT_CLIENT))
		return;
	if (client->write_seq == view->key.client)
		reason = handshake_enter(ctx, view);
	if (reason) {
		pair_turn(view->me, SHUNT_STATE_PLAIN, SHUNT_STATE_LEFT);
		pair_turn(view->peer, SHUNT_STATE_PLAIN, SHUNT_STATE_LEFT);
		pair_leave(view, reason);
		return;
	}
	sockops_hear_sends(ctx, view);
	pair_turn(view->me, SHUNT_STATE_PLAIN, SHUNT_STATE_READY);
	pair_turn(view->peer, SHUNT_STATE_PLAIN, SHUNT_STATE_READY);
	count(SHUNT_COUNTER_splice_paired);
	pair_watch(view, SHUNT_NOTICE_paired, SHUNT_ENDS);
	if (pair->listener) /* what its listener accepts is to be seen */
		pair_event(SHUNT_EVENT_WALK, view->peer->pid, 0);
}

/*
 * Both ends are there, and what speaks against splicing them may be otherwise one day: the agent
 * lets them in then. Of sockets in blocking mode few ever leave it, and whole programs have no
 * others. So of these the agent is told once between two of its walks: it looks a little later.
 */
static __always_inline void handshake_tell_opened(const struct pair_view *view)
{
	struct shunt_control *control = pair_control();

	if (view->pair->reason == SHUNT_REASON_unknown_program)
		pair_event(SHUNT_EVENT_LEFT, view->peer->pid, 0);
	if (view->pair->reason != SHUNT_REASON_blocking || !control ||
	    *(volatile __u32 *)&control->opened || __sync_lock_test_and_set(&control->opened, 1))
		return;
	pair_event(SHUNT_EVENT_OPENED, 0, 0);
}

static __always_inline void handshake_server(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_pair_key key = {.client = ctx->rcv_nxt, .server = ctx->snd_nxt};
	struct shunt_pair *pair = bpf_map_lookup_elem(&shunt_pairs, &key);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct pair_view view = {.key = key};
	__u32 over = SHUNT_PAIR_JOINED | SHUNT_PAIR_CLOSED << SHUNT_CLIENT;

	if (!tp || !pair || pair_flags(pair) & over)
		return;
	/* Before anything is written: a client's end that is closed just now deletes the pair if it
	 * has no other end yet (close_end()), and its memory may be another's at once. */
	if (pair_set(pair, SHUNT_PAIR_JOINED) & over)
		return;
	pair_view_set(&view, pair, SHUNT_SERVER);
	handshake_describe_end(tp, view.me);
	sockops_subscribe(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	if (pair->flags & SHUNT_PAIR_REDIRECTED)
		count(SHUNT_COUNTER_origdst_taken);
	if (!sockops_splice)
		return;
	handshake_tell_opened(&view);
	handshake_pair_up(ctx, &view);
}
