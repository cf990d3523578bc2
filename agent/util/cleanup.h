/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ownership by scope: _cleanup_ variables are released where they go out of scope; TAKE_PTR and
 * TAKE_FD pass ownership on. File descriptors start at -1. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define CLEANUP_DEFINE(type, free_fn)                 \
	static inline void cleanup_##free_fn(type *p) \
	{                                             \
		if (*p)                               \
			free_fn(*p);                  \
	}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

CLEANUP_DEFINE(FILE *, fclose)

#define _cleanup_free_	 _cleanup_(cleanup_free)
#define _cleanup_close_	 _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

#define TAKE_PTR(p)                        \
	({                                 \
		__typeof__(p) take_ = (p); \
		(p) = NULL;                \
		take_;                     \
	})

#define TAKE_FD(fd)               \
	({                        \
		int take_ = (fd); \
		(fd) = -1;        \
		take_;            \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
