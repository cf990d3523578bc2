/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two programs that visit sockets: the walk (bpf/walk.bpf.c), which finds whom, and the visit
 * itself (bpf/visit.bpf.c). Neither outlives the agent.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"

struct shunt_bpf;

struct loader_visit {
	int walk; /* programs, borrowed from who loaded them */
	int visit;
	volatile __u32 *number; /* of the walk */
	volatile __u32 *everybody;
	volatile __u32 *answer;
};

/* Of a loaded skeleton, which outlives @ret. 0, or -EOPNOTSUPP: its variables are not mapped. */
int loader_visit_init(const struct shunt_bpf *skeleton, struct loader_visit *ret);

/*
 * A walk over the open files of the process @pid, or of all for 0: an fd to read, struct shunt_stop
 * after struct shunt_stop, which the caller closes; or -errno. @everybody: it is one from which
 * pairs are judged that may be let in. Only one at a time.
 */
int loader_visit_walk(const struct loader_visit *visit, uint32_t pid, bool everybody);

/* Attaches the visit to a cgroup, given by its open directory, and all below it: an fd that keeps
 * it there until it is closed; or -errno. */
int loader_visit_attach(const struct loader_visit *visit, int cgroup);
