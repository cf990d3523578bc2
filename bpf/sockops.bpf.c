/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockops: brings the two ends of a connection together by the handshake's own sequence numbers,
 * lets them into the sockhash if they may be spliced, and takes them out when they went back to
 * TCP.
 * Reads from: shunt_socks, shunt_syns, shunt_listeners, shunt_programs, shunt_control, policy.
 * Writes to: shunt_pairs, shunt_syns, shunt_ends, shunt_listeners; shunt_socks of a connection that
 * was reset; counters, events, shunt_watch.
 */
#include <linux/bpf.h>

#include "addr.bpf.h"
#include "scope.bpf.h"
#include "settle.bpf.h"
#include "socket.bpf.h"

/* Set before loading: the kernel has what splicing needs. Else all of it is left out here, and the
 * verifier never sees it. */
const volatile bool sockops_splice = false;

static const struct shunt_pair sockops_no_pair = {};

/* Other programs' flags stay as they are. */
static __always_inline void sockops_subscribe(struct bpf_sock_ops *ctx, __u32 flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/*
 * A listener of this host answers a SYN: the numbers of both ends are known, the client's end is
 * not done yet. The context has no socket here, but behind it is the address of the request's.
 */
static __always_inline void sockops_mark_syn(struct bpf_sock_ops *ctx)
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

/* Has Shunt redirected the socket? What it has noted then, or NULL. */
static __always_inline struct shunt_sock *sockops_redirected(struct bpf_sock *sk)
{
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, sk, NULL, 0);

	return state && state->flags & SHUNT_SOCK_REDIRECTED ? state : NULL;
}

/*
 * listen() and connect() run this, so the current task is the one that calls them. Of a socket that
 * was redirected it is known which process dialled, and the note is of the process, which is there
 * already unless this is its first connect().
 */
static __always_inline void sockops_note_user(struct bpf_sock_ops *ctx)
{
	bool dials = ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB;
	struct task_struct *task = bpf_get_current_task_btf();
	struct shunt_control *control = pair_control();
	struct inode *inode = task->mm->exe_file->f_inode;
	struct shunt_listener user = {.pid = task->tgid};
	struct shunt_listener *known = NULL;
	struct bpf_sock *sk = ctx->sk;
	__u64 key;

	if (!inode || !sk || (dials && !(control && control->splice)))
		return;
	user.program = SHUNT_PROGRAM_KEY(inode->i_sb->s_dev, inode->i_ino);
	if (dials && sockops_redirected(sk)) {
		key = SHUNT_LISTENER_PROCESS(user.pid);
		known = bpf_map_lookup_elem(&shunt_listeners, &key);
	} else {
		key = bpf_get_socket_cookie(ctx);
	}
	if (!known || known->program != user.program)
		bpf_map_update_elem(&shunt_listeners, &key, &user, BPF_ANY);
	if (!scope_program(user.program))
		pair_event(SHUNT_EVENT_PROGRAM, 0, user.pid, user.program);
}

