/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs that visit sockets.
 * Reads from: programs that are loaded.
 * Writes to: the kernel: links that nothing pins.
 */
#include "loader_visit.h"

#include <errno.h>
#include <time.h>

#include <bpf/bpf.h>

#include "shunt.skel.h"
#include "util/cleanup.h"

int loader_visit_init(const struct shunt_bpf *skeleton, struct loader_visit *ret)
{
	struct timespec now;

	/* libbpf loads without it where it takes the kernel for one that cannot map arrays. */
	if (!skeleton->bss)
		return -EOPNOTSUPP;
	*ret = (struct loader_visit){
		.walk = bpf_program__fd(skeleton->progs.shunt_walk),
		.visit = bpf_program__fd(skeleton->progs.shunt_visit),
		.number = &skeleton->bss->walk_number,
		.everybody = &skeleton->bss->walk_everybody,
		.answer = &skeleton->bss->visit_answer,
	};
	/* Pairs know the numbers of an agent before. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	*ret->number = (uint32_t)now.tv_nsec * SHUNT_WALK_NUMBERS;
	return 0;
}

int loader_visit_walk(const struct loader_visit *visit, uint32_t pid, bool everybody)
{
	union bpf_iter_link_info target = {.task.pid = pid};
	LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = &target,
		    .iter_info_len = sizeof(target));
	_cleanup_close_ int link = bpf_link_create(visit->walk, 0, BPF_TRACE_ITER, &options);

	if (link < 0)
		return link;
	*visit->number += SHUNT_WALK_NUMBERS;
	*visit->everybody = everybody;
	return bpf_iter_create(link); /* which goes on without the link */
}

int loader_visit_attach(const struct loader_visit *visit, int cgroup)
{
	return bpf_link_create(visit->visit, cgroup, BPF_CGROUP_SETSOCKOPT, NULL);
}
