/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is enrolled, and in which mesh, as JSON.
 * Reads from: enrol, policy, the configuration.
 * Writes to: JSON results.
 */
#include "verbs.h"

#include <errno.h>
#include <string.h>

#include "agent.h"
#include "explain.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "util/path.h"
#include "verbs_answer.h"

const char *const verbs_roles[] = {
	[SHUNT_ROLE_NONE] = "none",
	[SHUNT_ROLE_MEMBER] = "member",
	[SHUNT_ROLE_SIDECAR] = "sidecar",
};

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

int verbs_meshes(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct agent *agent = user;
	json_t *array;

	if (verbs_need_enrol(user, ret_error))
		return -ENOTCONN;
	array = json_array();
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

int verbs_cgroups(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct verbs_list list = {.agent = user};

	if (verbs_need_enrol(user, ret_error))
		return -ENOTCONN;
	list.array = json_array();
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

int verbs_classify(void *user, const json_t *request, json_t **ret_result, char **ret_error)
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
	if (agent->rung == AGENT_RUNG_NFTABLES)
		nft_look_soon(agent->nft);
	if (node)
		return verbs_done(verbs_cgroup(agent, node), ret_result);
	return verbs_done(json_pack("{s:o, s:I, s:s, s:n, s:n}", "path", verbs_text(path), "id",
				    (json_int_t)0, "role", "none", "mesh", "rule"),
			  ret_result);
}
