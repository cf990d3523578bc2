/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps map entries and attachments in step with the cgroups that there are.
 * Reads from: cgroup (what comes and goes), policy (what it is).
 * Writes to: maps, loader; the log, once for each thing that goes wrong.
 */
#include "enrol.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "enrol_entries.h"
#include "log.h"
#include "util/cleanup.h"
#include "warnings.h"

#define ENROL_MEND_MS	  1000	/* until what failed is tried again … */
#define ENROL_MEND_MAX_MS 60000 /* … twice as long each time that it fails */

struct enrol {
	struct cgroup_tree *tree;
	struct loader *loader;	 /* NULL: nothing is attached, … */
	const struct maps *maps; /* … and nothing written */
	const struct policy *policy;
	char *root;
	void (*changed)(void *user);
	void *changed_user;
	bool settled; /* a cgroup that comes is dealt with at once; else enrol_apply() does it */
	bool stopped; /* nobody is redirected any more */
	bool full;    /* said so already */
	struct enrol_totals totals;
	uv_timer_t mend; /* runs while there is something that failed */
	uint64_t mend_ms;
	bool faulty; /* something failed since it was tried again */
	bool litter; /* attachments could not be removed */
	struct warnings warnings;
};

static void enrol_free(struct enrol *enrol)
{
	warnings_clear(&enrol->warnings);
	free(enrol->root);
	free(enrol);
}

static void enrol_on_mend(uv_timer_t *timer);

/* Something failed that may succeed later. */
static void enrol_fault(struct enrol *enrol)
{
	enrol->faulty = true;
	if (!uv_is_active((uv_handle_t *)&enrol->mend))
		uv_timer_start(&enrol->mend, enrol_on_mend, enrol->mend_ms, 0);
}

__attribute__((format(printf, 3, 4))) static void
enrol_complain(struct enrol *enrol, enum warning_kind kind, const char *format, ...)
{
	va_list args;

	if (kind != WARNING_STANDING)
		enrol_fault(enrol);
	va_start(args, format);
	warnings_add(&enrol->warnings, kind, format, args);
	va_end(args);
}

void enrol_warn(struct enrol *enrol, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	warnings_add(&enrol->warnings, WARNING_STANDING, format, args);
	va_end(args);
}

static void enrol_count(struct enrol *enrol, const struct enrol_member *member, int by)
{
	enrol->totals.known += by;
	if (member->match.entry.role == SHUNT_ROLE_MEMBER)
		enrol->totals.members += by;
	if (member->match.entry.role == SHUNT_ROLE_SIDECAR)
		enrol->totals.sidecars += by;
	if (!member->in_map)
		enrol->totals.missing += by;
}

static void enrol_write(struct enrol *enrol, const struct cgroup_node *node,
			struct enrol_member *member)
{
	static const struct shunt_cgroup none = {.role = SHUNT_ROLE_NONE};
	bool stopped = enrol->stopped && member->match.entry.role == SHUNT_ROLE_MEMBER;
	int r = 0;

	if (enrol->maps)
		r = maps_put_cgroup(enrol->maps, node->id, stopped ? &none : &member->match.entry);
	member->in_map = !r;
	if (r == -E2BIG && !enrol->full) {
		enrol->full = true;
		log_error(
			"more cgroups than limits.cgroups = %u: new ones are not redirected; raise it",
			enrol->maps->cgroups_max);
	} else if (r && r != -E2BIG) {
		enrol_complain(enrol, WARNING_FAULT, "cgroup %s could not be enrolled: %s",
			       node->path, strerror(-r));
	}
}

static void enrol_match(struct enrol *enrol, const struct cgroup_node *node,
			struct policy_match *ret)
{
	const struct enrol_member *parent = node->parent ? node->parent->user : NULL;

	policy_classify(enrol->policy, node->path, parent ? &parent->match : NULL, ret);
	if (ret->rival)
		enrol_complain(enrol, WARNING_STANDING,
			       "cgroup %s: mesh %s claims it, and so does mesh %s; the first in "
			       "the file wins",
			       node->path, ret->mesh->name, ret->rival->name);
}

