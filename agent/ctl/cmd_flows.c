/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl flows: one line a connection.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cmd.h"
#include "filter.h"
#include "pages.h"

#define COLUMN_GAP 2 /* as in out.c */
#define COLUMNS	   ARRAY_SIZE(columns)

struct ranked {
	struct pages_item text;
	json_int_t rank;
};

static const json_t *direction(const json_t *flow, const char *name)
{
	return json_object_get(json_object_get(flow, "directions"), name);
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static json_int_t number_both(const json_t *flow, const char *key)
{
	return number(direction(flow, "client_to_server"), key) +
	       number(direction(flow, "server_to_client"), key);
}

/* Cells: what stands in a column, for one flow. */

static void write_age(FILE *cell, const json_t *flow)
{
	char text[OUT_AGE_SIZE];

	fputs(out_age(text, number(flow, "age_s")), cell);
}

static void write_string(FILE *cell, const json_t *flow, const char *key)
{
	fputs(out_string(flow, key), cell);
}

static void write_mesh(FILE *cell, const json_t *flow)
{
	write_string(cell, flow, "mesh");
}

static void write_program(FILE *cell, const json_t *side)
{
	if (number(side, "pid"))
		fprintf(cell, "%s/%d", out_string(side, "comm"), (int)number(side, "pid"));
}

static void write_client(FILE *cell, const json_t *flow)
{
	write_program(cell, json_object_get(flow, "client"));
}

static void write_server(FILE *cell, const json_t *flow)
{
	write_program(cell, json_object_get(flow, "server"));
}

static void write_client_cgroup(FILE *cell, const json_t *flow)
{
	write_string(cell, json_object_get(flow, "client"), "cgroup");
}

static void write_server_cgroup(FILE *cell, const json_t *flow)
{
	write_string(cell, json_object_get(flow, "server"), "cgroup");
}

static void write_address(FILE *cell, const json_t *flow)
{
	write_string(cell, json_object_get(flow, "client"), "address");
}

static void write_dialled(FILE *cell, const json_t *flow)
{
	write_string(cell, flow, "dialled");
}

static void write_redirected_to(FILE *cell, const json_t *flow)
{
	write_string(cell, flow, "redirected_to");
}

static void write_state(FILE *cell, const json_t *flow)
{
	const char *out = out_string(direction(flow, "client_to_server"), "state");
	const char *back = out_string(direction(flow, "server_to_client"), "state");

	fputs(out, cell);
	if (strcmp(out, back) != 0)
		fprintf(cell, "/%s", back);
}

static void write_reason(FILE *cell, const json_t *flow)
{
	const char *reason = out_string(flow, "reason");

	fputs(strcmp(reason, "none") == 0 ? "-" : reason, cell);
}

static void write_bytes_both(FILE *cell, const json_t *flow, const char *key)
{
	char out[OUT_BYTES_SIZE], back[OUT_BYTES_SIZE];

	fprintf(cell, "%s/%s", out_bytes(out, number(direction(flow, "client_to_server"), key)),
		out_bytes(back, number(direction(flow, "server_to_client"), key)));
}

static void write_spliced(FILE *cell, const json_t *flow)
{
	write_bytes_both(cell, flow, "bytes_spliced");
}

static void write_tcp(FILE *cell, const json_t *flow)
{
	write_bytes_both(cell, flow, "bytes_tcp");
}

/* What has happened more than never, of both directions: "cut-over 1/1 spill 0/2". */
static void write_history(FILE *cell, const json_t *flow)
{
	static const struct {
		const char *label;
		const char *key;
	} events[] = {
		{"cut-over", "cut_overs"}, {"leave", "leaves"}, {"spill", "spills"},
		{"rejoin", "rejoins"},	   {"kick", "kicks"},
	};
	const char *gap = "";

	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		const char *key = events[i].key;

		if (!number_both(flow, key))
			continue;
		fprintf(cell, "%s%s %d/%d", gap, events[i].label,
			(int)number(direction(flow, "client_to_server"), key),
			(int)number(direction(flow, "server_to_client"), key));
		gap = " ";
	}
}

static void write_rtt(FILE *cell, const json_t *flow)
{
	if (number(flow, "rtt_us"))
		fprintf(cell, "%dus", (int)number(flow, "rtt_us"));
}

static void write_connect(FILE *cell, const json_t *flow)
{
	if (json_is_integer(json_object_get(flow, "connect_us")))
		fprintf(cell, "%dus", (int)number(flow, "connect_us"));
}

/* On a terminal the columns of the highest rank go first, until the rest fits. */
static const struct column {
	const char *title;
	char align;
	int rank;
	void (*write)(FILE *cell, const json_t *flow);
} columns[] = {
	{"AGE", 'r', 6, write_age},
	{"CLIENT", 'l', 0, write_client},
	{"SERVER", 'l', 1, write_server},
	{"DIALLED", 'l', 0, write_dialled},
	{"REDIRECTED TO", 'l', 5, write_redirected_to},
	{"STATE", 'l', 0, write_state},
	{"WHY NOT", 'l', 0, write_reason},
	{"SPLICED", 'r', 2, write_spliced},
	{"TCP", 'r', 3, write_tcp},
	{"HISTORY", 'l', 4, write_history},
	{"RTT", 'r', 7, write_rtt},
	{"CONNECT", 'r', 8, write_connect},
	{"FROM", 'l', 9, write_address},
	{"MESH", 'l', 10, write_mesh},
	{"CLIENT CGROUP", 'l', 11, write_client_cgroup},
	{"SERVER CGROUP", 'l', 12, write_server_cgroup},
};

