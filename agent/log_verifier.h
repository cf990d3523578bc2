/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the verifier says of a program that it refuses: one line in the log, the rest in a file. */
#pragma once

#define LOG_VERIFIER_FILE "verifier.log"

/*
 * The file is LOG_VERIFIER_FILE beside @neighbour, whose directory is made with mode 0755 if need
 * be. One of an agent before is removed. Until this is called, and if it fails (negative errno),
 * nothing is kept.
 */
int log_verifier_keep_beside(const char *neighbour);

/* Looks at what libbpf said; if that is a refusal, it is logged and the whole of it is kept. */
void log_verifier_hear(const char *text);

/* Removes the file. */
void log_verifier_forget(void);
