/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which connections somebody wants to hear of: for flows and events alike.
 * Reads from: a question; flows.
 * Writes to: nothing.
 */
#include "flow_filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

static int filter_wrong(char **ret_error, const char *what)
{
	*ret_error = strdup(what);
	return -EINVAL;
}

static int filter_parse_state(const json_t *value, int *ret)
{
	const char *name = json_string_value(value);

	*ret = name ? flow_parse_state(name) : -1;
	return value && *ret < 0 ? -EINVAL : 0;
}

static int filter_parse_number(const json_t *value, json_int_t max, json_int_t *ret)
{
	*ret = json_integer_value(value);
	return value && (*ret < 1 || *ret > max) ? -EINVAL : 0;
}

int flow_filter_parse(struct agent *agent, const json_t *request, struct flow_filter *ret,
		      char **ret_error)
{
	const json_t *mesh = json_object_get(request, "mesh");
	const json_t *cgroup = json_object_get(request, "cgroup");
	json_int_t pid, port;

	*ret = (struct flow_filter){.state = -1};
	if (mesh && !json_is_string(mesh))
		return filter_wrong(ret_error, "mesh: the name of a mesh is needed");
	if (cgroup && !verbs_is_cgroup_path(json_string_value(cgroup)))
		return filter_wrong(ret_error, VERBS_NO_CGROUP_PATH);
	if (filter_parse_number(json_object_get(request, "pid"), INT32_MAX, &pid))
		return filter_wrong(ret_error, "pid: a process number is needed");
	if (filter_parse_number(json_object_get(request, "port"), UINT16_MAX, &port))
		return filter_wrong(ret_error, "port: a number from 1 to 65535 is needed");
	if (filter_parse_state(json_object_get(request, "state"), &ret->state))
		return filter_wrong(ret_error,
				    "state: there are plain, ready, spliced, spilled and left");
	ret->pid = pid;
	ret->port = htons(port);
	if (mesh && !(ret->mesh = strdup(json_string_value(mesh))))
		return -ENOMEM;
	if (cgroup && !(ret->cgroup = verbs_cgroup_path(agent, json_string_value(cgroup))))
		return -ENOMEM;
	return 0;
}

static bool filter_is_below(const struct cgroup_node *node, const char *path)
{
	size_t len = strlen(path);

	if (!node || strncmp(node->path, path, len) != 0)
		return false;
	return !node->path[len] || node->path[len] == '/' || !strcmp(path, "/");
}

void flow_filter_deinit(struct flow_filter *filter)
{
	free(filter->mesh);
	free(filter->cgroup);
}

bool flow_filter_wants(const struct flow_filter *filter, const struct flow *flow)
{
	const struct shunt_pair *pair = &flow->record->pair;

	if (filter->mesh && (!flow->mesh || strcmp(flow->mesh, filter->mesh) != 0))
		return false;
	if (filter->cgroup && !filter_is_below(flow->cgroups[SHUNT_CLIENT], filter->cgroup) &&
	    !filter_is_below(flow->cgroups[SHUNT_SERVER], filter->cgroup))
		return false;
	if (filter->pid && flow->pids[SHUNT_CLIENT] != filter->pid &&
	    flow->pids[SHUNT_SERVER] != filter->pid)
		return false;
	if (filter->port && pair->dialled.port != filter->port &&
	    pair->actual.port != filter->port && pair->source.port != filter->port)
		return false;
	return filter->state < 0 || (int)pair->end[SHUNT_CLIENT].state == filter->state ||
	       (int)pair->end[SHUNT_SERVER].state == filter->state;
}
