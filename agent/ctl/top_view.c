/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What `shuntctl top` shows.
 * Reads from: rates of connections and meshes.
 * Writes to: lines of text.
 */
#include "top_view.h"

#include <errno.h>
#include <string.h>

#include "util/text.h"

#define COLUMN_GAP  1
#define MESHES_ROWS 5 /* of the table of meshes, its head included */
#define FLOWS_ROWS  4 /* that the table of meshes leaves at least to the other */
#define ABSENT	    "-"
#define CUT	    '+' /* stands where something is missing */

static const char *const order_names[TOP_ORDERS] = {
	[TOP_ORDER_BYTES] = "bytes/s", [TOP_ORDER_SPLICED] = "spliced/s", [TOP_ORDER_TCP] = "TCP/s",
	[TOP_ORDER_SPILLS] = "spills", [TOP_ORDER_AGE] = "age",
};

static const char *const help[] = {
	"q        quit",
	"space    look again at once",
	"d        set the seconds between two looks; + and - double and halve them",
	"b        sort by bytes a second, spliced or not",
	"s  t     sort by bytes a second spliced, by TCP",
	"l        sort by spills",
	"a        sort by age",
	"R        reverse the order",
	"i        hide the connections that moved nothing, or show them",
	"m        hide the meshes, or show them",
	"up, down, PgUp, PgDn, Home, End   scroll",
	"h  ?     this help; any key ends it",
	"",
	"Rates are of the time between two looks. STATE of both directions, the",
	"client's first: pln plain, rdy ready, spl spliced, spi spilled, lft left.",
};

/* Text of a given width. */

/* How many columns the text takes once control characters are written as \xNN. */
static size_t text_width(const char *text)
{
	size_t width = 0;

	while (*text) {
		bool plain;

		text += text_next(text, &plain);
		width += plain ? 1 : 4;
	}
	return width;
}

/* Writes @text into exactly @width columns. What is too long loses its end, or its begin. */
static void write_cell(FILE *stream, const char *text, size_t width, bool right, bool lose_begin)
{
	size_t taken = text_width(text), skip = 0, left = width;

	if (taken <= width) {
		fprintf(stream, "%*s", right ? (int)(width - taken) : 0, "");
	} else if (lose_begin && width) {
		fputc(CUT, stream);
		skip = taken - width + 1;
		left--;
	} else if (width) {
		left--;
	}
	while (*text && left) {
		bool plain;
		size_t len = text_next(text, &plain), wide = plain ? 1 : 4;

		if (skip) {
			skip -= wide < skip ? wide : skip;
		} else if (wide > left) {
			break;
		} else {
			if (plain)
				fwrite(text, 1, len, stream);
			else
				fprintf(stream, "\\x%02x", (unsigned char)*text);
			left -= wide;
		}
		text += len;
	}
	if (taken > width && !lose_begin && width)
		fputc(CUT, stream);
	if (taken > width || !right)
		fprintf(stream, "%*s", taken > width ? (int)left : (int)(width - taken), "");
}

/* Lines. */

struct page {
	struct top_screen *screen;
	size_t rows; /* 0: no limit */
	size_t columns;
	bool failed;
};

static bool page_is_full(const struct page *page)
{
	return page->rows && page->screen->n_lines >= page->rows;
}

/* Steals @text. */
static void page_add(struct page *page, char *text, enum top_style style)
{
	_cleanup_free_ char *owned = text;
	struct top_screen *screen = page->screen;
	size_t len = text ? strlen(text) : 0;
	void *lines;

	if (page_is_full(page))
		return;
	lines = reallocarray(screen->lines, screen->n_lines + 1, sizeof(*screen->lines));
	if (lines)
		screen->lines = lines;
	if (!lines || !text) {
		page->failed = true;
		return;
	}
	while (len && text[len - 1] == ' ')
		text[--len] = '\0';
	screen->lines[screen->n_lines++] =
		(struct top_line){.text = TAKE_PTR(owned), .style = style};
}

__attribute__((format(printf, 3, 4))) static void
page_print(struct page *page, enum top_style style, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	char *line = NULL;
	size_t size;
	FILE *stream;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	stream = text ? open_memstream(&line, &size) : NULL;
	if (stream) {
		/* What is wrong stands at the end of a message. */
		write_cell(stream, text, page->columns, false, style == TOP_STYLE_TROUBLE);
		fclose(stream);
	}
	page_add(page, line, style);
}

