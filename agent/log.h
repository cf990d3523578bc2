/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One line per fact on stderr. Under systemd each line has the severity prefix of sd-daemon(3). */
#pragma once

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
int log_level_parse(const char *text, enum log_level *ret); /* 0 or -EINVAL */

__attribute__((format(printf, 2, 3))) void log_write(enum log_level level, const char *format, ...);

#define log_error(...)	 log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Logs "…: strerror" and returns @error (negative errno), so that a failure is one statement. */
__attribute__((format(printf, 2, 3))) int log_errno(int error, const char *format, ...);

/*
 * Lines that repeat themselves, and warnings and errors that are alike, are written a few times and
 * then counted. Writes the counts that are due, or @all. Returns in how many milliseconds it is to
 * be called again, or -1: not before something is logged.
 */
int log_flush(bool all);

/* libbpf's own messages go to debug; of a program that the verifier refuses see log_verifier.h.
 * Called once, before any libbpf call. */
void log_adopt_libbpf(void);
