/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The entries of cgroups, all together: compared with what there should be. One by one enrol.c
 * writes them as cgroups come and go. */
#pragma once

#include "cgroup.h"
#include "maps.h"

/* A table that maps_read() fills with them. */
#define ENROL_ENTRIES_INIT TABLE_INIT(uint64_t, struct shunt_cgroup)

/* Removes those of cgroups that are in @tree no more, such as went while no agent was there. 0 or
 * negative errno. */
int enrol_entries_remove_stale(const struct maps *maps, struct cgroup_tree *tree);
/* Makes them what they were when @before was read; what fails is logged. */
void enrol_entries_restore(const struct maps *maps, const struct table *before);
