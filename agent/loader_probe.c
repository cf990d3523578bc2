/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel takes of the programs and maps.
 * Reads from: the skeleton.
 * Writes to: the kernel: objects that nobody else has, and that are gone when this returns.
 */
#include "loader_probe.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader_open.h"
#include "shunt.skel.h"
#include "util/cleanup.h"

#define LOADER_PROBE_ENTRIES 64 /* of maps whose size the configuration says */

struct loader_probe {
	loader_probe_fn told;
	void *user;
	int cgroup;
	uint64_t lacks; /* maps that cannot be made, a bit each, in the order of the object */
};

/* @splice: a constant of sockops, without which it does without the sockhash. */
static struct shunt_bpf *loader_probe_open(bool splice)
{
	struct shunt_bpf *skeleton = loader_open();
	struct bpf_map *map;

	if (!skeleton)
		return NULL;
	skeleton->rodata->sockops_splice = splice;
	bpf_object__for_each_map(map, skeleton->obj)
	{
		if (bpf_map__type(map) != BPF_MAP_TYPE_SK_STORAGE && !bpf_map__is_internal(map) &&
		    !bpf_map__max_entries(map))
			bpf_map__set_max_entries(map, LOADER_PROBE_ENTRIES);
	}
	return skeleton;
}

static enum loader_probe_part loader_probe_part_of_map(const struct bpf_map *map)
{
	return bpf_map__type(map) == BPF_MAP_TYPE_SOCKHASH ? LOADER_PROBE_SPLICE
							   : LOADER_PROBE_REDIRECT;
}

static enum loader_probe_part loader_probe_part_of(const struct bpf_program *program)
{
	static const char *const tells[] = {"shunt_flows", "shunt_users"};

	for (size_t i = 0; i < ARRAY_SIZE(tells); i++)
		if (!strcmp(bpf_program__name(program), tells[i]))
			return LOADER_PROBE_FLOWS;
	switch (bpf_program__type(program)) {
	case BPF_PROG_TYPE_SK_MSG:
	case BPF_PROG_TYPE_TRACING:
		return LOADER_PROBE_SPLICE;
	case BPF_PROG_TYPE_CGROUP_SOCKOPT: /* shunt_origdst, or shunt_visit */
		return bpf_program__expected_attach_type(program) == BPF_CGROUP_SETSOCKOPT
			       ? LOADER_PROBE_SPLICE
			       : LOADER_PROBE_REDIRECT;
	default:
		return LOADER_PROBE_REDIRECT;
	}
}

static void loader_probe_tell_map(const struct loader_probe *probe, const struct bpf_map *map,
				  int error)
{
	probe->told(probe->user, LOADER_PROBE_MAP, loader_probe_part_of_map(map),
		    bpf_map__name(map), libbpf_bpf_map_type_str(bpf_map__type(map)), error);
}

static void loader_probe_tell(const struct loader_probe *probe, enum loader_probe_step step,
			      const struct bpf_program *program, int error)
{
	probe->told(probe->user, step, loader_probe_part_of(program), bpf_program__name(program),
		    bpf_program__section_name(program), error);
}

static int loader_probe_attach(const struct loader_probe *probe, struct shunt_bpf *skeleton,
			       const struct bpf_program *program)
{
	struct bpf_link *link;

	if (bpf_program__type(program) == BPF_PROG_TYPE_SK_MSG)
		return bpf_prog_attach(bpf_program__fd(program),
				       bpf_map__fd(skeleton->maps.shunt_ends), BPF_SK_MSG_VERDICT,
				       0)
			       ? -errno
			       : 0;
	if (!strcmp(bpf_program__section_name(program), "iter/bpf_map_elem")) {
		union bpf_iter_link_info target = {
			.map.map_fd = bpf_map__fd(skeleton->maps.shunt_pairs),
		};
		LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &target,
			    .link_info_len = sizeof(target));

		link = bpf_program__attach_iter(program, &options);
	} else if (bpf_program__type(program) == BPF_PROG_TYPE_TRACING) {
		link = bpf_program__attach(program);
	} else {
		link = bpf_program__attach_cgroup(program, probe->cgroup);
	}
	if (!link)
		return -errno;
	bpf_link__destroy(link);
	return 0;
}

