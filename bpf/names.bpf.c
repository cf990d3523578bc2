/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/getpeername4/6, getsockname4/6: a redirected program sees whom it dialled, and the source
 * address that it would have had.
 * Reads from: shunt_socks.
 * Writes to: the address that the program is given, counters.
 */
#include "redirect.bpf.h"

static __always_inline const struct shunt_endpoint *names_peer(struct bpf_sock_addr *ctx,
							       const struct shunt_endpoint *real)
{
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, ctx->sk, NULL, 0);

	if (!state || !(state->flags & SHUNT_SOCK_REDIRECTED) ||
	    !endpoint_equal(&state->actual, real))
		return NULL;
	count(SHUNT_COUNTER_getpeername_restored);
	return &state->dialled;
}

SEC("cgroup/getpeername4")
int shunt_peername4(struct bpf_sock_addr *ctx)
{
	const struct shunt_endpoint *peer;
	struct shunt_endpoint real;

	redirect_read_v4(ctx, &real);
	peer = names_peer(ctx, &real);
	if (peer)
		redirect_write_v4(ctx, peer);
	return 1;
}

SEC("cgroup/getpeername6")
int shunt_peername6(struct bpf_sock_addr *ctx)
{
	const struct shunt_endpoint *peer;
	struct shunt_endpoint real;

	redirect_read_v6(ctx, &real);
	peer = names_peer(ctx, &real);
	if (peer)
		redirect_write_v6(ctx, peer);
	return 1;
}

/*
 * Did the kernel choose @name for the way to the sidecar? A socket that was disconnected may have
 * been bound since; one that is connected elsewhere by now keeps what was chosen first.
 */
static __always_inline bool names_of_the_way(struct bpf_sock *sk, const struct shunt_sock *state,
					     const struct shunt_endpoint *name)
{
	struct shunt_endpoint peer;

	redirect_read_peer(sk, &peer);
	return peer.port && !addr_equal(name->addr, state->source) &&
	       (addr_loopback(name->addr) || endpoint_equal(&peer, &state->actual));
}

/* Puts *@name right; false if it is right already. The port is the kernel's own in either case. */
static __always_inline bool names_source(struct bpf_sock_addr *ctx, struct shunt_endpoint *name)
{
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, ctx->sk, NULL, 0);

	if (!state)
		return false;
	if (state->flags & SHUNT_SOCK_BOUND && ctx->sk->state == BPF_TCP_CLOSE &&
	    !ctx->sk->src_port) {
		/* Not connected any more. The kernel keeps the address, because Shunt bound it;
		 * without Shunt the socket would be unbound again. */
		name->addr[0] = name->addr[1] = name->addr[2] = name->addr[3] = 0;
	} else if (state->flags & SHUNT_SOCK_REDIRECTED && state->flags & SHUNT_SOCK_SOURCE &&
		   names_of_the_way(ctx->sk, state, name)) {
		addr_copy(name->addr, state->source);
	} else {
		return false;
	}
	count(SHUNT_COUNTER_getsockname_restored);
	return true;
}

SEC("cgroup/getsockname4")
int shunt_sockname4(struct bpf_sock_addr *ctx)
{
	struct shunt_endpoint name;

	redirect_read_v4(ctx, &name);
	if (names_source(ctx, &name))
		redirect_write_v4(ctx, &name);
	return 1;
}

SEC("cgroup/getsockname6")
int shunt_sockname6(struct bpf_sock_addr *ctx)
{
	struct shunt_endpoint name;

	redirect_read_v6(ctx, &name);
	if (names_source(ctx, &name))
		redirect_write_v6(ctx, &name);
	return 1;
}
