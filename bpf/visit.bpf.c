/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/setsockopt: what is done to a socket under its lock. The agent has borrowed the socket
 * from its program and asks, at a level that is no protocol's (SHUNT_VISIT_LEVEL); everybody else's
 * options pass. It is attached for as long as there is somebody to visit, and goes with the agent.
 * Reads from: shunt_pairs, shunt_control, shunt_halves, shunt_listeners, shunt_programs, policy.
 * Writes to: shunt_pairs, counters, events, shunt_watch; to the agent, an answer.
 *
 * The kernel lets this kind of program change no sockhash. So the agent does that itself between
 * two visits; docs/SPLICING.md says why nothing can come between.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include "adopt.bpf.h"
#include "keepalive.bpf.h"
#include "socket.bpf.h"

static const struct shunt_pair visit_no_pair = {};

/* Read by the agent after each visit: enum shunt_visit_answer. */
__u32 visit_answer = SHUNT_VISIT_NONE;

static __always_inline bool visit_by_agent(const struct shunt_control *control)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	task = BPF_CORE_READ(task, group_leader);
	return control->agent == (__u64)task &&
	       control->agent_start == BPF_CORE_READ(task, start_boottime);
}

/*
 * An edge without a byte: setting SO_RCVLOWAT to what it is already ends in tcp_data_ready()
 * (net/ipv4/tcp.c, tcp_set_rcvlowat).
 */
static __always_inline void visit_kick(struct bpf_sockopt *ctx, const struct pair_view *view,
				       struct tcp_sock *me)
{
	int lowat = tcp_sk(me)->sk_rcvlowat;

	if (settle_owes_kick(view, me))
		bpf_setsockopt(ctx->sk, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat));
}

/* Adds to what the socket tells of itself (sockops). The option is there where Shunt splices.
 * Returns whether that is new. */
