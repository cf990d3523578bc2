/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who talks to whom: connections of one cgroup to one destination are one edge. Pure: from rates to
 * text.
 */
#pragma once

#include <stdio.h>

#include "rates.h"

struct graph_edge {
	const char *cgroup;	 /* who dials; NULL: not one of the configuration … */
	const char *program;	 /* … and then its name, if that is known */
	const char *mesh;	 /* NULL: none */
	const char *destination; /* what was dialled */
	const char *server;	 /* cgroup of who accepted; NULL: not one of the configuration */
	bool redirected;	 /* … and that is the sidecar */
	size_t flows;
	size_t flows_spliced;
	double spliced; /* bytes a second */
	double tcp;
	json_int_t bytes_spliced; /* since they began */
	json_int_t bytes_tcp;
	json_int_t spills;
};

struct graph {
	double seconds;		  /* as in struct rates */
	struct graph_edge *edges; /* the busiest first */
	size_t n_edges;
	size_t left_out; /* edges beyond the limit */
};

/* The @max busiest edges. Borrows from what @rates borrows from. Returns 0 or -ENOMEM. */
int graph_init(struct graph *ret, const struct rates *rates, size_t max);
void graph_deinit(struct graph *graph);

/* In the language of Graphviz. Names may hold whatever they like. Returns 0 or -ENOMEM. */
int graph_write_dot(const struct graph *graph, FILE *stream);
/* A new object, or NULL: no memory. */
json_t *graph_json(const struct graph *graph);
