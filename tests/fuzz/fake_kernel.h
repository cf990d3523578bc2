/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An agent over a kernel half that is not there: what it would read is an input. The functions of
 * loader, maps and libbpf that a target comes to are replaced when it is linked (--wrap).
 */
#pragma once

#include "agent.h"

struct fake_kernel {
	/* What the kernel half gives to whoever reads an iterator, or from the ring buffer. */
	const uint8_t *data;
	size_t size;
};

extern struct fake_kernel fake_kernel;

/* One mesh, and cgroups /a, /a/b, /proxy and /other below a directory that is removed at the end of
 * the program. The same one at each call. */
struct agent *fake_agent(void);

/* Calls what libuv has for this turn of the loop. */
void fake_agent_turn(void);