static const struct policy_attach_point *enrol_attach_point(const struct policy *policy,
							    const char *path)
{
	for (size_t i = 0; i < policy->attach.n; i++)
		if (!strcmp(policy->attach.items[i].path, path))
			return &policy->attach.items[i];
	return NULL;
}

static int enrol_attach(struct enrol *enrol, const struct cgroup_node *node, unsigned int hooks)
{
	_cleanup_free_ char *path = NULL;

	if (!enrol->loader)
		return 0;
	if (asprintf(&path, "%s%s", enrol->root, node->path) < 0)
		return -ENOMEM;
	return loader_attach(enrol->loader, path, node->id, hooks);
}

/* While a policy is put in force, who does that knows. */
static void enrol_tell_change(struct enrol *enrol)
{
	if (enrol->settled && enrol->changed)
		enrol->changed(enrol->changed_user);
}

static void enrol_warn_of_attach(struct enrol *enrol, const struct cgroup_node *node, int r)
{
	enrol_complain(enrol, WARNING_FAULT, "cgroup %s: programs could not be attached: %s%s",
		       node->path, strerror(-r),
		       r == -EPERM ? " (is another attached exclusively?)" : "");
}

static void enrol_warn_of_litter(struct enrol *enrol, int r)
{
	enrol->litter = true;
	enrol_complain(enrol, WARNING_FAULT,
		       "attachments that are not wanted any more could not be removed: %s",
		       strerror(-r));
}

/* Somebody who ran in it before has dialled unseen, if at all. Elsewhere an attachment above sees
 * what a cgroup's programs dial before it has an entry. */
static void enrol_note_late(struct enrol *enrol, const struct cgroup_node *node)
{
	_cleanup_fclose_ FILE *events = NULL;
	_cleanup_free_ char *path = NULL;
	bool populated = false;
	char line[64];

	if (asprintf(&path, "%s%s/cgroup.events", enrol->root, node->path) < 0)
		return;
	events = fopen(path, "re");
	while (events && fgets(line, sizeof(line), events))
		populated |= !strcmp(line, "populated 1\n");
	if (!populated)
		return;
	log_info("cgroup %s: programs ran in it before it was enrolled; what they dialled is not "
		 "redirected",
		 node->path);
	if (enrol->maps)
		maps_count(enrol->maps, SHUNT_COUNTER_cgroups_late);
}

/* Programs first, entry last: it is the entry that has connections redirected, and by then whoever
 * answers for them has to be in place. */
static void enrol_added(void *user, struct cgroup_node *node)
{
	const struct policy_attach_point *point;
	struct enrol *enrol = user;
	struct enrol_member *member;
	int r;

	member = calloc(1, sizeof(*member));
	if (!member) {
		enrol_complain(enrol, WARNING_FAULT, "no memory: cgroup %s is not enrolled",
			       node->path);
		return;
	}
	enrol_match(enrol, node, &member->match);
	node->user = member;
	if (enrol->settled) {
		point = enrol_attach_point(enrol->policy, node->path);
		r = point ? enrol_attach(enrol, node, point->hooks) : 0;
		/* ENOENT: it is gone again, which the next event will say. */
		if (r && r != -ENOENT)
			enrol_warn_of_attach(enrol, node, r);
		enrol_write(enrol, node, member);
		if (point && member->match.entry.role == SHUNT_ROLE_MEMBER)
			enrol_note_late(enrol, node);
	}
	enrol_count(enrol, member, 1);
	enrol_tell_change(enrol);
}

static void enrol_retry(void *user, struct cgroup_node *node)
{
	struct enrol_member *member = node->user;
	struct enrol *enrol = user;

	if (!member || member->in_map)
		return;
	enrol_write(enrol, node, member);
	enrol->totals.missing -= member->in_map;
}

static void enrol_removed(void *user, struct cgroup_node *node)
{
	struct enrol_member *member = node->user;
	struct enrol *enrol = user;
	int r;

	/* While a policy is put in force it may be back with the next; or
	 * enrol_entries_remove_stale(). */
	r = enrol->settled && enrol->maps ? maps_del_cgroup(enrol->maps, node->id) : 0;
	if (r)
		enrol_complain(enrol, WARNING_FAULT,
			       "cgroup %s is gone and its entry could not be removed: %s",
			       node->path, strerror(-r));
	/* The kernel has detached the programs of a cgroup that is gone; their pins are left. */
	r = enrol->settled && enrol->loader ? loader_detach(enrol->loader, node->id, 0) : 0;
	if (r)
		enrol_warn_of_litter(enrol, r);
	enrol_tell_change(enrol);
	if (!member)
		return;
	enrol_count(enrol, member, -1);
	node->user = NULL;
	free(member);
	if (enrol->totals.missing) {
		cgroup_tree_each(enrol->tree, enrol_retry, enrol);
		enrol->full = enrol->totals.missing > 0;
	}
}

