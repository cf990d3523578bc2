/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The agent as a whole.
 * Reads from: the configuration, signals.
 * Writes to: every module, in the order of the data flow.
 */
#include "agent.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup_trial.h"
#include "ladder.h"
#include "log.h"
#include "log_verifier.h"
#include "metrics.h"
#include "notify.h"
#include "page.h"
#include "privileges.h"
#include "rules.h"
#include "stats.h"
#include "survey.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "verbs.h"

#define AGENT_LINGER_MS	   1000
#define AGENT_DRAIN_MS	   2000 /* until it is looked whether other versions are needed still … */
#define AGENT_DRAIN_MAX_MS 8000 /* … twice as long each time that they were */

static void agent_linger(struct agent *agent);

/* Before anything of @config is in force: nothing is spliced by a kernel that was not tried. One
 * that failed is tried again, since it may have been for something that the operator has mended.
 * Where it could not be tried later on, it is before somebody wants it. */
static void agent_try_splicing(struct agent *agent, const struct config *config)
{
	_cleanup_free_ char *lacks = NULL;
	bool wanted = splice_wanted(config);

	if (!agent->splice || (!wanted && !cgroup_trial_now_or_never(agent->cgroup_root)))
		return;
	if (!selftest_allows(&agent->selftest)) {
		selftest_run(agent->cgroup_root, &agent->selftest);
		lacks = selftest_lacks(&agent->selftest);
	}
	if (lacks && wanted)
		log_warning("nothing is spliced: %s", lacks);
	splice_allow(agent->splice, &agent->selftest);
}

/* A failure here leaves what is redirected as it is: it goes by TCP. */
static void agent_apply_splice(struct agent *agent)
{
	int r;

	if (agent->splice)
		r = splice_apply(agent->splice, agent->config, agent->cgroup_root);
	else
		r = splice_refuse(loader_maps(agent->loader), agent->config);
	if (r)
		log_errno(r, "nothing is spliced");
}

static int agent_assign_rows(struct agent *agent, struct policy *policy)
{
	unsigned int without;
	int r = stats_assign(loader_maps(agent->loader), policy, &without);

	if (!r && without)
		log_warning(
			"%u meshes are counted without their names: %d others were, since Shunt was put in; `shuntctl detach` lets them go",
			without, SHUNT_STATS_ROWS - 1);
	return r;
}

static int agent_compile(const struct config *config, unsigned int slots, struct policy **ret)
{
	int r = policy_new(config, slots, ret);

	if (r == -E2BIG)
		log_errno(r, "more rules than limits.rules = %u", config->limit_rules);
	return r;
}

/* Both are in force from now on. */
static void agent_take(struct agent *agent, struct config *config, struct policy *policy)
{
	policy_free(agent->policy);
	agent->policy = policy;
	if (agent->config != config)
		config_free(agent->config);
	agent->config = config;
	agent->configured = time(NULL);
}

/*
 * Puts @config in force, at start and on reload alike. The new rules are written beside the old
 * ones under mesh slots of their own; then each cgroup's entry is switched to them by one write. A
 * hook reads that entry once, so it sees the old rules or the new ones, never a mix. The old ones
 * stay for hooks that are looking at them, until agent_on_linger(). @config is taken on success.
 */
static int agent_apply_programs(struct agent *agent, struct config *config)
{
	const struct maps *maps = loader_maps(agent->loader);
	struct policy *policy = NULL;
	unsigned int slots;
	int r;

	agent_try_splicing(agent, config);
	r = rules_find_slots(maps, agent->policy, &slots);
	r = r ?: agent_compile(config, slots, &policy);
	if (r)
		return r;
	r = agent_assign_rows(agent, policy);
	/* A crash in mid-reload may have left something there. */
	r = r ?: rules_remove(maps, slots, true);
	r = r ?: rules_write(maps, policy);
	if (r == -E2BIG || r == -ENOSPC) /* a hash map that is full, or a trie */
		log_error(
			"more rules than fit beside those in force; restart the agent to apply limits.rules");
	r = r ?: enrol_set_policy(agent->enrol, policy);
	agent_linger(agent);
	if (r) {
		rules_remove(maps, slots, true);
		policy_free(policy);
		return r;
	}
	agent_take(agent, config, policy);
	agent_apply_splice(agent);
	return 0;
}

