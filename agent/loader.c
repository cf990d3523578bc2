/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs, maps and links in the kernel, and their pins.
 * Reads from: the skeleton, pin_dir.
 * Writes to: the kernel, pin_dir.
 */
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader_links.h"
#include "loader_maps.h"
#include "loader_open.h"
#include "loader_pins.h"
#include "log.h"
#include "shunt.skel.h"
#include "util/cleanup.h"

struct loader {
	struct shunt_bpf *skeleton;
	struct maps maps;
	struct loader_pins pins;
	struct loader_links links;
	bool adopted; /* an earlier agent left something */
	bool retired; /* what other versions left redirects no more */
	struct loader_kept kept;
	bool splices;
	bool splice_pending; /* an earlier agent's sk_msg program stays until loader_commit() */
	struct loader_visit visit;
	struct bpf_link *scan;
	struct bpf_link *reads; /* not pinned: goes with the agent */
};

static void loader_set_sizes(struct shunt_bpf *skeleton, const struct loader_options *options)
{
	bpf_map__set_max_entries(skeleton->maps.shunt_cgroups, options->cgroups);
	/* A reload writes the new rules beside the old ones before it switches over; those of two
	 * configurations are in force if it is ended in between. */
	bpf_map__set_max_entries(skeleton->maps.shunt_cidrs, SHUNT_MESH_SETS * options->rules);
	bpf_map__set_max_entries(skeleton->maps.shunt_owners, SHUNT_MESH_SETS * options->rules);
	bpf_map__set_max_entries(skeleton->maps.shunt_pairs, options->flows + SHUNT_PAIRS_SPARE);
	bpf_map__set_max_entries(skeleton->maps.shunt_ends, 2 * options->flows);
}

static void loader_find_maps(struct loader *loader)
{
	struct shunt_bpf *skeleton = loader->skeleton;

	loader->maps = (struct maps){
		.cgroups = bpf_map__fd(skeleton->maps.shunt_cgroups),
		.meshes = bpf_map__fd(skeleton->maps.shunt_meshes),
		.cidrs = bpf_map__fd(skeleton->maps.shunt_cidrs),
		.owners = bpf_map__fd(skeleton->maps.shunt_owners),
		.counters = bpf_map__fd(skeleton->maps.shunt_counters),
		.stats = bpf_map__fd(skeleton->maps.shunt_stats),
		.rows = bpf_map__fd(skeleton->maps.shunt_rows),
		.pairs = bpf_map__fd(skeleton->maps.shunt_pairs),
		.programs = bpf_map__fd(skeleton->maps.shunt_programs),
		.control = bpf_map__fd(skeleton->maps.shunt_control),
		.events = bpf_map__fd(skeleton->maps.shunt_events),
		.ends = bpf_map__fd(skeleton->maps.shunt_ends),
		.watch = bpf_map__fd(skeleton->maps.shunt_watch),
		.paces = bpf_map__fd(skeleton->maps.shunt_paces),
		.cgroups_max = bpf_map__max_entries(skeleton->maps.shunt_cgroups),
		.cidrs_max = bpf_map__max_entries(skeleton->maps.shunt_cidrs),
		.owners_max = bpf_map__max_entries(skeleton->maps.shunt_owners),
		.pairs_max = bpf_map__max_entries(skeleton->maps.shunt_pairs),
		.ends_max = bpf_map__max_entries(skeleton->maps.shunt_ends),
	};
}

/* Not a link: libbpf 1.1 has none for this. The map holds the program, and its pin the map. */
static int loader_attach_sk_msg(struct loader *loader)
{
	return bpf_prog_attach(bpf_program__fd(loader->skeleton->progs.shunt_splice),
			       bpf_map__fd(loader->skeleton->maps.shunt_ends), BPF_SK_MSG_VERDICT,
			       0)
		       ? -errno
		       : 0;
}

/* Has an earlier agent left a program that splices? */
static bool loader_ends_spliced(int ends)
{
	__u32 id = 0, n = 1;

	return !bpf_prog_query(ends, BPF_SK_MSG_VERDICT, 0, NULL, &id, &n) && n;
}

/* The programs and links that there is one of, whatever is enrolled. */
static int loader_attach_splice(struct loader *loader)
{
	struct shunt_bpf *skeleton = loader->skeleton;
	int r;

	loader->splice_pending = loader_ends_spliced(bpf_map__fd(skeleton->maps.shunt_ends));
	r = loader_visit_init(skeleton, &loader->visit);
	if (!r && !loader->splice_pending)
		r = loader_attach_sk_msg(loader);
	if (r)
		return r;
	loader->scan = bpf_program__attach_iter(skeleton->progs.shunt_scan, NULL);
	return loader->scan ? 0 : -errno;
}

