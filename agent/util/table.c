/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A map's contents as a value.
 * Reads from: its callers.
 * Writes to: memory of its own.
 */
#include "util/table.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Keys and values are structs to those who read them, so both begin where any struct may. */
static size_t table_align(size_t size)
{
	return (size + sizeof(uint64_t) - 1) / sizeof(uint64_t) * sizeof(uint64_t);
}

static size_t table_row_size(const struct table *table)
{
	return table_align(table->key_size) + table_align(table->value_size);
}

void table_deinit(struct table *table)
{
	free(table->rows);
	table->rows = NULL;
	table->n = 0;
	table->allocated = 0;
}

int table_add(struct table *table, const void *key, const void *value)
{
	size_t size = table_row_size(table);
	char *row;

	if (table->n == table->allocated) {
		size_t allocated = table->allocated ? 2 * table->allocated : 16;
		char *rows = reallocarray(table->rows, allocated, size);

		if (!rows)
			return -ENOMEM;
		table->rows = rows;
		table->allocated = allocated;
	}
	row = table->rows + table->n++ * size;
	memcpy(row, key, table->key_size);
	memcpy(row + table_align(table->key_size), value, table->value_size);
	return 0;
}

const void *table_key(const struct table *table, size_t i)
{
	return table->rows + i * table_row_size(table);
}

const void *table_value(const struct table *table, size_t i)
{
	return table->rows + i * table_row_size(table) + table_align(table->key_size);
}

static int table_compare(const void *a, const void *b, void *key_size)
{
	return memcmp(a, b, *(size_t *)key_size);
}

void table_sort(struct table *table)
{
	size_t size = table_row_size(table), kept = 0;

	/* glibc's qsort_r merges, so equal keys stay in the order in which they were added. */
	if (table->n)
		qsort_r(table->rows, table->n, size, table_compare, &table->key_size);
	for (size_t i = 0; i < table->n; i++) {
		if (kept &&
		    !memcmp(table_key(table, kept - 1), table_key(table, i), table->key_size))
			continue;
		memmove(table->rows + kept++ * size, table->rows + i * size, size);
	}
	table->n = kept;
}

const void *table_find(const struct table *table, const void *key)
{
	size_t low = 0, high = table->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = memcmp(table_key(table, middle), key, table->key_size);

		if (!c)
			return table_value(table, middle);
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
