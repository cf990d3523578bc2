/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps as the agent sees them: typed access, and whole tables read and brought up to date. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"
#include "sync.h"

/* Borrowed from the loader. */
struct maps {
	int cgroups;
	int meshes;
	int cidrs;
	int owners;
	int counters;
	int stats;
	int rows;
	int pairs;
	int programs;
	int control;
	int events;
	int ends;
	int watch;
	int paces;
	/* max_entries */
	uint32_t cgroups_max;
	uint32_t cidrs_max;
	uint32_t owners_max;
	uint32_t pairs_max;
	uint32_t ends_max;
};

/* All return 0 or negative errno; -E2BIG: the map is full. */
int maps_put_cgroup(const struct maps *maps, uint64_t id, const struct shunt_cgroup *entry);
int maps_del_cgroup(const struct maps *maps, uint64_t id); /* 0 too if it was not there */

/* A set of SHUNT_MESHES_MAX mesh slots to which no entry of @cgroups refers: its first; those after
 * the set that begins at @now are looked at first. -ENOSPC: there is none. */
int maps_find_slots(int cgroups, unsigned int now, unsigned int *ret);
/* Returns once every hook has ended that ran before: what was switched by then, none looks at. */
int maps_wait_for_hooks(void);

/* Takes a socket out of the sockhash, with what is queued for it; 0 too if it was not there. */
int maps_del_end(const struct maps *maps, const struct shunt_end_key *end);

/* The cookie of the socket that is in the sockhash as @end. 0; -ENOENT: none is. */
int maps_get_end(const struct maps *maps, const struct shunt_end_key *end, uint64_t *ret_cookie);

/* How many sockets are in the sockhash; one that goes meanwhile may have others counted twice. */
int maps_count_ends(const struct maps *maps, unsigned *ret);

/* Lets a socket into the sockhash, @fd being the caller's for it; 0 too if it is there. */
int maps_put_end(const struct maps *maps, const struct shunt_end_key *end, int fd);

/* All rows of a hash or LPM map; @table gives the shape and is empty before, sorted after. */
int maps_read(int map, struct table *table);
/* Writes what is new, then removes what is not wanted. Stops at the first failure. */
int maps_apply(int map, const struct sync_plan *plan);
/* Writes rows of an array map. */
int maps_write(int map, const struct table *table);
/* Removes the rows of @table, as far as they are there. */
int maps_remove(int map, const struct table *table);

/* Removes all rows of a hash map, whatever their shape. */
int maps_clear(int map);
/* … false too if it cannot be read. */
bool maps_is_empty(int map);

/* Sums each counter over all CPUs, those of messages over the rows of shunt_stats too. */
int maps_read_counters(const struct maps *maps, uint64_t ret[SHUNT_COUNTER_MAX]);
/* One of those that are not of messages. */
int maps_read_counter(const struct maps *maps, enum shunt_counter counter, uint64_t *ret);

/* Sums a row of shunt_stats over all CPUs. */
int maps_read_stats(const struct maps *maps, uint32_t row, struct shunt_stats *ret);
/* The name of a row's mesh, "" if it has none. */
int maps_read_row(const struct maps *maps, uint32_t row, struct shunt_row *ret);
int maps_put_row(const struct maps *maps, uint32_t row, const struct shunt_row *entry);

/* The one entry of shunt_control, in memory that the kernel half shares. 0 or negative errno. */
int maps_map_control(const struct maps *maps, volatile struct shunt_control **ret);
/* NULL-safe. */
void maps_unmap_control(volatile struct shunt_control *control);

/* One more, of a counter that is the agent's own: the kernel half does not write it. */
int maps_count(const struct maps *maps, enum shunt_counter counter);
/* Lets a counter begin anew. */
int maps_reset_counter(const struct maps *maps, enum shunt_counter counter);

/* Forgets what was told of events, and what was not, before somebody listens. */
int maps_reset_paces(const struct maps *maps);

/* shunt_programs: what is known of an executable. */
bool maps_has_program(const struct maps *maps, uint64_t program);
int maps_put_program(const struct maps *maps, uint64_t program, enum shunt_program what);
int maps_forget_programs(const struct maps *maps);
