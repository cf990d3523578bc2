/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps map entries and attachments in step with the cgroups that there are.
 * Reads from: cgroup (what comes and goes), policy (what it is).
 * Writes to: maps, loader; the log, once for each thing that goes wrong.
 */
#include "enrol.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "util/cleanup.h"

#define ENROL_WARNINGS_MAX 64

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
	char *warnings[ENROL_WARNINGS_MAX + 1];
	size_t n_warnings;
};

static void enrol_free(struct enrol *enrol)
{
	for (size_t i = 0; i < enrol->n_warnings; i++)
		free(enrol->warnings[i]);
	free(enrol->root);
	free(enrol);
}

void enrol_warn(struct enrol *enrol, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;
	int r;

	va_start(args, format);
	r = vasprintf(&text, format, args);
	va_end(args);
	if (r < 0) {
		text = NULL;
		return;
	}
	for (size_t i = 0; i < enrol->n_warnings; i++)
		if (!strcmp(enrol->warnings[i], text))
			return;
	log_warning("%s", text);
	if (enrol->n_warnings < ENROL_WARNINGS_MAX)
		enrol->warnings[enrol->n_warnings++] = TAKE_PTR(text);
}

static void enrol_clear_warnings(struct enrol *enrol)
{
	while (enrol->n_warnings) {
		free(enrol->warnings[--enrol->n_warnings]);
		enrol->warnings[enrol->n_warnings] = NULL;
	}
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
	int r = 0;

	if (enrol->maps)
		r = maps_put_cgroup(enrol->maps, node->id,
				    enrol->stopped ? &none : &member->match.entry);
	member->in_map = !r;
	if (r == -E2BIG && !enrol->full) {
		enrol->full = true;
		log_error(
			"more cgroups than limits.cgroups = %u: new ones are not redirected; raise it",
			enrol->maps->cgroups_max);
	} else if (r && r != -E2BIG) {
		log_errno(r, "cgroup %s could not be enrolled", node->path);
	}
}

static void enrol_match(struct enrol *enrol, const struct cgroup_node *node,
			struct policy_match *ret)
{
	const struct enrol_member *parent = node->parent ? node->parent->user : NULL;

