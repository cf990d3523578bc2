/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A ring buffer of libbpf's, for targets whose input is what the kernel half has put there. A
 * target that links this defines __wrap_ring_buffer__consume(), by which it is emptied.
 */
#pragma once

#include <bpf/libbpf.h>

struct fake_ring {
	ring_buffer_sample_fn receive; /* of the agent */
	void *receiver;
	int bell; /* an eventfd that is readable while there is something to be received */
};

extern struct fake_ring fake_ring;

/* Makes the bell. */
void fake_ring_init(void);
/* The agent is told that something is there … */
void fake_ring_announce(void);
/* … until nothing is any more. */
void fake_ring_silence(void);

int __wrap_ring_buffer__consume(struct ring_buffer *ring);
