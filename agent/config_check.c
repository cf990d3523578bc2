/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What only a whole mesh, or the whole configuration, can show to be wrong.
 * Reads from: what config_section.c and config_value.c put together.
 * Writes to: problems of the draft.
 */
#include <string.h>

#include "config_draft.h"
#include "util/glob.h"

/* Without a pattern that takes in, one that takes out again says nothing. */
static void check_globs(struct config_draft *draft, const struct config_globs *globs,
			enum config_mesh_key index, const char *key)
{
	const struct config_given *given = &draft->given[index];

	/* A wrong one may have been meant to take in. */
	if (!given->n || globs->n < given->n)
		return;
	for (size_t i = 0; i < globs->n; i++)
		if (!globs->items[i].negated)
			return;
	config_draft_error(draft, given->line,
			   "%s: only patterns with '!', and nothing that they could take out of",
			   key);
}

static void check_redirects(struct config_draft *draft, const struct config_mesh *mesh)
{
	const struct config_given *given = draft->given;

	if (given[CONFIG_MESH_TCP_REDIRECT].n || given[CONFIG_MESH_DNS_REDIRECT].n)
		return;
	if (mesh->splice == SHUNT_SCOPE_OFF)
		config_draft_error(
			draft, mesh->line,
			"mesh %s: neither tcp_redirect nor dns_redirect, and splice = off: nothing would be done",
			mesh->name);
	else if (!given[CONFIG_MESH_SPLICE].n)
		config_draft_warning(
			draft, mesh->line,
			"mesh %s: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar",
			mesh->name);
}

static void check_sidecar(struct config_draft *draft, const struct config_mesh *mesh)
{
	const struct config_given *given = draft->given;

	if (given[CONFIG_MESH_SIDECAR_CGROUPS].n || given[CONFIG_MESH_SIDECAR_UIDS].n ||
	    given[CONFIG_MESH_SIDECAR_GIDS].n)
		return;
	if (given[CONFIG_MESH_TCP_REDIRECT].n || given[CONFIG_MESH_DNS_REDIRECT].n)
		config_draft_error(
			draft, mesh->line,
			"mesh %s: nothing says who the sidecar is: its own connections would be redirected to itself; give sidecar_cgroups, sidecar_uids or sidecar_gids",
			mesh->name);
	else if (mesh->splice == SHUNT_SCOPE_SIDECAR)
		config_draft_error(
			draft, mesh->line,
			"mesh %s: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids",
			mesh->name);
}

void config_check_mesh(struct config_draft *draft, const struct config_mesh *mesh)
{
	const struct config_given *given = draft->given;

	if (!given[CONFIG_MESH_CGROUPS].n)
		config_draft_error(draft, mesh->line,
				   "mesh %s: no cgroups: nothing is enrolled in it", mesh->name);
	check_redirects(draft, mesh);
	check_sidecar(draft, mesh);
	check_globs(draft, &mesh->cgroups, CONFIG_MESH_CGROUPS, "cgroups");
	check_globs(draft, &mesh->sidecar_cgroups, CONFIG_MESH_SIDECAR_CGROUPS, "sidecar_cgroups");
}

/* How sure it is that two meshes claim one cgroup. */
enum claim { CLAIM_NONE, CLAIM_PERHAPS, CLAIM_BOTH };

static bool is_literal(const char *pattern)
{
	return !pattern[strcspn(pattern, "*?")];
}

/* What is left of the claim of both on what @pattern and @other match after what @mesh takes out.
 * Where that is a part of it, nothing is told of the rest. */
static enum claim claim_left(const struct config_mesh *mesh, const char *pattern, const char *other)
{
	enum claim left = CLAIM_BOTH;

	for (size_t i = 0; i < mesh->cgroups.n; i++) {
		const struct config_glob *glob = &mesh->cgroups.items[i];

		if (!glob->negated)
			continue;
		if (!strcmp(glob->pattern, other) ||
		    (is_literal(other) && glob_match(glob->pattern, other)))
			return CLAIM_NONE;
		if (glob_overlap(glob->pattern, other) && glob_overlap(glob->pattern, pattern))
			left = CLAIM_PERHAPS;
	}
	return left;
}

/* The first of @earlier's patterns that claims most surely what @glob of @later does. */
static enum claim find_overlap(const struct config_mesh *earlier, const struct config_mesh *later,
			       const struct config_glob *glob, const struct config_glob **ret)
{
	enum claim found = CLAIM_NONE;

	for (size_t i = 0; i < earlier->cgroups.n; i++) {
		const struct config_glob *other = &earlier->cgroups.items[i];
		enum claim ours, theirs, both;

		if (other->negated || !glob_overlap(other->pattern, glob->pattern))
			continue;
		ours = claim_left(later, glob->pattern, other->pattern);
		theirs = claim_left(earlier, other->pattern, glob->pattern);
		both = ours < theirs ? ours : theirs;
		if (both > found) {
			found = both;
			*ret = other;
		}
	}
	return found;
}

static void check_overlaps(struct config_draft *draft, const struct config_mesh *earlier,
			   const struct config_mesh *later)
{
	for (size_t i = 0; i < later->cgroups.n; i++) {
		const struct config_glob *glob = &later->cgroups.items[i], *other = NULL;
		enum claim claim;

		if (glob->negated)
			continue;
		claim = find_overlap(earlier, later, glob, &other);
		if (claim == CLAIM_NONE)
			continue;
		config_draft_warning(
			draft, glob->line,
			"mesh %s: '%s' %s cgroups that mesh %s (line %u) claims; the first in the file wins",
			later->name, glob->pattern, claim == CLAIM_BOTH ? "claims" : "may claim",
			earlier->name, other->line);
	}
}

void config_check_file(struct config_draft *draft)
{
	const struct config *config = draft->config;

	if (!config->n_meshes)
		config_draft_error(
			draft, draft->line + !draft->line,
			"the file ends without a [mesh NAME]: nothing would be redirected");

	for (size_t later = 1; later < config->n_meshes; later++)
		for (size_t earlier = 0; earlier < later; earlier++)
			check_overlaps(draft, &config->meshes[earlier], &config->meshes[later]);
}
