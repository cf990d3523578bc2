/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What Prometheus is told. Labels have a bound: meshes, reasons, outcomes, maps, checks; never an
 * address, a process or a cgroup.
 * Reads from: every module, the counters of the kernel half.
 * Writes to: text, by way of metrics_text.
 */
#include "metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "metrics_text.h"
#include "shunt/version.h"
#include "util/cleanup.h"

static void metrics_one(struct metrics_text *text, const char *name, const char *help,
			uint64_t value)
{
	metrics_family(text, METRICS_GAUGE, name, help);
	metrics_sample(text, NULL, value);
}

static void metrics_add_agent(struct metrics_text *text, const struct agent *agent)
{
	const struct metrics_label build[] = {{"version", SHUNT_VERSION}, {}};

	metrics_family(text, METRICS_GAUGE, "shunt_build_info", "Which agent this is; always 1.");
	metrics_sample(text, build, 1);
	metrics_one(text, "shunt_start_time_seconds", "When the agent was started, Unix time.",
		    agent->started);
	metrics_one(text, "shunt_config_last_reload_successful",
		    "Whether the last reload, or the start, put the configuration in force.",
		    !agent->reload_failed && agent->configured);
	metrics_one(text, "shunt_config_last_reload_success_timestamp_seconds",
		    "When the configuration in force was applied, Unix time; 0: none is.",
		    agent->configured);
}

static void metrics_add_counters(struct metrics_text *text, const uint64_t *counters)
{
#define X(name, help)                                                \
	metrics_family(text, METRICS_COUNTER, "shunt_" #name, help); \
	metrics_sample(text, NULL, counters[SHUNT_COUNTER_##name]);
	SHUNT_COUNTERS(X)
#undef X
}

static int metrics_write(const struct agent *agent, struct metrics_text *text)
{
	uint64_t counters[SHUNT_COUNTER_MAX];
	int r = 0;

	metrics_add_agent(text, agent);
	if (!agent->off) {
		r = maps_read_counters(loader_maps(agent->loader), counters);
		if (!r)
			metrics_add_counters(text, counters);
	}
	metrics_end(text);
	return r;
}

int metrics_page(void *user, const struct http_request *request, struct http_answer *ret)
{
	struct metrics_text text = {
		.openmetrics = metrics_wants_openmetrics(http_header(request, "Accept")),
	};
	_cleanup_free_ char *body = NULL;
	size_t len;
	int r;

	text.stream = open_memstream(&body, &len);
	if (!text.stream)
		return -ENOMEM;
	r = metrics_write(user, &text);
	if (fclose(text.stream))
		return -ENOMEM;
	if (r)
		return r;
	ret->type = metrics_content_type(text.openmetrics);
	ret->body = TAKE_PTR(body);
	ret->len = len;
	return 0;
}
