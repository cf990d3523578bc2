/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of one size.
 * Reads from: an iterator of the kernel half.
 * Writes to: its buffer.
 */
#include "records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t records_read(struct records *records)
{
	ssize_t n;

	memmove(records->buffer, records->buffer + records->begin, records->end - records->begin);
	records->end -= records->begin;
	records->begin = 0;
	n = read(records->fd, records->buffer + records->end,
		 sizeof(records->buffer) - records->end);
	if (n < 0)
		return -errno;
	records->end += n;
	return n;
}

const void *records_take(struct records *records, size_t size)
{
	const void *record = records->buffer + records->begin;

	if (records->end - records->begin < size)
		return NULL;
	records->begin += size;
	return record;
}

const void *records_next(struct records *records, size_t size, int *ret_error)
{
	const void *record;
	ssize_t n;

	*ret_error = 0;
	while (!(record = records_take(records, size))) {
		n = records_read(records);
		/* EAGAIN: it has looked at a million things, and none was to be told. */
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n < 0)
			*ret_error = n;
		if (n <= 0)
			return NULL;
	}
	return record;
}

struct records *records_free(struct records *records)
{
	if (records && records->fd >= 0)
		close(records->fd);
	free(records);
	return NULL;
}
