/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tells the service manager that the agent is well, if it asked for that. A restart is what it does
 * if it hears nothing, so the agent is not well if a restart would mend it.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

struct agent;

struct watchdog {
	uv_timer_t timer;
	bool silent; /* something is wrong, and the log says what */
};

void watchdog_init(struct watchdog *watchdog, uv_loop_t *loop, const struct agent *agent);
void watchdog_start(struct watchdog *watchdog); /* does nothing if nobody asked for it */
void watchdog_close(struct watchdog *watchdog);