/* A table: some columns that are always there, others as far as there is room, by rank. */

struct column {
	const char *title;
	size_t least;
	size_t most; /* it grows to this if there is room */
	char align;  /* 'l', 'r', or 'L': to the left, and the end is what matters */
	int rank;    /* 0: always there */
	void (*write)(FILE *cell, const void *row);
};

#define COLUMNS_MAX 16

/* Chooses the columns and their widths; 0: not shown. */
static void choose_widths(const struct column *columns, size_t n, size_t available, size_t *widths)
{
	size_t taken = 0;

	for (size_t i = 0; i < n; i++) {
		widths[i] = columns[i].rank ? 0 : columns[i].least;
		taken += widths[i] ? widths[i] + COLUMN_GAP : 0;
	}
	for (int rank = 1; rank < (int)n + 1; rank++) {
		for (size_t i = 0; i < n; i++) {
			if (columns[i].rank != rank || taken + columns[i].least > available)
				continue;
			widths[i] = columns[i].least;
			taken += widths[i] + COLUMN_GAP;
		}
	}
	for (size_t i = 0; i < n; i++) {
		size_t room = available + COLUMN_GAP > taken ? available + COLUMN_GAP - taken : 0;
		size_t more = widths[i] ? columns[i].most - columns[i].least : 0;

		more = more < room ? more : room;
		widths[i] += more;
		taken += more;
	}
}

/* @row: NULL: the head. */
static char *format_row(const struct page *page, const struct column *columns, size_t n,
			const size_t *widths, const void *row)
{
	_cleanup_free_ char *line = NULL;
	size_t size, left = page->columns;
	FILE *stream = open_memstream(&line, &size);

	if (!stream)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t width = widths[i] < left ? widths[i] : left;
		_cleanup_free_ char *text = NULL;
		size_t text_size;
		FILE *cell;

		if (!width)
			continue;
		cell = open_memstream(&text, &text_size);
		if (!cell)
			break;
		if (row)
			columns[i].write(cell, row);
		else
			fputs(columns[i].title, cell);
		fclose(cell);
		write_cell(stream, *text ? text : ABSENT, width, columns[i].align == 'r',
			   columns[i].align == 'L' && row);
		left -= width;
		fprintf(stream, "%*s", left ? COLUMN_GAP : 0, "");
		left -= left ? COLUMN_GAP : 0;
	}
	fclose(stream);
	return TAKE_PTR(line);
}

/* Cells of meshes. */

static void write_rate(FILE *cell, bool known, double rate)
{
	char text[OUT_BYTES_SIZE];

	if (known)
		fputs(out_bytes(text, rate), cell);
}

static void write_mesh_name(FILE *cell, const void *row)
{
	const struct rates_mesh *mesh = row;

	fputs(mesh->name ? mesh->name : ABSENT, cell);
}

static void write_mesh_flows(FILE *cell, const void *row)
{
	fprintf(cell, "%zu", ((const struct rates_mesh *)row)->flows);
}

static void write_mesh_flows_spliced(FILE *cell, const void *row)
{
	fprintf(cell, "%zu", ((const struct rates_mesh *)row)->flows_spliced);
}

static void write_mesh_spliced(FILE *cell, const void *row)
{
	write_rate(cell, true, ((const struct rates_mesh *)row)->spliced);
}

static void write_mesh_tcp(FILE *cell, const void *row)
{
	write_rate(cell, true, ((const struct rates_mesh *)row)->tcp);
}

static void write_mesh_spills(FILE *cell, const void *row)
{
	fprintf(cell, "%" JSON_INTEGER_FORMAT, ((const struct rates_mesh *)row)->spills);
}

static const struct column mesh_columns[] = {
	{"MESH", 12, 24, 'l', 0, write_mesh_name},
	{"FLOWS", 6, 6, 'r', 0, write_mesh_flows},
	{"SPLICED", 7, 7, 'r', 0, write_mesh_flows_spliced},
	{"SPLICED/s", 9, 9, 'r', 0, write_mesh_spliced},
	{"TCP/s", 7, 7, 'r', 0, write_mesh_tcp},
	{"SPILLS", 6, 6, 'r', 0, write_mesh_spills},
};

/* Cells of connections. */

