/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is in one direction of a connection: bytes that follow from a seed and their position, so
 * that one which is lost, doubled or misplaced is found where it is. The first of a client's say
 * which connection this is.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hello {
	uint64_t flow, seed;
};

struct stream {
	uint64_t key;
	struct hello hello;
	size_t hello_size;
};

void stream_init(struct stream *stream, uint64_t flow, uint64_t seed, int direction);
void stream_fill(const struct stream *stream, uint64_t position, void *buffer, size_t size);

/* How many bytes of @buffer are right. */
size_t stream_check(const struct stream *stream, uint64_t position, const void *buffer,
		    size_t size);

/* Where in the stream, near @position, the bytes in @buffer belong; -1 if nowhere. */
int64_t stream_locate(const struct stream *stream, uint64_t position, const void *buffer,
		      size_t size);
