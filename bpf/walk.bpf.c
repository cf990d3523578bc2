/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * iter/task_file: passes by open files, of one process or of all, when the agent asks, and finds
 * the TCP sockets that something is to be done to: those that may be taken out of the sockhash or
 * are owed an edge, pairs that alternate, connections that are older than the agent, and readers
 * of those that are over. It does nothing to them: no socket is locked here. The agent visits them
 * (visit.bpf.c).
 * Reads from: shunt_pairs, shunt_control, shunt_programs, policy.
 * Writes to: flags and figures of shunt_pairs, shunt_listeners, shunt_halves, counters,
 * shunt_watch; to user space, whom to visit.
 *
 * A file holds its socket, so the socket is there. What is read of it may be torn; numbers that do
 * not belong together find no pair. Not iter/tcp, which passes by sockets under their lock: before
 * the fix of CVE-2026-74714 it takes references that are not there to be taken.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include "adopt.bpf.h"

#define WALK_BACKOFF 6 /* at most 2^6 walks between two tries */

/* Segments with data that each end has to have sent since the last walk, to be worth it. */
#define WALK_BUSY    8
/* … and neither more than so many times as many as the other: else it streams. */
#define WALK_BALANCE 3

/* Who holds a socket in TCP_CLOSE that is a member: its file, and its psock. */
#define WALK_HOLDERS 2

#define WALK_HELD_NS 20000 /* a socket whose lock is not free for so long is let be */

/* Added to the number of the walk where it was noted that it has passed by: of this end, or of the
 * one that was found first, all is said; of the one that was found second. */
#define WALK_TOLD	 1
#define WALK_TOLD_SECOND 2

/* Written by the agent before each walk: another multiple of SHUNT_WALK_NUMBERS, and whether all
 * processes are passed by, so that what was sent since the last such walk counts. */
__u32 walk_number = 0;
__u32 walk_everybody = 0;

/* One socket that the walk passes by. */
struct walk_at {
	struct seq_file *seq;
	struct tcp_sock *me;
	struct shunt_stop stop; /* where it is */
	bool full;		/* no room to say so: it is passed by once more */
};