static const char *flow_string(const void *row, const char *key)
{
	const char *text =
		json_string_value(json_object_get(((const struct rates_flow *)row)->flow, key));

	return text ? text : "";
}

static void write_program(FILE *cell, const void *row, const char *side)
{
	const json_t *end = json_object_get(((const struct rates_flow *)row)->flow, side);
	json_int_t pid = json_integer_value(json_object_get(end, "pid"));

	if (pid)
		fprintf(cell, "%s/%" JSON_INTEGER_FORMAT, out_string(end, "comm"), pid);
}

static void write_client(FILE *cell, const void *row)
{
	write_program(cell, row, "client");
}

static void write_server(FILE *cell, const void *row)
{
	write_program(cell, row, "server");
}

static void write_cgroup(FILE *cell, const void *row)
{
	const json_t *flow = ((const struct rates_flow *)row)->flow;

	fputs(out_string(json_object_get(flow, "client"), "cgroup"), cell);
}

static void write_dialled(FILE *cell, const void *row)
{
	fputs(flow_string(row, "dialled"), cell);
}

static void write_mesh(FILE *cell, const void *row)
{
	fputs(flow_string(row, "mesh"), cell);
}

static void write_reason(FILE *cell, const void *row)
{
	const char *reason = flow_string(row, "reason");

	if (strcmp(reason, "none") != 0)
		fputs(reason, cell);
}