	policy_classify(enrol->policy, node->path, parent ? &parent->match : NULL, ret);
	if (ret->rival)
		enrol_warn(enrol,
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
		log_error("no memory: cgroup %s is not enrolled", node->path);
		return;
	}
	enrol_match(enrol, node, &member->match);
	node->user = member;
	if (enrol->settled) {
		point = enrol_attach_point(enrol->policy, node->path);
		r = point ? enrol_attach(enrol, node, point->hooks) : 0;
		/* ENOENT: it is gone again, which the next event will say. */
		if (r && r != -ENOENT)
			enrol_warn(enrol, "cgroup %s: programs could not be attached: %s%s",
				   node->path, strerror(-r),
				   r == -EPERM ? " (is another attached exclusively?)" : "");
		enrol_write(enrol, node, member);
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

	/* While a policy is put in force it may be back with the next; else enrol_remove_stale().
	 */
	r = enrol->settled && enrol->maps ? maps_del_cgroup(enrol->maps, node->id) : 0;
	if (r)
		log_errno(r, "cgroup %s is gone and its entry could not be removed", node->path);
	/* The kernel has detached the programs of a cgroup that is gone; their pins are left. */
	if (enrol->settled && enrol->loader)
		loader_detach(enrol->loader, node->id, 0);
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
		enrol_warn(enrol,
			   "cgroup %s cannot be watched: too many inotify watches; raise "
			   "fs.inotify.max_user_watches",
			   path);
	else
		enrol_warn(enrol, "cgroup %s cannot be watched: %s", path, strerror(-error));
}

int enrol_new(uv_loop_t *loop, const char *root, struct loader *loader, struct enrol **ret)
{
	struct enrol *enrol = calloc(1, sizeof(*enrol));
	struct cgroup_listener listener = {
		.added = enrol_added,
		.removed = enrol_removed,
		.failed = enrol_failed,
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
	*ret = enrol;
	return 0;
}

static void enrol_forget(void *user, struct cgroup_node *node)
{
	free(node->user);
	node->user = NULL;
}

void enrol_close(struct enrol *enrol)
{
	if (!enrol)
		return;
	cgroup_tree_each(enrol->tree, enrol_forget, NULL);
	cgroup_tree_close(enrol->tree);
	enrol_free(enrol);
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
	if (!member->in_map || memcmp(&before, &member->match.entry, sizeof(before)))
		enrol_write(enrol, node, member);
	enrol_count(enrol, member, 1);
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

	for (size_t i = 0; enrol->loader && i < points->n; i++) {
		struct cgroup_node *node = cgroup_tree_find(enrol->tree, points->items[i].path);

		if (node)
			loader_detach(enrol->loader, node->id, points->items[i].hooks);
	}
	if (enrol->loader)
		loader_prune(enrol->loader, enrol_keeps_link, enrol);
}

struct enrol_want {
	struct table rows;
	int error;
};

static void enrol_want(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = node->user;
	struct enrol_want *want = user;

	if (!want->error && member)
		want->error = table_add(&want->rows, &node->id, &member->match.entry);
}

/* Entries of cgroups that went while no agent was there. */
static int enrol_remove_stale(struct enrol *enrol)
{
	struct enrol_want want = {.rows = TABLE_INIT(uint64_t, struct shunt_cgroup)};
	struct table have = TABLE_INIT(uint64_t, struct shunt_cgroup);
	struct sync_plan plan = {};
	int r;

	cgroup_tree_each(enrol->tree, enrol_want, &want);
	table_sort(&want.rows);
	r = want.error;
	r = r ?: maps_read(enrol->maps->cgroups, &have);
	r = r ?: sync_diff(&have, &want.rows, &plan);
	r = r ?: maps_remove(enrol->maps->cgroups, &plan.del);
	sync_plan_deinit(&plan);
	table_deinit(&have);
	table_deinit(&want.rows);
	return r;
}

/*
 * Programs come before entries: it is the entries that have connections redirected, and by then who
 * answers for them has to be in place. Only where links of an earlier agent are to get programs
 * with new, empty maps it is the other way round: until then they have the old maps, which are
 * complete.
 */
static int enrol_apply(struct enrol *enrol, const struct policy *policy)
{
	int r;

	enrol->policy = policy;
	enrol->settled = false;
	enrol_clear_warnings(enrol);
	r = cgroup_tree_watch(enrol->tree, (const char *const *)policy->watch, policy->n_watch);
	if (!r && enrol->loader && loader_policy_replaced(enrol->loader))
		cgroup_tree_each(enrol->tree, enrol_reclassify, enrol);
	r = r ?: enrol_attach_all(enrol);
	if (r)
		return r;
	cgroup_tree_each(enrol->tree, enrol_reclassify, enrol);
	enrol->settled = true;
	return enrol->maps ? enrol_remove_stale(enrol) : 0;
}

/* The policy before is put back whatever fails on the way: no cgroup may be left with a match in
 * the configuration that was refused. */
static void enrol_revert(struct enrol *enrol, const struct policy *before)
{
	if (!enrol_apply(enrol, before))
		return;
	log_error("the policy before could not be put back in force whole");
	cgroup_tree_each(enrol->tree, enrol_reclassify, enrol);
	enrol->settled = true;
}

int enrol_set_policy(struct enrol *enrol, const struct policy *policy)
{
	const struct policy *before = enrol->policy;
	int r = enrol_apply(enrol, policy);

	if (r && before)
		enrol_revert(enrol, before);
	return r;
}

void enrol_on_change(struct enrol *enrol, void (*changed)(void *user), void *user)
{
	enrol->changed = changed;
	enrol->changed_user = user;
}

const struct policy *enrol_policy(const struct enrol *enrol)
{
	return enrol->policy;
}

struct enrol_totals enrol_totals(const struct enrol *enrol)
{
	return enrol->totals;
}

static void enrol_stop_one(void *user, struct cgroup_node *node)
{
	if (node->user)
		enrol_write(user, node, node->user);
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
	return (const char *const *)enrol->warnings;
}
