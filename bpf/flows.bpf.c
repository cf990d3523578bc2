/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * iter/bpf_map_elem and iter/task_file: what there is to tell of connections, when the agent asks:
 * each pair with what TCP counts at its ends, and which process has which socket open.
 * Reads from: shunt_pairs, the sockets of both ends, open files. Writes to: user space.
 *
 * Here no socket is locked, and one that is closed may be gone. It is read by checked reads alone,
 * which every kernel has that has iterators: whether or not it can splice, its connections are
 * told.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include "pair.bpf.h"
#include "shunt/flow.h"

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *key;
	void *value;
} __attribute__((preserve_access_index));

/* Reads what TCP counts, if the socket at @address still is this end of the pair: it has its
 * numbers, which no other socket has. */
static __always_inline bool flows_read_tcp(__u64 address, const struct shunt_pair_key *key,
					   __u32 end, struct shunt_flow_tcp *ret)
{
	struct tcp_sock *tp = (struct tcp_sock *)address;
	struct shunt_pair_key found;
	struct tcp_numbers numbers;

	ret->bytes_acked = BPF_CORE_READ(tp, bytes_acked);
	ret->bytes_received = BPF_CORE_READ(tp, bytes_received);
	numbers.own = BPF_CORE_READ(tp, snd_una) - (__u32)ret->bytes_acked;
	numbers.peer = BPF_CORE_READ(tp, rcv_nxt) - (__u32)ret->bytes_received;
	found = tcp_pair_key(numbers, end);
	return found.client == key->client && found.server == key->server;
}

static __always_inline void flows_describe_end(const struct shunt_end *end,
					       const struct shunt_pair_key *key, __u32 index,
					       struct shunt_flow_tcp *ret)
{
	struct tcp_sock *tp = (struct tcp_sock *)end->sock;
	__u64 done = bpf_core_enum_value(enum sock_flags, SOCK_DONE);
	struct sock *sk = (struct sock *)end->sock;

	/* Numbers of a socket in use are torn now and then; three times in a row is rare. */
	if (!sk || !(flows_read_tcp(end->sock, key, index, ret) ||
		     flows_read_tcp(end->sock, key, index, ret) ||
		     flows_read_tcp(end->sock, key, index, ret))) {
		__builtin_memset(ret, 0, sizeof(*ret));
		return;
	}
	ret->rtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;
	ret->fin_received = BPF_CORE_READ(sk, __sk_common.skc_flags) >> done & 1;
	ret->state = BPF_CORE_READ(sk, __sk_common.skc_state);
}

SEC("iter/bpf_map_elem")
int shunt_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	struct shunt_flow_tcp tcp[SHUNT_ENDS] = {};
	const struct shunt_pair *pair = ctx->value;
	const struct shunt_pair_key *at = ctx->key;
	struct seq_file *seq = ctx->meta->seq;
	struct shunt_pair_key key;

	if (!pair || !at)
		return 0;
	key = *at;
	flows_describe_end(&pair->end[SHUNT_CLIENT], &key, SHUNT_CLIENT, &tcp[SHUNT_CLIENT]);
	flows_describe_end(&pair->end[SHUNT_SERVER], &key, SHUNT_SERVER, &tcp[SHUNT_SERVER]);
	/* What does not fit the buffer any more is taken back whole; the next read writes it. */
	bpf_seq_write(seq, &key, sizeof(key));
	bpf_seq_write(seq, (void *)pair, sizeof(*pair));
	bpf_seq_write(seq, tcp, sizeof(tcp));
	return 0;
}

SEC("iter/task_file")
int shunt_users(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct shunt_user user = {};
	struct sock *sk = task ? tcp_of_file(ctx->file) : NULL;
	struct sock *volatile stored;

	if (!sk)
		return 0;
	/* As kernel_address(), which without the JIT is not to be had in a program of this type. */
	stored = sk;
	bpf_probe_read_kernel(&user.sock, sizeof(user.sock), (const void *)&stored);
	user.pid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &user, sizeof(user));
	return 0;
}
