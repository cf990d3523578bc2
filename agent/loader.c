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

#include "loader_layout.h"
#include "loader_links.h"
#include "loader_open.h"
#include "loader_pins.h"
#include "log.h"
#include "shunt.skel.h"
#include "util/cleanup.h"

/* Directories of pins: see loader_pins.h. */
#define LOADER_LINKS	   "links"
#define LOADER_MAPS	   "maps"
#define LOADER_POLICY	   "policy"
#define LOADER_POLICY_NEXT "policy-next"

struct loader {
	struct shunt_bpf *skeleton;
	struct maps maps;
	struct loader_pins pins;
	struct loader_links links;
	bool adopted; /* an earlier agent left something */
	bool retired; /* what other versions left redirects no more */
	bool pairs_replaced;
	bool policy_kept; /* else it is in LOADER_POLICY_NEXT until loader_commit() */
	bool splices;
	bool splice_pending; /* the sk_msg program of an earlier agent stays until loader_commit()
			      */
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

/* Cgroups name meshes and meshes name rules: maps that refer to each other. */
static bool loader_is_policy(const struct bpf_map *map)
{
	static const char *const names[] = {
		"shunt_cgroups",
		"shunt_meshes",
		"shunt_cidrs",
		"shunt_owners",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], bpf_map__name(map)))
			return true;
	return false;
}

static bool loader_info_fits(const struct bpf_map *map, const struct bpf_map_info *info)
{
	return !strcmp(info->name, bpf_map__name(map)) && info->type == bpf_map__type(map) &&
	       info->key_size == bpf_map__key_size(map) &&
	       info->value_size == bpf_map__value_size(map) &&
	       info->map_flags == bpf_map__map_flags(map);
}

enum loader_pin {
	LOADER_PIN_NONE,
	LOADER_PIN_FITS,
	LOADER_PIN_RESIZED, /* fits but for max_entries */
	LOADER_PIN_WRONG,
};

/* What is pinned at @path for @map: enum loader_pin, or negative errno. */
static int loader_look_at_pin(const struct bpf_map *map, const char *path, struct bpf_map_info *ret)
{
	_cleanup_close_ int fd = loader_pins_open_map(path);
	__u32 size = sizeof(*ret);

	*ret = (struct bpf_map_info){};
	if (fd == -EACCES)
		return LOADER_PIN_WRONG;
	if (fd < 0)
		return fd == -ENOENT ? LOADER_PIN_NONE : fd;
	if (bpf_obj_get_info_by_fd(fd, ret, &size))
		return -errno;
	if (!loader_info_fits(map, ret))
		return LOADER_PIN_WRONG;
	return ret->max_entries == bpf_map__max_entries(map) ? LOADER_PIN_FITS : LOADER_PIN_RESIZED;
}

/* Is there a set of mesh slots left to fill? Agents that were killed in mid-reload, one after the
 * other, may have left entries that refer to all of them. */
static bool loader_policy_has_room(const struct loader *loader)
{
	_cleanup_close_ int cgroups =
		loader_pins_get(&loader->pins, SHUNT_ABI_VERSION, LOADER_POLICY "/shunt_cgroups");
	unsigned int slots;

	return cgroups >= 0 && !maps_find_slots(cgroups, 0, &slots);
}

/* Those with the policy are kept all together or not at all. */
static bool loader_policy_fits(const struct loader *loader)
{
	struct bpf_map_info info;
	struct bpf_map *map;

	bpf_object__for_each_map(map, loader->skeleton->obj)
	{
		_cleanup_free_ char *path = NULL;

		if (!loader_is_policy(map))
			continue;
		path = loader_pins_map(&loader->pins, LOADER_POLICY, bpf_map__name(map));
		if (!path || loader_look_at_pin(map, path, &info) != LOADER_PIN_FITS)
			return false;
	}
	return loader_policy_has_room(loader);
}

/* What sockets carry with them is shared with other versions, if these mean the same by it. */
static void loader_share_map(const struct loader *loader, const struct bpf_map *map,
			     const char *path)
{
	char name[64];

	if (bpf_map__type(map) != BPF_MAP_TYPE_SK_STORAGE)
		return;
	snprintf(name, sizeof(name), LOADER_MAPS "/%s", bpf_map__name(map));
	for (size_t i = 0; i < loader->pins.n_others; i++) {
		_cleanup_close_ int fd =
			loader_pins_get(&loader->pins, loader->pins.others[i], name);

		if (fd >= 0 && loader_layout_same(loader->skeleton->obj, map, fd) &&
		    !bpf_obj_pin(fd, path))
			return;
	}
}

/*
 * Connections that are open are in the maps whose size is limits.flows: their size stays as long as
 * they do. One that is no map of this ABI was damaged, and there is no more to save.
 */
