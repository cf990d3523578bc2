/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs that splice once more, with maps of their own: what is tried with them touches no
 * connection, no counter and no policy of the others. Nothing is pinned, so all of it goes with the
 * agent, however that ends.
 */
#pragma once

#include "loader_visit.h"
#include "maps.h"

struct loader_trial;

/* Loads them and attaches them to one cgroup, given by its open directory. 0 or negative errno. */
int loader_trial_new(int cgroup, struct loader_trial **ret);
struct loader_trial *loader_trial_free(struct loader_trial *trial); /* NULL-safe; returns NULL */

/* Of these maps there are .cgroups, .ends, .meshes (slot 0 alone), .pairs and .programs. */
const struct maps *loader_trial_maps(const struct loader_trial *trial);
/* shunt_listeners, for maps_read(). */
int loader_trial_listeners(const struct loader_trial *trial);
/* The entry of shunt_control itself. */
volatile struct shunt_control *loader_trial_control(struct loader_trial *trial);
/* As loader_visits() and loader_open_scan(). */
const struct loader_visit *loader_trial_visits(const struct loader_trial *trial);
int loader_trial_open_scan(const struct loader_trial *trial);
