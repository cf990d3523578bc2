/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl explain: what would happen to a connect, and by which rule of the configuration.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <limits.h>
#include <string.h>

#include "cmd.h"
#include "util/addr.h"
#include "util/number.h"

static void print_explanation(const json_t *result)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("ll");
	const json_t *step;
	size_t i;

	out_table_row(table, "cgroup", out_string(result, "cgroup"));
	out_table_row(table, "role", out_string(result, "role"));
	out_table_row(table, "mesh", out_string(result, "mesh"));
	out_table_text(table, "destination");
	out_table_text(table, "%s %s", out_string(result, "protocol"),
		       out_string(result, "destination"));
	out_table_text(table, "outcome");
	out_table_text(table, "%s: %s", out_string(result, "outcome"),
		       out_string(result, "reason"));
	out_table_row(table, "redirected to", out_string(result, "redirected_to"));
	out_table_row(table, "rule", out_string(result, "rule"));
	json_array_foreach (json_object_get(result, "steps"), i, step) {
		out_table_text(table, "step %zu", i + 1);
		out_table_value(table, step);
	}
	out_table_print(table, stdout);
}

int cmd_explain(const struct ctl *ctl, int argc, char **argv)
{
	const char *subject = argv[1], *destination = argv[2], *protocol = "tcp";
	struct shunt_endpoint endpoint;
	json_t *request;
	uint32_t pid = 0;

	(void)argc;
	if (subject[0] != '/' && (number_parse(subject, INT_MAX, &pid) < 0 || !pid)) {
		out_error("'%s' is neither a process id nor the path of a cgroup", subject);
		return EXIT_USAGE;
	}
	if (strncmp(destination, "tcp:", 4) == 0 || strncmp(destination, "udp:", 4) == 0) {
		protocol = destination[0] == 'u' ? "udp" : "tcp";
		destination += 4;
	}
	if (addr_parse_endpoint(destination, &endpoint) < 0) {
		out_error("'%s' is no destination; write ADDR:PORT or [ADDR]:PORT", destination);
		return EXIT_USAGE;
	}
	request = pid ? json_pack("{s:s, s:i}", "verb", "explain", "pid", (int)pid)
		      : json_pack("{s:s, s:s}", "verb", "explain", "cgroup", subject);
	if (request)
		json_object_update_new(request, json_pack("{s:s, s:s}", "protocol", protocol,
							  "destination", destination));
	return cmd_query(ctl, request, print_explanation);
}
