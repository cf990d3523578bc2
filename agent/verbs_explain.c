/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What explain says, and of whom, as JSON.
 * Reads from: a question; enrol, explain, process.
 * Writes to: a JSON result.
 */
#include "verbs.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "explain.h"
#include "process.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "verbs_answer.h"

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

int verbs_explain(void *user, const json_t *request, json_t **ret_result, char **ret_error)
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
	assert(path); /* whoever asks is in a cgroup */
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
	if (agent->rung == AGENT_RUNG_NFTABLES &&
	    answer.outcome == SHUNT_OUTCOME_bypassed_sidecar_down) {
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