static __always_inline void walk_say(struct walk_at *at, const struct shunt_end_key *end,
				     __u32 what)
{
	at->stop.end = *end;
	at->stop.what = what;
	if (what != SHUNT_WALK_AGAIN && what != SHUNT_WALK_LATER)
		at->stop.held = tcp_held(at->me, WALK_HELD_NS);
	at->full |= bpf_seq_write(at->seq, &at->stop, sizeof(at->stop)) != 0;
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

/* Finds pairs that talk back and forth. Each time that one had to leave it waits longer. Once in
 * each walk: a socket may be open in several processes, and what found no room in the buffer is
 * passed by once more. */
static __always_inline void walk_consider(const struct pair_view *view, struct tcp_sock *me)
{
	__u32 members = SHUNT_PAIR_MEMBER | SHUNT_PAIR_MEMBER << 1;
	struct shunt_pair *pair = view->pair;
	bool alternates;
	__u32 flags;

	if (view->me->walked == walk_number)
		return;
	view->me->walked = walk_number;
	alternates = walk_alternates(view, me);
	flags = pair_flags(pair);
	if (flags & (SHUNT_PAIR_ADOPT | members))
		return;
	if (view->end == SHUNT_CLIENT && pair->backoff)
		pair->backoff--;
	if (!alternates || pair->backoff)
		return;
	/* Nothing is locked: its memory may be another pair's by now. Not to that one, if it is
	 * spliced: its members would be taken out as if nothing could have come for them. */
	if (__sync_val_compare_and_swap(&pair->flags, flags, flags | SHUNT_PAIR_ADOPT) == flags)
		pair->backoff =
			1u << (pair->adoptions < WALK_BACKOFF ? pair->adoptions : WALK_BACKOFF);
}

/* Is the server's end of the pair still there? Read after what was read of it. */
static __always_inline bool walk_has_server(const struct pair_view *view, struct tcp_sock *server)
{
	struct shunt_pair_key key = tcp_pair_key(tcp_numbers(server), SHUNT_SERVER);

	return key.client == view->key.client && key.server == view->key.server;
}

/* The first socket that a listener's program has accepted shows the mode of all that it accepts.
 * Returns whether there is still something to see. */
static __always_inline bool walk_learn(const struct pair_view *view)
{
	struct tcp_sock *server = tcp_at(view->pair->end[SHUNT_SERVER].sock);
	__u64 listener = view->pair->listener;
	struct shunt_listener *known;
	struct socket *socket;
	bool blocking;

	if (!listener || pair_flags(view->pair) & SHUNT_PAIR_CLOSED << SHUNT_SERVER)
		return false;
	socket = tcp_sk(server)->sk_socket;
	if (!socket || !socket->file)
		return true;
	blocking = tcp_blocking(server);
	if (!walk_has_server(view, server))
		return true;
	known = bpf_map_lookup_elem(&shunt_listeners, &listener);
	if (known)
		known->accepts = blocking ? SHUNT_ACCEPTS_BLOCKING : SHUNT_ACCEPTS_NONBLOCKING;
	view->pair->listener = 0;
	if (blocking)
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
		reason = adopt_veto(view, me, tcp_at(view->peer->sock));
	/* A program that nobody knows yet has not written anything yet, or is being looked at. */
	if (reason && reason != SHUNT_REASON_closing && reason != SHUNT_REASON_unknown_program)
		pair_leave(view, reason);
}

/* Is there something to be done to a member? What settle() asks for, and a little more. */
static __always_inline bool walk_wants(const struct pair_view *view, struct tcp_sock *me)
{
	return pair_flags(view->pair) & (SHUNT_PAIR_LEAVE | SHUNT_PAIR_KICK << view->end) ||
	       pair_state(view->peer) == SHUNT_STATE_SPILLED || settle_unread(me);
}

static __always_inline void walk_pass(struct walk_at *at, const struct shunt_control *control,
				      const struct pair_view *view)
{
	struct tcp_sock *me = at->me;
	struct shunt_end_key end = pair_end_key(view, view->end);
	__u32 member = SHUNT_PAIR_MEMBER << view->end;
	__u32 other = SHUNT_PAIR_MEMBER << !view->end;
	__u32 flags = pair_flags(view->pair);

	if (flags & member && !(flags & SHUNT_PAIR_ADOPT)) {
		if (walk_learn(view))
			walk_say(at, &end, SHUNT_WALK_AGAIN);
		walk_judge(control, view, me);
		if (walk_wants(view, me))
			walk_say(at, &end, SHUNT_WALK_VISIT);
		return;
	}
	if (flags & SHUNT_PAIR_KICK << view->end || adopt_is_stray(view, me))
		walk_say(at, &end, SHUNT_WALK_VISIT);
	if (flags & other && !(flags & SHUNT_PAIR_ADOPT)) { /* which is to follow */
		walk_say(at, &end, SHUNT_WALK_LATER);
		return;
	}
	if (!control->splice && !(flags & SHUNT_PAIR_ADOPT))
		return;
	if (walk_everybody)
		walk_consider(view, me);
	flags = pair_flags(view->pair);
	/* Who has sent nothing since the last walk tells when it does: until then there is nothing
	 * to see. */
	if (flags & SHUNT_PAIR_ADOPT)
		walk_say(at, &end, SHUNT_WALK_ADOPT);
	else if (!(flags & SHUNT_PAIR_ASLEEP << view->end))
		walk_say(at, &end,
			 walk_everybody && !view->me->delta_out ? SHUNT_WALK_SLEEP
								: SHUNT_WALK_LATER);
}

/*
 * A connection that is older than the agent. The first end that the walk passes by leaves a note;
 * at the second both are to be visited, and make the pair.
 */
static __always_inline void walk_discover(struct walk_at *at)
{
	struct tcp_sock *me = at->me;
	struct shunt_end_key end = {};
	struct shunt_half half = {};
	struct shunt_half *other;
	__u32 walked = walk_number, told;
	bool found;

	if (!adopt_describe(me, kernel_address(me), &half, &end.pair))
		return;
	end.end = half.end;
	other = bpf_map_lookup_elem(&shunt_halves, &end.pair);
	found = other && other->end != half.end;
	told = found ? WALK_TOLD_SECOND : WALK_TOLD;
	if (other && other->walked / SHUNT_WALK_NUMBERS == walked / SHUNT_WALK_NUMBERS)
		walked = other->walked;
	if (walked & told)
		return;
	walk_say(at, &end, found ? SHUNT_WALK_JOIN : SHUNT_WALK_LATER);
	half.walked = at->full ? walked : walked | told;
	if (found)
		other->walked = half.walked;
	else
		bpf_map_update_elem(&shunt_halves, &end.pair, &half, BPF_ANY);
}

/*
 * Nothing is on its way to a reader in TCP_CLOSE, whose writer redirects no more. A send() that
 * decided to before holds the reader since, which it began to do under its own lock
 * (sk_psock_msg_verdict()) and so before its direction was ended.
 */
static __always_inline bool walk_is_alone(struct tcp_sock *me)
{
	return tcp_users(me) <= SETTLE_IDLE &&
	       tcp_sk(me)->__sk_common.skc_refcnt.refs.counter <= WALK_HOLDERS;
}

/*
 * A reader whose connection is over, with bytes of TCP unread. There may be no pair any more, so
 * that it is in a sockhash says that it is in ours, or somebody else's. If an agent was killed when
 * it had just taken it out it is in none, and was not told.
 */
static __always_inline void walk_strand(struct walk_at *at, const struct shunt_control *control)
{
	struct tcp_sock *me = at->me;
	struct shunt_end_key end = {.end = tcp_likely_end(me)};
	bool behind = !walk_is_alone(me) || !tcp_queue_empty(me);
	__u32 what = behind ? SHUNT_WALK_BEHIND : SHUNT_WALK_STRANDED;

	if (!settle_unread(me))
		return;
	if (!tcp_users(me)) {
		if (!control->discover || !bpf_map_lookup_elem(&shunt_cgroups, &at->stop.cgroup))
			return;
		what = SHUNT_WALK_KICK;
	}
	end.pair = tcp_pair_key(tcp_numbers(me), end.end);
	walk_say(at, &end, what);
}

SEC("iter/task_file")
int shunt_walk(struct bpf_iter__task_file *ctx)
{
	struct shunt_control *control = pair_control();
	struct task_struct *task = ctx->task;
	struct walk_at at = {};
	struct pair_view view;
	struct tcp_sock *me;
	struct sock *sk;
	__u8 state;

	if (!task || !control)
		return 0;
	sk = tcp_of_file(ctx->file);
	me = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!me)
		return 0;
	state = tcp_sk(me)->__sk_common.skc_state;
	if (state == BPF_TCP_LISTEN)
		return 0;
	at.seq = ctx->meta->seq;
	at.me = me;
	at.stop.pid = task->tgid;
	at.stop.thread = task->pid;
	at.stop.fd = ctx->fd;
	at.stop.cgroup = tcp_sk(me)->sk_cgrp_data.cgroup->kn->id;
	if (state == BPF_TCP_CLOSE) {
		walk_strand(&at, control);
		return 0;
	}
	if (!pair_find_unlocked(me, &view)) {
		if (control->splice && control->discover && walk_everybody)
			walk_discover(&at);
		return 0;
	}
	if (view.me->sock != kernel_address(me) || !(pair_flags(view.pair) & SHUNT_PAIR_JOINED))
		return 0;
	/* A socket may be open any number of times. */
	if (view.me->walked == (walk_number | WALK_TOLD))
		return 0;
	walk_pass(&at, control, &view);
	if (!at.full)
		view.me->walked = walk_number | WALK_TOLD;
	return 0;
}
