/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket calls' numbers, as far as they are needed: the C library's headers, which have them,
 * cannot be included here. And what hooks of socket options do with those that are not theirs.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define AF_INET	 2
#define AF_INET6 10

#define SOL_IP	   0
#define SOL_SOCKET 1 /* on x86, arm64, s390 and riscv, as what follows */
#define SOL_TCP	   6
#define SOL_IPV6   41

#define SO_KEEPALIVE	9
#define SO_RCVLOWAT	18
#define SO_ORIGINAL_DST 80 /* <linux/netfilter_ipv4.h>; IP6T_SO_ORIGINAL_DST is the same number */

#define TCP_KEEPIDLE		  4
#define TCP_KEEPINTVL		  5
#define TCP_KEEPCNT		  6
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* <linux/bpf.h> of newer kernels */

/* The kernel copies no more than a page of the value to the program and back. Above that it may
 * only be told to leave the value alone: Documentation/bpf/prog_cgroup_sockopt.rst. */
#define SOCKET_OPTION_PAGE 4096

/* Not Shunt's option: the kernel does, or answers, what was asked for. */
static __always_inline int socket_pass_option(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > SOCKET_OPTION_PAGE)
		ctx->optlen = 0;
	return 1;
}
