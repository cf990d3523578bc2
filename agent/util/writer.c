/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * JSON written as text.
 * Reads from: its arguments.
 * Writes to: memory of its own.
 */
#include "writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "text.h"

#define WRITER_FIRST_SIZE 1024

/* Room for @len more bytes and a NUL. */
static bool writer_reserve(struct writer *writer, size_t len)
{
	size_t size = writer->size ? writer->size : WRITER_FIRST_SIZE;
	char *text;

	if (writer->failed)
		return false;
	if (writer->len + len < writer->size)
		return true;
	while (size <= writer->len + len)
		size *= 2;
	text = realloc(writer->text, size);
	if (!text) {
		writer->failed = true;
		return false;
	}
	writer->text = text;
	writer->size = size;
	return true;
}

void writer_deinit(struct writer *writer)
{
	free(writer->text);
	*writer = (struct writer){};
}

const char *writer_text(struct writer *writer)
{
	if (!writer_reserve(writer, 0))
		return NULL;
	writer->text[writer->len] = '\0';
	return writer->text;
}

void writer_drop(struct writer *writer, size_t len)
{
	memmove(writer->text, writer->text + len, writer->len - len);
	writer->len -= len;
}

void writer_truncate(struct writer *writer, size_t len)
{
	if (len < writer->len)
		writer->len = len;
}

void writer_raw(struct writer *writer, const char *text, size_t len)
{
	if (!writer_reserve(writer, len))
		return;
	memcpy(writer->text + writer->len, text, len);
	writer->len += len;
}

static void writer_begin(struct writer *writer, const char *key)
{
	if (writer->comma)
		writer_raw(writer, ",", 1);
	writer->comma = true;
	if (!key)
		return;
	writer_raw(writer, "\"", 1);
	writer_raw(writer, key, strlen(key));
	writer_raw(writer, "\":", 2);
}

static void writer_open(struct writer *writer, const char *key, const char *bracket)
{
	writer_begin(writer, key);
	writer_raw(writer, bracket, 1);
	writer->comma = false;
}

static void writer_close(struct writer *writer, const char *bracket)
{
	writer_raw(writer, bracket, 1);
	writer->comma = true;
}

void writer_object(struct writer *writer, const char *key)
{
	writer_open(writer, key, "{");
}

void writer_object_end(struct writer *writer)
{
	writer_close(writer, "}");
}

void writer_array(struct writer *writer, const char *key)
{
	writer_open(writer, key, "[");
}

void writer_array_end(struct writer *writer)
{
	writer_close(writer, "]");
}

void writer_number(struct writer *writer, const char *key, uint64_t number)
{
	char digits[20], *end = digits + sizeof(digits), *first = end;

	if (!number && writer->brief && key)
		return;
	if (number > INT64_MAX)
		number = INT64_MAX;
	do {
		*--first = '0' + number % 10;
	} while (number /= 10);
	writer_begin(writer, key);
	writer_raw(writer, first, end - first);
}

void writer_bool(struct writer *writer, const char *key, bool value)
{
	writer_begin(writer, key);
	writer_raw(writer, value ? "true" : "false", value ? 4 : 5);
}

void writer_null(struct writer *writer, const char *key)
{
	if (writer->brief && key)
		return;
	writer_begin(writer, key);
	writer_raw(writer, "null", 4);
}

/* One character that does not stand for itself. Returns how many bytes of @text it is. */
static size_t writer_escape(struct writer *writer, const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	bool control = c[0] < ' ' || c[0] == 0x7f;
	char escape[8];

	if (c[0] == '"' || c[0] == '\\') {
		writer_raw(writer, (char[]){'\\', c[0]}, 2);
		return 1;
	}
	if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) { /* a control character of two bytes */
		snprintf(escape, sizeof(escape), "\\u%04x", c[1]);
		writer_raw(writer, escape, 6);
		return 2;
	}
	snprintf(escape, sizeof(escape), control ? "\\u%04x" : "\\\\x%02x", c[0]);
	writer_raw(writer, escape, strlen(escape));
	return 1;
}

/* text_next() lets pass what has the form of UTF-8 and is none: too long, or a surrogate. */
static bool writer_is_odd(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	return (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] >= 0xa0) ||
	       (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] >= 0x90);
}

void writer_string(struct writer *writer, const char *key, const char *text)
{
	if (!text) {
		writer_null(writer, key);
		return;
	}
	writer_begin(writer, key);
	writer_raw(writer, "\"", 1);
	while (*text) {
		const char *begin = text;
		bool plain = true;

		while (*text && *text != '"' && *text != '\\') {
			size_t len = text_next(text, &plain);

			if (!plain || writer_is_odd(text))
				break;
			text += len;
		}
		writer_raw(writer, begin, text - begin);
		if (*text)
			text += writer_escape(writer, text);
	}
	writer_raw(writer, "\"", 1);
}
