/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What Prometheus is told. Every label has a bound: meshes, outcomes, reasons, maps, checks; never
 * an address, a process or a cgroup.
 * Reads from: every module, the counters of the kernel half.
 * Writes to: text, by way of metrics_text.
 */
#include "metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "agent.h"
#include "metrics_process.h"
#include "metrics_text.h"
#include "shunt/version.h"
#include "stats.h"
#include "util/cleanup.h"
#include "verbs.h"

static const char *const metrics_outcomes[] = {
#define X(name, text) #name,
	SHUNT_OUTCOMES(X)
#undef X
};

static const char *const metrics_reasons[] = {
#define X(name, text) #name,
	SHUNT_REASONS(X)
#undef X
};

/* A row of shunt_stats. */
struct metrics_row {
	char mesh[sizeof(((struct shunt_row *)NULL)->mesh)];
	bool configured; /* its mesh is in force: what has not happened yet is told too, as 0 */
	struct shunt_stats stats;
};

struct metrics_rows {
	const struct agent *agent;
	struct metrics_row *items;
	size_t n;
};

static void metrics_one(struct metrics_text *text, const char *name, const char *help,
			uint64_t value)
{
	metrics_family(text, METRICS_GAUGE, name, help);
	metrics_sample(text, NULL, value);
}

/* One of @states is; the gauge has a 1 for it and a 0 for the others. */
static void metrics_states(struct metrics_text *text, const char *name, const char *label,
			   const char *const *states, const char *state, const char *help)
{
	metrics_family(text, METRICS_GAUGE, name, help);
	for (; *states; states++) {
		const struct metrics_label labels[] = {{label, *states}, {}};

		metrics_sample(text, labels, !strcmp(*states, state));
	}
}

static void metrics_add_build(struct metrics_text *text)
{
	char abi[16];
	struct utsname host = {};
	const struct metrics_label labels[] = {
		{"version", SHUNT_VERSION},
		{"abi", abi},
		{"kernel", host.release},
		{},
	};

	uname(&host);
	snprintf(abi, sizeof(abi), "%d", SHUNT_ABI_VERSION);
	metrics_family(text, METRICS_GAUGE, "shunt_build_info",
		       "Which agent this is, and on which kernel; always 1.");
	metrics_sample(text, labels, 1);
}

static void metrics_add_selftest(struct metrics_text *text, const struct selftest *selftest)
{
	metrics_family(text, METRICS_GAUGE, "shunt_selftest_passed",
		       "Checks of the kernel, as far as they were made: whether it passed.");
	for (int i = 0; i < SELFTEST_MAX; i++) {
		const struct metrics_label labels[] = {
			{"check", selftest_name(i)},
			{"needed", selftest_needed(i) ? "yes" : "no"},
			{},
		};

		if (selftest->outcome[i] != SELFTEST_UNTRIED)
			metrics_sample(text, labels, selftest->outcome[i] == SELFTEST_PASSED);
	}
}

static void metrics_add_agent(struct metrics_text *text, const struct agent *agent)
{
	static const char *const rungs[] = {"redirect", "nftables", "off", NULL};
	static const char *const splices[] = {"on", "off", "kernel", NULL};
	const char *const *warnings =
		agent->rung != AGENT_RUNG_OFF ? enrol_warnings(agent->enrol) : NULL;
	uint64_t n = 0;

	while (warnings && warnings[n])
		n++;
	metrics_add_build(text);
	metrics_states(text, "shunt_rung", "rung", rungs, verbs_rung(agent),
		       "The rung of the ladder that is in force.");
	metrics_states(text, "shunt_splicing", "state", splices, verbs_splice(agent),
		       "Whether anything is spliced: on, off (not wanted) or kernel (cannot).");
	metrics_add_selftest(text, &agent->selftest);
	metrics_one(text, "shunt_warnings", "Warnings of `shuntctl status` that hold now.", n);
	metrics_one(text, "shunt_config_last_reload_successful",
		    "Whether the last reload, or the start, put the configuration in force.",
		    !agent->reload_failed && agent->configured);
	metrics_one(text, "shunt_config_last_reload_success_timestamp_seconds",
		    "When the configuration in force was applied, Unix time; 0: none is.",
		    agent->configured);
}

