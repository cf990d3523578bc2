/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/recvmsg4, recvmsg6: an answer of the sidecar's DNS comes, for the program, from the server
 * that was asked.
 * Reads from: shunt_resolvers (unconnected sockets), shunt_socks (connected ones).
 * Writes to: the sender's address that the program is given, counters.
 */
#include "redirect.bpf.h"

/* Whom @from speaks for, or NULL if it is what it says. */
static __always_inline const struct shunt_endpoint *recvmsg_asked(struct bpf_sock_addr *ctx,
								  const struct shunt_endpoint *from)
{
	struct shunt_resolvers *resolvers;
	struct shunt_resolver_set *set;
	struct shunt_sock *state;
	__u32 number;

	if (ctx->sk->state == BPF_TCP_ESTABLISHED) { /* for UDP: connected */
		state = bpf_sk_storage_get(&shunt_socks, ctx->sk, NULL, 0);
		if (state && state->flags & SHUNT_SOCK_REDIRECTED &&
		    endpoint_equal(&state->actual, from))
			return &state->dialled;
	}
	resolvers = bpf_sk_storage_get(&shunt_resolvers, ctx->sk, NULL, 0);
	if (!resolvers)
		return NULL;
	set = addr_v4_mapped(from->addr) ? &resolvers->set[SHUNT_V4] : &resolvers->set[SHUNT_V6];
	if (!set->used || from->port != set->actual.port)
		return NULL;
	number = addr_token(from->addr);
	if (!number)
		return addr_equal(from->addr, set->actual.addr) ? &set->server[0] : NULL;
	if (number >= SHUNT_RESOLVERS_MAX || number >= set->used)
		return NULL;
	return &set->server[number];
}

SEC("cgroup/recvmsg4")
int shunt_recvmsg4(struct bpf_sock_addr *ctx)
{
	const struct shunt_endpoint *asked;
	struct shunt_endpoint from;

	redirect_read_v4(ctx, &from);
	asked = recvmsg_asked(ctx, &from);
	if (asked) {
		redirect_write_v4(ctx, asked);
		count(SHUNT_COUNTER_dns_restored);
	}
	return 1;
}

SEC("cgroup/recvmsg6")
int shunt_recvmsg6(struct bpf_sock_addr *ctx)
{
	const struct shunt_endpoint *asked;
	struct shunt_endpoint from;

	redirect_read_v6(ctx, &from);
	asked = recvmsg_asked(ctx, &from);
	if (asked) {
		redirect_write_v6(ctx, asked);
		count(SHUNT_COUNTER_dns_restored);
	}
	return 1;
}
