/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockops: hears of a connection's handshake (handshake.bpf.h, caller.bpf.h), of what its ends send
 * by TCP, and of its end (close.bpf.h). Who sends by TCP is taken out of the sockhash if that can
 * be proven (settle.bpf.h).
 * Reads from: shunt_socks, shunt_syns, shunt_listeners, shunt_programs, shunt_control, policy.
 * Writes to: shunt_pairs, shunt_syns, shunt_ends, shunt_listeners; shunt_socks of a connection that
 * was reset; counters, events, shunt_watch.
 */
#include <linux/bpf.h>

#include "close.bpf.h"
#include "handshake.bpf.h"
#include "keepalive.bpf.h"
#include "settle.bpf.h"
#include "socket.bpf.h"
#include "sockops.bpf.h"

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
		pair_event(SHUNT_EVENT_AWAKE, 0, 0);
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

	/* It resets, and its end is told: the pair's memory may be another's. */
	if (tcp_sk(tp)->__sk_common.skc_state == BPF_TCP_CLOSE)
		return;
	if (!pair_find(tcp_numbers(tp), tcp_likely_end(tp), &view))
		return;
	if (!settle(&view, tp)) {
		if (!(pair_flags(view.pair) & SHUNT_PAIR_ADOPT) &&
		    (pair_state(view.peer) == SHUNT_STATE_SPILLED ||
		     pair_state(view.peer) == SHUNT_STATE_LEFT))
			keepalive_start(ctx, &view, tp);
		sockops_kick(ctx, &view, tp);
		return;
	}
	sockops_wake(&view);
	keepalive_stop(ctx, &view);
	sockops_hear_no_sends(ctx, &view);
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
			handshake_mark_syn(ctx);
		return 1;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (sockops_splice)
			caller_note(ctx);
		return 1;
	case BPF_SOCK_OPS_STATE_CB:
		/* Once: the memory of the pair of one that is closed may be another's. */
		if (ctx->args[1] != BPF_TCP_CLOSE || ctx->args[0] == BPF_TCP_CLOSE)
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
		handshake_client(ctx, sk);
		return 1;
	}
	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		handshake_server(ctx, sk);
		return 1;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 1;
	if (ctx->op == BPF_SOCK_OPS_STATE_CB)
		close_end(sk, tp, ctx->args[0]);
	else if (sockops_splice)
		sockops_transmit(ctx, tp);
	return 1;
}
