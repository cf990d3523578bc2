/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What would happen to a connect().
 * Reads from: policy, /proc/PID/net/{tcp,udp}{,6} for who listens.
 * Writes to: an answer.
 */
#include "explain.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "../bpf/decide.bpf.h"
#include "util/addr.h"
#include "util/cleanup.h"

#define EXPLAIN_TCP_LISTEN 0x0a /* st of /proc/net/tcp */
#define EXPLAIN_UDP_UNCONN 0x07 /* st of /proc/net/udp */

struct explain_asker {
	const struct policy *policy;
	const struct config_mesh *mesh;
	const struct explain_query *query;
	struct explain_answer *answer;
	bool failed; /* no memory */
};

static const char *const explain_names[] = {
#define X(name, text) #name,
	SHUNT_OUTCOMES(X)
#undef X
};

static const char *const explain_texts[] = {
#define X(name, text) text,
	SHUNT_OUTCOMES(X)
#undef X
};

const char *explain_outcome_name(enum shunt_outcome outcome)
{
	return explain_names[outcome];
}

const char *explain_outcome_text(enum shunt_outcome outcome)
{
	return explain_texts[outcome];
}

__attribute__((format(printf, 2, 3))) static void explain_step(struct explain_asker *asker,
							       const char *format, ...)
{
	struct explain_answer *answer = asker->answer;
	va_list args;
	char *text;
	int r;

	va_start(args, format);
	r = vasprintf(&text, format, args);
	va_end(args);
	if (r < 0)
		asker->failed = true;
	else if (answer->n_steps < EXPLAIN_STEPS_MAX)
		answer->steps[answer->n_steps++] = text;
	else
		free(text);
}

/* The last rule that was named is the one that decides. Line 0 is a default. */
static void explain_rule(struct explain_asker *asker, unsigned int line, const char *key,
			 const char *value)
{
	char *rule = NULL;
	int r = line ? asprintf(&rule, "%s:%u: %s = %s", asker->policy->config->path, line, key,
				value)
		     : asprintf(&rule, "default: %s = %s", key, value);

	if (r < 0) {
		asker->failed = true;
		return;
	}
	free(asker->answer->rule);
	asker->answer->rule = rule;
}

/* As in the maps: an IPv6 prefix never holds an IPv4 address, however short it is. */
static bool explain_cidr_holds(const struct config_cidr *cidr, const __be32 addr[4])
{
	bool cidr_v4 = cidr->prefix >= ADDR_V4_BITS && addr_v4_mapped(cidr->addr);

	if (cidr_v4 != addr_v4_mapped(addr))
		return false;
	for (uint32_t i = 0; i < cidr->prefix; i++)
		if ((bpf_ntohl(cidr->addr[i / 32]) ^ bpf_ntohl(addr[i / 32])) >> (31 - i % 32) & 1)
			return false;
	return true;
}

static __always_inline bool decide_cidr(void *user, __u32 mesh, enum shunt_cidr_kind kind,
					const __be32 addr[4])
{
	struct explain_asker *asker = user;
	bool exclude = kind == SHUNT_CIDR_EXCLUDE;
	const struct config_cidrs *list =
		exclude ? &asker->mesh->exclude_cidrs : &asker->mesh->include_cidrs;
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < list->n; i++) {
		if (!explain_cidr_holds(&list->items[i], addr))
			continue;
		explain_rule(asker, list->items[i].line,
			     exclude ? "exclude_cidrs" : "include_cidrs",
			     addr_format_cidr(list->items[i].addr, list->items[i].prefix, text));
		return true;
	}
	return false;
}