struct metrics_cgroups {
	const struct config *config;
	uint64_t *counts; /* of members and sidecars, for each mesh of the configuration */
};

static void metrics_count_cgroup(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	struct metrics_cgroups *cgroups = user;
	size_t i;

	if (!member || !member->match.mesh)
		return;
	i = 2 * (member->match.mesh - cgroups->config->meshes);
	cgroups->counts[i + (member->match.entry.role == SHUNT_ROLE_SIDECAR)]++;
}

static int metrics_add_cgroups(struct metrics_text *text, const struct agent *agent)
{
	_cleanup_free_ uint64_t *counts = calloc(2 * agent->config->n_meshes, sizeof(*counts));
	struct metrics_cgroups cgroups = {agent->config, counts};

	if (!counts)
		return -ENOMEM;
	enrol_each(agent->enrol, metrics_count_cgroup, &cgroups);
	metrics_family(text, METRICS_GAUGE, "shunt_cgroups", "Cgroups that are enrolled.");
	for (size_t i = 0; i < agent->config->n_meshes; i++) {
		const char *mesh = agent->config->meshes[i].name;
		const struct metrics_label members[] = {{"mesh", mesh}, {"role", "member"}, {}};
		const struct metrics_label sidecars[] = {{"mesh", mesh}, {"role", "sidecar"}, {}};

		metrics_sample(text, members, counts[2 * i]);
		metrics_sample(text, sidecars, counts[2 * i + 1]);
	}
	return 0;
}

static void metrics_add_maps(struct metrics_text *text, const struct agent *agent,
			     const uint64_t *counters)
{
	struct verbs_map_fill fills[VERBS_MAPS];

	verbs_map_fills(agent, counters, fills);
	metrics_family(text, METRICS_GAUGE, "shunt_map_entries", "Entries in a map.");
	for (size_t i = 0; i < VERBS_MAPS; i++) {
		const struct metrics_label labels[] = {{"map", fills[i].name}, {}};

		metrics_sample(text, labels, fills[i].used);
	}
	metrics_family(text, METRICS_GAUGE, "shunt_map_max_entries", "Room for entries in a map.");
	for (size_t i = 0; i < VERBS_MAPS; i++) {
		const struct metrics_label labels[] = {{"map", fills[i].name}, {}};

		metrics_sample(text, labels, fills[i].max);
	}
}

/* One value of each row, by mesh; @offset: in struct shunt_stats. */
static void metrics_add_values(struct metrics_text *text, const struct metrics_rows *rows,
			       const char *name, const char *help, size_t offset)
{
	metrics_family(text, METRICS_COUNTER, name, help);
	for (size_t i = 0; i < rows->n; i++) {
		const struct metrics_label labels[] = {{"mesh", rows->items[i].mesh}, {}};
		const char *stats = (const char *)&rows->items[i].stats;

		metrics_sample(text, labels, *(const uint64_t *)(stats + offset));
	}
}

/* An array of each row, by mesh and the names of its values; from @first on. */
static void metrics_add_array(struct metrics_text *text, const struct metrics_rows *rows,
			      const char *name, const char *help, size_t offset, const char *label,
			      const char *const *names, size_t first, size_t n)
{
	metrics_family(text, METRICS_COUNTER, name, help);
	for (size_t i = 0; i < rows->n; i++) {
		const struct metrics_row *row = &rows->items[i];
		const uint64_t *values = (const uint64_t *)((const char *)&row->stats + offset);

		for (size_t k = first; k < n; k++) {
			const struct metrics_label labels[] = {
				{"mesh", row->mesh}, {label, names[k]}, {}};

			if (row->configured || values[k])
				metrics_sample(text, labels, values[k]);
		}
	}
}

