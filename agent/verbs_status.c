/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent says of itself, as JSON.
 * Reads from: every module.
 * Writes to: a JSON result.
 */
#include "verbs.h"

#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "shunt/version.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "verbs_answer.h"

struct verbs_links {
	struct agent *agent;
	json_t *array;
};

struct verbs_path_of {
	uint64_t cgroup;
	const char *path;
};

static void verbs_match_id(void *user, struct cgroup_node *node)
{
	struct verbs_path_of *wanted = user;

	if (node->id == wanted->cgroup)
		wanted->path = node->path;
}

static void verbs_add_link(void *user, uint64_t cgroup, const char *program)
{
	struct verbs_path_of wanted = {.cgroup = cgroup};
	struct verbs_links *links = user;
	json_t *item;
	size_t i;

	enrol_each(links->agent->enrol, verbs_match_id, &wanted);
	if (!wanted.path)
		return;
	json_array_foreach (links->array, i, item) {
		if (!strcmp(json_string_value(json_object_get(item, "cgroup")), wanted.path)) {
			json_array_append_new(json_object_get(item, "programs"),
					      json_string(program));
			return;
		}
	}
	json_array_append_new(
		links->array,
		json_pack("{s:o, s:[s]}", "cgroup", verbs_text(wanted.path), "programs", program));
}

void verbs_map_fills(const struct agent *agent, const uint64_t *counters,
		     struct verbs_map_fill ret[VERBS_MAPS])
{
	const struct maps *maps = loader_maps(agent->loader);
	struct enrol_totals totals = enrol_totals(agent->enrol);

	ret[0] = (struct verbs_map_fill){"cgroups", totals.known - totals.missing,
					 maps->cgroups_max};
	ret[1] = (struct verbs_map_fill){"cidrs", agent->policy->cidrs.n, maps->cidrs_max};
	ret[2] = (struct verbs_map_fill){"owners", agent->policy->owners.n, maps->owners_max};
	ret[VERBS_MAP_PAIRS] = (struct verbs_map_fill){"pairs",
						       counters[SHUNT_COUNTER_pairs_opened] -
							       counters[SHUNT_COUNTER_pairs_closed],
						       maps->pairs_max};
}

static json_t *verbs_maps(struct agent *agent, json_t **ret_pairs)
{
	uint64_t counters[SHUNT_COUNTER_MAX] = {};
	struct verbs_map_fill fills[VERBS_MAPS];
	json_t *array = json_array();

	maps_read_counters(loader_maps(agent->loader), counters);
	verbs_map_fills(agent, counters, fills);
	for (size_t i = 0; array && i < VERBS_MAPS; i++)
		json_array_append_new(array, json_pack("{s:s, s:I, s:I}", "name", fills[i].name,
						       "used", (json_int_t)fills[i].used, "max",
						       (json_int_t)fills[i].max));
	*ret_pairs = json_integer(fills[VERBS_MAP_PAIRS].used);
	return array;
}

/* @texts ends with a NULL, or is one. */
static json_t *verbs_strings(const char *const *texts)
{
	json_t *array = json_array();

	for (; array && texts && *texts; texts++)
		json_array_append_new(array, verbs_text(*texts));
	return array;
}

const char *verbs_rung(const struct agent *agent)
{
	static const char *const names[] = {
		[AGENT_RUNG_REDIRECT] = "redirect",
		[AGENT_RUNG_NFTABLES] = "nftables",
		[AGENT_RUNG_OFF] = "off",
	};

	return names[agent->rung];
}

const char *verbs_splice(const struct agent *agent)
{
	if (agent->rung != AGENT_RUNG_REDIRECT || agent->detaching || !splice_wanted(agent->config))
		return "off";
	return agent->splice && splice_is_on(agent->splice) ? "on" : "kernel";
}

json_t *verbs_splice_lacks(const struct agent *agent)
{
	const char *obstacle = agent->loader ? loader_cannot_splice(agent->loader) : NULL;
	_cleanup_free_ char *lacks = NULL;

	if (strcmp(verbs_splice(agent), "kernel"))
		return json_null();
	if (!agent->splice)
		return json_string(obstacle ?: "the programs that splice cannot be loaded");
	lacks = selftest_lacks(&agent->selftest);
	return json_string(lacks ?: "it could not be switched on; the agent's log says why");
}

static json_t *verbs_selftest(const struct selftest *selftest)
{
	json_t *checks = json_array();

	for (int i = 0; checks && i < SELFTEST_MAX; i++)
		json_array_append_new(
			checks, json_pack("{s:s, s:s, s:b, s:s}", "name", selftest_name(i),
					  "outcome", selftest_outcome_name(selftest->outcome[i]),
					  "needed", selftest_needed(i), "text", selftest_text(i)));
	return checks;
}

static json_t *verbs_http(const struct agent *agent)
{
	char text[ADDR_STRLEN];

	if (!agent->metrics_listen.port)
		return json_null();
	return json_string(addr_format_endpoint(&agent->metrics_listen, text));
}

int verbs_status(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct agent *agent = user;
	struct verbs_links links = {.agent = agent, .array = json_array()};
	json_t *maps, *pairs = NULL;
	struct enrol_totals totals = {};

	if (agent->rung != AGENT_RUNG_OFF)
		totals = enrol_totals(agent->enrol);
	if (agent->rung == AGENT_RUNG_REDIRECT)
		loader_each_link(agent->loader, verbs_add_link, &links);
	maps = agent->rung == AGENT_RUNG_REDIRECT ? verbs_maps(agent, &pairs) : json_array();
	return verbs_done(
		json_pack(
			"{s:s, s:i, s:i, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:I, s:{s:I, s:I, s:I}, s:o, s:o, s:o, s:o, s:o, s:o}",
			"version", SHUNT_VERSION, "abi", SHUNT_ABI_VERSION, "pid", (int)getpid(),
			"uptime_seconds",
			(json_int_t)(uv_hrtime() / 1000000 - agent->started) / 1000, "rung",
			verbs_rung(agent), "config", verbs_text(agent->config->path), "cgroup_root",
			verbs_text(agent->cgroup_root ?: ""), "pin_dir",
			verbs_text(agent->config->pin_dir), "http", verbs_http(agent), "http_lacks",
			agent->http_error ? json_string(strerror(-agent->http_error)) : json_null(),
			"splice", verbs_splice(agent), "splice_lacks", verbs_splice_lacks(agent),
			"selftest", verbs_selftest(&agent->selftest), "meshes",
			(json_int_t)agent->config->n_meshes, "cgroups", "known",
			(json_int_t)totals.known, "members", (json_int_t)totals.members, "sidecars",
			(json_int_t)totals.sidecars, "links", links.array, "maps", maps, "pairs",
			pairs ?: json_null(), "warnings",
			verbs_strings(agent->rung != AGENT_RUNG_OFF ? enrol_warnings(agent->enrol)
								    : NULL),
			"rung_why", verbs_text_or_null(agent->why), "network_namespaces",
			agent->rung == AGENT_RUNG_NFTABLES
				? json_integer(nft_namespaces(agent->nft))
				: json_null()),
		ret_result);
}
