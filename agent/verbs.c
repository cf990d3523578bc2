/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent answers to shuntctl.
 * Reads from: every module.
 * Writes to: JSON results; reload and detach act through agent.
 */
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "explain.h"
#include "flows.h"
#include "process.h"
#include "shunt/version.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "util/path.h"

static const char *const verbs_roles[] = {
	[SHUNT_ROLE_NONE] = "none",
	[SHUNT_ROLE_MEMBER] = "member",
	[SHUNT_ROLE_SIDECAR] = "sidecar",
};

static const char *const verbs_counters[] = {
#define X(name, text) "connect_" #name,
	SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) "sendmsg_" #name,
		SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) "splice_plain_" #name,
			SHUNT_REASONS(X)
#undef X
#define X(name, text) "closed_" #name,
				SHUNT_REASONS(X)
#undef X
#define X(name, text) #name,
					SHUNT_COUNTERS(X)
#undef X
};

__attribute__((format(printf, 3, 4))) static int verbs_fail(char **ret_error, int error,
							    const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vasprintf(ret_error, format, args) < 0)
		*ret_error = NULL;
	va_end(args);
	return error;
}

/* Most of what can be asked is of what is in force. */
int verbs_need_redirect(const struct agent *agent, char **ret_error)
{
	if (!agent->off)
		return 0;
	return verbs_fail(ret_error, -ENOTCONN,
			  agent->nft
				  ? "nftables redirects (rung nftables), which does not tell"
				  : "nothing is redirected (rung off); the agent's log says why");
}

/* What can be asked wherever cgroups are enrolled, by programs or by rules of nftables. */
static int verbs_need_enrol(const struct agent *agent, char **ret_error)
{
	return agent->enrol ? 0 : verbs_need_redirect(agent, ret_error);
}

/* Takes @result; jansson gives NULL where memory ran out. */
static int verbs_done(json_t *result, json_t **ret_result)
{
	if (!result)
		return -ENOMEM;
	*ret_result = result;
	return 0;
}

json_t *verbs_text(const char *text)
{
	json_t *string = json_string(text);
	_cleanup_free_ char *escaped = NULL;
	size_t n = 0;

	if (string)
		return string;
	escaped = calloc(strlen(text) + 1, 4);
	if (!escaped)
		return NULL;
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		n += sprintf(escaped + n, *c < 0x80 ? "%c" : "\\x%02x", *c);
	return json_string(escaped);
}

static json_t *verbs_text_or_null(const char *text)
{
	return text ? verbs_text(text) : json_null();
}

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
	return agent->nft ? "nftables" : agent->off ? "off" : "redirect";
}

const char *verbs_splice(const struct agent *agent)
{
	if (agent->off || agent->detaching || !splice_wanted(agent->config))
		return "off";
	return agent->splice && selftest_allows(&agent->selftest) ? "on" : "kernel";
}

static json_t *verbs_splice_lacks(const struct agent *agent)
{
	const char *obstacle = agent->loader ? loader_cannot_splice(agent->loader) : NULL;
	_cleanup_free_ char *lacks = NULL;

	if (strcmp(verbs_splice(agent), "kernel"))
		return json_null();
	if (!agent->splice)
		return json_string(obstacle ?: "the programs that splice cannot be loaded");
	lacks = selftest_lacks(&agent->selftest);
	return verbs_text_or_null(lacks);
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

static int verbs_status(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct agent *agent = user;
	struct verbs_links links = {.agent = agent, .array = json_array()};
	json_t *maps, *pairs = NULL;
	struct enrol_totals totals = {};

	if (agent->enrol)
		totals = enrol_totals(agent->enrol);
	if (!agent->off)
		loader_each_link(agent->loader, verbs_add_link, &links);
	maps = agent->off ? json_array() : verbs_maps(agent, &pairs);
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
			verbs_strings(agent->enrol ? enrol_warnings(agent->enrol) : NULL),
			"rung_why", verbs_text_or_null(agent->why), "network_namespaces",
			agent->nft ? json_integer(nft_namespaces(agent->nft)) : json_null()),
		ret_result);
}

