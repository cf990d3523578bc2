/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs, maps and links in the kernel, and their pins. What is pinned outlives the agent: the
 * hooks go on with the policy that they have, and the next agent adopts it. loader_pins.h says
 * where what is.
 *
 * The agent may be killed between any two of these steps, and the next one begins with the first:
 *   1. loader_new()     loads; whatever is attached stays as it is
 *   2. loader_attach()  makes the links that are missing, and puts our programs into those of hooks
 *                       that only answer
 *   3. the caller       completes the maps
 *   4. loader_renew()   puts our programs into the links of hooks that redirect
 *   5. loader_commit()  makes the maps those that the next agent finds
 * At each of them every link that redirects has a program with complete maps.
 */
#pragma once

#include <stdbool.h>

#include "loader_pins.h"
#include "loader_visit.h"
#include "maps.h"
#include "policy.h"

struct loader;

struct loader_options {
	const char *pin_dir;
	uint32_t flows;
	uint32_t cgroups;
	uint32_t rules;
};

/*
 * Loads the programs, with the maps that are pinned already as far as they fit. Nothing is attached
 * or replaced yet: the maps have to be right first. Returns 0, negative errno, or enum
 * loader_error.
 */
int loader_new(const struct loader_options *options, struct loader **ret);
/* Lets go of everything; what is pinned stays in force. */
struct loader *loader_free(struct loader *loader);

const struct maps *loader_maps(const struct loader *loader);
/* Was what was pinned as shunt_pairs damaged, and made anew? */
bool loader_pairs_replaced(const struct loader *loader);
/* How many connections can be spliced at a time; an earlier agent's while its maps are kept. */
uint32_t loader_flows(const struct loader *loader);

/*
 * Attaches what @hooks (enum policy_hooks) stands for to the cgroup at @path, a directory, with the
 * given id; takes over links that are there. On failure what was attached by this call is taken
 * out.
 */
int loader_attach(struct loader *loader, const char *path, uint64_t cgroup, unsigned int hooks);
/* The links that loader_attach() has put off. 0 or negative errno: some have the program before. */
int loader_renew(struct loader *loader);
/* What is attached is now what is to be found; only the first call does something. Programs of
 * other versions that redirected do so no more. 0 or negative errno. */
int loader_commit(struct loader *loader);
/* Instead of loader_commit(): every link gets the program back that it had, and those that were
 * made go. */
void loader_revert(struct loader *loader);
/* Takes out other versions that nobody needs any more. Both return how many are left. */
size_t loader_drain(struct loader *loader);
size_t loader_drains(const struct loader *loader);
/* Takes out the programs of this cgroup that @hooks does not stand for. 0 for all. On failure goes
 * on with the others; what could not be taken out can be tried again. */
int loader_detach(struct loader *loader, uint64_t cgroup, unsigned int hooks);
/* Takes out all links of cgroups that @keep says no to. */
int loader_prune(struct loader *loader, bool (*keep)(void *user, uint64_t cgroup), void *user);
/* Takes out everything and removes every pin, and pin_dir if it is empty then. */
int loader_remove_all(struct loader *loader);

/* Are the pins where pin_dir leads? Not if its file system was unmounted, something was mounted
 * over it, or they were removed. What is unmounted stays in force as long as this agent runs. */
bool loader_has_pins(const struct loader *loader);
/* Pins everything once more where pin_dir leads now. Returns as loader_new(); then the pins before
 * are used still. */
int loader_repin(struct loader *loader);

/* NULL, or why there are no programs that splice. */
const char *loader_cannot_splice(const struct loader *loader);
/* What visits sockets, as long as the loader is there. */
const struct loader_visit *loader_visits(const struct loader *loader);
/* A scan (bpf/scan.bpf.c) of all open files, for listeners, or for connections too (@everything):
 * an fd to read to its end before the next is opened, which the caller closes; or -errno. */
int loader_open_scan(const struct loader *loader, bool everything);
/* Attaches the program that watches readers, until the second. The first returns 0 or -errno. */
int loader_watch_reads(struct loader *loader);
void loader_unwatch_reads(struct loader *loader);
/* All pairs, struct shunt_flow, or the users of all TCP sockets, struct shunt_user, one after the
 * other (bpf/flows.bpf.c): an fd to read, which the caller closes; or -errno. */
int loader_open_flows(const struct loader *loader);
int loader_open_users(const struct loader *loader);

/* Was something attached by an earlier agent? */
bool loader_adopted(const struct loader *loader);
/* Calls @visit for each link in force. */
void loader_each_link(struct loader *loader,
		      void (*visit)(void *user, uint64_t cgroup, const char *program), void *user);
