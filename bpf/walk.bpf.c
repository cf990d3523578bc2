/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * iter/tcp: passes by every TCP socket of a network namespace, each locked, when the agent asks.
 * Takes out of the sockhash who went back to TCP, tells readers what nothing else would, and lets
 * in again, or for the first time, pairs that alternate. Reads from: shunt_pairs, shunt_control,
 * policy. Writes to: shunt_pairs, shunt_ends, counters, events; to user space, what is left to do.
 */
#include <linux/bpf.h>

#include "scope.bpf.h"
#include "settle.bpf.h"

#define SOL_SOCKET		  1
#define SO_RCVLOWAT		  18
#define SOL_TCP			  6
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* <linux/bpf.h> of newer kernels */

#define WALK_BACKOFF 6 /* at most 2^6 walks between two tries */

static const struct shunt_pair walk_no_pair = {};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

/* Segments with data that each end has to have sent since the last walk, to be worth it. */
#define WALK_BUSY    8
/* … and neither more than so many times as many as the other: else it streams. */
#define WALK_BALANCE 3

/*
 * An edge without a byte: setting SO_RCVLOWAT to what it is already ends in tcp_data_ready()
 * (net/ipv4/tcp.c, tcp_set_rcvlowat).
 */
static __always_inline void walk_kick(struct tcp_sock *me)
{
	int lowat = tcp_sk(me)->sk_rcvlowat;

	bpf_setsockopt(me, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat));
}

static __always_inline void walk_say(struct bpf_iter__tcp *ctx, char what)
{
	bpf_seq_write(ctx->meta->seq, &what, sizeof(what));
}