static int verbs_read_counters(void *user, const json_t *request, json_t **ret_result,
			       char **ret_error)
{
	uint64_t counters[SHUNT_COUNTER_MAX];
	struct agent *agent = user;
	json_t *result;
	int r;

	if (verbs_need_redirect(user, ret_error))
		return -ENOTCONN;
	r = maps_read_counters(loader_maps(agent->loader), counters);
	if (r)
		return verbs_fail(ret_error, r, "the counters cannot be read: %s", strerror(-r));
	result = json_object();
	for (int i = 0; i < SHUNT_COUNTER_MAX; i++)
		json_object_set_new(result, verbs_counters[i], json_integer(counters[i]));
	return verbs_done(result, ret_result);
}

static json_t *verbs_endpoints(const struct shunt_endpoint endpoints[SHUNT_FAMILIES])
{
	json_t *array = json_array();
	char text[ADDR_STRLEN];

	for (int i = 0; i < SHUNT_FAMILIES; i++)
		if (endpoints[i].port)
			json_array_append_new(
				array, json_string(addr_format_endpoint(&endpoints[i], text)));
	return array;
}

struct verbs_mesh_count {
	const struct config_mesh *mesh;
	json_int_t roles[SHUNT_ROLE_SIDECAR + 1];
};

static void verbs_count_mesh(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	struct verbs_mesh_count *count = user;

	if (member && member->match.mesh == count->mesh)
		count->roles[member->match.entry.role]++;
}

static int verbs_meshes(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct agent *agent = user;
	json_t *array = json_array();

	if (verbs_need_enrol(user, ret_error))
		return -ENOTCONN;
	for (size_t i = 0; array && i < agent->config->n_meshes; i++) {
		const struct config_mesh *mesh = &agent->config->meshes[i];
		struct verbs_mesh_count count = {.mesh = mesh};

		enrol_each(agent->enrol, verbs_count_mesh, &count);
		json_array_append_new(
			array,
			json_pack("{s:s, s:i, s:o, s:o, s:s, s:I, s:I}", "name", mesh->name, "line",
				  (int)mesh->line, "tcp_redirect",
				  verbs_endpoints(mesh->tcp_redirect), "dns_redirect",
				  verbs_endpoints(mesh->dns_redirect), "on_sidecar_down",
				  mesh->on_sidecar_down == CONFIG_SIDECAR_DOWN_BYPASS ? "bypass"
										      : "refuse",
				  "members", count.roles[SHUNT_ROLE_MEMBER], "sidecars",
				  count.roles[SHUNT_ROLE_SIDECAR]));
	}
	return verbs_done(array, ret_result);
}

static json_t *verbs_cgroup(struct agent *agent, const struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	_cleanup_free_ char *rule = NULL;

	if (!member)
		return NULL;
	rule = explain_match_rule(agent->policy, &member->match);
	return json_pack("{s:o, s:I, s:s, s:o, s:o}", "path", verbs_text(node->path), "id",
			 (json_int_t)node->id, "role", verbs_roles[member->match.entry.role],
			 "mesh",
			 verbs_text_or_null(member->match.mesh ? member->match.mesh->name : NULL),
			 "rule", verbs_text_or_null(rule));
}

struct verbs_list {
	struct agent *agent;
	json_t *array;
};

static void verbs_add_cgroup(void *user, struct cgroup_node *node)
{
	struct verbs_list *list = user;

	json_array_append_new(list->array, verbs_cgroup(list->agent, node));
}

static int verbs_cgroups(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct verbs_list list = {.agent = user, .array = json_array()};

	if (verbs_need_enrol(user, ret_error))
		return -ENOTCONN;
	enrol_each(list.agent->enrol, verbs_add_cgroup, &list);
	return verbs_done(list.array, ret_result);
}

bool verbs_is_cgroup_path(const char *text)
{
	if (!text || *text != '/')
		return false;
	for (const char *part = text; part; part = strchr(part, '/')) {
		size_t len = strcspn(++part, "/");

		if (len && len <= 2 && !strncmp(part, "..", len))
			return false;
	}
	return true;
}

char *verbs_cgroup_path(struct agent *agent, const char *text)
{
	size_t root = strlen(agent->cgroup_root);
	char *path;

	if (!strncmp(text, agent->cgroup_root, root) && (!text[root] || text[root] == '/'))
		text += root;
	path = strdup(*text ? text : "/");
	if (path)
		path_trim(path);
	return path;
}

