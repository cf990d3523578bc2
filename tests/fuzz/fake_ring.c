/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A ring buffer of libbpf's.
 * Reads from: its target.
 * Writes to: the agent.
 */
#include "fake_ring.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "fuzz.h"

struct fake_ring fake_ring = {.bell = -1};

struct ring_buffer *__wrap_ring_buffer__new(int map, ring_buffer_sample_fn fn, void *ctx,
					    const struct ring_buffer_opts *opts);
int __wrap_ring_buffer__epoll_fd(const struct ring_buffer *ring);
void __wrap_ring_buffer__free(struct ring_buffer *ring);

struct ring_buffer *__wrap_ring_buffer__new(int map, ring_buffer_sample_fn fn, void *ctx,
					    const struct ring_buffer_opts *opts)
{
	fake_ring.receive = fn;
	fake_ring.receiver = ctx;
	return (struct ring_buffer *)&fake_ring; /* not NULL, and never looked at */
}

int __wrap_ring_buffer__epoll_fd(const struct ring_buffer *ring)
{
	return fake_ring.bell;
}

void __wrap_ring_buffer__free(struct ring_buffer *ring)
{
}

void fake_ring_init(void)
{
	fake_ring.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fuzz_check(fake_ring.bell >= 0);
}

void fake_ring_announce(void)
{
	const uint64_t ring = 1;

	fuzz_check(write(fake_ring.bell, &ring, sizeof(ring)) == sizeof(ring));
}

void fake_ring_silence(void)
{
	uint64_t rung;

	fuzz_check(read(fake_ring.bell, &rung, sizeof(rung)) == sizeof(rung));
}