static void enrol_failed(void *user, const char *path, int error)
{
	struct enrol *enrol = user;

	if (error == -ENOSPC)
		enrol_complain(enrol, WARNING_UNWATCHED,
			       "cgroup %s cannot be watched: too many inotify watches; raise "
			       "fs.inotify.max_user_watches",
			       path);
	else
		enrol_complain(enrol, WARNING_UNWATCHED, "cgroup %s cannot be watched: %s", path,
			       strerror(-error));
}

static void enrol_overflowed(void *user)
{
	(void)user;
	log_warning(
		"more happened to cgroups than fs.inotify.max_queued_events holds: the tree is read again");
}

int enrol_new(uv_loop_t *loop, const char *root, struct loader *loader, struct enrol **ret)
{
	struct enrol *enrol = calloc(1, sizeof(*enrol));
	struct cgroup_listener listener = {
		.added = enrol_added,
		.removed = enrol_removed,
		.failed = enrol_failed,
		.overflowed = enrol_overflowed,
		.user = enrol,
	};
	int r;

	if (!enrol)
		return -ENOMEM;
	enrol->loader = loader;
	enrol->maps = loader ? loader_maps(loader) : NULL;
	enrol->root = strdup(root);
	r = enrol->root ? cgroup_tree_new(loop, root, &listener, &enrol->tree) : -ENOMEM;
	if (r) {
		enrol_free(enrol);
		return r;
	}
	uv_timer_init(loop, &enrol->mend);
	enrol->mend.data = enrol;
	enrol->mend_ms = ENROL_MEND_MS;
	*ret = enrol;
	return 0;
}

static void enrol_forget(void *user, struct cgroup_node *node)
{
	free(node->user);
	node->user = NULL;
}

static void enrol_on_closed(uv_handle_t *handle)
{
	enrol_free(handle->data);
}

void enrol_close(struct enrol *enrol)
{
	if (!enrol)
		return;
	cgroup_tree_each(enrol->tree, enrol_forget, NULL);
	cgroup_tree_close(enrol->tree);
	uv_close((uv_handle_t *)&enrol->mend, enrol_on_closed);
}

static void enrol_reclassify(void *user, struct cgroup_node *node)
{
	struct enrol_member *member = node->user;
	struct shunt_cgroup before;
	struct enrol *enrol = user;

	if (!member)
		return;
	before = member->match.entry;
	enrol_count(enrol, member, -1);
	enrol_match(enrol, node, &member->match);
	member->changed = !member->in_map || memcmp(&before, &member->match.entry, sizeof(before));
	enrol_count(enrol, member, 1);
}

static void enrol_rewrite(struct enrol *enrol, const struct cgroup_node *node)
{
	struct enrol_member *member = node->user;

	if (!member || !member->changed)
		return;
	enrol_count(enrol, member, -1);
	enrol_write(enrol, node, member);
	enrol_count(enrol, member, 1);
	member->changed = false;
}

static void enrol_rewrite_sidecar(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = node->user;

	if (member && member->match.entry.role == SHUNT_ROLE_SIDECAR)
		enrol_rewrite(user, node);
}

static void enrol_rewrite_other(void *user, struct cgroup_node *node)
{
	enrol_rewrite(user, node);
}

/* Sidecars first: who is redirected to one is to be answered as by whom he asked. */
static void enrol_reclassify_all(struct enrol *enrol)
{
	cgroup_tree_each(enrol->tree, enrol_reclassify, enrol);
	cgroup_tree_each(enrol->tree, enrol_rewrite_sidecar, enrol);
	cgroup_tree_each(enrol->tree, enrol_rewrite_other, enrol);
}

