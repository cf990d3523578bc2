/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sk_msg: splices what one end of a pair writes, or lets it pass to TCP. Runs in the writer's
 * context and holds its socket's lock.
 * Reads from: shunt_pairs, shunt_control, shunt_programs, policy, both sockets.
 * Writes to: the queue of the peer's socket, shunt_pairs, counters, events, shunt_watch.
 */
#include <asm/unistd.h>
#include <linux/bpf.h>
#include <linux/ptrace.h>

#include <bpf/bpf_tracing.h>

#include "scope.bpf.h"

#define MSG_OOB		 1
#define SOCK_RCVBUF_LOCK 2 /* in sk_userlocks: <net/sock.h> */

#if defined(__TARGET_ARCH_x86)
#define SPLICE_REGS_CALL(regs) ((regs)->orig_rax)
#elif defined(__TARGET_ARCH_arm64)
#define SPLICE_REGS_CALL(regs) (((struct user_pt_regs *)(regs))->regs[8])
#else
#error "how does this architecture keep the number of the system call?"
#endif

/* How many use the psock while this program runs: the sockhash, and the send() that it runs in. */
#define SPLICE_ALONE 2

/* A reader that keeps its lock for so long is not waited for. It has it while it copies. */
#define SPLICE_HELD_NS 100000

/* Who is it that writes? The same process as last time, nearly always. */
static __always_inline void splice_note_writer(const struct pair_view *view,
					       struct task_struct *task)
{
	struct shunt_end *me = view->me;
	struct inode *inode;
	__u32 pid = task->tgid;

	if (me->pid == pid && me->program)
		return;
	inode = task->mm->exe_file->f_inode;
	me->pid = pid;
	if (inode)
		me->program = SHUNT_PROGRAM_KEY(inode->i_sb->s_dev, inode->i_ino);
	/* It may read otherwise than the one before: see splice_veto(). */
	__sync_lock_test_and_set(&view->peer->checked, 0);
	if (!scope_program(me->program))
		pair_event(SHUNT_EVENT_PROGRAM, pid, me->program);
}

/* Does the send() that this program runs in carry urgent data? Its flags are only to be had from
 * the registers that the system call was made with; io_uring's flags are not there. */
static __always_inline bool splice_urgent(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

	switch (SPLICE_REGS_CALL(regs)) {
	case __NR_sendto:
	case __NR_sendmmsg:
		return PT_REGS_PARM4_SYSCALL(regs) & MSG_OOB;
	case __NR_sendmsg:
		return PT_REGS_PARM3_SYSCALL(regs) & MSG_OOB;
	default:
		return false;
	}
}

/* Why this pair has to leave the sockhash: enum shunt_reason, 0 if it may stay. */
static __always_inline __u32 splice_veto(const struct pair_view *view, __u32 flags,
					 struct tcp_sock *me, struct tcp_sock *peer,
					 __u32 generation)
{
	struct shunt_pair *pair = view->pair;
	__u32 veto, before;
	__u64 client = pair->end[SHUNT_CLIENT].cgroup, server = pair->end[SHUNT_SERVER].cgroup;

	if (flags & SHUNT_PAIR_LEAVE)
		return pair->reason ? pair->reason : SHUNT_REASON_disabled;
	veto = tcp_veto_at(kernel_address(me));
	if (!veto)
		veto = tcp_veto_at(kernel_address(peer));
	if (veto || view->me->checked == generation)
		return veto;
	/* Said before the program is read: if there is another meanwhile, its word is the last. */
	before = __sync_lock_test_and_set(&view->me->checked, generation);
	veto = scope_program_veto(view->peer->program);
	/* A new agent looks at the programs anew; who was let in stays meanwhile. */
	if (veto == SHUNT_REASON_unknown_program && before)
		veto = SHUNT_REASON_none;
	if (!veto)
		veto = scope_veto(client, server,
				  pair->end[SHUNT_CLIENT].netns == pair->end[SHUNT_SERVER].netns,
				  flags & SHUNT_PAIR_SIDECAR);
	if (veto)
		view->me->checked = before;
	return veto;
}

/*
 * One more message of this direction, and the end of the other's run. Returns for how long this one
 * has run, in ns; ~0 where nobody asks.
 */