static uint64_t metrics_messages(const struct shunt_stats *stats)
{
	uint64_t n = 0;

	for (int i = 0; i < SHUNT_SIZE_BUCKETS; i++)
		n += stats->sizes[i];
	return n;
}

static void metrics_add_messages(struct metrics_text *text, const struct metrics_rows *rows)
{
	metrics_family(text, METRICS_COUNTER, "shunt_splice_messages", "Messages spliced.");
	for (size_t i = 0; i < rows->n; i++) {
		const struct metrics_label labels[] = {{"mesh", rows->items[i].mesh}, {}};

		metrics_sample(text, labels, metrics_messages(&rows->items[i].stats));
	}
	metrics_add_values(text, rows, "shunt_splice_bytes", "Bytes spliced.",
			   offsetof(struct shunt_stats, spliced_bytes));
	metrics_add_values(text, rows, "shunt_splice_plain_messages",
			   "Messages that went by TCP between paired ends.",
			   offsetof(struct shunt_stats, plain_messages));
	metrics_add_values(text, rows, "shunt_splice_plain_bytes",
			   "Bytes that went by TCP between paired ends.",
			   offsetof(struct shunt_stats, plain_bytes));
}

static void metrics_add_histograms(struct metrics_text *text, const struct metrics_rows *rows)
{
	metrics_family(text, METRICS_HISTOGRAM, "shunt_connect_latency_seconds",
		       "Time from a redirected connect() to the end of its handshake.");
	for (size_t i = 0; i < rows->n; i++) {
		const struct metrics_label labels[] = {{"mesh", rows->items[i].mesh}, {}};
		const struct metrics_histogram histogram = {
			.counts = (const uint64_t *)rows->items[i].stats.latency,
			.n = SHUNT_LATENCY_BUCKETS,
			.first = 1ull << SHUNT_LATENCY_SHIFT,
			.sum = rows->items[i].stats.latency_ns,
			.seconds = true,
		};

		metrics_sample_histogram(text, labels, &histogram);
	}
	metrics_family(text, METRICS_HISTOGRAM, "shunt_splice_message_size_bytes",
		       "Sizes of the messages spliced.");
	for (size_t i = 0; i < rows->n; i++) {
		const struct metrics_label labels[] = {{"mesh", rows->items[i].mesh}, {}};
		const struct metrics_histogram histogram = {
			.counts = (const uint64_t *)rows->items[i].stats.sizes,
			.n = SHUNT_SIZE_BUCKETS,
			.first = 1ull << SHUNT_SIZE_SHIFT,
			.sum = rows->items[i].stats.spliced_bytes,
		};

		metrics_sample_histogram(text, labels, &histogram);
	}
}

static void metrics_add_rows(struct metrics_text *text, const struct metrics_rows *rows)
{
	metrics_add_array(text, rows, "shunt_connects",
			  "What became of connect() calls; without a mesh where none was asked.",
			  offsetof(struct shunt_stats, connect), "outcome", metrics_outcomes, 0,
			  SHUNT_OUTCOME_MAX);
	metrics_add_array(
		text, rows, "shunt_datagrams",
		"What became of unconnected datagrams; without a mesh where none was asked.",
		offsetof(struct shunt_stats, sendmsg), "outcome", metrics_outcomes, 0,
		SHUNT_OUTCOME_MAX);
	metrics_add_array(text, rows, "shunt_plain_connections",
			  "Connections that were never spliced or ceased to be, and why.",
			  offsetof(struct shunt_stats, plain), "reason", metrics_reasons,
			  SHUNT_REASON_none + 1, SHUNT_REASON_MAX);
	metrics_add_messages(text, rows);
	metrics_add_histograms(text, rows);
}

