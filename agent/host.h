/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the host allows, against what the configuration may come to need. */
#pragma once

#include "config.h"

/* Raises what the agent may raise itself, and warns of the rest, one line for each. */
void host_check(const struct config *config, const char *cgroup_root);

/* Kernel memory, in bytes, that @config lets the maps take at most. OPERATIONS.md has the parts. */
uint64_t host_memory_needed(const struct config *config);