static __always_inline __u64 splice_note_run(const struct pair_view *view, __u32 size)
{
	struct shunt_end *me = view->me;

	if (view->peer->run_messages) {
		view->peer->run_messages = 0;
		view->peer->run_bytes = 0;
	}
	me->run_messages++;
	me->run_bytes += size;
	/* Who talks back and forth never gets to the second, and never asks for the time. */
	if (me->run_messages == 2)
		me->run_began = bpf_ktime_get_ns();
	else if (me->run_messages % SPLICE_STREAM_MESSAGES == 0)
		return bpf_ktime_get_ns() - me->run_began;
	return ~0ull;
}

/* Does this direction go on and on without an answer? With the message of @size that was noted. */
static __always_inline bool splice_is_stream(const struct pair_view *view, __u32 size,
					     __u64 elapsed)
{
	struct shunt_end *me = view->me;
	bool suspect;

	suspect = me->run_bytes > SPLICE_SUSPECT_BYTES && me->run_bytes > size &&
		  scope_program(view->peer->program) == SHUNT_PROGRAM_SUSPECT;
	return splice_streams(me->run_messages, me->run_bytes, elapsed, suspect);
}

static __always_inline void splice_account(const struct pair_view *view, __u32 size,
					   bool redirected)
{
	struct shunt_end *me = view->me;

	if (redirected) {
		me->spliced_messages++;
		me->spliced_bytes += size;
	} else {
		me->plain_messages++;
		me->plain_bytes += size;
	}
	stats_message(view->pair->row, size, redirected);
}

/* Both ends are to be passed by. */
static __always_inline void splice_tell(const struct pair_view *view, __u32 kind)
{
	pair_event(kind, view->peer->pid, 0);
	if (view->me->pid != view->peer->pid)
		pair_event(kind, view->me->pid, 0);
}

/* Carries out a change of state; false: somebody else changed it first. Seldom called: a function
 * of its own costs nothing, and the verifier less. */
static __noinline bool splice_turn(const struct pair_view *view,
				   const struct splice_verdict *verdict, __u32 from)
{
	struct shunt_end *me = view->me;

	if (from == SHUNT_STATE_SPILLED && verdict->state == SHUNT_STATE_SPLICED &&
	    pair_set(view->pair, 0) & SHUNT_PAIR_SETTLES << view->end)
		return false;
	if (!pair_turn(me, from, verdict->state))
		return false;
	switch (verdict->state) {
	case SHUNT_STATE_SPLICED:
		if (!me->cut_overs) {
			me->cut_overs++;
			count(SHUNT_COUNTER_splice_cut_over);
		} else {
			me->rejoins++;
			count(SHUNT_COUNTER_splice_rejoined);
			pair_watch(view, SHUNT_NOTICE_rejoined, view->end);
		}
		break;
	case SHUNT_STATE_SPILLED:
		me->spills++;
		count(SHUNT_COUNTER_splice_spilled);
		pair_watch(view, SHUNT_NOTICE_spilled, view->end);
		if (verdict->reason != SHUNT_REASON_spilled)
			pair_leave(view, verdict->reason);
		splice_tell(view, SHUNT_EVENT_SPILLED);
		break;
	default:
		pair_leave(view, verdict->reason);
		splice_tell(view, SHUNT_EVENT_LEFT);
		break;
	}
	return true;
}

/* Puts the message into the peer's queue. The peer may have closed: then it goes by TCP. */
static __always_inline bool splice_redirect(struct sk_msg_md *msg, const struct pair_view *view)
{
	struct shunt_end_key key = pair_end_key(view, !view->end);

	return bpf_msg_redirect_hash(msg, &shunt_ends, &key, BPF_F_INGRESS) == SK_PASS;
}

/* What may be queued for the peer, of which @wanted is asked for. One that might go over to
 * splice(2) gets no more than what it reads before it does. */
static __always_inline __u64 splice_room(const struct pair_view *view, struct tcp_sock *me,
					 struct tcp_sock *peer, const struct shunt_control *control,
					 __u64 wanted)
{
	bool locked = BPF_CORE_READ_BITFIELD(tcp_sk(peer), sk_userlocks) & SOCK_RCVBUF_LOCK;
	__u64 limit = splice_limit(tcp_sk(peer)->sk_rcvbuf, locked, tcp_sk(me)->sk_sndbuf,
				   control->queue_max);

	if (wanted > SPLICE_SUSPECT_BYTES && limit > SPLICE_SUSPECT_BYTES &&
	    scope_program(view->peer->program) == SHUNT_PROGRAM_SUSPECT)
		return SPLICE_SUSPECT_BYTES;
	return limit;
}

