/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a configuration means: the rules that belong into the maps, where programs have to be
 * attached, and what a cgroup is enrolled as. Pure: touches no file descriptor.
 */
#pragma once

#include "config.h"
#include "util/table.h"

/* Programs by what they are attached for; loader_links.c knows which hooks these are. */
enum policy_hooks {
	POLICY_HOOKS_MEMBER = 1 << 0,  /* for redirected programs alone */
	POLICY_HOOKS_BOTH = 1 << 1,    /* for these and for sidecars */
	POLICY_HOOKS_SIDECAR = 1 << 2, /* for sidecars alone */
};

struct policy_attach_point {
	char *path;	    /* of a cgroup, below the cgroup root */
	unsigned int hooks; /* enum policy_hooks; none that an ancestor in the list has */
};

struct policy_attach_points {
	struct policy_attach_point *items;
	size_t n;
};

/* How a cgroup came to be what it is. */
struct policy_match {
	struct shunt_cgroup entry;	 /* what belongs into the map */
	const struct config_mesh *mesh;	 /* NULL: none */
	const struct config_glob *rule;	 /* that decided; NULL: none did */
	const struct config_mesh *rival; /* a later mesh that claims it too; NULL: none */
};

struct policy {
	const struct config *config;
	unsigned int first_slot; /* mesh i of the file is in slot first_slot + i */
	struct table meshes;	 /* __u32 -> struct shunt_mesh */
	struct table cidrs;	 /* struct shunt_cidr_key -> __u32, a line of the file */
	struct table owners;	 /* struct shunt_owner_key -> __u32, a line of the file */
	struct policy_attach_points attach;
	char **watch; /* paths below which cgroups are of interest, none inside another */
	size_t n_watch;
};

/*
 * @config is borrowed for as long as the policy lives. 0; -ENOMEM; -E2BIG if there are more rules
 * than limits.rules.
 */
int policy_new(const struct config *config, unsigned int first_slot, struct policy **ret);
/* Where mesh @mesh of the file counts, a row of shunt_stats; 0 until it is said. */
void policy_set_row(struct policy *policy, size_t mesh, unsigned int row);
struct policy *policy_free(struct policy *policy);

/* @parent: what the parent cgroup is, NULL at the top of a watched subtree. */
void policy_classify(const struct policy *policy, const char *path,
		     const struct policy_match *parent, struct policy_match *ret);

/* The key of the configuration that @rule stands under: "cgroups" or "sidecar_cgroups". */
const char *policy_rule_key(const struct config_mesh *mesh, const struct config_glob *rule);
