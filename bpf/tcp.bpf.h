/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel knows of a TCP socket: its own numbers, its queues, its program's wishes.
 *
 * A struct tcp_sock * here is one that the verifier knows the type of, so that its fields are plain
 * loads: from bpf_skc_to_tcp_sock() for a socket of the context, from tcp_at() for one known by its
 * address.
 */
#pragma once

#include <stdbool.h>

#include <linux/in.h>

#include "kernel.bpf.h"
#include "shunt/abi.h"

#define TCP_O_NONBLOCK 04000   /* asm-generic/fcntl.h; the same on x86, arm64, s390 and riscv */
#define TCP_PSOCK_MASK (~7ull) /* flags in the low bits of sk_user_data: <net/sock.h> */

#define TCP_LOOKS 2048 /* at most, at a lock that is held */

#define TCP_SOCK_STREAM 1 /* linux/net.h; the same on x86, arm64, s390 and riscv */

/* TCP alone: of the kernel's own test, bpf_skc_to_tcp_sock(), raw sockets and those of IPsec's
 * netlink are TCP too, by their protocol's number. They are smaller. */
static __always_inline bool tcp_is(struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_TCP && sk->sk_type == TCP_SOCK_STREAM;
}

/* The TCP socket behind an open file, or NULL. */
static __always_inline struct sock *tcp_of_file(struct file *file)
{
	struct socket *socket = file ? bpf_sock_from_file(file) : NULL;
	struct sock *sk = socket ? socket->sk : NULL;

	return sk && tcp_is(sk) ? sk : NULL;
}

static __always_inline struct tcp_sock *tcp_at(__u64 address)
{
	return bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct tcp_sock));
}

static __always_inline struct sock *tcp_sk(struct tcp_sock *tp)
{
	return (struct sock *)tp;
}

/*
 * The first sequence numbers of a connection, from either of its sockets at any time: what has been
 * acknowledged or received grows by the same steps as the sequence number does. The SYN of the end
 * that dialled counts as acknowledged, so for that end .own is one less than for the other.
 * The socket must be locked, or the two may not belong together.
 */
struct tcp_numbers {
	__u32 own;
	__u32 peer;
};

static __always_inline struct tcp_numbers tcp_numbers(struct tcp_sock *tp)
{
	struct tcp_numbers numbers = {
		.own = tp->snd_una - (__u32)tp->bytes_acked,
		.peer = tp->rcv_nxt - (__u32)tp->bytes_received,
	};

	return numbers;
}

/* The key of the pair, if the socket is its @end. */
static __always_inline struct shunt_pair_key tcp_pair_key(struct tcp_numbers numbers, __u32 end)
{
	struct shunt_pair_key key;

	if (end == SHUNT_CLIENT) {
		key.client = numbers.own + 1;
		key.server = numbers.peer;
	} else {
		key.client = numbers.peer;
		key.server = numbers.own;
	}
	return key;
}

/* Which end it most likely is: an accepted socket has its listener's backlog. */
static __always_inline __u32 tcp_likely_end(struct tcp_sock *tp)
{
	return tcp_sk(tp)->sk_max_ack_backlog ? SHUNT_SERVER : SHUNT_CLIENT;
}

/*
 * Can its program's calls block? Not so if it has not been accepted yet. The kernel's own sockets
 * have no file: their users take the place where the kernel keeps a member's psock (nvme-tcp), and
 * are none that splicing is for.
 */
static __always_inline bool tcp_blocking(struct tcp_sock *tp)
{
	struct socket *socket = tcp_sk(tp)->sk_socket;

	return socket && (!socket->file || !(socket->file->f_flags & TCP_O_NONBLOCK));
}

/* Has its program mapped it, as it does before TCP_ZEROCOPY_RECEIVE? */
static __always_inline bool tcp_mapped(struct tcp_sock *tp)
{
	struct socket *socket = tcp_sk(tp)->sk_socket;
	struct file *file = socket ? socket->file : NULL;

	return file && file->f_mapping->i_mmap.rb_root.rb_node;
}

