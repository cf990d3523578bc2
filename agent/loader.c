/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs, maps and links in the kernel, and their pins.
 * Reads from: the skeleton, pin_dir.
 * Writes to: the kernel, pin_dir.
 */
#include "loader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader_layout.h"
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

struct loader_program {
	const char *name;   /* of the pin; what the operator reads */
	const char *symbol; /* in the object */
	unsigned int hooks; /* enum policy_hooks */
	bool redirects;	    /* who would lose a connection if its rules were not there yet */
};

/*
 * In the order in which they are attached. Whoever answers comes before who redirects: no
 * connection is redirected whose addresses could not be told yet.
 */
static const struct loader_program loader_programs[] = {
	{"getsockopt", "shunt_origdst", POLICY_HOOKS_SIDECAR, false},
	{"sockops", "shunt_sockops", POLICY_HOOKS_BOTH, false},
	{"getpeername4", "shunt_peername4", POLICY_HOOKS_MEMBER, false},
	{"getpeername6", "shunt_peername6", POLICY_HOOKS_MEMBER, false},
	{"getsockname4", "shunt_sockname4", POLICY_HOOKS_MEMBER, false},
	{"getsockname6", "shunt_sockname6", POLICY_HOOKS_MEMBER, false},
	{"recvmsg4", "shunt_recvmsg4", POLICY_HOOKS_MEMBER, false},
	{"recvmsg6", "shunt_recvmsg6", POLICY_HOOKS_MEMBER, false},
	{"sendmsg4", "shunt_sendmsg4", POLICY_HOOKS_BOTH, true},
	{"sendmsg6", "shunt_sendmsg6", POLICY_HOOKS_BOTH, true},
	{"connect4", "shunt_connect4", POLICY_HOOKS_MEMBER, true},
	{"connect6", "shunt_connect6", POLICY_HOOKS_MEMBER, true},
};
#define LOADER_PROGRAMS ARRAY_SIZE(loader_programs)

struct loader_link {
	uint64_t cgroup;
	unsigned int program; /* index in loader_programs */
	bool made;	      /* since loader_commit(): was not there before */
	bool current;	      /* has the program of this very process */
	bool pending;	      /* is to get it in loader_renew() */
	int before;	      /* fd of the program that it had, until loader_commit(); or -1 */
};

struct loader {
	struct shunt_bpf *skeleton;
	struct maps maps;
	struct loader_pins pins;
	int links_dir; /* open: there the links are, whatever is mounted over pin_dir by now */
	struct bpf_program *programs[LOADER_PROGRAMS];
	struct loader_link *links;
	size_t n_links;
	bool adopted;	/* some links were there when it began */
	bool committed; /* what is adopted is in force … */
	bool retired;	/* … and what other versions left redirects no more */
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

static int loader_add_link(struct loader *loader, uint64_t cgroup, unsigned int program)
{
	struct loader_link *links;

	links = reallocarray(loader->links, loader->n_links + 1, sizeof(*links));
	if (!links)
		return -ENOMEM;
	links[loader->n_links++] = (struct loader_link){cgroup, program, .before = -1};
	loader->links = links;
	return 0;
}

static int loader_find_program(const char *name)
{
	for (size_t i = 0; i < LOADER_PROGRAMS; i++)
		if (!strcmp(loader_programs[i].name, name))
			return i;
	return -ENOENT;
}

/* Notes which links an earlier agent left. What is not of this naming is not a link of Shunt's. */
static int loader_find_links(struct loader *loader)
{
	_cleanup_free_ char *path = loader_pins_map(&loader->pins, LOADER_LINKS, "");
	struct dirent *entry;
	DIR *dir;
	int r = 0;

	dir = path ? opendir(path) : NULL;
	if (!dir)
		return path ? -errno : -ENOMEM;
	while (!r && (entry = readdir(dir))) {
		uint64_t cgroup;
		int program, end = 0;

		if (sscanf(entry->d_name, "%" SCNu64 "-%n", &cgroup, &end) != 1 || !end)
			continue;
		program = loader_find_program(entry->d_name + end);
		if (program >= 0)
			r = loader_add_link(loader, cgroup, program);
	}
	closedir(dir);
	loader->adopted = loader->n_links > 0 || loader->pins.n_others > 0;
	return r;
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
	loader->links_dir = -1;
	r = loader_pins_open(&loader->pins, options->pin_dir);
	if (r) {
		loader_free(loader);
		return r;
	}
	r = loader_make_directories(&loader->pins, &loader->links_dir);
	r = r ?: loader_find_links(loader);
	if (r) {
		if (loader->pins.made)
			loader_pins_remove(&loader->pins);
		loader_free(loader);
		return r;
	}

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
	for (size_t i = 0; i < LOADER_PROGRAMS; i++)
		loader->programs[i] = bpf_object__find_program_by_name(loader->skeleton->obj,
								       loader_programs[i].symbol);
	*ret = loader;
	return 0;
}

struct loader *loader_free(struct loader *loader)
{
	if (!loader)
		return NULL;
	loader_unload(loader);
	for (size_t i = 0; i < loader->n_links; i++)
		if (loader->links[i].before >= 0)
			close(loader->links[i].before);
	if (loader->links_dir >= 0)
		close(loader->links_dir);
	loader_pins_close(&loader->pins);
	free(loader->links);
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

static struct loader_link *loader_link_find(struct loader *loader, uint64_t cgroup,
					    unsigned int program)
{
	for (size_t i = 0; i < loader->n_links; i++)
		if (loader->links[i].cgroup == cgroup && loader->links[i].program == program)
			return &loader->links[i];
	return NULL;
}

static char *loader_link_path(int links_dir, uint64_t cgroup, unsigned int program)
{
	char *path;

	if (asprintf(&path, "/proc/self/fd/%d/%" PRIu64 "-%s", links_dir, cgroup,
		     loader_programs[program].name) < 0)
		return NULL;
	return path;
}

/* An fd of the link that an earlier agent pinned, and what it has; -errno if its cgroup is gone, or
 * if it is none. */
static int loader_link_open(struct loader *loader, const struct loader_link *link,
			    struct bpf_link_info *info)
{
	_cleanup_free_ char *path =
		loader_link_path(loader->links_dir, link->cgroup, link->program);
	_cleanup_close_ int fd = -1;
	__u32 size = sizeof(*info);

