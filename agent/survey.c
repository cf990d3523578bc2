/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All connections, looked at again and again while somebody asks.
 * Reads from: the kernel half's iterator (bpf/flows.bpf.c).
 * Writes to: JSON texts.
 */
#include "survey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "log.h"
#include "process.h"
#include "records.h"
#include "sums.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "verbs.h"

#define SURVEY_SLICE_MS 3  /* of a turn of the loop */
#define SURVEY_STEP	32 /* connections between two looks at the clock */
#define SURVEY_COMM	16

struct survey {
	struct agent *agent;
	uv_timer_t timer; /* the next one */
	uv_idle_t slices; /* one is under way: its next part in the next turn */
	int open;	  /* handles */
	uint64_t asked;	  /* when somebody did last, in ms of the loop */
	uint64_t begun;	  /* when the last survey began */
	unsigned int taken;
	bool has_before;
	struct sums before;
	struct sums now; /* while one is under way */
	struct records records;
	char *texts[SURVEY_TEXTS];
};

static const char survey_none[] = "{\"taken\": 0}";

CLEANUP_DEFINE(json_t *, json_decref)
#define _cleanup_json_ _cleanup_(cleanup_json_decref)

/* What is told. */

static double survey_seconds(const struct survey *survey)
{
	return survey->has_before ? (survey->now.began - survey->before.began) / 1e9 : 0;
}

static json_t *survey_rate(uint64_t moved, double seconds)
{
	return seconds > 0 ? json_real(moved / seconds) : json_null();
}

static json_t *survey_count(const struct sums_count *count, double seconds)
{
	return json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I}", "flows", (json_int_t)count->flows,
			 "flows_spliced", (json_int_t)count->flows_spliced, "spliced_per_s",
			 survey_rate(count->moved_spliced, seconds), "tcp_per_s",
			 survey_rate(count->moved_tcp, seconds), "bytes_spliced",
			 (json_int_t)count->bytes_spliced, "bytes_tcp",
			 (json_int_t)count->bytes_tcp, "spills", (json_int_t)count->spills);
}

static json_t *survey_name(const char *name)
{
	return name ? verbs_text(name) : json_null();
}

static json_t *survey_flow(const struct survey *survey, struct flow_names *names,
			   const struct sums_flow *busy)
{
	double seconds = busy->known ? survey_seconds(survey) : 0;
	struct writer writer = {};
	struct flow flow = {};
	const char *text;
	json_t *json;

	flow_resolve(names, &busy->record, &flow);
	for (int end = 0; end < SHUNT_ENDS; end++)
		flow.pids[end] = busy->record.pair.end[end].pid;
	writer_object(&writer, NULL);
	flow_write(names, &flow, &writer);
	writer_object_end(&writer);
	text = writer_text(&writer);
	json = text ? json_loads(text, 0, NULL) : NULL;
	writer_deinit(&writer);
	json_object_set_new(json, "spliced_per_s", survey_rate(busy->count.moved_spliced, seconds));
	json_object_set_new(json, "tcp_per_s", survey_rate(busy->count.moved_tcp, seconds));
	return json;
}

static json_t *survey_tell_flows(const struct survey *survey, struct flow_names *names)
{
	json_t *flows = json_array(), *meshes = json_array();
	const struct sums *sums = &survey->now;
	double seconds = survey_seconds(survey);

	for (size_t i = 0; i < sums->n_flows; i++)
		json_array_append_new(flows, survey_flow(survey, names, &sums->flows[i]));
	for (size_t i = 0; i < sums->n_meshes; i++) {
		json_t *mesh = survey_count(&sums->meshes[i].count, seconds);

		json_object_set_new(mesh, "mesh", survey_name(sums->meshes[i].name));
		json_array_append_new(meshes, mesh);
	}
	return json_pack("{s:I, s:f, s:o, s:o, s:o, s:I}", "taken", (json_int_t)survey->taken,
			 "seconds", seconds, "all", survey_count(&sums->all, seconds), "meshes",
			 meshes, "flows", flows, "left_out",
			 (json_int_t)(sums->all.flows - sums->n_flows));
}

