/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One connection that the kernel half keeps in mind, or tells of.
 * Reads from: a record of the kernel half (bpf/flows.bpf.c, watch.bpf.h), enrol, policy, /proc.
 * Writes to: JSON.
 */
#include "flow.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "process.h"
#include "util/addr.h"

#define FLOW_COMM_SIZE 16
#define FLOW_SECOND    1000000000ull /* in ns */

static const char *const flow_states[SHUNT_STATE_MAX] = {
	[SHUNT_STATE_PLAIN] = "plain",	   [SHUNT_STATE_READY] = "ready",
	[SHUNT_STATE_SPLICED] = "spliced", [SHUNT_STATE_SPILLED] = "spilled",
	[SHUNT_STATE_LEFT] = "left",
};

struct flow_word {
	const char *name;
	const char *text;
};

#define X(name, text) {#name, text},
static const struct flow_word flow_reasons[SHUNT_REASON_MAX] = {SHUNT_REASONS(X)};
static const struct flow_word flow_outcomes[SHUNT_OUTCOME_MAX] = {SHUNT_OUTCOMES(X)};
static const struct flow_word flow_notices[SHUNT_NOTICE_MAX] = {SHUNT_NOTICES(X)};
#undef X

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

static uint64_t flow_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * FLOW_SECOND + now.tv_nsec;
}

