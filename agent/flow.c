/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One connection that the kernel half keeps in mind.
 * Reads from: a record of the kernel half (bpf/flows.bpf.c), enrol, policy, /proc.
 * Writes to: JSON.
 */
#include "flow.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "process.h"
#include "util/addr.h"
#include "verbs.h"

#define FLOW_COMM_SIZE 16

static const char *const flow_states[SHUNT_STATE_MAX] = {
	[SHUNT_STATE_PLAIN] = "plain",	   [SHUNT_STATE_READY] = "ready",
	[SHUNT_STATE_SPLICED] = "spliced", [SHUNT_STATE_SPILLED] = "spilled",
	[SHUNT_STATE_LEFT] = "left",
};

static const struct {
	const char *name;
	const char *text;
} flow_reasons[SHUNT_REASON_MAX] = {
#define X(name, text) {#name, text},
	SHUNT_REASONS(X)
#undef X
};

struct flow_cgroup {
	uint64_t id;
	const struct cgroup_node *node;
};

struct flow_comm {
	uint32_t pid;
	char comm[FLOW_COMM_SIZE];
};

static int flow_compare_cgroups(const void *a, const void *b)
{
	const struct flow_cgroup *one = a, *other = b;

	return (one->id > other->id) - (one->id < other->id);
}

static void flow_note_cgroup(void *user, struct cgroup_node *node)
{
	struct flow_names *names = user;

	names->cgroups[names->n_cgroups++] = (struct flow_cgroup){node->id, node};
}

static void flow_count_cgroup(void *user, struct cgroup_node *node)
{
	struct flow_names *names = user;

	(void)node;
	names->n_cgroups++;
}

int flow_names_init(struct flow_names *names, const struct agent *agent)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	*names = (struct flow_names){
		.agent = agent,
		.now = now.tv_sec * 1000000000ull + now.tv_nsec,
	};
	enrol_each(agent->enrol, flow_count_cgroup, names);
	names->cgroups = calloc(names->n_cgroups + 1, sizeof(*names->cgroups));
	if (!names->cgroups)
		return -ENOMEM;
	names->n_cgroups = 0;
	enrol_each(agent->enrol, flow_note_cgroup, names);
	qsort(names->cgroups, names->n_cgroups, sizeof(*names->cgroups), flow_compare_cgroups);
	return 0;
}

void flow_names_deinit(struct flow_names *names)
{
	free(names->cgroups);
	free(names->programs);
}

static const struct cgroup_node *flow_find_cgroup(const struct flow_names *names, uint64_t id)
{
	const struct flow_cgroup key = {.id = id}, *found;

	found = bsearch(&key, names->cgroups, names->n_cgroups, sizeof(key), flow_compare_cgroups);
	return found ? found->node : NULL;
}