static const char *state_brief(const char *state)
{
	static const char *const briefs[][2] = {
		{"plain", "pln"},   {"ready", "rdy"}, {"spliced", "spl"},
		{"spilled", "spi"}, {"left", "lft"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(briefs); i++)
		if (strcmp(briefs[i][0], state) == 0)
			return briefs[i][1];
	return state;
}

static void write_state(FILE *cell, const void *row)
{
	const json_t *directions =
		json_object_get(((const struct rates_flow *)row)->flow, "directions");
	const char *out = out_string(json_object_get(directions, "client_to_server"), "state");
	const char *back = out_string(json_object_get(directions, "server_to_client"), "state");

	if (strcmp(out, back) == 0)
		fputs(out, cell);
	else
		fprintf(cell, "%s/%s", state_brief(out), state_brief(back));
}

static void write_spliced(FILE *cell, const void *row)
{
	const struct rates_flow *rate = row;

	write_rate(cell, rate->known, rate->spliced);
}

static void write_tcp(FILE *cell, const void *row)
{
	const struct rates_flow *rate = row;

	write_rate(cell, rate->known, rate->tcp);
}

static void write_spills(FILE *cell, const void *row)
{
	fprintf(cell, "%" JSON_INTEGER_FORMAT, ((const struct rates_flow *)row)->spills);
}

static void write_age(FILE *cell, const void *row)
{
	const json_t *flow = ((const struct rates_flow *)row)->flow;
	char text[OUT_AGE_SIZE];

	fputs(out_age(text, json_integer_value(json_object_get(flow, "age_s"))), cell);
}

/* Those that are always there fill 70 columns, and 80 with the reason. */
static const struct column flow_columns[] = {
	{"CLIENT", 14, 24, 'l', 0, write_client},
	{"SERVER", 14, 24, 'l', 3, write_server},
	{"DIALLED", 21, 47, 'l', 0, write_dialled},
	{"STATE", 7, 7, 'l', 0, write_state},
	{"SPLICED/s", 9, 9, 'r', 0, write_spliced},
	{"TCP/s", 8, 8, 'r', 0, write_tcp},
	{"SPILL", 6, 6, 'r', 0, write_spills},
	{"WHY NOT", 9, 15, 'l', 1, write_reason},
	{"AGE", 6, 6, 'r', 2, write_age},
	{"MESH", 8, 16, 'l', 4, write_mesh},
	{"CLIENT CGROUP", 20, 100, 'L', 5, write_cgroup},
};

_Static_assert(ARRAY_SIZE(flow_columns) <= COLUMNS_MAX && ARRAY_SIZE(mesh_columns) <= COLUMNS_MAX,
	       "widths");

/* The order. */

static double flow_rank(const struct rates_flow *rate, enum top_order order)
{
	switch (order) {
	case TOP_ORDER_SPLICED:
		return rate->spliced;
	case TOP_ORDER_TCP:
		return rate->tcp;
	case TOP_ORDER_SPILLS:
		return rate->spills;
	case TOP_ORDER_AGE:
		return json_integer_value(json_object_get(rate->flow, "age_s"));
	default:
		return rate->spliced + rate->tcp;
	}
}

struct sorter {
	enum top_order order;
	bool reverse;
};

static int compare(const void *a, const void *b, void *arg)
{
	const struct rates_flow *one = *(const struct rates_flow *const *)a;
	const struct rates_flow *other = *(const struct rates_flow *const *)b;
	const struct sorter *sorter = arg;
	double rank = flow_rank(one, sorter->order), other_rank = flow_rank(other, sorter->order);
	json_int_t bytes = one->bytes_spliced + one->bytes_tcp;
	json_int_t other_bytes = other->bytes_spliced + other->bytes_tcp;
	int r = (rank < other_rank) - (rank > other_rank);

	r = r ?: (bytes < other_bytes) - (bytes > other_bytes);
	r = sorter->reverse ? -r : r;
	/* So that those that are equal stay where they are. */
	return r ?: strcmp(flow_string(one, "id"), flow_string(other, "id"));
}

/* What is on the screen, from top to bottom. */

static void draw_title(struct page *page, const struct top_view *view)
{
	const json_t *status = view->now ? view->now->status : NULL;
	char age[OUT_AGE_SIZE];

	if (!status) {
		page_print(page, TOP_STYLE_PLAIN, "shuntctl top - %s  every %g s", view->clock,
			   view->delay);
		return;
	}
	page_print(page, TOP_STYLE_PLAIN,
		   "shuntctl top - %s  agent %s, up %s  splice %s  every %g s", view->clock,
		   out_string(status, "version"),
		   out_age(age, json_integer_value(json_object_get(status, "uptime_seconds"))),
		   out_string(status, "splice"), view->delay);
}

/* "2.5", or "-" if this is not known. */
static const char *write_events(char text[OUT_BYTES_SIZE], const struct rates *rates,
				const char *counter)
{
	double rate = rates_counter(rates, counter);

	if (rate < 0)
		return strcpy(text, ABSENT);
	if (rate >= 1000)
		return out_bytes(text, rate);
	snprintf(text, OUT_BYTES_SIZE, "%.1f", rate);
	return text;
}

/* Of counters, which know of connections that are over, too. */
static void draw_totals(struct page *page, const struct top_view *view)
{
	const struct rates *rates = view->rates;
	char a[OUT_BYTES_SIZE], b[OUT_BYTES_SIZE], c[OUT_BYTES_SIZE], d[OUT_BYTES_SIZE];
	char e[OUT_BYTES_SIZE];

	if (rates->seconds <= 0) {
		page_print(page, TOP_STYLE_PLAIN, "Flows:  %zu open, %zu spliced", rates->all.flows,
			   rates->all.flows_spliced);
		page_print(page, TOP_STYLE_PLAIN, "Rates need a second look, in a moment.");
		page_print(page, TOP_STYLE_PLAIN, "%s", "");
		return;
	}
	page_print(page, TOP_STYLE_PLAIN, "Flows:  %zu open, %zu spliced;  %s/s opened;  by %s%s",
		   rates->all.flows, rates->all.flows_spliced,
		   write_events(a, rates, "pairs_opened"), order_names[view->order],
		   view->reverse ? ", least first" : "");
	page_print(page, TOP_STYLE_PLAIN,
		   "Bytes:  %s/s spliced in %s messages/s;  %s/s by TCP, of those open",
		   write_events(a, rates, "splice_bytes"),
		   write_events(b, rates, "splice_messages"), out_bytes(c, rates->all.tcp));
	page_print(page, TOP_STYLE_PLAIN,
		   "Per s:  %s cut over, %s left, %s spilled, %s rejoined, %s kicked",
		   write_events(a, rates, "splice_cut_over"), write_events(b, rates, "splice_left"),
		   write_events(c, rates, "splice_spilled"),
		   write_events(d, rates, "splice_rejoined"),
		   write_events(e, rates, "splice_kicked"));
}

static int compare_meshes(const void *a, const void *b)
{
	const struct rates_mesh *one = a, *other = b;
	double rate = one->spliced + one->tcp, other_rate = other->spliced + other->tcp;

	return (rate < other_rate) - (rate > other_rate)
		       ?: (one->flows < other->flows) - (one->flows > other->flows);
}

static void draw_meshes(struct page *page, const struct rates *rates)
{
	_cleanup_free_ struct rates_mesh *meshes = calloc(rates->n_meshes + 1, sizeof(*meshes));
	size_t widths[COLUMNS_MAX];
	size_t n = ARRAY_SIZE(mesh_columns), shown = rates->n_meshes;

	if (!meshes) {
		page->failed = true;
		return;
	}
	if (rates->n_meshes)
		memcpy(meshes, rates->meshes, rates->n_meshes * sizeof(*meshes));
	qsort(meshes, rates->n_meshes, sizeof(*meshes), compare_meshes);
	if (page->rows && shown > MESHES_ROWS - 1)
		shown = MESHES_ROWS - 1;
	choose_widths(mesh_columns, n, page->columns, widths);
	page_add(page, format_row(page, mesh_columns, n, widths, NULL), TOP_STYLE_HEAD);
	for (size_t i = 0; i < shown; i++)
		page_add(page, format_row(page, mesh_columns, n, widths, &meshes[i]),
			 TOP_STYLE_PLAIN);
	page_print(page, TOP_STYLE_PLAIN, "%s", "");
}

static void draw_flows(struct page *page, const struct top_view *view)
{
	const struct rates *rates = view->rates;
	_cleanup_free_ const struct rates_flow **flows = calloc(rates->n_flows + 1, sizeof(*flows));
	struct sorter sorter = {view->order, view->reverse};
	size_t widths[COLUMNS_MAX], n = ARRAY_SIZE(flow_columns), n_flows = 0;
	struct top_screen *screen = page->screen;
	size_t first;

	if (!flows) {
		page->failed = true;
		return;
	}
	for (size_t i = 0; i < rates->n_flows; i++) {
		const struct rates_flow *rate = &rates->flows[i];

		if (!view->hide_idle || !rate->known || rate->spliced + rate->tcp > 0)
			flows[n_flows++] = rate;
	}
	qsort_r(flows, n_flows, sizeof(*flows), compare, &sorter);
	choose_widths(flow_columns, n, page->columns, widths);
	page_add(page, format_row(page, flow_columns, n, widths, NULL), TOP_STYLE_HEAD);
	screen->n_flows = n_flows;
	screen->page = page->rows > screen->n_lines ? page->rows - screen->n_lines : n_flows;
	first = n_flows > screen->page ? n_flows - screen->page : 0;
	first = view->first < first ? view->first : first;
	for (size_t i = first; i < n_flows && !page_is_full(page); i++) {
		page_add(page, format_row(page, flow_columns, n, widths, flows[i]),
			 rates_is_spliced(flows[i]->flow) ? TOP_STYLE_SPLICED : TOP_STYLE_PLAIN);
	}
}

static bool meshes_fit(const struct top_view *view, const struct page *page)
{
	size_t rows = page->screen->n_lines + view->rates->n_meshes + 2 + FLOWS_ROWS;

	return !view->hide_meshes &&
	       (!page->rows || page->rows >= rows ||
		page->rows >= page->screen->n_lines + MESHES_ROWS + 1 + FLOWS_ROWS);
}

int top_view_draw(const struct top_view *view, size_t rows, size_t columns, struct top_screen *ret)
{
	struct page page = {.screen = ret, .rows = rows, .columns = columns};

	*ret = (struct top_screen){};
	draw_title(&page, view);
	for (size_t i = 0; view->help && i < ARRAY_SIZE(help); i++)
		page_print(&page, TOP_STYLE_PLAIN, "%s", help[i]);
	if (view->help)
		return page.failed ? -ENOMEM : 0;
	if (view->rates)
		draw_totals(&page, view);
	if (view->prompt)
		page_print(&page, TOP_STYLE_TROUBLE, "%s", view->prompt);
	else if (view->trouble)
		page_print(&page, TOP_STYLE_TROUBLE, "%s", view->trouble);
	else if (rows)
		page_print(&page, TOP_STYLE_PLAIN, "%s", "");
	if (view->rates && meshes_fit(view, &page))
		draw_meshes(&page, view->rates);
	if (view->rates)
		draw_flows(&page, view);
	return page.failed ? -ENOMEM : 0;
}

void top_screen_deinit(struct top_screen *screen)
{
	for (size_t i = 0; i < screen->n_lines; i++)
		free(screen->lines[i].text);
	free(screen->lines);
	*screen = (struct top_screen){};
}
