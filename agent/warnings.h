/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Facts for the operator that hold now: each is logged when it begins to, and kept for `shuntctl
 * status` until it does no more. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#define WARNINGS_MAX 64 /* more are logged alone, each time */

enum warning_kind {
	WARNING_STANDING,  /* holds until all are cleared */
	WARNING_FAULT,	   /* something failed, and is tried again … */
	WARNING_UNWATCHED, /* … of what is not told again, as long as it is so */
	WARNING_REVIEWED,  /* one of these that is being tried again */
};

/* Zeroed, it is empty. */
struct warnings {
	char *texts[WARNINGS_MAX + 1]; /* all behind the last are NULL */
	enum warning_kind kinds[WARNINGS_MAX];
	size_t n;
};

/* Nothing is logged if it is there already. */
__attribute__((format(printf, 3, 0))) void
warnings_add(struct warnings *warnings, enum warning_kind kind, const char *format, va_list args);

/* What @kind says is tried again: those that are not added meanwhile are dropped then. */
void warnings_review(struct warnings *warnings, enum warning_kind kind);
void warnings_drop_mended(struct warnings *warnings);

void warnings_clear(struct warnings *warnings);
