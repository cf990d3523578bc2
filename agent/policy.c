/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a configuration means.
 * Reads from: config.
 * Writes to: tables that sync compares with the maps, and a list of places to attach to.
 */
#include "policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/addr.h"
#include "util/cleanup.h"
#include "util/glob.h"

static void policy_set_ports(__u64 *words, const struct config_port_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		for (unsigned int p = list->items[i].first; p <= list->items[i].last; p++)
			words[p / 64] |= 1ull << p % 64;
}

/* Is all of both families in the list? Then the kernel half need not look. */
static bool policy_includes_all(const struct config_cidrs *list)
{
	bool v4 = false, v6 = false;

	for (size_t i = 0; i < list->n; i++) {
		v6 |= list->items[i].prefix == 0;
		v4 |= list->items[i].prefix == ADDR_V4_BITS && addr_is_v4(list->items[i].addr);
	}
	return v4 && v6;
}

static int policy_add_mesh(struct policy *policy, __u32 slot, const struct config_mesh *config)
{
	_cleanup_free_ struct shunt_mesh *mesh = calloc(1, sizeof(*mesh));

	if (!mesh)
		return -ENOMEM;
	memcpy(mesh->tcp, config->tcp_redirect, sizeof(mesh->tcp));
	memcpy(mesh->dns, config->dns_redirect, sizeof(mesh->dns));
	mesh->splice = config->splice;
	if (config->on_sidecar_down == CONFIG_SIDECAR_DOWN_BYPASS)
		mesh->flags |= SHUNT_MESH_DOWN_BYPASS;
	if (config->exclude_cidrs.n)
		mesh->flags |= SHUNT_MESH_EXCLUDES_CIDRS;
	if (policy_includes_all(&config->include_cidrs))
		mesh->flags |= SHUNT_MESH_INCLUDES_ALL;
	if (config->sidecar_uids.n || config->sidecar_gids.n || config->exclude_uids.n ||
	    config->exclude_gids.n)
		mesh->flags |= SHUNT_MESH_OWNERS;
	policy_set_ports(mesh->excluded_ports, &config->exclude_ports);
	policy_set_ports(mesh->included_ports, &config->include_ports);
	return table_add(&policy->meshes, &slot, mesh);
}

/* Bit @i from the left of ::ffff:0:0/96, which has the IPv4 addresses. */
static bool policy_mapped_bit(unsigned int i)
{
	return i >= ADDR_V4_BITS - 16;
}

/* Is it an IPv6 prefix that holds all of ::ffff:0:0/96? */
static bool policy_holds_mapped(const struct config_cidr *cidr)
{
	for (unsigned int i = 0; i < cidr->prefix && i < ADDR_V4_BITS; i++)
		if ((ntohl(cidr->addr[i / 32]) >> (31 - i % 32) & 1) != policy_mapped_bit(i))
			return false;
	return cidr->prefix < ADDR_V4_BITS;
}

/*
 * ::/0 holds the IPv4-mapped addresses too, but in the file it means IPv6 alone. An IPv6 prefix
 * that is short enough to reach into ::ffff:0:0/96 is therefore split into the prefixes beside the
 * path to it.
 */
static int policy_add_beside_mapped(struct policy *policy, __u32 scope,
				    const struct config_cidr *cidr)
{
	struct shunt_cidr_key key = {.scope = htonl(scope)};
	int r = 0;

	for (unsigned int i = 0; !r && i < ADDR_V4_BITS; i++) {
		__be32 *word = &key.addr[i / 32], bit = htonl(1u << (31 - i % 32));

		/* Up to bit i the way to the mapped addresses, and there the other way. */
		if (i >= cidr->prefix) {
			key.prefix_len = 32 + i + 1;
			*word |= policy_mapped_bit(i) ? 0 : bit;
			r = table_add(&policy->cidrs, &key, &cidr->line);
			*word &= ~bit;
		}
		*word |= policy_mapped_bit(i) ? bit : 0;
	}
	return r;
}

static int policy_add_cidr(struct policy *policy, __u32 scope, const struct config_cidr *cidr)
{
	struct shunt_cidr_key key = {
		.scope = htonl(scope),
		.prefix_len = 32 + cidr->prefix,
	};

	if (policy_holds_mapped(cidr))
		return policy_add_beside_mapped(policy, scope, cidr);
	memcpy(key.addr, cidr->addr, sizeof(key.addr));
	return table_add(&policy->cidrs, &key, &cidr->line);
}

static int policy_add_cidrs(struct policy *policy, __u32 slot, enum shunt_cidr_kind kind,
			    const struct config_cidrs *list)
{
	int r = 0;

	for (size_t i = 0; !r && i < list->n; i++)
		r = policy_add_cidr(policy, SHUNT_CIDR_SCOPE(slot, kind), &list->items[i]);
	return r;
}

