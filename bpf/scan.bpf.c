/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * iter/task_file: passes by every open file of the host, when the agent asks, and notes whose the
 * TCP sockets of enrolled cgroups are: of listeners that are older than the agent, or were passed
 * on, nobody has seen the program. And notes who the agent is.
 * Reads from: shunt_cgroups, shunt_programs. Writes to: shunt_listeners, shunt_control, events.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include "scope.bpf.h"

/* Whoever reads the scan is the agent. */
static __always_inline void scan_announce(struct shunt_control *control)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	task = BPF_CORE_READ(task, group_leader);
	control->agent_start = BPF_CORE_READ(task, start_boottime);
	control->agent = (__u64)task;
	control->announce = 0;
}

SEC("iter/task_file")
int shunt_scan(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct shunt_listener user = {};
	struct shunt_control *control = pair_control();
	struct shunt_cgroup *cgroup;
	struct socket *socket;
	struct inode *inode;
	struct sock *sk;
	__u64 id;

	if (control && control->announce)
		scan_announce(control);
	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	if (!sk || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	id = sk->sk_cgrp_data.cgroup->kn->id;
	cgroup = bpf_map_lookup_elem(&shunt_cgroups, &id);
	if (!cgroup || cgroup->role == SHUNT_ROLE_NONE || !task->mm)
		return 0;
	inode = task->mm->exe_file->f_inode;
	user.pid = task->tgid;
	user.program = SHUNT_PROGRAM_KEY(inode->i_sb->s_dev, inode->i_ino);
	id = bpf_get_socket_cookie(sk);
	bpf_map_update_elem(&shunt_listeners, &id, &user, BPF_ANY);
	if (!scope_program(user.program))
		pair_event(SHUNT_EVENT_PROGRAM, user.pid, user.program);
	return 0;
}
