/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which connections are asked for: options that flows and events share.
 * Reads from: arguments.
 * Writes to: a question to the agent; stderr.
 */
#include "filter.h"

#include <limits.h>
#include <stdlib.h>

#include "out.h"

static int take_text(json_t *request, const char *key)
{
	if (!json_object_set_new(request, key, json_string(optarg)))
		return 0;
	out_error("an argument is not UTF-8");
	return -1;
}

static int take_number(const char *command, json_t *request, const char *key, long max)
{
	char *end;
	long value = strtol(optarg, &end, 10);

	if (*optarg < '0' || *optarg > '9' || *end || value < 1 || value > max) {
		out_error("%s: --%s: '%s' is not a number from 1 to %ld", command, key, optarg,
			  max);
		return -1;
	}
	return json_object_set_new(request, key, json_integer(value));
}

int filter_take(const char *command, int option, char **argv, json_t *request)
{
	switch (option) {
	case 'm':
		return take_text(request, "mesh");
	case 'c':
		return take_text(request, "cgroup");
	case 's':
		return take_text(request, "state");
	case 'p':
		return take_number(command, request, "pid", INT_MAX);
	case 'o':
		return take_number(command, request, "port", 65535);
	case ':':
		out_error("%s: option '%s' needs a value", command, argv[optind - 1]);
		return -1;
	default:
		out_error("%s: an option is not understood; see shuntctl(8)", command);
		return -1;
	}
}

int filter_finish(const char *command, int argc, char **argv)
{
	if (optind == argc)
		return 0;
	out_error("%s: '%s' is not understood", command, argv[optind]);
	return -1;
}
