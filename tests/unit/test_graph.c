/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who talks to whom: edges, and that no name gets out of its quotes.
 * Reads from: nothing.
 * Writes to: memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/graph.h"
#include "views.h"

/* Of @before and @now, which are freed. */
static char *dot_of(struct sample *before, struct sample *now, size_t max, struct graph *ret_graph)
{
	struct graph graph;
	struct rates rates;
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	assert_int_equal(rates_init(&rates, before, now), 0);
	assert_int_equal(graph_init(&graph, &rates, max), 0);
	assert_int_equal(graph_write_dot(&graph, stream), 0);
	fclose(stream);
	*ret_graph = graph;
	rates_deinit(&rates);
	return text;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in: %s", part, text);
}

static size_t count(const char *text, const char *part)
{
	size_t n = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		n++;
	return n;
}

static void set(json_t *flow, const char *side, const char *key, const char *text)
{
	json_t *object = side ? json_object_get(flow, side) : flow;

	json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static void test_edges(void **state)
{
	struct sample before = views_sample(10), now = views_sample(12);
	struct graph graph;
	char *text;

	(void)state;
	views_flow(&now, "a", "m", 1, 2000, 0);
	views_flow(&now, "b", "m", 1, 0, 500);
	set(views_flow(&now, "c", "m", 1, 0, 100), NULL, "dialled", "10.0.0.8:80");
	text = dot_of(&before, &now, 10, &graph);
	assert_int_equal(graph.n_edges, 2);
	assert_int_equal(graph.left_out, 0);
	assert_int_equal(graph.edges[0].flows, 2);
	assert_int_equal(graph.edges[0].flows_spliced, 1);
	assert_true(graph.edges[0].spliced == 1000);
	assert_true(graph.edges[0].tcp == 250);
	assert_int_equal(count(text, " -> "), 2);
	assert_has(text, "label=\"1.0K/s spliced\\n250/s by TCP\\n1 of 2 spliced\"");
	assert_has(text, "label=\"50/s by TCP\\n0 of 1 spliced\"");
	assert_has(text, "tooltip=\"by way of /pods/proxy\"");
	assert_has(text, "style=solid");
	assert_has(text, "style=dashed");
	assert_has(text, "label=\"mesh m\"");
	assert_has(text, "bytes a second, over 2.0 s");
	assert_int_equal(count(text, "label=\"/pods/app\""), 1);
	free(text);
	graph_deinit(&graph);
	sample_deinit(&before);
	sample_deinit(&now);
}

/* Without a second sample there are no rates, but bytes. */
static void test_bytes(void **state)
{
	struct sample now = views_sample(12);
	struct graph graph;
	char *text;

	(void)state;
	views_flow(&now, "a", "m", 100, 2048, 10);
	text = dot_of(NULL, &now, 10, &graph);
	assert_has(text, "label=\"2.0K spliced\\n1 of 1 spliced\"");
	assert_has(text, "bytes since the connections began");
	assert_null(strstr(text, "/s"));
	free(text);
	graph_deinit(&graph);
	sample_deinit(&now);
}

/* Each pod has its own 127.0.0.1:8080. */
static void test_destinations_on_this_host(void **state)
{
	static const char *const servers[] = {"/pods/one", "/pods/two", "/pods/one"};
	struct sample now = views_sample(12);
	struct graph graph;
	char *text;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		json_t *flow = views_flow(&now, "a", "m", 100, 1, 1);

		set(flow, NULL, "redirected_to", NULL);
		set(flow, NULL, "dialled", "127.0.0.1:8080");
		set(flow, "server", "cgroup", servers[i]);
	}
	text = dot_of(NULL, &now, 10, &graph);
	assert_int_equal(graph.n_edges, 2);
	assert_int_equal(count(text, "label=\"127.0.0.1:8080\""), 2);
	assert_int_equal(count(text, "is answered by"), 2);
	assert_int_equal(count(text, "tooltip=\"not redirected\""), 2);
	free(text);
	graph_deinit(&graph);
	sample_deinit(&now);
}

static void test_limit(void **state)
{
	struct sample now = views_sample(12);
	struct graph graph;
	char *text;

	(void)state;
	for (int i = 0; i < 5; i++) {
		char name[32];

		snprintf(name, sizeof(name), "10.0.0.%d:80", i);
		set(views_flow(&now, "a", "m", 9, 0, 10 * i), NULL, "dialled", name);
	}
	text = dot_of(NULL, &now, 2, &graph);
	assert_int_equal(graph.n_edges, 2);
	assert_string_equal(graph.edges[0].destination, "10.0.0.4:80");
	assert_string_equal(graph.edges[1].destination, "10.0.0.3:80");
	assert_has(text, "; 3 quieter edges are left out");
	free(text);
	graph_deinit(&graph);
	sample_deinit(&now);
}

static void test_escaping(void **state)
{
	struct sample now = views_sample(12);
	struct graph graph;
	json_t *flow = views_flow(&now, "a", "m\"];x [label=\"", 9, 1, 1);
	char *text;

	(void)state;
	set(flow, "client", "cgroup", "/a\"b\\N\\c\n<script>&lt;\x1b[2Jäöü");
	set(flow, NULL, "dialled", "\\\"");
	set(flow, "server", "cgroup", "\\");
	text = dot_of(NULL, &now, 2, &graph);
	assert_has(text, "label=\"/a\\\"b\\\\N\\\\c\\\\x0a<script>&amp;lt;\\\\x1b[2Jäöü\"");
	assert_has(text, "label=\"\\\\\\\"\"");
	assert_has(text, "tooltip=\"by way of \\\\\"");
	assert_has(text, "label=\"mesh m\\\"];x [label=\\\"\"");
	free(text);
	graph_deinit(&graph);
	sample_deinit(&now);
}

/* In no mesh, of no known program, dialled nobody knows what. */
static void test_unknown(void **state)
{
	struct sample now = views_sample(12);
	struct graph graph;
	json_t *flow = views_flow(&now, "a", NULL, 9, 1, 1), *json;
	char *text;

	(void)state;
	set(flow, "client", "cgroup", NULL);
	set(flow, "server", "cgroup", NULL);
	set(flow, NULL, "redirected_to", NULL);
	set(flow, NULL, "dialled", NULL);
	json_array_append_new(now.flows, json_object());
	text = dot_of(NULL, &now, 20, &graph);
	assert_int_equal(graph.n_edges, 2);
	assert_has(text, "label=\"curl\\n(in no mesh)\"");
	assert_has(text, "label=\"unknown\\n(in no mesh)\"");
	assert_null(strstr(text, "cluster"));
	json = graph_json(&graph);
	assert_int_equal(json_array_size(json_object_get(json, "edges")), 2);
	assert_true(json_is_null(
		json_object_get(json_array_get(json_object_get(json, "edges"), 0), "destination")));
	json_decref(json);
	free(text);
	graph_deinit(&graph);
	sample_deinit(&now);
}

static void test_none(void **state)
{
	struct sample now = views_sample(12);
	struct graph graph;
	char *text;

	(void)state;
	text = dot_of(NULL, &now, 20, &graph);
	assert_int_equal(graph.n_edges, 0);
	assert_has(text, "digraph shunt {");
	free(text);
	graph_deinit(&graph);
	sample_deinit(&now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_destinations_on_this_host),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_escaping),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