int flow_names_init(struct flow_names *names, const struct agent *agent)
{
	uint64_t now = flow_clock(CLOCK_MONOTONIC);

	*names = (struct flow_names){
		.agent = agent,
		.now = now,
		.epoch = flow_clock(CLOCK_REALTIME) - now,
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
	free(names->comms);
}

const struct cgroup_node *flow_find_cgroup(const struct flow_names *names, uint64_t id)
{
	const struct flow_cgroup key = {.id = id}, *found;

	found = bsearch(&key, names->cgroups, names->n_cgroups, sizeof(key), flow_compare_cgroups);
	return found ? found->node : NULL;
}

/* "" if the process is gone, or there is no memory to note its name. */
static const char *flow_find_comm(struct flow_names *names, uint32_t pid)
{
	size_t first = 0, n = names->n_comms;
	struct flow_comm *comms;

	while (n) {
		size_t half = n / 2;

		if (names->comms[first + half].pid < pid) {
			first += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	if (first < names->n_comms && names->comms[first].pid == pid)
		return names->comms[first].comm;
	comms = reallocarray(names->comms, names->n_comms + 1, sizeof(*comms));
	if (!comms)
		return "";
	names->comms = comms;
	memmove(&comms[first + 1], &comms[first], (names->n_comms++ - first) * sizeof(*comms));
	comms[first].pid = pid;
	if (process_comm(pid, comms[first].comm, sizeof(comms[first].comm)))
		comms[first].comm[0] = '\0';
	return comms[first].comm;
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

static const char *const flow_directions[SHUNT_ENDS] = {
	[SHUNT_CLIENT] = "client_to_server",
	[SHUNT_SERVER] = "server_to_client",
};

static void flow_write_text(struct writer *writer, const char *key, const char *text)
{
	writer_string(writer, key, text && *text ? text : NULL);
}

static void flow_write_number(struct writer *writer, const char *key, uint64_t number)
{
	if (number)
		writer_number(writer, key, number);
	else
		writer_null(writer, key);
}

static void flow_write_endpoint(struct writer *writer, const char *key,
				const struct shunt_endpoint *endpoint)
{
	char text[ADDR_STRLEN];

	writer_string(writer, key, endpoint->port ? addr_format_endpoint(endpoint, text) : NULL);
}

static void flow_write_word(struct writer *writer, const char *key, const char *text_key,
			    const struct flow_word *word)
{
	writer_string(writer, key, word ? word->name : NULL);
	if (!writer->brief) /* the name says it */
		writer_string(writer, text_key, word ? word->text : NULL);
}

static void flow_write_direction(struct writer *writer, const struct shunt_flow *record,
				 enum shunt_end_index end_index)
{
	const struct shunt_end *end = &record->pair.end[end_index];

	writer_object(writer, flow_directions[end_index]);
	/* Read while others write: what cannot be is not told. */
	writer_string(writer, "state",
		      end->state < SHUNT_STATE_MAX ? flow_states[end->state] : "plain");
	writer_number(writer, "bytes_spliced", end->spliced_bytes);
	writer_number(writer, "messages_spliced", end->spliced_messages);
	writer_number(writer, "bytes_tcp", flow_tcp_bytes(record, end_index));
	writer_number(writer, "messages_tcp", end->plain_messages);
	writer_number(writer, "cut_overs", end->cut_overs);
	writer_number(writer, "leaves", end->leaves);
	writer_number(writer, "spills", end->spills);
	writer_number(writer, "rejoins", end->rejoins);
	writer_number(writer, "kicks", end->kicks);
	writer_object_end(writer);
}

static void flow_write_program(struct flow_names *names, struct writer *writer,
			       const struct flow *flow, enum shunt_end_index end)
{
	const struct cgroup_node *cgroup = flow->cgroups[end];
	uint32_t pid = flow->pids[end];

	flow_write_number(writer, "pid", pid);
	flow_write_text(writer, "comm", pid ? flow_find_comm(names, pid) : NULL);
	flow_write_text(writer, "cgroup", cgroup ? cgroup->path : NULL);
}

static const struct flow_word *flow_reason(const struct flow *flow)
{
	uint32_t reason = flow->record->pair.reason;

	if (reason >= SHUNT_REASON_MAX)
		reason = SHUNT_REASON_none;
	return flow->never && reason == SHUNT_REASON_none ? NULL : &flow_reasons[reason];
}

/* Its two sequence numbers: no other open connection has them. */
static void flow_write_id(struct writer *writer, const struct shunt_pair_key *key)
{
	char text[17];

	snprintf(text, sizeof(text), "%08x%08x", key->client, key->server);
	writer_string(writer, "id", key->client || key->server ? text : NULL);
}

void flow_write(struct flow_names *names, const struct flow *flow, struct writer *writer)
{
	const struct shunt_flow *record = flow->record;
	const struct shunt_pair *pair = &record->pair;
	const struct shunt_end *ends = pair->end;
	const struct shunt_flow_tcp *tcp = record->tcp;
	uint64_t began = pair->opened_at ?: pair->established_at;

	flow_write_id(writer, &record->key);
	writer_string(writer, "mesh", flow->mesh);
	writer_object(writer, "client");
	flow_write_program(names, writer, flow, SHUNT_CLIENT);
	flow_write_endpoint(writer, "address", &pair->source);
	writer_object_end(writer);
	writer_object(writer, "server");
	flow_write_program(names, writer, flow, SHUNT_SERVER);
	writer_object_end(writer);
	flow_write_endpoint(writer, "dialled", &pair->dialled);
	if (pair->flags & SHUNT_PAIR_REDIRECTED)
		flow_write_endpoint(writer, "redirected_to", &pair->actual);
	else
		writer_null(writer, "redirected_to");
	writer_number(writer, "age_s", names->now > began ? (names->now - began) / FLOW_SECOND : 0);
	if (pair->opened_at && pair->established_at)
		writer_number(writer, "connect_us",
			      (pair->established_at - pair->opened_at) / 1000);
	else
		writer_null(writer, "connect_us");
	writer_bool(writer, "spliced",
		    ends[SHUNT_CLIENT].state == SHUNT_STATE_SPLICED ||
			    ends[SHUNT_SERVER].state == SHUNT_STATE_SPLICED);
	flow_write_word(writer, "reason", "reason_text", flow_reason(flow));
	writer_object(writer, "directions");
	flow_write_direction(writer, record, SHUNT_CLIENT);
	flow_write_direction(writer, record, SHUNT_SERVER);
	writer_object_end(writer);
	flow_write_number(writer, "rtt_us", tcp[SHUNT_CLIENT].rtt_us ?: tcp[SHUNT_SERVER].rtt_us);
}

static const struct flow_word *flow_outcome(const struct shunt_notice *notice)
{
	if (notice->outcome < SHUNT_OUTCOME_MAX)
		return &flow_outcomes[notice->outcome];
	if (notice->flow.pair.flags & SHUNT_PAIR_REDIRECTED)
		return &flow_outcomes[SHUNT_OUTCOME_redirected];
	return NULL;
}

/* In UTC, by the clock as it is set now. */
static void flow_write_time(struct writer *writer, uint64_t ns)
{
	time_t seconds = ns / FLOW_SECOND;
	char text[40];
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(text, sizeof(text), "%FT%T", &tm);
	snprintf(text + n, sizeof(text) - n, ".%06uZ", (unsigned)(ns % FLOW_SECOND / 1000));
	writer_string(writer, "time", text);
}

void flow_write_notice(struct flow_names *names, const struct flow *flow,
		       const struct shunt_notice *notice, struct writer *writer)
{
	flow_write_time(writer, notice->at + names->epoch);
	flow_write_word(writer, "event", "event_text", &flow_notices[notice->kind]);
	writer_number(writer, "lost", notice->lost);
	writer_string(writer, "protocol", notice->protocol == IPPROTO_UDP ? "udp" : "tcp");
	writer_string(writer, "direction",
		      notice->end < SHUNT_ENDS && notice->kind != SHUNT_NOTICE_closed
			      ? flow_directions[notice->end]
			      : NULL);
	flow_write_word(writer, "outcome", "outcome_text", flow_outcome(notice));
	flow_write(names, flow, writer);
}
