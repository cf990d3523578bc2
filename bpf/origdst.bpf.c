/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/getsockopt, on the sidecars' cgroups: answers SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST on
 * an accepted socket as netfilter would. Every other option passes as the kernel answered it.
 * Reads from: shunt_pairs, shunt_socks.
 * Writes to: the option's value, counters.
 */
#include <linux/errno.h>

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>

#include "addr.bpf.h"
#include "maps.bpf.h"
#include "socket.bpf.h"
#include "stats.bpf.h"

/* netfilter refuses a buffer that is too small with EINVAL. */
static __always_inline int origdst_too_small(void)
{
	bpf_set_retval(-EINVAL);
	return 1;
}

static __always_inline int origdst_answer(struct bpf_sockopt *ctx, int size)
{
	ctx->optlen = size;
	bpf_set_retval(0);
	count(SHUNT_COUNTER_origdst_answered);
	return 1;
}

static __always_inline int origdst_answer_v4(struct bpf_sockopt *ctx,
					     const struct shunt_endpoint *dialled)
{
	struct sockaddr_in *name = ctx->optval;
	void *end = ctx->optval_end;

	if ((void *)(name + 1) > end)
		return origdst_too_small();
	__builtin_memset(name, 0, sizeof(*name));
	name->sin_family = AF_INET;
	name->sin_port = dialled->port;
	name->sin_addr.s_addr = dialled->addr[3];
	return origdst_answer(ctx, sizeof(*name));
}

static __always_inline int origdst_answer_v6(struct bpf_sockopt *ctx,
					     const struct shunt_endpoint *dialled)
{
	struct sockaddr_in6 *name = ctx->optval;
	void *end = ctx->optval_end;

	if ((void *)(name + 1) > end)
		return origdst_too_small();
	__builtin_memset(name, 0, sizeof(*name));
	name->sin6_family = AF_INET6;
	name->sin6_port = dialled->port;
	addr_copy(name->sin6_addr.in6_u.u6_addr32, dialled->addr);
	return origdst_answer(ctx, sizeof(*name));
}

/* The destination of the connection that the accepted socket @sk is the server's end of. */
static __always_inline const struct shunt_endpoint *origdst_dialled(struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tp = bpf_tcp_sock(sk);
	struct shunt_pair_key key;
	struct shunt_pair *pair;

	if (!tp)
		return NULL;
	/* As tcp_numbers(). The kernel holds the socket's lock: kernel/bpf/cgroup.c,
	 * __cgroup_bpf_run_filter_getsockopt(). */
	key.client = tp->rcv_nxt - (__u32)tp->bytes_received;
	key.server = tp->snd_una - (__u32)tp->bytes_acked;
	pair = bpf_map_lookup_elem(&shunt_pairs, &key);
	return pair && pair->flags & SHUNT_PAIR_REDIRECTED ? &pair->dialled : NULL;
}

/* The same for a connection that was reset: it is not in shunt_pairs any more, or not for long. */
static __always_inline const struct shunt_endpoint *origdst_kept(struct bpf_sock *sk)
{
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, sk, NULL, 0);

	return state && state->flags & SHUNT_SOCK_ACCEPTED ? &state->dialled : NULL;
}

SEC("cgroup/getsockopt")
int shunt_origdst(struct bpf_sockopt *ctx)
{
	const struct shunt_endpoint *dialled;
	bool v4;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6))
		return socket_pass_option(ctx);
	/* In this order: where it is kept the pair's memory may be another's. */
	dialled = ctx->sk ? origdst_kept(ctx->sk) : NULL;
	if (!dialled && ctx->sk)
		dialled = origdst_dialled(ctx->sk);
	if (!dialled) {
		count(SHUNT_COUNTER_origdst_unknown);
		return socket_pass_option(ctx);
	}
	/* A dual-stack listener's IPv4 connections are asked about at SOL_IP. */
	v4 = addr_v4_mapped(dialled->addr);
	if (v4 && ctx->level == SOL_IP)
		return origdst_answer_v4(ctx, dialled);
	if (!v4 && ctx->level == SOL_IPV6)
		return origdst_answer_v6(ctx, dialled);
	count(SHUNT_COUNTER_origdst_unknown);
	return socket_pass_option(ctx);
}
