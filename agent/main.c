/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntd: the command line of the agent.
 * Reads from: argv, the configuration file.
 * Writes to: stderr; the exit code.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "policy.h"
#include "shunt/proto.h"
#include "shunt/version.h"

static const char usage[] = "usage: shuntd [-c FILE] [--check] [--version]\n"
			    "  -c, --config FILE  read FILE instead of " SHUNT_DEFAULT_CONFIG "\n"
			    "      --check        say what is wrong with it, change nothing\n"
			    "      --version\n"
			    "  -h, --help\n";

static int main_load(const char *path, struct config **ret)
{
	struct config_problems problems = {};
	int r = config_load(path, &problems, ret);

	for (size_t i = 0; i < problems.n; i++)
		fprintf(stderr, "%s%s\n",
			problems.items[i].severity == CONFIG_WARNING ? "warning: " : "",
			problems.items[i].text);
	config_problems_deinit(&problems);
	return r;
}

/* How many rules there are, only the policy shows: it is made, and not put in force. */
static int main_check(const char *path, const struct config *config)
{
	struct policy *policy = NULL;
	int r = policy_new(config, 0, &policy);

	if (r == -E2BIG)
		fprintf(stderr, "%s: more rules than limits.rules = %u\n", path,
			config->limit_rules);
	else if (r)
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
	else
		printf("%s: no errors, %zu %s\n", path, config->n_meshes,
		       config->n_meshes == 1 ? "mesh" : "meshes");
	policy_free(policy);
	return r ? 1 : 0;
}

int main(int argc, char **argv)
{
	enum { OPTION_CHECK = 256, OPTION_VERSION };
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, OPTION_CHECK},
		{"version", no_argument, NULL, OPTION_VERSION},
		{"help", no_argument, NULL, 'h'},
		{},
	};
	const char *path = SHUNT_DEFAULT_CONFIG;
	struct config *config = NULL;
	bool check = false;
	int c;

	while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			path = optarg;
			break;
		case OPTION_CHECK:
			check = true;
			break;
		case OPTION_VERSION:
			puts("shuntd " SHUNT_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "shuntd: unexpected '%s'\n", argv[optind]);
		return 2;
	}
	if (main_load(path, &config))
		return 1;
	if (check) {
		c = main_check(path, config);
		config_free(config);
		return c;
	}
	return agent_run(config);
}
