/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ring buffer, and what the agent does for each event.
 * Reads from: an input: a record's length and its bytes, one after the other.
 * Writes to: a copy of shunt_control.
 */
#include "fake_kernel.h"
#include "fake_ring.h"
#include "fuzz.h"
#include "splice.h"

#define TURNS  4
#define TIMERS 16

static unsigned int timers; /* that still may run at once */

int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb call, uint64_t timeout, uint64_t repeat);
int __real_uv_timer_start(uv_timer_t *timer, uv_timer_cb call, uint64_t timeout, uint64_t repeat);

int __wrap_ring_buffer__consume(struct ring_buffer *ring)
{
	const uint8_t *data = fake_kernel.data;
	size_t left = fake_kernel.size;

	fake_ring_silence();
	while (left) {
		size_t size = data[0] < left - 1 ? data[0] : left - 1;
		/* A record begins at a multiple of eight, and ends where it ends. */
		void *record = malloc(size ? size : 1);

		fuzz_check(record);
		memcpy(record, data + 1, size);
		fuzz_check(!fake_ring.receive(fake_ring.receiver, record, size));
		free(record);
		data += 1 + size;
		left -= 1 + size;
	}
	return 0;
}

/* Nobody waits; but what begins itself anew would never end. */
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb call, uint64_t timeout, uint64_t repeat)
{
	return __real_uv_timer_start(timer, call, timers && timers-- ? 0 : timeout, repeat);
}

static struct splice *start(void)
{
	struct agent *agent = fake_agent();
	struct splice *splice;

	fuzz_check(!splice_new(&agent->loop, NULL, &splice));
	for (int i = 0; i < SELFTEST_MAX; i++)
		agent->selftest.outcome[i] = SELFTEST_PASSED;
	splice_allow(splice, &agent->selftest);
	fuzz_check(!splice_apply(splice, agent->config, agent->cgroup_root));
	return splice;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct splice *splice;

	if (fake_ring.bell < 0)
		fake_ring_init();
	timers = TIMERS;
	fake_kernel.data = data;
	fake_kernel.size = size;
	splice = start();
	fake_ring_announce();
	for (int i = 0; i < TURNS; i++)
		fake_agent_turn();
	splice_stop(splice);
	splice_drain(splice);
	splice_close(splice);
	for (int i = 0; i < TURNS; i++)
		fake_agent_turn();
	return 0;
}