/*
 * Is the reader's lock held by a call that may not go on? Not so if that is a send() which looks at
 * the writer's lock, held here: the second of the two that looks goes on, and the first sees it.
 */
static __always_inline bool splice_held(const struct pair_view *view, struct tcp_sock *peer)
{
	__u32 looks = SHUNT_PAIR_LOOKS << view->end;
	bool held;

	if (!tcp_owned(peer))
		return false;
	held = !(pair_set(view->pair, looks) & SHUNT_PAIR_LOOKS << !view->end) &&
	       tcp_held(peer, SPLICE_HELD_NS);
	pair_clear(view->pair, looks);
	return held;
}

/* splice_decide() as a global function, as tcp_veto_at() is. */
__weak __noinline int splice_judge(const struct splice_view *view, struct splice_verdict *ret)
{
	if (!view || !ret)
		return -EINVAL;
	splice_decide(view, ret);
	return 0;
}

/* Returns whether the message was redirected. */
static __always_inline bool splice_send(struct sk_msg_md *msg, struct tcp_sock *me,
					const struct pair_view *view)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct shunt_control *control = pair_control();
	struct splice_verdict verdict;
	struct tcp_sock *peer;
	__u32 from = pair_state(view->me), flags = pair_flags(view->pair);
	__u8 state = tcp_sk(me)->__sk_common.skc_state;
	__u64 elapsed;

	splice_note_writer(view, task);
	if (!control || from == SHUNT_STATE_PLAIN || from == SHUNT_STATE_LEFT)
		return false;
	/* After the own shutdown(SHUT_WR) TCP has to refuse, and would not be asked. */
	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT)
		return false;
	/* What is at its address may be another socket by now. */
	if (flags & SHUNT_PAIR_CLOSED << !view->end) {
		count(SHUNT_COUNTER_splice_no_peer);
		return false;
	}
	peer = tcp_at(view->peer->sock);
	struct splice_view now = {
		.state = from,
		.veto = splice_veto(view, flags, me, peer, control->generation),
		.now = splice_urgent(task),
		/* Both count the same bytes, so this also says that all has arrived. Whether it was
		 * acknowledged too need not matter: on a pair that talks back and forth the
		 * acknowledgement waits for a segment that will not come. */
		.read = peer->copied_seq == me->write_seq && !splice_held(view, peer),
		.empty = tcp_queue_empty(peer),
		.alone = tcp_users(me) == SPLICE_ALONE,
		.size = msg->size,
		.queued = tcp_sk(peer)->sk_backlog.rmem_alloc.counter,
	};

	/* The reader's buffer is charged for the bytes alone. */
	if (now.empty)
		view->me->backlog = 0;
	if (now.queued < (__u64)view->me->backlog * SPLICE_MESSAGE_BYTES)
		now.queued = (__u64)view->me->backlog * SPLICE_MESSAGE_BYTES;
	now.limit = splice_room(view, me, peer, control, now.queued + now.size);

	if (now.now) {
		now.veto = SHUNT_REASON_urgent;
	} else {
		elapsed = splice_note_run(view, msg->size);
		if (!now.veto && splice_is_stream(view, msg->size, elapsed))
			now.veto = SHUNT_REASON_stream;
	}
	if (splice_judge(&now, &verdict))
		return false;
	if (verdict.state != from && !splice_turn(view, &verdict, from))
		return false;
	if (!verdict.redirect)
		return false;
	if (!splice_redirect(msg, view)) {
		count(SHUNT_COUNTER_splice_no_peer);
		return false;
	}
	view->me->backlog++;
	return true;
}

SEC("sk_msg")
int shunt_splice(struct sk_msg_md *msg)
{
	struct tcp_sock *me = msg->sk ? bpf_skc_to_tcp_sock(msg->sk) : NULL;
	struct pair_view view;

	/* The kernel runs this for a send() after the end of the connection too, of whose pair the
	 * memory may be another's. */
	if (!me || tcp_sk(me)->__sk_common.skc_state == BPF_TCP_CLOSE)
		return SK_PASS;
	if (!pair_find(tcp_numbers(me), tcp_likely_end(me), &view))
		return SK_PASS;
	splice_account(&view, msg->size, splice_send(msg, me, &view));
	return SK_PASS;
}
