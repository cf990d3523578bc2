/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Another's programs, which stand beside Shunt's: they count how often they run, and change
 * nothing. Reads from: their contexts. Writes to: other_seen; the flags of sockets, to be called
 * back.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define OTHER_SLOW_NS 50000000

enum other {
	OTHER_CONNECT,
	OTHER_PEERNAME,
	OTHER_ESTABLISHED,
	OTHER_CALLED_BACK, /* because it asked for it at OTHER_ESTABLISHED; so below */
	OTHER_SENDS,
	OTHER_MAX,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OTHER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} other_seen SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&other_seen, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("cgroup/connect4")
int other_connect4(struct bpf_sock_addr *ctx)
{
	count(OTHER_CONNECT);
	return 1;
}

static long other_busy(__u32 n, void *begin)
{
	return bpf_ktime_get_ns() - *(__u64 *)begin > OTHER_SLOW_NS;
}

/* As if its task had lost the processor for a while. */
SEC("cgroup/connect4")
int other_slow4(struct bpf_sock_addr *ctx)
{
	__u64 begin = bpf_ktime_get_ns();

	count(OTHER_CONNECT);
	bpf_loop(1 << 23, other_busy, &begin, 0);
	return 1;
}

SEC("cgroup/getpeername4")
int other_peername4(struct bpf_sock_addr *ctx)
{
	count(OTHER_PEERNAME);
	return 1;
}

SEC("sockops")
int other_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		count(OTHER_ESTABLISHED);
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags |
						       BPF_SOCK_OPS_RTT_CB_FLAG |
						       BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		count(OTHER_SENDS);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		count(OTHER_CALLED_BACK);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
