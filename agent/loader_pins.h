/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The directories of pin_dir, and what other versions left there.
 *
 *   pin_dir/vN/links/CGROUP-HOOK   CGROUP: the cgroup's id; HOOK: as in loader_links.c
 *   pin_dir/vN/policy/MAP          what the agent writes: rules, and who is enrolled
 *   pin_dir/vN/policy-next/MAP     the same, while an agent fills them that has to make them anew
 *   pin_dir/vN/maps/MAP            what the kernel half keeps of sockets and connections
 *
 * N is SHUNT_ABI_VERSION. Programs of one ABI share maps, whichever build they come from; two ABIs
 * never do. abi.h tells what each version may rely on in the directory of another.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define LOADER_PINS_LINKS  "links"
#define LOADER_PINS_POLICY "policy"
#define LOADER_PINS_NEXT   "policy-next"
#define LOADER_PINS_MAPS   "maps"

#define LOADER_PINS_OTHERS_MAX 16

enum loader_error {
	LOADER_E_BUSY = 1,  /* another agent has pin_dir */
	LOADER_E_NOT_BPFFS, /* pin_dir is not on a bpf file system, and none could be mounted */
	LOADER_E_FOREIGN,   /* pin_dir is or holds what is not Shunt's; which has been logged */
};

struct loader_pins {
	char *path;				     /* pin_dir … */
	int dir;				     /* … open and locked: one agent at a time */
	char *own;				     /* the directory of this version's ABI */
	bool made;				     /* it was not there before */
	unsigned int others[LOADER_PINS_OTHERS_MAX]; /* ABIs */
	size_t n_others;
};

/* Makes and locks pin_dir. 0, negative errno, or enum loader_error. -EROFS: it is on a bpf file
 * system that is mounted read-only. */
int loader_pins_open(struct loader_pins *pins, const char *path);
void loader_pins_close(struct loader_pins *pins);

/* Is this where .path leads? Not if something was mounted over it, or it was removed. */
bool loader_pins_lead_there(const struct loader_pins *pins);
/* As loader_pins_open(), of where the path of @pins leads now; which may be the same. */
int loader_pins_reopen(const struct loader_pins *pins, struct loader_pins *ret);

/* The pin of a map, in DIRECTORY below .own; the caller frees it. NULL: no memory. */
char *loader_pins_map(const struct loader_pins *pins, const char *directory, const char *map);

/* An fd of the map or link that is pinned at @path; or negative errno. -EACCES: something else is
 * there. */
int loader_pins_open_map(const char *path);
int loader_pins_open_link(const char *path);
/* The same of a map that version @abi has pinned under @name, below its directory. */
int loader_pins_get(const struct loader_pins *pins, unsigned int abi, const char *name);
/* Makes a directory below .own; what else is there under its name goes. 0 or negative errno. */
int loader_pins_make(const struct loader_pins *pins, const char *directory);
/* Opens one. 0 or negative errno. */
int loader_pins_enter(const struct loader_pins *pins, const char *directory, int *ret);
/* Removes what is there, below .own: a directory with all in it. 0 too if nothing is. */
int loader_pins_clear(const struct loader_pins *pins, const char *name);
/* The same, below the open directory @dir, or AT_FDCWD. */
int loader_pins_unlink(int dir, const char *name);
/* Removes all of this version, and pin_dir if that is empty then. */
int loader_pins_remove(const struct loader_pins *pins);

/* Is something pinned below the directory @path that redirects, of whatever version? */
bool loader_pins_redirect(const char *path);

/* The others redirect no more and let nobody in any more. What they know of the connections that
 * they have, they go on telling. To be called once this version redirects. 0 or negative errno:
 * what could not be done can be tried again. */
int loader_pins_retire(const struct loader_pins *pins);
/* Removes those others whose connections are all closed. Returns how many are left. */
size_t loader_pins_drain(struct loader_pins *pins);
/* Removes all others, whatever there is of their connections. */
int loader_pins_remove_others(struct loader_pins *pins);
/* For who cannot load programs: removes what all versions have below the directory @path, and that
 * too if nothing else is there. 0; -EBUSY: an agent has it; or another negative errno. */
int loader_pins_remove_all(const char *path);
