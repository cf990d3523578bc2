/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The difference between what should be in a map and what is. Start, adoption and reload are all
 * "apply this difference". Pure: tested without root.
 */
#pragma once

#include "util/table.h"

struct sync_plan {
	struct table put; /* rows to write: new, or with another value */
	struct table del; /* rows to remove, with the value that they have */
};

/* Both tables sorted and of one shape. 0 or -ENOMEM. */
int sync_diff(const struct table *have, const struct table *want, struct sync_plan *ret);
void sync_plan_deinit(struct sync_plan *plan);
