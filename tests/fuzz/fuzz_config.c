/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration file, and what the policy makes of it.
 * Reads from: an input, as the file.
 * Writes to: nothing.
 */
#include <errno.h>

#include "config.h"
#include "fuzz.h"
#include "policy.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "util/glob.h"

#define NAME "fuzz.ini"

static void check_problems(const struct config_problems *problems, int r)
{
	size_t errors = 0;

	for (size_t i = 0; i < problems->n; i++) {
		errors += problems->items[i].severity == CONFIG_ERROR;
		fuzz_check(!strncmp(problems->items[i].text, NAME ":", strlen(NAME ":")));
		fuzz_check(!strchr(problems->items[i].text, '\n'));
	}
	fuzz_check(errors == problems->n_errors);
	fuzz_check(r == (errors ? -EINVAL : 0));
}

static void check_globs(const struct config_globs *globs)
{
	for (size_t i = 0; i < globs->n; i++)
		fuzz_check(!glob_check(globs->items[i].pattern));
}

static void check_ports(const struct config_port_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		fuzz_check(list->items[i].first <= list->items[i].last);
}

/* What is written out is read in again as the same. */
static void check_cidrs(const struct config_cidrs *list)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct config_cidr *cidr = &list->items[i];
		char text[ADDR_STRLEN];
		uint32_t prefix;
		__be32 addr[4];

		addr_format_cidr(cidr->addr, cidr->prefix, text);
		fuzz_check(!addr_parse_cidr(text, addr, &prefix));
		fuzz_check(prefix == cidr->prefix && !memcmp(addr, cidr->addr, sizeof(addr)));
	}
}

/* Whatever is enrolled is where something is attached, and is watched. */
static void check_covered(const struct policy *policy, const char *path)
{
	size_t attached = 0, watched = 0;

	for (size_t i = 0; i < policy->attach.n; i++) {
		const char *point = policy->attach.items[i].path;

		attached += !strncmp(path, point, strlen(point));
	}
	for (size_t i = 0; i < policy->n_watch; i++)
		watched += !strncmp(path, policy->watch[i], strlen(policy->watch[i]));
	fuzz_check(attached > 0 && watched > 0);
}

static void check_policy(const struct config *config)
{
	struct policy *policy;
	int r = policy_new(config, SHUNT_MESHES_MAX, &policy);

	fuzz_check(r == 0 || r == -E2BIG);
	if (r)
		return;
	for (size_t i = 0; i < config->n_meshes; i++) {
		const struct config_globs *globs = &config->meshes[i].cgroups;

		for (size_t j = 0; j < globs->n; j++) {
			/* A pattern is a path as well, with stars in its names. */
			const char *path = globs->items[j].pattern;
			struct policy_match match;

			policy_classify(policy, path, NULL, &match);
			if (match.entry.role != SHUNT_ROLE_NONE) {
				fuzz_check(match.mesh && match.rule);
				fuzz_check(policy_rule_key(match.mesh, match.rule));
				check_covered(policy, path);
			}
		}
	}
	policy_free(policy);
}

static void check_config(const struct config *config)
{
	fuzz_check(config->n_meshes <= SHUNT_MESHES_MAX);
	check_globs(&config->splice_never);
	for (size_t i = 0; i < config->n_meshes; i++) {
		const struct config_mesh *mesh = &config->meshes[i];

		fuzz_check(*mesh->name && strlen(mesh->name) <= CONFIG_MESH_NAME_MAX);
		check_globs(&mesh->cgroups);
		check_globs(&mesh->sidecar_cgroups);
		check_cidrs(&mesh->include_cidrs);
		check_cidrs(&mesh->exclude_cidrs);
		check_ports(&mesh->include_ports);
		check_ports(&mesh->exclude_ports);
	}
	check_policy(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fclose_ FILE *stream = fuzz_stream(data, size);
	struct config_problems problems = {};
	struct config *config = NULL;
	int r = config_parse(stream, NAME, &problems, &config);

	check_problems(&problems, r);
	if (!r)
		check_config(config);
	config_free(config);
	config_problems_deinit(&problems);
	return 0;
}
