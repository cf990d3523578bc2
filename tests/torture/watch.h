/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Looks for connections that do not come on, and at what the kernel knows of them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Fails connections of which no end came on for @patience_ns. Returns whether any is not over.
 */
bool watch_flows(uint64_t patience_ns);

/*
 * Tells what the kernel says about the sockets of connections that failed, and what @teller, if not
 * NULL, a command of the shell, does when it is given the client's port.
 */
void watch_report(const char *teller);
