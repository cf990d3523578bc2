/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Takes the ends of a pair that went back to TCP out of the sockhash, and tells readers what
 * nothing else would. Runs where the socket's lock is held: in sockops for a segment that is sent,
 * and when the agent visits the socket.
 */
#pragma once

#include "pair.bpf.h"

/* How many use a socket's psock while no send() and no recv() is under way: the sockhash. */
#define SETTLE_IDLE 1

/*
 * Deleting a socket from the sockhash throws away what is queued for it, so it needs the proof that
 * nothing is and nothing can be: LEFT. A direction becomes LEFT
 *  - in its writer's own send(), which found the reader's queue empty and itself alone: nothing of
 *    it is under way, and whoever comes later finds the new state (sk_msg);
 *  - here, under the writer's lock and with its psock idle: a send() that has decided to redirect
 *    did so under this lock, and holds the psock until its message has arrived;
 *  - here, under the reader's lock, from SPILLED: no send() redirects in that state without
 *    changing it first, which none does that sees SETTLES; one that looked for it before holds
 *    the writer's psock. (An exchange alone would not do: SPILLED may have been left, for a
 *    message that is under way, and come back for one that is too large.)
 */
static __always_inline void settle_own(const struct pair_view *view, struct tcp_sock *me,
				       struct tcp_sock *peer)
{
	__u32 state = pair_state(view->me);

	if (state == SHUNT_STATE_READY ||
	    ((state == SHUNT_STATE_SPLICED || state == SHUNT_STATE_SPILLED) &&
	     tcp_users(me) <= SETTLE_IDLE && tcp_queue_empty(peer)))
		pair_turn(view->me, state, SHUNT_STATE_LEFT);
}

static __always_inline void settle_peer(const struct pair_view *view, struct tcp_sock *me,
					struct tcp_sock *peer)
{
	__u32 settles = SHUNT_PAIR_SETTLES << !view->end;

	if (pair_state(view->peer) != SHUNT_STATE_SPILLED)
		return;
	pair_set(view->pair, settles);
	if (tcp_users(peer) <= SETTLE_IDLE && tcp_queue_empty(me) &&
	    pair_turn(view->peer, SHUNT_STATE_SPILLED, SHUNT_STATE_LEFT)) {
		pair_leave(view, SHUNT_REASON_spilled);
		pair_set(view->pair, SHUNT_PAIR_KICK << view->end);
	}
	pair_clear(view->pair, settles);
}

/* How many bytes of TCP lie unread? A FIN has a number too, and is none; it is told by SOCK_DONE,
 * since the last acknowledgement goes out while the state still is the one before. */
static __always_inline __u32 settle_unread(struct tcp_sock *tp)
{
	__u32 unread = tp->rcv_nxt - tp->copied_seq, fin = tcp_done(tp) ? 1 : 0;

	return unread > fin ? unread - fin : 0;
}

/* Takes @end out, where it is certain that nothing was spliced to it since it came in. */
static __always_inline void settle_take_back(const struct pair_view *view, __u32 end)
{
	struct shunt_end_key key = pair_end_key(view, end);
	__u32 member = SHUNT_PAIR_MEMBER << end;

	if (!(pair_clear(view->pair, member) & member))
		return;
	bpf_map_delete_elem(&shunt_ends, &key);
	pair_set(view->pair, SHUNT_PAIR_KICK << end);
}

/*
 * The agent has begun to let the pair in, and one end cannot be. Nothing is READY before
 * visit_ready() has taken SHUNT_PAIR_ADOPT away; who takes it away first may take out whoever is
 * in. False: somebody else was first.
 */
static __always_inline bool settle_call_off(const struct pair_view *view)
{
	if (!(pair_clear(view->pair, SHUNT_PAIR_ADOPT) & SHUNT_PAIR_ADOPT))
		return false;
	settle_take_back(view, SHUNT_CLIENT);
	settle_take_back(view, SHUNT_SERVER);
	return true;
}

/*
 * Brings both directions as far as can be proven now. Returns whether they are LEFT: the socket may
 * be taken out, now or at any later time.
 */
static __always_inline bool settle_proven(const struct pair_view *view, struct tcp_sock *me)
{
	struct tcp_sock *peer = tcp_at(view->peer->sock);

	/* The peer sent by TCP although it was ready to splice: it was not in when it began. */
	if (settle_unread(me) && pair_state(view->peer) == SHUNT_STATE_READY &&
	    pair_turn(view->peer, SHUNT_STATE_READY, SHUNT_STATE_LEFT))
		pair_leave(view, SHUNT_REASON_behind);
	/* … or a send() that began then was overtaken by another. What it sent may lie behind
	 * spliced bytes, as after a spill. */
	if (settle_unread(me) && pair_turn(view->peer, SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED))
		pair_event(SHUNT_EVENT_SPILLED, view->me->pid, 0);
	settle_peer(view, me, peer);
	if (pair_flags(view->pair) & SHUNT_PAIR_LEAVE)
		settle_own(view, me, peer);
	return pair_state(view->peer) == SHUNT_STATE_LEFT &&
	       pair_state(view->me) == SHUNT_STATE_LEFT;
}

/* The socket is out of the sockhash, or is being taken out right now. */
static __always_inline void settle_note_out(const struct pair_view *view, struct tcp_sock *me)
{
	count(SHUNT_COUNTER_splice_taken_out);
	/* Some kernels did not count these bytes for a program that asked while the socket was a
	 * member (FIONREAD): it may have turned away. */
	if (settle_unread(me))
		pair_set(view->pair, SHUNT_PAIR_KICK << view->end);
}

/*
 * Brings the socket as far out of the sockhash as can be proven now. Returns whether it is out.
 */
static __always_inline bool settle(const struct pair_view *view, struct tcp_sock *me)
{
	__u32 member = SHUNT_PAIR_MEMBER << view->end;
	struct shunt_end_key key;

	if (!(pair_flags(view->pair) & member))
		return true;
	/* The agent is about to let both in. It may not come back for long, or ever, and some
	 * kernels do not count what a member has by TCP for a program that asks. */
	if (pair_flags(view->pair) & SHUNT_PAIR_ADOPT)
		return settle_unread(me) && settle_call_off(view);
	if (!settle_proven(view, me))
		return false;
	key = pair_end_key(view, view->end);
	if (pair_clear(view->pair, member) & member) {
		bpf_map_delete_elem(&shunt_ends, &key);
		settle_note_out(view, me);
	}
	return true;
}

/* Is an edge due now? For a reader at the boundary between its two queues, or one that was told
 * that there was nothing. */
static __always_inline bool settle_owes_kick(const struct pair_view *view, struct tcp_sock *me)
{
	__u32 kick = SHUNT_PAIR_KICK << view->end;

	if (!(pair_flags(view->pair) & kick) || !tcp_queue_empty(me))
		return false;
	if (!(pair_clear(view->pair, kick) & kick) || !settle_unread(me))
		return false;
	view->me->kicks++;
	count(SHUNT_COUNTER_splice_kicked);
	return true;
}
