/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbers as text for Prometheus: both formats to the letter, escaping, the bounds of buckets.
 * Reads from: agent/metrics_text.c.
 * Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "metrics_text.h"
#include "util/cleanup.h"

typedef void (*write_fn)(struct metrics_text *text);

static void assert_text(write_fn write, bool openmetrics, const char *expected)
{
	struct metrics_text text = {.openmetrics = openmetrics};
	_cleanup_free_ char *body = NULL;
	size_t len;

	text.stream = open_memstream(&body, &len);
	assert_non_null(text.stream);
	write(&text);
	metrics_end(&text);
	fclose(text.stream);
	assert_string_equal(body, expected);
}

static void write_both(struct metrics_text *text)
{
	const struct metrics_label labels[] = {{"mesh", "a"}, {"reason", "b"}, {}};

	metrics_family(text, METRICS_COUNTER, "x_seen", "Seen.");
	metrics_sample(text, NULL, 0);
	metrics_sample(text, labels, UINT64_MAX);
	metrics_family(text, METRICS_GAUGE, "x_now_seconds", "Now.");
	metrics_sample_real(text, labels, 1.5);
}

static void test_prometheus(void **state)
{
	assert_text(write_both, false,
		    "# HELP x_seen_total Seen.\n"
		    "# TYPE x_seen_total counter\n"
		    "x_seen_total 0\n"
		    "x_seen_total{mesh=\"a\",reason=\"b\"} 18446744073709551615\n"
		    "# HELP x_now_seconds Now.\n"
		    "# TYPE x_now_seconds gauge\n"
		    "x_now_seconds{mesh=\"a\",reason=\"b\"} 1.500000000\n");
}

static void test_openmetrics(void **state)
{
	assert_text(write_both, true,
		    "# HELP x_seen Seen.\n"
		    "# TYPE x_seen counter\n"
		    "x_seen_total 0\n"
		    "x_seen_total{mesh=\"a\",reason=\"b\"} 18446744073709551615\n"
		    "# HELP x_now_seconds Now.\n"
		    "# TYPE x_now_seconds gauge\n"
		    "x_now_seconds{mesh=\"a\",reason=\"b\"} 1.500000000\n"
		    "# EOF\n");
}

static void write_escapes(struct metrics_text *text)
{
	const struct metrics_label labels[] = {{"path", "C:\\a \"b\"\nc"}, {"empty", ""}, {}};

	metrics_family(text, METRICS_GAUGE, "x", "A \\ and \"b\"\nin two lines.");
	metrics_sample(text, labels, 1);
}

static void test_escapes(void **state)
{
	assert_text(write_escapes, false,
		    "# HELP x A \\\\ and \"b\"\\nin two lines.\n"
		    "# TYPE x gauge\n"
		    "x{path=\"C:\\\\a \\\"b\\\"\\nc\",empty=\"\"} 1\n");
	assert_text(write_escapes, true,
		    "# HELP x A \\\\ and \\\"b\\\"\\nin two lines.\n"
		    "# TYPE x gauge\n"
		    "x{path=\"C:\\\\a \\\"b\\\"\\nc\",empty=\"\"} 1\n"
		    "# EOF\n");
}

static void write_histograms(struct metrics_text *text)
{
	static const uint64_t counts[] = {3, 0, 2, 1};
	const struct metrics_label labels[] = {{"mesh", "a"}, {}};
	struct metrics_histogram histogram = {
		.counts = counts,
		.n = 4,
		.first = 64,
		.sum = 1000,
	};

	metrics_family(text, METRICS_HISTOGRAM, "x_bytes", "Sizes.");
	metrics_sample_histogram(text, labels, &histogram);
	histogram.first = 1 << 14;
	histogram.sum = 1500000000;
	histogram.seconds = true;
	metrics_family(text, METRICS_HISTOGRAM, "x_seconds", "Times.");
	metrics_sample_histogram(text, NULL, &histogram);
}

static void test_histograms(void **state)
{
	assert_text(write_histograms, false,
		    "# HELP x_bytes Sizes.\n"
		    "# TYPE x_bytes histogram\n"
		    "x_bytes_bucket{mesh=\"a\",le=\"64\"} 3\n"
		    "x_bytes_bucket{mesh=\"a\",le=\"128\"} 3\n"
		    "x_bytes_bucket{mesh=\"a\",le=\"256\"} 5\n"
		    "x_bytes_bucket{mesh=\"a\",le=\"+Inf\"} 6\n"
		    "x_bytes_sum{mesh=\"a\"} 1000\n"
		    "x_bytes_count{mesh=\"a\"} 6\n"
		    "# HELP x_seconds Times.\n"
		    "# TYPE x_seconds histogram\n"
		    "x_seconds_bucket{le=\"1.6384e-05\"} 3\n"
		    "x_seconds_bucket{le=\"3.2768e-05\"} 3\n"
		    "x_seconds_bucket{le=\"6.5536e-05\"} 5\n"
		    "x_seconds_bucket{le=\"+Inf\"} 6\n"
		    "x_seconds_sum 1.500000000\n"
		    "x_seconds_count 6\n");
}

static void test_negotiation(void **state)
{
	assert_false(metrics_wants_openmetrics(NULL));
	assert_false(metrics_wants_openmetrics("*/*"));
	assert_false(metrics_wants_openmetrics("text/plain;version=0.0.4;q=1,*/*;q=0.1"));
	assert_true(metrics_wants_openmetrics(
		"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"));
	assert_string_equal(metrics_content_type(false),
			    "text/plain; version=0.0.4; charset=utf-8");
	assert_string_equal(metrics_content_type(true),
			    "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prometheus),  cmocka_unit_test(test_openmetrics),
		cmocka_unit_test(test_escapes),	    cmocka_unit_test(test_histograms),
		cmocka_unit_test(test_negotiation),
	};

	return cmocka_run_group_tests_name("metrics_text", tests, NULL, NULL);
}
