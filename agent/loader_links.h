/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The links by which hooks are attached to cgroups, each with its pin: made, taken over from an
 * earlier agent, given back, removed. Private to loader*.c; loader.h says in which order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOADER_LINKS_PROGRAMS 12

struct bpf_object;
struct bpf_program;
struct loader_link;
struct loader_replaced;

struct loader_links {
	int dir; /* open: there the pins are, whatever is mounted over pin_dir by now; or -1 */
	struct bpf_program *programs[LOADER_LINKS_PROGRAMS]; /* of this very process */
	struct loader_link *items;
	size_t n;
	struct loader_replaced *replaced;
	size_t n_replaced;
	bool committed;
};

/* Notes which links an earlier agent left in .dir, which is taken. 0 or negative errno. */
int loader_links_find(struct loader_links *links);
/* Lets go of them; what is pinned stays in force. */
void loader_links_deinit(struct loader_links *links);
/* From now on it is the programs of @object, which is loaded and outlives @links, that are put in.
 */
void loader_links_use(struct loader_links *links, const struct bpf_object *object);

/* These are what loader.h says of the functions of their names. */
int loader_links_attach(struct loader_links *links, const char *path, uint64_t cgroup,
			unsigned int hooks);
int loader_links_renew(struct loader_links *links);
void loader_links_commit(struct loader_links *links);
void loader_links_revert(struct loader_links *links);
int loader_links_detach(struct loader_links *links, uint64_t cgroup, unsigned int hooks);
int loader_links_prune(struct loader_links *links, bool (*keep)(void *user, uint64_t cgroup),
		       void *user);
void loader_links_each(const struct loader_links *links,
		       void (*visit)(void *user, uint64_t cgroup, const char *program), void *user);

/* Has nobody removed a pin? */
bool loader_links_are_pinned(const struct loader_links *links);
/* Pins them in @dir, which is taken on success, unless they are there. What was taken out with its
 * pin is forgotten. 0 or negative errno. */
int loader_links_repin(struct loader_links *links, int dir);