/* The same on the rung nftables. */
static int agent_apply_nft(struct agent *agent, struct config *config)
{
	struct policy *policy = NULL;
	int r = agent_compile(config, 0, &policy);

	if (r)
		return r;
	r = enrol_set_policy(agent->enrol, policy);
	r = r ?: nft_apply(agent->nft, policy);
	if (r) {
		if (agent->policy) {
			enrol_set_policy(agent->enrol, agent->policy);
			nft_warn_of_bypass(agent->nft);
		}
		policy_free(policy);
		return r;
	}
	agent_take(agent, config, policy);
	return 0;
}

int agent_apply(struct agent *agent, struct config *config)
{
	int r;

	if (agent->rung == AGENT_RUNG_NFTABLES)
		return agent_apply_nft(agent, config);
	r = agent_apply_programs(agent, config);
	/* What the kernel has been found to do holds for the configuration that stays, too. */
	if (r && agent->policy)
		agent_apply_splice(agent);
	return r;
}

/* Counters are no reason to fail: who is wanted by nobody else must not be stopped by them. */
static void agent_apply_http(struct agent *agent)
{
	static const struct http_page pages[] = {
		{"/", page_index},
		{"/metrics", metrics_page},
		{"/api/status", page_status},
		{"/api/counters", page_counters},
		{"/api/meshes", page_meshes},
		{"/api/flows", page_flows},
		{"/api/graph", page_graph},
		{},
	};
	const struct shunt_endpoint *address = &agent->config->metrics_listen;
	char text[ADDR_STRLEN];
	int r;

	if (agent->http && !memcmp(address, &agent->metrics_listen, sizeof(*address)))
		return;
	http_close(TAKE_PTR(agent->http));
	agent->metrics_listen = *address;
	agent->http_error = 0;
	if (!address->port)
		return;
	r = agent->survey ? 0 : survey_new(agent, &agent->survey);
	r = r ?: http_new(&agent->loop, address, pages, agent, &agent->http);
	addr_format_endpoint(address, text);
	agent->http_error = r;
	if (r)
		log_warning("metrics_listen: nobody can ask on %s: %s", text, strerror(-r));
	else
		log_info("metrics are at http://%s/metrics", text);
}

static void agent_set_log_level(const struct config *config)
{
	enum log_level level;

	if (!log_level_parse(config->log_level, &level))
		log_set_level(level);
}

/* No event says when the last connection of another version is closed. */
static void agent_on_drain(uv_timer_t *timer)
{
	struct agent *agent = timer->data;

	if (agent->detaching)
		return;
	if (loader_drain(agent->loader)) {
		agent->drain_ms = agent->drain_ms * 2 < AGENT_DRAIN_MAX_MS ? agent->drain_ms * 2
									   : AGENT_DRAIN_MAX_MS;
		uv_timer_start(timer, agent_on_drain, agent->drain_ms, 0);
		return;
	}
	agent_apply_splice(agent); /* connections that are in nobody's hands now are looked for */
}

void agent_begin_to_drain(struct agent *agent)
{
	if (!loader_drains(agent->loader))
		return;
	log_info(
		"programs of another version stay until the connections that they have are closed");
	agent->drain_ms = AGENT_DRAIN_MS;
	uv_timer_start(&agent->drain, agent_on_drain, agent->drain_ms, 0);
}

/* Puts the pins back where pin_dir leads, if they are not there. */
static void agent_check_pins(void *user)
{
	struct agent *agent = user;
	int r;

	if (agent->rung != AGENT_RUNG_REDIRECT || agent->detaching)
		return;
	r = loader_has_pins(agent->loader) ? 0 : loader_repin(agent->loader);
	if (!r && agent->pins_lost)
		log_info("pin_dir %s has its pins again", agent->config->pin_dir);
	else if (r && !agent->pins_lost)
		log_error(
			"pin_dir %s has lost its pins: redirection goes on, and ends with this agent; mount its bpf file system again: %s",
			agent->config->pin_dir,
			r < 0 ? strerror(-r) : "none is mounted, or another agent has it");
	agent->pins_lost = r != 0;
}

static void agent_watch_config(struct agent *agent)
{
	int r = refresh_set(&agent->refresh, agent->config->reload_on_change);

	if (r)
		log_warning("reload_on_change: the directory of %s cannot be watched: %s",
			    agent->config->path, strerror(-r));
}