static json_t *survey_edge(const struct survey *survey, const struct flow_names *names,
			   const struct sums_edge *edge)
{
	json_t *json = survey_count(&edge->count, survey_seconds(survey));
	const struct cgroup_node *client = flow_find_cgroup(names, edge->client);
	const struct cgroup_node *server = flow_find_cgroup(names, edge->server);
	char text[ADDR_STRLEN], comm[SURVEY_COMM];
	const char *program = NULL;

	if (!client && edge->pid && !process_comm(edge->pid, comm, sizeof(comm)))
		program = comm;
	json_object_set_new(json, "cgroup", survey_name(client ? client->path : NULL));
	json_object_set_new(json, "program", survey_name(program));
	json_object_set_new(json, "server_cgroup", survey_name(server ? server->path : NULL));
	json_object_set_new(json, "mesh", survey_name(survey->now.meshes[edge->mesh].name));
	json_object_set_new(json, "redirected", json_boolean(edge->redirected));
	json_object_set_new(json, "destination",
			    edge->dialled.port
				    ? json_string(addr_format_endpoint(&edge->dialled, text))
				    : json_null());
	return json;
}

static json_t *survey_tell_graph(const struct survey *survey, const struct flow_names *names)
{
	const struct sums *sums = &survey->now;
	size_t n = sums->n_edges < SURVEY_EDGES ? sums->n_edges : SURVEY_EDGES;
	json_t *edges = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(edges, survey_edge(survey, names, &sums->edges[i]));
	return json_pack("{s:I, s:f, s:o, s:I, s:I}", "taken", (json_int_t)survey->taken, "seconds",
			 survey_seconds(survey), "edges", edges, "left_out",
			 (json_int_t)(sums->n_edges - n), "flows_without_edge",
			 (json_int_t)sums->flows_without_edge);
}

static int survey_tell(struct survey *survey)
{
	_cleanup_json_ json_t *flows = NULL, *graph = NULL;
	char *texts[SURVEY_TEXTS] = {};
	struct flow_names names;
	int r;

	r = flow_names_init(&names, survey->agent);
	if (!r) {
		flows = survey_tell_flows(survey, &names);
		graph = survey_tell_graph(survey, &names);
	}
	flow_names_deinit(&names);
	texts[SURVEY_FLOWS] = flows ? json_dumps(flows, JSON_COMPACT) : NULL;
	texts[SURVEY_GRAPH] = graph ? json_dumps(graph, JSON_COMPACT) : NULL;
	r = texts[SURVEY_FLOWS] && texts[SURVEY_GRAPH] ? 0 : -ENOMEM;
	for (int i = 0; i < SURVEY_TEXTS; i++) {
		if (!r) {
			free(survey->texts[i]);
			survey->texts[i] = TAKE_PTR(texts[i]);
		}
		free(texts[i]);
	}
	return r;
}

/* How it goes on. */

static void survey_end(struct survey *survey)
{
	uv_idle_stop(&survey->slices);
	if (survey->records.fd >= 0)
		close(survey->records.fd);
	survey->records.fd = -1;
	sums_deinit(&survey->now);
}

static void survey_forget(struct survey *survey)
{
	sums_deinit(&survey->before);
	survey->has_before = false;
	for (int i = 0; i < SURVEY_TEXTS; i++)
		free(TAKE_PTR(survey->texts[i]));
}

static void survey_on_timer(uv_timer_t *timer);

static void survey_finish(struct survey *survey)
{
	int r;

	sums_finish(&survey->now);
	survey->taken++;
	r = survey_tell(survey);
	if (r) {
		log_errno(r, "the connections cannot be told on the status page");
		survey_end(survey);
		return;
	}
	sums_deinit(&survey->before);
	survey->before = survey->now;
	survey->has_before = true;
	survey->now = (struct sums){};
	survey_end(survey);
}

