/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which row of shunt_stats counts for which mesh. A name keeps its row through reloads, restarts
 * and upgrades of the agent, and after its mesh has gone: what is counted never goes back.
 */
#pragma once

#include "maps.h"
#include "policy.h"

/* Gives each mesh of @policy its row. Where none is left a mesh has row 0, that of no mesh:
 * *@ret_without counts these. */
int stats_assign(const struct maps *maps, struct policy *policy, unsigned int *ret_without);

/* Every row in use, told one by one; @mesh: "" for row 0. Ends at the first negative errno. */
int stats_each(const struct maps *maps,
	       int (*visit)(void *user, const char *mesh, const struct shunt_stats *stats),
	       void *user);
