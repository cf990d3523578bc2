/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the parts of sockops have in common: whether it splices, which ops it hears of, and what
 * connect has noted of a socket.
 */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>

#include "maps.bpf.h"
#include "pair.bpf.h"

/* Set before loading: the kernel has what splicing needs. Else all of it is left out of sockops,
 * and the verifier never sees it. */
const volatile bool sockops_splice = false;

/* Other programs' flags stay as they are. */
static __always_inline void sockops_subscribe(struct bpf_sock_ops *ctx, __u32 flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/*
 * What is sent by TCP is told from here on, until sockops_hear_no_sends(). A socket has one set of
 * flags for all programs: what another has asked for before is not Shunt's to take back.
 */
static __always_inline void sockops_hear_sends(struct bpf_sock_ops *ctx,
					       const struct pair_view *view)
{
	if (ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
		return;
	pair_set(view->pair, SHUNT_PAIR_HEARS << view->end);
	sockops_subscribe(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline void sockops_hear_no_sends(struct bpf_sock_ops *ctx,
						  const struct pair_view *view)
{
	__u32 hears = SHUNT_PAIR_HEARS << view->end;

	if (pair_clear(view->pair, hears) & hears)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags &
						       ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/* Has Shunt redirected the socket? What it has noted then, or NULL. */
static __always_inline struct shunt_sock *sockops_redirected(struct bpf_sock *sk)
{
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, sk, NULL, 0);

	return state && state->flags & SHUNT_SOCK_REDIRECTED ? state : NULL;
}
