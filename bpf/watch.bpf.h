/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Events for who watches: told only while somebody listens, and no more of a kind at a time than
 * can be read. Those of the agent's own work have a ring buffer of their own (pair_event), which
 * these cannot fill.
 */
#pragma once

#include <linux/in.h>

#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "shunt/flow.h"
#include "stats.bpf.h"

#define WATCH_INTERVAL_NS (1000000000 / SHUNT_NOTICES_RATE)

static __always_inline bool watch_wanted(void)
{
	__u32 zero = 0;
	struct shunt_control *control = bpf_map_lookup_elem(&shunt_control, &zero);

	return control && *(volatile __u32 *)&control->watch;
}

/* Room for an event of @kind, or NULL: it is not told, and counted. */
static __always_inline struct shunt_notice *watch_reserve(__u32 kind)
{
	struct shunt_pace *pace = bpf_map_lookup_elem(&shunt_paces, &kind);
	__u64 now = bpf_ktime_get_ns(), due;
	struct shunt_notice *notice;

	if (!pace)
		return NULL;
	due = pace->due > now ? pace->due : now;
	if (due - now > (SHUNT_NOTICES_BURST - 1ull) * WATCH_INTERVAL_NS) {
		__sync_fetch_and_add(&pace->lost, 1);
		count(SHUNT_COUNTER_events_limited);
		return NULL;
	}
	notice = bpf_ringbuf_reserve(&shunt_watch, sizeof(*notice), 0);
	if (!notice) {
		__sync_fetch_and_add(&pace->lost, 1);
		count(SHUNT_COUNTER_events_dropped);
		return NULL;
	}
	pace->due = due + WATCH_INTERVAL_NS;
	count(SHUNT_COUNTER_events_told);
	notice->at = now;
	notice->kind = kind;
	notice->lost = __sync_lock_test_and_set(&pace->lost, 0);
	notice->pad = 0;
	return notice;
}

/*
 * Tells of a pair as it is now. @what: WATCH_WHAT(kind, the end whose direction it is about). @tcp:
 * what TCP has counted at that end, or NULL. A global function, which the verifier checks once.
 */
#define WATCH_WHAT(kind, end) ((kind) | (end) << 8)
__weak __noinline int watch_tell_pair(const struct shunt_pair *pair, __u32 client, __u32 server,
				      __u32 what, const struct shunt_flow_tcp *tcp)
{
	struct shunt_notice *notice;
	__u32 end = what >> 8;

	if (!pair)
		return 0;
	notice = watch_reserve(what & 0xff);
	if (!notice)
		return 0;
	notice->end = end;
	notice->outcome = SHUNT_OUTCOME_MAX;
	notice->protocol = IPPROTO_TCP;
	notice->flow.key.client = client;
	notice->flow.key.server = server;
	notice->flow.pair = *pair;
	__builtin_memset(notice->flow.tcp, 0, sizeof(notice->flow.tcp));
	if (tcp && end == SHUNT_CLIENT)
		notice->flow.tcp[SHUNT_CLIENT] = *tcp;
	else if (tcp)
		notice->flow.tcp[SHUNT_SERVER] = *tcp;
	bpf_ringbuf_submit(notice, 0);
	return 0;
}

/* Tells of a connection that never was, or not as it should be. @address: of its struct sock. */
__weak __noinline int watch_tell_outcome(__u64 address, const struct shunt_endpoint *dialled,
					 __u32 kind, __u32 outcome, __u32 protocol)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct sock *sk = (struct sock *)address;
	struct shunt_notice *notice;
	struct shunt_end *client;

	if (!dialled)
		return 0;
	notice = watch_reserve(kind);
	if (!notice)
		return 0;
	notice->end = SHUNT_ENDS;
	notice->outcome = outcome;
	notice->protocol = protocol;
	__builtin_memset(&notice->flow, 0, sizeof(notice->flow));
	notice->flow.pair.dialled = *dialled;
	client = &notice->flow.pair.end[SHUNT_CLIENT];
	client->cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	client->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	client->pid = BPF_CORE_READ(task, tgid);
	notice->flow.pair.opened_at = notice->at;
	bpf_ringbuf_submit(notice, 0);
	return 0;
}