static int loader_check_state_map(struct loader *loader, struct bpf_map *map, const char *path)
{
	struct bpf_map_info info;
	int pin = loader_look_at_pin(map, path, &info);
	int r;

	switch (pin) {
	case LOADER_PIN_RESIZED:
		return bpf_map__set_max_entries(map, info.max_entries);
	case LOADER_PIN_WRONG:
		r = loader_pins_unlink(AT_FDCWD, path);
		if (r)
			return r;
		log_warning("%s is not what this version keeps there, and was made anew", path);
		loader->pairs_replaced |= map == loader->skeleton->maps.shunt_pairs;
		return 0;
	case LOADER_PIN_NONE:
		loader_share_map(loader, map, path);
		return 0;
	default:
		return pin < 0 ? pin : 0;
	}
}

/* Gives each map its pin; libbpf adopts what is there, or pins what it makes. */
static int loader_pin_maps(struct loader *loader)
{
	const char *policy;
	struct bpf_map *map;
	int r;

	loader->policy_kept = loader_policy_fits(loader);
	policy = loader->policy_kept ? LOADER_POLICY : LOADER_POLICY_NEXT;
	/* What an agent left that was ended in between. */
	r = loader_pins_clear(&loader->pins, LOADER_POLICY_NEXT);
	if (!r && !loader->policy_kept)
		r = loader_pins_make(&loader->pins, policy);
	bpf_object__for_each_map(map, loader->skeleton->obj)
	{
		_cleanup_free_ char *path = NULL;

		/* Constants of these very programs: those of others must not be taken for them. */
		if (r || bpf_map__is_internal(map))
			continue;
		path = loader_pins_map(&loader->pins, loader_is_policy(map) ? policy : LOADER_MAPS,
				       bpf_map__name(map));
		if (!path)
			return -ENOMEM;
		if (!loader_is_policy(map))
			r = loader_check_state_map(loader, map, path);
		r = r ?: bpf_map__set_pin_path(map, path);
	}
	return r;
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
	r = loader_pin_maps(loader);
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
	_cleanup_close_ int ends = loader_pins_get(&loader->pins, abi, LOADER_MAPS "/shunt_ends");

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

/* *@ret: LOADER_LINKS, open. */
static int loader_make_directories(const struct loader_pins *pins, int *ret)
{
	return loader_pins_make(pins, LOADER_MAPS) ?: loader_pins_make(pins, LOADER_POLICY) ?:
	       loader_pins_make(pins, LOADER_LINKS) ?: loader_pins_enter(pins, LOADER_LINKS, ret);
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
	return loader->pairs_replaced;
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

/* The maps of the policy and those before change names, by which the next agent finds them: all at
 * one instant. */
static int loader_swap_policy(const struct loader *loader)
{
	_cleanup_free_ char *policy = loader_pins_map(&loader->pins, LOADER_POLICY, "");
	_cleanup_free_ char *next = loader_pins_map(&loader->pins, LOADER_POLICY_NEXT, "");

	if (loader->policy_kept)
		return 0;
	if (!policy || !next)
		return -ENOMEM;
	policy[strlen(policy) - 1] = next[strlen(next) - 1] = '\0';
	return renameat2(AT_FDCWD, next, AT_FDCWD, policy, RENAME_EXCHANGE) ? -errno : 0;
}

int loader_commit(struct loader *loader)
{
	int r;

	if (loader->links.committed)
		return 0;
	r = loader_swap_policy(loader);
	if (r)
		return r;
	r = loader->splice_pending ? loader_attach_sk_msg(loader) : 0;
	if (r) {
		loader_swap_policy(loader);
		return r;
	}
	if (!loader->policy_kept) /* if it fails the next start does it */
		loader_pins_clear(&loader->pins, LOADER_POLICY_NEXT);
	loader->policy_kept = true;
	loader_links_commit(&loader->links);
	loader->retired = !loader_pins_retire(&loader->pins);
	return 0;
}

void loader_revert(struct loader *loader)
{
	if (loader->links.committed)
		return;
	loader_links_revert(&loader->links);
	if (!loader->policy_kept)
		loader_pins_clear(&loader->pins, LOADER_POLICY_NEXT);
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
	return loader_pins_lead_there(&loader->pins) && loader_links_are_pinned(&loader->links);
}

static int loader_repin_maps(const struct loader *loader, const struct loader_pins *pins)
{
	struct bpf_map *map;
	int r = 0;

	bpf_object__for_each_map(map, loader->skeleton->obj)
	{
		_cleanup_free_ char *path = NULL;

		if (bpf_map__is_internal(map))
			continue;
		path = loader_pins_map(pins, loader_is_policy(map) ? LOADER_POLICY : LOADER_MAPS,
				       bpf_map__name(map));
		if (!path)
			return -ENOMEM;
		r = loader_pins_unlink(AT_FDCWD, path);
		r = r ?: bpf_obj_pin(bpf_map__fd(map), path);
		if (r)
			break;
	}
	return r;
}

int loader_repin(struct loader *loader)
{
	_cleanup_close_ int links_dir = -1;
	struct loader_pins pins;
	int r;

	r = loader_pins_reopen(&loader->pins, &pins);
	r = r ?: loader_make_directories(&pins, &links_dir);
	r = r ?: loader_repin_maps(loader, &pins);
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

int loader_open_scan(const struct loader *loader)
{
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
