/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The directories of pin_dir, and what other versions left there.
 * Reads from: pin_dir.
 * Writes to: pin_dir; shunt_control and shunt_cgroups of other versions.
 */
#include "loader_pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <bpf/bpf.h>

#include "log.h"
#include "maps.h"
#include "util/cleanup.h"

#define LOADER_PINS_BPFFS     "/sys/fs/bpf"
#define LOADER_PINS_TRIES     8
#define LOADER_PINS_SUCCEEDED 5 /* the first version with .succeeded */

/* What readlink() says of an fd. */
#define LOADER_PINS_IS_MAP  "anon_inode:bpf-map"
#define LOADER_PINS_IS_LINK "anon_inode:bpf-link"

CLEANUP_DEFINE(DIR *, closedir)

/* No link is followed: it would lead to what is not Shunt's. */
static DIR *loader_pins_list(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);

	if (!entries && fd >= 0)
		close(fd);
	return entries;
}

/* The next entry that is not the directory itself or the one above. */
static struct dirent *loader_pins_next(DIR *entries)
{
	struct dirent *entry;

	do
		entry = readdir(entries);
	while (entry && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")));
	return entry;
}

/* Why there is no directory to be made at @path. */
static int loader_pins_refuse(const char *path, int error)
{
	_cleanup_free_ char *above = strdup(path);
	struct statfs fs;

	if (error == ENOTDIR) {
		log_error("pin_dir %s, or what is above it, is no directory, or a symbolic link: "
			  "remove it, or choose another pin_dir",
			  path);
		return LOADER_E_FOREIGN;
	}
	if (error != ENOENT && error != EROFS)
		return -error;
	if (error == EROFS && above && !statfs(dirname(above), &fs) && fs.f_type == BPF_FS_MAGIC)
		return -EROFS;
	return LOADER_E_NOT_BPFFS;
}

/* Opens @path, a directory on a bpffs, and locks it. -EAGAIN: it was removed meanwhile. */
static int loader_pins_lock(const char *path, int *ret)
{
	_cleanup_close_ int fd = -1;
	bool made = !mkdir(path, 0700);
	struct statfs fs;
	struct stat now;

	if (!made && errno != EEXIST)
		return loader_pins_refuse(path, errno);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : loader_pins_refuse(path, errno);
	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type != BPF_FS_MAGIC) {
		if (made)
			rmdir(path);
		return LOADER_E_NOT_BPFFS;
	}
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? LOADER_E_BUSY : -errno;
	if (fstat(fd, &now))
		return -errno;
	if (!now.st_nlink) /* an agent that detached had it until now */
		return -EAGAIN;
	*ret = TAKE_FD(fd);
	return 0;
}

/* The directory of a version: which? */
static bool loader_pins_is_version(const struct dirent *entry, unsigned int *ret)
{
	char name[16];

	if (entry->d_type != DT_DIR || sscanf(entry->d_name, "v%u", ret) != 1)
		return false;
	snprintf(name, sizeof(name), "v%u", *ret);
	return !strcmp(name, entry->d_name);
}

/* What is there besides this version; nothing but versions of Shunt may be. */
static int loader_pins_look(struct loader_pins *pins)
{
	_cleanup_(cleanup_closedir) DIR *entries = loader_pins_list(pins->dir, ".");
	struct dirent *entry;

	if (!entries)
		return -errno;
	pins->made = true;
	while ((entry = loader_pins_next(entries))) {
		unsigned int abi;

		if (!loader_pins_is_version(entry, &abi) ||
		    pins->n_others == LOADER_PINS_OTHERS_MAX) {
			log_error("pin_dir %s holds %s, which is not Shunt's: remove it, or choose "
				  "another pin_dir",
				  pins->path, entry->d_name);
			return LOADER_E_FOREIGN;
		}
		if (abi == SHUNT_ABI_VERSION)
			pins->made = false;
		else
			pins->others[pins->n_others++] = abi;
	}
	return 0;
}

