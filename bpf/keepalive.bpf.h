/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP's keep-alive timer, lent to a reader at the boundary between its two queues, so that sockops
 * runs for it although it has nothing to send.
 */
#pragma once

#include <linux/bpf.h>

#include "pair.bpf.h"
#include "socket.bpf.h"

/* What it is set to, in seconds; and as many probes without an answer as there can be, for a reader
 * that waits is not to lose its connection by them. */
#define KEEPALIVE_LENT	1
#define KEEPALIVE_COUNT 127

/* The most that setsockopt() takes. What comes from a sysctl may be more. */
#define KEEPALIVE_MAX 32767

/* Lends an option; what it was, or the nearest that it can be put back to. @sk: here and below, the
 * context of sockops or the socket of a visit. */
static __always_inline int keepalive_lend(void *sk, int option, int value)
{
	int before = 0;

	bpf_getsockopt(sk, SOL_TCP, option, &before, sizeof(before));
	bpf_setsockopt(sk, SOL_TCP, option, &value, sizeof(value));
	return before < KEEPALIVE_MAX ? before : KEEPALIVE_MAX;
}

/* Puts an option back, unless the program has set it meanwhile. Returns whether it has. */
static __always_inline bool keepalive_put_back(void *sk, int option, int lent, int before)
{
	int now = lent;

	bpf_getsockopt(sk, SOL_TCP, option, &now, sizeof(now));
	if (now != lent)
		return true;
	bpf_setsockopt(sk, SOL_TCP, option, &before, sizeof(before));
	return false;
}

/*
 * A reader that spliced bytes and then bytes of TCP wait for hears of both at once, and may stop at
 * the boundary. The agent sees it come there and kicks it; without an agent this does: TCP's own
 * keep-alive timer sends something every second, which runs sockops, until the socket is out.
 * A program that has keep-alive on for itself keeps its own pace.
 */
static __always_inline void keepalive_start(void *sk, const struct pair_view *view,
					    struct tcp_sock *tp)
{
	__u32 probed = SHUNT_PAIR_PROBED << view->end;
	int on = 1;

	if (pair_flags(view->pair) & probed ||
	    tcp_sk(tp)->__sk_common.skc_flags &
		    1ul << bpf_core_enum_value(enum sock_flags, SOCK_KEEPOPEN))
		return;
	view->me->keep_idle = keepalive_lend(sk, TCP_KEEPIDLE, KEEPALIVE_LENT);
	view->me->keep_interval = keepalive_lend(sk, TCP_KEEPINTVL, KEEPALIVE_LENT);
	view->me->keep_count = keepalive_lend(sk, TCP_KEEPCNT, KEEPALIVE_COUNT);
	if (!bpf_setsockopt(sk, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)))
		pair_set(view->pair, probed);
}

static __always_inline void keepalive_stop(void *sk, const struct pair_view *view)
{
	__u32 probed = SHUNT_PAIR_PROBED << view->end;
	struct shunt_end *me = view->me;
	bool changed;
	int off = 0;

	if (!(pair_clear(view->pair, probed) & probed))
		return;
	changed = keepalive_put_back(sk, TCP_KEEPIDLE, KEEPALIVE_LENT, me->keep_idle);
	changed |= keepalive_put_back(sk, TCP_KEEPINTVL, KEEPALIVE_LENT, me->keep_interval);
	changed |= keepalive_put_back(sk, TCP_KEEPCNT, KEEPALIVE_COUNT, me->keep_count);
	/* Who sets these wants it on. */
	if (!changed)
		bpf_setsockopt(sk, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof(off));
}
