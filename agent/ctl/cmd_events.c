/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl events: what happens to connections, a line each, as it happens.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "filter.h"

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *event, const char *key)
{
	return json_string_value(json_object_get(event, key));
}

/* "curl/4711", or its address if nobody has been seen there. */
static void write_client(FILE *line, const json_t *event)
{
	const json_t *client = json_object_get(event, "client");

	if (number(client, "pid"))
		fprintf(line, "%s/%d", out_string(client, "comm"), (int)number(client, "pid"));
	else
		fputs(out_string(client, "address"), line);
}

static void write_why(FILE *line, const json_t *event, const char *name, const char *explanation)
{
	fprintf(line, ": %s (%s)", out_string(event, name), out_string(event, explanation));
}

static void write_bytes(FILE *line, const json_t *event, const char *title, const char *key)
{
	const json_t *directions = json_object_get(event, "directions");

	fprintf(line, ", %s %" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT, title,
		number(json_object_get(directions, "client_to_server"), key),
		number(json_object_get(directions, "server_to_client"), key));
}

static void write_totals(FILE *line, const json_t *event)
{
	write_bytes(line, event, "spliced", "bytes_spliced");
	write_bytes(line, event, "tcp", "bytes_tcp");
}

static void write_details(FILE *line, const json_t *event)
{
	const char *name = out_string(event, "event"), *reason = text(event, "reason");
	bool explains = reason && strcmp(reason, "none") != 0;

	if (text(event, "direction"))
		fputs(strcmp(text(event, "direction"), "client_to_server") == 0
			      ? ": what the client writes"
			      : ": what the server writes",
		      line);
	else if (strcmp(name, "closed") == 0)
		write_totals(line, event);
	if (explains)
		write_why(line, event, "reason", "reason_text");
	else if (!reason)
		write_why(line, event, "outcome", "outcome_text");
}

static void print_event(const json_t *event)
{
	_cleanup_free_ char *line = NULL;
	size_t size;
	FILE *stream = open_memstream(&line, &size);

	if (!stream)
		return;
	fprintf(stream, "%s %-8s ", out_string(event, "time"), out_string(event, "event"));
	write_client(stream, event);
	fprintf(stream, " -> %s", out_string(event, "dialled"));
	if (text(event, "redirected_to"))
		fprintf(stream, " by %s", text(event, "redirected_to"));
	if (text(event, "mesh"))
		fprintf(stream, ", mesh %s", text(event, "mesh"));
	write_details(stream, event);
	if (number(event, "lost"))
		fprintf(stream, " [%d before it were not told]", (int)number(event, "lost"));
	if (fclose(stream) == 0)
		out_line(stdout, line);
}

static int on_event(void *user, const char *line, const json_t *event)
{
	const struct ctl *ctl = user;

	if (ctl->json)
		fputs(line, stdout);
	else
		print_event(event);
	return fflush(stdout);
}

int cmd_events(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		FILTER_OPTIONS,
		{NULL, 0, NULL, 0},
	};
	_cleanup_json_ json_t *request = json_pack("{s:s}", "verb", "events");
	int option, r = 0;

	optind = 0; /* begin anew: main has read the options before the command */
	while (r == 0 && (option = getopt_long(argc, argv, "+:", options, NULL)) != -1)
		r = filter_take("events", option, argv, request);
	if (r < 0 || filter_finish("events", argc, argv) < 0)
		return EXIT_USAGE;
	client_listen(ctl->socket, json_incref(request), on_event, (void *)ctl);
	return EXIT_FAILURE; /* it has no end but ^C */
}
