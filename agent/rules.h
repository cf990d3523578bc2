/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules of a policy in the maps. They stand under the slots of its meshes, so those of another
 * policy can be beside them.
 */
#pragma once

#include <stdbool.h>

#include "maps.h"
#include "policy.h"

/* The first of a set of mesh slots that no cgroup refers to, and no hook looks at any more; waits
 * for the hooks. Those after the slots of @before (NULL: none), which is in force, come first:
 * connections are told by the slots that they were redirected by. */
int rules_find_slots(const struct maps *maps, const struct policy *before, unsigned int *ret);
int rules_write(const struct maps *maps, const struct policy *policy);
/* Removes the rules of the set of slots that begins at @first_slot, or all others. */
int rules_remove(const struct maps *maps, unsigned int first_slot, bool inside);
