/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * JSON written as text: for answers of which there are many, each with many members. What is
 * written comes out on one line. Without memory nothing more is written, and writer_text() is NULL.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed, it is empty. */
struct writer {
	char *text;
	size_t len;
	size_t size; /* allocated */
	bool comma;  /* the next value is not the first of its object or array */
	bool brief;  /* members of objects that are null or 0 are left out; for who writes */
	bool failed;
};

void writer_deinit(struct writer *writer);
/* What was written, with a NUL at its end; NULL: out of memory. Borrowed until the next write. */
const char *writer_text(struct writer *writer);
/* Forgets the first @len bytes. */
void writer_drop(struct writer *writer, size_t len);
/* Takes back what was written after it was @len long. */
void writer_truncate(struct writer *writer, size_t len);

/* @key: NULL in an array, or for the outermost value. Keys are written as they are. */
void writer_object(struct writer *writer, const char *key);
void writer_object_end(struct writer *writer);
void writer_array(struct writer *writer, const char *key);
void writer_array_end(struct writer *writer);
/* At most 2^63 - 1: readers of JSON, shuntctl among them, refuse a text with more in it. */
void writer_number(struct writer *writer, const char *key, uint64_t number);
void writer_bool(struct writer *writer, const char *key, bool value);
void writer_null(struct writer *writer, const char *key);
/* @text of any bytes: what is not UTF-8 is written as \xNN. NULL is written as null. */
void writer_string(struct writer *writer, const char *key, const char *text);
/* Text as it is, such as a newline between two values. */
void writer_raw(struct writer *writer, const char *text, size_t len);
