/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What shuntctl prints: columns for people, JSON for programs, one line for what went wrong.
 * Control characters in what others have named come out as \xNN or \uNNNN, never as themselves.
 * Without memory these end the program.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* "shuntctl: …" on stderr. A text of several lines stands as it is. */
__attribute__((format(printf, 1, 2))) void out_error(const char *format, ...);

/* From now on what out_error() says in this thread goes to @stream; NULL: to stderr. */
void out_errors_to(FILE *stream);

/* "999", "1.2K", "340M": a number of bytes in five characters at most. */
#define OUT_BYTES_SIZE 8
const char *out_bytes(char text[OUT_BYTES_SIZE], double bytes);

/* "5s", "1m05s", "3h20m", "2d01h". */
#define OUT_AGE_SIZE 24
const char *out_age(char text[OUT_AGE_SIZE], json_int_t seconds);

/* Any JSON value, indented, keys sorted. */
void out_json(FILE *stream, const json_t *value);

/* Text, without a newline and with. */
void out_text(FILE *stream, const char *text);
void out_line(FILE *stream, const char *text);

/* How many columns of a terminal it takes, if it is plain. */
int out_width(const char *text);
/* One cell of a row, @width wide: plain text, aligned 'l' or 'r'. After the last the line ends. */
void out_cell(FILE *stream, const char *text, int width, char align, bool last);

/* A string of @object; "-" if there is none. */
const char *out_string(const json_t *object, const char *key);

/* Rows of aligned columns, filled cell by cell. */
struct out_table;

/* @columns has one character for each column: 'l' aligns left, 'r' right. */
struct out_table *out_table_new(const char *columns);
struct out_table *out_table_free(struct out_table *table);

/* The next cell. */
__attribute__((format(printf, 2, 3))) void out_table_text(struct out_table *table,
							  const char *format, ...);
/* The next cell: a string, an integer, or an array of such; anything else prints as "-". */
void out_table_value(struct out_table *table, const json_t *value);
/* A whole row: a text for each column. */
void out_table_row(struct out_table *table, ...);
/* A whole row: a key of @object for each column. */
void out_table_members(struct out_table *table, const json_t *object, ...);

void out_table_print(const struct out_table *table, FILE *stream);
