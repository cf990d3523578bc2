/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An input as a file descriptor.
 * Reads from: an input.
 * Writes to: a file in memory.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

int fuzz_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	fuzz_check(fd >= 0);
	fuzz_check(write(fd, data, size) == (ssize_t)size);
	fuzz_check(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}
