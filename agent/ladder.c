/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ladder: redirect and splice, redirect, nftables, off.
 * Reads from: the configuration, what the kernel takes.
 * Writes to: every module of a rung, in the order of the data flow.
 */
#include "ladder.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "host.h"
#include "log.h"
#include "util/cleanup.h"

/* Why the programs cannot be had: for the log, and for who asks later. */
__attribute__((format(printf, 2, 3))) static void ladder_complain(struct agent *agent,
								  const char *format, ...)
{
	va_list args;

	free(TAKE_PTR(agent->why));
	va_start(args, format);
	if (vasprintf(&agent->why, format, args) < 0)
		agent->why = NULL;
	va_end(args);
	log_error("%s", agent->why ?: "no memory");
}

static int ladder_find_cgroup_root(struct agent *agent)
{
	int r;

	if (agent->config->cgroup_root) {
		agent->cgroup_root = strdup(agent->config->cgroup_root);
		return agent->cgroup_root ? 0 : -ENOMEM;
	}
	r = cgroup_find_mount(&agent->cgroup_root);
	if (r == -ENOENT)
		ladder_complain(agent,
				"no cgroup2 file system is mounted; set cgroup_root, or mount one");
	return r;
}

static int ladder_check_cgroup_root(struct agent *agent)
{
	struct statfs fs;
	int r;

	if (statfs(agent->cgroup_root, &fs)) {
		r = -errno;
		ladder_complain(agent, "cgroup_root %s: %s", agent->cgroup_root, strerror(-r));
		return r;
	}
	if (fs.f_type == CGROUP2_SUPER_MAGIC)
		return 0;
	ladder_complain(agent, "cgroup_root %s is not in a cgroup2 file system",
			agent->cgroup_root);
	return -EINVAL;
}

static int ladder_load(struct agent *agent)
{
	const struct config *config = agent->config;
	struct loader_options options = {
		.pin_dir = config->pin_dir,
		.flows = config->limit_flows,
		.cgroups = config->limit_cgroups,
		.rules = config->limit_rules,
	};
	int r = loader_new(&options, &agent->loader);

	if (r == LOADER_E_BUSY)
		ladder_complain(agent, "another agent is running with pin_dir %s", config->pin_dir);
	else if (r == LOADER_E_NOT_BPFFS)
		ladder_complain(
			agent,
			"pin_dir %s is not on a bpf file system; mount one with: mount -t bpf bpf /sys/fs/bpf",
			config->pin_dir);
	else if (r == LOADER_E_FOREIGN)
		ladder_complain(agent, "pin_dir %s is or holds what is not Shunt's",
				config->pin_dir);
	else if (r == -EROFS)
		ladder_complain(
			agent,
			"pin_dir %s is on a file system that is mounted read-only; mount it anew with: mount -o remount,rw",
			config->pin_dir);
	else if (r < 0)
		ladder_complain(
			agent,
			"the programs could not be loaded: %s; `shuntctl doctor` tells what is missing",
			strerror(-r));
	if (r)
		return r < 0 ? r : r == LOADER_E_BUSY ? -EBUSY : -ENODEV;
	if (loader_flows(agent->loader) != config->limit_flows)
		log_warning(
			"limits.flows stays %u while something is pinned; `shuntctl detach` and a start make it %u",
			loader_flows(agent->loader), config->limit_flows);
	if (loader_pairs_replaced(agent->loader)) {
		maps_reset_counter(loader_maps(agent->loader), SHUNT_COUNTER_pairs_opened);
		maps_reset_counter(loader_maps(agent->loader), SHUNT_COUNTER_pairs_closed);
		for (int i = 0; i < SHUNT_REASON_MAX; i++)
			maps_reset_counter(loader_maps(agent->loader),
					   SHUNT_COUNTER_closed_none + i);
	}
	return 0;
}

void ladder_unload(struct agent *agent)
{
	uv_timer_stop(&agent->linger);
	watch_close(TAKE_PTR(agent->watch));
	uv_timer_stop(&agent->drain);
	splice_close(TAKE_PTR(agent->splice));
	if (agent->nft && !agent->adopted)
		nft_uninstall_all(agent->nft);
	nft_close(TAKE_PTR(agent->nft));
	enrol_close(TAKE_PTR(agent->enrol));
	if (agent->loader && !agent->adopted)
		loader_remove_all(agent->loader);
	else if (agent->loader)
		loader_revert(agent->loader);
	agent->loader = loader_free(agent->loader);
	agent->policy = policy_free(agent->policy);
	free(TAKE_PTR(agent->cgroup_root));
	agent->rung = AGENT_RUNG_OFF;
}

static int ladder_start_splice(struct agent *agent)
{
	const char *obstacle = loader_cannot_splice(agent->loader);
	int r;

	if (obstacle) {
		log_warning("this kernel cannot splice: redirecting only: %s", obstacle);
		return 0;
	}
	r = splice_new(&agent->loop, agent->loader, &agent->splice);
	return r ? log_errno(r, "the kernel half cannot be listened to") : 0;
}

static int ladder_watch_cgroups(struct agent *agent)
{
	int r = enrol_new(&agent->loop, agent->cgroup_root, agent->loader, &agent->enrol);

	if (r)
		ladder_complain(agent, "cgroups below %s cannot be watched: %s%s",
				agent->cgroup_root, strerror(-r),
				r == -EMFILE ? "; raise fs.inotify.max_user_instances" : "");
	return r;
}