	*info = (struct bpf_link_info){};
	if (!path)
		return -ENOMEM;
	fd = loader_pins_open_link(path);
	if (fd < 0)
		return fd == -ENOENT || fd == -EACCES ? -ENOLINK : fd;
	if (bpf_obj_get_info_by_fd(fd, info, &size) || info->type != BPF_LINK_TYPE_CGROUP ||
	    info->cgroup.cgroup_id != link->cgroup ||
	    info->cgroup.attach_type !=
		    bpf_program__expected_attach_type(loader->programs[link->program]))
		return -ENOLINK;
	return TAKE_FD(fd);
}

/* Puts our program into it: there is no instant without one. */
static int loader_link_update(struct loader *loader, struct loader_link *link)
{
	struct bpf_link_info info;
	_cleanup_close_ int fd = loader_link_open(loader, link, &info);

	if (fd < 0)
		return fd;
	if (!loader->committed && link->before < 0) {
		int before = bpf_prog_get_fd_by_id(info.prog_id);

		if (before < 0)
			return before;
		link->before = before;
	}
	if (bpf_link_update(fd, bpf_program__fd(loader->programs[link->program]), NULL))
		return -errno;
	link->current = true;
	link->pending = false;
	return 0;
}

static int loader_link_make(struct loader *loader, int cgroup_fd, uint64_t cgroup,
			    unsigned int program)
{
	_cleanup_free_ char *path = loader_link_path(loader->links_dir, cgroup, program);
	struct bpf_link *link;
	int r;

	if (!path)
		return -ENOMEM;
	link = bpf_program__attach_cgroup(loader->programs[program], cgroup_fd);
	if (!link)
		return -errno;
	r = bpf_obj_pin(bpf_link__fd(link), path);
	if (!r) {
		r = loader_add_link(loader, cgroup, program);
		if (r)
			unlink(path);
	}
	if (!r) {
		loader->links[loader->n_links - 1].made = true;
		loader->links[loader->n_links - 1].current = true;
	}
	bpf_link__destroy(link); /* the pin holds it */
	return r;
}

static int loader_link_remove(struct loader *loader, struct loader_link *link)
{
	_cleanup_free_ char *path =
		loader_link_path(loader->links_dir, link->cgroup, link->program);
	int r = path ? loader_pins_unlink(AT_FDCWD, path) : -ENOMEM;

	if (r)
		return r;
	if (link->before >= 0)
		close(link->before);
	*link = loader->links[--loader->n_links];
	return 0;
}

/*
 * Takes over what an earlier agent left. -ENOLINK: it is none, or its cgroup is gone. One that only
 * could not be updated, which is another negative errno, stays what it is: to make it anew would
 * leave an instant without it, and a connection that opens or closes then is never known of.
 */
static int loader_link_adopt(struct loader *loader, struct loader_link *link)
{
	struct bpf_link_info info;
	int fd;

	if (link->current)
		return 0;
	if (loader->committed || !loader_programs[link->program].redirects)
		return loader_link_update(loader, link);
	fd = loader_link_open(loader, link, &info);
	if (fd < 0)
		return fd;
	close(fd);
	link->pending = true;
	return 0;
}

int loader_attach(struct loader *loader, const char *path, uint64_t cgroup, unsigned int hooks)
{
	bool made[LOADER_PROGRAMS] = {};
	_cleanup_close_ int fd = -1;
	int r = 0;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; !r && i < LOADER_PROGRAMS; i++) {
		struct loader_link *link;

		if (!(loader_programs[i].hooks & hooks))
			continue;
		link = loader_link_find(loader, cgroup, i);
		r = link ? loader_link_adopt(loader, link) : -ENOLINK;
		if (r != -ENOLINK)
			continue;
		r = link ? loader_link_remove(loader, link) : 0;
		r = r ?: loader_link_make(loader, fd, cgroup, i);
		made[i] = !r;
	}
	for (size_t i = LOADER_PROGRAMS; r && i-- > 0;)
		if (made[i])
			loader_link_remove(loader, loader_link_find(loader, cgroup, i));
	return r;
}

int loader_renew(struct loader *loader)
{
	int r = 0;

	for (size_t i = 0; !r && i < loader->n_links; i++)
		if (loader->links[i].pending)
			r = loader_link_update(loader, &loader->links[i]);
	return r;
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

	if (loader->committed)
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
	for (size_t i = 0; i < loader->n_links; i++) {
		struct loader_link *link = &loader->links[i];

		link->made = false;
		if (link->before >= 0)
			close(link->before);
		link->before = -1;
	}
	loader->committed = true;
	loader->retired = !loader_pins_retire(&loader->pins);
	return 0;
}

static void loader_link_revert(struct loader *loader, struct loader_link *link)
{
	struct bpf_link_info info;
	_cleanup_close_ int fd = loader_link_open(loader, link, &info);

	if (fd < 0 || bpf_link_update(fd, link->before, NULL))
		log_error("a program of the version before could not be put back");
}

void loader_revert(struct loader *loader)
{
	if (loader->committed)
		return;
	/* From the end: who redirects goes first, see loader_programs. */
	for (size_t i = loader->n_links; i-- > 0;) {
		struct loader_link *link = &loader->links[i];

		if (link->made)
			loader_link_remove(loader, link);
		else if (link->before >= 0)
			loader_link_revert(loader, link);
	}
	if (!loader->policy_kept)
		loader_pins_clear(&loader->pins, LOADER_POLICY_NEXT);
	if (!loader->n_links)
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
	int r = 0;

	/* From the end: who redirects goes first, see loader_programs. */
	for (size_t i = LOADER_PROGRAMS; i-- > 0;) {
		struct loader_link *link = loader_link_find(loader, cgroup, i);

		if (link && !(loader_programs[i].hooks & hooks))
			r = loader_link_remove(loader, link) ?: r;
	}
	return r;
}

int loader_prune(struct loader *loader, bool (*keep)(void *user, uint64_t cgroup), void *user)
{
	int r = 0;

	for (size_t i = loader->n_links; i-- > 0;)
		if (i < loader->n_links && !keep(user, loader->links[i].cgroup))
			r = loader_detach(loader, loader->links[i].cgroup, 0) ?: r;
	return r;
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
	struct stat links;

	return loader_pins_lead_there(&loader->pins) && !fstat(loader->links_dir, &links) &&
	       links.st_nlink;
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

/* A link that cannot be had any more was taken out with its pin: it is none. */
static int loader_repin_links(struct loader *loader, int links_dir)
{
	int r = 0;

	for (size_t i = loader->n_links; !r && i-- > 0;) {
		struct loader_link *link = &loader->links[i];
		_cleanup_free_ char *from =
			loader_link_path(loader->links_dir, link->cgroup, link->program);
		_cleanup_free_ char *to = loader_link_path(links_dir, link->cgroup, link->program);
		_cleanup_close_ int fd = from ? bpf_obj_get(from) : -ENOMEM;

		if (!from || !to)
			return -ENOMEM;
		if (fd == -ENOENT) {
			*link = loader->links[--loader->n_links];
			continue;
		}
		if (fd < 0)
			return fd;
		r = loader_pins_unlink(AT_FDCWD, to);
		r = r ?: bpf_obj_pin(fd, to);
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
	r = r ?: loader_repin_links(loader, links_dir);
	if (r) {
		loader_pins_close(&pins);
		return r;
	}
	close(loader->links_dir);
	loader->links_dir = TAKE_FD(links_dir);
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
	for (size_t i = 0; i < loader->n_links; i++)
		visit(user, loader->links[i].cgroup,
		      loader_programs[loader->links[i].program].name);
}
