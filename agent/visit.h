/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Visits to the sockets of other processes: each is borrowed for an instant, and what is to be done
 * to it is done under its lock by the kernel half, or to the sockhash by the agent in between.
 * docs/SPLICING.md.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "loader_visit.h"
#include "maps.h"

struct visit;

/* All are borrowed. Takes SIGRTMIN. 0 or negative errno. */
int visit_new(const struct loader_visit *kernel, const struct maps *maps, struct visit **ret);
struct visit *visit_free(struct visit *visit); /* NULL-safe; returns NULL */

/* The cgroup tree that cgroups' numbers are of: any directory of it. Unless it is set, sockets are
 * visited whose cgroup visit_attach() was called for, and no others. 0 or negative errno. */
int visit_set_root(struct visit *visit, const char *cgroup_root);
/* Lets the sockets of a cgroup, given by its open directory, be visited until visit_free(). 0 or
 * negative errno. */
int visit_attach(struct visit *visit, uint64_t cgroup, int fd);

struct visit_result {
	/* Called for each process with a socket that could not be finished with. */
	void (*again)(void *user, uint32_t pid);
	void *user;
	bool soon;     /* some can be finished with at any moment */
	bool later;    /* some may be let in one day, or taken out when they were read */
	bool stranded; /* some are to be visited when they were read, and nothing but that tells */
};

/*
 * Passes by the sockets of the process @pid, or of all for 0, and visits those that something is to
 * be done to. @everybody: as for loader_visit_walk(). Fills .soon, .later and .stranded. 0 or
 * negative errno.
 */
int visit_walk(struct visit *visit, uint32_t pid, bool everybody, struct visit_result *result);

/* Takes the programs out of cgroups where there was nobody to visit since this was called last, or
 * of @all that visit_attach() was not called for. */
void visit_rest(struct visit *visit, bool all);
