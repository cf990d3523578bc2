/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps map entries and attachments in step with the cgroups that there are: what the policy says
 * of each is written as it comes, and removed as it goes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "cgroup.h"
#include "loader.h"
#include "policy.h"

struct enrol;

/* One cgroup, as the kernel half sees it. */
struct enrol_member {
	struct policy_match match;
	bool changed; /* … and its entry is to be written */
	bool in_map;  /* false: shunt_cgroups is full, or the kernel refused */
};

struct enrol_totals {
	size_t known;
	size_t members;
	size_t sidecars;
	size_t missing; /* known, and not in the map */
};

/* @root: the cgroup root of the configuration, or the mount. @loader: NULL if others do what the
 * policy says; then cgroups are only classified. All are borrowed. */
int enrol_new(uv_loop_t *loop, const char *root, struct loader *loader, struct enrol **ret);
/* Leaves maps and links as they are. Handles are closed in later turns of the loop. */
void enrol_close(struct enrol *enrol);

/*
 * Makes @policy the one in force: first the attachments that it needs, then every cgroup's entry.
 * On failure the policy before (if any) is in force again. @policy is borrowed until the next call
 * succeeds. What was attached for the policy before stays until enrol_detach_unwanted().
 */
int enrol_set_policy(struct enrol *enrol, const struct policy *policy);
void enrol_detach_unwanted(struct enrol *enrol);
/* From now on nobody is redirected; the programs that answer for earlier connections stay. */
void enrol_stop(struct enrol *enrol);

/* Calls @changed whenever a cgroup came or went, but for those in enrol_set_policy(). */
void enrol_on_change(struct enrol *enrol, void (*changed)(void *user), void *user);
/* Logs @format and keeps it for `shuntctl status` until the next policy; once. */
__attribute__((format(printf, 2, 3))) void enrol_warn(struct enrol *enrol, const char *format, ...);

struct enrol_totals enrol_totals(const struct enrol *enrol);

/* The cgroup at @path, after looking at the tree once more; NULL if it is not watched. */
const struct cgroup_node *enrol_find(struct enrol *enrol, const char *path);
/*
 * The same for one that need not exist: what it would be. *@ret_covered: programs are attached at
 * it or above. 0 or -ENOMEM.
 */
int enrol_classify(struct enrol *enrol, const char *path, bool *ret_covered,
		   struct policy_match *ret);
/* NULL: there was no memory for it, and it is tried again. */
const struct enrol_member *enrol_member(const struct cgroup_node *node);
void enrol_each(struct enrol *enrol, void (*visit)(void *user, struct cgroup_node *node),
		void *user);

/* Facts for the operator that hold now; what failed is tried again until it succeeds.
 * NULL-terminated; borrowed until the next event. */
const char *const *enrol_warnings(const struct enrol *enrol);
