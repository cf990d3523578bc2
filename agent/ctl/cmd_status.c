/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl status: the agent, what it has loaded and attached, how full its maps are.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <string.h>

#include "cmd.h"

static long long number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void print_agent(struct out_table *table, const json_t *status)
{
	long long up = number(status, "uptime_seconds");

	out_table_text(table, "agent");
	out_table_text(table, "%s, ABI %lld, pid %lld, up %lld d %02lld:%02lld:%02lld",
		       out_string(status, "version"), number(status, "abi"), number(status, "pid"),
		       up / 86400, up / 3600 % 24, up / 60 % 60, up % 60);
}

static void print_cgroups(struct out_table *table, const json_t *cgroups)
{
	out_table_text(table, "cgroups");
	out_table_text(table, "%lld known, %lld members, %lld sidecars", number(cgroups, "known"),
		       number(cgroups, "members"), number(cgroups, "sidecars"));
}

static void print_splice(struct out_table *table, const json_t *status)
{
	const json_t *lacks = json_object_get(status, "splice_lacks");

	out_table_text(table, "splice");
	out_table_value(table, json_object_get(status, "splice"));
	if (json_is_string(lacks)) {
		out_table_text(table, "splice lacks");
		out_table_value(table, lacks);
	}
}

static void print_http(struct out_table *table, const json_t *status)
{
	const json_t *address = json_object_get(status, "http");
	const json_t *lacks = json_object_get(status, "http_lacks");

	out_table_text(table, "HTTP");
	if (json_is_string(lacks))
		out_table_text(table, "not at %s: %s", out_string(status, "http"),
			       json_string_value(lacks));
	else if (json_is_string(address))
		out_table_text(table, "http://%s/, metrics at /metrics",
			       json_string_value(address));
	else
		out_table_text(table, "off");
}

/* The checks of this outcome; no line if there is none. */
static void print_selftest(struct out_table *table, const json_t *checks, const char *outcome)
{
	json_t *names = json_array();
	const json_t *check;
	size_t i;

	json_array_foreach (checks, i, check)
		if (!strcmp(out_string(check, "outcome"), outcome))
			json_array_append(names, json_object_get(check, "name"));
	if (json_array_size(names)) {
		out_table_text(table, "self-test %s", outcome);
		out_table_value(table, names);
	}
	json_decref(names);
}

static void print_status(const json_t *status)
{
	static const struct {
		const char *label;
		const char *key;
	} plain[] = {
		{"rung", "rung"},	{"config", "config"}, {"cgroup root", "cgroup_root"},
		{"pin dir", "pin_dir"}, {"meshes", "meshes"},
	};
	static const char *const outcomes[] = {"passed", "failed", "untried"};
	_cleanup_out_table_ struct out_table *table = out_table_new("ll");
	const json_t *item;
	size_t i;

	print_agent(table, status);
	for (i = 0; i < ARRAY_SIZE(plain); i++) {
		out_table_text(table, "%s", plain[i].label);
		out_table_value(table, json_object_get(status, plain[i].key));
	}
	if (json_is_string(json_object_get(status, "rung_why"))) {
		out_table_text(table, "no higher rung");
		out_table_value(table, json_object_get(status, "rung_why"));
	}
	if (json_is_integer(json_object_get(status, "network_namespaces"))) {
		out_table_text(table, "network namespaces");
		out_table_value(table, json_object_get(status, "network_namespaces"));
	}
	print_cgroups(table, json_object_get(status, "cgroups"));
	out_table_text(table, "pairs");
	out_table_value(table, json_object_get(status, "pairs"));
	json_array_foreach (json_object_get(status, "links"), i, item) {
		out_table_text(table, "at %s", out_string(item, "cgroup"));
		out_table_value(table, json_object_get(item, "programs"));
	}
	json_array_foreach (json_object_get(status, "maps"), i, item) {
		out_table_text(table, "map %s", out_string(item, "name"));
		out_table_text(table, "%lld of %lld", number(item, "used"), number(item, "max"));
	}
	print_http(table, status);
	print_splice(table, status);
	for (i = 0; i < ARRAY_SIZE(outcomes) && strcmp(out_string(status, "splice"), "off"); i++)
		print_selftest(table, json_object_get(status, "selftest"), outcomes[i]);
	json_array_foreach (json_object_get(status, "warnings"), i, item) {
		out_table_text(table, "warning");
		out_table_value(table, item);
	}
	out_table_print(table, stdout);
}

int cmd_status(const struct ctl *ctl, int argc, char **argv)
{
	(void)argc, (void)argv;
	return cmd_query(ctl, json_pack("{s:s}", "verb", "status"), print_status);
}