static int verbs_classify(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	const char *text = json_string_value(json_object_get(request, "cgroup"));
	_cleanup_free_ char *path = NULL;
	const struct cgroup_node *node;
	struct agent *agent = user;

	if (verbs_need_enrol(user, ret_error))
		return -ENOTCONN;
	if (!verbs_is_cgroup_path(text))
		return verbs_fail(ret_error, -EINVAL, VERBS_NO_CGROUP_PATH);
	path = verbs_cgroup_path(agent, text);
	if (!path)
		return -ENOMEM;
	node = enrol_find(agent->enrol, path);
	if (agent->nft)
		nft_look_soon(agent->nft);
	if (node)
		return verbs_done(verbs_cgroup(agent, node), ret_result);
	return verbs_done(json_pack("{s:o, s:I, s:s, s:n, s:n}", "path", verbs_text(path), "id",
				    (json_int_t)0, "role", "none", "mesh", "rule"),
			  ret_result);
}

/* "10.0.0.1:80", with the protocol that stands beside it or TCP. */
static int verbs_parse_destination(const json_t *request, struct explain_query *query,
				   char **ret_error)
{
	const char *destination = json_string_value(json_object_get(request, "destination"));
	const char *protocol = json_string_value(json_object_get(request, "protocol"));

	if (!destination || addr_parse_endpoint(destination, &query->destination))
		return verbs_fail(ret_error, -EINVAL,
				  "destination '%s': write 10.0.0.1:80 or [fd00::1]:80",
				  destination ?: "");
	if (!protocol || !strcmp(protocol, "tcp"))
		query->protocol = IPPROTO_TCP;
	else if (!strcmp(protocol, "udp"))
		query->protocol = IPPROTO_UDP;
	else
		return verbs_fail(ret_error, -EINVAL, "protocol '%s': tcp or udp", protocol);
	return 0;
}

/* Who asks: a process, or a cgroup with any of its processes for the network namespace. */
static int verbs_parse_subject(struct agent *agent, const json_t *request,
			       struct explain_query *query, char **ret_path, char **ret_error)
{
	const char *cgroup = json_string_value(json_object_get(request, "cgroup"));
	json_int_t pid = json_integer_value(json_object_get(request, "pid"));
	struct process process;
	int r;

	if (cgroup) {
		if (!verbs_is_cgroup_path(cgroup))
			return verbs_fail(ret_error, -EINVAL, VERBS_NO_CGROUP_PATH);
		*ret_path = verbs_cgroup_path(agent, cgroup);
		if (!*ret_path)
			return -ENOMEM;
		query->pid = process_first_in_cgroup(agent->cgroup_root, *ret_path);
		return 0;
	}
	if (pid <= 0 || pid > INT32_MAX)
		return verbs_fail(ret_error, -EINVAL, "a process number or a cgroup is needed");
	r = process_read(pid, &process);
	if (r)
		return verbs_fail(ret_error, r, "process %" JSON_INTEGER_FORMAT ": %s", pid,
				  r == -ENOENT ? "there is none" : strerror(-r));
	r = cgroup_find_below(agent->cgroup_root, process.cgroup, ret_path);
	free(process.cgroup);
	if (r == -EXDEV)
		return verbs_fail(ret_error, r,
				  "process %" JSON_INTEGER_FORMAT
				  ": its cgroup cannot be told in the agent's cgroup namespace; "
				  "name the cgroup",
				  pid);
	query->pid = pid;
	query->uid = process.uid;
	query->gid = process.gid;
	query->owner_known = true;
	return r;
}

static bool verbs_exists(const struct agent *agent, const char *path)
{
	_cleanup_free_ char *directory = NULL;

	if (asprintf(&directory, "%s%s", agent->cgroup_root, path) < 0) {
		directory = NULL;
		return true;
	}
	return !access(directory, F_OK);
}

/* What a cgroup that is not there will be once it is made. */
static void verbs_classify_future(const struct policy *policy, char *path, struct policy_match *ret)
{
	*ret = (struct policy_match){};
	for (char *end = path + 1; *end; end += *end == '/') {
		struct policy_match parent = *ret;
		char saved;

		end = strchrnul(end, '/');
		saved = *end;
		*end = '\0';
		policy_classify(policy, path, &parent, ret);
		*end = saved;
	}
}

