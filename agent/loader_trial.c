/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs that splice, loaded once more to be tried.
 * Reads from: the skeleton.
 * Writes to: the kernel: maps that nobody else has, and links to one cgroup.
 */
#include "loader_trial.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader_open.h"
#include "shunt.skel.h"
#include "util/cleanup.h"

#define LOADER_TRIAL_PAIRS 64

struct loader_trial {
	struct shunt_bpf *skeleton;
	struct bpf_link *sockops;
	struct loader_visit visit;
	struct bpf_link *scan;
	struct maps maps;
	volatile struct shunt_control *control;
};

static int loader_trial_load(struct shunt_bpf *skeleton)
{
	struct bpf_program *program;

	skeleton->rodata->sockops_splice = true;
	bpf_object__for_each_program(program, skeleton->obj)
	{
		bpf_program__set_autoload(program, false);
	}
	bpf_program__set_autoload(skeleton->progs.shunt_sockops, true);
	bpf_program__set_autoload(skeleton->progs.shunt_splice, true);
	bpf_program__set_autoload(skeleton->progs.shunt_walk, true);
	bpf_program__set_autoload(skeleton->progs.shunt_visit, true);
	bpf_program__set_autoload(skeleton->progs.shunt_scan, true);
	bpf_map__set_max_entries(skeleton->maps.shunt_meshes, 1);
	bpf_map__set_max_entries(skeleton->maps.shunt_stats, 1);
	bpf_map__set_max_entries(skeleton->maps.shunt_pairs, LOADER_TRIAL_PAIRS);
	bpf_map__set_max_entries(skeleton->maps.shunt_ends, SHUNT_ENDS * LOADER_TRIAL_PAIRS);
	return shunt_bpf__load(skeleton);
}

static int loader_trial_attach(struct loader_trial *trial, int cgroup)
{
	struct shunt_bpf *skeleton = trial->skeleton;
	int r = loader_visit_init(skeleton, &trial->visit);

	if (r)
		return r;
	if (bpf_prog_attach(bpf_program__fd(skeleton->progs.shunt_splice),
			    bpf_map__fd(skeleton->maps.shunt_ends), BPF_SK_MSG_VERDICT, 0))
		return -errno;
	trial->scan = bpf_program__attach_iter(skeleton->progs.shunt_scan, NULL);
	if (!trial->scan)
		return -errno;
	trial->sockops = bpf_program__attach_cgroup(skeleton->progs.shunt_sockops, cgroup);
	return trial->sockops ? 0 : -errno;
}

static int loader_trial_map_control(struct loader_trial *trial)
{
	void *control = mmap(NULL, sizeof(*trial->control), PROT_READ | PROT_WRITE, MAP_SHARED,
			     bpf_map__fd(trial->skeleton->maps.shunt_control), 0);

	if (control == MAP_FAILED)
		return -errno;
	trial->control = control;
	return 0;
}

int loader_trial_new(int cgroup, struct loader_trial **ret)
{
	struct loader_trial *trial;
	int r;

	if (!loader_open_calls())
		return -EOPNOTSUPP;
	trial = calloc(1, sizeof(*trial));
	if (!trial)
		return -ENOMEM;
	trial->skeleton = shunt_bpf__open();
	r = trial->skeleton ? loader_trial_load(trial->skeleton) : -errno;
	r = r ?: loader_trial_attach(trial, cgroup);
	r = r ?: loader_trial_map_control(trial);
	if (r) {
		loader_trial_free(trial);
		return r;
	}
	trial->maps = (struct maps){
		.cgroups = bpf_map__fd(trial->skeleton->maps.shunt_cgroups),
		.meshes = bpf_map__fd(trial->skeleton->maps.shunt_meshes),
		.pairs = bpf_map__fd(trial->skeleton->maps.shunt_pairs),
		.programs = bpf_map__fd(trial->skeleton->maps.shunt_programs),
		.cidrs = -1,
		.owners = -1,
		.counters = -1,
		.stats = -1,
		.rows = -1,
		.control = -1,
		.events = -1,
		.ends = bpf_map__fd(trial->skeleton->maps.shunt_ends),
		.watch = -1,
		.paces = -1,
	};
	*ret = trial;
	return 0;
}

struct loader_trial *loader_trial_free(struct loader_trial *trial)
{
	if (!trial)
		return NULL;
	if (trial->control)
		munmap((void *)trial->control, sizeof(*trial->control));
	bpf_link__destroy(trial->sockops);
	bpf_link__destroy(trial->scan);
	shunt_bpf__destroy(trial->skeleton);
	free(trial);
	return NULL;
}

const struct maps *loader_trial_maps(const struct loader_trial *trial)
{
	return &trial->maps;
}

int loader_trial_listeners(const struct loader_trial *trial)
{
	return bpf_map__fd(trial->skeleton->maps.shunt_listeners);
}

volatile struct shunt_control *loader_trial_control(struct loader_trial *trial)
{
	return trial->control;
}

const struct loader_visit *loader_trial_visits(const struct loader_trial *trial)
{
	return &trial->visit;
}

int loader_trial_open_scan(const struct loader_trial *trial)
{
	return bpf_iter_create(bpf_link__fd(trial->scan));
}
