/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The bytes of a direction, by position.
 * Reads from: nothing.
 * Writes to: nothing.
 */
#include "stream.h"

#include <string.h>

#include "random.h"

#define WORD	     sizeof(uint64_t)
#define CHECK_CHUNK  8192u
/* Bytes that were lost or doubled are not farther away than what two sockets can hold. */
#define LOCATE_RANGE (16u << 20)
/* Fewer bytes are too likely to be somewhere by chance. */
#define LOCATE_MIN   6
#define LOCATE_MAX   32

void stream_init(struct stream *stream, uint64_t flow, uint64_t seed, int direction)
{
	*stream = (struct stream){
		.key = random_mix(seed + direction),
		.hello = {.flow = flow, .seed = seed},
		.hello_size = direction == 0 ? sizeof(struct hello) : 0,
	};
}

/* Cheaper than random_mix() and as good as it needs to be: this runs over every byte. */
static uint64_t stream_word(const struct stream *stream, uint64_t index)
{
	uint64_t x = (stream->key + index) * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93;
	return x ^ (x >> 32);
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

void stream_fill(const struct stream *stream, uint64_t position, void *buffer, size_t size)
{
	uint64_t index = position / WORD, word;
	size_t skip = position % WORD, len, done = 0;
	char *to = buffer;

	if (skip && size) {
		word = stream_word(stream, index++);
		done = min_size(WORD - skip, size);
		memcpy(to, (char *)&word + skip, done);
	}
	for (; size - done >= WORD; done += WORD) {
		word = stream_word(stream, index++);
		memcpy(to + done, &word, WORD);
	}
	if (done < size) {
		word = stream_word(stream, index);
		memcpy(to + done, &word, size - done);
	}
	if (position < stream->hello_size) {
		len = min_size(stream->hello_size - position, size);
		memcpy(to, (const char *)&stream->hello + position, len);
	}
}

size_t stream_check(const struct stream *stream, uint64_t position, const void *buffer, size_t size)
{
	char right[CHECK_CHUNK];
	const char *got = buffer;
	size_t done, len;

	for (done = 0; done < size; done += len) {
		len = min_size(size - done, sizeof(right));
		stream_fill(stream, position + done, right, len);
		if (memcmp(got + done, right, len) != 0) {
			for (len = 0; got[done + len] == right[len]; len++)
				;
			return done + len;
		}
	}
	return size;
}

int64_t stream_locate(const struct stream *stream, uint64_t position, const void *buffer,
		      size_t size)
{
	uint64_t from = position < LOCATE_RANGE ? 0 : position - LOCATE_RANGE;
	char chunk[CHECK_CHUNK], *found;

	if (size < LOCATE_MIN)
		return -1;
	size = min_size(size, LOCATE_MAX);
	/* Chunks overlap, so that what lies across two of them is found as well. */
	for (; from < position + LOCATE_RANGE; from += sizeof(chunk) - size) {
		stream_fill(stream, from, chunk, sizeof(chunk));
		found = memmem(chunk, sizeof(chunk), buffer, size);
		if (found)
			return from + (found - chunk);
	}
	return -1;
}
