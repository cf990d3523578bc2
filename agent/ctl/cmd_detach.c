/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl detach: has the agent take everything out and end.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include "cmd.h"

static void print_detached(const json_t *result)
{
	(void)result;
	puts("everything is taken out; the agent ends");
}

int cmd_detach(const struct ctl *ctl, int argc, char **argv)
{
	(void)argc, (void)argv;
	return cmd_query(ctl, json_pack("{s:s}", "verb", "detach"), print_detached);
}
