/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A socket on which a thread plays the agent, for the tests of who asks one: whatever does not go
 * well fails the test.
 */
#pragma once

#include <pthread.h>

struct fake_agent {
	char dir[64];
	char path[96];
	int fd;
	pthread_t thread;
	const char *const *answers;
	char questions[1024]; /* as much as was read of them, one behind the other */
};

/* Fixtures of cmocka: *state is a struct fake_agent. */
int fake_agent_setup(void **state);
int fake_agent_teardown(void **state);

/* Until fake_agent_end(), which waits for it: takes a connection for each of @answers, which end
 * with NULL, reads a question, answers so and closes. @answers NULL: takes one, and closes it
 * without reading. */
void fake_agent_play(struct fake_agent *agent, const char *const *answers);
void fake_agent_end(struct fake_agent *agent);