/* 0: not a terminal, nothing has to fit. */
static int terminal_width(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static void out_of_memory(void)
{
	out_error("out of memory");
	exit(EXIT_FAILURE);
}

/*
 * A flow has as many cells as there are columns. They are ASCII but for names of programs and
 * cgroups; for these the width is too great at worst.
 */
static void format_cells(const json_t *flow, char **cells, int *widths)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	const char *cell;

	for (size_t i = 0; stream && i < COLUMNS; i++) {
		columns[i].write(stream, flow);
		fputc('\0', stream);
	}
	if (!stream || fclose(stream) != 0)
		out_of_memory();
	cell = text;
	for (size_t i = 0; i < COLUMNS; i++) {
		int width = strlen(cell);

		cells[i] = (char *)cell;
		widths[i] = width > widths[i] ? width : widths[i];
		cell += width + 1;
	}
}

/* Which columns are printed: all, or as many as fit. */
static void choose_columns(int *widths, bool chosen[])
{
	int available = terminal_width(), total = 0;

	for (size_t i = 0; i < COLUMNS; i++) {
		chosen[i] = true;
		total += widths[i] + (i ? COLUMN_GAP : 0);
	}
	while (available && total > available) {
		size_t last = 0;

		for (size_t i = 0; i < COLUMNS; i++) {
			if (chosen[i] && (!chosen[last] || columns[i].rank > columns[last].rank))
				last = i;
		}
		if (columns[last].rank == 0)
			return;
		chosen[last] = false;
		total -= widths[last] + COLUMN_GAP;
	}
}

static void print_table(char *const *cells, size_t n_cells, const bool chosen[])
{
	_cleanup_out_table_ struct out_table *table = NULL;
	char align[COLUMNS + 1] = "";
	size_t n = 0;

	for (size_t i = 0; i < COLUMNS; i++) {
		if (chosen[i])
			align[n++] = columns[i].align;
	}
	table = out_table_new(align);
	for (size_t i = 0; i < COLUMNS; i++) {
		if (chosen[i])
			out_table_text(table, "%s", columns[i].title);
	}
	for (size_t i = 0; i < n_cells; i++) {
		if (chosen[i % COLUMNS])
			out_table_text(table, "%s", cells[i]);
	}
	out_table_print(table, stdout);
}

static void print_flows(const struct ranked *flows, size_t n)
{
	_cleanup_free_ char **cells = calloc(n * COLUMNS + 1, sizeof(*cells));
	bool chosen[COLUMNS];
	int widths[COLUMNS];

	if (!cells)
		out_of_memory();
	for (size_t i = 0; i < COLUMNS; i++)
		widths[i] = strlen(columns[i].title);
	for (size_t i = 0; i < n; i++) {
		_cleanup_json_ json_t *flow =
			json_loadb(flows[i].text.text, flows[i].text.len, 0, NULL);

		format_cells(flow, &cells[i * COLUMNS], widths);
	}
	choose_columns(widths, chosen);
	print_table(cells, n * COLUMNS, chosen);
	for (size_t i = 0; i < n; i++) /* the first holds the whole row */
		free(cells[i * COLUMNS]);
}

static json_int_t rank_age(const struct pages_item *flow)
{
	return pages_sum(flow, "age_s");
}

static json_int_t rank_bytes(const struct pages_item *flow)
{
	return pages_sum(flow, "bytes_spliced") + pages_sum(flow, "bytes_tcp");
}

/* The most first. */
static int compare(const void *a, const void *b)
{
	const struct ranked *one = a, *other = b;

	return (one->rank < other->rank) - (one->rank > other->rank);
}

/* An object a line, as the agent has written it. */
static void print_json(const struct ranked *flows, size_t n)
{
	putchar('[');
	for (size_t i = 0; i < n; i++) {
		fputs(i ? ",\n" : "\n", stdout);
		fwrite(flows[i].text.text, 1, flows[i].text.len, stdout);
	}
	puts(n ? "\n]" : "]");
}

static int show(const struct ctl *ctl, json_t *request,
		json_int_t (*rank)(const struct pages_item *flow))
{
	_cleanup_(pages_deinit) struct pages pages;
	_cleanup_free_ struct ranked *sorted = NULL;

	if (pages_fetch(ctl->socket, "flows", "flows", request, &pages) < 0)
		return EXIT_FAILURE;
	sorted = calloc(pages.n + 1, sizeof(*sorted));
	if (!sorted)
		out_of_memory();
	for (size_t i = 0; i < pages.n; i++)
		sorted[i] = (struct ranked){pages.items[i], rank(&pages.items[i])};
	qsort(sorted, pages.n, sizeof(*sorted), compare);
	if (ctl->json)
		print_json(sorted, pages.n);
	else
		print_flows(sorted, pages.n);
	return EXIT_SUCCESS;
}

static int take_sort(json_int_t (**ret_rank)(const struct pages_item *flow))
{
	if (strcmp(optarg, "bytes") == 0) {
		*ret_rank = rank_bytes;
	} else if (strcmp(optarg, "age") != 0) {
		out_error("flows: --sort: '%s'? There are age and bytes", optarg);
		return -1;
	}
	return 0;
}

int cmd_flows(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		FILTER_OPTIONS,
		{"sort", required_argument, NULL, 't'},
		{NULL, 0, NULL, 0},
	};
	_cleanup_json_ json_t *request = json_object();
	json_int_t (*rank)(const struct pages_item *flow) = rank_age;
	int option, r = 0;

	optind = 0; /* begin anew: main has read the options before the command */
	while (r == 0 && (option = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		if (option == 't')
			r = take_sort(&rank);
		else
			r = filter_take("flows", option, argv, request);
	}
	if (r < 0 || filter_finish("flows", argc, argv) < 0)
		return EXIT_USAGE;
	return show(ctl, json_incref(request), rank);
}