/* @locked: pin_dir, open and locked already; or -1. */
static int loader_pins_open_locked(struct loader_pins *pins, const char *path, int locked)
{
	int r = locked < 0 ? -EAGAIN : 0;
	struct statfs fs;

	*pins = (struct loader_pins){.dir = locked, .path = strdup(path)};
	if (!pins->path || asprintf(&pins->own, "%s/v%u", path, SHUNT_ABI_VERSION) < 0) {
		pins->own = NULL;
		return -ENOMEM;
	}
	if (!strncmp(path, LOADER_PINS_BPFFS "/", strlen(LOADER_PINS_BPFFS "/")) &&
	    !statfs(LOADER_PINS_BPFFS, &fs) && fs.f_type != BPF_FS_MAGIC &&
	    mount("bpf", LOADER_PINS_BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"))
		return LOADER_E_NOT_BPFFS;
	for (int i = 0; r == -EAGAIN && i < LOADER_PINS_TRIES; i++)
		r = loader_pins_lock(path, &pins->dir);
	r = r ?: loader_pins_look(pins);
	if (!r && mkdir(pins->own, 0700) && errno != EEXIST)
		r = -errno;
	return r;
}

int loader_pins_open(struct loader_pins *pins, const char *path)
{
	return loader_pins_open_locked(pins, path, -1);
}

bool loader_pins_lead_there(const struct loader_pins *pins)
{
	struct stat ours, there;

	return !fstat(pins->dir, &ours) && !stat(pins->path, &there) &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

int loader_pins_reopen(const struct loader_pins *pins, struct loader_pins *ret)
{
	int locked = -1;

	if (loader_pins_lead_there(pins)) /* the lock is ours, and that of this very file */
		locked = fcntl(pins->dir, F_DUPFD_CLOEXEC, 0);
	return loader_pins_open_locked(ret, pins->path, locked);
}

void loader_pins_close(struct loader_pins *pins)
{
	if (pins->dir >= 0)
		close(pins->dir);
	free(pins->own);
	free(pins->path);
}

char *loader_pins_map(const struct loader_pins *pins, const char *directory, const char *map)
{
	char *path;

	return asprintf(&path, "%s/%s/%s", pins->own, directory, map) < 0 ? NULL : path;
}

/* What is no directory is none of ours. */
static int loader_pins_make_anew(const struct loader_pins *pins, int own, const char *directory)
{
	struct stat there;

	if (fstatat(own, directory, &there, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISDIR(there.st_mode))
		return 0;
	if (unlinkat(own, directory, 0) || mkdirat(own, directory, 0700))
		return -errno;
	log_warning("%s/%s is not what this version keeps there, and was made anew", pins->own,
		    directory);
	return 0;
}

int loader_pins_make(const struct loader_pins *pins, const char *directory)
{
	_cleanup_close_ int own = open(pins->own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (own < 0)
		return -errno;
	if (!mkdirat(own, directory, 0700))
		return 0;
	return errno == EEXIST ? loader_pins_make_anew(pins, own, directory) : -errno;
}

int loader_pins_enter(const struct loader_pins *pins, const char *directory, int *ret)
{
	_cleanup_close_ int own = open(pins->own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*ret = own < 0 ? -1 : openat(own, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

int loader_pins_unlink(int dir, const char *name)
{
	_cleanup_(cleanup_closedir) DIR *entries = NULL;
	struct dirent *entry;
	int r = 0;

	if (!unlinkat(dir, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	entries = loader_pins_list(dir, name);
	if (!entries)
		return errno == ENOENT ? 0 : -errno;
	while (!r && (entry = loader_pins_next(entries)))
		r = loader_pins_unlink(dirfd(entries), entry->d_name);
	if (!r && unlinkat(dir, name, AT_REMOVEDIR))
		r = -errno;
	return r;
}

int loader_pins_clear(const struct loader_pins *pins, const char *name)
{
	_cleanup_close_ int own = open(pins->own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return own < 0 ? -errno : loader_pins_unlink(own, name);
}

static int loader_pins_remove_version(const struct loader_pins *pins, unsigned int abi)
{
	char name[16], links[32];
	int r;

	snprintf(name, sizeof(name), "v%u", abi);
	snprintf(links, sizeof(links), "v%u/" LOADER_PINS_LINKS, abi);
	/* Who is called goes before what is asked. */
	r = loader_pins_unlink(pins->dir, links);
	return r ?: loader_pins_unlink(pins->dir, name);
}

int loader_pins_remove(const struct loader_pins *pins)
{
	int r = loader_pins_remove_version(pins, SHUNT_ABI_VERSION);

	if (!r && loader_pins_lead_there(pins) && rmdir(pins->path) && !pins->n_others)
		r = -errno;
	return r;
}

int loader_pins_remove_all(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(cleanup_closedir) DIR *entries = NULL;
	const struct loader_pins pins = {.dir = fd};
	struct dirent *entry;
	struct statfs fs;
	unsigned int abi;
	int r = 0;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type != BPF_FS_MAGIC)
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	entries = loader_pins_list(fd, ".");
	if (!entries)
		return -errno;
	while (!r && (entry = loader_pins_next(entries)))
		if (loader_pins_is_version(entry, &abi))
			r = loader_pins_remove_version(&pins, abi);
	if (!r && rmdir(path) && errno != ENOTEMPTY)
		r = -errno;
	return r;
}

static bool loader_pins_fd_is(int fd, const char *what)
{
	char link[64], is[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, is, sizeof(is));
	return n == (ssize_t)strlen(what) && !memcmp(is, what, n);
}

static int loader_pins_open_pin(const char *path, const char *what)
{
	_cleanup_close_ int fd = -1;
	struct stat pin;

	if (lstat(path, &pin))
		return -errno;
	if (!S_ISREG(pin.st_mode)) /* a link would lead to what others have pinned */
		return -EACCES;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	return loader_pins_fd_is(fd, what) ? TAKE_FD(fd) : -EACCES;
}

int loader_pins_open_map(const char *path)
{
	return loader_pins_open_pin(path, LOADER_PINS_IS_MAP);
}

int loader_pins_open_link(const char *path)
{
	return loader_pins_open_pin(path, LOADER_PINS_IS_LINK);
}

int loader_pins_get(const struct loader_pins *pins, unsigned int abi, const char *name)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/v%u/%s", pins->path, abi, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return loader_pins_open_map(path);
}

/* Hooks that redirect, the ones that see a connect first. */
static const char *const loader_pins_redirecting[] = {"-connect", "-sendmsg"};

/* Is it the error of a place where nothing is pinned, or nothing of Shunt's? */
static bool loader_pins_are_none(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

static int loader_pins_stop_redirecting(const struct loader_pins *pins, unsigned int abi)
{
	char name[32];
	int r = 0;

	snprintf(name, sizeof(name), "v%u/" LOADER_PINS_LINKS, abi);
	for (size_t i = 0; i < ARRAY_SIZE(loader_pins_redirecting); i++) {
		_cleanup_(cleanup_closedir) DIR *links = loader_pins_list(pins->dir, name);
		struct dirent *entry;

		if (!links && !loader_pins_are_none(errno))
			r = -errno;
		while (links && (entry = loader_pins_next(links)))
			if (strstr(entry->d_name, loader_pins_redirecting[i]))
				r = loader_pins_unlink(dirfd(links), entry->d_name) ?: r;
	}
	return r;
}

/* Is it a link that is attached? One whose cgroup is gone is not; one that we may not look at may
 * be. */
static bool loader_pins_attached(int links, const char *name)
{
	struct bpf_link_info info = {};
	__u32 size = sizeof(info);
	_cleanup_close_ int fd = -1;
	char path[320];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", links, name);
	fd = loader_pins_open_link(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		return fd == -EPERM;
	return info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id;
}

static bool loader_pins_version_redirects(int dir, const char *version)
{
	_cleanup_(cleanup_closedir) DIR *links = NULL;
	struct dirent *entry;
	char name[320];

	snprintf(name, sizeof(name), "%s/" LOADER_PINS_LINKS, version);
	links = loader_pins_list(dir, name);
	while (links && (entry = loader_pins_next(links)))
		for (size_t i = 0; i < ARRAY_SIZE(loader_pins_redirecting); i++)
			if (strstr(entry->d_name, loader_pins_redirecting[i]) &&
			    loader_pins_attached(dirfd(links), entry->d_name))
				return true;
	return false;
}

bool loader_pins_redirect(const char *path)
{
	_cleanup_(cleanup_closedir) DIR *entries = loader_pins_list(AT_FDCWD, path);
	struct dirent *entry;

	while (entries && (entry = loader_pins_next(entries)))
		if (loader_pins_version_redirects(dirfd(entries), entry->d_name))
			return true;
	return false;
}

/* What stands first in shunt_control, in every version: see abi.h. */
struct loader_pins_switches {
	__u32 splice;
	__u32 succeeded;
};

static int loader_pins_map_switches(const struct loader_pins *pins, unsigned int abi,
				    volatile struct loader_pins_switches **ret)
{
	_cleanup_close_ int fd = loader_pins_get(pins, abi, LOADER_PINS_MAPS "/shunt_control");
	void *at;

	if (fd < 0)
		return fd;
	at = mmap(NULL, sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret = at;
	return 0;
}

static void loader_pins_unmap_switches(volatile struct loader_pins_switches *switches)
{
	munmap((void *)switches, sizeof(*switches));
}

/* 0: there is none. */
static __u32 loader_pins_map_id(const struct loader_pins *pins, unsigned int abi, const char *name)
{
	_cleanup_close_ int fd = loader_pins_get(pins, abi, name);
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	return fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) ? 0 : info.id;
}

static int loader_pins_stop_splicing(const struct loader_pins *pins, unsigned int abi)
{
	__u32 socks = loader_pins_map_id(pins, SHUNT_ABI_VERSION, LOADER_PINS_MAPS "/shunt_socks");
	volatile struct loader_pins_switches *switches;
	int r = loader_pins_map_switches(pins, abi, &switches);

	if (r)
		return r == -ENOENT ? 0 : r;
	switches->splice = 0;
	/* Else each connection that we redirect would keep it from being taken out. */
	if (abi >= LOADER_PINS_SUCCEEDED &&
	    loader_pins_map_id(pins, abi, LOADER_PINS_MAPS "/shunt_socks") == socks)
		switches->succeeded = 1;
	loader_pins_unmap_switches(switches);
	return 0;
}

static int loader_pins_come_back(const struct loader_pins *pins)
{
	volatile struct loader_pins_switches *switches;
	int r = loader_pins_map_switches(pins, SHUNT_ABI_VERSION, &switches);

	if (r)
		return r;
	switches->succeeded = 0;
	loader_pins_unmap_switches(switches);
	return 0;
}

/* If it comes back one day it is not to begin with rules of long ago. */
static int loader_pins_forget_cgroups(const struct loader_pins *pins, unsigned int abi)
{
	_cleanup_close_ int cgroups =
		loader_pins_get(pins, abi, LOADER_PINS_POLICY "/shunt_cgroups");

	if (cgroups < 0)
		return cgroups == -ENOENT ? 0 : cgroups;
	return maps_clear(cgroups);
}

int loader_pins_retire(const struct loader_pins *pins)
{
	int r = loader_pins_come_back(pins);

	if (r) /* no version would know a connection */
		return r;
	for (size_t i = 0; i < pins->n_others; i++) {
		r = loader_pins_stop_redirecting(pins, pins->others[i]) ?: r;
		r = loader_pins_stop_splicing(pins, pins->others[i]) ?: r;
		r = loader_pins_forget_cgroups(pins, pins->others[i]) ?: r;
	}
	return r;
}

static bool loader_pins_drained(const struct loader_pins *pins, unsigned int abi)
{
	_cleanup_close_ int pairs = loader_pins_get(pins, abi, LOADER_PINS_MAPS "/shunt_pairs");

	if (pairs < 0) /* EACCES: no map. Whatever else is wrong may be right the next time. */
		return loader_pins_are_none(-pairs) || pairs == -EACCES;
	return maps_is_empty(pairs);
}

size_t loader_pins_drain(struct loader_pins *pins)
{
	for (size_t i = pins->n_others; i-- > 0;) {
		if (!loader_pins_drained(pins, pins->others[i]) ||
		    loader_pins_remove_version(pins, pins->others[i]))
			continue;
		log_info("what version %u of the programs left is taken out: its connections are "
			 "closed",
			 pins->others[i]);
		pins->others[i] = pins->others[--pins->n_others];
	}
	return pins->n_others;
}

int loader_pins_remove_others(struct loader_pins *pins)
{
	int r = 0;

	while (!r && pins->n_others) {
		r = loader_pins_remove_version(pins, pins->others[pins->n_others - 1]);
		pins->n_others -= !r;
	}
	return r;
}
