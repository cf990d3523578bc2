/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records of one size, one after the other, as an iterator of the kernel half gives them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define RECORDS_BUFFER 65536 /* twice what the kernel gives at a time */

struct records {
	int fd;
	size_t begin; /* buffer[begin … end) is read and not taken */
	size_t end;
	char buffer[RECORDS_BUFFER];
};

/* Reads on: how many bytes more, 0 at the end, or negative errno. */
ssize_t records_read(struct records *records);
/* The next record that has been read, or NULL. It holds until more is read. */
const void *records_take(struct records *records, size_t size);
/* The same, and reads on: NULL at the end, which is *@ret_error = 0, or on failure. */
const void *records_next(struct records *records, size_t size, int *ret_error);
/* Closes and frees one that was allocated; NULL-safe. */
struct records *records_free(struct records *records);
