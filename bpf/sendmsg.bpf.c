/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/sendmsg4, sendmsg6: sends unconnected DNS queries to the mesh's DNS address, and the
 * sidecar's answers back so that they tell which server was asked.
 * Reads from: shunt_cgroups, shunt_meshes, shunt_cidrs, shunt_owners, shunt_resolvers, shunt_socks.
 * Writes to: destination and source of the datagram, shunt_resolvers, counters, shunt_watch.
 */
#include "redirect.bpf.h"

/* The number of @server on this socket, new or known. */
static __always_inline __u32 sendmsg_number(struct shunt_resolver_set *set,
					    const struct shunt_endpoint *server)
{
	__u32 number;

	for (number = 0; number < SHUNT_RESOLVERS_MAX; number++)
		if (number < set->used && endpoint_equal(&set->server[number], server))
			return number;

	/* Two threads that get here at once take two numbers; both are right for their answers. */
	number = __sync_fetch_and_add(&set->used, 1);
	if (number >= SHUNT_RESOLVERS_MAX) {
		/* Slot 0 stays: it is the one whose answers bear no number. */
		number = 1 + number % (SHUNT_RESOLVERS_MAX - 1);
		count(SHUNT_COUNTER_dns_resolver_dropped);
	}
	/* It is in range. The verifier has to be shown, and of the very copy that is the index. */
	barrier_var(number);
	set->server[number % SHUNT_RESOLVERS_MAX] = *server;
	return number;
}

/*
 * Notes which server the program asks. Returns the number that the datagram has to carry in its
 * source address (0: none), or negative errno.
 */
static __always_inline int sendmsg_remember(struct bpf_sock_addr *ctx,
					    const struct decide_query *query,
					    const struct redirect_answer *answer, bool source_open)
{
	struct shunt_resolvers *resolvers;
	struct shunt_resolver_set *set;

	resolvers =
		bpf_sk_storage_get(&shunt_resolvers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!resolvers)
		return -ENOMEM;
	set = addr_v4_mapped(query->destination.addr) ? &resolvers->set[SHUNT_V4]
						      : &resolvers->set[SHUNT_V6];
	set->actual = answer->target;
	if (source_open && answer->listener_covered)
		return sendmsg_number(set, &query->destination);

	/* The answer could not find its way back from a number: all servers share slot 0. */
	if (set->used && !endpoint_equal(&set->server[0], &query->destination))
		count(SHUNT_COUNTER_dns_resolver_shared);
	set->server[0] = query->destination;
	if (!set->used)
		set->used = 1;
	return 0;
}

static __always_inline bool sendmsg_bound_loopback(struct bpf_sock *sk)
{
	__be32 bound[4];

	redirect_read_source(sk, bound);
	return addr_loopback(bound) &&
	       !redirect_chose_source(sk, bpf_sk_storage_get(&shunt_socks, sk, NULL, 0));
}

/*
 * Is it for the peer that the socket is connected to? The hook runs for that where the call names
 * the peer, and always where it is IPv4-mapped. The socket gets answers from its peer alone: if
 * connect() left it alone, the sidecar's would never arrive.
 */
static __always_inline bool sendmsg_connected(struct bpf_sock *sk,
					      const struct shunt_endpoint *destination)
{
	struct shunt_endpoint peer;

	redirect_read_peer(sk, &peer);
	return sk->state == BPF_TCP_ESTABLISHED && endpoint_equal(&peer, destination);
}

/* What is to be changed of a datagram. */
struct sendmsg_change {
	bool redirected; /* to where redirect_decide() says, and … */
	__u32 number;	 /* … this is what its source address says; 0: nothing */
};

/* Returns the verdict of the hook. @source_open: the source address may be chosen. */
static __always_inline int sendmsg_decide(struct bpf_sock_addr *ctx, struct decide_query *query,
					  bool source_open, struct redirect_answer *answer,
					  struct sendmsg_change *ret)
{
	enum shunt_outcome outcome;
	int number;

	count(SHUNT_COUNTER_sendmsg_seen);
	query->protocol = ctx->protocol;
	query->source_loopback = sendmsg_bound_loopback(ctx->sk);
	query->connected = sendmsg_connected(ctx->sk, &query->destination);
	outcome = redirect_decide(ctx, query, answer);
	if (outcome == SHUNT_OUTCOME_redirected) {
		number = sendmsg_remember(ctx, query, answer, source_open);
		if (number < 0) {
			outcome = redirect_no_memory(answer->slot);
		} else {
			ret->number = number;
			ret->redirected = true;
			count(SHUNT_COUNTER_dns_redirected);
		}
	}
	return redirect_conclude(ctx, query, SHUNT_COUNTER_sendmsg_redirected, answer->row,
				 outcome);
}

/* Not if the socket is bound or the datagram names its source (IP_PKTINFO). */
static __always_inline bool sendmsg_source_open(struct bpf_sock_addr *ctx, const __be32 named[4])
{
	__be32 bound[4];

	redirect_read_source(ctx->sk, bound);
	return addr_unspecified(bound) && addr_unspecified(named);
}

static __always_inline void sendmsg_write_source_v6(struct bpf_sock_addr *ctx,
						    const __be32 source[4])
{
	ctx->msg_src_ip6[0] = source[0];
	ctx->msg_src_ip6[1] = source[1];
	ctx->msg_src_ip6[2] = source[2];
	ctx->msg_src_ip6[3] = source[3];
}

SEC("cgroup/sendmsg4")
int shunt_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct redirect_answer answer = {};
	struct sendmsg_change change = {};
	struct decide_query query = {};
	__be32 source[4];
	int verdict;

	redirect_read_v4(ctx, &query.destination);
	if (addr_token(query.destination.addr)) {
		ctx->msg_src_ip4 = query.destination.addr[3];
		count(SHUNT_COUNTER_dns_answered);
	}
	addr_set_v4(source, ctx->msg_src_ip4);
	verdict = sendmsg_decide(ctx, &query, sendmsg_source_open(ctx, source), &answer, &change);
	if (change.redirected)
		redirect_write_v4(ctx, &answer.target);
	if (change.number) {
		addr_set_token(source, SHUNT_V4, change.number);
		ctx->msg_src_ip4 = source[3];
	}
	return verdict;
}

SEC("cgroup/sendmsg6")
int shunt_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct redirect_answer answer = {};
	struct sendmsg_change change = {};
	struct decide_query query = {};
	__be32 source[4];
	int verdict;

	redirect_read_v6(ctx, &query.destination);
	if (addr_token(query.destination.addr)) {
		/* No interface has that address, so the answer goes to ::1, where it was asked
		 * from. */
		sendmsg_write_source_v6(ctx, query.destination.addr);
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(1);
		count(SHUNT_COUNTER_dns_answered);
	}
	source[0] = ctx->msg_src_ip6[0];
	source[1] = ctx->msg_src_ip6[1];
	source[2] = ctx->msg_src_ip6[2];
	source[3] = ctx->msg_src_ip6[3];
	verdict = sendmsg_decide(ctx, &query, sendmsg_source_open(ctx, source), &answer, &change);
	if (change.redirected)
		redirect_write_v6(ctx, &answer.target);
	if (change.number) {
		addr_set_token(source, SHUNT_V6, change.number);
		sendmsg_write_source_v6(ctx, source);
	}
	return verdict;
}
