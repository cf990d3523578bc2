/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few kernel structs that are read, by CO-RE: only the members named here matter. */
#pragma once

#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "cast.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	atomic_t refs;
} refcount_t;

struct sock_common {
	atomic64_t skc_cookie;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	refcount_t skc_refcnt;
	struct sock *skc_listener; /* of a request socket */
};

struct super_block {
	__u32 s_dev;
};

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct rb_root {
	struct rb_node *rb_node;
};

struct rb_root_cached {
	struct rb_root rb_root;
};

struct address_space {
	struct rb_root_cached i_mmap;
};

struct file {
	unsigned int f_flags;
	struct inode *f_inode;
	struct address_space *f_mapping;
};

struct socket {
	struct file *file;
	struct sock *sk;
};

typedef struct {
	int owned; /* by a system call */
} socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	struct sock_cgroup_data sk_cgrp_data;
	struct socket *sk_socket;
	void *sk_user_data;
	int sk_rcvbuf;
	int sk_sndbuf;
	int sk_rcvlowat;
	int sk_err;
	int sk_peek_off;
	__u32 sk_max_ack_backlog;
	__u32 sk_tsflags;
	__u16 sk_type;
	__u16 sk_protocol;
	unsigned char sk_userlocks : 4;
};

struct ipv6_pinfo {
	int ucast_oif;
};

struct inet_sock {
	struct ipv6_pinfo *pinet6;
	int uc_index;
};

enum sock_flags {
	SOCK_DEAD,
	SOCK_DONE,
	SOCK_URGINLINE,
	SOCK_KEEPOPEN,
	SOCK_RCVTSTAMP,
	SOCK_ZEROCOPY
};

struct inet_connection_sock {
	void *icsk_ulp_ops;
};

struct tcp_sock {
	__u32 snd_una;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 data_segs_out;
	__u32 srtt_us; /* eighths */
	__u64 bytes_acked;
	__u64 bytes_received;
	__u8 recvmsg_inq : 1;
	__u8 repair : 1;
};

struct request_sock {
	struct sock_common __req_common;
};

struct bpf_sock_ops_kern {
	struct sock *sk;
};

struct tcp_request_sock {
	__u32 rcv_isn;
	__u32 snt_isn;
};

struct list_head {
	struct list_head *next;
};

struct sk_psock {
	struct list_head ingress_msg;
	refcount_t refcnt;
};

struct mm_struct {
	struct file *exe_file;
};

struct task_struct {
	int pid;
	int tgid;
	int exit_state;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct task_struct *group_leader;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/*
 * The address behind a pointer that the verifier guards, as a number: it lets nobody compute with
 * the pointer itself, but it may be stored, and what is loaded is a plain number.
 */
static __always_inline __u64 kernel_address(void *pointer)
{
	void *volatile stored = pointer;

	return CAST_LOAD(__u64, &stored);
}

/* The kernel's struct sock behind a socket of the BPF context. */
static __always_inline struct sock *kernel_sock(struct bpf_sock *sk)
{
	return (struct sock *)kernel_address(sk);
}
