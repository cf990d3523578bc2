/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What most commands of shuntctl are: a question, and its answer printed.
 * Reads from: the agent, arguments.
 * Writes to: stdout.
 */
#include "cmd.h"

#include <errno.h>

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

int cmd_fetch_flows(const struct ctl *ctl, json_t *request, json_t *flows)
{
	while (request) {
		_cleanup_json_ json_t *page = NULL;
		json_t *next;
		int r = client_ask(ctl->socket, request, &page);

		if (r < 0)
			return r;
		if (json_array_extend(flows, json_object_get(page, "flows")) != 0) {
			out_error("what the agent answers is not understood");
			return -EPROTO;
		}
		next = json_object_get(page, "next");
		request = json_is_integer(next)
				  ? json_pack("{s:s, s:O}", "verb", "flows", "next", next)
				  : NULL;
	}
	return 0;
}

int cmd_take_number(const char *what, const char *text, double min, double max, double *ret)
{
	char *end;
	double value = strtod(text, &end);

	if (*text < '0' || *text > '9' || *end || !(value >= min && value <= max)) {
		out_error("%s: '%s' is not a number from %g to %g", what, text, min, max);
		return -EINVAL;
	}
	*ret = value;
	return 0;
}
