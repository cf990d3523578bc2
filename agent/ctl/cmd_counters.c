/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl counters: every counter by name, in the order of the ABI, with what it counts.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <string.h>

#include "cmd.h"
#include "shunt/abi.h"

static const struct {
	const char *name;
	const char *text;
} counters[SHUNT_COUNTER_MAX] = {
#define X(name, text) {"connect_" #name, text},
	SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) {"sendmsg_" #name, text},
		SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) {"splice_plain_" #name, text},
			SHUNT_REASONS(X)
#undef X
#define X(name, text) {"closed_" #name, text},
				SHUNT_REASONS(X)
#undef X
#define X(name, text) {#name, text},
					SHUNT_COUNTERS(X)
#undef X
};

static bool counter_is_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		if (strcmp(counters[i].name, name) == 0)
			return true;
	}
	return false;
}

static void counter_print(struct out_table *table, const char *name, const json_t *value,
			  const char *text)
{
	out_table_text(table, "%s", name);
	out_table_value(table, value);
	out_table_text(table, "%s", text);
}

static void print_counters(const json_t *values)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("lrl");

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		const char *name = counters[i].name;

		counter_print(table, name, json_object_get(values, name), counters[i].text);
	}
	/* The agent may be newer than this program. */
	for (void *i = json_object_iter((json_t *)values); i;
	     i = json_object_iter_next((json_t *)values, i)) {
		const char *name = json_object_iter_key(i);

		if (!counter_is_known(name))
			counter_print(table, name, json_object_iter_value(i), "");
	}
	out_table_print(table, stdout);
}

int cmd_counters(const struct ctl *ctl, int argc, char **argv)
{
	(void)argc, (void)argv;
	return cmd_query(ctl, json_pack("{s:s}", "verb", "counters"), print_counters);
}