/* Why the two ends are not to be spliced from the start; 0: they may be. */
static __always_inline __u32 sockops_veto(const struct shunt_control *control,
					  const struct shunt_pair *pair,
					  const struct shunt_syn *syn, struct tcp_sock *client)
{
	__u32 veto;

	if (!control->splice)
		return control->reason;
	if (!syn)
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
static __always_inline __u32 sockops_enter(struct bpf_sock_ops *ctx, const struct pair_view *view)
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

/* Who dialled: it may be long until it writes. What was noted of the socket alone is of no more
 * use. */
static __always_inline void sockops_take_user(struct bpf_sock_ops *ctx,
					      const struct shunt_sock *state, struct shunt_end *ret)
{
	__u64 key = state ? SHUNT_LISTENER_PROCESS(state->pid) : bpf_get_socket_cookie(ctx);
	struct shunt_listener *user = bpf_map_lookup_elem(&shunt_listeners, &key);

	if (!user)
		return;
	ret->program = user->program;
	ret->pid = user->pid;
	if (!state)
		bpf_map_delete_elem(&shunt_listeners, &key);
}

static __always_inline void sockops_describe_end(struct tcp_sock *tp, struct shunt_end *ret)
{
	ret->sock = kernel_address(tp);
	ret->cgroup = tcp_sk(tp)->sk_cgrp_data.cgroup->kn->id;
	ret->netns = tcp_sk(tp)->__sk_common.skc_net.net->ns.inum;
}

static __always_inline void sockops_describe_client(struct bpf_sock_ops *ctx, struct tcp_sock *tp,
						    const struct shunt_sock *state,
						    struct shunt_pair *ret)
{
	sockops_describe_end(tp, &ret->end[SHUNT_CLIENT]);
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
static __always_inline __u32 sockops_let_in(struct bpf_sock_ops *ctx, struct tcp_sock *client,
					    const struct shunt_control *control,
					    const struct shunt_syn *syn,
					    const struct pair_view *view)
{
	__u32 reason;

	if (syn) {
		view->peer->program = syn->program;
		view->peer->cgroup = syn->cgroup;
		view->peer->netns = syn->netns;
		if (syn->accepts == SHUNT_ACCEPTS_UNKNOWN)
			view->pair->listener = syn->listener;
		if (!scope_program(syn->program))
			pair_event(SHUNT_EVENT_LISTENER, syn->netns, 0, 0);
	}
	reason = sockops_veto(control, view->pair, syn, client);
	/* Data went with the SYN (Fast Open): the server's end was done before there was a pair. */
	if (!reason && client->write_seq != view->key.client)
		reason = SHUNT_REASON_early;
	if (!reason)
		reason = sockops_enter(ctx, view);
	if (!reason)
		sockops_subscribe(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	return reason;
}

/* There is no room for one more pair. @state: if it was redirected; else NULL. */
static __always_inline void sockops_full(struct bpf_sock *sk, const struct shunt_sock *state,
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
static __always_inline void sockops_client(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_sock *state = sockops_redirected(sk);
	struct shunt_control *control = pair_control();
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct shunt_pair *pair;
	struct shunt_end user = {};
	struct pair_view view;
	struct shunt_syn *syn;
	__u32 reason;

	if (!tp || !control || control->succeeded || (!state && !control->splice))
		return;
	if (sockops_splice)
		sockops_take_user(ctx, state, &user);
	/* Not ctx->snd_nxt: data that went with the SYN (Fast Open) counts there. */
	view.key = tcp_pair_key(tcp_numbers(tp), SHUNT_CLIENT);
	syn = control->splice ? bpf_map_lookup_elem(&shunt_syns, &view.key) : NULL;
	if (!state && !syn) {
		stats_plain(scope_row(tcp_sk(tp)->sk_cgrp_data.cgroup->kn->id),
			    SHUNT_REASON_remote);
		return;
	}
	/* Where attachments overlap this runs twice for one connection. */
	if (bpf_map_update_elem(&shunt_pairs, &view.key, &sockops_no_pair, BPF_NOEXIST)) {
		if (!bpf_map_lookup_elem(&shunt_pairs, &view.key))
			sockops_full(sk, state, control);
		return;
	}
	count(SHUNT_COUNTER_pairs_opened);
	pair = bpf_map_lookup_elem(&shunt_pairs, &view.key);
	if (!pair)
		return;
	pair_view_set(&view, pair, SHUNT_CLIENT);
	sockops_describe_client(ctx, tp, state, pair);
	view.me->program = user.program;
	view.me->pid = user.pid;
	sockops_subscribe(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	if (state) {
		count(SHUNT_COUNTER_origdst_offered);
		stats_latency(pair->row, pair->established_at - pair->opened_at);
	} else if (syn) {
		pair->row = scope_row_of_pair(view.me->cgroup, syn->cgroup);
	}
	reason = control->reason;
	if (sockops_splice)
		reason = sockops_let_in(ctx, tp, control, syn, &view);
	if (syn)
		bpf_map_delete_elem(&shunt_syns, &view.key);
	pair->reason = reason;
	pair_watch(&view, SHUNT_NOTICE_opened, SHUNT_ENDS);
	if (reason)
		stats_plain(pair->row, reason);
}

/* The second end: has the client sent anything yet? Then its bytes are on their way by TCP. */
static __always_inline void sockops_pair_up(struct bpf_sock_ops *ctx, const struct pair_view *view)
{
	struct shunt_pair *pair = view->pair;
	struct tcp_sock *client = tcp_at(view->peer->sock);
	__u32 reason = SHUNT_REASON_early;

	if (!(pair_flags(pair) & SHUNT_PAIR_MEMBER << SHUNT_CLIENT))
		return;
	if (client->write_seq == view->key.client)
		reason = sockops_enter(ctx, view);
	if (reason) {
		pair_turn(view->me, SHUNT_STATE_PLAIN, SHUNT_STATE_LEFT);
		pair_turn(view->peer, SHUNT_STATE_PLAIN, SHUNT_STATE_LEFT);
		pair_leave(view, reason);
		return;
	}
	sockops_subscribe(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	pair_turn(view->me, SHUNT_STATE_PLAIN, SHUNT_STATE_READY);
	pair_turn(view->peer, SHUNT_STATE_PLAIN, SHUNT_STATE_READY);
	count(SHUNT_COUNTER_splice_paired);
	pair_watch(view, SHUNT_NOTICE_paired, SHUNT_ENDS);
	if (pair->listener) /* what its listener accepts is to be seen */
		pair_event(SHUNT_EVENT_WALK, view->peer->netns, view->peer->pid, 0);
}

/*
 * Both ends are there, and what speaks against splicing them may be otherwise one day: the agent
 * lets them in then. Of sockets in blocking mode few ever leave it, and whole programs have no
 * others. So of these the agent is told once between two of its walks: it looks a little later.
 */
static __always_inline void sockops_tell_opened(const struct pair_view *view)
{
	struct shunt_control *control = pair_control();

	if (view->pair->reason == SHUNT_REASON_unknown_program)
		pair_event(SHUNT_EVENT_LEFT, view->peer->netns, view->peer->pid, 0);
	if (view->pair->reason != SHUNT_REASON_blocking || !control ||
	    *(volatile __u32 *)&control->opened || __sync_lock_test_and_set(&control->opened, 1))
		return;
	pair_event(SHUNT_EVENT_OPENED, view->peer->netns, 0, 0);
}

static __always_inline void sockops_server(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_pair_key key = {.client = ctx->rcv_nxt, .server = ctx->snd_nxt};
	struct shunt_pair *pair = bpf_map_lookup_elem(&shunt_pairs, &key);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct pair_view view = {.key = key};

	if (!tp || !pair || pair_flags(pair) & SHUNT_PAIR_JOINED)
		return;
	pair_view_set(&view, pair, SHUNT_SERVER);
	sockops_describe_end(tp, view.me);
	pair_set(pair, SHUNT_PAIR_JOINED);
	sockops_subscribe(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	if (pair->flags & SHUNT_PAIR_REDIRECTED)
		count(SHUNT_COUNTER_origdst_taken);
	if (!sockops_splice)
		return;
	sockops_tell_opened(&view);
	sockops_pair_up(ctx, &view);
}

/* The client has reset the connection, and the sidecar, which holds its socket still or will accept
 * it, may ask where it was going. */
static __always_inline void sockops_keep_dialled(struct bpf_sock *sk, const struct shunt_pair *pair)
{
	struct shunt_sock *state;

	state = bpf_sk_storage_get(&shunt_socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return;
	state->dialled = pair->dialled;
	state->flags = SHUNT_SOCK_ACCEPTED;
}

/* The last figures of a pair, with those of the end that was closed last. */
static __always_inline void sockops_tell_closed(const struct pair_view *view, struct tcp_sock *tp)
{
	struct shunt_flow_tcp tcp = {};

	if (!watch_wanted())
		return;
	tcp.bytes_acked = tp->bytes_acked;
	tcp.bytes_received = tp->bytes_received;
	tcp.rtt_us = tp->srtt_us >> 3;
	tcp.state = tcp_sk(tp)->__sk_common.skc_state;
	tcp.fin_received = tcp_done(tp);
	/* In FIN_WAIT2 its FIN is acknowledged; in these it is if nothing is left to be. */
	if ((tcp.state == BPF_TCP_LAST_ACK || tcp.state == BPF_TCP_CLOSING) &&
	    tp->snd_una == tp->write_seq)
		tcp.bytes_acked--;
	watch_tell_pair(view->pair, view->key.client, view->key.server,
			WATCH_WHAT(SHUNT_NOTICE_closed, view->end), &tcp);
}

/*
 * The connection is over, and its program may still read what it sent nothing for: it had ended its
 * own direction before. The walk passes it by, since it is in TCP_CLOSE, and it sends nothing that
 * sockops would see. So it comes out of the sockhash here (the kernel wakes its program next,
 * tcp_done()), or if spliced bytes wait before those of TCP, by the agent, once they are read.
 */
static __always_inline void sockops_strand(const struct pair_view *view, struct tcp_sock *tp)
{
	struct shunt_event event = {
		.kind = SHUNT_EVENT_STRANDED,
		.netns = view->me->netns,
		.pid = view->me->pid,
		.end = pair_end_key(view, view->end),
	};

	if (!(pair_flags(view->pair) & SHUNT_PAIR_MEMBER << view->end) || tcp_orphan(tp) ||
	    !settle_unread(tp))
		return;
	if (tcp_queue_empty(tp)) {
		bpf_map_delete_elem(&shunt_ends, &event.end);
		count(SHUNT_COUNTER_splice_taken_out);
		return;
	}
	event.unread = settle_unread(tp);
	event.inode = BPF_CORE_READ(tcp_sk(tp), sk_socket, file, f_inode, i_ino);
	pair_tell(&event);
}

/*
 * One end is over. TCP_CLOSE also is the end of FIN_WAIT2 and the begin of TIME_WAIT: the client's
 * program may have closed long before the sidecar accepts, and the sidecar still wants to know. So
 * the entry goes with the second end, or with the first if there is no other.
 */
static __always_inline void sockops_close(struct bpf_sock *sk, struct tcp_sock *tp)
{
	struct pair_view view;
	__u32 closed, before, reason;

	if (!pair_find(tcp_numbers(tp), tcp_likely_end(tp), &view))
		return;
	if (view.end == SHUNT_SERVER && pair_flags(view.pair) & SHUNT_PAIR_REDIRECTED &&
	    !tcp_orphan(tp))
		sockops_keep_dialled(sk, view.pair);
	closed = SHUNT_PAIR_CLOSED << view.end;
	before = pair_set(view.pair, closed);
	if (before & closed)
		return;
	if (sockops_splice)
		sockops_strand(&view, tp);
	/* The kernel takes it out of the sockhash when its program closes it, if not before.
	 * Nothing arrives for it any more. */
	pair_clear(view.pair, SHUNT_PAIR_MEMBER << view.end);
	if (pair_state(view.peer) == SHUNT_STATE_SPILLED)
		pair_turn(view.peer, SHUNT_STATE_SPILLED, SHUNT_STATE_PLAIN);
	if (before & SHUNT_PAIR_JOINED && !(before & SHUNT_PAIR_CLOSED << !view.end))
		return;
	if (!(before & SHUNT_PAIR_JOINED) && before & SHUNT_PAIR_REDIRECTED)
		count(SHUNT_COUNTER_origdst_withdrawn);
	reason = view.pair->reason;
	sockops_tell_closed(&view, tp);
	if (bpf_map_delete_elem(&shunt_pairs, &view.key))
		return;
	count(SHUNT_COUNTER_pairs_closed);
	count(SHUNT_COUNTER_closed_none + reason);
}

/*
 * A reader that spliced bytes and then bytes of TCP wait for hears of both at once, and may stop at
 * the boundary. The agent sees it come there and kicks it; without an agent this does: TCP's own
 * keep-alive timer sends something every second, which runs this program, until the socket is out.
 * A program that has keep-alive on for itself keeps its own pace.
 */
static __always_inline void sockops_probe_start(struct bpf_sock_ops *ctx,
						const struct pair_view *view, struct tcp_sock *tp)
{
	__u32 probed = SHUNT_PAIR_PROBED << view->end;
	int on = 1;

	if (pair_flags(view->pair) & probed ||
	    tcp_sk(tp)->__sk_common.skc_flags &
		    1ul << bpf_core_enum_value(enum sock_flags, SOCK_KEEPOPEN))
		return;
	bpf_getsockopt(ctx, SOL_TCP, TCP_KEEPIDLE, &view->me->keep_idle, sizeof(int));
	bpf_getsockopt(ctx, SOL_TCP, TCP_KEEPINTVL, &view->me->keep_interval, sizeof(int));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPIDLE, &on, sizeof(on));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPINTVL, &on, sizeof(on));
	if (!bpf_setsockopt(ctx, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)))
		pair_set(view->pair, probed);
}

static __always_inline void sockops_probe_stop(struct bpf_sock_ops *ctx,
					       const struct pair_view *view)
{
	__u32 probed = SHUNT_PAIR_PROBED << view->end;
	int off = 0;

	if (!(pair_clear(view->pair, probed) & probed))
		return;
	bpf_setsockopt(ctx, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof(off));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPIDLE, &view->me->keep_idle, sizeof(int));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPINTVL, &view->me->keep_interval, sizeof(int));
}

/* An edge without a byte: see visit_kick(). */
static __always_inline void sockops_kick(struct bpf_sock_ops *ctx, const struct pair_view *view,
					 struct tcp_sock *tp)
{
	int lowat = tcp_sk(tp)->sk_rcvlowat;

	if (settle_owes_kick(view, tp))
		bpf_setsockopt(ctx, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat));
}

/* The end of a pair that is out sends again after a while: the walk may find it talking back and
 * forth. */
static __always_inline void sockops_wake(const struct pair_view *view)
{
	__u32 asleep = SHUNT_PAIR_ASLEEP << view->end;

	if (pair_clear(view->pair, asleep) & asleep)
		pair_event(SHUNT_EVENT_AWAKE, view->me->netns, 0, 0);
}

/*
 * The socket of a member is about to send something by TCP: data, or an acknowledgement of data, so
 * one of its directions does not splice. It holds its lock here. (The op is there to ask for room
 * for a header option, of which nothing is wanted. Unlike that for segments that arrive it runs for
 * every one: header prediction passes by the other.)
 */
static __always_inline void sockops_transmit(struct bpf_sock_ops *ctx, struct tcp_sock *tp)
{
	struct pair_view view;

	if (!pair_find(tcp_numbers(tp), tcp_likely_end(tp), &view))
		return;
	if (!settle(&view, tp)) {
		if (!(pair_flags(view.pair) & SHUNT_PAIR_ADOPT) &&
		    (pair_state(view.peer) == SHUNT_STATE_SPILLED ||
		     pair_state(view.peer) == SHUNT_STATE_LEFT))
			sockops_probe_start(ctx, &view, tp);
		sockops_kick(ctx, &view, tp);
		return;
	}
	sockops_wake(&view);
	sockops_probe_stop(ctx, &view);
	bpf_sock_ops_cb_flags_set(ctx,
				  ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	sockops_kick(ctx, &view, tp);
}

/* The reply of ops that ask for one is left as it is: another program may have given it. */
SEC("sockops")
int shunt_sockops(struct bpf_sock_ops *ctx)
{
	struct tcp_sock *tp;
	struct bpf_sock *sk;

	switch (ctx->op) {
	case BPF_SOCK_OPS_RWND_INIT:
		if (sockops_splice)
			sockops_mark_syn(ctx);
		return 1;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (sockops_splice)
			sockops_note_user(ctx);
		return 1;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != BPF_TCP_CLOSE)
			return 1;
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (!sockops_splice)
			return 1;
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		break;
	default:
		return 1;
	}
	sk = ctx->sk;
	if (!sk)
		return 1;
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
		sockops_client(ctx, sk);
		return 1;
	}
	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		sockops_server(ctx, sk);
		return 1;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 1;
	if (ctx->op == BPF_SOCK_OPS_STATE_CB)
		sockops_close(sk, tp);
	else if (sockops_splice)
		sockops_transmit(ctx, tp);
	return 1;
}
