/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of a connection: what is left to be read or asked for at either socket, and the last
 * figures of the pair.
 */
#pragma once

#include "settle.bpf.h"
#include "sockops.bpf.h"

/* The client has reset the connection, and the sidecar, which holds its socket still or will accept
 * it, may ask where it was going. */
static __always_inline void close_keep_dialled(struct bpf_sock *sk, const struct shunt_pair *pair)
{
	struct shunt_sock *state;

	state = bpf_sk_storage_get(&shunt_socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return;
	state->dialled = pair->dialled;
	state->flags = SHUNT_SOCK_ACCEPTED;
}

/* The last figures of a pair, with those of the end that was closed last. */
static __always_inline void close_tell(const struct pair_view *view, struct tcp_sock *tp)
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

static __always_inline void close_take_out(const struct pair_view *view)
{
	struct shunt_end_key key = pair_end_key(view, view->end);

	if (!bpf_map_delete_elem(&shunt_ends, &key))
		count(SHUNT_COUNTER_splice_taken_out);
}

/*
 * Has its program undone the connection, by connect() to AF_UNSPEC? TCP throws away what is unread
 * then (tcp_disconnect()), and so has to go what was spliced, or the socket's next connection would
 * begin with it. Otherwise it ends with an error, or after the own end and the peer's. @before: the
 * state that it was in.
 */
static __always_inline bool close_is_undone(struct tcp_sock *tp, __u32 before)
{
	return !tcp_sk(tp)->sk_err && (before == BPF_TCP_CLOSE_WAIT || !tcp_done(tp));
}

/*
 * The connection is over, and its program may still read what it sent nothing for: it had ended its
 * own direction before. It sends nothing more that sockops would see. So it comes out of the
 * sockhash here (the kernel wakes its program next, tcp_done()), or if spliced bytes wait before
 * those of TCP, by the agent, once they are read.
 */
static __always_inline void close_strand(const struct pair_view *view, struct tcp_sock *tp)
{
	if (!settle_unread(tp))
		return;
	/* A send() of another thread than the one that ended the direction may be under way. */
	if (tcp_users(tcp_at(view->peer->sock)) > SETTLE_IDLE || !tcp_queue_empty(tp))
		pair_event(SHUNT_EVENT_STRANDED, view->me->pid, 0);
	else
		close_take_out(view);
}

/* There is no reader any more that is owed an edge. */
static __always_inline void close_reader(struct shunt_end *writer)
{
	if (pair_state(writer) == SHUNT_STATE_SPILLED)
		pair_turn(writer, SHUNT_STATE_SPILLED, SHUNT_STATE_PLAIN);
}

/* Both ends are over, as far as there are two: nobody else touches the pair any more. @flags: its
 * own. */
static __always_inline void close_delete(const struct pair_view *view, __u32 flags)
{
	__u32 reason = view->pair->reason;

	if (!(flags & SHUNT_PAIR_JOINED) && flags & SHUNT_PAIR_REDIRECTED)
		count(SHUNT_COUNTER_origdst_withdrawn);
	if (bpf_map_delete_elem(&shunt_pairs, &view->key))
		return;
	count(SHUNT_COUNTER_pairs_closed);
	count(SHUNT_COUNTER_closed_none + reason);
}

/*
 * One end is over. TCP_CLOSE also is the end of FIN_WAIT2 and the begin of TIME_WAIT: the client's
 * program may have closed long before the sidecar accepts, and the sidecar still wants to know. So
 * the entry goes with the second end, or with the first if there is no other. @state: before.
 *
 * The memory of an entry that is deleted may be another pair's at once, and the other end may be
 * closed at the same time: whoever is not the second does not touch the pair once it has said that
 * it is closed.
 */
static __always_inline void close_end(struct bpf_sock *sk, struct tcp_sock *tp, __u32 state)
{
	struct pair_view view;
	__u32 closed, before;

	if (!pair_find(tcp_numbers(tp), tcp_likely_end(tp), &view))
		return;
	if (view.end == SHUNT_SERVER && pair_flags(view.pair) & SHUNT_PAIR_REDIRECTED &&
	    !tcp_orphan(tp))
		close_keep_dialled(sk, view.pair);
	closed = SHUNT_PAIR_CLOSED << view.end;
	before = pair_flags(view.pair);
	if (before & closed)
		return;
	if (sockops_splice && before & SHUNT_PAIR_MEMBER << view.end && !tcp_orphan(tp)) {
		if (close_is_undone(tp, state))
			close_take_out(&view);
		else
			close_strand(&view, tp);
	}
	/* The kernel takes it out of the sockhash when its program closes it, if not before.
	 * Nothing arrives for it any more. */
	pair_clear(view.pair, SHUNT_PAIR_MEMBER << view.end);
	close_reader(view.peer);
	before = pair_set(view.pair, closed);
	if (before & SHUNT_PAIR_JOINED && !(before & SHUNT_PAIR_CLOSED << !view.end))
		return;
	/* A send() that looked before its reader was closed may have spilled since. */
	close_reader(view.peer);
	close_reader(view.me);
	close_tell(&view, tp);
	close_delete(&view, before);
}
