/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tp_btf/sock_recv_length: attached by the agent while some direction is spilled, or some reader
 * stranded, and only then, since it runs for every recv() of the host. Sees a reader come to the
 * boundary between what was spliced and what went by TCP, and asks the agent for its kick.
 * Reads from: shunt_pairs.
 * Writes to: shunt_pairs, counters, events.
 */
#include <linux/bpf.h>

#include <bpf/bpf_tracing.h>

#include "settle.bpf.h"

/* Of a connection that is over there may be no pair any more. */
static __always_inline bool reads_is_stranded(struct tcp_sock *me)
{
	return tcp_sk(me)->__sk_common.skc_state == BPF_TCP_CLOSE && tcp_users(me) &&
	       tcp_queue_empty(me) && settle_unread(me);
}

static __always_inline void reads_tell(void)
{
	pair_event(SHUNT_EVENT_WALK, bpf_get_current_pid_tgid() >> 32, 0);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(shunt_reads, struct sock *sk, int length, int flags)
{
	struct tcp_sock *me;
	struct pair_view view;
	__u32 kick;

	if (!sk->sk_user_data || !tcp_is(sk))
		return 0;
	me = bpf_skc_to_tcp_sock(sk);
	if (!me)
		return 0;
	if (reads_is_stranded(me)) {
		reads_tell();
		return 0;
	}
	if (!pair_find_unlocked(me, &view))
		return 0;
	if (pair_state(view.peer) != SHUNT_STATE_SPILLED || !tcp_queue_empty(me) ||
	    me->rcv_nxt == me->copied_seq)
		return 0;
	kick = SHUNT_PAIR_KICK << view.end;
	if (pair_set(view.pair, kick) & kick)
		return 0;
	count(SHUNT_COUNTER_splice_drained);
	reads_tell();
	return 0;
}
