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
#include <ftw.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "shunt.skel.h"
#include "util/cleanup.h"

#define LOADER_BPFFS	    "/sys/fs/bpf"
#define LOADER_PIN_DEPTH    8 /* of directories below pin_dir that are open at a time */
#define LOADER_PROGRAMS_MAX 16
#define LOADER_MAPS_MAX	    32

struct loader_program {
	const char *name;   /* of the pin; what the operator reads */
	const char *symbol; /* in the object */
	unsigned int hooks; /* enum policy_hooks */
	struct bpf_program *program;
};

/*
 * In the order in which they are attached. Whoever answers comes before who redirects: no
 * connection is redirected whose addresses could not be told yet.
 */
static const struct loader_program loader_programs[] = {
	{"getsockopt", "shunt_origdst", POLICY_HOOKS_SIDECAR, NULL},
	{"sockops", "shunt_sockops", POLICY_HOOKS_BOTH, NULL},
	{"getpeername4", "shunt_peername4", POLICY_HOOKS_MEMBER, NULL},
	{"getpeername6", "shunt_peername6", POLICY_HOOKS_MEMBER, NULL},
	{"getsockname4", "shunt_sockname4", POLICY_HOOKS_MEMBER, NULL},
	{"getsockname6", "shunt_sockname6", POLICY_HOOKS_MEMBER, NULL},
	{"recvmsg4", "shunt_recvmsg4", POLICY_HOOKS_MEMBER, NULL},
	{"recvmsg6", "shunt_recvmsg6", POLICY_HOOKS_MEMBER, NULL},
	{"sendmsg4", "shunt_sendmsg4", POLICY_HOOKS_BOTH, NULL},
	{"sendmsg6", "shunt_sendmsg6", POLICY_HOOKS_BOTH, NULL},
	{"connect4", "shunt_connect4", POLICY_HOOKS_MEMBER, NULL},
	{"connect6", "shunt_connect6", POLICY_HOOKS_MEMBER, NULL},
};
#define LOADER_PROGRAMS ARRAY_SIZE(loader_programs)

struct loader_link {
	uint64_t cgroup;
	unsigned int program; /* index in loader_programs */
};

struct loader {
	struct shunt_bpf *skeleton;
	struct maps maps;
	int pin_dir; /* open and locked: one agent at a time */
	int links_dir;
	char *path;
	struct bpf_program *programs[LOADER_PROGRAMS];
	struct loader_link *links;
	size_t n_links;
	const char *replaced[LOADER_MAPS_MAX + 1];
	bool policy_replaced;
	bool splices;
	struct bpf_link *walk;
	struct bpf_link *scan;
	struct bpf_link *reads; /* not pinned: goes with the agent */
};

