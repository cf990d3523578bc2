/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Per-CPU counters by enum. */
#pragma once

#include "maps.bpf.h"

static __always_inline void count_by(__u32 counter, __u64 by)
{
	__u64 *value = bpf_map_lookup_elem(&shunt_counters, &counter);

	/* Two programs of one CPU can interrupt each other here, so the addition is atomic. */
	if (value)
		__sync_fetch_and_add(value, by);
}

static __always_inline void count(__u32 counter)
{
	count_by(counter, 1);
}
