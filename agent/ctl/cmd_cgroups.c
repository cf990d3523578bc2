/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl cgroups: what is enrolled, and by which rule.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <string.h>

#include "cmd.h"

static void print_cgroups(const json_t *cgroups, bool all)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("lrlll");
	const json_t *cgroup;
	size_t i;

	out_table_row(table, "CGROUP", "ID", "ROLE", "MESH", "RULE");
	json_array_foreach (cgroups, i, cgroup) {
		const char *role = json_string_value(json_object_get(cgroup, "role"));

		if (all || (role && strcmp(role, "none") != 0))
			out_table_members(table, cgroup, "path", "id", "role", "mesh", "rule");
	}
	out_table_print(table, stdout);
}

static void print_enrolled(const json_t *cgroups)
{
	print_cgroups(cgroups, false);
}

static void print_all(const json_t *cgroups)
{
	print_cgroups(cgroups, true);
}

int cmd_cgroups(const struct ctl *ctl, int argc, char **argv)
{
	bool all = argc == 2 && strcmp(argv[1], "-a") == 0;

	if (argc == 2 && !all) {
		out_error("cgroups: '%s' is not understood; there is -a", argv[1]);
		return EXIT_USAGE;
	}
	return cmd_query(ctl, json_pack("{s:s}", "verb", "cgroups"),
			 all ? print_all : print_enrolled);
}
