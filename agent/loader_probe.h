/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel takes of the programs and maps, one by one, in throw-away objects: nothing is
 * pinned, and nothing of an agent that runs is touched.
 */
#pragma once

/* What is lost without it. */
enum loader_probe_part {
	LOADER_PROBE_REDIRECT,
	LOADER_PROBE_SPLICE,
	LOADER_PROBE_FLOWS,
};

enum loader_probe_step {
	LOADER_PROBE_MAP,
	LOADER_PROBE_LOAD,
	LOADER_PROBE_ATTACH, /* only of what could be loaded */
};

/* @name: of the map or program. @type: its kind, as the kernel calls it. @error: 0 or -errno. */
typedef void (*loader_probe_fn)(void *user, enum loader_probe_step step,
				enum loader_probe_part part, const char *name, const char *type,
				int error);

/*
 * Makes each map, loads each program, and attaches those of cgroups to @cgroup, an open directory
 * (-1: attaches none of these). Calls @told once for each step. Returns 0, or -errno if the object
 * itself cannot be opened.
 */
int loader_probe(int cgroup, loader_probe_fn told, void *user);
