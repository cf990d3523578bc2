/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl: the command line to the agent.
 * Reads from: its arguments.
 * Writes to: stdout and stderr, by way of the commands.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "out.h"
#include "shunt/proto.h"
#include "shunt/version.h"

static const struct command {
	const char *name;
	const char *arguments;
	const char *help;
	int (*run)(const struct ctl *ctl, int argc, char **argv);
	int min, max; /* number of arguments */
} commands[] = {
	{"status", "", "the agent, what it has loaded and attached, how full its maps are",
	 cmd_status, 0, 0},
	{"flows", "[OPTION…]", "one line a connection: who, what, spliced or why not", cmd_flows, 0,
	 INT_MAX},
	{"top", "[-d SECONDS] [-b [-n TIMES]]", "the busiest connections and meshes, live", cmd_top,
	 0, INT_MAX},
	{"graph", "[-i SECONDS] [-n EDGES] [-T FORMAT]",
	 "who talks to whom, as Graphviz DOT; -T: drawn by dot(1)", cmd_graph, 0, INT_MAX},
	{"events", "[OPTION…]", "what happens to connections, as it happens", cmd_events, 0,
	 INT_MAX},
	{"counters", "", "every counter by name", cmd_counters, 0, 0},
	{"meshes", "", "the meshes of the configuration", cmd_meshes, 0, 0},
	{"cgroups", "[-a]", "what is enrolled, and by which rule; -a: the rest too", cmd_cgroups, 0,
	 1},
	{"explain", "PID|CGROUP DESTINATION", "what would happen to a connect, and by which rule",
	 cmd_explain, 2, 2},
	{"doctor", "", "what this host can do, tried out, with the consequence of each no",
	 cmd_doctor, 0, 0},
	{"exec", "CGROUP -- CMD…", "run a command inside a cgroup (made if it is not there)",
	 cmd_exec, 3, INT_MAX},
	{"reload", "", "apply the configuration file", cmd_reload, 0, 0},
	{"detach", "", "take everything out; the agent ends", cmd_detach, 0, 0},
};

static int help(void)
{
	struct out_table *table = out_table_new("ll");

	puts("Usage: shuntctl [-s SOCKET] [-j] COMMAND\n"
	     "       shuntctl --help | --version\n"
	     "\n"
	     "  -s SOCKET  where the agent listens, instead of " SHUNT_DEFAULT_SOCKET "\n"
	     "  -j         print JSON\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		_cleanup_free_ char *usage = NULL;

		if (asprintf(&usage, "  %s %s", commands[i].name, commands[i].arguments) < 0)
			return EXIT_FAILURE;
		out_table_row(table, usage, commands[i].help);
	}
	out_table_print(table, stdout);
	out_table_free(table);
	puts("\nDESTINATION is ADDR:PORT or [ADDR]:PORT, with tcp: or udp: before it if need be.");
	return EXIT_SUCCESS;
}

/* "status -j" is what one types when the text was not enough. What follows exec is not ours. */
static int take_json(struct ctl *ctl, int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[argc - 1], "-j") != 0 || strcmp(argv[0], "exec") == 0)
		return argc;
	ctl->json = true;
	return argc - 1;
}

static bool asks_for_help(int argc, char **argv)
{
	return argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	argc = take_json(ctl, argc, argv);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *command = &commands[i];

		if (strcmp(command->name, argv[0]) != 0)
			continue;
		if (asks_for_help(argc, argv)) {
			printf("Usage: shuntctl [-s SOCKET] [-j] %s%s%s\n\n%s; see shuntctl(8)\n",
			       command->name, *command->arguments ? " " : "", command->arguments,
			       command->help);
			return EXIT_SUCCESS;
		}
		if (argc - 1 < command->min || argc - 1 > command->max) {
			out_error("usage: shuntctl [-s SOCKET] [-j] %s%s%s", command->name,
				  *command->arguments ? " " : "", command->arguments);
			return EXIT_USAGE;
		}
		return command->run(ctl, argc, argv);
	}
	out_error("there is no command '%s'; see shuntctl --help", argv[0]);
	return EXIT_USAGE;
}

/* Output that got lost, on a full disk for example, is a failure. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	out_error("cannot write: %s", strerror(errno));
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	enum { OPTION_VERSION = 256 };
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, OPTION_VERSION},
		{NULL, 0, NULL, 0},
	};
	struct ctl ctl = {.socket = SHUNT_DEFAULT_SOCKET};
	int option;

	while ((option = getopt_long(argc, argv, "+:s:jh", options, NULL)) != -1) {
		switch (option) {
		case 's':
			ctl.socket = optarg;
			break;
		case 'j':
			ctl.json = true;
			break;
		case 'h':
			return finish(help());
		case OPTION_VERSION:
			puts("shuntctl " SHUNT_VERSION);
			return finish(EXIT_SUCCESS);
		case ':':
			out_error("option '-%c' needs a value", optopt);
			return EXIT_USAGE;
		default:
			if (optopt)
				out_error("there is no option '-%c'; see shuntctl --help", optopt);
			else
				out_error("there is no option '%s'; see shuntctl --help",
					  argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		out_error("which command? See shuntctl --help");
		return EXIT_USAGE;
	}
	return finish(run(&ctl, argc - optind, argv + optind));
}
