/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/connect4, connect6: sends a connection to the sidecar before any packet exists.
 * Reads from: shunt_cgroups, shunt_meshes, shunt_cidrs, shunt_owners, shunt_socks, the kernel's
 * routes.
 * Writes to: the destination and the source of the socket, shunt_socks, counters, shunt_watch.
 */
#include <linux/in.h>
#include <linux/in6.h>

#include "redirect.bpf.h"
#include "source.bpf.h"

/* Between two runs of the hook for one connect(), at the most: its task may lose the processor. */
#define CONNECT_AGAIN_NS 1000000000

/*
 * TCP to ::1 from another address. What the kernel answers without a socket (the last ACK in
 * TIME_WAIT, a RST) it routes to ::1 by the device that the source is an address of, where there is
 * no way (net/ipv6/tcp_ipv6.c, tcp_v6_send_response(); rt6_need_strict()): the sidecar's end stays
 * in LAST_ACK, and the next connection from that port is never answered.
 */
static __always_inline bool connect_loses_answers(struct bpf_sock_addr *ctx,
						  const struct shunt_sock *state)
{
	return ctx->protocol == IPPROTO_TCP && addr_family(state->actual.addr) == SHUNT_V6 &&
	       addr_loopback(state->actual.addr);
}

/*
 * Without more the kernel would choose 127.0.0.1 as the source on the way to the sidecar. The
 * socket is bound to what it would have chosen without Shunt, so that program and sidecar see the
 * same as without a proxy. The port is left open; a socket that has one was bound by its program,
 * which may have left the address open: then getsockname alone can tell the truth, as it has to on
 * the way to ::1.
 */
static __always_inline void connect_bind_source(struct bpf_sock_addr *ctx, struct shunt_sock *state)
{
	long r;

	if (ctx->sk->src_port || connect_loses_answers(ctx, state))
		return;
	if (ctx->family == AF_INET) {
		struct sockaddr_in source = {
			.sin_family = AF_INET,
			.sin_addr.s_addr = state->source[3],
		};

		r = bpf_bind(ctx, (struct sockaddr *)&source, sizeof(source));
	} else {
		struct sockaddr_in6 source = {.sin6_family = AF_INET6};

		addr_copy(source.sin6_addr.in6_u.u6_addr32, state->source);
		r = bpf_bind(ctx, (struct sockaddr *)&source, sizeof(source));
	}
	if (!r) {
		state->flags |= SHUNT_SOCK_BOUND;
		count(SHUNT_COUNTER_source_kept);
	}
}

/* Takes back what connect_bind_source() did for an earlier connect() that failed. */
static __always_inline void connect_unbind_source(struct bpf_sock_addr *ctx)
{
	if (ctx->family == AF_INET) {
		struct sockaddr_in any = {.sin_family = AF_INET};

		bpf_bind(ctx, (struct sockaddr *)&any, sizeof(any));
	} else {
		struct sockaddr_in6 any = {.sin6_family = AF_INET6};

		bpf_bind(ctx, (struct sockaddr *)&any, sizeof(any));
	}
}

/*
 * What stays as it is during one connect(), and the next finds changed. A connect() of TCP that
 * sent a SYN has chosen a sequence number, and what follows when it is over begins with another
 * (tcp_disconnect()); one of UDP has made the socket's peer.
 */
static __always_inline __u32 connect_attempt(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (ctx->protocol != IPPROTO_TCP)
		return sk->dst_port;
	return BPF_CORE_READ((struct tcp_sock *)kernel_sock(sk), write_seq);
}

