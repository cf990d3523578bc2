/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The links by which hooks are attached, and their pins.
 * Reads from: the directory of their pins.
 * Writes to: that directory; the programs of cgroups.
 */
#include "loader_links.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader_pins.h"
#include "log.h"
#include "policy.h"
#include "util/cleanup.h"

CLEANUP_DEFINE(DIR *, closedir)

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
_Static_assert(ARRAY_SIZE(loader_programs) == LOADER_LINKS_PROGRAMS, "one each");

struct loader_link {
	uint64_t cgroup;
	unsigned int program; /* index in loader_programs */
	bool made;	      /* since loader_commit(): was not there before */
	bool current;	      /* has the program of this very process */
	bool pending;	      /* is to get it in loader_renew() */
	int before;	      /* fd of the program that it had, of .replaced; or -1 */
};

/* A program that is in force no more, but may have to be again: until loader_commit(). */
struct loader_replaced {
	uint32_t id;
	int fd;
};

static int loader_link_add(struct loader_links *links, uint64_t cgroup, unsigned int program)
{
	struct loader_link *items;

	items = reallocarray(links->items, links->n + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	items[links->n++] = (struct loader_link){cgroup, program, .before = -1};
	links->items = items;
	return 0;
}

/* The fd of a program that is about to be replaced, one for all links that have it; or -errno. */
static int loader_replaced_fd(struct loader_links *links, uint32_t id)
{
	struct loader_replaced *replaced;
	int fd;

	for (size_t i = 0; i < links->n_replaced; i++)
		if (links->replaced[i].id == id)
			return links->replaced[i].fd;
	replaced = reallocarray(links->replaced, links->n_replaced + 1, sizeof(*replaced));
	if (!replaced)
		return -ENOMEM;
	links->replaced = replaced;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd >= 0)
		replaced[links->n_replaced++] = (struct loader_replaced){id, fd};
	return fd;
}

static void loader_forget_replaced(struct loader_links *links)
{
	for (size_t i = 0; i < links->n_replaced; i++)
		close(links->replaced[i].fd);
	free(TAKE_PTR(links->replaced));
	links->n_replaced = 0;
}

static int loader_find_program(const char *name)
{
	for (size_t i = 0; i < LOADER_LINKS_PROGRAMS; i++)
		if (!strcmp(loader_programs[i].name, name))
			return i;
	return -ENOENT;
}

