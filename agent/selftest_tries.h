/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The self-test's connections, and what is tried with them. Private to selftest*.c. */
#pragma once

#include <stdint.h>

#include "loader_trial.h"
#include "selftest.h"

struct selftest_tries {
	struct loader_trial *trial;
	int cgroup; /* its open directory; sockops of @trial is attached to it */
	uint64_t cgroup_id;
	struct selftest *result; /* written as it goes, in memory that others may see */
};

/* Main function of a process that begins in a network namespace of its own. Returns 0. */
int selftest_tries_main(void *tries);
