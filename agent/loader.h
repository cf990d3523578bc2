/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs, maps and links in the kernel, and their pins. What is pinned outlives the agent: the
 * hooks go on with the policy that they have, and the next agent adopts it.
 *
 *   pin_dir/maps/NAME              shared by every generation of the programs
 *   pin_dir/links/CGROUP-PROGRAM   CGROUP: the cgroup's id
 */
#pragma once

#include <stdbool.h>

#include "maps.h"
#include "policy.h"

struct loader;

struct loader_options {
	const char *pin_dir;
	uint32_t flows;
	uint32_t cgroups;
	uint32_t rules;
};

enum loader_error {
	LOADER_E_BUSY = 1,  /* another agent has pin_dir */
	LOADER_E_NOT_BPFFS, /* pin_dir is not on a bpf file system, and none could be mounted */
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
/* Names of pinned maps that did not fit and were replaced by empty ones; ends with NULL. */
const char *const *loader_replaced_maps(const struct loader *loader);
/* Are those with the policy among them? They are replaced together. */
bool loader_policy_replaced(const struct loader *loader);

/*
 * Attaches what @hooks (enum policy_hooks) stands for to the cgroup at @path, a directory, with the
 * given id; takes over links that are there. On failure what was attached by this call is taken
 * out.
 */
int loader_attach(struct loader *loader, const char *path, uint64_t cgroup, unsigned int hooks);
/* Takes out the programs of this cgroup that @hooks does not stand for. 0 for all. On failure goes
 * on with the others; what could not be taken out can be tried again. */
int loader_detach(struct loader *loader, uint64_t cgroup, unsigned int hooks);
/* Takes out all links of cgroups that @keep says no to. */
int loader_prune(struct loader *loader, bool (*keep)(void *user, uint64_t cgroup), void *user);
/* Takes out everything and removes every pin, and pin_dir if it is empty then. */
int loader_remove_all(struct loader *loader);

/* The same for who cannot load programs: what an earlier agent has pinned in @pin_dir, if anything.
 * 0; -EBUSY: another agent has it; or another negative errno. */
int loader_remove_pins(const char *pin_dir);

/* Are the pins where pin_dir leads? Not if its file system was unmounted, something was mounted
 * over it, or they were removed. What is unmounted stays in force as long as this agent runs. */
bool loader_has_pins(const struct loader *loader);
/* Pins everything once more where pin_dir leads now. Returns as loader_new(); then the pins before
 * are used still. */
int loader_repin(struct loader *loader);

/* Could the programs that splice be loaded? */
bool loader_can_splice(const struct loader *loader);
/* A walk (bpf/walk.bpf.c) over the TCP sockets of the network namespace that the caller is in, or a
 * scan (bpf/scan.bpf.c) of all open files: an fd to read, which the caller closes; or -errno. */
int loader_open_walk(const struct loader *loader);
int loader_open_scan(const struct loader *loader);
/* Attaches the program that watches readers, until the second. The first returns 0 or -errno. */
int loader_watch_reads(struct loader *loader);
void loader_unwatch_reads(struct loader *loader);
/* All pairs, struct shunt_flow, or the users of all TCP sockets, struct shunt_user, one after the
 * other (bpf/flows.bpf.c): an fd to read, which the caller closes; or -errno. */
int loader_open_flows(const struct loader *loader);
int loader_open_users(const struct loader *loader);

bool loader_has_links(const struct loader *loader);
/* Calls @visit for each link in force. */
void loader_each_link(struct loader *loader,
		      void (*visit)(void *user, uint64_t cgroup, const char *program), void *user);