static int enrol_attach_all(struct enrol *enrol)
{
	const struct policy_attach_points *points = &enrol->policy->attach;
	int r;

	for (size_t i = 0; i < points->n; i++) {
		struct cgroup_node *node = cgroup_tree_find(enrol->tree, points->items[i].path);

		r = node ? enrol_attach(enrol, node, points->items[i].hooks) : 0;
		if (r && r != -ENOENT)
			return log_errno(r, "cgroup %s: programs could not be attached",
					 node->path);
	}
	return 0;
}

static bool enrol_keeps_link(void *user, uint64_t cgroup)
{
	struct enrol *enrol = user;
	const struct policy_attach_points *points = &enrol->policy->attach;

	for (size_t i = 0; i < points->n; i++) {
		struct cgroup_node *node = cgroup_tree_find(enrol->tree, points->items[i].path);

		if (node && node->id == cgroup)
			return true;
	}
	return false;
}

void enrol_detach_unwanted(struct enrol *enrol)
{
	const struct policy_attach_points *points = &enrol->policy->attach;
	int r = 0;

	for (size_t i = 0; enrol->loader && i < points->n; i++) {
		struct cgroup_node *node = cgroup_tree_find(enrol->tree, points->items[i].path);

		if (node)
			r = loader_detach(enrol->loader, node->id, points->items[i].hooks) ?: r;
	}
	if (enrol->loader)
		r = loader_prune(enrol->loader, enrol_keeps_link, enrol) ?: r;
	enrol->litter = false;
	if (r)
		enrol_warn_of_litter(enrol, r);
}

/*
 * Who answers comes before entries: it is entries that have connections redirected. Entries come
 * before programs that redirect: the maps of these may be new, and what they replace has complete
 * ones.
 */
static int enrol_apply(struct enrol *enrol, const struct policy *policy)
{
	int r;

	enrol->policy = policy;
	enrol->settled = false;
	warnings_clear(&enrol->warnings);
	r = cgroup_tree_watch(enrol->tree, (const char *const *)policy->watch, policy->n_watch);
	r = r ?: enrol_attach_all(enrol);
	if (r)
		return r;
	enrol_reclassify_all(enrol);
	enrol->settled = true;
	if (!enrol->loader)
		return 0;
	r = loader_renew(enrol->loader);
	if (r)
		return log_errno(r, "programs of an earlier agent could not be replaced");
	r = enrol_entries_remove_stale(enrol->maps, enrol->tree);
	return r ?: loader_commit(enrol->loader);
}

/* At the start: on failure everything is as it was. */
static int enrol_begin(struct enrol *enrol, const struct policy *policy)
{
	struct table before = ENROL_ENTRIES_INIT;
	int r;

	if (!enrol->loader)
		return enrol_apply(enrol, policy);
	r = maps_read(enrol->maps->cgroups, &before);
	if (!r) {
		r = enrol_apply(enrol, policy);
		if (r)
			enrol_entries_restore(enrol->maps, &before);
	}
	if (r)
		loader_revert(enrol->loader);
	table_deinit(&before);
	return r;
}

/* The policy before is put back whatever fails on the way: no cgroup may be left with a match in
 * the configuration that was refused. */
static void enrol_revert(struct enrol *enrol, const struct policy *before)
{
	if (!enrol_apply(enrol, before))
		return;
	log_error("the policy before could not be put back in force whole");
	enrol_fault(enrol);
	enrol_reclassify_all(enrol);
	enrol->settled = true;
}

int enrol_set_policy(struct enrol *enrol, const struct policy *policy)
{
	const struct policy *before = enrol->policy;
	int r;

	if (!before)
		return enrol_begin(enrol, policy);
	r = enrol_apply(enrol, policy);
	if (r)
		enrol_revert(enrol, before);
	return r;
}

void enrol_on_change(struct enrol *enrol, void (*changed)(void *user), void *user)
{
	enrol->changed = changed;
	enrol->changed_user = user;
}

struct enrol_totals enrol_totals(const struct enrol *enrol)
{
	return enrol->totals;
}

/* Sidecars stay what they are: somebody may wait for an answer still that they are to give. */
static void enrol_stop_one(void *user, struct cgroup_node *node)
{
	struct enrol_member *member = node->user;

	if (member && member->match.entry.role == SHUNT_ROLE_MEMBER)
		enrol_write(user, node, member);
}

