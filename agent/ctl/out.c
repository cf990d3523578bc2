/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What shuntctl prints.
 * Reads from: answers of the agent.
 * Writes to: the stream it is given; stderr.
 */
#include "out.h"

#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/text.h"

#define COLUMN_GAP 2

struct out_table {
	const char *columns;
	size_t n_columns;
	char **cells; /* row after row */
	size_t n_cells;
};

static void *check(void *allocated)
{
	if (!allocated) {
		fputs("shuntctl: out of memory\n", stderr);
		exit(EXIT_FAILURE);
	}
	return allocated;
}

/* @kept: control characters that may stay. */
static char *escape(const char *text, const char *kept)
{
	char *escaped = check(malloc(4 * strlen(text) + 1)), *end = escaped;

	while (*text) {
		bool plain;
		size_t len = text_next(text, &plain);

		if (plain || strchr(kept, *text))
			end = mempcpy(end, text, len);
		else
			end += sprintf(end, "\\x%02x", (unsigned char)*text);
		text += len;
	}
	*end = '\0';
	return escaped;
}

static char *text_format(const char *format, va_list args)
{
	char *text;

	return check(vasprintf(&text, format, args) < 0 ? NULL : text);
}

static _Thread_local FILE *errors; /* NULL: stderr */

void out_errors_to(FILE *stream)
{
	errors = stream;
}

void out_error(const char *format, ...)
{
	_cleanup_free_ char *text = NULL, *escaped = NULL;
	size_t len;
	va_list args;

	va_start(args, format);
	text = text_format(format, args);
	va_end(args);
	len = strlen(text);
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	escaped = escape(text, "\n\t");
	fprintf(errors ? errors : stderr, "%s%s\n",
		strchr(escaped, '\n') ? "" : "shuntctl: ", escaped);
}

const char *out_bytes(char text[OUT_BYTES_SIZE], double bytes)
{
	static const char units[] = " KMGTPE";
	int unit = 0;

	while (bytes >= 999.5 && units[unit + 1]) {
		bytes /= 1024;
		unit++;
	}
	if (unit == 0)
		snprintf(text, OUT_BYTES_SIZE, "%.0f", bytes);
	else
		snprintf(text, OUT_BYTES_SIZE, "%.*f%c", bytes < 9.95 ? 1 : 0, bytes, units[unit]);
	return text;
}

const char *out_age(char text[OUT_AGE_SIZE], json_int_t s)
{
	if (s < 60)
		snprintf(text, OUT_AGE_SIZE, "%ds", (int)s);
	else if (s < 3600)
		snprintf(text, OUT_AGE_SIZE, "%dm%02ds", (int)(s / 60), (int)(s % 60));
	else if (s < 86400)
		snprintf(text, OUT_AGE_SIZE, "%dh%02dm", (int)(s / 3600), (int)(s / 60 % 60));
	else
		snprintf(text, OUT_AGE_SIZE, "%dd%02dh", (int)(s / 86400), (int)(s / 3600 % 24));
	return text;
}

void out_json(FILE *stream, const json_t *value)
{
	/* ASCII, for there are control characters beyond it. */
	_cleanup_free_ char *text = check(json_dumps(
		value, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_ENSURE_ASCII));

	fprintf(stream, "%s\n", text);
}

void out_text(FILE *stream, const char *text)
{
	_cleanup_free_ char *escaped = NULL;
	const char *at = text;
	bool plain = true;

	while (plain && *at)
		at += text_next(at, &plain);
	if (!plain)
		escaped = escape(text, "");
	fputs(escaped ? escaped : text, stream);
}

void out_line(FILE *stream, const char *text)
{
	out_text(stream, text);
	putc('\n', stream);
}

/* In characters, each one column wide. */
int out_width(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static void pad(FILE *stream, int n)
{
	while (n-- > 0)
		putc(' ', stream);
}

void out_cell(FILE *stream, const char *text, int width, char align, bool last)
{
	int blanks = width - out_width(text);

	if (align == 'r')
		pad(stream, blanks);
	fputs(text, stream);
	if (last) { /* no blanks at the end of a line */
		putc('\n', stream);
		return;
	}
	pad(stream, align == 'r' ? COLUMN_GAP : blanks + COLUMN_GAP);
}

const char *out_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "-";
}

struct out_table *out_table_new(const char *columns)
{
	struct out_table *table = check(calloc(1, sizeof(*table)));

	table->columns = columns;
	table->n_columns = strlen(columns);
	return table;
}

struct out_table *out_table_free(struct out_table *table)
{
	for (size_t i = 0; table && i < table->n_cells; i++)
		free(table->cells[i]);
	if (table)
		free(table->cells);
	free(table);
	return NULL;
}

/* Steals @text. */
static void table_add(struct out_table *table, char *text)
{
	_cleanup_free_ char *owned = check(text);

	table->cells = check(reallocarray(table->cells, table->n_cells + 1, sizeof(*table->cells)));
	table->cells[table->n_cells++] = escape(*owned ? owned : "-", "");
}

void out_table_text(struct out_table *table, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	table_add(table, text_format(format, args));
	va_end(args);
}

static void value_print(FILE *stream, const json_t *value)
{
	const json_t *item;
	size_t i;

	if (json_is_string(value))
		fputs(json_string_value(value), stream);
	else if (json_is_integer(value))
		fprintf(stream, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	json_array_foreach (value, i, item) {
		fputs(i ? ", " : "", stream);
		value_print(stream, item);
	}
}

void out_table_value(struct out_table *table, const json_t *value)
{
	char *text = NULL;
	size_t len;
	FILE *stream = check(open_memstream(&text, &len));

	value_print(stream, value);
	fclose(stream);
	table_add(table, text);
}

void out_table_row(struct out_table *table, ...)
{
	va_list args;

	va_start(args, table);
	for (size_t i = 0; i < table->n_columns; i++)
		out_table_text(table, "%s", va_arg(args, const char *));
	va_end(args);
}

void out_table_members(struct out_table *table, const json_t *object, ...)
{
	va_list args;

	va_start(args, object);
	for (size_t i = 0; i < table->n_columns; i++)
		out_table_value(table, json_object_get(object, va_arg(args, const char *)));
	va_end(args);
}

static int table_width(const struct out_table *table, size_t column)
{
	int widest = 0;

	for (size_t i = column; i < table->n_cells; i += table->n_columns) {
		int w = out_width(table->cells[i]);

		widest = w > widest ? w : widest;
	}
	return widest;
}

void out_table_print(const struct out_table *table, FILE *stream)
{
	_cleanup_free_ int *widths = check(calloc(table->n_columns, sizeof(*widths)));

	for (size_t column = 0; column < table->n_columns; column++)
		widths[column] = table_width(table, column);
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t column = i % table->n_columns;

		out_cell(stream, table->cells[i], widths[column], table->columns[column],
			 column == table->n_columns - 1);
	}
}
