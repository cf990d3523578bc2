/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What most commands of shuntctl are: a question, and its answer printed.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include "cmd.h"

#include "client.h"

int cmd_query(const struct ctl *ctl, json_t *request, void (*print)(const json_t *result))
{
	_cleanup_json_ json_t *result = NULL;

	if (client_ask(ctl->socket, request, &result) < 0)
		return EXIT_FAILURE;
	if (ctl->json)
		out_json(stdout, result);
	else
		print(result);
	return EXIT_SUCCESS;
}
