/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the fuzz targets share. Each is a program of its own: linked with libFuzzer it makes inputs
 * up, linked with replay.c it runs those of its corpus.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's own names. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What has to hold for every input. */
#define fuzz_check(condition)                                                                   \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

/* These end the program without memory. The caller frees, closes. */

/* The input as a string; what follows a NUL is lost. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	fuzz_check(text);
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

/* @data outlives it. */
static inline FILE *fuzz_stream(const uint8_t *data, size_t size)
{
	FILE *stream = fmemopen((void *)data, size, "r");

	fuzz_check(stream);
	return stream;
}

/* A file in memory, to be read from its beginning. */
int fuzz_file(const uint8_t *data, size_t size);
