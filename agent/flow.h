/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One connection that the kernel half keeps in mind: numbers made names, and all of it JSON. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "agent.h"
#include "shunt/flow.h"

/* Names that were looked up; they hold for one turn of the loop. */
struct flow_names {
	const struct agent *agent;
	uint64_t now;		     /* CLOCK_MONOTONIC, in ns */
	struct flow_cgroup *cgroups; /* by number */
	size_t n_cgroups;
	struct flow_comm *programs; /* by process */
	size_t n_programs;
};

struct flow {
	const struct shunt_flow *record;
	const char *mesh;			       /* NULL: in none */
	uint32_t pids[SHUNT_ENDS];		       /* 0: nobody's */
	const struct cgroup_node *cgroups[SHUNT_ENDS]; /* NULL: not one of the configuration */
};

/* 0 or -ENOMEM. */
int flow_names_init(struct flow_names *names, const struct agent *agent);
void flow_names_deinit(struct flow_names *names);

/* Fills in all but .pids. Borrows from @names and @record. */
void flow_resolve(const struct flow_names *names, const struct shunt_flow *record,
		  struct flow *ret);
/* The object that shuntctl prints. NULL: no memory. */
json_t *flow_describe(struct flow_names *names, const struct flow *flow);

/* enum shunt_state by its name, or -EINVAL. */
int flow_parse_state(const char *name);

/* How many bytes that @writer's program wrote have gone by TCP. */
uint64_t flow_tcp_bytes(const struct shunt_flow *record, enum shunt_end_index writer);