/* Climbs to the rung "redirect": programs loaded, cgroups enrolled, programs attached. */
static int ladder_redirect(struct agent *agent)
{
	unsigned int stale;
	int r;

	free(TAKE_PTR(agent->why));
	agent->rung = AGENT_RUNG_REDIRECT;
	r = ladder_find_cgroup_root(agent);
	r = r ?: ladder_check_cgroup_root(agent);
	if (!r)
		host_check(agent->config, agent->cgroup_root);
	r = r ?: ladder_load(agent);
	if (!r) {
		agent->adopted = loader_adopted(agent->loader);
		r = ladder_watch_cgroups(agent);
	}
	r = r ?: ladder_start_splice(agent);
	r = r ?: watch_new(agent, &agent->watch);
	/* Last: once it is in force nothing may fail. */
	r = r ?: agent_apply(agent, agent->config);
	if (r) {
		if (!agent->why)
			ladder_complain(agent, "the programs could not be put in force: %s",
					strerror(-r));
		ladder_unload(agent);
		return r;
	}
	agent_begin_to_drain(agent);
	/* Both were in force for a moment: what a program has redirected, no rule does. */
	stale = nft_remove_stale(agent->config->pin_dir);
	if (stale)
		log_info("tables of nftables were removed from %u network namespaces", stale);
	return 0;
}

/* Climbs to the rung "nftables". */
static int ladder_redirect_by_nft(struct agent *agent)
{
	_cleanup_free_ char *why = TAKE_PTR(agent->why); /* that of the rung above counts */
	int r;

	agent->rung = AGENT_RUNG_NFTABLES;
	r = ladder_find_cgroup_root(agent);
	r = r ?: ladder_check_cgroup_root(agent);
	r = r ?: ladder_watch_cgroups(agent);
	if (!r)
		r = nft_new(&agent->loop, agent->cgroup_root, agent->config->pin_dir, agent->enrol,
			    &agent->nft);
	r = r ?: agent_apply(agent, agent->config);
	agent->adopted = agent->nft && nft_adopted(agent->nft);
	if (r)
		ladder_unload(agent);
	free(agent->why);
	agent->why = TAKE_PTR(why);
	return r;
}

/* Does an earlier agent's redirection go on? Rules beside it would have a configuration of their
 * own, and would redirect what it leaves alone. */
static bool ladder_leaves_earlier(const struct config *config)
{
	if (!loader_pins_redirect(config->pin_dir))
		return false;
	log_error(
		"the programs of an earlier agent stay in force, with its configuration: mend what stands above and start again; or `rm -r %s`",
		config->pin_dir);
	return true;
}

int ladder_climb(struct agent *agent)
{
	const enum config_fallback fallback = agent->config->fallback;
	int r = ladder_redirect(agent);

	if (!r || r == -EBUSY)
		return r;
	if (ladder_leaves_earlier(agent->config))
		return fallback == CONFIG_FALLBACK_OFF ? 0 : r;
	if (fallback == CONFIG_FALLBACK_FAIL)
		return r;
	r = ladder_redirect_by_nft(agent);
	if (!r)
		log_warning("redirecting by nftables: nothing is spliced, nothing is counted");
	else if (fallback == CONFIG_FALLBACK_NFTABLES)
		log_error("nothing can be redirected, not by nftables either");
	else
		log_error(
			"nothing is redirected: fallback = off; mend what stands above and reload");
	return fallback == CONFIG_FALLBACK_NFTABLES ? r : 0;
}

/* What stands on a lower rung, kept while a higher one is tried. */
struct ladder_rung {
	enum agent_rung rung;
	struct config *config;
	struct policy *policy;
	struct enrol *enrol;
	struct nft *nft;
	char *cgroup_root;
};

static struct ladder_rung ladder_step_off(struct agent *agent)
{
	return (struct ladder_rung){
		.rung = agent->rung,
		.config = agent->config,
		.policy = TAKE_PTR(agent->policy),
		.enrol = TAKE_PTR(agent->enrol),
		.nft = TAKE_PTR(agent->nft),
		.cgroup_root = TAKE_PTR(agent->cgroup_root),
	};
}

static void ladder_step_back(struct agent *agent, const struct ladder_rung *rung)
{
	agent->rung = rung->rung;
	agent->config = rung->config;
	agent->policy = rung->policy;
	agent->enrol = rung->enrol;
	agent->nft = rung->nft;
	agent->cgroup_root = rung->cgroup_root;
}

/* Its tables are gone already, with those of other agents of this pin_dir. */
static void ladder_leave_behind(struct ladder_rung *rung)
{
	if (rung->nft)
		nft_remove(rung->nft);
	nft_close(rung->nft);
	enrol_close(rung->enrol);
	policy_free(rung->policy);
	config_free(rung->config);
	free(rung->cgroup_root);
}

int ladder_climb_again(struct agent *agent, struct config *config)
{
	struct ladder_rung before = ladder_step_off(agent);
	int r;

	agent->config = config;
	r = ladder_redirect(agent);
	if (!r) {
		ladder_leave_behind(&before);
		return 0;
	}
	ladder_step_back(agent, &before);
	if (agent->rung == AGENT_RUNG_NFTABLES)
		return agent_apply(agent, config);
	if (ladder_leaves_earlier(config) || config->fallback == CONFIG_FALLBACK_FAIL)
		return r;
	agent->config = config;
	r = ladder_redirect_by_nft(agent);
	if (r)
		agent->config = before.config;
	else
		config_free(before.config);
	return r;
}
