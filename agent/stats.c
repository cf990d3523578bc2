/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which row of shunt_stats counts for which mesh.
 * Reads from: shunt_rows, shunt_stats.
 * Writes to: shunt_rows, the policy.
 */
#include "stats.h"

#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(((struct shunt_row *)NULL)->mesh) > CONFIG_MESH_NAME_MAX, "names fit");

/* Its row, or a new one, or 0 if there is none left. */
static int stats_find_row(const struct maps *maps, const char *mesh, uint32_t *ret)
{
	struct shunt_row row = {};
	int r;

	*ret = 0;
	for (uint32_t i = 1; i < SHUNT_STATS_ROWS; i++) {
		r = maps_read_row(maps, i, &row);
		if (r)
			return r;
		if (!*row.mesh) {
			snprintf(row.mesh, sizeof(row.mesh), "%s", mesh);
			*ret = i;
			return maps_put_row(maps, i, &row);
		}
		if (!strcmp(row.mesh, mesh)) {
			*ret = i;
			return 0;
		}
	}
	return 0;
}

int stats_assign(const struct maps *maps, struct policy *policy, unsigned int *ret_without)
{
	int r = 0;

	*ret_without = 0;
	for (size_t i = 0; !r && i < policy->config->n_meshes; i++) {
		uint32_t row;

		r = stats_find_row(maps, policy->config->meshes[i].name, &row);
		if (r)
			break;
		policy_set_row(policy, i, row);
		*ret_without += !row;
	}
	return r;
}

int stats_each(const struct maps *maps,
	       int (*visit)(void *user, const char *mesh, const struct shunt_stats *stats),
	       void *user)
{
	struct shunt_stats stats;
	struct shunt_row row = {};
	int r = 0;

	for (uint32_t i = 0; !r && i < SHUNT_STATS_ROWS; i++) {
		r = i ? maps_read_row(maps, i, &row) : 0;
		if (r || (i && !*row.mesh))
			break;
		r = maps_read_stats(maps, i, &stats) ?: visit(user, row.mesh, &stats);
	}
	return r;
}