/* "" if the process is gone, or there is no memory to note its name. */
static const char *flow_find_comm(struct flow_names *names, uint32_t pid)
{
	size_t first = 0, n = names->n_programs;
	struct flow_comm *programs;

	while (n) {
		size_t half = n / 2;

		if (names->programs[first + half].pid < pid) {
			first += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	if (first < names->n_programs && names->programs[first].pid == pid)
		return names->programs[first].comm;
	programs = reallocarray(names->programs, names->n_programs + 1, sizeof(*programs));
	if (!programs)
		return "";
	names->programs = programs;
	memmove(&programs[first + 1], &programs[first],
		(names->n_programs++ - first) * sizeof(*programs));
	programs[first].pid = pid;
	if (process_comm(pid, programs[first].comm, sizeof(programs[first].comm)))
		programs[first].comm[0] = '\0';
	return programs[first].comm;
}

/* The mesh that redirected it. A reload gives the slots of meshes other numbers: then, and where
 * nothing was redirected, that of whichever end is enrolled. */
static const char *flow_find_mesh(const struct flow_names *names, const struct flow *flow)
{
	const struct shunt_pair *pair = &flow->record->pair;
	const struct policy *policy = names->agent->policy;
	uint32_t i = pair->mesh - policy->first_slot;

	if (pair->flags & SHUNT_PAIR_REDIRECTED && i < policy->config->n_meshes)
		return policy->config->meshes[i].name;
	for (int end = 0; end < SHUNT_ENDS; end++) {
		const struct cgroup_node *node = flow->cgroups[end];
		const struct enrol_member *member = node ? enrol_member(node) : NULL;

		if (member && member->match.mesh)
			return member->match.mesh->name;
	}
	return NULL;
}

void flow_resolve(const struct flow_names *names, const struct shunt_flow *record, struct flow *ret)
{
	ret->record = record;
	for (int end = 0; end < SHUNT_ENDS; end++)
		ret->cgroups[end] = flow_find_cgroup(names, record->pair.end[end].cgroup);
	ret->mesh = flow_find_mesh(names, ret);
}

int flow_parse_state(const char *name)
{
	for (int i = 0; i < SHUNT_STATE_MAX; i++)
		if (!strcmp(name, flow_states[i]))
			return i;
	return -EINVAL;
}

static json_t *flow_text_or_null(const char *text)
{
	return text && *text ? verbs_text(text) : json_null();
}

static json_t *flow_number_or_null(uint64_t number)
{
	return number ? json_integer(number) : json_null();
}

static json_t *flow_endpoint(const struct shunt_endpoint *endpoint)
{
	char text[ADDR_STRLEN];

	return endpoint->port ? json_string(addr_format_endpoint(endpoint, text)) : json_null();
}

uint64_t flow_tcp_bytes(const struct shunt_flow *record, enum shunt_end_index writer)
{
	const struct shunt_flow_tcp *from = &record->tcp[writer], *to = &record->tcp[!writer];
	uint64_t bytes, beside; /* sequence numbers that are no bytes */

	if (to->state) {
		bytes = to->bytes_received;
		beside = to->fin_received;
	} else if (from->state) {
		bytes = from->bytes_acked;
		beside = (writer == SHUNT_CLIENT) + (from->state == TCP_FIN_WAIT2);
	} else {
		return record->pair.end[writer].plain_bytes;
	}
	/* The socket was not locked: the FIN may have come between the two. */
	return bytes > beside ? bytes - beside : 0;
}

static json_t *flow_direction(const struct shunt_flow *record, enum shunt_end_index writer)
{
	const struct shunt_end *end = &record->pair.end[writer];
	/* Read while others write: what cannot be is not told. */
	const char *state = end->state < SHUNT_STATE_MAX ? flow_states[end->state] : "plain";

	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "state", state,
			 "bytes_spliced", (json_int_t)end->spliced_bytes, "messages_spliced",
			 (json_int_t)end->spliced_messages, "bytes_tcp",
			 (json_int_t)flow_tcp_bytes(record, writer), "messages_tcp",
			 (json_int_t)end->plain_messages, "cut_overs", (json_int_t)end->cut_overs,
			 "leaves", (json_int_t)end->leaves, "spills", (json_int_t)end->spills,
			 "rejoins", (json_int_t)end->rejoins, "kicks", (json_int_t)end->kicks);
}

static json_t *flow_program(struct flow_names *names, const struct flow *flow,
			    enum shunt_end_index end)
{
	const struct cgroup_node *cgroup = flow->cgroups[end];
	uint32_t pid = flow->pids[end];

	return json_pack("{s:o, s:o, s:o}", "pid", flow_number_or_null(pid), "comm",
			 flow_text_or_null(pid ? flow_find_comm(names, pid) : NULL), "cgroup",
			 flow_text_or_null(cgroup ? cgroup->path : NULL));
}

/* Its two sequence numbers: no other open connection has them. */
static json_t *flow_id(const struct shunt_pair_key *key)
{
	return json_sprintf("%08x%08x", key->client, key->server);
}

json_t *flow_describe(struct flow_names *names, const struct flow *flow)
{
	const struct shunt_flow *record = flow->record;
	const struct shunt_pair *pair = &record->pair;
	const struct shunt_end *ends = pair->end;
	const struct shunt_flow_tcp *tcp = record->tcp;
	uint64_t began = pair->opened_at ?: pair->established_at;
	uint32_t reason = pair->reason < SHUNT_REASON_MAX ? pair->reason : SHUNT_REASON_none;
	bool spliced = ends[SHUNT_CLIENT].state == SHUNT_STATE_SPLICED ||
		       ends[SHUNT_SERVER].state == SHUNT_STATE_SPLICED;
	json_t *client = flow_program(names, flow, SHUNT_CLIENT), *connect_us = json_null();

	json_object_set_new(client, "address", flow_endpoint(&pair->source));
	if (pair->opened_at && pair->established_at)
		connect_us = json_integer((pair->established_at - pair->opened_at) / 1000);
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:b, s:s, s:s, s:{s:o, s:o}, s:o}", "id",
		flow_id(&record->key), "mesh", flow_text_or_null(flow->mesh), "client", client,
		"server", flow_program(names, flow, SHUNT_SERVER), "dialled",
		flow_endpoint(&pair->dialled), "redirected_to",
		pair->flags & SHUNT_PAIR_REDIRECTED ? flow_endpoint(&pair->actual) : json_null(),
		"age_s", (json_int_t)(names->now > began ? (names->now - began) / 1000000000 : 0),
		"connect_us", connect_us, "spliced", spliced, "reason", flow_reasons[reason].name,
		"reason_text", flow_reasons[reason].text, "directions", "client_to_server",
		flow_direction(record, SHUNT_CLIENT), "server_to_client",
		flow_direction(record, SHUNT_SERVER), "rtt_us",
		flow_number_or_null(tcp[SHUNT_CLIENT].rtt_us ?: tcp[SHUNT_SERVER].rtt_us));
}