static void loader_unload(struct loader *loader)
{
	bpf_link__destroy(TAKE_PTR(loader->reads));
	bpf_link__destroy(TAKE_PTR(loader->scan));
	shunt_bpf__destroy(TAKE_PTR(loader->skeleton));
}

/* What the kernel can is found out by trying: with @splice first, and without where that fails. */
static int loader_load(struct loader *loader, const struct loader_options *options, bool splice)
{
	struct shunt_bpf *skeleton;
	int r;

	loader->skeleton = skeleton = loader_open();
	if (!skeleton)
		return -errno;
	skeleton->rodata->sockops_splice = splice;
	bpf_program__set_autoload(skeleton->progs.shunt_splice, splice);
	bpf_program__set_autoload(skeleton->progs.shunt_walk, splice);
	bpf_program__set_autoload(skeleton->progs.shunt_visit, splice);
	bpf_program__set_autoload(skeleton->progs.shunt_reads, splice);
	bpf_program__set_autoload(skeleton->progs.shunt_scan, splice);
	/* Not every kernel that redirects has this kind of map. */
	bpf_map__set_autocreate(skeleton->maps.shunt_ends, splice);
	loader_set_sizes(skeleton, options);
	r = loader_maps_pin(&loader->pins, skeleton->obj, &loader->kept);
	r = r ?: shunt_bpf__load(skeleton);
	if (!r && splice)
		r = loader_attach_splice(loader);
	loader->splices = !r && splice;
	if (r)
		loader_unload(loader);
	return r;
}

static bool loader_version_splices(const struct loader *loader, unsigned int abi)
{
	_cleanup_close_ int ends =
		loader_pins_get(&loader->pins, abi, LOADER_PINS_MAPS "/shunt_ends");

	return ends >= 0 && loader_ends_spliced(ends);
}

/* Did an earlier agent splice, of whatever version? Then this kernel can. */
static bool loader_spliced_before(const struct loader *loader)
{
	bool splices = loader_version_splices(loader, SHUNT_ABI_VERSION);

	for (size_t i = 0; i < loader->pins.n_others; i++)
		splices |= loader_version_splices(loader, loader->pins.others[i]);
	return splices;
}

/* *@ret: LOADER_PINS_LINKS, open. */
static int loader_make_directories(const struct loader_pins *pins, int *ret)
{
	int r = loader_pins_make(pins, LOADER_PINS_MAPS);

	r = r ?: loader_pins_make(pins, LOADER_PINS_POLICY);
	r = r ?: loader_pins_make(pins, LOADER_PINS_LINKS);
	return r ?: loader_pins_enter(pins, LOADER_PINS_LINKS, ret);
}

int loader_new(const struct loader_options *options, struct loader **ret)
{
	struct loader *loader = calloc(1, sizeof(*loader));
	int r;

	if (!loader)
		return -ENOMEM;
	loader->links.dir = -1;
	r = loader_pins_open(&loader->pins, options->pin_dir);
	if (r) {
		loader_free(loader);
		return r;
	}
	r = loader_make_directories(&loader->pins, &loader->links.dir);
	r = r ?: loader_links_find(&loader->links);
	if (r) {
		if (loader->pins.made)
			loader_pins_remove(&loader->pins);
		loader_free(loader);
		return r;
	}

	loader->adopted = loader->links.n > 0 || loader->pins.n_others > 0;
	r = loader_open_calls() ? loader_load(loader, options, true) : -EOPNOTSUPP;
	if (r == -ENOMEM || r == -EAGAIN || r == -EINTR) /* which says nothing about the kernel */
		r = loader_load(loader, options, true);
	/* Connections that are spliced now need what this would go without. */
	if (r && !loader_spliced_before(loader))
		r = loader_load(loader, options, false);
	if (r) {
		loader_revert(loader);
		loader_free(loader);
		return r;
	}
	loader_find_maps(loader);
	loader_links_use(&loader->links, loader->skeleton->obj);
	*ret = loader;
	return 0;
}

struct loader *loader_free(struct loader *loader)
{
	if (!loader)
		return NULL;
	loader_unload(loader);
	loader_links_deinit(&loader->links);
	loader_pins_close(&loader->pins);
	free(loader);
	return NULL;
}

const struct maps *loader_maps(const struct loader *loader)
{
	return &loader->maps;
}

bool loader_pairs_replaced(const struct loader *loader)
{
	return loader->kept.pairs_replaced;
}

uint32_t loader_flows(const struct loader *loader)
{
	return bpf_map__max_entries(loader->skeleton->maps.shunt_ends) / SHUNT_ENDS;
}

int loader_attach(struct loader *loader, const char *path, uint64_t cgroup, unsigned int hooks)
{
	return loader_links_attach(&loader->links, path, cgroup, hooks);
}

int loader_renew(struct loader *loader)
{
	return loader_links_renew(&loader->links);
}

