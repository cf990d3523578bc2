/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A map's contents as a value: rows of a key and a value, each of fixed size, sorted by key. */
#pragma once

#include <stddef.h>

struct table {
	size_t key_size;
	size_t value_size;
	size_t n;
	size_t allocated;
	char *rows;
};

#define TABLE_INIT(key_type, value_type)                                       \
	{                                                                      \
		.key_size = sizeof(key_type), .value_size = sizeof(value_type) \
	}

void table_deinit(struct table *table);
int table_add(struct table *table, const void *key, const void *value); /* 0 or -ENOMEM */
/* Sorts; of rows with one key the one that was added first stays. */
void table_sort(struct table *table);
const void *table_key(const struct table *table, size_t i);
const void *table_value(const struct table *table, size_t i);
/* The value of @key in a sorted table, or NULL. */
const void *table_find(const struct table *table, const void *key);
