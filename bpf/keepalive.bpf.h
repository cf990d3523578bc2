/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP's keep-alive timer, lent to a reader at the boundary between its two queues, so that sockops
 * runs for it although it has nothing to send.
 */
#pragma once

#include <linux/bpf.h>

#include "pair.bpf.h"
#include "socket.bpf.h"

/*
 * A reader that spliced bytes and then bytes of TCP wait for hears of both at once, and may stop at
 * the boundary. The agent sees it come there and kicks it; without an agent this does: TCP's own
 * keep-alive timer sends something every second, which runs sockops, until the socket is out.
 * A program that has keep-alive on for itself keeps its own pace.
 */
static __always_inline void keepalive_start(struct bpf_sock_ops *ctx, const struct pair_view *view,
					    struct tcp_sock *tp)
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

static __always_inline void keepalive_stop(struct bpf_sock_ops *ctx, const struct pair_view *view)
{
	__u32 probed = SHUNT_PAIR_PROBED << view->end;
	int off = 0;

	if (!(pair_clear(view->pair, probed) & probed))
		return;
	bpf_setsockopt(ctx, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof(off));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPIDLE, &view->me->keep_idle, sizeof(int));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPINTVL, &view->me->keep_interval, sizeof(int));
}