static __always_inline bool visit_subscribe(struct bpf_sockopt *ctx, int wanted)
{
	int flags = 0, before;

	bpf_getsockopt(ctx->sk, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
	before = flags;
	flags |= wanted;
	bpf_setsockopt(ctx->sk, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
	return flags != before;
}

/* As sockops_hear_sends(). */
static __always_inline void visit_hear_sends(struct bpf_sockopt *ctx, const struct pair_view *view)
{
	if (visit_subscribe(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG))
		pair_set(view->pair, SHUNT_PAIR_HEARS << view->end);
}

/* What the walk found something to be done to. */
static __always_inline __u32 visit_look(struct bpf_sockopt *ctx, const struct pair_view *view,
					struct tcp_sock *me)
{
	struct tcp_sock *peer = tcp_at(view->peer->sock);
	bool spilled = pair_state(view->peer) == SHUNT_STATE_SPILLED;
	__u32 flags = pair_flags(view->pair), answer = SHUNT_VISIT_NONE;
	bool unread = !tcp_queue_empty(me);

	if (adopt_is_stray(view, me)) {
		pair_set(view->pair, SHUNT_PAIR_KICK << view->end);
		return SHUNT_VISIT_TAKE_OUT;
	}
	if (flags & SHUNT_PAIR_MEMBER << view->end && !(flags & SHUNT_PAIR_ADOPT)) {
		/* Who has not come to the boundary is seen when it does (shunt_reads), which
		 * tells nothing of who is owed a kick already. */
		if (unread)
			pair_clear(view->pair, SHUNT_PAIR_KICK << view->end);
		else if (spilled)
			pair_set(view->pair, SHUNT_PAIR_KICK << view->end);
		if (settle_proven(view, me))
			return SHUNT_VISIT_TAKE_OUT; /* and comes back: it is kicked then */
		if (spilled || flags & SHUNT_PAIR_LEAVE)
			answer =
				unread || (!spilled && !tcp_queue_empty(peer) && !settle_unread(me))
					? SHUNT_VISIT_WAITS
					: SHUNT_VISIT_COME_BACK;
	}
	visit_kick(ctx, view, me);
	return answer;
}

/* The agent has taken it out of the sockhash. @again: shortly after it was let in. */
static __always_inline __u32 visit_out(struct bpf_sockopt *ctx, const struct pair_view *view,
				       struct tcp_sock *me, bool again)
{
	__u32 member = SHUNT_PAIR_MEMBER << view->end;

	/* If it has called it off by itself, it may still be owed a kick. */
	if (pair_clear(view->pair, member) & member) {
		if (again)
			pair_set(view->pair, SHUNT_PAIR_KICK << view->end);
		else
			settle_note_out(view, me);
	}
	keepalive_stop(ctx->sk, view);
	visit_kick(ctx, view, me);
	return SHUNT_VISIT_DONE;
}

/*
 * May this end be let in? At a moment when both have read all that TCP brought: kernels that do not
 * count the TCP bytes of a member would hide them from a program that asks. From here on it counts
 * as a member, and runs sockops for what it sends: if the agent dies in between it calls it off.
 */
static __always_inline __u32 visit_ask(struct bpf_sockopt *ctx, const struct pair_view *view,
				       struct tcp_sock *me)
{
	struct tcp_sock *peer = tcp_at(view->peer->sock);
	__u32 members = SHUNT_PAIR_MEMBER | SHUNT_PAIR_MEMBER << 1;
	struct shunt_control *control = pair_control();

	if (!(pair_flags(view->pair) & SHUNT_PAIR_ADOPT))
		return SHUNT_VISIT_NONE;
	if (!control || !control->splice || adopt_veto(view, me, peer)) {
		/* Members are taken out first: until then they may call it off. */
		if (!(pair_flags(view->pair) & members))
			pair_clear(view->pair, SHUNT_PAIR_ADOPT);
		return SHUNT_VISIT_NONE;
	}
	if (settle_unread(me) || settle_unread(peer))
		return SHUNT_VISIT_COME_BACK;
	pair_set(view->pair, SHUNT_PAIR_MEMBER << view->end);
	visit_subscribe(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	visit_hear_sends(ctx, view);
	return SHUNT_VISIT_LET_IN;
}

/* Both ends are in: the next message of each direction may be spliced. False: one of them has
 * called it off meanwhile. */
static __always_inline bool visit_ready(const struct pair_view *view)
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

/* The agent has let it in. @both: and the other end before it, which was visited since. */
static __always_inline __u32 visit_in(const struct pair_view *view, struct tcp_sock *me, bool both)
{
	__u32 wanted = SHUNT_PAIR_ADOPT | SHUNT_PAIR_MEMBER << view->end;

	/* What has come since it was asked may have been missed by a program that asked FIONREAD.
	 */
	if ((pair_flags(view->pair) & wanted) != wanted || settle_unread(me) ||
	    (both && settle_unread(tcp_at(view->peer->sock))))
		return SHUNT_VISIT_NONE;
	return !both || visit_ready(view) ? SHUNT_VISIT_DONE : SHUNT_VISIT_NONE;
}

/* It has sent nothing since the walk before. */
static __always_inline __u32 visit_sleep(struct bpf_sockopt *ctx, const struct pair_view *view)
{
	pair_set(view->pair, SHUNT_PAIR_ASLEEP << view->end);
	visit_hear_sends(ctx, view);
	return SHUNT_VISIT_DONE;
}

static __always_inline __u32 visit_pair(struct bpf_sockopt *ctx, const struct pair_view *view,
					struct tcp_sock *me)
{
	switch (ctx->optname) {
	case SHUNT_VISIT_LOOK:
		return visit_look(ctx, view, me);
	case SHUNT_VISIT_OUT:
		return visit_out(ctx, view, me, false);
	case SHUNT_VISIT_BACK:
		return visit_out(ctx, view, me, true);
	case SHUNT_VISIT_ASK:
		return visit_ask(ctx, view, me);
	case SHUNT_VISIT_IN:
		return visit_in(view, me, false);
	case SHUNT_VISIT_IN_BOTH:
		return visit_in(view, me, true);
	case SHUNT_VISIT_SLEEP:
		return visit_sleep(ctx, view);
	default:
		return SHUNT_VISIT_NONE;
	}
}

static __always_inline void visit_describe(const struct shunt_half *half, struct shunt_end *end)
{
	end->sock = half->sock;
	end->cgroup = half->cgroup;
	end->netns = half->netns;
	end->program = half->program;
	end->pid = half->pid;
}

/* Is the other end still what its note says? */
static __always_inline bool visit_is_open(const struct shunt_half *half,
					  const struct shunt_pair_key *key)
{
	struct tcp_sock *tp = tcp_at(half->sock);
	struct shunt_pair_key found = tcp_pair_key(tcp_numbers(tp), half->end);

	return found.client == key->client && found.server == key->server &&
	       tcp_sk(tp)->__sk_common.skc_state == BPF_TCP_ESTABLISHED;
}

/* Makes the pair of both ends of a connection that is older than the agent. */
static __always_inline __u32 visit_make_pair(const struct shunt_half *half,
					     const struct shunt_pair_key *key)
{
	struct shunt_half *noted = bpf_map_lookup_elem(&shunt_halves, key);
	struct shunt_half other;
	struct shunt_pair *pair;
	struct pair_view view = {.key = *key};

	if (!noted || noted->end == half->end)
		return SHUNT_VISIT_NONE;
	other = *noted;
	if (!visit_is_open(&other, key) ||
	    bpf_map_update_elem(&shunt_pairs, key, &visit_no_pair, BPF_NOEXIST))
		return SHUNT_VISIT_NONE;
	count(SHUNT_COUNTER_pairs_opened);
	pair = bpf_map_lookup_elem(&shunt_pairs, key);
	if (!pair)
		return SHUNT_VISIT_NONE;
	pair_view_set(&view, pair, half->end);
	visit_describe(half, view.me);
	visit_describe(&other, view.peer);
	pair->established_at = bpf_ktime_get_ns();
	pair->reason = SHUNT_REASON_early;
	pair->row =
		scope_row_of_pair(pair->end[SHUNT_CLIENT].cgroup, pair->end[SHUNT_SERVER].cgroup);
	pair_set(pair, SHUNT_PAIR_JOINED);
	/* It may have told of its end before there was a pair. */
	if (!visit_is_open(&other, key))
		pair_set(pair, SHUNT_PAIR_CLOSED << !view.end);
	pair_watch(&view, SHUNT_NOTICE_opened, SHUNT_ENDS);
	return SHUNT_VISIT_DONE;
}

/* @both: the other end was visited before, and tells when it is closed. */
static __always_inline __u32 visit_join(struct bpf_sockopt *ctx, struct tcp_sock *me, __u64 sock,
					const struct shunt_end_key *end, bool both)
{
	struct shunt_pair_key key = {};
	struct shunt_half half = {};

	if (!adopt_describe(me, sock, &half, &key) || key.client != end->pair.client ||
	    key.server != end->pair.server || half.end != end->end)
		return SHUNT_VISIT_NONE;
	/* The pair goes when both ends have told that they are closed, whichever is the second. */
	visit_subscribe(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	return both ? visit_make_pair(&half, &key) : SHUNT_VISIT_DONE;
}

SEC("cgroup/setsockopt")
int shunt_visit(struct bpf_sockopt *ctx)
{
	struct shunt_control *control = pair_control();
	struct shunt_end_key *given, end;
	struct pair_view view;
	struct tcp_sock *me;
	__u32 closed;
	__u64 sock;

	if (ctx->level != SHUNT_VISIT_LEVEL || !control || !visit_by_agent(control))
		return socket_pass_option(ctx);
	/* It is attached to a cgroup above this one too, and has been here. */
	if (ctx->optlen < 0)
		return 1;
	given = ctx->optval;
	if ((void *)(given + 1) > ctx->optval_end || ctx->sk->protocol != IPPROTO_TCP)
		return socket_pass_option(ctx);
	end = *given;
	ctx->optlen = -1; /* the kernel is not asked */
	sock = (__u64)kernel_sock(ctx->sk);
	me = tcp_at(sock);
	if (ctx->optname == SHUNT_VISIT_JOIN || ctx->optname == SHUNT_VISIT_JOIN_BOTH) {
		visit_answer =
			visit_join(ctx, me, sock, &end, ctx->optname == SHUNT_VISIT_JOIN_BOTH);
		return 1;
	}
	/* Of one that is closed the pair may go at any time, with the other end: it is as if it
	 * were gone. */
	if (tcp_sk(me)->__sk_common.skc_state == BPF_TCP_CLOSE)
		return 1;
	/* The number of the file may have been given to another one meanwhile. */
	if (!pair_find(tcp_numbers(me), tcp_likely_end(me), &view) ||
	    view.key.client != end.pair.client || view.key.server != end.pair.server ||
	    view.end != end.end || view.me->sock != sock)
		return 1;
	/* Neither if it was taken for closed when the pair was made. */
	closed = SHUNT_PAIR_CLOSED << view.end;
	if ((pair_flags(view.pair) & (SHUNT_PAIR_JOINED | closed)) != SHUNT_PAIR_JOINED)
		return 1;
	visit_answer = visit_pair(ctx, &view, me);
	return 1;
}
