/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Per-CPU counters by enum, and by mesh. */
#pragma once

#include <stdbool.h>

#include "histogram.bpf.h"
#include "maps.bpf.h"

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&shunt_counters, &counter);

	/* Two programs of one CPU can interrupt each other here, so the addition is atomic. */
	if (value)
		__sync_fetch_and_add(value, 1);
}

/* NULL: never. The verifier does not know. */
static __always_inline struct shunt_stats *stats_row(__u32 row)
{
	return bpf_map_lookup_elem(&shunt_stats, &row);
}

static __always_inline void stats_add(__u64 *value, __u64 by)
{
	__sync_fetch_and_add(value, by);
}

/* A connection of the mesh is not spliced, or is not any more. */
static __always_inline void stats_plain(__u32 row, __u32 reason)
{
	struct shunt_stats *stats = stats_row(row);

	count(SHUNT_COUNTER_splice_plain_none + reason);
	if (stats && reason < SHUNT_REASON_MAX)
		stats_add(&stats->plain[reason], 1);
}

/* A connection was redirected, and its handshake is over. */
static __always_inline void stats_latency(__u32 row, __u64 ns)
{
	__u32 bucket = histogram_bucket(ns, SHUNT_LATENCY_SHIFT, SHUNT_LATENCY_BUCKETS);
	struct shunt_stats *stats = stats_row(row);

	if (!stats || bucket >= SHUNT_LATENCY_BUCKETS)
		return;
	stats_add(&stats->latency[bucket], 1);
	stats_add(&stats->latency_ns, ns);
}

/*
 * A message went from one end of a pair to the other. On this path each lookup shows, so it is one;
 * the agent makes the counters splice_messages, splice_bytes, splice_plain_messages and
 * splice_plain_bytes of it.
 */
static __always_inline void stats_message(__u32 row, __u32 size, bool spliced)
{
	__u32 bucket = histogram_bucket(size, SHUNT_SIZE_SHIFT, SHUNT_SIZE_BUCKETS);
	struct shunt_stats *stats = stats_row(row);

	if (!stats || bucket >= SHUNT_SIZE_BUCKETS)
		return;
	if (spliced) {
		stats_add(&stats->sizes[bucket], 1);
		stats_add(&stats->spliced_bytes, size);
	} else {
		stats_add(&stats->plain_messages, 1);
		stats_add(&stats->plain_bytes, size);
	}
}