/* Those that rows do not have. */
static void metrics_add_counters(struct metrics_text *text, const uint64_t *counters)
{
	static const struct {
		enum shunt_counter counter;
		const char *name;
		const char *help;
	} all[] = {
#define X(name, text) {SHUNT_COUNTER_##name, "shunt_" #name, text},
		SHUNT_COUNTERS(X)
#undef X
	};

	metrics_family(text, METRICS_COUNTER, "shunt_closed_connections",
		       "Connections that are over, and why they were not spliced in the end.");
	for (size_t i = 0; i < SHUNT_REASON_MAX; i++) {
		const struct metrics_label labels[] = {{"reason", metrics_reasons[i]}, {}};

		metrics_sample(text, labels, counters[SHUNT_COUNTER_closed_none + i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		switch (all[i].counter) {
		case SHUNT_COUNTER_splice_messages:
		case SHUNT_COUNTER_splice_bytes:
		case SHUNT_COUNTER_splice_plain_messages:
		case SHUNT_COUNTER_splice_plain_bytes:
			continue;
		default:
			metrics_family(text, METRICS_COUNTER, all[i].name, all[i].help);
			metrics_sample(text, NULL, counters[all[i].counter]);
		}
	}
}

static int metrics_add_row(void *user, const char *mesh, const struct shunt_stats *stats)
{
	struct metrics_rows *rows = user;
	const struct config *config = rows->agent->config;
	struct metrics_row *row = &rows->items[rows->n++];

	snprintf(row->mesh, sizeof(row->mesh), "%s", mesh);
	row->configured = !*mesh;
	for (size_t i = 0; i < config->n_meshes; i++)
		row->configured |= !strcmp(config->meshes[i].name, mesh);
	row->stats = *stats;
	return 0;
}

/* What there is only where programs are loaded. */
static int metrics_add_kernel(struct metrics_text *text, const struct agent *agent)
{
	const struct maps *maps = loader_maps(agent->loader);
	_cleanup_free_ struct metrics_row *items = calloc(SHUNT_STATS_ROWS, sizeof(*items));
	struct metrics_rows rows = {.agent = agent, .items = items};
	uint64_t counters[SHUNT_COUNTER_MAX];
	int r = items ? maps_read_counters(maps, counters) : -ENOMEM;

	r = r ?: stats_each(maps, metrics_add_row, &rows);
	if (r)
		return r;
	metrics_one(text, "shunt_pairs", "Connections with both ends here that are kept in mind.",
		    counters[SHUNT_COUNTER_pairs_opened] - counters[SHUNT_COUNTER_pairs_closed]);
	metrics_add_maps(text, agent, counters);
	metrics_add_rows(text, &rows);
	metrics_add_counters(text, counters);
	return 0;
}

int metrics_page(void *user, const struct http_request *request, struct http_answer *ret)
{
	struct metrics_text text = {
		.openmetrics = metrics_wants_openmetrics(http_header(request, "Accept")),
	};
	const struct agent *agent = user;
	_cleanup_free_ char *body = NULL;
	size_t len;
	int r = 0;

	text.stream = open_memstream(&body, &len);
	if (!text.stream)
		return -ENOMEM;
	metrics_add_agent(&text, agent);
	metrics_add_process(&text);
	if (agent->rung == AGENT_RUNG_NFTABLES)
		metrics_one(&text, "shunt_nftables_namespaces",
			    "Network namespaces that have the tables of the rung nftables.",
			    nft_namespaces(agent->nft));
	if (agent->rung != AGENT_RUNG_OFF)
		r = metrics_add_cgroups(&text, agent);
	if (agent->rung == AGENT_RUNG_REDIRECT)
		r = r ?: metrics_add_kernel(&text, agent);
	metrics_end(&text);
	if (fclose(text.stream))
		return -ENOMEM;
	if (r)
		return r;
	ret->type = metrics_content_type(text.openmetrics);
	ret->body = TAKE_PTR(body);
	ret->len = len;
	return 0;
}
