/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which connections are asked for: options that flows and events share. */
#pragma once

#include <getopt.h>
#include <jansson.h>

/* The first entries of a table for getopt_long(), whose option string is "+:". */
#define FILTER_OPTIONS                                                                         \
	{"mesh", required_argument, NULL, 'm'}, {"cgroup", required_argument, NULL, 'c'},      \
		{"pid", required_argument, NULL, 'p'}, {"port", required_argument, NULL, 'o'}, \
	{                                                                                      \
		"state", required_argument, NULL, 's'                                          \
	}

/* Puts an option into @request: 'm', 'c', 'p', 'o' or 's', with optarg. Says what is wrong with any
 * other, or with its value, and returns -1. @command: argv[0]. */
int filter_take(const char *command, int option, char **argv, json_t *request);
/* The same for what follows the options: nothing. */
int filter_finish(const char *command, int argc, char **argv);
