/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who talks to whom, as Graphviz reads it.
 * Reads from: rates of connections.
 * Writes to: the stream it is given, or JSON.
 */
#include "graph.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "util/text.h"

#define COLOR_SPLICED "#0a7d4f"
#define COLOR_PLAIN   "#8a6d3b"
#define PEN_MAX	      6

static const char *string(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static struct graph_edge graph_edge_of(const json_t *flow)
{
	const json_t *client = json_object_get(flow, "client");
	const char *cgroup = string(client, "cgroup");

	return (struct graph_edge){
		.cgroup = cgroup,
		.program = cgroup ? NULL : string(client, "comm"),
		.mesh = string(flow, "mesh"),
		.destination = string(flow, "dialled"),
		.server = string(json_object_get(flow, "server"), "cgroup"),
		.redirected = json_is_string(json_object_get(flow, "redirected_to")),
	};
}

static int compare_texts(const char *one, const char *other)
{
	return one && other ? strcmp(one, other) : !!one - !!other;
}

/* Those that are equal are one edge. */
static int compare_edges(const void *a, const void *b)
{
	const struct graph_edge *one = a, *other = b;

	return compare_texts(one->mesh, other->mesh) ?: compare_texts(one->cgroup, other->cgroup) ?:
	       compare_texts(one->program, other->program) ?:
	       compare_texts(one->destination, other->destination) ?:
	       compare_texts(one->server, other->server) ?: one->redirected - other->redirected;
}

static int compare_busy(const void *a, const void *b)
{
	const struct graph_edge *one = a, *other = b;
	double rate = one->spliced + one->tcp, other_rate = other->spliced + other->tcp;
	json_int_t bytes = one->bytes_spliced + one->bytes_tcp;
	json_int_t other_bytes = other->bytes_spliced + other->bytes_tcp;

	if (rate != other_rate)
		return rate < other_rate ? 1 : -1;
	if (bytes != other_bytes)
		return bytes < other_bytes ? 1 : -1;
	return compare_edges(a, b);
}

static void graph_add(struct graph_edge *edge, const struct graph_edge *other)
{
	edge->flows += other->flows;
	edge->flows_spliced += other->flows_spliced;
	edge->spliced += other->spliced;
	edge->tcp += other->tcp;
	edge->bytes_spliced += other->bytes_spliced;
	edge->bytes_tcp += other->bytes_tcp;
	edge->spills += other->spills;
}

int graph_init(struct graph *ret, const struct rates *rates, size_t max)
{
	struct graph_edge *edges = calloc(rates->n_flows + 1, sizeof(*edges));
	size_t n = 0;

	if (!edges)
		return -ENOMEM;
	for (size_t i = 0; i < rates->n_flows; i++) {
		const struct rates_flow *rate = &rates->flows[i];

		edges[i] = graph_edge_of(rate->flow);
		edges[i].flows = 1;
		edges[i].flows_spliced = rates_is_spliced(rate->flow);
		edges[i].spliced = rate->spliced;
		edges[i].tcp = rate->tcp;
		edges[i].bytes_spliced = rate->bytes_spliced;
		edges[i].bytes_tcp = rate->bytes_tcp;
		edges[i].spills = rate->spills;
	}
	qsort(edges, rates->n_flows, sizeof(*edges), compare_edges);
	for (size_t i = 0; i < rates->n_flows; i++) {
		if (n && compare_edges(&edges[n - 1], &edges[i]) == 0)
			graph_add(&edges[n - 1], &edges[i]);
		else
			edges[n++] = edges[i];
	}
	qsort(edges, n, sizeof(*edges), compare_busy);
	*ret = (struct graph){
		.seconds = rates->seconds,
		.edges = edges,
		.n_edges = n < max ? n : max,
		.left_out = n < max ? 0 : n - max,
	};
	return 0;
}

void graph_deinit(struct graph *graph)
{
	free(graph->edges);
	*graph = (struct graph){};
}

/* Inside of quotes: no end of the string, no escape and no entity of Graphviz's. */
static void write_text(FILE *stream, const char *text)
{
	while (*text) {
		bool plain;
		size_t len = text_next(text, &plain);

		if (!plain)
			fprintf(stream, "\\\\x%02x", (unsigned char)*text);
		else if (*text == '"' || *text == '\\')
			fprintf(stream, "\\%c", *text);
		else if (*text == '&')
			fputs("&amp;", stream);
		else
			fwrite(text, 1, len, stream);
		text += len;
	}
}

/* Nodes: who dials, and what is dialled. A destination that is answered on this host without a
 * redirect is one for each cgroup that answers it, since every pod has 127.0.0.1. */

struct graph_nodes {
	json_t *numbers; /* by key */
	FILE *stream;
};

/* Steals nothing. The number of the node @key; *@ret_new: nobody has asked for it before. */
static int node_number(struct graph_nodes *nodes, const char *key, bool *ret_new)
{
	const json_t *number = json_object_get(nodes->numbers, key);
	size_t n = json_object_size(nodes->numbers);

	*ret_new = !number;
	if (number)
		return json_integer_value(number);
	return json_object_set_new(nodes->numbers, key, json_integer(n)) == 0 ? (int)n : -ENOMEM;
}

static int node_find(struct graph_nodes *nodes, char kind, const char *name, const char *beside,
		     bool *ret_new)
{
	_cleanup_free_ char *key = NULL;

	if (asprintf(&key, "%c%s\n%s", kind, name, beside) < 0)
		return -ENOMEM;
	return node_number(nodes, key, ret_new);
}

static int node_cgroup(struct graph_nodes *nodes, const char *cgroup)
{
	bool is_new;
	int n = node_find(nodes, 'c', cgroup, "", &is_new);

	if (n < 0 || !is_new)
		return n;
	fprintf(nodes->stream, "\tn%d [shape=box, style=\"rounded,filled\", label=\"", n);
	write_text(nodes->stream, cgroup);
	fputs("\"];\n", nodes->stream);
	return n;
}

static int node_client(struct graph_nodes *nodes, const struct graph_edge *edge)
{
	const char *program = edge->program ? edge->program : "unknown";
	bool is_new;
	int n;

	if (edge->cgroup)
		return node_cgroup(nodes, edge->cgroup);
	n = node_find(nodes, 'p', program, "", &is_new);
	if (n < 0 || !is_new)
		return n;
	fprintf(nodes->stream, "\tn%d [shape=box, style=\"rounded,dotted\", label=\"", n);
	write_text(nodes->stream, program);
	fputs("\\n(in no mesh)\"];\n", nodes->stream);
	return n;
}

static int node_destination(struct graph_nodes *nodes, const struct graph_edge *edge)
{
	const char *name = edge->destination ? edge->destination : "unknown";
	const char *server = !edge->redirected && edge->server ? edge->server : NULL;
	bool is_new;
	int n = node_find(nodes, 'd', name, server ? server : "", &is_new), answers;

	if (n < 0 || !is_new)
		return n;
	fprintf(nodes->stream, "\tn%d [shape=ellipse, label=\"", n);
	write_text(nodes->stream, name);
	fputs("\"];\n", nodes->stream);
	answers = server ? node_cgroup(nodes, server) : 0;
	if (server && answers >= 0)
		fprintf(nodes->stream,
			"\tn%d -> n%d [style=dotted, arrowhead=none, color=gray, tooltip=\"is answered by\"];\n",
			n, answers);
	return answers < 0 ? answers : n;
}

/* Each mesh is a box around who dials in it. */
static int write_clients(struct graph_nodes *nodes, const struct graph *graph)
{
	size_t n_clusters = 0;

	for (size_t i = 0; i < graph->n_edges; i++) {
		const char *mesh = graph->edges[i].mesh;
		bool done = !mesh;
		int r = 0;

		for (size_t j = 0; j < i && !done; j++)
			done = graph->edges[j].mesh && strcmp(graph->edges[j].mesh, mesh) == 0;
		if (done)
			continue;
		fprintf(nodes->stream, "\tsubgraph cluster_%zu {\n\tlabel=\"mesh ", n_clusters++);
		write_text(nodes->stream, mesh);
		fputs("\"; style=rounded; color=gray; fontcolor=gray30;\n", nodes->stream);
		for (size_t j = i; j < graph->n_edges && r >= 0; j++) {
			const struct graph_edge *edge = &graph->edges[j];

			if (edge->cgroup && edge->mesh && strcmp(edge->mesh, mesh) == 0)
				r = node_cgroup(nodes, edge->cgroup);
		}
		fputs("\t}\n", nodes->stream);
		if (r < 0)
			return r;
	}
	return 0;
}

static void write_amount(FILE *stream, const struct graph *graph, double rate, json_int_t bytes,
			 const char *how)
{
	char text[OUT_BYTES_SIZE];

	if (graph->seconds > 0)
		fprintf(stream, "%s/s %s\\n", out_bytes(text, rate), how);
	else
		fprintf(stream, "%s %s\\n", out_bytes(text, bytes), how);
}

static void write_edge(FILE *stream, const struct graph *graph, const struct graph_edge *edge,
		       int from, int to)
{
	double amount = graph->seconds > 0 ? edge->spliced + edge->tcp
					   : (double)edge->bytes_spliced + edge->bytes_tcp;
	double pen = 1 + log10(1 + amount / 1000);

	fprintf(stream, "\tn%d -> n%d [color=\"%s\", style=%s, penwidth=%.1f, label=\"", from, to,
		edge->flows_spliced ? COLOR_SPLICED : COLOR_PLAIN,
		edge->flows_spliced ? "solid" : "dashed", pen < PEN_MAX ? pen : PEN_MAX);
	if (edge->flows_spliced || edge->spliced > 0)
		write_amount(stream, graph, edge->spliced, edge->bytes_spliced, "spliced");
	if (!edge->flows_spliced || edge->tcp > 0)
		write_amount(stream, graph, edge->tcp, edge->bytes_tcp, "by TCP");
	fprintf(stream, "%zu of %zu spliced\", tooltip=\"", edge->flows_spliced, edge->flows);
	if (edge->redirected) {
		fputs("by way of ", stream);
		write_text(stream, edge->server ? edge->server : "a sidecar");
	} else {
		fputs("not redirected", stream);
	}
	fputs("\"];\n", stream);
}

static void write_head(FILE *stream, const struct graph *graph)
{
	fputs("digraph shunt {\n"
	      "\trankdir=LR; labelloc=t; fontname=\"Helvetica\"; fontsize=12;\n"
	      "\tnode [fontname=\"Helvetica\", fontsize=11, fillcolor=\"#eef3fa\"];\n"
	      "\tedge [fontname=\"Helvetica\", fontsize=9];\n",
	      stream);
	if (graph->seconds > 0)
		fprintf(stream, "\tlabel=\"bytes a second, over %.1f s", graph->seconds);
	else
		fputs("\tlabel=\"bytes since the connections began", stream);
	if (graph->left_out)
		fprintf(stream, "; %zu quieter edges are left out", graph->left_out);
	fputs("\\nsolid: spliced, dashed: by TCP\";\n", stream);
}

int graph_write_dot(const struct graph *graph, FILE *stream)
{
	_cleanup_json_ json_t *numbers = json_object();
	struct graph_nodes nodes = {.numbers = numbers, .stream = stream};
	int r;

	if (!numbers)
		return -ENOMEM;
	write_head(stream, graph);
	r = write_clients(&nodes, graph);
	for (size_t i = 0; i < graph->n_edges && r >= 0; i++) {
		const struct graph_edge *edge = &graph->edges[i];
		int from = node_client(&nodes, edge), to;

		r = to = from < 0 ? from : node_destination(&nodes, edge);
		if (r >= 0)
			write_edge(stream, graph, edge, from, to);
	}
	fputs("}\n", stream);
	return r < 0 ? r : 0;
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *graph_json(const struct graph *graph)
{
	json_t *edges = json_array();

	for (size_t i = 0; edges && i < graph->n_edges; i++) {
		const struct graph_edge *edge = &graph->edges[i];

		json_array_append_new(
			edges,
			json_pack(
				"{s:o, s:o, s:o, s:o, s:o, s:b, s:I, s:I, s:f, s:f, s:I, s:I, s:I}",
				"cgroup", text_or_null(edge->cgroup), "program",
				text_or_null(edge->program), "mesh", text_or_null(edge->mesh),
				"destination", text_or_null(edge->destination), "server_cgroup",
				text_or_null(edge->server), "redirected", edge->redirected, "flows",
				(json_int_t)edge->flows, "flows_spliced",
				(json_int_t)edge->flows_spliced, "spliced_per_s", edge->spliced,
				"tcp_per_s", edge->tcp, "bytes_spliced", edge->bytes_spliced,
				"bytes_tcp", edge->bytes_tcp, "spills", edge->spills));
	}
	return json_pack("{s:f, s:o, s:I}", "seconds", graph->seconds, "edges", edges, "left_out",
			 (json_int_t)graph->left_out);
}