static int policy_add_owners(struct policy *policy, __u32 slot, enum shunt_owner_kind kind,
			     const struct config_ids *list)
{
	int r = 0;

	for (size_t i = 0; !r && i < list->n; i++) {
		struct shunt_owner_key key = {
			.mesh = slot,
			.kind = kind,
			.id = list->items[i].id,
		};

		r = table_add(&policy->owners, &key, &list->items[i].line);
	}
	return r;
}

static int policy_add_rules(struct policy *policy, __u32 slot, const struct config_mesh *mesh)
{
	int r;

	r = policy_add_mesh(policy, slot, mesh);
	r = r ?: policy_add_cidrs(policy, slot, SHUNT_CIDR_EXCLUDE, &mesh->exclude_cidrs);
	if (!policy_includes_all(&mesh->include_cidrs))
		r = r ?: policy_add_cidrs(policy, slot, SHUNT_CIDR_INCLUDE, &mesh->include_cidrs);
	r = r ?: policy_add_owners(policy, slot, SHUNT_OWNER_SIDECAR_UID, &mesh->sidecar_uids);
	r = r ?: policy_add_owners(policy, slot, SHUNT_OWNER_SIDECAR_GID, &mesh->sidecar_gids);
	r = r ?: policy_add_owners(policy, slot, SHUNT_OWNER_EXCLUDED_UID, &mesh->exclude_uids);
	return r ?: policy_add_owners(policy, slot, SHUNT_OWNER_EXCLUDED_GID, &mesh->exclude_gids);
}

static int policy_add_attach_point(struct policy_attach_points *points, const char *pattern,
				   unsigned int hooks)
{
	struct policy_attach_point *items;
	char *path;

	path = strndup(pattern, glob_prefix_len(pattern));
	if (!path)
		return -ENOMEM;
	for (size_t i = 0; i < points->n; i++) {
		if (!strcmp(points->items[i].path, path)) {
			points->items[i].hooks |= hooks;
			free(path);
			return 0;
		}
	}
	items = reallocarray(points->items, points->n + 1, sizeof(*items));
	if (!items) {
		free(path);
		return -ENOMEM;
	}
	items[points->n++] = (struct policy_attach_point){.path = path, .hooks = hooks};
	points->items = items;
	return 0;
}

static int policy_add_attach_points(struct policy_attach_points *points,
				    const struct config_globs *globs, unsigned int hooks)
{
	int r = 0;

	for (size_t i = 0; !r && i < globs->n; i++)
		if (!globs->items[i].negated)
			r = policy_add_attach_point(points, globs->items[i].pattern, hooks);
	return r;
}

static bool policy_is_below(const char *path, const char *ancestor)
{
	size_t n = strlen(ancestor);

	if (n == 1)
		return path[1];
	return !strncmp(path, ancestor, n) && path[n] == '/';
}

static int policy_compare_attach_points(const void *a, const void *b)
{
	return strcmp(((const struct policy_attach_point *)a)->path,
		      ((const struct policy_attach_point *)b)->path);
}

/* A program runs once for every attachment on the way to the root, so none is attached below
 * another attachment of itself. */
static void policy_narrow_attach_points(struct policy_attach_points *points)
{
	size_t kept = 0;

	if (points->n)
		qsort(points->items, points->n, sizeof(*points->items),
		      policy_compare_attach_points);
	for (size_t i = 0; i < points->n; i++)
		for (size_t j = 0; j < points->n; j++)
			if (policy_is_below(points->items[i].path, points->items[j].path))
				points->items[i].hooks &= ~points->items[j].hooks;
	for (size_t i = 0; i < points->n; i++) {
		if (points->items[i].hooks)
			points->items[kept++] = points->items[i];
		else
			free(points->items[i].path);
	}
	points->n = kept;
}

/* The topmost of the attach points: what is below them is of interest. */
static int policy_find_watch(struct policy *policy)
{
	const struct policy_attach_points *points = &policy->attach;

	policy->watch = calloc(points->n + 1, sizeof(*policy->watch));
	if (!policy->watch)
		return -ENOMEM;
	for (size_t i = 0; i < points->n; i++) {
		bool below = false;

		for (size_t j = 0; j < points->n; j++)
			below |= policy_is_below(points->items[i].path, points->items[j].path);
		if (!below)
			policy->watch[policy->n_watch++] = points->items[i].path;
	}
	return 0;
}

static int policy_find_attach_points(struct policy *policy)
{
	const unsigned int sidecar = POLICY_HOOKS_BOTH | POLICY_HOOKS_SIDECAR;
	const struct config *config = policy->config;
	int r = 0;

	for (size_t i = 0; !r && i < config->n_meshes; i++) {
		const struct config_mesh *mesh = &config->meshes[i];
		/* Who is not told apart by cgroup may be in the same ones. */
		unsigned int member = POLICY_HOOKS_MEMBER | POLICY_HOOKS_BOTH |
				      (mesh->sidecar_cgroups.n ? 0 : POLICY_HOOKS_SIDECAR);

		r = policy_add_attach_points(&policy->attach, &mesh->cgroups, member);
		if (!r)
			r = policy_add_attach_points(&policy->attach, &mesh->sidecar_cgroups,
						     sidecar);
	}
	if (!r)
		policy_narrow_attach_points(&policy->attach);
	return r;
}

