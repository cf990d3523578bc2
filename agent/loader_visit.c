/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs that visit sockets.
 * Reads from: programs that are loaded.
 * Writes to: the kernel: links that nothing pins.
 */
#include "loader_visit.h"

#include <errno.h>

#include <bpf/bpf.h>

#include "util/cleanup.h"

int loader_visit_walk(const struct loader_visit *visit, uint32_t pid, bool everybody)
{
	union bpf_iter_link_info target = {.task.pid = pid};
	LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = &target,
		    .iter_info_len = sizeof(target));
	_cleanup_close_ int link = bpf_link_create(visit->walk, 0, BPF_TRACE_ITER, &options);

	if (link < 0)
		return link;
	*visit->number += 1;
	*visit->everybody = everybody;
	return bpf_iter_create(link); /* which goes on without the link */
}

int loader_visit_attach(const struct loader_visit *visit, int cgroup)
{
	return bpf_link_create(visit->visit, cgroup, BPF_CGROUP_SETSOCKOPT, NULL);
}