/* Notes in the socket's own storage what the program dialled and where it goes instead. */
static __always_inline bool connect_remember(struct bpf_sock_addr *ctx,
					     const struct decide_query *query,
					     const struct redirect_answer *answer, bool source_open)
{
	struct shunt_sock *state;

	/* An earlier connect() may have left an entry: it is overwritten, never refused. */
	state = bpf_sk_storage_get(&shunt_socks, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return false;
	state->dialled = query->destination;
	state->actual = answer->target;
	state->mesh = answer->slot;
	state->row = answer->row;
	state->redirected_at = bpf_ktime_get_ns();
	state->attempt = connect_attempt(ctx);
	state->pid = bpf_get_current_pid_tgid() >> 32;
	state->flags = SHUNT_SOCK_REDIRECTED | (state->flags & SHUNT_SOCK_BOUND);
	if (!source_open)
		return true;
	if (source_foretell(source_sock(ctx->sk), query->destination.addr, state->source)) {
		count(SHUNT_COUNTER_source_unknown);
		return true;
	}
	state->flags |= SHUNT_SOCK_SOURCE;
	connect_bind_source(ctx, state);
	return true;
}

/*
 * The hook runs twice for one connect() where attachments overlap, as they do for an instant when
 * the agent moves them: the second run finds the work done. A program may also dial the sidecar
 * itself, on a socket that was sent there before. The time tells that apart where the first attempt
 * changed nothing: it failed before its SYN, or was undone (AF_UNSPEC, UDP).
 */
static __always_inline bool connect_runs_again(struct bpf_sock_addr *ctx,
					       const struct shunt_sock *before,
					       const struct decide_query *query)
{
	return before && before->flags & SHUNT_SOCK_REDIRECTED &&
	       endpoint_equal(&before->actual, &query->destination) &&
	       before->attempt == connect_attempt(ctx) &&
	       bpf_ktime_get_ns() - before->redirected_at < CONNECT_AGAIN_NS;
}

/* Returns the verdict of the hook; *@ret_redirected: @answer->target has to be written to the
 * context. */
static __always_inline int connect_decide(struct bpf_sock_addr *ctx, struct decide_query *query,
					  struct redirect_answer *answer, bool *ret_redirected)
{
	struct bpf_sock *sk = ctx->sk;
	enum shunt_outcome outcome;
	struct shunt_sock *before;
	bool bound_by_us = false, chosen_by_kernel;
	__be32 source[4];

	count(SHUNT_COUNTER_connect_seen);
	before = bpf_sk_storage_get(&shunt_socks, sk, NULL, 0);
	redirect_read_source(sk, source);
	if (before && before->flags & SHUNT_SOCK_BOUND && !sk->src_port)
		bound_by_us = true;
	chosen_by_kernel = redirect_chose_source(sk, before);
	query->protocol = ctx->protocol;
	query->source_loopback = !bound_by_us && !chosen_by_kernel && addr_loopback(source);

	if (connect_runs_again(ctx, before, query))
		return redirect_conclude(ctx, query, SHUNT_COUNTER_connect_redirected, before->row,
					 SHUNT_OUTCOME_already);

	outcome = redirect_decide(ctx, query, answer);
	if (before && bound_by_us)
		connect_unbind_source(ctx);
	if (outcome == SHUNT_OUTCOME_redirected &&
	    !connect_remember(ctx, query, answer,
			      bound_by_us || chosen_by_kernel || addr_unspecified(source)))
		outcome = redirect_no_memory(answer->slot);
	if (outcome == SHUNT_OUTCOME_redirected) {
		*ret_redirected = true;
		if (decide_is_dns(query))
			count(SHUNT_COUNTER_dns_redirected);
	} else if (before && !chosen_by_kernel) { /* it stays as it is where connect() fails */
		before->flags &= SHUNT_SOCK_BOUND;
	}
	return redirect_conclude(ctx, query, SHUNT_COUNTER_connect_redirected, answer->row,
				 outcome);
}

SEC("cgroup/connect4")
int shunt_connect4(struct bpf_sock_addr *ctx)
{
	struct redirect_answer answer = {};
	struct decide_query query = {};
	bool redirected = false;
	int verdict;

	redirect_read_v4(ctx, &query.destination);
	verdict = connect_decide(ctx, &query, &answer, &redirected);
	if (redirected)
		redirect_write_v4(ctx, &answer.target);
	return verdict;
}

SEC("cgroup/connect6")
int shunt_connect6(struct bpf_sock_addr *ctx)
{
	struct redirect_answer answer = {};
	struct decide_query query = {};
	bool redirected = false;
	int verdict;

	redirect_read_v6(ctx, &query.destination);
	verdict = connect_decide(ctx, &query, &answer, &redirected);
	if (redirected)
		redirect_write_v6(ctx, &answer.target);
	return verdict;
}