static bool loader_probe_attaches(const struct loader_probe *probe,
				  const struct bpf_program *program)
{
	switch (bpf_program__type(program)) {
	case BPF_PROG_TYPE_SK_MSG:
	case BPF_PROG_TYPE_TRACING:
		return true;
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
	case BPF_PROG_TYPE_CGROUP_SOCKOPT:
	case BPF_PROG_TYPE_SOCK_OPS:
		return probe->cgroup >= 0;
	default:
		return false;
	}
}

/* All at once, which is quick, and all there is to tell where it works. */
static bool loader_probe_whole(const struct loader_probe *probe)
{
	struct shunt_bpf *skeleton = loader_probe_open(true);
	struct bpf_program *program;
	struct bpf_map *map;
	bool loaded;

	loaded = skeleton && !shunt_bpf__load(skeleton);
	if (loaded) {
		bpf_object__for_each_map(map, skeleton->obj)
		{
			if (!bpf_map__is_internal(map))
				loader_probe_tell_map(probe, map, 0);
		}
		bpf_object__for_each_program(program, skeleton->obj)
		{
			loader_probe_tell(probe, LOADER_PROBE_LOAD, program, 0);
			if (loader_probe_attaches(probe, program))
				loader_probe_tell(probe, LOADER_PROBE_ATTACH, program,
						  loader_probe_attach(probe, skeleton, program));
		}
	}
	shunt_bpf__destroy(skeleton);
	return loaded;
}

static int loader_probe_make_map(const char *name)
{
	struct shunt_bpf *skeleton = loader_probe_open(false);
	struct bpf_program *program;
	struct bpf_map *map;
	int r;

	if (!skeleton)
		return -errno;
	bpf_object__for_each_program(program, skeleton->obj)
	{
		bpf_program__set_autoload(program, false);
	}
	bpf_object__for_each_map(map, skeleton->obj)
	{
		if (!bpf_map__is_internal(map))
			bpf_map__set_autocreate(map, !strcmp(bpf_map__name(map), name));
	}
	r = shunt_bpf__load(skeleton);
	shunt_bpf__destroy(skeleton);
	return r;
}

/* The program @name with the maps that can be made. */
static void loader_probe_program(const struct loader_probe *probe, const char *name, bool splice)
{
	struct shunt_bpf *skeleton = loader_probe_open(splice);
	struct bpf_program *program;
	const struct bpf_program *wanted = NULL;
	struct bpf_map *map;
	unsigned int i = 0;
	int r;

	if (!skeleton)
		return;
	bpf_object__for_each_program(program, skeleton->obj)
	{
		bool is = !strcmp(bpf_program__name(program), name);

		bpf_program__set_autoload(program, is);
		if (is)
			wanted = program;
	}
	bpf_object__for_each_map(map, skeleton->obj)
	{
		if (probe->lacks & 1ull << i++)
			bpf_map__set_autocreate(map, false);
	}
	r = shunt_bpf__load(skeleton);
	loader_probe_tell(probe, LOADER_PROBE_LOAD, wanted, r);
	if (!r && loader_probe_attaches(probe, wanted))
		loader_probe_tell(probe, LOADER_PROBE_ATTACH, wanted,
				  loader_probe_attach(probe, skeleton, wanted));
	shunt_bpf__destroy(skeleton);
}

/* One after the other: who is it that fails? */
static int loader_probe_each(struct loader_probe *probe)
{
	struct shunt_bpf *skeleton = loader_probe_open(false);
	struct bpf_program *program;
	struct bpf_map *map;
	unsigned int i = 0;
	int r;

	if (!skeleton)
		return -errno;
	bpf_object__for_each_map(map, skeleton->obj)
	{
		uint64_t bit = 1ull << i++;

		if (bpf_map__is_internal(map))
			continue;
		r = loader_probe_make_map(bpf_map__name(map));
		if (r)
			probe->lacks |= bit;
		loader_probe_tell_map(probe, map, r);
	}
	bpf_object__for_each_program(program, skeleton->obj)
	{
		loader_probe_program(probe, bpf_program__name(program), false);
	}
	shunt_bpf__destroy(skeleton);
	return 0;
}

int loader_probe(int cgroup, loader_probe_fn told, void *user)
{
	struct loader_probe probe = {.told = told, .user = user, .cgroup = cgroup};

	return loader_probe_whole(&probe) ? 0 : loader_probe_each(&probe);
}
