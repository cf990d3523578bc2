/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One look at the agent: its state, its counters, its flows.
 * Reads from: the agent.
 * Writes to: a struct sample.
 */
#include "sample.h"

#include <time.h>

#include "client.h"

static int sample_ask(const struct ctl *ctl, const char *verb, json_t **ret)
{
	return client_ask(ctl->socket, json_pack("{s:s}", "verb", verb), ret);
}

int sample_take(const struct ctl *ctl, struct sample *ret)
{
	struct sample sample = {.flows = json_array()};
	struct timespec now;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sample.at = now.tv_sec + now.tv_nsec / 1e9;
	r = sample_ask(ctl, "status", &sample.status);
	r = r ?: sample_ask(ctl, "counters", &sample.counters);
	r = r ?: cmd_fetch_flows(ctl, json_pack("{s:s}", "verb", "flows"), sample.flows);
	if (r)
		sample_deinit(&sample);
	else
		*ret = sample;
	return r;
}

void sample_deinit(struct sample *sample)
{
	json_decref(sample->status);
	json_decref(sample->counters);
	json_decref(sample->flows);
	*sample = (struct sample){};
}
