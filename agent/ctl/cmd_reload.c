/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl reload: has the agent apply its configuration file.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include "cmd.h"

static void print_reloaded(const json_t *result)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("ll");
	const json_t *warning;
	size_t i;

	out_table_text(table, "meshes");
	out_table_value(table, json_object_get(result, "meshes"));
	json_array_foreach (json_object_get(result, "warnings"), i, warning) {
		out_table_text(table, "warning");
		out_table_value(table, warning);
	}
	out_table_print(table, stdout);
}

int cmd_reload(const struct ctl *ctl, int argc, char **argv)
{
	(void)argc, (void)argv;
	return cmd_query(ctl, json_pack("{s:s}", "verb", "reload"), print_reloaded);
}
