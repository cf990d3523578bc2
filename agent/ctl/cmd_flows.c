/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl flows: one line a connection.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cmd.h"
#include "filter.h"
#include "pages.h"

#define COLUMN_GAP 2 /* as in out.c */
#define COLUMNS	   ARRAY_SIZE(columns)

struct ranked {
	size_t number; /* in the order in which they came */
	json_int_t rank;
};

/* What is shown of the connections, a cell after the other, each with a NUL at its end. */
struct rows {
	FILE *stream; /* .text, while it is written */
	char *text;
	size_t size;
	size_t *begin; /* of each row, in .text */
	size_t n;
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
	out_text(cell, out_string(flow, key));
}

static void write_mesh(FILE *cell, const json_t *flow)
{
	write_string(cell, flow, "mesh");
}

static void write_program(FILE *cell, const json_t *side)
{
	if (!number(side, "pid"))
		return;
	out_text(cell, out_string(side, "comm"));
	fprintf(cell, "/%d", (int)number(side, "pid"));
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

	out_text(cell, out);
	if (strcmp(out, back) == 0)
		return;
	fputc('/', cell);
	out_text(cell, back);
}

static void write_reason(FILE *cell, const json_t *flow)
{
	const char *reason = out_string(flow, "reason");

	out_text(cell, strcmp(reason, "none") == 0 ? "-" : reason);
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

static void rows_init(struct rows *rows)
{
	*rows = (struct rows){};
	rows->stream = open_memstream(&rows->text, &rows->size);
	if (!rows->stream)
		out_of_memory();
}

static void rows_deinit(struct rows *rows)
{
	if (rows->stream)
		fclose(rows->stream);
	free(rows->text);
	free(rows->begin);
}

/* Keeps what is shown of a connection, as soon as the agent has told of it. */
static void rows_take(void *user, const struct pages_item *item)
{
	_cleanup_json_ json_t *flow = json_loadb(item->text, item->len, 0, NULL);
	struct rows *rows = user;

	if ((rows->n & (rows->n - 1)) == 0) {
		rows->begin =
			reallocarray(rows->begin, rows->n ? 2 * rows->n : 1, sizeof(*rows->begin));
		if (!rows->begin)
			out_of_memory();
	}
	rows->begin[rows->n++] = ftell(rows->stream);
	for (size_t i = 0; i < COLUMNS; i++) {
		columns[i].write(rows->stream, flow);
		fputc('\0', rows->stream);
	}
}

/* All rows are there. */
static void rows_finish(struct rows *rows, int *widths)
{
	const char *cell;

	if (fclose(TAKE_PTR(rows->stream)) != 0)
		out_of_memory();
	cell = rows->text;
	for (size_t i = 0; i < COLUMNS; i++)
		widths[i] = strlen(columns[i].title);
	for (size_t i = 0; i < rows->n * COLUMNS; i++) {
		int width = out_width(cell);

		widths[i % COLUMNS] = width > widths[i % COLUMNS] ? width : widths[i % COLUMNS];
		cell += strlen(cell) + 1;
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

static void print_row(const char *cell, const int *widths, const bool chosen[])
{
	size_t last = COLUMNS;

	while (!chosen[--last])
		;
	for (size_t i = 0; i < COLUMNS; i++) {
		if (chosen[i])
			out_cell(stdout, *cell ? cell : "-", widths[i], columns[i].align,
				 i == last);
		cell += strlen(cell) + 1;
	}
}

static void print_table(struct rows *rows, const struct ranked *sorted)
{
	char titles[256] = "", *end = titles;
	bool chosen[COLUMNS];
	int widths[COLUMNS];

	rows_finish(rows, widths);
	choose_columns(widths, chosen);
	for (size_t i = 0; i < COLUMNS; i++)
		end = stpcpy(end, columns[i].title) + 1;
	print_row(titles, widths, chosen);
	for (size_t i = 0; i < rows->n; i++)
		print_row(rows->text + rows->begin[sorted[i].number], widths, chosen);
}

static json_int_t rank_age(const struct pages_item *flow)
{
	return pages_sum(flow, "age_s");
}

static json_int_t rank_bytes(const struct pages_item *flow)
{
	return pages_sum(flow, "bytes_spliced") + pages_sum(flow, "bytes_tcp");
}

/* The most first; of the same the one that came first. */
static int compare(const void *a, const void *b)
{
	const struct ranked *one = a, *other = b;

	if (one->rank != other->rank)
		return one->rank < other->rank ? 1 : -1;
	return (one->number > other->number) - (one->number < other->number);
}

/* An object a line, as the agent has written it. */
static void print_json(const struct pages *pages, const struct ranked *sorted)
{
	putchar('[');
	for (size_t i = 0; i < pages->n; i++) {
		const struct pages_item *item = &pages->items[sorted[i].number];

		fputs(i ? ",\n" : "\n", stdout);
		fwrite(item->text, 1, item->len, stdout);
	}
	puts(pages->n ? "\n]" : "]");
}

static int show(const struct ctl *ctl, json_t *request,
		json_int_t (*rank)(const struct pages_item *flow))
{
	_cleanup_(pages_deinit) struct pages pages;
	_cleanup_(rows_deinit) struct rows rows;
	_cleanup_free_ struct ranked *sorted = NULL;

	rows_init(&rows);
	if (!ctl->json)
		json_object_set_new(request, "brief", json_true());
	if (pages_fetch(ctl->socket, "flows", "flows", request, ctl->json ? NULL : rows_take, &rows,
			&pages) < 0)
		return EXIT_FAILURE;
	sorted = calloc(pages.n + 1, sizeof(*sorted));
	if (!sorted)
		out_of_memory();
	for (size_t i = 0; i < pages.n; i++)
		sorted[i] = (struct ranked){i, rank(&pages.items[i])};
	qsort(sorted, pages.n, sizeof(*sorted), compare);
	if (ctl->json)
		print_json(&pages, sorted);
	else
		print_table(&rows, sorted);
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
