/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tells the service manager that the agent is well.
 * Reads from: $WATCHDOG_USEC, $WATCHDOG_PID; the agent.
 * Writes to: the service manager, by notify.
 */
#include "watchdog.h"

#include <stdlib.h>
#include <unistd.h>

#include "agent.h"
#include "log.h"
#include "notify.h"
#include "util/cleanup.h"

/* In milliseconds; 0: nobody asked. */
static uint64_t watchdog_timeout(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!usec || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return strtoull(usec, NULL, 10) / 1000;
}

/* That it was called says that the loop turns. NULL: all is well. */
static const char *watchdog_trouble(const struct agent *agent)
{
	uint64_t count;

	if (!control_is_reachable(agent->control))
		return "the control socket is not where it was made";
	if (agent->rung == AGENT_RUNG_REDIRECT &&
	    maps_read_counter(loader_maps(agent->loader), SHUNT_COUNTER_connect_seen, &count))
		return "the maps cannot be read";
	return NULL;
}

static void watchdog_on_timer(uv_timer_t *timer)
{
	struct watchdog *watchdog = container_of(timer, struct watchdog, timer);
	const char *trouble = watchdog_trouble(timer->data);

	if (!trouble)
		notify_send("WATCHDOG=1");
	else if (!watchdog->silent)
		log_error("the service manager is left to restart the agent: %s", trouble);
	watchdog->silent = trouble;
}

void watchdog_init(struct watchdog *watchdog, uv_loop_t *loop, const struct agent *agent)
{
	uv_timer_init(loop, &watchdog->timer);
	watchdog->timer.data = (void *)agent;
}

void watchdog_start(struct watchdog *watchdog)
{
	/* Twice in the time, as sd_watchdog_enabled(3) says. */
	uint64_t interval = watchdog_timeout() / 2;

	if (interval)
		uv_timer_start(&watchdog->timer, watchdog_on_timer, interval, interval);
}

void watchdog_close(struct watchdog *watchdog)
{
	uv_close((uv_handle_t *)&watchdog->timer, NULL);
}