static void enrol_mend_one(void *user, struct cgroup_node *node)
{
	struct enrol *enrol = user;

	if (!node->user)
		enrol_added(enrol, node);
	else if (!enrol->full) /* else it waits for others to go: enrol_removed() */
		enrol_retry(enrol, node);
}

static void enrol_attach_missing(struct enrol *enrol)
{
	const struct policy_attach_points *points = &enrol->policy->attach;

	for (size_t i = 0; i < points->n; i++) {
		struct cgroup_node *node = cgroup_tree_find(enrol->tree, points->items[i].path);
		int r = node ? enrol_attach(enrol, node, points->items[i].hooks) : 0;

		if (r && r != -ENOENT)
			enrol_warn_of_attach(enrol, node, r);
	}
}

/* Tries again all that may have failed. */
static void enrol_try_again(struct enrol *enrol)
{
	int r;

	enrol->faulty = false;
	warnings_review(&enrol->warnings, WARNING_FAULT);
	if (cgroup_tree_rescan(enrol->tree))
		warnings_review(&enrol->warnings, WARNING_UNWATCHED);
	else
		enrol_fault(enrol);
	enrol_attach_missing(enrol);
	cgroup_tree_each(enrol->tree, enrol_mend_one, enrol);
	r = enrol->maps ? enrol_entries_remove_stale(enrol->maps, enrol->tree) : 0;
	if (r)
		enrol_complain(enrol, WARNING_FAULT,
			       "entries of cgroups that are gone could not be removed: %s",
			       strerror(-r));
	if (enrol->litter)
		enrol_detach_unwanted(enrol);
	warnings_drop_mended(&enrol->warnings);
}

static void enrol_on_mend(uv_timer_t *timer)
{
	struct enrol *enrol = timer->data;

	if (enrol->stopped || !enrol->settled)
		return;
	enrol->mend_ms *= 2;
	if (enrol->mend_ms > ENROL_MEND_MAX_MS)
		enrol->mend_ms = ENROL_MEND_MAX_MS;
	enrol_try_again(enrol);
	if (enrol->faulty)
		return;
	enrol->mend_ms = ENROL_MEND_MS;
	log_info("what failed with cgroups before is mended: known=%zu members=%zu sidecars=%zu",
		 enrol->totals.known, enrol->totals.members, enrol->totals.sidecars);
}

void enrol_stop(struct enrol *enrol)
{
	enrol->stopped = true;
	cgroup_tree_each(enrol->tree, enrol_stop_one, enrol);
}

const struct cgroup_node *enrol_find(struct enrol *enrol, const char *path)
{
	cgroup_tree_look(enrol->tree, path);
	return cgroup_tree_find(enrol->tree, path);
}

int enrol_classify(struct enrol *enrol, const char *path, bool *ret_covered,
		   struct policy_match *ret)
{
	_cleanup_free_ char *part = strdup(path);
	struct policy_match match = {};
	bool covered = false;
	char *end;

	if (!part)
		return -ENOMEM;
	cgroup_tree_look(enrol->tree, path);
	/* From the top: what is there says what it is, what is not there is told by the policy. */
	for (end = part + 1; *end; end += *end == '/') {
		const struct cgroup_node *node;
		struct policy_match parent = match;
		char saved;

		end = strchrnul(end, '/');
		saved = *end;
		*end = '\0';
		node = cgroup_tree_find(enrol->tree, part);
		if (node && node->user)
			match = ((const struct enrol_member *)node->user)->match;
		else if (covered)
			policy_classify(enrol->policy, part, &parent, &match);
		covered |= node != NULL;
		*end = saved;
	}
	*ret_covered = covered;
	*ret = match;
	return 0;
}

const struct enrol_member *enrol_member(const struct cgroup_node *node)
{
	return node->user;
}

void enrol_each(struct enrol *enrol, void (*visit)(void *user, struct cgroup_node *node),
		void *user)
{
	cgroup_tree_each(enrol->tree, visit, user);
}

const char *const *enrol_warnings(const struct enrol *enrol)
{
	return (const char *const *)enrol->warnings.texts;
}
