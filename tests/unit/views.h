/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Samples as the agent might give them, for the tests of what is made of them. */
#pragma once

#include <assert.h>

#include "ctl/rates.h"

static inline struct sample views_sample(double at)
{
	return (struct sample){
		.at = at,
		.status = json_pack("{s:s, s:I, s:s}", "version", "1.2.3", "uptime_seconds",
				    (json_int_t)65, "splice", "on"),
		.counters = json_object(),
		.flows = json_array(),
	};
}

static inline void views_counter(struct sample *sample, const char *name, json_int_t value)
{
	json_object_set_new(sample->counters, name, json_integer(value));
}

/* What the client wrote; the server writes nothing. Spliced, if any of it was. Returns it,
 * borrowed.
 */
static inline json_t *views_flow(struct sample *sample, const char *id, const char *mesh,
				 json_int_t age, json_int_t spliced, json_int_t tcp)
{
	json_t *flow = json_pack(
		"{s:s, s:s?, s:{s:i, s:s, s:s}, s:{s:i, s:s, s:s}, s:s, s:s, s:I, s:b, s:s, s:{s:{s:s, s:I, s:I, s:I}, s:{s:s, s:I, s:I, s:I}}}",
		"id", id, "mesh", mesh, "client", "pid", 4711, "comm", "curl", "cgroup",
		"/pods/app", "server", "pid", 4712, "comm", "envoy", "cgroup", "/pods/proxy",
		"dialled", "10.0.0.7:80", "redirected_to", "127.0.0.1:15001", "age_s", age,
		"spliced", spliced > 0, "reason", spliced > 0 ? "none" : "stream", "directions",
		"client_to_server", "state", spliced > 0 ? "spliced" : "left", "bytes_spliced",
		spliced, "bytes_tcp", tcp, "spills", (json_int_t)0, "server_to_client", "state",
		"plain", "bytes_spliced", (json_int_t)0, "bytes_tcp", (json_int_t)0, "spills",
		(json_int_t)0);

	assert(flow);
	json_array_append_new(sample->flows, flow);
	return flow;
}
