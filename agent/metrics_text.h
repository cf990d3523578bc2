/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbers as text for Prometheus: its own format, version 0.0.4, or OpenMetrics 1.0, which differs
 * in the names of families and in the end. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

struct metrics_label {
	const char *name;
	const char *value; /* UTF-8 */
};

struct metrics_text {
	FILE *stream;
	bool openmetrics;
	const char *family; /* that samples belong to */
	enum metrics_type type;
};

/* Numbers in buckets whose upper bounds double from one to the next; the last has no bound. */
struct metrics_histogram {
	const uint64_t *counts; /* of each bucket alone */
	size_t n;
	uint64_t first; /* upper bound of the first bucket, as the sum is counted */
	uint64_t sum;
	bool seconds; /* bound and sum are in ns, and told in s */
};

/*
 * Begins a family. @name is without the _total of a counter, and lives as long as its samples are
 * written. Samples of a family follow one another.
 */
void metrics_family(struct metrics_text *text, enum metrics_type type, const char *name,
		    const char *help);
/* @labels ends with a NULL name, or is NULL. To Prometheus one with an empty value is not there. */
void metrics_sample(struct metrics_text *text, const struct metrics_label *labels, uint64_t value);
void metrics_sample_real(struct metrics_text *text, const struct metrics_label *labels,
			 double value);
void metrics_sample_histogram(struct metrics_text *text, const struct metrics_label *labels,
			      const struct metrics_histogram *histogram);
void metrics_end(struct metrics_text *text);

/* The Content-Type of it. */
const char *metrics_content_type(bool openmetrics);
/* Does who sends @accept, of an Accept header or NULL, want OpenMetrics? */
bool metrics_wants_openmetrics(const char *accept);
