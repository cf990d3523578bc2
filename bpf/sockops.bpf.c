/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockops: hands the original destination from the program's socket to the sidecar's accepted one.
 * The two ends find each other by the handshake's own sequence numbers: addresses do not identify a
 * connection, every network namespace has 127.0.0.1.
 * Reads from and writes to: shunt_socks, shunt_handover; writes counters.
 */
#include <linux/bpf.h>

#include "maps.bpf.h"
#include "stats.bpf.h"

/*
 * The client's end is done first: on loopback its ACK, which completes the server's end, is sent
 * after this. If the sidecar's accept queue is full the server's end may be done much later, so the
 * entry stays until it is taken or the connection is over.
 */
static __always_inline void sockops_offer(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_handover_key key = {.client = ctx->snd_nxt, .server = ctx->rcv_nxt};
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, sk, NULL, 0);
	struct shunt_handover value = {};

	/* Where attachments overlap this runs twice for one connection. */
	if (!state || !(state->flags & SHUNT_SOCK_REDIRECTED) || state->flags & SHUNT_SOCK_OFFERED)
		return;
	value.dialled = state->dialled;
	value.mesh = state->mesh;
	if (bpf_map_update_elem(&shunt_handover, &key, &value, BPF_ANY)) {
		count(SHUNT_COUNTER_origdst_full);
		return;
	}
	state->offered[0] = key.client;
	state->offered[1] = key.server;
	state->flags |= SHUNT_SOCK_OFFERED;
	/* Other programs' flags stay as they are. */
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(SHUNT_COUNTER_origdst_offered);
}

static __always_inline void sockops_take(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_handover_key key = {.client = ctx->rcv_nxt, .server = ctx->snd_nxt};
	struct shunt_handover *value = bpf_map_lookup_elem(&shunt_handover, &key);
	struct shunt_sock *state;

	if (!value)
		return;
	state = bpf_sk_storage_get(&shunt_socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (state) {
		state->dialled = value->dialled;
		state->mesh = value->mesh;
		state->flags = SHUNT_SOCK_ACCEPTED;
		count(SHUNT_COUNTER_origdst_taken);
	} else {
		count(SHUNT_COUNTER_origdst_no_memory);
	}
	bpf_map_delete_elem(&shunt_handover, &key);
}

/* TCP_CLOSE also is the end of FIN_WAIT2: the client's program may have closed long before the
 * sidecar accepts, and the sidecar still wants to know. */
static __always_inline void sockops_withdraw(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct shunt_sock *state = bpf_sk_storage_get(&shunt_socks, sk, NULL, 0);
	struct shunt_handover_key key;

	if (!state || !(state->flags & SHUNT_SOCK_OFFERED))
		return;
	key.client = state->offered[0];
	key.server = state->offered[1];
	state->flags &= ~SHUNT_SOCK_OFFERED;
	if (!bpf_map_delete_elem(&shunt_handover, &key))
		count(SHUNT_COUNTER_origdst_withdrawn);
}

/* The reply of ops that ask for one is left as it is: another program may have given it. */
SEC("sockops")
int shunt_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;

	switch (ctx->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			break;
		return 1;
	default:
		return 1;
	}
	sk = ctx->sk;
	if (!sk)
		return 1;
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		sockops_offer(ctx, sk);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		sockops_take(ctx, sk);
	else
		sockops_withdraw(ctx, sk);
	return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
