/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which connections somebody wants to hear of. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "flow.h"

/* Zeroed but for .state = -1, it lets pass everything. */
struct flow_filter {
	char *mesh;
	char *cgroup; /* or one below */
	uint32_t pid;
	__be16 port;
	int state; /* enum shunt_state, or -1 */
};

/*
 * "mesh", "cgroup", "pid", "port" and "state" of a question, all optional. 0, or negative errno and
 * maybe *@ret_error, which the caller frees; the filter is to be freed in either case.
 */
int flow_filter_parse(struct agent *agent, const json_t *request, struct flow_filter *ret,
		      char **ret_error);
void flow_filter_deinit(struct flow_filter *filter);

/* @flow is resolved, its .pids too. */
bool flow_filter_wants(const struct flow_filter *filter, const struct flow *flow);
