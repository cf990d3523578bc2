/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl detach: has the agent take everything out and end.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include "client.h"
#include "cmd.h"

int cmd_detach(const struct ctl *ctl, int argc, char **argv)
{
	_cleanup_json_ json_t *result = NULL;

	(void)argc, (void)argv;
	if (client_ask_last(ctl->socket, json_pack("{s:s}", "verb", "detach"), &result) < 0)
		return EXIT_FAILURE;
	if (ctl->json)
		out_json(stdout, result);
	else
		puts("everything is taken out; the agent has ended");
	return EXIT_SUCCESS;
}