int loader_commit(struct loader *loader)
{
	int r;

	if (loader->links.committed)
		return 0;
	r = loader_maps_swap(&loader->pins, &loader->kept);
	if (r)
		return r;
	r = loader->splice_pending ? loader_attach_sk_msg(loader) : 0;
	if (r) {
		loader_maps_swap(&loader->pins, &loader->kept);
		return r;
	}
	if (!loader->kept.policy) /* if it fails the next start does it */
		loader_pins_clear(&loader->pins, LOADER_PINS_NEXT);
	loader->kept.policy = true;
	loader_links_commit(&loader->links);
	loader->retired = !loader_pins_retire(&loader->pins);
	return 0;
}

void loader_revert(struct loader *loader)
{
	if (loader->links.committed)
		return;
	loader_links_revert(&loader->links);
	if (!loader->kept.policy)
		loader_pins_clear(&loader->pins, LOADER_PINS_NEXT);
	if (!loader->links.n)
		loader_pins_remove(&loader->pins);
}

size_t loader_drain(struct loader *loader)
{
	if (!loader->retired)
		loader->retired = !loader_pins_retire(&loader->pins);
	return loader_pins_drain(&loader->pins);
}

size_t loader_drains(const struct loader *loader)
{
	return loader->pins.n_others;
}

int loader_detach(struct loader *loader, uint64_t cgroup, unsigned int hooks)
{
	return loader_links_detach(&loader->links, cgroup, hooks);
}

int loader_prune(struct loader *loader, bool (*keep)(void *user, uint64_t cgroup), void *user)
{
	return loader_links_prune(&loader->links, keep, user);
}

static bool loader_keeps_none(void *user, uint64_t cgroup)
{
	return false;
}

int loader_remove_all(struct loader *loader)
{
	int r = loader_prune(loader, loader_keeps_none, NULL);

	r = r ?: loader_pins_remove_others(&loader->pins);
	return r ?: loader_pins_remove(&loader->pins);
}

bool loader_has_pins(const struct loader *loader)
{
	return loader_pins_lead_there(&loader->pins) && loader_links_are_pinned(&loader->links) &&
	       loader_maps_are_pinned(&loader->pins, loader->skeleton->obj);
}

int loader_repin(struct loader *loader)
{
	_cleanup_close_ int links_dir = -1;
	struct loader_pins pins;
	int r;

	r = loader_pins_reopen(&loader->pins, &pins);
	r = r ?: loader_make_directories(&pins, &links_dir);
	r = r ?: loader_maps_repin(&pins, loader->skeleton->obj);
	r = r ?: loader_links_repin(&loader->links, links_dir);
	if (r) {
		loader_pins_close(&pins);
		return r;
	}
	(void)TAKE_FD(links_dir);
	loader_pins_close(&loader->pins);
	loader->pins = pins;
	return 0;
}

const char *loader_cannot_splice(const struct loader *loader)
{
	if (loader->splices)
		return NULL;
	return loader_open_calls() ? "the programs that splice cannot be loaded"
				   : "the programs that splice cannot be loaded without the JIT "
				     "(net.core.bpf_jit_enable)";
}

const struct loader_visit *loader_visits(const struct loader *loader)
{
	return &loader->visit;
}

int loader_open_scan(const struct loader *loader, bool everything)
{
	if (!loader->skeleton->bss)
		return -EOPNOTSUPP;
	loader->skeleton->bss->scan_everything = everything;
	return bpf_iter_create(bpf_link__fd(loader->scan));
}

int loader_watch_reads(struct loader *loader)
{
	if (loader->reads)
		return 0;
	loader->reads = bpf_program__attach(loader->skeleton->progs.shunt_reads);
	return loader->reads ? 0 : -errno;
}

void loader_unwatch_reads(struct loader *loader)
{
	bpf_link__destroy(TAKE_PTR(loader->reads));
}

/* The iterator goes on without its link. @map: whose elements it passes by, or -1. */
static int loader_open_iterator(const struct bpf_program *program, int map)
{
	union bpf_iter_link_info target = {.map.map_fd = map};
	LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &target,
		    .link_info_len = sizeof(target));
	struct bpf_link *link = bpf_program__attach_iter(program, map < 0 ? NULL : &options);
	int fd = link ? bpf_iter_create(bpf_link__fd(link)) : -errno;

	bpf_link__destroy(link);
	return fd;
}

int loader_open_flows(const struct loader *loader)
{
	return loader_open_iterator(loader->skeleton->progs.shunt_flows, loader->maps.pairs);
}

int loader_open_users(const struct loader *loader)
{
	return loader_open_iterator(loader->skeleton->progs.shunt_users, -1);
}

bool loader_adopted(const struct loader *loader)
{
	return loader->adopted;
}

void loader_each_link(struct loader *loader,
		      void (*visit)(void *user, uint64_t cgroup, const char *program), void *user)
{
	loader_links_each(&loader->links, visit, user);
}
