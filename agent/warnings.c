/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Facts for the operator that hold now.
 * Reads from: who finds them out.
 * Writes to: the log, once for each; a list.
 */
#include "warnings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "util/cleanup.h"

void warnings_add(struct warnings *warnings, enum warning_kind kind, const char *format,
		  va_list args)
{
	_cleanup_free_ char *text = NULL;

	if (vasprintf(&text, format, args) < 0) {
		text = NULL;
		return;
	}
	for (size_t i = 0; i < warnings->n; i++) {
		if (!strcmp(warnings->texts[i], text)) {
			warnings->kinds[i] = kind;
			return;
		}
	}
	log_warning("%s", text);
	if (warnings->n == WARNINGS_MAX)
		return;
	warnings->kinds[warnings->n] = kind;
	warnings->texts[warnings->n++] = TAKE_PTR(text);
}

void warnings_review(struct warnings *warnings, enum warning_kind kind)
{
	for (size_t i = 0; i < warnings->n; i++)
		if (warnings->kinds[i] == kind)
			warnings->kinds[i] = WARNING_REVIEWED;
}

void warnings_drop_mended(struct warnings *warnings)
{
	size_t n = 0;

	for (size_t i = 0; i < warnings->n; i++) {
		char *text = TAKE_PTR(warnings->texts[i]);

		if (warnings->kinds[i] == WARNING_REVIEWED) {
			free(text);
			continue;
		}
		warnings->kinds[n] = warnings->kinds[i];
		warnings->texts[n++] = text;
	}
	warnings->n = n;
}

void warnings_clear(struct warnings *warnings)
{
	while (warnings->n) {
		warnings->n--;
		free(TAKE_PTR(warnings->texts[warnings->n]));
	}
}