int agent_reload(struct agent *agent, struct config_problems *problems)
{
	struct config *config = NULL;
	int r;

	if (agent->detaching)
		return -ESHUTDOWN;
	agent->reload_failed = true;
	refresh_note(&agent->refresh);
	r = config_load(agent->config->path, problems, &config);
	if (r)
		return r;
	notify_reloading();
	if (agent->rung != AGENT_RUNG_REDIRECT) {
		r = ladder_climb_again(agent, config);
	} else {
		agent_check_pins(agent);
		r = config_keep_until_restart(agent->config, agent->cgroup_root, config, problems);
		r = r ?: agent_apply(agent, config);
	}
	if (r)
		config_free(config);
	else
		log_info("reloaded %s", agent->config->path);
	agent_set_log_level(agent->config);
	agent_apply_http(agent);
	agent_watch_config(agent);
	agent->reload_failed = r != 0;
	notify_send("READY=1");
	return r;
}

static void agent_stop(struct agent *agent)
{
	notify_send("STOPPING=1");
	if (agent->control)
		control_close(TAKE_PTR(agent->control));
	http_close(TAKE_PTR(agent->http));
	survey_close(TAKE_PTR(agent->survey));
	flows_deinit(&agent->flows);
	watch_close(TAKE_PTR(agent->watch));
	splice_close(TAKE_PTR(agent->splice));
	nft_close(TAKE_PTR(agent->nft));
	enrol_close(TAKE_PTR(agent->enrol));
	if (uv_is_closing((uv_handle_t *)&agent->linger))
		return;
	uv_close((uv_handle_t *)&agent->linger, NULL);
	uv_close((uv_handle_t *)&agent->log_check, NULL);
	uv_close((uv_handle_t *)&agent->log_timer, NULL);
	watchdog_close(&agent->watchdog);
	mounts_close(&agent->mounts);
	refresh_close(&agent->refresh);
	uv_close((uv_handle_t *)&agent->drain, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(agent->signals); i++)
		uv_close((uv_handle_t *)&agent->signals[i], NULL);
}

static void agent_remove_all(struct agent *agent)
{
	unsigned left = agent->splice ? splice_drain(agent->splice) : 0;
	int r = loader_remove_all(agent->loader);

	if (left)
		log_warning(
			"%u sockets have spliced bytes that their programs have not read: they keep them, and what Shunt needs for that stays until they are closed",
			left);

	if (r)
		log_errno(r, "%s could not be removed", agent->config->pin_dir);
	else
		log_info("everything is taken out");
	log_verifier_forget();
	agent->failed = r != 0;
	agent_stop(agent);
}

static void agent_remove_unwanted(struct agent *agent)
{
	int r = maps_wait_for_hooks();

	r = r ?: rules_remove(loader_maps(agent->loader), agent->policy->first_slot, false);
	enrol_detach_unwanted(agent->enrol);
	if (r) {
		log_errno(r, "rules that are not in force any more could not be removed yet");
		agent_linger(agent);
	}
}

static void agent_on_linger(uv_timer_t *timer)
{
	struct agent *agent = timer->data;

	if (agent->detaching)
		agent_remove_all(agent);
	else
		agent_remove_unwanted(agent);
}

/* A connection that was redirected a moment ago may not have been accepted yet, or its sidecar may
 * be about to ask where it was going. No event says when the last one has. */
static void agent_linger(struct agent *agent)
{
	uv_timer_start(&agent->linger, agent_on_linger, AGENT_LINGER_MS, 0);
}

/* What there is on a rung without programs: tables, and what an earlier agent left pinned. */
static void agent_remove_rest(struct agent *agent)
{
	int r = agent->rung == AGENT_RUNG_NFTABLES ? nft_remove(agent->nft) : 0;

	if (r)
		log_errno(r, "tables of nftables could not be removed");
	else if ((r = loader_pins_remove_all(agent->config->pin_dir)))
		log_errno(r, "%s could not be removed", agent->config->pin_dir);
	else
		log_info("everything is taken out");
	log_verifier_forget();
	agent->failed = r != 0;
}

void agent_detach(struct agent *agent)
{
	if (agent->rung != AGENT_RUNG_REDIRECT) {
		agent_remove_rest(agent);
		agent_stop(agent);
		return;
	}
	log_info("detaching: nobody is redirected any more");
	agent->detaching = true;
	if (agent->splice)
		splice_stop(agent->splice);
	enrol_stop(agent->enrol);
	agent_linger(agent);
}

static void agent_reload_by_signal(struct agent *agent)
{
	struct config_problems problems = {};
	int r = agent_reload(agent, &problems);

	for (size_t i = 0; i < problems.n; i++)
		log_warning("%s", problems.items[i].text);
	if (r)
		log_error("not reloaded: the configuration in force stays");
	config_problems_deinit(&problems);
}