static __always_inline bool decide_owner(void *user, __u32 mesh, enum shunt_owner_kind kind,
					 __u32 id)
{
	struct explain_asker *asker = user;
	const struct {
		const char *key;
		const struct config_ids *list;
	} lists[] = {
		[SHUNT_OWNER_SIDECAR_UID] = {"sidecar_uids", &asker->mesh->sidecar_uids},
		[SHUNT_OWNER_SIDECAR_GID] = {"sidecar_gids", &asker->mesh->sidecar_gids},
		[SHUNT_OWNER_EXCLUDED_UID] = {"exclude_uids", &asker->mesh->exclude_uids},
		[SHUNT_OWNER_EXCLUDED_GID] = {"exclude_gids", &asker->mesh->exclude_gids},
	};
	const struct config_ids *list = lists[kind].list;
	char text[16];

	if (!asker->query->owner_known)
		return false;
	for (size_t i = 0; i < list->n; i++) {
		if (list->items[i].id != id)
			continue;
		snprintf(text, sizeof(text), "%" PRIu32, id);
		explain_rule(asker, list->items[i].line, lists[kind].key, text);
		return true;
	}
	return false;
}

/* One of the kernel's tables, which print an address as words in host order. */
static bool explain_table_has(FILE *table, const struct shunt_endpoint *endpoint,
			      unsigned int wanted_state)
{
	char line[512];

	while (fgets(line, sizeof(line), table)) {
		unsigned int a[4] = {}, port, state;
		__be32 local[4] = {};

		if (sscanf(line, " %*u: %8X:%4X %*8X:%*4X %2X", &a[0], &port, &state) == 3) {
			addr_set_v4(local, a[0]);
		} else if (sscanf(line, " %*u: %8X%8X%8X%8X:%4X %*32[0-9A-F]:%*4X %2X", &a[0],
				  &a[1], &a[2], &a[3], &port, &state) == 6) {
			for (int i = 0; i < 4; i++)
				local[i] = a[i];
		} else {
			continue;
		}
		if (state == wanted_state && port == bpf_ntohs(endpoint->port) &&
		    (addr_equal(local, endpoint->addr) || addr_unspecified(local)))
			return true;
	}
	return false;
}

static __always_inline bool decide_listening(void *user, const struct shunt_endpoint *endpoint,
					     __u32 protocol)
{
	bool v4 = addr_v4_mapped(endpoint->addr), tcp = protocol == IPPROTO_TCP;
	struct explain_asker *asker = user;
	char text[ADDR_STRLEN];
	bool found = false;

	addr_format_endpoint(endpoint, text);
	if (!asker->query->pid) {
		explain_step(asker, "no process in this cgroup: taken that %s listens", text);
		return true;
	}
	/* A dual-stack listener takes IPv4 too. */
	for (int v6 = !v4; !found && v6 < 2; v6++) {
		_cleanup_fclose_ FILE *table = NULL;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/net/%s%s", asker->query->pid,
			 tcp ? "tcp" : "udp", v6 ? "6" : "");
		table = fopen(path, "re");
		found = table && explain_table_has(table, endpoint,
						   tcp ? EXPLAIN_TCP_LISTEN : EXPLAIN_UDP_UNCONN);
	}
	explain_step(asker,
		     found ? "%s listens in the network namespace of pid %d"
			   : "nothing listens on %s in the network namespace of pid %d",
		     text, asker->query->pid);
	return found;
}

static void explain_port(struct explain_asker *asker, const struct config_port_list *list,
			 const char *key)
{
	uint16_t port = bpf_ntohs(asker->query->destination.port);
	char text[16];

	for (size_t i = 0; i < list->n; i++) {
		const struct config_ports *ports = &list->items[i];

		if (port < ports->first || port > ports->last)
			continue;
		snprintf(text, sizeof(text), ports->first == ports->last ? "%u" : "%u-%u",
			 ports->first, ports->last);
		explain_rule(asker, ports->line, key, text);
		return;
	}
}

