/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For libraries that are preloaded into shuntd and take the place of functions of libc. */
#pragma once

#include <dlfcn.h>
#include <stdarg.h>

/* The function that would have been called. Takes _GNU_SOURCE. */
#define PRELOAD_NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define PRELOAD_ARGUMENTS 6 /* the most that a system call has */

/* What syscall(2) was called with, in the function that takes its place. */
#define PRELOAD_TAKE(a, number)                              \
	do {                                                 \
		va_list preload_args;                        \
                                                             \
		va_start(preload_args, number);              \
		for (int i = 0; i < PRELOAD_ARGUMENTS; i++)  \
			(a)[i] = va_arg(preload_args, long); \
		va_end(preload_args);                        \
	} while (0)

static inline long preload_syscall(long number, const long a[PRELOAD_ARGUMENTS])
{
	static long (*next)(long number, ...);

	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