static void agent_on_config(void *user)
{
	agent_reload_by_signal(user);
}

static void agent_on_signal(uv_signal_t *handle, int signum)
{
	struct agent *agent = handle->data;

	if (signum == SIGHUP) {
		agent_reload_by_signal(agent);
		return;
	}
	if (agent->detaching) {
		agent_remove_all(agent);
		return;
	}
	log_info("stopping; redirection stays in force until `shuntctl detach` or the next start");
	agent_stop(agent);
}

static int agent_start_signals(struct agent *agent)
{
	static const int signums[] = {SIGTERM, SIGINT, SIGHUP};
	int r = 0;

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(signums); i++) {
		uv_signal_init(&agent->loop, &agent->signals[i]);
		agent->signals[i].data = agent;
		r = r ?: uv_signal_start(&agent->signals[i], agent_on_signal, signums[i]);
	}
	return r;
}

static int agent_start(struct agent *agent)
{
	const struct config *config = agent->config;
	int r;

	agent->started = uv_hrtime() / 1000000;
	privileges_guard_files();
	r = log_verifier_keep_beside(config->control_socket);
	if (r)
		log_errno(r, "no file can be made beside the control socket %s",
			  config->control_socket);
	r = ladder_climb(agent);
	if (r)
		return r;
	r = control_new(&agent->loop, config->control_socket, verbs_table(), agent,
			&agent->control);
	if (r) {
		log_errno(r, "control socket %s", config->control_socket);
		ladder_unload(agent);
		return r;
	}
	/* All that takes more is done. */
	r = privileges_drop();
	if (r) {
		log_errno(r, "capabilities cannot be given up");
		ladder_unload(agent);
		return r;
	}
	agent_apply_http(agent);
	return 0;
}

static void agent_say_ready(struct agent *agent)
{
	struct enrol_totals totals;

	if (agent->rung == AGENT_RUNG_OFF)
		return;
	totals = enrol_totals(agent->enrol);
	log_info("ready: meshes=%zu cgroups=%zu members=%zu sidecars=%zu", agent->config->n_meshes,
		 totals.known, totals.members, totals.sidecars);
}

static void agent_on_log_timer(uv_timer_t *timer)
{
	/* What is due is told by agent_on_log_check(), later in this turn of the loop. */
}

/* The only timer of the log runs while something is held back in it. */
static void agent_on_log_check(uv_check_t *check)
{
	struct agent *agent = check->data;
	int next = log_flush(false);

	if (next >= 0 && !uv_is_active((uv_handle_t *)&agent->log_timer))
		uv_timer_start(&agent->log_timer, agent_on_log_timer, next + 1, 0);
}

static void agent_init_handles(struct agent *agent)
{
	uv_loop_init(&agent->loop);
	uv_timer_init(&agent->loop, &agent->linger);
	agent->linger.data = agent;
	uv_timer_init(&agent->loop, &agent->drain);
	agent->drain.data = agent;
	uv_timer_init(&agent->loop, &agent->log_timer);
	uv_check_init(&agent->loop, &agent->log_check);
	agent->log_check.data = agent;
	uv_check_start(&agent->log_check, agent_on_log_check);
	watchdog_init(&agent->watchdog, &agent->loop, agent);
}

int agent_run(struct config *config)
{
	struct agent agent = {.config = config};
	int r, error;

	agent_set_log_level(config);
	log_adopt_libbpf();
	agent_init_handles(&agent);
	r = refresh_init(&agent.refresh, &agent.loop, config->path, agent_on_config, &agent);
	/* Whatever the one says: agent_stop() closes the handles of both. */
	error = agent_start_signals(&agent);
	r = r ?: error;
	r = r ?: agent_start(&agent);
	if (r) {
		agent_stop(&agent);
	} else {
		if (mounts_watch(&agent.mounts, &agent.loop, agent_check_pins, &agent))
			log_warning(
				"mounts cannot be watched: pins that go are noticed at a reload");
		agent_watch_config(&agent);
		agent_say_ready(&agent);
		notify_send("READY=1");
		watchdog_start(&agent.watchdog);
	}
	uv_run(&agent.loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&agent.loop))
		assert(!"a handle was left open");
	policy_free(agent.policy);
	free(agent.why);
	loader_free(agent.loader);
	config_free(agent.config);
	free(agent.cgroup_root);
	log_flush(true);
	return r || agent.failed ? 1 : 0;
}
