/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl meshes: the meshes of the configuration.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include "cmd.h"

static void print_meshes(const json_t *meshes)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("lrrllll");
	const json_t *mesh;
	size_t i;

	out_table_row(table, "MESH", "MEMBERS", "SIDECARS", "TCP REDIRECT", "DNS REDIRECT",
		      "ON SIDECAR DOWN", "LINE");
	json_array_foreach (meshes, i, mesh)
		out_table_members(table, mesh, "name", "members", "sidecars", "tcp_redirect",
				  "dns_redirect", "on_sidecar_down", "line");
	out_table_print(table, stdout);
}

int cmd_meshes(const struct ctl *ctl, int argc, char **argv)
{
	(void)argc, (void)argv;
	return cmd_query(ctl, json_pack("{s:s}", "verb", "meshes"), print_meshes);
}