static int verbs_explain(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct agent *agent = user;
	struct explain_query query = {.cgroup_root = agent->cgroup_root};
	struct explain_answer answer = {};
	_cleanup_free_ char *path = NULL;
	struct policy_match match;
	json_t *steps, *result;
	bool covered, future;
	char text[ADDR_STRLEN];
	int r;

	if (verbs_need_enrol(user, ret_error))
		return -ENOTCONN;
	r = verbs_parse_destination(request, &query, ret_error);
	r = r ?: verbs_parse_subject(agent, request, &query, &path, ret_error);
	if (r)
		return r;
	r = enrol_classify(agent->enrol, path, &covered, &match);
	if (r)
		return r;
	future = !verbs_exists(agent, path);
	if (future && !covered)
		verbs_classify_future(agent->policy, path, &match);
	r = explain_connect(agent->policy, &match, &query, &answer);
	if (r)
		return r;
	steps = json_array();
	if (future)
		json_array_append_new(
			steps, json_string("there is no such cgroup; this is for when it is made"));
	for (size_t i = 0; i < answer.n_steps; i++)
		json_array_append_new(steps, verbs_text(answer.steps[i]));
	if (agent->nft && answer.outcome == SHUNT_OUTCOME_bypassed_sidecar_down) {
		json_array_append_new(steps, json_string("rules of nftables cannot bypass"));
		answer.outcome = SHUNT_OUTCOME_refused_sidecar_down;
	}
	if (!covered && !match.mesh)
		json_array_append_new(steps, json_string("no program of Shunt is attached at or "
							 "above this cgroup"));
	result = json_pack("{s:o, s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "cgroup",
			   verbs_text_or_null(path), "role", verbs_roles[match.entry.role], "mesh",
			   verbs_text_or_null(match.mesh ? match.mesh->name : NULL), "protocol",
			   query.protocol == IPPROTO_TCP ? "tcp" : "udp", "destination",
			   json_string_value(json_object_get(request, "destination")), "outcome",
			   explain_outcome_name(answer.outcome), "reason",
			   explain_outcome_text(answer.outcome), "redirected_to",
			   verbs_text_or_null(answer.outcome == SHUNT_OUTCOME_redirected
						      ? addr_format_endpoint(&answer.target, text)
						      : NULL),
			   "rule", verbs_text_or_null(answer.rule), "steps", steps);
	explain_answer_deinit(&answer);
	return verbs_done(result, ret_result);
}

static int verbs_join(const struct config_problems *problems, char **ret)
{
	size_t size;
	FILE *stream = open_memstream(ret, &size);

	if (!stream)
		return -ENOMEM;
	for (size_t i = 0; i < problems->n; i++)
		if (problems->items[i].severity == CONFIG_ERROR)
			fprintf(stream, "%s%s", ftell(stream) ? "\n" : "", problems->items[i].text);
	return fclose(stream) ? -errno : 0;
}

static int verbs_reload(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct config_problems problems = {};
	json_t *warnings = json_array();
	struct agent *agent = user;
	int r;

	r = agent_reload(agent, &problems);
	for (size_t i = 0; i < problems.n; i++)
		if (problems.items[i].severity == CONFIG_WARNING)
			json_array_append_new(warnings, verbs_text(problems.items[i].text));
	if (r && problems.n_errors)
		verbs_join(&problems, ret_error);
	else if (r)
		verbs_fail(ret_error, r, "not reloaded: %s; the agent's log says more",
			   strerror(-r));
	config_problems_deinit(&problems);
	if (r) {
		json_decref(warnings);
		return r;
	}
	return verbs_done(json_pack("{s:I, s:o}", "meshes", (json_int_t)agent->config->n_meshes,
				    "warnings", warnings),
			  ret_result);
}

/* Who asked has its answer when the connection ends, which is when everything is out. */
static int verbs_detach(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	agent_detach(user);
	*ret_result = NULL;
	return 0;
}

const struct control_verb *verbs_table(void)
{
	static const struct control_verb table[] = {
		{"status", .run = verbs_status},
		{"counters", .run = verbs_read_counters},
		{"meshes", .run = verbs_meshes},
		{"cgroups", .run = verbs_cgroups},
		{"classify", .run = verbs_classify},
		{"explain", .run = verbs_explain},
		{"flows", .write = flows_answer},
		{"events", .stream = watch_answer},
		{"reload", .run = verbs_reload},
		{"detach", .run = verbs_detach},
		{.name = NULL},
	};

	return table;
}
