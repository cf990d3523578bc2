/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happens to connections, told to whoever asks as it happens.
 * Reads from: the ring buffer shunt_watch.
 * Writes to: streams of the control; shunt_control, that somebody listens.
 */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>

#include "agent.h"
#include "events.h"
#include "flow.h"
#include "flow_filter.h"
#include "log.h"
#include "util/cleanup.h"
#include "verbs.h"

#define WATCH_GATHER_MS 20 /* of each second that is 50 turns of the loop at most */

/* Somebody who listens. */
struct watcher {
	struct watch *watch;
	struct watcher *next;
	struct control_stream *stream;
	struct flow_filter filter;
	uint64_t since; /* it asked then: CLOCK_MONOTONIC, in ns */
};

struct watch {
	struct agent *agent;
	struct events *events;
	volatile struct shunt_control *control;
	struct watcher *watchers;
	bool named; /* .names are those of this turn of the loop */
	struct flow_names names;
};

static void watch_free_watcher(struct watcher *watcher)
{
	flow_filter_deinit(&watcher->filter);
	free(watcher);
}

CLEANUP_DEFINE(struct watcher *, watch_free_watcher)

static void watch_remove(struct watcher *watcher)
{
	struct watch *watch = watcher->watch;
	struct watcher **at = &watch->watchers;

	while (*at != watcher)
		at = &(*at)->next;
	*at = watcher->next;
	watch_free_watcher(watcher);
	if (!watch->watchers)
		watch->control->watch = 0;
}

static void watch_on_end(void *user)
{
	watch_remove(user);
}

/* Formats it when the first of them wants it, and sends it to all who do. */
static void watch_tell(struct watch *watch, const struct flow *flow,
		       const struct shunt_notice *notice)
{
	_cleanup_(writer_deinit) struct writer line = {};
	struct watcher *next;

	for (struct watcher *watcher = watch->watchers; watcher; watcher = next) {
		next = watcher->next;
		if (notice->at < watcher->since || !flow_filter_wants(&watcher->filter, flow))
			continue;
		if (!line.len) {
			writer_object(&line, NULL);
			flow_write_notice(&watch->names, flow, notice, &line);
			writer_object_end(&line);
			writer_raw(&line, "\n", 1);
		}
		if (!writer_text(&line)) {
			log_warning("no memory: an event is not told");
			return;
		}
		if (control_stream_write(watcher->stream, line.text, line.len))
			watch_remove(watcher);
	}
}

static void watch_on_notice(void *user, const void *record)
{
	const struct shunt_notice *notice = record;
	const struct shunt_pair *pair = &notice->flow.pair;
	struct watch *watch = user;
	struct flow flow = {};

	/* Nobody: they were told while the last one went. */
	if (!watch->watchers || notice->kind >= SHUNT_NOTICE_MAX)
		return;
	if (!watch->named && flow_names_init(&watch->names, watch->agent)) {
		log_warning("no memory: an event is not told");
		return;
	}
	watch->named = true;
	flow_resolve(&watch->names, &notice->flow, &flow);
	flow.pids[SHUNT_CLIENT] = pair->end[SHUNT_CLIENT].pid ?: pair->dialler;
	flow.pids[SHUNT_SERVER] = pair->end[SHUNT_SERVER].pid;
	flow.never = notice->outcome < SHUNT_OUTCOME_MAX;
	watch_tell(watch, &flow, notice);
}

static void watch_on_turn(void *user)
{
	struct watch *watch = user;

	if (watch->named)
		flow_names_deinit(&watch->names);
	watch->named = false;
}

static const struct events_listener watch_listener = {
	.size = sizeof(struct shunt_notice),
	.receive = watch_on_notice,
	.finish = watch_on_turn,
	.gather_ms = WATCH_GATHER_MS,
};

int watch_new(struct agent *agent, struct watch **ret)
{
	const struct maps *maps = loader_maps(agent->loader);
	_cleanup_free_ struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->agent = agent;
	r = maps_map_control(maps, &watch->control);
	if (r)
		return r;
	watch->control->watch = 0; /* of an agent that was killed */
	r = events_new(&agent->loop, maps->watch, &watch_listener, watch, &watch->events);
	if (r) {
		maps_unmap_control(watch->control);
		return r;
	}
	*ret = TAKE_PTR(watch);
	return 0;
}

void watch_close(struct watch *watch)
{
	if (!watch)
		return;
	while (watch->watchers)
		watch_remove(watch->watchers);
	events_close(watch->events);
	maps_unmap_control(watch->control);
	free(watch);
}

int watch_answer(void *user, const json_t *request, struct control_stream *stream, char **ret_error)
{
	_cleanup_(cleanup_watch_free_watcher) struct watcher *watcher = NULL;
	struct agent *agent = user;
	int r;

	if (verbs_need_redirect(agent, ret_error))
		return -ENOTCONN;
	watcher = calloc(1, sizeof(*watcher));
	if (!watcher)
		return -ENOMEM;
	r = flow_filter_parse(agent, request, &watcher->filter, ret_error);
	if (!r && !agent->watch->watchers)
		r = maps_reset_paces(loader_maps(agent->loader));
	if (r)
		return r;
	watcher->since = uv_hrtime();
	watcher->watch = agent->watch;
	watcher->stream = stream;
	watcher->next = agent->watch->watchers;
	agent->watch->watchers = watcher;
	agent->watch->control->watch = 1;
	control_stream_on_end(stream, watch_on_end, TAKE_PTR(watcher));
	return 0;
}
