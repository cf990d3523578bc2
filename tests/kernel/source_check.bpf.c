/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/connect4, connect6 for test_source.c: foretells the source and lets the connection go on.
 * Reads from: the kernel's routes and addresses.
 * Writes to: verdict and source, the answer for the connection that is being made.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "source.bpf.h"

int verdict;
__be32 source[4];

static __always_inline void foretell(struct bpf_sock_addr *ctx, const __be32 dst[4])
{
	verdict = source_foretell(source_sock(ctx->sk), dst, source);
}

SEC("cgroup/connect4")
int source_check4(struct bpf_sock_addr *ctx)
{
	__be32 dst[4] = {0, 0, bpf_htonl(0xffff), ctx->user_ip4};

	foretell(ctx, dst);
	return 1;
}

SEC("cgroup/connect6")
int source_check6(struct bpf_sock_addr *ctx)
{
	__be32 dst[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};

	foretell(ctx, dst);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