/* Has its program closed it? Not so one that waits to be accepted. */
static __always_inline bool tcp_orphan(struct tcp_sock *tp)
{
	return tcp_sk(tp)->__sk_common.skc_flags &
	       1ul << bpf_core_enum_value(enum sock_flags, SOCK_DEAD);
}

/* Has its peer's FIN arrived? */
static __always_inline bool tcp_done(struct tcp_sock *tp)
{
	return tcp_sk(tp)->__sk_common.skc_flags &
	       1ul << bpf_core_enum_value(enum sock_flags, SOCK_DONE);
}

static __always_inline struct sk_psock *tcp_psock(struct tcp_sock *tp)
{
	__u64 psock = (__u64)tcp_sk(tp)->sk_user_data & TCP_PSOCK_MASK;

	return bpf_rdonly_cast((void *)psock, bpf_core_type_id_kernel(struct sk_psock));
}

/* Does nothing spliced lie unread at the socket? */
static __always_inline bool tcp_queue_empty(struct tcp_sock *tp)
{
	__u64 psock = (__u64)tcp_sk(tp)->sk_user_data & TCP_PSOCK_MASK;
	__u64 list = psock + bpf_core_field_offset(struct sk_psock, ingress_msg);

	return !psock || (__u64)tcp_psock(tp)->ingress_msg.next == list;
}

/* How many use the socket's psock: the sockhash, and each send() or recv() that is under way. */
static __always_inline int tcp_users(struct tcp_sock *tp)
{
	return tcp_psock(tp)->refcnt.refs.counter;
}

/* A global function, which the verifier checks once. */
__weak __noinline int tcp_stays_held(__u64 sock, __u64 ns)
{
	volatile int *owned = &tcp_sk(tcp_at(sock))->sk_lock.owned;
	__u64 end = bpf_ktime_get_ns() + ns;

	for (int i = 0; i < TCP_LOOKS; i++) {
		if (!*owned)
			return 0;
		if (bpf_ktime_get_ns() > end)
			break;
	}
	return 1;
}

/* Has a system call the socket's lock? */
static __always_inline bool tcp_owned(struct tcp_sock *tp)
{
	return *(volatile int *)&tcp_sk(tp)->sk_lock.owned;
}

/* … and keeps it for longer than one does that goes on? It may wait for memory: a page of a file
 * whose server does not answer. @ns: how long it is looked at. */
static __always_inline bool tcp_held(struct tcp_sock *tp, __u64 ns)
{
	return tcp_owned(tp) && tcp_stays_held(kernel_address(tp), ns);
}

/* What of the socket speaks against splicing, for as long as it is so: enum shunt_reason. */
static __always_inline __u32 tcp_veto(struct tcp_sock *tp)
{
	struct sock *sk = tcp_sk(tp);
	unsigned long flags = sk->__sk_common.skc_flags;

	if (tcp_blocking(tp))
		return SHUNT_REASON_blocking;
	if (flags & 1ul << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY) || tcp_mapped(tp))
		return SHUNT_REASON_zerocopy;
	if (flags & 1ul << bpf_core_enum_value(enum sock_flags, SOCK_URGINLINE))
		return SHUNT_REASON_urgent;
	if (sk->sk_rcvlowat > 1)
		return SHUNT_REASON_lowat;
	if (((struct inet_connection_sock *)tp)->icsk_ulp_ops)
		return SHUNT_REASON_ulp;
	if (flags & 1ul << bpf_core_enum_value(enum sock_flags, SOCK_RCVTSTAMP) || sk->sk_tsflags ||
	    BPF_CORE_READ_BITFIELD(tp, recvmsg_inq) || sk->sk_peek_off >= 0)
		return SHUNT_REASON_stamps;
	if (BPF_CORE_READ_BITFIELD(tp, repair))
		return SHUNT_REASON_repair;
	return SHUNT_REASON_none;
}

/*
 * The same as a global function: the verifier checks it once, and its caller for one unknown answer
 * and not for each there is. @sock: a socket's address. Not for who is loaded without splicing too:
 * a kernel that cannot splice may not know the function that tcp_at() calls.
 */
__weak __noinline __u32 tcp_veto_at(__u64 sock)
{
	return tcp_veto(tcp_at(sock));
}
