/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One connection that the kernel half keeps in mind, or tells of: numbers made names, and all of it
 * JSON. */
#pragma once

#include <stdint.h>

#include "agent.h"
#include "shunt/flow.h"
#include "util/writer.h"

/* Names that were looked up; they hold for one turn of the loop. */
struct flow_names {
	const struct agent *agent;
	uint64_t now;		     /* CLOCK_MONOTONIC, in ns */
	uint64_t epoch;		     /* what CLOCK_REALTIME is ahead of it, in ns */
	struct flow_cgroup *cgroups; /* by number */
	size_t n_cgroups;
	struct flow_comm *comms; /* by process */
	size_t n_comms;
};

struct flow {
	const struct shunt_flow *record;
	const char *mesh;			       /* NULL: in none */
	uint32_t pids[SHUNT_ENDS];		       /* 0: nobody's */
	const struct cgroup_node *cgroups[SHUNT_ENDS]; /* NULL: not one of the configuration */
	bool never;				       /* it did not come to a connection */
};

/* 0 or -ENOMEM. */
int flow_names_init(struct flow_names *names, const struct agent *agent);
void flow_names_deinit(struct flow_names *names);

/* Fills in all but .pids. Borrows from @names and @record. */
void flow_resolve(const struct flow_names *names, const struct shunt_flow *record,
		  struct flow *ret);
/* NULL: not one of the configuration. */
const struct cgroup_node *flow_find_cgroup(const struct flow_names *names, uint64_t id);
/* The members of the object that shuntctl prints; of those whose value is null or 0, and of what
 * is explained in words, nothing if the writer is brief. */
void flow_write(struct flow_names *names, const struct flow *flow, struct writer *writer);
/* The same of something that has happened to it, which is the record of @flow. */
void flow_write_notice(struct flow_names *names, const struct flow *flow,
		       const struct shunt_notice *notice, struct writer *writer);

/* enum shunt_state by its name, or -EINVAL. */
int flow_parse_state(const char *name);

/* How many bytes that @writer's program wrote have gone by TCP. */
uint64_t flow_tcp_bytes(const struct shunt_flow *record, enum shunt_end_index writer);