/* The socket tells from now on when it is about to send by TCP (sockops). Since 6.12 or earlier. */
static __always_inline void walk_subscribe(struct tcp_sock *me, int wanted)
{
	int flags = 0;

	bpf_getsockopt(me, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
	flags |= wanted;
	bpf_setsockopt(me, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
}

/* Who has sent nothing since the last walk tells when it does: until then there is nothing to see.
 */
static __always_inline void walk_put_to_sleep(const struct pair_view *view, struct tcp_sock *me)
{
	pair_set(view->pair, SHUNT_PAIR_ASLEEP << view->end);
	walk_subscribe(me, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/* Does the pair talk back and forth, by what TCP has sent since the last walk? */
static __always_inline bool walk_alternates(const struct pair_view *view, struct tcp_sock *me)
{
	struct shunt_end *end = view->me;
	__u32 mine = me->data_segs_out - end->seen_out, theirs = view->peer->delta_out;

	end->seen_out = me->data_segs_out;
	end->delta_out = mine;
	return mine >= WALK_BUSY && theirs >= WALK_BUSY && mine <= WALK_BALANCE * theirs &&
	       theirs <= WALK_BALANCE * mine;
}

/* Why the pair cannot be let in: enum shunt_reason, 0 if it can. */
static __always_inline __u32 walk_veto(const struct pair_view *view, struct tcp_sock *me,
				       struct tcp_sock *peer)
{
	const struct shunt_end *client = &view->pair->end[SHUNT_CLIENT];
	const struct shunt_end *server = &view->pair->end[SHUNT_SERVER];
	__u8 state = tcp_sk(me)->__sk_common.skc_state;
	__u32 veto;

	if (state != BPF_TCP_ESTABLISHED || tcp_sk(peer)->__sk_common.skc_state != state)
		return SHUNT_REASON_closing;
	veto = tcp_veto(me);
	if (!veto)
		veto = tcp_veto(peer);
	if (!veto)
		veto = scope_program_veto(client->program);
	if (!veto)
		veto = scope_program_veto(server->program);
	if (!veto)
		veto = scope_veto(client->cgroup, server->cgroup, client->netns == server->netns,
				  view->pair->flags & SHUNT_PAIR_SIDECAR);
	return veto;
}

/* Both ends are in: the next message of each direction may be spliced. False: the other end has
 * called it off meanwhile. */
static __always_inline bool walk_ready(const struct pair_view *view)
{
	struct shunt_pair *pair = view->pair;

	if (!(pair_clear(pair, SHUNT_PAIR_ADOPT) & SHUNT_PAIR_ADOPT))
		return false;
	pair->adoptions++;
	pair->reason = SHUNT_REASON_none;
	view->me->checked = 0;
	view->peer->checked = 0;
	view->me->run_messages = 0;
	view->me->run_bytes = 0;
	view->peer->run_messages = 0;
	view->peer->run_bytes = 0;
	pair_clear(pair, SHUNT_PAIR_LEAVE);
	pair_turn(view->me, pair_state(view->me), SHUNT_STATE_READY);
	pair_turn(view->peer, pair_state(view->peer), SHUNT_STATE_READY);
	count(SHUNT_COUNTER_splice_adopted);
	count(SHUNT_COUNTER_splice_paired);
	pair_watch(view, SHUNT_NOTICE_paired, SHUNT_ENDS);
	return true;
}

/*
 * Lets the pair in, one end after the other in the same walk, at a moment when both have read all
 * that TCP brought: kernels that do not count the TCP bytes of a member would hide them from a
 * program that asks. Nothing is spliced yet, so whoever is in can be taken out.
 */
static __always_inline void walk_adopt(const struct pair_view *view, struct tcp_sock *me)
{
	struct shunt_pair *pair = view->pair;
	struct tcp_sock *peer = tcp_at(view->peer->sock);
	struct shunt_end_key key = pair_end_key(view, view->end);
	bool second = pair_flags(pair) & SHUNT_PAIR_MEMBER << !view->end;

	if (walk_veto(view, me, peer)) {
		if (settle_call_off(view))
			pair_event(SHUNT_EVENT_WALK, view->peer->netns, 0, 0); /* owed a kick */
		return;
	}
	if (pair_flags(pair) & SHUNT_PAIR_MEMBER << view->end) /* of a walk before, left alone */
		return;
	if (settle_unread(me) || settle_unread(peer) ||
	    bpf_map_update_elem(&shunt_ends, &key, tcp_sk(me), BPF_NOEXIST)) {
		settle_take_back(view, !view->end); /* both stay out until the next walk */
		if (second && view->peer->netns != view->me->netns) /* not passed by again soon */
			pair_event(SHUNT_EVENT_WALK, view->peer->netns, 0, 0);
		return;
	}
	pair_set(pair, SHUNT_PAIR_MEMBER << view->end);
	walk_subscribe(me, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	if (second && !walk_ready(view))
		settle_take_back(view, view->end);
}

static __always_inline void walk_describe(const struct shunt_half *half, struct shunt_end *end)
{
	end->sock = half->sock;
	end->cgroup = half->cgroup;
	end->netns = half->netns;
	end->program = half->program;
	end->pid = half->pid;
}

/*
 * A connection that is older than the agent: the numbers of either socket name the pair. The first
 * end that the walk passes by leaves a note, the second makes the pair of both. Which of them
 * dialled can only be guessed, but both guess alike: they find each other's note or none.
 */
static __always_inline void walk_discover(struct bpf_iter__tcp *ctx, struct tcp_sock *me)
{
	struct shunt_half half = {
		.sock = kernel_address(me),
		.cgroup = tcp_sk(me)->sk_cgrp_data.cgroup->kn->id,
		.netns = tcp_sk(me)->__sk_common.skc_net.net->ns.inum,
		.end = tcp_likely_end(me),
	};
	struct shunt_cgroup *cgroup = bpf_map_lookup_elem(&shunt_cgroups, &half.cgroup);
	struct shunt_listener *user;
	struct shunt_half *other;
	struct shunt_pair *pair;
	struct pair_view view;
	__u64 cookie;

	if (!cgroup || cgroup->role == SHUNT_ROLE_NONE ||
	    tcp_sk(me)->__sk_common.skc_state != BPF_TCP_ESTABLISHED)
		return;
	cookie = bpf_get_socket_cookie(me);
	user = bpf_map_lookup_elem(&shunt_listeners, &cookie);
	if (user) {
		half.program = user->program;
		half.pid = user->pid;
	}
	view.key = tcp_pair_key(tcp_numbers(me), half.end);
	other = bpf_map_lookup_elem(&shunt_halves, &view.key);
	/* The pair goes when both ends have told that they are closed, whichever is the second. */
	walk_subscribe(me, BPF_SOCK_OPS_STATE_CB_FLAG);
	walk_say(ctx, SHUNT_WALK_LATER);
	if (!other || other->end == half.end) {
		bpf_map_update_elem(&shunt_halves, &view.key, &half, BPF_ANY);
		return;
	}
	if (bpf_map_update_elem(&shunt_pairs, &view.key, &walk_no_pair, BPF_NOEXIST))
		return;
	count(SHUNT_COUNTER_pairs_opened);
	pair = bpf_map_lookup_elem(&shunt_pairs, &view.key);
	if (!pair)
		return;
	pair_view_set(&view, pair, half.end);
	walk_describe(&half, view.me);
	walk_describe(other, view.peer);
	pair->established_at = bpf_ktime_get_ns();
	pair->reason = SHUNT_REASON_early;
	pair->row =
		scope_row_of_pair(pair->end[SHUNT_CLIENT].cgroup, pair->end[SHUNT_SERVER].cgroup);
	pair_set(pair, SHUNT_PAIR_JOINED);
	pair_watch(&view, SHUNT_NOTICE_opened, SHUNT_ENDS);
}

/* Lets pairs in that talk back and forth. Each time that one had to leave it waits longer. */
static __always_inline void walk_consider(const struct pair_view *view, struct tcp_sock *me)
{
	struct shunt_pair *pair = view->pair;
	bool alternates = walk_alternates(view, me);

	if (view->end == SHUNT_CLIENT && pair->backoff && !(pair_flags(pair) & SHUNT_PAIR_ADOPT))
		pair->backoff--;
	if (alternates && !pair->backoff && !(pair_flags(pair) & SHUNT_PAIR_ADOPT)) {
		pair->backoff =
			1u << (pair->adoptions < WALK_BACKOFF ? pair->adoptions : WALK_BACKOFF);
		pair_set(pair, SHUNT_PAIR_ADOPT); /* in the next walk, from its first end on */
	} else if (pair_flags(pair) & SHUNT_PAIR_ADOPT) {
		walk_adopt(view, me);
	}
}

/* The first socket that a listener's program has accepted shows the mode of all that it accepts.
 * Returns whether there is still something to see. */
static __always_inline bool walk_learn(const struct pair_view *view, struct tcp_sock *me)
{
	struct socket *socket = tcp_sk(me)->sk_socket;
	__u64 listener = view->pair->listener;
	struct shunt_listener *known;

	if (view->end != SHUNT_SERVER || !listener)
		return false;
	if (!socket || !socket->file)
		return true;
	known = bpf_map_lookup_elem(&shunt_listeners, &listener);
	if (known)
		known->accepts =
			tcp_blocking(me) ? SHUNT_ACCEPTS_BLOCKING : SHUNT_ACCEPTS_NONBLOCKING;
	view->pair->listener = 0;
	if (tcp_blocking(me))
		pair_leave(view, SHUNT_REASON_blocking);
	return false;
}

/* Does a member have to leave, by what has changed since it was let in? */
static __always_inline void walk_judge(const struct shunt_control *control,
				       const struct pair_view *view, struct tcp_sock *me)
{
	__u32 reason = SHUNT_REASON_disabled;

	if (view->me->checked == control->generation || pair_flags(view->pair) & SHUNT_PAIR_LEAVE)
		return;
	if (control->splice)
		reason = walk_veto(view, me, tcp_at(view->peer->sock));
	/* A program that nobody knows yet has not written anything yet, or is being looked at. */
	if (reason && reason != SHUNT_REASON_closing && reason != SHUNT_REASON_unknown_program)
		pair_leave(view, reason);
}

static __always_inline void walk_pass(struct bpf_iter__tcp *ctx,
				      const struct shunt_control *control,
				      const struct pair_view *view, struct tcp_sock *me)
{
	__u32 members = SHUNT_PAIR_MEMBER | SHUNT_PAIR_MEMBER << 1;
	bool spilled = pair_state(view->peer) == SHUNT_STATE_SPILLED;
	__u32 flags = pair_flags(view->pair);

	if (flags & SHUNT_PAIR_MEMBER << view->end && !(flags & SHUNT_PAIR_ADOPT)) {
		if (walk_learn(view, me))
			walk_say(ctx, SHUNT_WALK_AGAIN);
		walk_judge(control, view, me);
		flags = pair_flags(view->pair);
		if (spilled)
			pair_set(view->pair, SHUNT_PAIR_KICK << view->end);
		if (!settle(view, me) && (spilled || flags & SHUNT_PAIR_LEAVE))
			walk_say(ctx, SHUNT_WALK_AGAIN);
	}
	if (settle_owes_kick(view, me))
		walk_kick(me);
	flags = pair_flags(view->pair);
	if (!(flags & SHUNT_PAIR_ADOPT) && flags & members) {
		/* The other end, which may have been passed by already, is to follow. */
		if (flags & SHUNT_PAIR_LEAVE && !(flags & SHUNT_PAIR_MEMBER << view->end))
			walk_say(ctx, SHUNT_WALK_AGAIN);
		return;
	}
	if (!control->splice)
		return;
	walk_consider(view, me);
	if (settle_owes_kick(view, me)) /* it may have been taken back just now */
		walk_kick(me);
	if (pair_flags(view->pair) & SHUNT_PAIR_ADOPT)
		walk_say(ctx, SHUNT_WALK_AGAIN);
	else if (view->me->delta_out)
		walk_say(ctx, SHUNT_WALK_LATER);
	else
		walk_put_to_sleep(view, me);
}

SEC("iter/tcp")
int shunt_walk(struct bpf_iter__tcp *ctx)
{
	struct shunt_control *control = pair_control();
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *me;
	struct pair_view view;
	__u8 state;

	me = common ? bpf_skc_to_tcp_sock(common) : NULL;
	if (!me || !control)
		return 0;
	state = tcp_sk(me)->__sk_common.skc_state;
	if (state == BPF_TCP_LISTEN || state == BPF_TCP_CLOSE)
		return 0;
	if (!pair_find(tcp_numbers(me), tcp_likely_end(me), &view)) {
		if (control->discover)
			walk_discover(ctx, me);
		return 0;
	}
	if (view.me->sock == kernel_address(me) && pair_flags(view.pair) & SHUNT_PAIR_JOINED)
		walk_pass(ctx, control, &view, me);
	return 0;
}
