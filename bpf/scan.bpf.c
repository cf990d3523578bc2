/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * iter/task_file: passes by every open file of the host, when the agent asks, and notes whose the
 * TCP sockets of enrolled cgroups are, or the listeners among them alone: of those that are older
 * than the agent, or were passed on, nobody has seen the program. And notes who the agent is.
 * Reads from: shunt_cgroups, shunt_programs. Writes to: shunt_listeners, shunt_control, events.
 */
#include <linux/bpf.h>

#include "scope.bpf.h"

/* Written by the agent before each scan: not listeners alone. Of connections the notes are for
 * those that are older than the agent; there may be so many that they push listeners' out. */
__u32 scan_everything = 0;

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
	struct shunt_listener user = {}, *known;
	struct shunt_control *control = pair_control();
	struct shunt_cgroup *cgroup;
	struct inode *inode;
	struct sock *sk;
	__u64 id;

	if (control && control->announce)
		scan_announce(control);
	sk = task ? tcp_of_file(ctx->file) : NULL;
	if (!sk || (!scan_everything && sk->__sk_common.skc_state != BPF_TCP_LISTEN))
		return 0;
	id = sk->sk_cgrp_data.cgroup->kn->id;
	cgroup = bpf_map_lookup_elem(&shunt_cgroups, &id);
	if (!cgroup || cgroup->role == SHUNT_ROLE_NONE || !task->mm)
		return 0;
	inode = task->mm->exe_file->f_inode;
	user.pid = task->tgid;
	user.program = SHUNT_PROGRAM_KEY(inode->i_sb->s_dev, inode->i_ino);
	id = bpf_get_socket_cookie(sk);
	known = bpf_map_lookup_elem(&shunt_listeners, &id);
	if (known && known->program == user.program)
		user.accepts = known->accepts;
	bpf_map_update_elem(&shunt_listeners, &id, &user, BPF_ANY);
	if (!scope_program(user.program))
		pair_event(SHUNT_EVENT_PROGRAM, user.pid, user.program);
	return 0;
}
