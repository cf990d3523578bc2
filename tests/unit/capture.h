/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Keeps what goes to stderr from now on, so that a test can look at it. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct capture {
	int saved; /* stderr as it was */
	FILE *file;
	char text[4096];
};

static inline void capture_begin(struct capture *capture)
{
	capture->file = tmpfile();
	if (!capture->file)
		abort();
	capture->saved = dup(STDERR_FILENO);
	dup2(fileno(capture->file), STDERR_FILENO);
}

static inline const char *capture_end(struct capture *capture)
{
	fflush(stderr);
	dup2(capture->saved, STDERR_FILENO);
	close(capture->saved);
	rewind(capture->file);
	capture->text[fread(capture->text, 1, sizeof(capture->text) - 1, capture->file)] = '\0';
	fclose(capture->file);
	return capture->text;
}