/* *@ret_done: that was the last connection. */
static int survey_read_slice(struct survey *survey, bool *ret_done)
{
	const struct sums *before = survey->has_before ? &survey->before : NULL;
	uint64_t end = uv_hrtime() + SURVEY_SLICE_MS * 1000000ull;
	struct flow_names names;
	int r = flow_names_init(&names, survey->agent);

	*ret_done = false;
	while (!r && !*ret_done && uv_hrtime() < end) {
		for (int i = 0; i < SURVEY_STEP && !r && !*ret_done; i++) {
			const struct shunt_flow *record =
				records_next(&survey->records, sizeof(*record), &r);
			struct flow flow;

			*ret_done = !record;
			if (!record)
				break;
			flow_resolve(&names, record, &flow);
			r = sums_add(&survey->now, before, record, flow.mesh);
		}
	}
	flow_names_deinit(&names);
	return r;
}

static void survey_on_slice(uv_idle_t *slices)
{
	struct survey *survey = container_of(slices, struct survey, slices);
	bool done;
	int r = survey_read_slice(survey, &done);

	if (r) {
		log_errno(r, "the connections cannot be looked at for the status page");
		survey_end(survey);
	} else if (done) {
		survey_finish(survey);
	}
}

static void survey_begin(struct survey *survey)
{
	int r = sums_init(&survey->now, uv_hrtime());

	survey->begun = uv_now(survey->timer.loop);
	survey->records.begin = survey->records.end = 0;
	if (!r) {
		survey->records.fd = loader_open_flows(survey->agent->loader);
		r = survey->records.fd < 0 ? survey->records.fd : 0;
	}
	r = r ?: uv_idle_start(&survey->slices, survey_on_slice);
	if (r) {
		log_errno(r, "the connections cannot be looked at for the status page");
		survey_end(survey);
	}
}

static void survey_on_timer(uv_timer_t *timer)
{
	struct survey *survey = container_of(timer, struct survey, timer);
	uint64_t now = uv_now(timer->loop);

	if (now - survey->asked > SURVEY_PATIENCE_MS) {
		survey_end(survey);
		survey_forget(survey);
		return;
	}
	if (!uv_is_active((uv_handle_t *)&survey->slices))
		survey_begin(survey);
	uv_timer_start(timer, survey_on_timer, SURVEY_EVERY_MS, 0);
}

const char *survey_text(struct survey *survey, enum survey_text which, size_t *ret_len)
{
	const char *text = survey->texts[which];

	survey->asked = uv_now(survey->timer.loop);
	if (!uv_is_active((uv_handle_t *)&survey->timer))
		uv_timer_start(&survey->timer, survey_on_timer, 0, 0);
	text = text ? text : survey_none;
	*ret_len = strlen(text);
	return text;
}

int survey_new(struct agent *agent, struct survey **ret)
{
	struct survey *survey = malloc(sizeof(*survey));

	if (!survey)
		return -ENOMEM;
	memset(survey, 0, offsetof(struct survey, records));
	memset(survey->texts, 0, sizeof(survey->texts));
	survey->agent = agent;
	survey->records.fd = -1;
	survey->open = 2;
	uv_timer_init(&agent->loop, &survey->timer);
	uv_idle_init(&agent->loop, &survey->slices);
	*ret = survey;
	return 0;
}

static void survey_unref(struct survey *survey)
{
	if (!--survey->open)
		free(survey);
}

static void survey_on_timer_closed(uv_handle_t *handle)
{
	survey_unref(container_of((uv_timer_t *)handle, struct survey, timer));
}

static void survey_on_slices_closed(uv_handle_t *handle)
{
	survey_unref(container_of((uv_idle_t *)handle, struct survey, slices));
}

void survey_close(struct survey *survey)
{
	if (!survey)
		return;
	survey_end(survey);
	survey_forget(survey);
	uv_close((uv_handle_t *)&survey->timer, survey_on_timer_closed);
	uv_close((uv_handle_t *)&survey->slices, survey_on_slices_closed);
}