/* Makes sure that @path is a directory on a bpffs, and opens it. */
static int loader_open_pin_dir(const char *path, int *ret)
{
	_cleanup_close_ int fd = -1;
	struct statfs fs;

	if (!strncmp(path, LOADER_BPFFS "/", strlen(LOADER_BPFFS "/")) &&
	    !statfs(LOADER_BPFFS, &fs) && fs.f_type != BPF_FS_MAGIC &&
	    mount("bpf", LOADER_BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"))
		return LOADER_E_NOT_BPFFS;
	if (mkdir(path, 0700) && errno != EEXIST)
		return errno == ENOENT || errno == EROFS ? LOADER_E_NOT_BPFFS : -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type != BPF_FS_MAGIC) {
		rmdir(path); /* fails, as it should, if it was there before and holds something */
		return LOADER_E_NOT_BPFFS;
	}
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? LOADER_E_BUSY : -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

static int loader_open_subdir(int dir, const char *name, int *ret)
{
	if (mkdirat(dir, name, 0700) && errno != EEXIST)
		return -errno;
	*ret = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

static void loader_set_sizes(struct shunt_bpf *skeleton, const struct loader_options *options)
{
	bpf_map__set_max_entries(skeleton->maps.shunt_cgroups, options->cgroups);
	/* Twice: a reload writes the new rules beside the old ones before it switches over. */
	bpf_map__set_max_entries(skeleton->maps.shunt_cidrs, 2 * options->rules);
	bpf_map__set_max_entries(skeleton->maps.shunt_owners, 2 * options->rules);
	bpf_map__set_max_entries(skeleton->maps.shunt_pairs, options->flows + SHUNT_PAIRS_SPARE);
	bpf_map__set_max_entries(skeleton->maps.shunt_ends, 2 * options->flows);
}

static bool loader_map_fits(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	return !bpf_obj_get_info_by_fd(fd, &info, &size) && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map) &&
	       info.map_flags == bpf_map__map_flags(map);
}

/* Cgroups name meshes and meshes name rules: of maps that refer to each other all fit or none. */
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

static char *loader_map_path(const struct loader *loader, const struct bpf_map *map)
{
	char *path;

	return asprintf(&path, "%s/maps/%s", loader->path, bpf_map__name(map)) < 0 ? NULL : path;
}

/* *@ret_pinned: is there a pin? Returns whether the map behind it can be used. */
static bool loader_pin_fits(const struct loader *loader, const struct bpf_map *map,
			    bool *ret_pinned)
{
	_cleanup_free_ char *path = loader_map_path(loader, map);
	_cleanup_close_ int fd = path ? bpf_obj_get(path) : -1;

	*ret_pinned = fd >= 0;
	return fd >= 0 && loader_map_fits(map, fd);
}

/* Gives each map its pin; libbpf adopts what is there, or pins what it makes. */
static int loader_pin_maps(struct loader *loader)
{
	struct bpf_map *map;
	size_t replaced = 0;
	bool pinned;

	while (loader->replaced[replaced])
		replaced++;

	bpf_object__for_each_map(map, loader->skeleton->obj)
	{
		if (!loader_is_policy(map) || loader_pin_fits(loader, map, &pinned))
			continue;
		loader->policy_replaced |= pinned;
	}
	bpf_object__for_each_map(map, loader->skeleton->obj)
	{
		_cleanup_free_ char *path = NULL;
		bool fits;
		int r;

		/* Constants of these very programs: those of others must not be taken for them. */
		if (bpf_map__is_internal(map))
			continue;
		path = loader_map_path(loader, map);
		if (!path)
			return -ENOMEM;
		fits = loader_pin_fits(loader, map, &pinned) &&
		       !(loader->policy_replaced && loader_is_policy(map));
		if (pinned && !fits) {
			unlink(path);
			loader->replaced[replaced++] = bpf_map__name(map);
		}
		r = bpf_map__set_pin_path(map, path);
		if (r)
			return r;
	}
	return 0;
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
	links[loader->n_links++] = (struct loader_link){cgroup, program};
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
	struct dirent *entry;
	DIR *dir;
	int fd, r = 0;

	fd = fcntl(loader->links_dir, F_DUPFD_CLOEXEC, 0);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	rewinddir(dir);
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
	return r;
}

/* The programs and links that there is one of, whatever is enrolled. */
static int loader_attach_splice(struct loader *loader)
{
	struct shunt_bpf *skeleton = loader->skeleton;

	/* Not a link: libbpf 1.1 has none for this. The map holds the program, and its pin the map.
	 */
	if (bpf_prog_attach(bpf_program__fd(skeleton->progs.shunt_splice),
			    bpf_map__fd(skeleton->maps.shunt_ends), BPF_SK_MSG_VERDICT, 0))
		return -errno;
	loader->walk = bpf_program__attach_iter(skeleton->progs.shunt_walk, NULL);
	loader->scan =
		loader->walk ? bpf_program__attach_iter(skeleton->progs.shunt_scan, NULL) : NULL;
	return loader->scan ? 0 : -errno;
}

static void loader_unload(struct loader *loader)
{
	bpf_link__destroy(TAKE_PTR(loader->reads));
	bpf_link__destroy(TAKE_PTR(loader->scan));
	bpf_link__destroy(TAKE_PTR(loader->walk));
	shunt_bpf__destroy(TAKE_PTR(loader->skeleton));
}

/* What the kernel can is found out by trying: with @splice first, and without where that fails. */
static int loader_load(struct loader *loader, const struct loader_options *options, bool splice)
{
	struct shunt_bpf *skeleton;
	int r;

	loader->skeleton = skeleton = shunt_bpf__open();
	if (!skeleton)
		return -errno;
	skeleton->rodata->sockops_splice = splice;
	bpf_program__set_autoload(skeleton->progs.shunt_splice, splice);
	bpf_program__set_autoload(skeleton->progs.shunt_walk, splice);
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

int loader_new(const struct loader_options *options, struct loader **ret)
{
	struct loader *loader = calloc(1, sizeof(*loader));
	bool fresh = false;
	int maps_dir = -1, r;

	if (!loader)
		return -ENOMEM;
	loader->pin_dir = loader->links_dir = -1;
	loader->path = strdup(options->pin_dir);
	r = loader->path ? loader_open_pin_dir(loader->path, &loader->pin_dir) : -ENOMEM;
	r = r ?: loader_open_subdir(loader->pin_dir, "maps", &maps_dir);
	r = r ?: loader_open_subdir(loader->pin_dir, "links", &loader->links_dir);
	if (maps_dir >= 0)
		close(maps_dir);
	r = r ?: loader_find_links(loader);
	if (r)
		goto fail;
	fresh = !loader->n_links;

	r = loader_load(loader, options, true);
	if (r == -ENOMEM || r == -EAGAIN || r == -EINTR) /* which says nothing about the kernel */
		r = loader_load(loader, options, true);
	if (r)
		r = loader_load(loader, options, false);
	if (r)
		goto fail;
	loader_find_maps(loader);
	for (size_t i = 0; i < LOADER_PROGRAMS; i++)
		loader->programs[i] = bpf_object__find_program_by_name(loader->skeleton->obj,
								       loader_programs[i].symbol);
	*ret = loader;
	return 0;
fail:
	if (fresh) /* an earlier agent's pins stay in force */
		loader_remove_all(loader);
	loader_free(loader);
	return r;
}

struct loader *loader_free(struct loader *loader)
{
	if (!loader)
		return NULL;
	loader_unload(loader);
	if (loader->links_dir >= 0)
		close(loader->links_dir);
	if (loader->pin_dir >= 0)
		close(loader->pin_dir);
	free(loader->links);
	free(loader->path);
	free(loader);
	return NULL;
}

const struct maps *loader_maps(const struct loader *loader)
{
	return &loader->maps;
}

const char *const *loader_replaced_maps(const struct loader *loader)
{
	return loader->replaced;
}

bool loader_policy_replaced(const struct loader *loader)
{
	return loader->policy_replaced;
}

static struct loader_link *loader_link_find(struct loader *loader, uint64_t cgroup,
					    unsigned int program)
{
	for (size_t i = 0; i < loader->n_links; i++)
		if (loader->links[i].cgroup == cgroup && loader->links[i].program == program)
			return &loader->links[i];
	return NULL;
}

/* By way of the directory that is open: there it is, whatever is mounted over pin_dir by now. */
static char *loader_link_path(int links_dir, uint64_t cgroup, unsigned int program)
{
	char *path;

	if (asprintf(&path, "/proc/self/fd/%d/%" PRIu64 "-%s", links_dir, cgroup,
		     loader_programs[program].name) < 0)
		return NULL;
	return path;
}

/* Puts our program into the link that an earlier agent pinned: there is no instant without one. */
static int loader_link_adopt(struct loader *loader, uint64_t cgroup, unsigned int program)
{
	_cleanup_free_ char *path = loader_link_path(loader->links_dir, cgroup, program);
	_cleanup_close_ int fd = -1;

	if (!path)
		return -ENOMEM;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return fd;
	return bpf_link_update(fd, bpf_program__fd(loader->programs[program]), NULL);
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
	bpf_link__destroy(link); /* the pin holds it */
	return r;
}

static int loader_link_remove(struct loader *loader, struct loader_link *link)
{
	_cleanup_free_ char *path =
		loader_link_path(loader->links_dir, link->cgroup, link->program);

	if (!path)
		return -ENOMEM;
	if (unlink(path) && errno != ENOENT)
		return -errno;
	*link = loader->links[--loader->n_links];
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
		if (link && !loader_link_adopt(loader, cgroup, i))
			continue;
		if (link) /* cannot be updated, so it is none: its cgroup is gone, or not a link */
			r = loader_link_remove(loader, link);
		r = r ?: loader_link_make(loader, fd, cgroup, i);
		made[i] = !r;
	}
	for (size_t i = LOADER_PROGRAMS; r && i-- > 0;)
		if (made[i])
			loader_link_remove(loader, loader_link_find(loader, cgroup, i));
	return r;
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

static void loader_unlink_all(int dir, const char *name)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *entries;

	entries = fd < 0 ? NULL : fdopendir(fd);
	if (!entries)
		return;
	TAKE_FD(fd);
	while ((entry = readdir(entries)))
		unlinkat(dirfd(entries), entry->d_name, 0);
	closedir(entries);
	unlinkat(dir, name, AT_REMOVEDIR);
}

static bool loader_leads_to_pins(const struct loader *loader)
{
	struct stat ours, there;

	return !fstat(loader->pin_dir, &ours) && !stat(loader->path, &there) &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static bool loader_keeps_none(void *user, uint64_t cgroup)
{
	return false;
}

int loader_remove_all(struct loader *loader)
{
	int r = loader_prune(loader, loader_keeps_none, NULL);

	loader_unlink_all(loader->pin_dir, "links");
	loader_unlink_all(loader->pin_dir, "maps");
	if (!r && loader_leads_to_pins(loader) && rmdir(loader->path))
		r = -errno;
	return r;
}

bool loader_has_pins(const struct loader *loader)
{
	struct stat links;

	return loader_leads_to_pins(loader) && !fstat(loader->links_dir, &links) && links.st_nlink;
}

static int loader_repin_maps(struct loader *loader, int maps_dir)
{
	struct bpf_map *map;
	int r = 0;

	bpf_object__for_each_map(map, loader->skeleton->obj)
	{
		_cleanup_free_ char *path = NULL;

		if (bpf_map__is_internal(map))
			continue;
		if (asprintf(&path, "/proc/self/fd/%d/%s", maps_dir, bpf_map__name(map)) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		if (unlink(path) && errno != ENOENT)
			return -errno;
		r = bpf_obj_pin(bpf_map__fd(map), path);
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
		if (unlink(to) && errno != ENOENT)
			return -errno;
		r = bpf_obj_pin(fd, to);
	}
	return r;
}

int loader_repin(struct loader *loader)
{
	_cleanup_close_ int pin_dir = -1, links_dir = -1, maps_dir = -1;
	int r;

	if (loader_leads_to_pins(loader)) /* its lock is ours, and that of this very file */
		pin_dir = fcntl(loader->pin_dir, F_DUPFD_CLOEXEC, 0);
	r = pin_dir < 0 ? loader_open_pin_dir(loader->path, &pin_dir) : 0;
	r = r ?: loader_open_subdir(pin_dir, "maps", &maps_dir);
	r = r ?: loader_open_subdir(pin_dir, "links", &links_dir);
	r = r ?: loader_repin_maps(loader, maps_dir);
	r = r ?: loader_repin_links(loader, links_dir);
	if (r)
		return r;
	close(loader->links_dir);
	close(loader->pin_dir);
	loader->links_dir = TAKE_FD(links_dir);
	loader->pin_dir = TAKE_FD(pin_dir);
	return 0;
}

static int loader_remove_path(const char *path, const struct stat *st, int type, struct FTW *place)
{
	return remove(path) && errno != ENOENT ? -1 : 0;
}

int loader_remove_pins(const char *pin_dir)
{
	_cleanup_close_ int fd = open(pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type != BPF_FS_MAGIC)
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return nftw(pin_dir, loader_remove_path, LOADER_PIN_DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT)
		       ? -errno
		       : 0;
}

bool loader_can_splice(const struct loader *loader)
{
	return loader->splices;
}

int loader_open_walk(const struct loader *loader)
{
	return bpf_iter_create(bpf_link__fd(loader->walk));
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

bool loader_has_links(const struct loader *loader)
{
	return loader->n_links > 0;
}

void loader_each_link(struct loader *loader,
		      void (*visit)(void *user, uint64_t cgroup, const char *program), void *user)
{
	for (size_t i = 0; i < loader->n_links; i++)
		visit(user, loader->links[i].cgroup,
		      loader_programs[loader->links[i].program].name);
}