int policy_new(const struct config *config, unsigned int first_slot, struct policy **ret)
{
	struct policy *policy = calloc(1, sizeof(*policy));
	int r = 0;

	if (!policy)
		return -ENOMEM;
	*policy = (struct policy){
		.config = config,
		.first_slot = first_slot,
		.meshes = TABLE_INIT(__u32, struct shunt_mesh),
		.cidrs = TABLE_INIT(struct shunt_cidr_key, __u32),
		.owners = TABLE_INIT(struct shunt_owner_key, __u32),
	};
	for (size_t i = 0; !r && i < config->n_meshes; i++)
		r = policy_add_rules(policy, first_slot + i, &config->meshes[i]);
	r = r ?: policy_find_attach_points(policy);
	r = r ?: policy_find_watch(policy);
	table_sort(&policy->meshes);
	table_sort(&policy->cidrs);
	table_sort(&policy->owners);
	if (!r && policy->cidrs.n + policy->owners.n > config->limit_rules)
		r = -E2BIG;
	if (r) {
		policy_free(policy);
		return r;
	}
	*ret = policy;
	return 0;
}

void policy_set_row(struct policy *policy, size_t mesh, unsigned int row)
{
	const __u32 slot = policy->first_slot + mesh;

	((struct shunt_mesh *)table_find(&policy->meshes, &slot))->row = row;
}

struct policy *policy_free(struct policy *policy)
{
	if (!policy)
		return NULL;
	table_deinit(&policy->meshes);
	table_deinit(&policy->cidrs);
	table_deinit(&policy->owners);
	for (size_t i = 0; i < policy->attach.n; i++)
		free(policy->attach.items[i].path);
	free(policy->attach.items);
	free(policy->watch);
	free(policy);
	return NULL;
}

/* The glob of @globs that says yes to @path; *@ret_out: the one that takes it out again. */
static const struct config_glob *policy_match_globs(const struct config_globs *globs,
						    const char *path,
						    const struct config_glob **ret_out)
{
	const struct config_glob *found = NULL;

	*ret_out = NULL;
	for (size_t i = 0; i < globs->n; i++) {
		const struct config_glob *glob = &globs->items[i];

		if (!glob_match(glob->pattern, path))
			continue;
		if (glob->negated)
			*ret_out = glob;
		else if (!found)
			found = glob;
	}
	return *ret_out ? NULL : found;
}

/* What @mesh itself says of @path: a role, or NONE with the rule that took it out, or nothing. */
static enum shunt_role policy_match_mesh(const struct config_mesh *mesh, const char *path,
					 const struct config_glob **ret_rule)
{
	const struct config_glob *rule, *sidecar_out, *out;

	rule = policy_match_globs(&mesh->sidecar_cgroups, path, &sidecar_out);
	if (rule) {
		*ret_rule = rule;
		return SHUNT_ROLE_SIDECAR;
	}
	rule = policy_match_globs(&mesh->cgroups, path, &out);
	if (rule) {
		*ret_rule = rule;
		return SHUNT_ROLE_MEMBER;
	}
	*ret_rule = out ?: sidecar_out;
	return SHUNT_ROLE_NONE;
}

void policy_classify(const struct policy *policy, const char *path,
		     const struct policy_match *parent, struct policy_match *ret)
{
	const struct config *config = policy->config;
	struct policy_match match = {};

	for (size_t i = 0; i < config->n_meshes; i++) {
		const struct config_mesh *mesh = &config->meshes[i];
		const struct config_glob *rule;
		enum shunt_role role = policy_match_mesh(mesh, path, &rule);

		if (role == SHUNT_ROLE_NONE) {
			/* Taken out of the mesh that it would otherwise inherit. */
			if (rule && !match.mesh && parent && parent->mesh == mesh)
				match.rule = rule;
			continue;
		}
		if (match.mesh) {
			match.rival = match.rival ?: mesh;
			continue;
		}
		match.mesh = mesh;
		match.rule = rule;
		match.entry.mesh = policy->first_slot + i;
		match.entry.role = role;
	}
	if (!match.rule && parent) {
		match = *parent;
		match.rival = NULL;
	}
	*ret = match;
}

const char *policy_rule_key(const struct config_mesh *mesh, const struct config_glob *rule)
{
	const struct config_globs *sidecars = &mesh->sidecar_cgroups;

	for (size_t i = 0; i < sidecars->n; i++)
		if (rule == &sidecars->items[i])
			return "sidecar_cgroups";
	return "cgroups";
}
