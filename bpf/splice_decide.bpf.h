/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the next message of one direction goes: the decision itself, without a helper. sk_msg, the
 * unit tests and the model compile this same text. docs/SPLICING.md says why each guard is there.
 */
#pragma once

#include <stdbool.h>

#include <linux/types.h>

#include "shunt/abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* A direction that goes on for so long without an answer is a stream. */
#define SPLICE_STREAM_BYTES    (4 << 20)
#define SPLICE_STREAM_MESSAGES 64
#define SPLICE_STREAM_NS       100000 /* a message; fewer of them do not load anybody */
/* A reader that might go over to splice(2) does so only after several full buffers in a row
 * (HAProxy: three of 16 KiB). */
#define SPLICE_SUSPECT_BYTES   32768

/* A message takes memory of its own beside its bytes: struct sk_msg, 712 bytes on 6.18. A part of
 * it is counted: TCP joins small messages, and takes many more than all of it would let in. */
#define SPLICE_MESSAGE_BYTES 256

/* What the writer sees, holding its socket's lock, before a message goes. */
struct splice_view {
	__u32 state;  /* enum shunt_state */
	__u32 veto;   /* enum shunt_reason: why this pair is to go back to TCP; 0: it is not */
	bool now;     /* … without waiting for an empty moment */
	bool read;    /* the peer's program has read all that was written by TCP */
	bool empty;   /* nothing spliced lies unread at the peer */
	bool alone;   /* no other send() on this socket is under way */
	__u32 size;   /* of the message, in bytes */
	__u64 queued; /* charged to the peer's receive buffer, in bytes */
	__u64 limit;  /* what may be */
};

struct splice_verdict {
	__u32 state;
	__u32 reason; /* of the change, if there is one */
	bool redirect;
};

/*
 * Spliced bytes are read before those of TCP. So nothing may be spliced before all that went by TCP
 * is read (it would be overtaken), and nothing should go by TCP before all that was spliced is read
 * (a reader that takes a short read for the last one would not come back). The second cannot always
 * be had: then the direction is SPILLED, and its reader owed an edge.
 */
static __always_inline void splice_decide(const struct splice_view *view,
					  struct splice_verdict *ret)
{
	bool quiet = view->empty && view->alone;

	ret->state = view->state;
	ret->reason = view->veto;
	ret->redirect = false;

	switch (view->state) {
	case SHUNT_STATE_READY: /* nothing was spliced since it became ready: nothing to wait for */
		if (!ret->reason && !view->read)
			ret->reason = SHUNT_REASON_behind;
		if (!ret->reason && view->size > view->limit)
			ret->reason = SHUNT_REASON_big;
		ret->redirect = !ret->reason;
		ret->state = ret->redirect ? SHUNT_STATE_SPLICED : SHUNT_STATE_LEFT;
		return;
	case SHUNT_STATE_SPILLED:
		if (!view->veto && view->read && view->queued + view->size <= view->limit) {
			ret->state = SHUNT_STATE_SPLICED;
			ret->redirect = true;
		} else if (quiet) {
			ret->state = SHUNT_STATE_LEFT;
			ret->reason = view->veto ? view->veto : SHUNT_REASON_spilled;
		}
		return;
	case SHUNT_STATE_SPLICED:
		if (!ret->reason && view->size > view->limit)
			ret->reason = SHUNT_REASON_big;
		if (ret->reason && quiet) {
			ret->state = SHUNT_STATE_LEFT;
		} else if (view->now || !view->read || view->queued + view->size > view->limit) {
			/* Unread: of a send() that began before its socket was let in. */
			if (!ret->reason)
				ret->reason = SHUNT_REASON_spilled;
			ret->state = SHUNT_STATE_SPILLED;
		} else {
			ret->redirect = true;
		}
		return;
	default:
		return;
	}
}

/*
 * What may be queued for a reader, in bytes. TCP's window cannot be taken back, so what is spliced
 * comes on top of what TCP will accept once it has spilled: a tenth of that is the most that a
 * writer may notice, and half as much where the program has fixed the buffer (@locked), for then
 * what is queued also keeps TCP's window from growing. @rcvbuf: of the reader; @sndbuf: of the
 * writer; half of @rcvbuf is payload.
 */
static __always_inline __u64 splice_limit(__u32 rcvbuf, bool locked, __u32 sndbuf, __u32 queue_max)
{
	__u64 limit = ((__u64)rcvbuf / 2 + sndbuf) / (locked ? 20 : 10);

	if (limit > rcvbuf)
		limit = rcvbuf;
	return limit < queue_max ? limit : queue_max;
}

/* Is a direction with this much since the other one's last message a stream? @elapsed in ns. */
static __always_inline bool splice_streams(__u32 messages, __u64 bytes, __u64 elapsed, bool suspect)
{
	if (suspect && bytes > SPLICE_SUSPECT_BYTES)
		return true;
	return bytes > SPLICE_STREAM_BYTES ||
	       (messages >= SPLICE_STREAM_MESSAGES && elapsed < (__u64)messages * SPLICE_STREAM_NS);
}

/* Does the scope of a mesh hold a connection? enum shunt_reason, 0 if it does. */
static __always_inline __u32 splice_scope(__u32 scope, bool sidecar, bool same_netns)
{
	if (scope == SHUNT_SCOPE_OFF)
		return SHUNT_REASON_off;
	if ((scope == SHUNT_SCOPE_SIDECAR && !sidecar) ||
	    (scope == SHUNT_SCOPE_NETNS && !same_netns))
		return SHUNT_REASON_scope;
	return SHUNT_REASON_none;
}