/* What is not of this naming is not a link of Shunt's. */
int loader_links_find(struct loader_links *links)
{
	_cleanup_close_ int fd = openat(links->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(cleanup_closedir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return -errno;
	(void)TAKE_FD(fd); /* it is of @dir now */
	while (!r && (entry = readdir(dir))) {
		uint64_t cgroup;
		int program, end = 0;

		if (sscanf(entry->d_name, "%" SCNu64 "-%n", &cgroup, &end) != 1 || !end)
			continue;
		program = loader_find_program(entry->d_name + end);
		if (program >= 0)
			r = loader_link_add(links, cgroup, program);
	}
	return r;
}

void loader_links_use(struct loader_links *links, const struct bpf_object *object)
{
	for (size_t i = 0; i < LOADER_LINKS_PROGRAMS; i++)
		links->programs[i] =
			bpf_object__find_program_by_name(object, loader_programs[i].symbol);
}

void loader_links_deinit(struct loader_links *links)
{
	loader_forget_replaced(links);
	free(links->items);
	if (links->dir >= 0)
		close(links->dir);
}

static struct loader_link *loader_link_find(struct loader_links *links, uint64_t cgroup,
					    unsigned int program)
{
	for (size_t i = 0; i < links->n; i++)
		if (links->items[i].cgroup == cgroup && links->items[i].program == program)
			return &links->items[i];
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
static int loader_link_open(struct loader_links *links, const struct loader_link *link,
			    struct bpf_link_info *info)
{
	_cleanup_free_ char *path = loader_link_path(links->dir, link->cgroup, link->program);
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
		    bpf_program__expected_attach_type(links->programs[link->program]))
		return -ENOLINK;
	return TAKE_FD(fd);
}

/* Puts our program into it: there is no instant without one. */
static int loader_link_update(struct loader_links *links, struct loader_link *link)
{
	struct bpf_link_info info;
	_cleanup_close_ int fd = loader_link_open(links, link, &info);

	if (fd < 0)
		return fd;
	if (!links->committed && link->before < 0) {
		int before = loader_replaced_fd(links, info.prog_id);

		if (before < 0)
			return before;
		link->before = before;
	}
	if (bpf_link_update(fd, bpf_program__fd(links->programs[link->program]), NULL))
		return -errno;
	link->current = true;
	link->pending = false;
	return 0;
}

static int loader_link_make(struct loader_links *links, int cgroup_fd, uint64_t cgroup,
			    unsigned int program)
{
	_cleanup_free_ char *path = loader_link_path(links->dir, cgroup, program);
	struct bpf_link *link;
	int r;

	if (!path)
		return -ENOMEM;
	link = bpf_program__attach_cgroup(links->programs[program], cgroup_fd);
	if (!link)
		return -errno;
	r = bpf_obj_pin(bpf_link__fd(link), path);
	if (r == -ENOENT) /* the directory is gone, not the cgroup, as our caller would take it */
		r = -ESTALE;
	if (!r) {
		r = loader_link_add(links, cgroup, program);
		if (r)
			unlink(path);
	}
	if (!r) {
		links->items[links->n - 1].made = true;
		links->items[links->n - 1].current = true;
	}
	bpf_link__destroy(link); /* the pin holds it */
	return r;
}

static int loader_link_remove(struct loader_links *links, struct loader_link *link)
{
	_cleanup_free_ char *path = loader_link_path(links->dir, link->cgroup, link->program);
	int r = path ? loader_pins_unlink(AT_FDCWD, path) : -ENOMEM;

	if (r)
		return r;
	*link = links->items[--links->n];
	return 0;
}

/*
 * Takes over what an earlier agent left. -ENOLINK: it is none, or its cgroup is gone. One that only
 * could not be updated, which is another negative errno, stays what it is: to make it anew would
 * leave an instant without it, and a connection that opens or closes then is never known of.
 */
static int loader_link_adopt(struct loader_links *links, struct loader_link *link)
{
	struct bpf_link_info info;
	int fd;

	if (link->current)
		return 0;
	if (links->committed || !loader_programs[link->program].redirects)
		return loader_link_update(links, link);
	fd = loader_link_open(links, link, &info);
	if (fd < 0)
		return fd;
	close(fd);
	link->pending = true;
	return 0;
}

int loader_links_attach(struct loader_links *links, const char *path, uint64_t cgroup,
			unsigned int hooks)
{
	bool made[LOADER_LINKS_PROGRAMS] = {};
	_cleanup_close_ int fd = -1;
	int r = 0;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; !r && i < LOADER_LINKS_PROGRAMS; i++) {
		struct loader_link *link;

		if (!(loader_programs[i].hooks & hooks))
			continue;
		link = loader_link_find(links, cgroup, i);
		r = link ? loader_link_adopt(links, link) : -ENOLINK;
		if (r != -ENOLINK)
			continue;
		r = link ? loader_link_remove(links, link) : 0;
		r = r ?: loader_link_make(links, fd, cgroup, i);
		made[i] = !r;
	}
	for (size_t i = LOADER_LINKS_PROGRAMS; r && i-- > 0;)
		if (made[i])
			loader_link_remove(links, loader_link_find(links, cgroup, i));
	return r;
}

int loader_links_renew(struct loader_links *links)
{
	int r = 0;

	for (size_t i = 0; !r && i < links->n; i++) {
		struct loader_link *link = &links->items[i];

		if (!link->pending)
			continue;
		r = loader_link_update(links, link);
		if (r == -ENOLINK) { /* its cgroup has gone since; the pin goes when that is told */
			link->pending = false;
			r = 0;
		}
	}
	return r;
}

void loader_links_commit(struct loader_links *links)
{
	for (size_t i = 0; i < links->n; i++) {
		struct loader_link *link = &links->items[i];

		link->made = false;
		link->before = -1;
	}
	loader_forget_replaced(links);
	links->committed = true;
}

static void loader_link_revert(struct loader_links *links, struct loader_link *link)
{
	struct bpf_link_info info;
	_cleanup_close_ int fd = loader_link_open(links, link, &info);

	if (fd < 0 || bpf_link_update(fd, link->before, NULL))
		log_error("a program of the version before could not be put back");
}

void loader_links_revert(struct loader_links *links)
{
	/* From the end: who redirects goes first, see loader_programs. */
	for (size_t i = links->n; i-- > 0;) {
		struct loader_link *link = &links->items[i];

		if (link->made)
			loader_link_remove(links, link);
		else if (link->before >= 0)
			loader_link_revert(links, link);
	}
}

int loader_links_detach(struct loader_links *links, uint64_t cgroup, unsigned int hooks)
{
	int r = 0;

	/* From the end: who redirects goes first, see loader_programs. */
	for (size_t i = LOADER_LINKS_PROGRAMS; i-- > 0;) {
		struct loader_link *link = loader_link_find(links, cgroup, i);

		if (link && !(loader_programs[i].hooks & hooks))
			r = loader_link_remove(links, link) ?: r;
	}
	return r;
}

int loader_links_prune(struct loader_links *links, bool (*keep)(void *user, uint64_t cgroup),
		       void *user)
{
	int r = 0;

	for (size_t i = links->n; i-- > 0;)
		if (i < links->n && !keep(user, links->items[i].cgroup))
			r = loader_links_detach(links, links->items[i].cgroup, 0) ?: r;
	return r;
}

void loader_links_each(const struct loader_links *links,
		       void (*visit)(void *user, uint64_t cgroup, const char *program), void *user)
{
	for (size_t i = 0; i < links->n; i++)
		visit(user, links->items[i].cgroup, loader_programs[links->items[i].program].name);
}

bool loader_links_are_pinned(const struct loader_links *links)
{
	struct stat dir;
	bool pinned = !fstat(links->dir, &dir) && dir.st_nlink;

	for (size_t i = 0; pinned && i < links->n; i++) {
		const struct loader_link *link = &links->items[i];
		_cleanup_free_ char *path =
			loader_link_path(links->dir, link->cgroup, link->program);

		pinned = path && !access(path, F_OK);
	}
	return pinned;
}

/* A link that cannot be had any more was taken out with its pin: it is none. Pins that are there
 * are not touched: nothing else holds a link if the agent is killed in between. */
int loader_links_repin(struct loader_links *links, int dir)
{
	struct stat before, now;
	bool same = !fstat(links->dir, &before) && !fstat(dir, &now) &&
		    before.st_dev == now.st_dev && before.st_ino == now.st_ino;
	int r = 0;

	for (size_t i = links->n; !r && i-- > 0;) {
		struct loader_link *link = &links->items[i];
		_cleanup_free_ char *from =
			loader_link_path(links->dir, link->cgroup, link->program);
		_cleanup_free_ char *to = loader_link_path(dir, link->cgroup, link->program);
		_cleanup_close_ int fd = from ? bpf_obj_get(from) : -ENOMEM;

		if (!from || !to)
			return -ENOMEM;
		if (fd == -ENOENT) {
			*link = links->items[--links->n];
			continue;
		}
		if (fd < 0)
			return fd;
		if (same)
			continue;
		r = loader_pins_unlink(AT_FDCWD, to);
		r = r ?: bpf_obj_pin(fd, to);
	}
	if (r)
		return r;
	close(links->dir);
	links->dir = dir;
	return 0;
}
