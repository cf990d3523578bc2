/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pairs: found from either socket; their shared words, changed atomically.
 */
#pragma once

#include <linux/errno.h>

#include "maps.bpf.h"
#include "stats.bpf.h"
#include "tcp.bpf.h"
#include "watch.bpf.h"

#define PAIR_TRIES 4 /* to read numbers of a socket in use */

/* One end of a pair, as its own program sees it. */
struct pair_view {
	struct shunt_pair_key key;
	__u32 end; /* which one the socket is: enum shunt_end_index */
	struct shunt_pair *pair;
	struct shunt_end *me;
	struct shunt_end *peer;
};

static __always_inline void pair_view_set(struct pair_view *view, struct shunt_pair *pair,
					  __u32 end)
{
	view->pair = pair;
	view->end = end;
	if (end == SHUNT_CLIENT) {
		view->me = &pair->end[SHUNT_CLIENT];
		view->peer = &pair->end[SHUNT_SERVER];
	} else {
		view->me = &pair->end[SHUNT_SERVER];
		view->peer = &pair->end[SHUNT_CLIENT];
	}
}

/* The pair that a socket with these numbers is an end of. */
static __always_inline bool pair_find(struct tcp_numbers numbers, __u32 likely_end,
				      struct pair_view *ret)
{
	__u32 end = likely_end;
	struct shunt_pair *pair;

	ret->key = tcp_pair_key(numbers, end);
	pair = bpf_map_lookup_elem(&shunt_pairs, &ret->key);
	if (!pair) {
		end = !end;
		ret->key = tcp_pair_key(numbers, end);
		pair = bpf_map_lookup_elem(&shunt_pairs, &ret->key);
	}
	if (!pair)
		return false;
	pair_view_set(ret, pair, end);
	return true;
}

/* The pair of a socket that is not locked. Numbers that are read twice alike belong together: they
 * do not change over its life. */
static __always_inline bool pair_find_unlocked(struct tcp_sock *me, struct pair_view *ret)
{
	struct tcp_numbers numbers = tcp_numbers(me);

	for (int i = 0; i < PAIR_TRIES; i++) {
		struct tcp_numbers before = numbers;

		if (pair_find(numbers, tcp_likely_end(me), ret))
			return true;
		numbers = tcp_numbers(me);
		if (numbers.own == before.own && numbers.peer == before.peer)
			return false;
	}
	return false;
}

static __always_inline struct shunt_end_key pair_end_key(const struct pair_view *view, __u32 end)
{
	struct shunt_end_key key = {.pair = view->key, .end = end};

	return key;
}

static __always_inline __u32 pair_flags(struct shunt_pair *pair)
{
	return *(volatile __u32 *)&pair->flags;
}

static __always_inline __u32 pair_set(struct shunt_pair *pair, __u32 flags)
{
	return __sync_fetch_and_or(&pair->flags, flags);
}

static __always_inline __u32 pair_clear(struct shunt_pair *pair, __u32 flags)
{
	return __sync_fetch_and_and(&pair->flags, ~flags);
}

static __always_inline __u32 pair_state(struct shunt_end *end)
{
	return *(volatile __u32 *)&end->state;
}

static __always_inline struct shunt_control *pair_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&shunt_control, &zero);
}

/* Tells the agent; without one nobody listens and the ring buffer fills up, which is no harm. */
static __always_inline void pair_event(__u32 kind, __u32 pid, __u64 program)
{
	struct shunt_event event = {
		.kind = kind,
		.pid = pid,
		.program = program,
	};

	if (bpf_ringbuf_output(&shunt_events, &event, sizeof(event), 0))
		count(SHUNT_COUNTER_splice_events_lost);
}

/* Tells who watches. @end: whose direction it is about; SHUNT_ENDS: of both. */
static __always_inline void pair_watch(const struct pair_view *view, __u32 kind, __u32 end)
{
	if (watch_wanted())
		watch_tell_pair(view->pair, view->key.client, view->key.server,
				WATCH_WHAT(kind, end), NULL);
}

/* Changes @end's direction from one state to another; false if it was in another meanwhile. */
static __always_inline bool pair_turn(struct shunt_end *end, __u32 from, __u32 to)
{
	struct shunt_control *control;

	if (__sync_val_compare_and_swap(&end->state, from, to) != from)
		return false;
	if (from == to)
		return true;
	if (to == SHUNT_STATE_LEFT && from != SHUNT_STATE_READY) {
		end->leaves++;
		count(SHUNT_COUNTER_splice_left);
	}
	if (from == SHUNT_STATE_SPILLED || to == SHUNT_STATE_SPILLED) {
		control = pair_control();
		if (control)
			__sync_fetch_and_add(&control->spilled, to == SHUNT_STATE_SPILLED ? 1 : -1);
	}
	return true;
}

/* From now on this pair goes back to TCP, for @reason unless there is one already. */
static __always_inline void pair_leave(const struct pair_view *view, __u32 reason)
{
	if (pair_set(view->pair, SHUNT_PAIR_LEAVE) & SHUNT_PAIR_LEAVE)
		return;
	view->pair->reason = reason;
	stats_plain(view->pair->row, reason);
	pair_watch(view, SHUNT_NOTICE_left, SHUNT_ENDS);
}
