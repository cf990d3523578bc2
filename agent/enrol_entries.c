/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The entries of cgroups, all together.
 * Reads from: maps; which cgroups there are, and what enrol.c says of each.
 * Writes to: maps.
 */
#include "enrol_entries.h"

#include "enrol.h"
#include "log.h"

struct entries_want {
	struct table rows;
	int error;
};

static void entries_want(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = node->user;
	struct entries_want *want = user;

	if (!want->error && member)
		want->error = table_add(&want->rows, &node->id, &member->match.entry);
}

int enrol_entries_remove_stale(const struct maps *maps, struct cgroup_tree *tree)
{
	struct entries_want want = {.rows = ENROL_ENTRIES_INIT};
	struct table have = ENROL_ENTRIES_INIT;
	struct sync_plan plan = {};
	int r;

	cgroup_tree_each(tree, entries_want, &want);
	table_sort(&want.rows);
	r = want.error;
	r = r ?: maps_read(maps->cgroups, &have);
	r = r ?: sync_diff(&have, &want.rows, &plan);
	r = r ?: maps_remove(maps->cgroups, &plan.del);
	sync_plan_deinit(&plan);
	table_deinit(&have);
	table_deinit(&want.rows);
	return r;
}

void enrol_entries_restore(const struct maps *maps, const struct table *before)
{
	struct table have = ENROL_ENTRIES_INIT;
	struct sync_plan plan = {};
	int r = maps_read(maps->cgroups, &have);

	r = r ?: sync_diff(&have, before, &plan);
	r = r ?: maps_apply(maps->cgroups, &plan);
	if (r)
		log_errno(r, "the entries before could not be put back");
	sync_plan_deinit(&plan);
	table_deinit(&have);
}
