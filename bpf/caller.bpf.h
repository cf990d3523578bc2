/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which program listens, and which dials: noted in its own listen() or connect(), for the handshake
 * is done in whatever task happens to run.
 */
#pragma once

#include <linux/bpf.h>

#include "scope.bpf.h"
#include "sockops.bpf.h"

/*
 * listen() and connect() run this, so the current task is the one that calls them. Of a socket that
 * was redirected it is known which process dialled, and the note is of the process, which is there
 * already unless this is its first connect().
 */
static __always_inline void caller_note(struct bpf_sock_ops *ctx)
{
	bool dials = ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB;
	struct task_struct *task = bpf_get_current_task_btf();
	struct shunt_control *control = pair_control();
	struct inode *inode = task->mm->exe_file->f_inode;
	struct shunt_listener caller = {.pid = task->tgid};
	struct shunt_listener *known = NULL;
	struct bpf_sock *sk = ctx->sk;
	__u64 key;

	if (!inode || !sk || (dials && !(control && control->splice)))
		return;
	caller.program = SHUNT_PROGRAM_KEY(inode->i_sb->s_dev, inode->i_ino);
	if (dials && sockops_redirected(sk)) {
		key = SHUNT_LISTENER_PROCESS(caller.pid);
		known = bpf_map_lookup_elem(&shunt_listeners, &key);
	} else {
		key = bpf_get_socket_cookie(ctx);
	}
	if (!known || known->program != caller.program)
		bpf_map_update_elem(&shunt_listeners, &key, &caller, BPF_ANY);
	if (!scope_program(caller.program))
		pair_event(SHUNT_EVENT_PROGRAM, caller.pid, caller.program);
}

/* Who dialled: it may be long until it writes. What was noted of the socket alone is of no more
 * use. */
static __always_inline void caller_take(struct bpf_sock_ops *ctx, const struct shunt_sock *state,
					struct shunt_end *ret)
{
	__u64 key = state ? SHUNT_LISTENER_PROCESS(state->pid) : bpf_get_socket_cookie(ctx);
	struct shunt_listener *caller = bpf_map_lookup_elem(&shunt_listeners, &key);

	if (!caller)
		return;
	ret->program = caller->program;
	ret->pid = caller->pid;
	if (!state)
		bpf_map_delete_elem(&shunt_listeners, &key);
}
