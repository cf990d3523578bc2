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
		config_draft_error(
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

/* Does @mesh take out what @pattern matches? The pattern is looked at as if it were a path. */
static bool takes_out(const struct config_mesh *mesh, const char *pattern)
{
	for (size_t i = 0; i < mesh->cgroups.n; i++) {
		const struct config_glob *glob = &mesh->cgroups.items[i];

		if (glob->negated && glob_match(glob->pattern, pattern))
			return true;
	}
	return false;
}

/* The first of @earlier's patterns that may claim what @glob of @later does; NULL: none. */
static const struct config_glob *find_overlap(const struct config_mesh *earlier,
					      const struct config_mesh *later,
					      const struct config_glob *glob)
{
	for (size_t i = 0; i < earlier->cgroups.n; i++) {
		const struct config_glob *other = &earlier->cgroups.items[i];

		if (!other->negated && !takes_out(later, other->pattern) &&
		    glob_overlap(other->pattern, glob->pattern))
			return other;
	}
	return NULL;
}

static void warn_of_overlaps(struct config_draft *draft, const struct config_mesh *earlier,
			     const struct config_mesh *later)
{
	for (size_t i = 0; i < later->cgroups.n; i++) {
		const struct config_glob *glob = &later->cgroups.items[i], *other;

		if (glob->negated || takes_out(earlier, glob->pattern))
			continue;
		other = find_overlap(earlier, later, glob);
		if (other)
			config_draft_warning(
				draft, glob->line,
				"mesh %s: '%s' may claim cgroups that mesh %s (line %u) claims; the first in the file wins",
				later->name, glob->pattern, earlier->name, other->line);
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
			warn_of_overlaps(draft, &config->meshes[earlier], &config->meshes[later]);
}
