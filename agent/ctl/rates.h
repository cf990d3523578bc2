/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happened between two samples, by connection and by mesh. Pure: no question, no clock.
 *
 * A connection that is in both samples has moved the difference. One that is in the later one alone
 * and is young enough has moved all of its bytes; of an older one (the agent may have missed it
 * before) nothing is known. What connections moved that were over by the later sample is in the
 * counters alone.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "sample.h"

struct rates_flow {
	const json_t *flow; /* of the later sample */
	bool known;	    /* else the next two are 0 */
	double spliced;	    /* bytes a second, both directions */
	double tcp;
	json_int_t bytes_spliced; /* since it began, both directions */
	json_int_t bytes_tcp;
	json_int_t spills;
};

struct rates_mesh {
	const char *name; /* NULL: connections in none */
	size_t flows;
	size_t flows_spliced; /* of which one direction is */
	double spliced;
	double tcp;
	json_int_t spills;
};

struct rates {
	double seconds; /* between the samples; 0: there is one, and nothing is known of rates */
	struct rates_flow *flows;
	size_t n_flows;
	struct rates_mesh *meshes; /* by name */
	size_t n_meshes;
	struct rates_mesh all; /* without a name */
	const json_t *counters_before;
	const json_t *counters;
};

/*
 * Compares; @before is NULL for the first sample. @ret borrows from @now, and of @before the
 * counters. Returns 0 or -ENOMEM.
 */
int rates_init(struct rates *ret, const struct sample *before, const struct sample *now);
void rates_deinit(struct rates *rates);

/* What a counter grew by, a second; negative if it is not known. */
double rates_counter(const struct rates *rates, const char *name);

/* Whether one direction of it is spliced. */
bool rates_is_spliced(const json_t *flow);

/* What is told of both directions together. */
json_int_t rates_both(const json_t *flow, const char *key);
