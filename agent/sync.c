/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The difference between two tables.
 * Reads from: what policy wants, what maps has.
 * Writes to: a plan that maps applies.
 */
#include "sync.h"

#include <string.h>

int sync_diff(const struct table *have, const struct table *want, struct sync_plan *ret)
{
	struct sync_plan plan = {
		.put = {.key_size = want->key_size, .value_size = want->value_size},
		.del = {.key_size = want->key_size, .value_size = want->value_size},
	};
	size_t h = 0, w = 0;
	int r = 0;

	while (!r && (h < have->n || w < want->n)) {
		int order = h == have->n   ? 1
			    : w == want->n ? -1
					   : memcmp(table_key(have, h), table_key(want, w),
						    want->key_size);

		if (order < 0) {
			r = table_add(&plan.del, table_key(have, h), table_value(have, h));
			h++;
			continue;
		}
		if (order > 0 ||
		    memcmp(table_value(have, h), table_value(want, w), want->value_size))
			r = table_add(&plan.put, table_key(want, w), table_value(want, w));
		w++;
		if (!order)
			h++;
	}
	if (r) {
		sync_plan_deinit(&plan);
		return r;
	}
	*ret = plan;
	return 0;
}

void sync_plan_deinit(struct sync_plan *plan)
{
	table_deinit(&plan->put);
	table_deinit(&plan->del);
}