/* Names the line that decided, where the decision did not pass through a question above. */
static void explain_outcome(struct explain_asker *asker, enum shunt_outcome outcome, bool dns)
{
	const struct config_mesh *mesh = asker->mesh;
	char text[ADDR_STRLEN];

	switch (outcome) {
	case SHUNT_OUTCOME_redirected:
		explain_rule(asker, dns ? mesh->dns_redirect_line : mesh->tcp_redirect_line,
			     dns ? "dns_redirect" : "tcp_redirect",
			     addr_format_endpoint(&asker->answer->target, text));
		break;
	case SHUNT_OUTCOME_excluded_port:
		explain_port(asker, &mesh->exclude_ports, "exclude_ports");
		break;
	case SHUNT_OUTCOME_refused_sidecar_down:
	case SHUNT_OUTCOME_bypassed_sidecar_down:
		explain_rule(asker, mesh->on_sidecar_down_line, "on_sidecar_down",
			     outcome == SHUNT_OUTCOME_refused_sidecar_down ? "refuse" : "bypass");
		break;
	case SHUNT_OUTCOME_excluded_cidr:
	case SHUNT_OUTCOME_excluded_owner:
	case SHUNT_OUTCOME_sidecar:
		break;
	default:
		/* What was matched on the way did not decide. */
		free(asker->answer->rule);
		asker->answer->rule = NULL;
		break;
	}
}

static void explain_member(struct explain_asker *asker, const struct policy_match *match)
{
	const struct explain_query *query = asker->query;
	struct explain_answer *answer = asker->answer;
	struct decide_query question = {
		.destination = query->destination,
		.protocol = query->protocol,
		.uid = query->uid,
		.gid = query->gid,
	};
	const struct shunt_mesh *mesh;

	asker->mesh = match->mesh;
	mesh = table_find(&asker->policy->meshes, &match->entry.mesh);
	if (!query->owner_known && mesh->flags & SHUNT_MESH_OWNERS)
		explain_step(asker, "rules for users and groups not asked: no process was named");
	answer->outcome = decide(asker, match->entry.mesh, mesh, &question, &answer->target);
	explain_outcome(asker, answer->outcome,
			decide_is_dns(&question) &&
				mesh->dns[addr_family(question.destination.addr)].port);
}

int explain_connect(const struct policy *policy, const struct policy_match *match,
		    const struct explain_query *query, struct explain_answer *ret)
{
	struct explain_answer answer = {};
	struct explain_asker asker = {.policy = policy, .query = query, .answer = &answer};
	struct decide_query question = {
		.destination = query->destination,
		.protocol = query->protocol,
	};

	answer.outcome = decide_protocol(&question);
	if (answer.outcome == SHUNT_OUTCOME_MAX) {
		answer.outcome = decide_early(match ? &match->entry : NULL);
		if (match && match->rule)
			explain_rule(&asker, match->rule->line,
				     match->mesh ? policy_rule_key(match->mesh, match->rule)
						 : "cgroups",
				     match->rule->pattern);
	}
	if (answer.outcome == SHUNT_OUTCOME_MAX) {
		assert(match && match->mesh); /* a member is one of a mesh */
		explain_step(&asker, "the cgroup is a member of mesh %s", match->mesh->name);
		explain_member(&asker, match);
	}
	if (asker.failed) {
		explain_answer_deinit(&answer);
		return -ENOMEM;
	}
	*ret = answer;
	return 0;
}

void explain_answer_deinit(struct explain_answer *answer)
{
	for (size_t i = 0; i < answer->n_steps; i++)
		free(answer->steps[i]);
	free(answer->rule);
}

char *explain_match_rule(const struct policy *policy, const struct policy_match *match)
{
	char *rule = NULL;

	if (!match->rule)
		return NULL;
	if (asprintf(&rule, "%s:%u: %s = %s%s", policy->config->path, match->rule->line,
		     match->mesh ? policy_rule_key(match->mesh, match->rule) : "cgroups",
		     match->rule->negated ? "!" : "", match->rule->pattern) < 0)
		return NULL;
	return rule;
}
