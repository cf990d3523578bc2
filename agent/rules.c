/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules of a policy in the maps, in a set of mesh slots.
 * Reads from: policy, maps.
 * Writes to: maps.
 */
#include "rules.h"

#include <arpa/inet.h>
#include <errno.h>

#include "log.h"

int rules_find_slots(const struct maps *maps, const struct policy *before, unsigned int *ret)
{
	unsigned int now = before ? before->first_slot : 0;
	int r = maps_find_slots(maps->cgroups, now, ret);

	if (r == -ENOSPC)
		return log_errno(
			r,
			"some cgroups have the rules of earlier configurations still; try again, or start the agent again");
	return r ?: maps_wait_for_hooks();
}

static unsigned int rules_cidr_slot(const void *key)
{
	return ntohl(((const struct shunt_cidr_key *)key)->scope) >> 1;
}

static unsigned int rules_owner_slot(const void *key)
{
	return ((const struct shunt_owner_key *)key)->mesh;
}

static int rules_remove_rows(int map, struct table *have, unsigned int (*slot_of)(const void *key),
			     unsigned int first_slot, bool inside)
{
	struct table del = {.key_size = have->key_size, .value_size = have->value_size};
	int r = maps_read(map, have);

	for (size_t i = 0; !r && i < have->n; i++)
		if ((slot_of(table_key(have, i)) - first_slot < SHUNT_MESHES_MAX) == inside)
			r = table_add(&del, table_key(have, i), table_value(have, i));
	r = r ?: maps_remove(map, &del);
	table_deinit(&del);
	table_deinit(have);
	return r;
}

int rules_remove(const struct maps *maps, unsigned int first_slot, bool inside)
{
	struct table cidrs = TABLE_INIT(struct shunt_cidr_key, __u32);
	struct table owners = TABLE_INIT(struct shunt_owner_key, __u32);
	int r;

	r = rules_remove_rows(maps->cidrs, &cidrs, rules_cidr_slot, first_slot, inside);
	return r ?: rules_remove_rows(maps->owners, &owners, rules_owner_slot, first_slot, inside);
}

int rules_write(const struct maps *maps, const struct policy *policy)
{
	return maps_write(maps->meshes, &policy->meshes) ?:
	       maps_write(maps->cidrs, &policy->cidrs) ?:
	       maps_write(maps->owners, &policy->owners);
}
