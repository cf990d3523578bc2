/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Executables: whoever runs one in a mesh has the agent look into it.
 * Reads from: an input, as the executable.
 * Writes to: nothing.
 */
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"
#include "program.h"
#include "util/cleanup.h"

static int executable;

/* open() as the agent calls it. */
int __wrap_open64(const char *path, int flags, ...);

int __wrap_open64(const char *path, int flags, ...)
{
	char link[64];

	if (!strcmp(path, "/proc/1/exe"))
		return dup(executable);
	fuzz_check(!strncmp(path, "/proc/self/fd/", strlen("/proc/self/fd/")));
	/* Not the same open file: who reads it first shall not move it for who reads it next. */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", executable);
	return openat(AT_FDCWD, link, flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *path = NULL;
	const struct config config = {};
	enum shunt_program class;

	executable = fuzz_file(data, size);
	fuzz_check(!program_classify(1, &config, &class, &path));
	fuzz_check(class >= SHUNT_PROGRAM_FINE && class <= SHUNT_PROGRAM_SPLICES);
	fuzz_check(!strcmp(path, "/memfd:input"));
	close(executable);
	return 0;
}
