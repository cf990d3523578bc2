/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbers as text for Prometheus.
 * Reads from: who calls.
 * Writes to: a stream.
 */
#include "metrics_text.h"

#include <inttypes.h>
#include <string.h>

#include "util/cleanup.h"

static const char *const metrics_types[] = {
	[METRICS_COUNTER] = "counter",
	[METRICS_GAUGE] = "gauge",
	[METRICS_HISTOGRAM] = "histogram",
};

static void metrics_escape(FILE *stream, const char *text, bool quotes)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", stream);
		else if (*text == '\\' || (*text == '"' && quotes))
			fprintf(stream, "\\%c", *text);
		else
			putc(*text, stream);
	}
}

void metrics_family(struct metrics_text *text, enum metrics_type type, const char *name,
		    const char *help)
{
	const char *suffix = type == METRICS_COUNTER && !text->openmetrics ? "_total" : "";

	text->family = name;
	text->type = type;
	fprintf(text->stream, "# HELP %s%s ", name, suffix);
	metrics_escape(text->stream, help, text->openmetrics);
	fprintf(text->stream, "\n# TYPE %s%s %s\n", name, suffix, metrics_types[type]);
}

/* What stands before the value. @le: one more label, or NULL. */
static void metrics_name(struct metrics_text *text, const char *suffix,
			 const struct metrics_label *labels, const char *le)
{
	const char *glue = "{";

	fprintf(text->stream, "%s%s", text->family, suffix);
	for (; labels && labels->name; labels++) {
		fprintf(text->stream, "%s%s=\"", glue, labels->name);
		metrics_escape(text->stream, labels->value, true);
		putc('"', text->stream);
		glue = ",";
	}
	if (le) {
		fprintf(text->stream, "%sle=\"%s\"", glue, le);
		glue = ",";
	}
	fputs(*glue == ',' ? "} " : " ", text->stream);
}

void metrics_sample(struct metrics_text *text, const struct metrics_label *labels, uint64_t value)
{
	metrics_name(text, text->type == METRICS_COUNTER ? "_total" : "", labels, NULL);
	fprintf(text->stream, "%" PRIu64 "\n", value);
}

void metrics_sample_real(struct metrics_text *text, const struct metrics_label *labels,
			 double value)
{
	metrics_name(text, text->type == METRICS_COUNTER ? "_total" : "", labels, NULL);
	fprintf(text->stream, "%.9f\n", value);
}

void metrics_sample_histogram(struct metrics_text *text, const struct metrics_label *labels,
			      const struct metrics_histogram *histogram)
{
	uint64_t bound = histogram->first, count = 0;
	char le[32];

	for (size_t i = 0; i < histogram->n; i++, bound *= 2) {
		count += histogram->counts[i];
		if (i == histogram->n - 1)
			snprintf(le, sizeof(le), "+Inf");
		else if (histogram->seconds)
			snprintf(le, sizeof(le), "%.10g", bound / 1e9);
		else
			snprintf(le, sizeof(le), "%" PRIu64, bound);
		metrics_name(text, "_bucket", labels, le);
		fprintf(text->stream, "%" PRIu64 "\n", count);
	}
	metrics_name(text, "_sum", labels, NULL);
	if (histogram->seconds)
		fprintf(text->stream, "%.9f\n", histogram->sum / 1e9);
	else
		fprintf(text->stream, "%" PRIu64 "\n", histogram->sum);
	metrics_name(text, "_count", labels, NULL);
	fprintf(text->stream, "%" PRIu64 "\n", count);
}

void metrics_end(struct metrics_text *text)
{
	if (text->openmetrics)
		fputs("# EOF\n", text->stream);
}

const char *metrics_content_type(bool openmetrics)
{
	return openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
			   : "text/plain; version=0.0.4; charset=utf-8";
}

/* Whoever can read it prefers it: Prometheus says so by quality values that nobody else sends. */
bool metrics_wants_openmetrics(const char *accept)
{
	return accept && strstr(accept, "application/openmetrics-text");
}
