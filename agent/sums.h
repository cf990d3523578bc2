/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all connections come to, added up one by one: by mesh, by who talks to whom, and the busiest
 * of them. What each has moved is the difference to the sums before. Pure, and bounded: memory and
 * what is told do not grow with the number of connections beyond the limits here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/flow.h"

#define SUMS_FLOWS 100	  /* the busiest that are kept */
#define SUMS_EDGES 2048	  /* connections of further ones are counted alone */
#define SUMS_SEEN  131072 /* connections whose bytes are kept for the next sums */

struct sums_count {
	uint64_t flows;
	uint64_t flows_spliced; /* of which one direction is */
	uint64_t moved_spliced; /* bytes since the sums before … */
	uint64_t moved_tcp;
	uint64_t bytes_spliced; /* … and since the connections began */
	uint64_t bytes_tcp;
	uint64_t spills;
};

struct sums_flow {
	struct shunt_flow record;
	bool known; /* else .count.moved_… are 0 for want of sums before */
	struct sums_count count;
};

struct sums_mesh {
	char *name; /* NULL: none */
	struct sums_count count;
};

struct sums_edge {
	uint32_t mesh; /* index in .meshes */
	bool redirected;
	uint64_t client; /* cgroup */
	uint64_t server;
	struct shunt_endpoint dialled;
	uint32_t pid; /* of a client; 0: not known */
	struct sums_count count;
};

struct sums_seen; /* what the next sums compare with */

struct sums {
	uint64_t began; /* CLOCK_MONOTONIC, in ns */
	struct sums_count all;
	struct sums_flow *flows; /* the busiest first */
	size_t n_flows;
	struct sums_mesh *meshes;
	size_t n_meshes;
	struct sums_edge *edges; /* in no order until sums_finish() */
	size_t n_edges;
	uint64_t flows_without_edge;
	uint32_t *edge_slots; /* 1 + index in .edges; 0: empty */
	struct sums_seen *seen;
	size_t n_seen;
	size_t n_slots;
};

/* Zeroed, it is empty. Returns 0 or -ENOMEM. */
int sums_init(struct sums *sums, uint64_t now);
void sums_deinit(struct sums *sums);

/*
 * @before: NULL: there are none. @mesh: NULL: in none. Returns 0 or -ENOMEM.
 */
int sums_add(struct sums *sums, const struct sums *before, const struct shunt_flow *record,
	     const char *mesh);
/* Sorts edges and meshes, the busiest first; nothing can be added from now on. */
void sums_finish(struct sums *sums);
