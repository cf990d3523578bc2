/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mount table.
 * Reads from: an input, as /proc/self/mountinfo.
 * Writes to: nothing.
 */
#include <errno.h>

#include "fuzz.h"
#include "mountinfo.h"
#include "util/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {"cgroup2", "bpf"};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		_cleanup_fclose_ FILE *stream = fuzz_stream(data, size);
		_cleanup_free_ char *found = NULL;
		int r = mountinfo_find(stream, types[i], &found);

		fuzz_check(r == (found ? 0 : -ENOENT));
	}
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		_cleanup_fclose_ FILE *stream = fuzz_stream(data, size);
		_cleanup_free_ char *inner = NULL;
		int r = mountinfo_find_inner(stream, types[i], "/sys/fs/cgroup/a", &inner);

		fuzz_check(r == (inner ? 0 : -ENOENT));
	}
	return 0;
}
